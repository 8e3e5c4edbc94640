//! Checks that every error in the tests must pass.

use aztorch::{Error, Status};

use super::azurite::{ACCOUNT_KEY, signature};
use super::percent::percent_encode;

/// The signature of a SAS that no service accepts.
pub const FAKE_SIGNATURE: &str = "bm90LWEtcmVhbC1zaWduYXR1cmU";

/// Returns the error of `result`. It must have this status, a message of one line, and show no secret.
#[track_caller]
pub fn expect_error<T>(result: Result<T, Error>, status: Status) -> Error {
    let Err(error) = result else { panic!("expected {status:?}, but the call succeeded") };
    assert_eq!(error.status(), status, "{error}");
    assert!(!error.message().trim().is_empty(), "{status:?} without a message");
    assert!(!error.message().contains(['\n', '\r']), "a line break in {:?}", error.message());
    for text in [error.message().to_owned(), error.to_string(), format!("{error:?}")] {
        assert_no_secret(&text);
    }
    error
}

/// Asserts that `text` contains none of the secrets that the tests use.
#[track_caller]
pub fn assert_no_secret(text: &str) {
    let signature = signature("rwdlacup");
    for secret in [ACCOUNT_KEY, FAKE_SIGNATURE, &percent_encode(&signature), &signature, "hunter2"] {
        assert!(!text.contains(secret), "the secret {secret} is in: {text}");
    }
}
