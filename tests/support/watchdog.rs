//! A hang is a failure, not a test that never ends.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Runs `test` on a thread of its own, and fails when that has not ended within `limit`.
pub fn within(limit: Duration, test: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let running = thread::spawn(move || {
        test();
        // Refused only when nobody waits any more.
        let _ = sender.send(());
    });
    if receiver.recv_timeout(limit).is_err() {
        assert!(running.is_finished(), "it hangs");
        running.join().unwrap();
    }
}
