//! Which threads may make blocking calls: not the library's own threads, and no thread inside a callback, where a call
//! could wait for itself.

use std::cell::Cell;

use crate::error::{Error, Result};

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(true) };
}

/// An error on a thread that must not make blocking calls.
pub(crate) fn check_may_block() -> Result<()> {
    if MAY_BLOCK.get() {
        return Ok(());
    }
    Err(Error::unsupported("a blocking call was made from inside one of the library's callbacks"))
}

/// Forbids blocking calls on this thread for good.
pub(crate) fn forbid_blocking() {
    MAY_BLOCK.set(false);
}

/// Runs the user's `callback` on this thread. Blocking calls of the library fail in it.
pub(crate) fn without_blocking<T>(callback: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_BLOCK.set(self.0);
        }
    }
    let _restore = Restore(MAY_BLOCK.replace(false));
    callback()
}
