//! The error type of the library.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::redact::{redact, shown};

/// The kind of an error. The numbers are those of `AZT_STATUS_*` in the C API and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// The call succeeded.
    Ok = 0,
    /// The function does not accept the value of an argument.
    InvalidArgument = 1,
    /// The object does not support this operation, or no longer does.
    Unsupported = 2,
    /// A memory allocation failed.
    OutOfMemory = 3,
    /// A file on this machine could not be read or written.
    LocalIo = 4,
    /// The blob or container does not exist.
    NotFound = 10,
    /// The blob or container already exists.
    AlreadyExists = 11,
    /// The blob was replaced while a reader had it open, or another writer published first.
    Modified = 12,
    /// An index or a byte range is past the end.
    OutOfRange = 13,
    /// The caller's buffer is too small.
    BufferTooSmall = 14,
    /// There is no credential, or the service does not accept it (HTTP 401).
    Unauthenticated = 20,
    /// The credential does not permit this operation (HTTP 403).
    PermissionDenied = 21,
    /// The service refused the request with another HTTP 4xx status.
    Rejected = 22,
    /// The service still asked the client to slow down (HTTP 429 or 503) after all retries.
    Throttled = 30,
    /// The network still failed, or the service returned HTTP 408 or another 5xx, after all retries.
    Unavailable = 31,
    /// The deadline passed before a response arrived.
    Timeout = 32,
    /// The caller cancelled the operation, or interrupted the call.
    Cancelled = 33,
    /// Received data has a wrong length or checksum after all retries, or an archive or manifest is damaged.
    Corrupt = 40,
    /// A reader or writer that was opened before a fork was used in the child.
    Forked = 50,
    /// This library has a bug.
    Internal = 99,
}

/// An error: its [`Status`], a message of one line, and the service's answer, if there was one.
///
/// A clone is cheap: a writer returns its first error from every later call.
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
    no_more_retries: bool,
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
            no_more_retries: false,
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

    /// A failure of the network. The service has not answered, so the request may be retried.
    pub(crate) fn network(message: impl AsRef<str>) -> Self {
        Self::new(Status::Unavailable, message).retryable(None)
    }

    pub(crate) fn file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        // An error that wraps another one, such as those of `tempfile`, already has the path.
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

    /// The throttle of the client delays the next try. So the retry needs no long pause, and no `Retry-After`, which
    /// the throttle obeys.
    pub(crate) fn paced(self) -> Self {
        self.edit(|details| (details.paced, details.retry_after) = (true, None))
    }

    /// Puts the operation and its object in front of the message: "{what}: {message}".
    pub(crate) fn context(self, what: impl AsRef<str>) -> Self {
        let message = one_line(&redact(&format!("{}: {}", what.as_ref(), self.0.message)));
        self.edit(|details| details.message = message)
    }

    /// Adds advice for the user to the end of the message: "{message}; {hint}".
    pub(crate) fn hint(self, hint: impl AsRef<str>) -> Self {
        let message = one_line(&redact(&format!("{}; {}", self.0.message, hint.as_ref())));
        self.edit(|details| details.message = message)
    }

    pub(crate) fn with_status(self, status: Status) -> Self {
        self.edit(|details| details.status = status)
    }

    /// This call does not retry after the error, even if the caller may try again later.
    pub(crate) fn no_more_retries(self) -> Self {
        self.edit(|details| details.no_more_retries = true)
    }

    /// The cause was removed, so the same call tries again at once, at most `most` times in a row. These tries do not
    /// count as retries.
    pub(crate) fn with_tries_at_once(self, most: u32) -> Self {
        self.edit(|details| details.tries_at_once = most)
    }

    pub(crate) fn tries_at_once(&self) -> u32 {
        if self.0.no_more_retries { 0 } else { self.0.tries_at_once }
    }

    pub(crate) fn may_be_retried(&self) -> bool {
        self.0.retryable && !self.0.no_more_retries
    }

    /// A request was sent and its response is not known: the service may have carried it out.
    pub(crate) fn with_unknown_outcome(self) -> Self {
        self.edit(|details| details.outcome_unknown = true)
    }

    /// The request of this call was not sent, so the service has not carried it out.
    pub(crate) fn with_known_outcome(self) -> Self {
        if self.0.outcome_unknown { self.edit(|details| details.outcome_unknown = false) } else { self }
    }

    /// Returns whether the service may have carried out the request although it failed.
    pub(crate) fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// The request was sent on an idle connection that was already closed.
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

    /// Returns the kind of the error.
    pub fn status(&self) -> Status {
        self.0.status
    }

    /// Returns the message: what failed, on which blob, why, and what to do. One line, without secrets.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the HTTP status of the service's response; 0 if there was no response.
    pub fn http_status(&self) -> u16 {
        self.0.http_status
    }

    /// Returns the service's error code, such as `BlobNotFound`; "" if there is none.
    pub fn service_code(&self) -> &str {
        &self.0.service_code
    }

    /// Returns the service's request ID (`x-ms-request-id`); "" if there is none.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Returns whether the same call may succeed later without a change by the caller.
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

/// Returns the messages of an error and of all its causes: "the request failed: connection reset by peer".
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
    fn messages_have_no_line_breaks_and_no_signatures() {
        let error = Error::service(Status::Rejected, 400, "A\nB", "id", "x?sv=1&sig=abc%2F&se=2\nnext").context("open");
        assert_eq!(error.message(), "open: x?sv=1&sig=REDACTED&se=2 next");
        assert_eq!(error.service_code(), "A B");
    }

    #[test]
    fn changing_a_clone_does_not_change_the_original() {
        let error = Error::invalid("a");
        let edited = error.clone().context("b");
        assert_eq!((error.message(), edited.message()), ("a", "b: a"));
    }
}
