//! One request for a token: the credentials of `azure_identity`, over our own HTTP and with our own timeouts.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential, AzureDeveloperCliCredentialOptions,
    ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};

use super::bearer_token::BearerToken;
use super::certificate::Certificate;
use super::cloud::Authority;
use super::executor::TimeoutExecutor;
use super::ids::{check_client_id, check_tenant, variable};
use super::token_http::TokenHttp;
use crate::error::{Error, Result, Status};
use crate::redact::{has_secret, shown};

/// The audience of every storage account, in every cloud.
pub(super) const SCOPE: &str = "https://storage.azure.com/.default";
/// The variables of Azure's services whose managed identity does not come from the instance metadata service.
pub(super) const IDENTITY_ENDPOINTS: [&str; 2] = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"];

/// The members of the default chain, with the names of Microsoft's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainMember {
    Environment,
    WorkloadIdentity,
    ManagedIdentity,
    AzureCli,
    AzureDeveloperCli,
}

impl ChainMember {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Environment => "EnvironmentCredential",
            Self::WorkloadIdentity => "WorkloadIdentityCredential",
            Self::ManagedIdentity => "ManagedIdentityCredential",
            Self::AzureCli => "AzureCliCredential",
            Self::AzureDeveloperCli => "AzureDeveloperCliCredential",
        }
    }
}

impl fmt::Display for ChainMember {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One request for a token. Each makes new credentials of `azure_identity`, which costs little: files and variables are
/// read again, and nothing is cached below our own cache.
pub(super) struct TokenRequest {
    pub(super) http: Arc<TokenHttp>,
    pub(super) authority: Authority,
}

impl TokenRequest {
    /// Asks one member of the default chain.
    pub(super) async fn chain_member(&self, member: ChainMember) -> Result<BearerToken> {
        match member {
            ChainMember::Environment => self.environment().await,
            ChainMember::WorkloadIdentity => self.workload_identity().await,
            ChainMember::ManagedIdentity => self.managed_identity(variable("AZURE_CLIENT_ID")).await,
            ChainMember::AzureCli => self.azure_cli().await,
            ChainMember::AzureDeveloperCli => self.azure_developer_cli().await,
        }
    }

    /// Asks for a token of the service principal in the variables that all of Azure's SDKs read.
    async fn environment(&self) -> Result<BearerToken> {
        let (tenant_id, client_id) = match (variable("AZURE_TENANT_ID"), variable("AZURE_CLIENT_ID")) {
            (Some(tenant_id), Some(client_id)) => (tenant_id, client_id),
            _ => return Err(not_configured("AZURE_TENANT_ID and AZURE_CLIENT_ID are not both set")),
        };
        check_tenant(&tenant_id)?;
        check_client_id(&client_id)?;
        if let Some(secret) = variable("AZURE_CLIENT_SECRET") {
            return self.client_secret(&tenant_id, &client_id, Secret::new(secret)).await;
        }
        let Some(path) = variable("AZURE_CLIENT_CERTIFICATE_PATH") else {
            return Err(not_configured("neither AZURE_CLIENT_SECRET nor AZURE_CLIENT_CERTIFICATE_PATH is set"));
        };
        let audience = format!("{}/{tenant_id}/oauth2/v2.0/token", self.authority.cloud.authority_host()?);
        let assertion = Certificate::read(path.as_ref())?.assertion(&client_id, &audience)?;
        let options = ClientAssertionCredentialOptions { client_options: self.client_options()? };
        let credential = ClientAssertionCredential::new(tenant_id, client_id, assertion, Some(options));
        get(credential.map_err(to_error)?.as_ref()).await
    }

    /// Asks for a token of an application with a secret.
    pub(super) async fn client_secret(&self, tenant_id: &str, client_id: &str, secret: Secret) -> Result<BearerToken> {
        let options = ClientSecretCredentialOptions { client_options: self.client_options()? };
        let credential = ClientSecretCredential::new(tenant_id, client_id.to_owned(), secret, Some(options));
        get(credential.map_err(to_error)?.as_ref()).await
    }

    /// Asks for a token of this pod's workload identity.
    pub(super) async fn workload_identity(&self) -> Result<BearerToken> {
        let wanted = |name: &str| variable(name).ok_or_else(|| not_configured(&format!("{name} is not set")));
        check_tenant(&wanted("AZURE_TENANT_ID")?)?;
        check_client_id(&wanted("AZURE_CLIENT_ID")?)?;
        let file = wanted("AZURE_FEDERATED_TOKEN_FILE")?;
        // Checked before the SDK reads it, because the SDK's error would show the path even if it is a secret.
        std::fs::File::open(&file).map_err(|error| {
            Error::new(Status::Unauthenticated, format!("AZURE_FEDERATED_TOKEN_FILE {}: {error}", shown(&file)))
        })?;
        let options = WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions { client_options: self.client_options()? },
            ..WorkloadIdentityCredentialOptions::default()
        };
        get(WorkloadIdentityCredential::new(Some(options)).map_err(to_error)?.as_ref()).await
    }

    /// Asks for a token of this machine's managed identity, or of the one with this client id.
    pub(super) async fn managed_identity(&self, client_id: Option<String>) -> Result<BearerToken> {
        client_id.as_deref().map_or(Ok(()), check_client_id)?;
        for name in IDENTITY_ENDPOINTS {
            if variable(name).is_some_and(|value| has_secret(&value)) {
                return Err(Error::new(Status::Unauthenticated, format!("{name} is not a URL")));
            }
        }
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: client_id.map(UserAssignedId::ClientId),
            client_options: self.client_options()?,
        };
        get(ManagedIdentityCredential::new(Some(options)).map_err(to_error)?.as_ref()).await
    }

    /// Asks the Azure CLI for a token.
    pub(super) async fn azure_cli(&self) -> Result<BearerToken> {
        let options = AzureCliCredentialOptions {
            executor: Some(Arc::new(TimeoutExecutor)),
            tenant_id: self.tenant(),
            ..AzureCliCredentialOptions::default()
        };
        get(AzureCliCredential::new(Some(options)).map_err(to_error)?.as_ref()).await
    }

    async fn azure_developer_cli(&self) -> Result<BearerToken> {
        let options =
            AzureDeveloperCliCredentialOptions { executor: Some(Arc::new(TimeoutExecutor)), tenant_id: self.tenant() };
        get(AzureDeveloperCliCredential::new(Some(options)).map_err(to_error)?.as_ref()).await
    }

    fn tenant(&self) -> Option<String> {
        Some(self.authority.tenant.clone()).filter(|tenant| !tenant.is_empty())
    }

    fn client_options(&self) -> Result<ClientOptions> {
        Ok(ClientOptions {
            transport: Some(Transport::new(self.http.clone())),
            // Requests to Entra are retried when it is busy (429, 5xx). For the metadata service the SDK has longer
            // retries of its own, as the service's documentation recommends.
            retry: RetryOptions::exponential(ExponentialRetryOptions {
                max_retries: 3,
                ..ExponentialRetryOptions::default()
            }),
            cloud: Some(self.authority.cloud.configuration()?),
            ..ClientOptions::default()
        })
    }
}

fn not_configured(why: &str) -> Error {
    Error::new(Status::Unauthenticated, format!("not configured: {why}"))
}

async fn get(credential: &(dyn TokenCredential + 'static)) -> Result<BearerToken> {
    let token = credential.get_token(&[SCOPE], None).await.map_err(to_error)?;
    let expires = SystemTime::UNIX_EPOCH
        + Duration::from_secs(u64::try_from(token.expires_on.unix_timestamp()).unwrap_or_default());
    BearerToken::new(token.token.secret(), expires)
}

/// Converts the SDK's error: the answer of an identity service or a tool, or our own error on the way to it.
fn to_error(error: azure_core::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut busy = false;
    while let Some(current) = cause {
        if let Some(ours) = current.downcast_ref::<Error>() {
            return ours.clone();
        }
        if let Some(theirs) = current.downcast_ref::<azure_core::Error>()
            && let Some(status) = theirs.http_status()
        {
            let status = u16::from(status);
            busy |= status == 429 || status >= 500;
        }
        cause = current.source();
    }
    let text = error.to_string();
    // The last line of the SDK's error links to the SDK's documentation, which does not help our callers.
    let text = text.split("\nTo troubleshoot").next().unwrap_or_default();
    // The caller's context names the credential.
    let text = text.split_once(" authentication failed.").map_or(text, |(_, reason)| reason).trim();
    let error = Error::new(Status::Unauthenticated, text);
    if busy { error.retryable(None) } else { error }
}
