//! The parts of the library's test support that the doctor's tests use.

#[path = "../../../tests/support/azurite.rs"]
pub mod azurite;
#[path = "../../../tests/support/child.rs"]
pub mod child;
#[path = "../../../tests/support/client.rs"]
pub mod client;
#[path = "../../../tests/support/content.rs"]
pub mod content;
#[path = "../../../tests/support/deployed.rs"]
pub mod deployed;
#[path = "../../../tests/support/error.rs"]
pub mod error;
#[path = "../../../tests/support/http.rs"]
pub mod http;
#[path = "../../../tests/support/identity.rs"]
pub mod identity;
#[path = "../../../tests/support/percent.rs"]
pub mod percent;
#[path = "../../../tests/support/secure.rs"]
pub mod secure;
