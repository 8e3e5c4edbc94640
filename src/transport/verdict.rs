//! What an answer of the service means: the one place that decides status and retryability.

use std::time::{Duration, SystemTime};

use http::header::{HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::X_MS_REQUEST_ID;
use crate::credential::Denial;
use crate::error::{Error, Status};

pub(crate) const X_MS_ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// A service that asks for more patience than this is as good as down.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The error that an unsuccessful answer stands for.
pub(crate) fn error(http_status: StatusCode, headers: &HeaderMap, document: &[u8], denial: &Denial) -> Error {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (xml_code, message, detail) = read_document(document);
    let code = match text(&X_MS_ERROR_CODE) {
        "" => xml_code.as_str(),
        code => code,
    };
    let status = status(http_status, code);
    let line = describe(http_status, code, &message, &detail);
    let error = Error::service(status, http_status.as_u16(), code, text(&X_MS_REQUEST_ID), &line);
    match status {
        // What went wrong on the way may go right the next time.
        Status::Throttled | Status::Unavailable | Status::Corrupt => {
            return error.retryable(retry_after(text(&RETRY_AFTER)));
        }
        Status::Modified => return error.hint("the blob was replaced or changed meanwhile"),
        _ if http_status.is_redirection() => return error.hint(elsewhere(text(&LOCATION))),
        _ => {}
    }
    // The signer has given that token up. It may have expired early; a new one that is refused as well is the end of it.
    let is_token_refused = status == Status::Unauthenticated && denial.is_of_token();
    let error = if is_token_refused { error.with_tries_at_once(1) } else { error };
    match denial.hint(http_status.as_u16(), code, &detail, headers).as_str() {
        "" => error,
        hint => error.hint(hint),
    }
}

/// A credential is for the host that it was configured for, and for no other that an answer names.
fn elsewhere(location: &str) -> String {
    let shown = location.split(['?', '#']).next().unwrap_or_default();
    let to = if shown.is_empty() { String::new() } else { format!(" (this one leads to {shown})") };
    format!("redirects are not followed, lest a credential goes to another host{to}: use the URL of the service itself")
}

fn status(http_status: StatusCode, code: &str) -> Status {
    match (http_status.as_u16(), code) {
        (409, "BlobAlreadyExists" | "ContainerAlreadyExists" | "ResourceAlreadyExists") => Status::AlreadyExists,
        (412, "ConditionNotMet" | "") => Status::Modified,
        // A public container that is none answers an anonymous request like this.
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

/// Code, first line of the message and authentication detail of `<Error><Code>…</Code>…</Error>`.
fn read_document(document: &[u8]) -> (String, String, String) {
    let (mut code, mut message, mut detail) = (String::new(), String::new(), String::new());
    let mut reader = Reader::from_reader(document);
    let mut element = Vec::new();
    // Not every answer has a document (a proxy's page, an empty body): what cannot be read says nothing.
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(start) => element = start.local_name().as_ref().to_vec(),
            Event::End(_) => element.clear(),
            Event::Text(text) => {
                let Ok(text) = text.decode() else { break };
                let field = match element.as_slice() {
                    b"Code" => &mut code,
                    b"Message" => &mut message,
                    b"AuthenticationErrorDetail" => &mut detail,
                    _ => continue,
                };
                field.push_str(text.lines().next().unwrap_or("").trim());
            }
            Event::Eof => break,
            _ => {}
        }
    }
    // The string that was signed holds nothing that helps, and half of the request.
    let detail = detail.split("String to sign").next().unwrap_or("").trim().trim_end_matches(':').to_owned();
    (code, message, detail)
}

/// Seconds or an HTTP date, as RFC 9110 has it.
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

    fn verdict(http_status: u16, code: &str) -> Error {
        let document =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Why.\nRequestId:1</Message></Error>");
        let uri = "https://acc.blob.core.windows.net/c/b?sig=x".parse().unwrap();
        let denial = Denial::new(&uri, crate::credential::Signed::SasInUrl);
        error(StatusCode::from_u16(http_status).unwrap(), &HeaderMap::new(), document.as_bytes(), &denial)
    }

    #[test]
    fn statuses_follow_the_contract() {
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
            let error = verdict(http_status, code);
            assert_eq!(error.status(), expected, "{http_status} {code}");
            assert_eq!(
                error.is_retryable(),
                matches!(expected, Status::Throttled | Status::Unavailable | Status::Corrupt)
            );
            assert_eq!((error.http_status(), error.service_code()), (http_status, code));
        }
        assert!(verdict(400, "X").message().contains("400 X: Why."), "{}", verdict(400, "X"));
    }

    #[test]
    fn retry_after_in_both_forms() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        assert!(retry_after(&date).is_some_and(|wait| (25..=30).contains(&wait.as_secs())));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("999999"), Some(LONGEST_RETRY_AFTER));
    }
}
