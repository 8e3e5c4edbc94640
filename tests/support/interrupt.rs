//! Calls that are interrupted by the callback of their thread.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aztorch::{Error, Result, Status, set_interrupt_callback};

use super::error::expect_error;

/// Much longer than an interrupt takes, and much shorter than these calls would wait otherwise.
const PROMPT: Duration = Duration::from_secs(2);

/// Makes a call on this thread, whose callback ends it after a while; returns its error. The documented limit is 100 ms,
/// but the machine may be busy.
#[track_caller]
pub fn interrupted<T>(call: impl FnOnce() -> Result<T>) -> Error {
    let began = Instant::now();
    interrupted_when(move || began.elapsed() > Duration::from_millis(200), call)
}

/// Makes a call on this thread, whose callback ends it once `condition` is true; returns its error.
#[track_caller]
pub fn interrupted_when<T>(condition: impl Fn() -> bool + 'static, call: impl FnOnce() -> Result<T>) -> Error {
    let ended = Rc::new(Cell::new(None));
    let ends = ended.clone();
    let callback = move || {
        let is_end = condition();
        if is_end {
            assert_eq!(ends.replace(Some(Instant::now())), None, "it was asked again after it had said yes");
        }
        is_end
    };
    set_interrupt_callback(Some(Box::new(callback))).unwrap();
    let result = call();
    set_interrupt_callback(None).unwrap();
    let ended = ended.get().expect("the call ended by itself");
    assert!(ended.elapsed() < PROMPT, "{:?}", ended.elapsed());
    let error = expect_error(result, Status::Cancelled);
    assert!(error.message().contains("interrupted by the caller"), "{error}");
    error
}
