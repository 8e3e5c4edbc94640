//! A time limit for tests that could hang.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Runs `test` on a new thread, and panics if it has not ended within `limit`.
pub fn within(limit: Duration, test: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let running = thread::spawn(move || {
        test();
        // An error means that the receiver has given up.
        let _ = sender.send(());
    });
    if receiver.recv_timeout(limit).is_err() {
        assert!(running.is_finished(), "the test did not end within {limit:?}");
        running.join().unwrap();
    }
}
