//! Pointers in and out: every conversion between the caller's pointers and Rust's references is here.

use std::ffi::{CStr, CString, c_char, c_void};

use crate::error::{Error, Result, Status};
use crate::sys::caller_buffer::CallerBuffer;

/// Hands an object to the caller, who gives it back through [`free`].
pub(super) fn into_raw<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back; NULL is nothing to take.
///
/// # Safety
/// `pointer` is NULL or came from [`into_raw`] and was not freed before.
pub(super) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: by the contract above this is the box that `into_raw` gave away.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// A handle as a shared reference; `name` is the parameter's, for the error.
///
/// # Safety
/// `pointer` is NULL or a live handle.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: by the contract above.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// Text from the caller.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string that stays as it is during the call.
pub(super) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: by the contract above.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Error::invalid(format!("{name} is not valid UTF-8")))
}

/// Text from the caller, or NULL for none.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string that stays as it is during the call.
pub(super) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    // SAFETY: by the contract above.
    if pointer.is_null() { Ok(None) } else { unsafe { text(pointer, name) }.map(Some) }
}

/// Texts from the caller; a count of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for reads of `count` pointers, each of them NULL or a NUL-terminated string, and all of
/// that stays as it is during the call.
pub(super) unsafe fn texts<'a>(pointer: *const *const c_char, count: usize, name: &str) -> Result<Vec<&'a str>> {
    // SAFETY: by the contract above.
    let pointers = unsafe { array(pointer, count, name) }?;
    // SAFETY: by the contract above.
    pointers.iter().enumerate().map(|(i, &each)| unsafe { text(each, &format!("{name}[{i}]")) }).collect()
}

/// Values from the caller; a count of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for reads of `count` values during the call.
pub(super) unsafe fn array<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check_memory(pointer.cast(), count.saturating_mul(size_of::<T>()), name)?;
    // SAFETY: by the contract above; the length is one that a slice can have.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Bytes from the caller; a length of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for reads of `length` bytes during the call.
pub(super) unsafe fn bytes<'a>(pointer: *const c_void, length: usize, name: &str) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    check_memory(pointer, length, name)?;
    // SAFETY: by the contract above; the length is one that a slice can have.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// Memory of the caller's to write into; a length of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for writes of `length` bytes until the call returns.
pub(super) unsafe fn destination<'a>(pointer: *mut c_void, length: usize, name: &str) -> Result<CallerBuffer<'a>> {
    if length == 0 {
        return Ok(CallerBuffer::from_slice(&mut []));
    }
    check_memory(pointer, length, name)?;
    // SAFETY: by the contract above.
    Ok(unsafe { CallerBuffer::new(pointer.cast(), length) })
}

/// A place for a result, written on success only.
pub(super) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub(super) fn set(self, value: T) {
        // SAFETY: `out` and `out_handle` have seen that the pointer is not NULL.
        unsafe { self.0.write(value) };
    }
}

/// # Safety
/// `pointer` is NULL or valid for a write of a `T` until the call returns.
pub(super) unsafe fn out<T>(pointer: *mut T, name: &str) -> Result<Out<T>> {
    match pointer.is_null() {
        true => Err(null(name)),
        false => Ok(Out(pointer)),
    }
}

/// Writes as much of `value` as the caller has room for, and zeros behind it.
///
/// # Safety
/// `to` is valid for writes of `size` bytes.
pub(super) unsafe fn write_prefix<T: Copy>(to: *mut T, value: &T, size: usize) {
    let known = size.min(size_of::<T>());
    // SAFETY: by the contract above; `known` bytes of `value` exist, and the two do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const *value).cast::<u8>(), to.cast::<u8>(), known);
        std::ptr::write_bytes(to.cast::<u8>().add(known), 0, size - known);
    }
}

/// A place for a handle, which is NULL until there is one.
///
/// # Safety
/// `pointer` is NULL or valid for a write of a pointer until the call returns.
pub(super) unsafe fn out_handle<T>(pointer: *mut *mut T, name: &str) -> Result<Out<*mut T>> {
    // SAFETY: by the contract above.
    let out = unsafe { out(pointer, name) }?;
    // SAFETY: `out` has seen that the pointer is not NULL.
    unsafe { pointer.write(std::ptr::null_mut()) };
    Ok(out)
}

/// Places for several results, written on success only; a count of 0 ignores the pointer.
pub(super) struct Outs<T> {
    start: *mut T,
    count: usize,
}

impl<T> Outs<T> {
    pub(super) fn set(self, values: impl IntoIterator<Item = T>) {
        for (index, value) in values.into_iter().take(self.count).enumerate() {
            // SAFETY: `outs` has seen that there are so many places, and that the pointer is not NULL.
            unsafe { self.start.add(index).write(value) };
        }
    }
}

/// # Safety
/// `pointer` is NULL or valid for writes of `count` values until the call returns.
pub(super) unsafe fn outs<T>(pointer: *mut T, count: usize, name: &str) -> Result<Outs<T>> {
    if count > 0 {
        check_memory(pointer.cast_const().cast(), count.saturating_mul(size_of::<T>()), name)?;
    }
    Ok(Outs { start: pointer, count })
}

/// Places for handles, which are NULL until there are some.
///
/// # Safety
/// `pointer` is NULL or valid for writes of `count` pointers until the call returns.
pub(super) unsafe fn out_handles<T>(pointer: *mut *mut T, count: usize, name: &str) -> Result<Outs<*mut T>> {
    // SAFETY: by the contract above.
    let all = unsafe { outs(pointer, count, name) }?;
    Outs { start: all.start, count }.set(std::iter::repeat_n(std::ptr::null_mut(), count));
    Ok(all)
}

/// Writes text and a NUL into memory of the caller's, and how much that is into `out_size`, also when it does not fit.
pub(super) fn copy_text(text: &str, mut buffer: CallerBuffer<'_>, out_size: Out<usize>) -> Result<()> {
    let (size, capacity) = (text.len() + 1, buffer.len());
    out_size.set(size);
    if size > capacity {
        let message = format!("{size} bytes are needed, and the buffer has {capacity}");
        return Err(Error::new(Status::BufferTooSmall, message));
    }
    buffer.fill(text.as_bytes());
    buffer.fill(&[0]);
    Ok(())
}

/// Text for the caller. None of ours has a NUL inside; should one, the text ends there.
pub(super) fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

fn null(name: &str) -> Error {
    Error::invalid(format!("{name} is NULL"))
}

fn check_memory(pointer: *const c_void, length: usize, name: &str) -> Result<()> {
    if pointer.is_null() {
        return Err(null(name));
    }
    if isize::try_from(length).is_err() || (pointer as usize).checked_add(length).is_none() {
        return Err(Error::invalid(format!("no object has {length} bytes, as the length of {name} says")));
    }
    Ok(())
}

/// A pointer that belongs to the caller's callback, and goes back to the caller at the end.
pub(super) struct UserData {
    pointer: *mut c_void,
    finalizer: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: the pointer is only handed to the caller's functions, which the caller promises may run on any thread.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub(super) fn new(pointer: *mut c_void, finalizer: Option<unsafe extern "C" fn(*mut c_void)>) -> Self {
        Self { pointer, finalizer }
    }

    pub(super) fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(finalizer) = self.finalizer {
            // SAFETY: the caller gave this function for this pointer, and a value is dropped once.
            unsafe { finalizer(self.pointer) };
        }
    }
}
