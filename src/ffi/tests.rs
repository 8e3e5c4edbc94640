//! Calls through the boundary that send no request, with pointers as a C program passes them. `make miri` runs them
//! under Miri, which detects invalid reads, writes out of bounds, double frees and leaks on both sides.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::callback::UserData;
use super::handle;
use super::*;
use crate::core::turn::Turn;

const BAD_UTF8: &CStr = c"\xff\xfe";

/// Checks that a call was refused, reads its error as C does, and frees it.
fn assert_refused(status: azt_status, error: *mut azt_error) {
    assert_eq!(status, AZT_STATUS_INVALID_ARGUMENT);
    assert!(!error.is_null());
    // SAFETY: the call has just made this error, and it is freed once.
    unsafe {
        assert_eq!(azt_error_status(error), status);
        assert!(!CStr::from_ptr(azt_error_message(error)).to_bytes().is_empty());
        assert_eq!(CStr::from_ptr(azt_error_service_code(error)), c"");
        assert_eq!((azt_error_http_status(error), azt_error_is_retryable(error)), (0, false));
        azt_error_free(error);
    }
}

#[test]
fn options_are_created_changed_and_freed() {
    let options = azt_client_options_new();
    let mut error = null_mut();
    // SAFETY: the handle is live until it is freed; the strings end with NUL.
    unsafe {
        for text in [null(), c"".as_ptr(), BAD_UTF8.as_ptr()] {
            assert_refused(azt_client_options_set_sas_token(options, text, &raw mut error), error);
            assert_eq!(azt_client_options_set_sas_token(options, text, null_mut()), AZT_STATUS_INVALID_ARGUMENT);
        }
        // The call ignores a stale pointer in the variable for the error.
        error = std::ptr::dangling_mut();
        assert_eq!(azt_client_options_set_max_retries(options, 3, &raw mut error), AZT_STATUS_OK);
        assert!(error.is_null());
        assert_eq!(azt_client_options_set_sas_token(options, c"sv=1&sig=x".as_ptr(), null_mut()), AZT_STATUS_OK);
        azt_client_options_free(options);
        azt_client_options_free(null_mut());
    }
}

#[test]
fn null_handles_are_accepted() {
    // SAFETY: NULL is allowed for each of them.
    unsafe {
        azt_error_free(null_mut());
        azt_client_free(null_mut());
        azt_blob_free(null_mut());
        azt_dataset_free(null_mut());
        azt_sample_free(null_mut());
        azt_stream_free(null_mut());
        assert_eq!(CStr::from_ptr(azt_blob_url(null())), c"");
        assert_eq!(CStr::from_ptr(azt_sample_blob_name(null())), c"");
        assert!(azt_sample_data(null()).is_null() && azt_dataset_blob_name(null(), 0).is_null());
        let mut error = null_mut();
        let (mut size, mut text) = (77, [1 as c_char; 4]);
        assert_refused(azt_dataset_url(null(), 0, text.as_mut_ptr(), 4, &raw mut size, &raw mut error), error);
        assert_refused(azt_blob_read(null_mut(), text.as_mut_ptr().cast(), 4, &raw mut size, &raw mut error), error);
        assert_eq!((size, text), (77, [1; 4]));
    }
}

#[test]
fn datasets_are_serialized_within_their_buffers() {
    let mut error = null_mut();
    let (mut size, mut text) = (77, [1 as c_char; 4]);
    let mut dataset = std::ptr::dangling_mut();
    // SAFETY: each pointer is valid for the size that is passed with it, or refused before it is used.
    unsafe {
        assert_refused(azt_dataset_serialize(null(), text.as_mut_ptr(), 4, &raw mut size, &raw mut error), error);
        assert_eq!((size, text), (77, [1; 4]));
        let refused = azt_dataset_deserialize(null(), null(), 4, &raw mut dataset, &raw mut error);
        assert_refused(refused, error);
        assert!(dataset.is_null());
    }
}

#[test]
fn the_interrupt_callback_of_a_thread_gets_its_data() {
    unsafe extern "C" fn count(data: *mut c_void) -> bool {
        // SAFETY: `data` points to the counter below, which lives longer.
        unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed) == 2
    }
    let counter = AtomicUsize::new(0);
    let data = (&raw const counter).cast_mut().cast();
    let mut error = std::ptr::dangling_mut();
    let turn = Turn::new(());
    let taken = turn.take().unwrap();
    // SAFETY: the function and the data are valid until the callback is removed.
    unsafe {
        assert_eq!(azt_thread_set_interrupt_callback(Some(count), data, &raw mut error), AZT_STATUS_OK);
        assert!(error.is_null());
        assert!(turn.take().is_err());
        assert_eq!(azt_thread_set_interrupt_callback(None, null_mut(), null_mut()), AZT_STATUS_OK);
    }
    drop(taken);
    assert!(turn.take().is_ok());
    assert_eq!(counter.load(Ordering::Relaxed), 3);
}

#[test]
fn strings_and_arrays_are_read_within_their_bounds() {
    let texts = [c"one".as_ptr(), c"two".as_ptr()];
    let numbers = [1_u64, 2, 3];
    // SAFETY: the arrays have `count` elements, or the count is refused before they are read.
    unsafe {
        assert_eq!(handle::texts(texts.as_ptr(), 2, "texts").unwrap(), ["one", "two"]);
        assert!(handle::texts([c"one".as_ptr(), null()].as_ptr(), 2, "texts").is_err());
        assert_eq!(handle::array(numbers.as_ptr(), 3, "numbers").unwrap(), numbers);
        assert!(handle::array::<u64>(null(), 0, "numbers").unwrap().is_empty());
        for count in [usize::MAX, usize::MAX / 2, usize::MAX / 8 + 1] {
            assert!(handle::array(numbers.as_ptr(), count, "numbers").is_err());
        }
        assert_eq!(handle::bytes(c"data".as_ptr().cast(), 4, "data").unwrap(), b"data");
        assert!(handle::bytes(null::<c_void>(), 1, "data").is_err());
    }
}

#[test]
fn outputs_are_written_within_their_bounds() {
    let mut text = [9_u8; 8];
    let mut size = 0;
    let mut slots = [std::ptr::dangling_mut::<u32>(); 2];
    // SAFETY: each pointer is valid for the size that is passed with it.
    unsafe {
        let start = (&raw mut text).cast::<c_void>();
        let place = || handle::destination(start, 4, "text").unwrap();
        handle::copy_text("abc", place(), handle::out(&raw mut size, "size").unwrap()).unwrap();
        assert_eq!((text, size), (*b"abc\0\t\t\t\t", 4));
        handle::copy_text("abcd", place(), handle::out(&raw mut size, "size").unwrap()).unwrap_err();
        assert_eq!(size, 5);
        let outs = handle::out_handles(slots.as_mut_ptr(), 2, "slots").unwrap();
        assert!(slots.iter().all(|slot| slot.is_null()));
        outs.set([handle::into_raw(1), handle::into_raw(2), null_mut()]);
        slots.into_iter().for_each(|slot| handle::free(slot));
        let mut words = [7_u64; 3];
        handle::write_prefix(words.as_mut_ptr(), &1_u64, 16);
        assert_eq!(words, [1, 0, 7]);
    }
}

#[test]
fn a_finalizer_runs_once_when_the_last_user_is_dropped() {
    unsafe extern "C" fn count(data: *mut c_void) {
        // SAFETY: `data` points to the counter below, which lives longer.
        unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    }
    let counter = AtomicUsize::new(0);
    let data = std::sync::Arc::new(UserData::new((&raw const counter).cast_mut().cast(), Some(count)));
    let other = data.clone();
    drop(data);
    assert_eq!(counter.load(Ordering::Relaxed), 0);
    std::thread::spawn(move || drop(other)).join().unwrap();
    assert_eq!(counter.load(Ordering::Relaxed), 1);
}
