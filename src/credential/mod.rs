//! Credentials: where they come from, how tokens are requested and cached, and how requests are signed with them.

mod auth_hints;
mod bearer_token;
mod callback;
mod certificate;
mod chain;
mod cloud;
mod connection_string;
mod environment;
mod executor;
mod identity;
mod ids;
mod sas;
mod shared_key;
mod signer;
mod token_http;
mod token_request;
mod token_source;

pub(crate) use auth_hints::{AuthHints, Signed};
pub use bearer_token::BearerToken;
pub(crate) use callback::TokenCallback;
pub(crate) use connection_string::ConnectionString;
pub(crate) use identity::Identity;
pub(crate) use sas::Sas;
pub(crate) use shared_key::SharedKey;
pub(crate) use signer::Signer;

use connection_string::StorageSecret;

/// The credential that a client was configured with. Its `Debug` output shows no secret, because secrets are of the
/// type `Secret`.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credential {
    /// No credential was set: use the environment's credential for storage, or else the default chain of identities.
    #[default]
    Unset,
    /// Requests are sent without a credential.
    Anonymous,
    /// A shared access signature.
    Sas(Sas),
    /// An account name and key, which sign each request.
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
