//! What can go wrong, in the one form in which it leaves the library.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::redact::{redact, shown};

/// The kind of an error. The numbers are the C ABI's `AZT_STATUS_*` and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// Success.
    Ok = 0,
    /// A value that no call of this kind accepts.
    InvalidArgument = 1,
    /// The object does not offer this operation, or not any more.
    Unsupported = 2,
    /// An allocation failed.
    OutOfMemory = 3,
    /// A file of this machine could not be read or written.
    LocalIo = 4,
    /// No such blob or container.
    NotFound = 10,
    /// The blob or container exists already.
    AlreadyExists = 11,
    /// The blob changed under an open reader, or another writer won.
    Modified = 12,
    /// An index or range past the end.
    OutOfRange = 13,
    /// The caller's buffer is too small.
    BufferTooSmall = 14,
    /// No credential, or one that the service does not accept (401).
    Unauthenticated = 20,
    /// The credential does not permit this (403).
    PermissionDenied = 21,
    /// Any other refusal by the service (4xx).
    Rejected = 22,
    /// The service asked to slow down (429, 503), after retries.
    Throttled = 30,
    /// Network trouble or another 5xx, after retries.
    Unavailable = 31,
    /// The deadline passed without an answer.
    Timeout = 32,
    /// The caller cancelled.
    Cancelled = 33,
    /// Bytes that arrived are not those that were stored.
    Corrupt = 40,
    /// An open reader or writer was used in a forked child.
    Forked = 50,
    /// A defect of this library.
    Internal = 99,
}

/// An error: its [`Status`], one readable line, and what the service said.
///
/// Cheap to clone, because a writer repeats its first failure in every later call.
#[derive(Clone)]
pub struct Error(Arc<Details>);

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone)]
struct Details {
    status: Status,
    message: String,
    http_status: u16,
    service_code: String,
    request_id: String,
    retryable: bool,
    retry_after: Option<Duration>,
    paced: bool,
    outcome_unknown: bool,
    stale_connection: bool,
    last_word: bool,
    tries_at_once: u32,
}

impl Error {
    pub(crate) fn new(status: Status, message: impl AsRef<str>) -> Self {
        Self(Arc::new(Details {
            status,
            message: one_line(&redact(message.as_ref())),
            http_status: 0,
            service_code: String::new(),
            request_id: String::new(),
            retryable: false,
            retry_after: None,
            paced: false,
            outcome_unknown: false,
            stale_connection: false,
            last_word: false,
            tries_at_once: 0,
        }))
    }

    pub(crate) fn invalid(message: impl AsRef<str>) -> Self {
        Self::new(Status::InvalidArgument, message)
    }

    pub(crate) fn unsupported(message: impl AsRef<str>) -> Self {
        Self::new(Status::Unsupported, message)
    }

    pub(crate) fn internal(message: impl AsRef<str>) -> Self {
        Self::new(Status::Internal, message)
    }

    pub(crate) fn out_of_memory(bytes: usize) -> Self {
        Self::new(Status::OutOfMemory, format!("could not allocate {bytes} bytes"))
    }

    /// LastError on the way to the service or back: no verdict, so the request may be tried again.
    pub(crate) fn network(message: impl AsRef<str>) -> Self {
        Self::new(Status::Unavailable, message).retryable(None)
    }

    pub(crate) fn file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        // An error that wraps another, as those of `tempfile` do, repeats the path.
        let cause = error.get_ref().map_or_else(|| error.to_string(), |_| error.kind().to_string());
        Self::new(Status::LocalIo, format!("{what} {}: {cause}", shown(&path.to_string_lossy())))
    }

    pub(crate) fn service(
        status: Status,
        http_status: u16,
        service_code: &str,
        request_id: &str,
        message: &str,
    ) -> Self {
        Self::new(status, message).edit(|details| {
            details.http_status = http_status;
            details.service_code = one_line(&redact(service_code));
            details.request_id = one_line(&redact(request_id));
        })
    }

    pub(crate) fn retryable(self, retry_after: Option<Duration>) -> Self {
        self.edit(|details| {
            details.retryable = true;
            details.retry_after = retry_after;
        })
    }

    /// The client's rate alone spaces the next try: no long pause, and no `Retry-After`, which the rate obeys.
    pub(crate) fn paced(self) -> Self {
        self.edit(|details| (details.paced, details.retry_after) = (true, None))
    }

    /// Says what was being done, and on what, before what went wrong with it.
    pub(crate) fn context(self, what: impl AsRef<str>) -> Self {
        let message = one_line(&redact(&format!("{}: {}", what.as_ref(), self.0.message)));
        self.edit(|details| details.message = message)
    }

    /// Adds what the reader of the message should know or do.
    pub(crate) fn hint(self, hint: impl AsRef<str>) -> Self {
        let message = one_line(&redact(&format!("{}; {}", self.0.message, hint.as_ref())));
        self.edit(|details| details.message = message)
    }

    pub(crate) fn with_status(self, status: Status) -> Self {
        self.edit(|details| details.status = status)
    }

    /// Trying again may help the caller, but this call is over.
    pub(crate) fn last_word(self) -> Self {
        self.edit(|details| details.last_word = true)
    }

    /// The cause was removed, so that the same call tries again at once, at most so often in a row. Those tries do not count
    /// as retries.
    pub(crate) fn with_tries_at_once(self, most: u32) -> Self {
        self.edit(|details| details.tries_at_once = most)
    }

    pub(crate) fn tries_at_once(&self) -> u32 {
        if self.0.last_word { 0 } else { self.0.tries_at_once }
    }

    pub(crate) fn may_be_retried(&self) -> bool {
        self.0.retryable && !self.0.last_word
    }

    /// The call ended without waiting for the answer to a request that was on its way.
    pub(crate) fn with_unknown_outcome(self) -> Self {
        self.edit(|details| details.outcome_unknown = true)
    }

    /// The request was on its way when this happened: the service may have carried it out.
    pub(crate) fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// The connection had served before and was dead when this request was sent.
    pub(crate) fn with_stale_connection(self) -> Self {
        self.edit(|details| details.stale_connection = true)
    }

    pub(crate) fn was_stale_connection(&self) -> bool {
        self.0.stale_connection
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    pub(crate) fn is_paced(&self) -> bool {
        self.0.paced
    }

    fn edit(mut self, change: impl FnOnce(&mut Details)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The kind of the error.
    pub fn status(&self) -> Status {
        self.0.status
    }

    /// What failed, on which blob, why, and what to do: one line without secrets.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The HTTP status of the service's answer, 0 when there was none.
    pub fn http_status(&self) -> u16 {
        self.0.http_status
    }

    /// The service's error code, such as `BlobNotFound`, or "".
    pub fn service_code(&self) -> &str {
        &self.0.service_code
    }

    /// The service's `x-ms-request-id`, or "".
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Whether the same call may succeed later without a change on the caller's side.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Error")
            .field("status", &self.0.status)
            .field("message", &self.0.message)
            .field("http_status", &self.0.http_status)
            .field("service_code", &self.0.service_code)
            .field("request_id", &self.0.request_id)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind;
        let kind = match error.status() {
            Status::InvalidArgument => ErrorKind::InvalidInput,
            Status::Unsupported => ErrorKind::Unsupported,
            Status::OutOfMemory => ErrorKind::OutOfMemory,
            Status::NotFound => ErrorKind::NotFound,
            Status::AlreadyExists => ErrorKind::AlreadyExists,
            Status::PermissionDenied | Status::Unauthenticated => ErrorKind::PermissionDenied,
            Status::Timeout => ErrorKind::TimedOut,
            Status::Corrupt => ErrorKind::InvalidData,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Every cause of an error, outermost first: "the request failed: connection reset by peer".
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_line_break_and_no_signature() {
        let error = Error::service(Status::Rejected, 400, "A\nB", "id", "x?sv=1&sig=abc%2F&se=2\nnext").context("open");
        assert_eq!(error.message(), "open: x?sv=1&sig=REDACTED&se=2 next");
        assert_eq!(error.service_code(), "A B");
    }

    #[test]
    fn editing_a_clone_leaves_the_original_alone() {
        let error = Error::invalid("a");
        let edited = error.clone().context("b");
        assert_eq!((error.message(), edited.message()), ("a", "b: a"));
    }
}
