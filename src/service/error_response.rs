//! The errors of the service's answers: this file alone decides the status of an answer, and whether it is retried.

use std::time::{Duration, SystemTime};

use http::header::{HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::credential::AuthHints;
use crate::error::{Error, Status};
use crate::http::X_MS_ERROR_CODE;
use crate::service::headers::X_MS_REQUEST_ID;
use crate::service::xml;

/// The longest wait that a `Retry-After` header can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The error of an unsuccessful answer. `creates`: the request had `If-None-Match: *`, so it must not replace anything.
pub(crate) fn error(
    http_status: StatusCode,
    headers: &HeaderMap,
    document: &[u8],
    auth: &AuthHints,
    creates: bool,
) -> Error {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (xml_code, message, detail) = read_document(document);
    let code = match text(&X_MS_ERROR_CODE) {
        "" => xml_code.as_str(),
        code => code,
    };
    let status = match status(http_status, code) {
        Status::Modified if creates => Status::AlreadyExists,
        // A request without a credential gets this for everything in a private container, and for a missing container
        // (<https://github.com/Azure/azure-storage-cpp/issues/397>). In a public container it gets BlobNotFound.
        Status::NotFound if code == "ResourceNotFound" && auth.is_anonymous() => Status::Unauthenticated,
        status => status,
    };
    let line = describe(http_status, code, &message, &detail);
    let error = Error::service(status, http_status.as_u16(), code, text(&X_MS_REQUEST_ID), &line);
    let error = if may_have_been_carried_out(http_status, code) { error.with_unknown_outcome() } else { error };
    match status {
        Status::Throttled | Status::Unavailable | Status::Corrupt => {
            return error.retryable(retry_after(text(&RETRY_AFTER)));
        }
        Status::Modified => return error.hint("the blob was replaced or changed meanwhile"),
        _ if http_status.is_redirection() => return error.hint(redirect_hint(text(&LOCATION))),
        _ => {}
    }
    // The signer has dropped the refused token, which may have expired early. A new token gets one try.
    let is_token_refused = status == Status::Unauthenticated && auth.has_token();
    let error = if is_token_refused { error.with_tries_at_once(1) } else { error };
    match auth.hint(http_status.as_u16(), code, &detail, headers).as_str() {
        "" => error,
        hint => error.hint(hint),
    }
}

/// Why a redirect is not followed: the credential was configured for one host, and must not go to another one.
fn redirect_hint(location: &str) -> String {
    let shown = location.split(['?', '#']).next().unwrap_or_default();
    let to = if shown.is_empty() { String::new() } else { format!(" (this one leads to {shown})") };
    format!(
        "redirects are not followed, since a credential must not go to another host{to}: use the URL of the service itself"
    )
}

/// The status of our error for an HTTP status and the service's error code.
fn status(http_status: StatusCode, code: &str) -> Status {
    match (http_status.as_u16(), code) {
        (409, "BlobAlreadyExists" | "ContainerAlreadyExists" | "ResourceAlreadyExists") => Status::AlreadyExists,
        (412, "ConditionNotMet" | "") => Status::Modified,
        (404 | 410, _) => Status::NotFound,
        (400, "Crc64Mismatch" | "Md5Mismatch") => Status::Corrupt,
        (409, "ContainerBeingDeleted") => Status::Rejected,
        (401, _) => Status::Unauthenticated,
        (403, _) => Status::PermissionDenied,
        (429 | 503, _) => Status::Throttled,
        (408 | 500 | 502 | 504, _) => Status::Unavailable,
        (500.., _) => Status::Unavailable,
        _ => Status::Rejected,
    }
}

/// Whether the service may have carried out a request that it answers like this. After OperationTimedOut "the operation
/// may or may not have succeeded on the server side"; with ServerBusy the service is "unable to receive requests"
/// (<https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes>). A 502, 503 or 504 without that
/// code may come from a gateway that lost the service's answer, and so may other 5xx, except those that refuse a
/// request.
fn may_have_been_carried_out(http_status: StatusCode, code: &str) -> bool {
    match (http_status.as_u16(), code) {
        (503, "ServerBusy") | (501 | 505 | 511, _) => false,
        (status, _) => status == 408 || status >= 500,
    }
}

fn describe(http_status: StatusCode, code: &str, message: &str, detail: &str) -> String {
    let mut line = format!("the service answered {}", http_status.as_u16());
    if !code.is_empty() {
        line.push_str(&format!(" {code}"));
    }
    for part in [message, detail] {
        if !part.is_empty() {
            line.push_str(&format!(": {part}"));
        }
    }
    line
}

/// The code, the first line of the message, and the authentication detail of `<Error><Code>…</Code>…</Error>`. Each is
/// empty when the document does not have it.
fn read_document(document: &[u8]) -> (String, String, String) {
    let (mut code, mut message, mut detail) = (String::new(), String::new(), String::new());
    let mut reader = Reader::from_reader(document);
    let (mut depth, mut is_error, mut text) = (0_usize, false, String::new());
    // The body may be empty or a proxy's page: ignore unreadable parts.
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(start) => {
                is_error |= depth == 0 && start.local_name().as_ref() == b"Error";
                depth += 1;
                text.clear();
            }
            Event::End(end) => {
                // Only direct children of the error: nested elements may have the same names.
                let field = match end.local_name().as_ref() {
                    _ if !is_error || depth != 2 => None,
                    b"Code" => Some(&mut code),
                    b"Message" => Some(&mut message),
                    b"AuthenticationErrorDetail" => Some(&mut detail),
                    _ => None,
                };
                if let Some(field) = field {
                    *field = text.trim().lines().next().unwrap_or_default().trim().to_owned();
                }
                depth = depth.saturating_sub(1);
                text.clear();
            }
            Event::Eof => break,
            event if xml::push_text(&event, &mut text).is_err() => break,
            _ => {}
        }
    }
    // Cut off the string that was signed: it repeats the request and does not help.
    let detail = detail.split("String to sign").next().unwrap_or("").trim().trim_end_matches(':').to_owned();
    (code, message, detail)
}

/// Reads a `Retry-After` header: seconds or an HTTP date (RFC 9110).
fn retry_after(value: &str) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(http_status: u16, code: &str) -> Error {
        let document =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Why.\nRequestId:1</Message></Error>");
        let uri = "https://acc.blob.core.windows.net/c/b?sig=x".parse().unwrap();
        let auth = AuthHints::new(&uri, crate::credential::Signed::SasInUrl);
        error(StatusCode::from_u16(http_status).unwrap(), &HeaderMap::new(), document.as_bytes(), &auth, false)
    }

    #[test]
    fn each_answer_has_the_documented_status() {
        let cases = [
            (404, "BlobNotFound", Status::NotFound),
            (409, "BlobAlreadyExists", Status::AlreadyExists),
            (409, "ContainerAlreadyExists", Status::AlreadyExists),
            (409, "LeaseIdMissing", Status::Rejected),
            (412, "ConditionNotMet", Status::Modified),
            (412, "", Status::Modified),
            (412, "LeaseIdMissing", Status::Rejected),
            (401, "", Status::Unauthenticated),
            (403, "AuthenticationFailed", Status::PermissionDenied),
            (400, "InvalidHeaderValue", Status::Rejected),
            (400, "Crc64Mismatch", Status::Corrupt),
            (429, "", Status::Throttled),
            (503, "ServerBusy", Status::Throttled),
            (408, "", Status::Unavailable),
            (500, "InternalError", Status::Unavailable),
        ];
        for (http_status, code, expected) in cases {
            let error = error_of(http_status, code);
            assert_eq!(error.status(), expected, "{http_status} {code}");
            assert_eq!(
                error.is_retryable(),
                matches!(expected, Status::Throttled | Status::Unavailable | Status::Corrupt)
            );
            assert_eq!((error.http_status(), error.service_code()), (http_status, code));
        }
        for (http_status, code, expected) in [
            (408, "", true),
            (500, "InternalError", true),
            (500, "OperationTimedOut", true),
            (502, "", true),
            (503, "", true),
            (503, "ServerBusy", false),
            (504, "", true),
            (501, "NotImplemented", false),
            (429, "", false),
            (412, "ConditionNotMet", false),
            (404, "BlobNotFound", false),
        ] {
            assert_eq!(error_of(http_status, code).outcome_unknown(), expected, "{http_status} {code}");
        }
        assert!(error_of(400, "X").message().contains("400 X: Why."), "{}", error_of(400, "X"));
    }

    #[test]
    fn nested_elements_are_ignored() {
        let nested = "<Error><ExtendedErrorDetail><Code>Inner</Code><Message>No</Message></ExtendedErrorDetail>\
                      <Code>Outer</Code><Message>The &quot;name&quot; &amp; why.\nRequestId:1</Message>\
                      <More><Code>Inner</Code></More></Error>";
        assert_eq!(
            read_document(nested.as_bytes()),
            ("Outer".to_owned(), "The \"name\" & why.".to_owned(), String::new())
        );
        for other in ["<html><Code>x</Code></html>", "<a><Error><Code>x</Code></Error></a>", "<Code>x</Code>"] {
            assert_eq!(read_document(other.as_bytes()).0, "", "{other}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        assert!(retry_after(&date).is_some_and(|wait| (25..=30).contains(&wait.as_secs())));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("999999"), Some(LONGEST_RETRY_AFTER));
    }
}
