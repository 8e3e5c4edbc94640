//! The identities that a client can be configured with, and how each gets a token.

use std::fmt;
use std::sync::Arc;

use azure_core::credentials::Secret;

use super::bearer_token::BearerToken;
use super::callback::TokenCallback;
use super::chain;
use super::cloud::Authority;
use super::ids::{check_client_id, check_tenant};
use super::token_http::TokenHttp;
use super::token_request::{ChainMember, SCOPE, TokenRequest};
use crate::error::{Error, Result};

/// The identity whose tokens a client uses.
#[derive(Clone, PartialEq)]
pub(crate) enum Identity {
    /// The first member of the default chain that works.
    Default,
    /// An application with a secret.
    ClientSecret { tenant_id: String, client_id: String, secret: Secret },
    /// This machine's own identity, or one assigned to it.
    Managed { client_id: Option<String> },
    /// This pod's service account.
    Workload,
    /// The user that logged in with `az login`.
    AzureCli,
    /// The identity of the caller's token callback.
    Callback(TokenCallback),
}

impl Identity {
    pub(crate) fn client_secret(tenant_id: &str, client_id: &str, secret: &str) -> Result<Self> {
        check_tenant(tenant_id)?;
        check_client_id(client_id)?;
        if secret.is_empty() {
            return Err(Error::invalid("the client secret is empty"));
        }
        let (tenant_id, client_id) = (tenant_id.to_owned(), client_id.to_owned());
        Ok(Self::ClientSecret { tenant_id, client_id, secret: Secret::new(secret.to_owned()) })
    }

    pub(crate) fn managed_identity(client_id: Option<&str>) -> Result<Self> {
        client_id.map_or(Ok(()), check_client_id)?;
        Ok(Self::Managed { client_id: client_id.map(str::to_owned) })
    }

    /// Whether the identity may have tokens of several tenants. Applications and machines belong to one tenant.
    pub(super) fn has_tenants(&self) -> bool {
        matches!(self, Self::Default | Self::AzureCli | Self::Callback(_))
    }

    pub(super) fn is_callback(&self) -> bool {
        matches!(self, Self::Callback(_))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Default => "DefaultAzureCredential",
            Self::ClientSecret { .. } => "ClientSecretCredential",
            Self::Managed { .. } => ChainMember::ManagedIdentity.name(),
            Self::Workload => ChainMember::WorkloadIdentity.name(),
            Self::AzureCli => ChainMember::AzureCli.name(),
            Self::Callback(_) => "the token callback",
        }
    }

    /// Asks for a token. Returns the member of the default chain that gave it, if it came from the chain. `member` is
    /// the member that gave the last token.
    pub(super) async fn request_token(
        &self,
        http: Arc<TokenHttp>,
        authority: Authority,
        member: Option<ChainMember>,
    ) -> Result<(BearerToken, Option<ChainMember>)> {
        let request = TokenRequest { http, authority };
        let token = match self {
            Self::Default => return chain::request_token(&request, member).await,
            Self::ClientSecret { tenant_id, client_id, secret } => {
                request.client_secret(tenant_id, client_id, secret.clone()).await
            }
            Self::Managed { client_id } => request.managed_identity(client_id.clone()).await,
            Self::Workload => request.workload_identity().await,
            Self::AzureCli => request.azure_cli().await,
            Self::Callback(callback) => callback.call(SCOPE, &request.authority.tenant).await,
        };
        token.map(|token| (token, None)).map_err(|error| error.context(self.name()))
    }
}

/// Shows no values, because a secret may have been passed in place of another value.
impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
