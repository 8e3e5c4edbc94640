//! Conversions between the caller's pointers and Rust's references. All of them are in this file.

use std::ffi::{CStr, CString, c_char, c_void};

use super::panic::contain_panic;
use crate::error::{Error, Result, Status};
use crate::sys::caller_buffer::CallerBuffer;

/// Moves an object to the heap and gives it to the caller, who returns it through [`free`].
pub(super) fn into_raw<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Frees an object that [`into_raw`] gave to the caller. NULL is allowed.
///
/// # Safety
/// `pointer` is NULL or came from [`into_raw`] and was not freed before.
pub(super) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: by the contract above this is the box that `into_raw` gave away.
        contain_panic((), || drop(unsafe { Box::from_raw(pointer) }));
    }
}

/// Calls `get` with the handle. Returns `otherwise` if the handle is NULL or `get` panics.
///
/// # Safety
/// `pointer` is NULL or a live handle.
pub(super) unsafe fn read<'a, T: 'a, R: Copy>(pointer: *const T, otherwise: R, get: impl FnOnce(&'a T) -> R) -> R {
    // SAFETY: by the contract above.
    contain_panic(otherwise, || unsafe { pointer.as_ref() }.map_or(otherwise, get))
}

/// Returns a handle as a shared reference. `name` is the parameter's name, for the error message.
///
/// # Safety
/// `pointer` is NULL or a live handle.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: by the contract above.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// Reads a string of the caller.
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

/// Reads a string of the caller; NULL gives `None`.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string that stays as it is during the call.
pub(super) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    // SAFETY: by the contract above.
    if pointer.is_null() { Ok(None) } else { unsafe { text(pointer, name) }.map(Some) }
}

/// Reads an array of strings of the caller. A count of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for reads of `count` pointers, each of them NULL or a NUL-terminated string. All of this
/// stays as it is during the call.
pub(super) unsafe fn texts<'a>(pointer: *const *const c_char, count: usize, name: &str) -> Result<Vec<&'a str>> {
    // SAFETY: by the contract above.
    let pointers = unsafe { array(pointer, count, name) }?;
    // SAFETY: by the contract above.
    pointers.iter().enumerate().map(|(i, &each)| unsafe { text(each, &format!("{name}[{i}]")) }).collect()
}

/// Reads an array of the caller. A count of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for reads of `count` values during the call.
pub(super) unsafe fn array<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check_memory(pointer.cast(), count.saturating_mul(size_of::<T>()), name)?;
    // SAFETY: by the contract above, and `check_memory` has checked the length.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Reads bytes of the caller. A length of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for reads of `length` bytes during the call.
pub(super) unsafe fn bytes<'a>(pointer: *const c_void, length: usize, name: &str) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    check_memory(pointer, length, name)?;
    // SAFETY: by the contract above, and `check_memory` has checked the length.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// Returns memory of the caller to write to. A length of 0 ignores the pointer.
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

/// An output of a call, written on success only.
pub(super) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub(super) fn set(self, value: T) {
        // SAFETY: `out` has checked that the pointer is not NULL.
        unsafe { self.0.write(value) };
    }
}

/// Returns an output of the caller.
///
/// # Safety
/// `pointer` is NULL or valid for a write of a `T` until the call returns.
pub(super) unsafe fn out<T>(pointer: *mut T, name: &str) -> Result<Out<T>> {
    match pointer.is_null() {
        true => Err(null(name)),
        false => Ok(Out(pointer)),
    }
}

/// Writes the first `size` bytes of `value`, and zeros where `size` is larger than `value`.
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

/// Returns an output for a handle, and sets it to NULL.
///
/// # Safety
/// `pointer` is NULL or valid for a write of a pointer until the call returns.
pub(super) unsafe fn out_handle<T>(pointer: *mut *mut T, name: &str) -> Result<Out<*mut T>> {
    // SAFETY: by the contract above.
    let out = unsafe { out(pointer, name) }?;
    // SAFETY: `out` has checked that the pointer is not NULL.
    unsafe { pointer.write(std::ptr::null_mut()) };
    Ok(out)
}

/// Several outputs of a call, written on success only.
pub(super) struct Outs<T> {
    start: *mut T,
    count: usize,
}

impl<T> Outs<T> {
    pub(super) fn set(self, values: impl IntoIterator<Item = T>) {
        for (index, value) in values.into_iter().take(self.count).enumerate() {
            // SAFETY: `outs` has checked the pointer, which is valid for `count` values.
            unsafe { self.start.add(index).write(value) };
        }
    }
}

/// Returns an array of outputs of the caller. A count of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for writes of `count` values until the call returns.
pub(super) unsafe fn outs<T>(pointer: *mut T, count: usize, name: &str) -> Result<Outs<T>> {
    if count > 0 {
        check_memory(pointer.cast_const().cast(), count.saturating_mul(size_of::<T>()), name)?;
    }
    Ok(Outs { start: pointer, count })
}

/// Returns an array of outputs for handles, and sets all of them to NULL. A count of 0 ignores the pointer.
///
/// # Safety
/// `pointer` is NULL or valid for writes of `count` pointers until the call returns.
pub(super) unsafe fn out_handles<T>(pointer: *mut *mut T, count: usize, name: &str) -> Result<Outs<*mut T>> {
    // SAFETY: by the contract above.
    let all = unsafe { outs(pointer, count, name) }?;
    Outs { start: all.start, count }.set(std::iter::repeat_n(std::ptr::null_mut(), count));
    Ok(all)
}

/// Writes text and a NUL to `buffer`, and their size to `out_size`. `out_size` is also written if they do not fit.
pub(super) fn copy_text(text: &str, mut buffer: CallerBuffer<'_>, out_size: Out<usize>) -> Result<()> {
    let (size, capacity) = (text.len() + 1, buffer.len());
    out_size.set(size);
    check_fits(size, capacity)?;
    buffer.fill(text.as_bytes());
    buffer.fill(&[0]);
    Ok(())
}

/// An error if `size` bytes do not fit into a buffer of `capacity` bytes.
pub(super) fn check_fits(size: usize, capacity: usize) -> Result<()> {
    if size > capacity {
        let message = format!("the buffer is too small: {size} bytes are needed, it has {capacity}");
        return Err(Error::new(Status::BufferTooSmall, message));
    }
    Ok(())
}

/// Makes a string for the caller. It ends at the first NUL of `text`.
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
        return Err(Error::invalid(format!("the length of {name} is {length} bytes, more than an object can have")));
    }
    Ok(())
}
