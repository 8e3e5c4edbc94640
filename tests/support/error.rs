//! Every error that any test provokes is held to the same promises.

use aztorch::{Error, Status};

use super::azurite::{ACCOUNT_KEY, signature};
use super::percent::percent_encode;

/// The signature of a made-up SAS, for the tests that send one.
pub const MADE_UP_SIGNATURE: &str = "bm90LWEtcmVhbC1zaWduYXR1cmU";

/// The error of `result`, which must have `status`, say something in one line, and give no secret away.
#[track_caller]
pub fn expect_error<T>(result: Result<T, Error>, status: Status) -> Error {
    let Err(error) = result else { panic!("expected {status:?}, got a success") };
    assert_eq!(error.status(), status, "{error}");
    assert!(!error.message().trim().is_empty(), "{status:?} without a message");
    assert!(!error.message().contains(['\n', '\r']), "a line break in {:?}", error.message());
    for text in [error.message().to_owned(), error.to_string(), format!("{error:?}")] {
        assert_no_secret(&text);
    }
    error
}

#[track_caller]
pub fn assert_no_secret(text: &str) {
    let signature = signature("rwdlacup");
    for secret in [ACCOUNT_KEY, MADE_UP_SIGNATURE, &percent_encode(&signature), &signature, "hunter2"] {
        assert!(!text.contains(secret), "{secret} shows in {text}");
    }
}
