//! Who the client is to the service, and the one place that writes it into a request.

mod callback;
mod certificate;
mod chain;
mod cloud;
mod connection_string;
mod auth_hints;
mod environment;
mod identity;
mod process;
mod sas;
mod shared_key;
mod signer;
mod token;
mod token_http;

pub(crate) use auth_hints::AuthHints;
pub(crate) use callback::TokenCallback;
pub(crate) use connection_string::ConnectionString;
pub(crate) use environment::StorageSecret;
pub(crate) use identity::Identity;
pub(crate) use sas::Sas;
pub(crate) use shared_key::SharedKey;
pub(crate) use signer::{Signed, Signer};
pub use token::BearerToken;

/// What a client was told to prove its identity with. Its `Debug` shows no secret: `Secret` sees to that.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credential {
    /// Nothing: what the environment has for storage, or else the default chain of identities.
    #[default]
    Unset,
    /// The caller wants no credential sent.
    Anonymous,
    /// A shared access signature.
    Sas(Sas),
    /// An account key, which signs each request.
    SharedKey(SharedKey),
    /// Tokens of Microsoft Entra.
    Identity(Identity),
}

impl From<StorageSecret> for Credential {
    fn from(secret: StorageSecret) -> Self {
        match secret {
            StorageSecret::Sas(sas) => Self::Sas(sas),
            StorageSecret::SharedKey(key) => Self::SharedKey(key),
        }
    }
}
