//! The status of each error response. Refusals are not retried.

use aztorch::{Status, WriteMode};

use crate::support::client::{client, write_blob};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

const REFUSALS: [(u16, &str, Status); 14] = [
    (400, "InvalidHeaderValue", Status::Rejected),
    (401, "NoAuthenticationInformation", Status::Unauthenticated),
    (401, "", Status::Unauthenticated),
    (403, "AuthenticationFailed", Status::PermissionDenied),
    (403, "AuthorizationPermissionMismatch", Status::PermissionDenied),
    (404, "BlobNotFound", Status::NotFound),
    (404, "ContainerNotFound", Status::NotFound),
    (405, "UnsupportedHttpVerb", Status::Rejected),
    (409, "BlobAlreadyExists", Status::AlreadyExists),
    (409, "BlobArchived", Status::Rejected),
    (409, "SnapshotsPresent", Status::Rejected),
    (412, "ConditionNotMet", Status::Modified),
    (412, "", Status::Modified),
    (412, "LeaseIdMissing", Status::Rejected),
];

#[test]
fn refusals_have_the_documented_status_and_are_not_retried() {
    for (http_status, code, expected) in REFUSALS {
        let server = FaultServer::start();
        server.put("blob", b"the old one".to_vec());
        server.on_request(move |_| Some(Fault::status(http_status, code)));
        let client = client();
        let write = |size| write_blob(&client, &server.url("blob"), WriteMode::Replace, &vec![1; size]).map(drop);
        for error in [
            expect_error(client.open(&server.url("blob")), expected),
            expect_error(write(10), expected),
            expect_error(client.delete(&server.url("blob")), expected),
        ] {
            assert_eq!((error.http_status(), error.service_code()), (http_status, code));
            assert!(error.request_id().starts_with("request-"), "{}", error.request_id());
            assert!(!error.is_retryable(), "{error}");
            assert!(
                error.message().contains(&format!("http://{}/account/container/blob", server.authority())),
                "{error}"
            );
            assert!(error.message().contains(&http_status.to_string()) && error.message().contains(code), "{error}");
        }
        assert_eq!(server.requests().len(), 3, "{http_status} {code} was retried");
        assert_eq!(expect_error(write(20 << 20), expected).service_code(), code);
        assert!(server.requests_of("put-block-list").is_empty());
        assert_eq!(server.blob("blob").unwrap(), b"the old one");
    }
}

#[test]
fn a_response_that_no_blob_service_sends_is_an_error() {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    for status in [301, 302, 307, 418] {
        server.script("GET", [Fault::status(status, "")]);
        let error =
            client().open(&server.url("blob")).err().unwrap_or_else(|| panic!("{status} was accepted as a blob"));
        assert!(!matches!(error.status(), Status::Ok | Status::Internal), "{status}: {error}");
    }
    assert!(client().exists(&server.url("blob")).unwrap());
}

#[test]
fn a_blob_deleted_during_a_read_is_an_error() {
    let server = FaultServer::start();
    server.put("blob", vec![7; 20 << 20]);
    let reader = client().open(&server.url("blob")).unwrap();
    client().delete(&server.url("blob")).unwrap();
    let error = reader.read_at(12 << 20, &mut vec![0; 2 << 20]).unwrap_err();
    assert!(matches!(error.status(), Status::NotFound | Status::Modified), "{error}");
}
