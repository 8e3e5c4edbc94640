//! Tells whether a request's body is still being sent.

use std::sync::Arc;

use bytes::Bytes;

/// Tracks whether hyper still holds the body of one request.
#[derive(Debug)]
pub(super) struct BodyTracker(Arc<()>);

struct TrackedBody {
    bytes: Bytes,
    _reference: Arc<()>,
}

impl AsRef<[u8]> for TrackedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BodyTracker {
    /// The body to send, and its tracker. Does not copy the bytes.
    pub(super) fn track(bytes: Bytes) -> (Bytes, Self) {
        let reference = Arc::new(());
        if bytes.is_empty() {
            return (bytes, Self(reference));
        }
        (Bytes::from_owner(TrackedBody { bytes, _reference: reference.clone() }), Self(reference))
    }

    /// Whether the whole body was written to the socket: hyper drops a body after its last byte.
    pub(super) fn is_sent(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}
