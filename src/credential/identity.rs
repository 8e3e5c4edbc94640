//! Who asks for tokens: one identity that was configured, or the members of the default chain.

use std::env;
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

use super::callback::TokenCallback;
use super::certificate::Certificate;
use super::chain::{self, IDENTITY_ENDPOINTS};
use super::cloud::Realm;
use super::process::Patient;
use super::token::BearerToken;
use crate::credential::token_http::TokenHttp;
use crate::error::{Error, Result, Status};
use crate::redact::{has_secret, shown};

/// The audience of every storage account, in every cloud.
const SCOPE: &str = "https://storage.azure.com/.default";

/// What a client's tokens are asked for with.
#[derive(Clone, PartialEq)]
pub(crate) enum Identity {
    /// What works first of the default chain.
    Default,
    /// An application with a secret.
    ClientSecret { tenant_id: String, client_id: String, secret: Secret },
    /// This machine's own identity, or one assigned to it.
    Managed { client_id: Option<String> },
    /// This pod's service account.
    Workload,
    /// Whoever logged in with `az login`.
    AzureCli,
    /// The caller's own code.
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

    /// Whether it may have tokens of several tenants. Applications and machines have one of their own.
    pub(super) fn has_tenants(&self) -> bool {
        matches!(self, Self::Default | Self::AzureCli | Self::Callback(_))
    }

    pub(super) fn is_callers_own(&self) -> bool {
        matches!(self, Self::Callback(_))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Default => "DefaultAzureCredential",
            Self::ClientSecret { .. } => "ClientSecretCredential",
            Self::Managed { .. } => Member::ManagedIdentity.name(),
            Self::Workload => Member::WorkloadIdentity.name(),
            Self::AzureCli => Member::AzureCli.name(),
            Self::Callback(_) => "the token callback",
        }
    }

    /// A token, and which member of the chain gave it. `member` is the one that gave the last.
    pub(super) async fn ask(
        &self,
        http: Arc<TokenHttp>,
        realm: Realm,
        member: Option<Member>,
    ) -> Result<(BearerToken, Option<Member>)> {
        let asking = Asking { http, realm };
        let token = match self {
            Self::Default => return chain::ask(&asking, member).await,
            Self::ClientSecret { tenant_id, client_id, secret } => {
                asking.client_secret(tenant_id, client_id, secret.clone()).await
            }
            Self::Managed { client_id } => asking.managed_identity(client_id.clone()).await,
            Self::Workload => asking.workload_identity().await,
            Self::AzureCli => asking.azure_cli().await,
            Self::Callback(callback) => callback.ask(SCOPE, &asking.realm.tenant).await,
        };
        token.map(|token| (token, None)).map_err(|error| error.context(self.name()))
    }
}

/// The members of the default chain, as Microsoft's documentation calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    Environment,
    WorkloadIdentity,
    ManagedIdentity,
    AzureCli,
    AzureDeveloperCli,
}

impl Member {
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

/// One request for a token. The credentials of `azure_identity` are made anew for each, which costs little, so
/// that files and variables are read again and nothing is cached below our own cache.
pub(super) struct Asking {
    pub(super) http: Arc<TokenHttp>,
    realm: Realm,
}

impl Asking {
    pub(super) async fn member(&self, member: Member) -> Result<BearerToken> {
        match member {
            Member::Environment => self.environment().await,
            Member::WorkloadIdentity => self.workload_identity().await,
            Member::ManagedIdentity => self.managed_identity(variable("AZURE_CLIENT_ID")).await,
            Member::AzureCli => self.azure_cli().await,
            Member::AzureDeveloperCli => self.azure_developer_cli().await,
        }
    }

    /// A service principal in the variables that all of Azure's SDKs read.
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
        let audience = format!("{}/{tenant_id}/oauth2/v2.0/token", self.realm.cloud.authority()?);
        let assertion = Certificate::read(path.as_ref())?.assertion(&client_id, &audience)?;
        let options = ClientAssertionCredentialOptions { client_options: self.client_options()? };
        let credential = ClientAssertionCredential::new(tenant_id, client_id, assertion, Some(options));
        get(credential.map_err(refused)?.as_ref()).await
    }

    async fn client_secret(&self, tenant_id: &str, client_id: &str, secret: Secret) -> Result<BearerToken> {
        let options = ClientSecretCredentialOptions { client_options: self.client_options()? };
        let credential = ClientSecretCredential::new(tenant_id, client_id.to_owned(), secret, Some(options));
        get(credential.map_err(refused)?.as_ref()).await
    }

    async fn workload_identity(&self) -> Result<BearerToken> {
        let wanted = |name: &str| variable(name).ok_or_else(|| not_configured(&format!("{name} is not set")));
        check_tenant(&wanted("AZURE_TENANT_ID")?)?;
        check_client_id(&wanted("AZURE_CLIENT_ID")?)?;
        let file = wanted("AZURE_FEDERATED_TOKEN_FILE")?;
        // Before the SDK reads it, whose error would show the path whatever it is.
        std::fs::File::open(&file).map_err(|error| {
            Error::new(Status::Unauthenticated, format!("AZURE_FEDERATED_TOKEN_FILE {}: {error}", shown(&file)))
        })?;
        let options = WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions { client_options: self.client_options()? },
            ..WorkloadIdentityCredentialOptions::default()
        };
        get(WorkloadIdentityCredential::new(Some(options)).map_err(refused)?.as_ref()).await
    }

    async fn managed_identity(&self, client_id: Option<String>) -> Result<BearerToken> {
        client_id.as_deref().map_or(Ok(()), check_client_id)?;
        for name in IDENTITY_ENDPOINTS {
            if variable(name).is_some_and(|value| has_secret(&value)) {
                return Err(Error::new(Status::Unauthenticated, format!("{name} is no URL")));
            }
        }
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: client_id.map(UserAssignedId::ClientId),
            client_options: self.client_options()?,
        };
        get(ManagedIdentityCredential::new(Some(options)).map_err(refused)?.as_ref()).await
    }

    async fn azure_cli(&self) -> Result<BearerToken> {
        let options = AzureCliCredentialOptions {
            executor: Some(Arc::new(Patient)),
            tenant_id: self.tenant(),
            ..AzureCliCredentialOptions::default()
        };
        get(AzureCliCredential::new(Some(options)).map_err(refused)?.as_ref()).await
    }

    async fn azure_developer_cli(&self) -> Result<BearerToken> {
        let options =
            AzureDeveloperCliCredentialOptions { executor: Some(Arc::new(Patient)), tenant_id: self.tenant() };
        get(AzureDeveloperCliCredential::new(Some(options)).map_err(refused)?.as_ref()).await
    }

    fn tenant(&self) -> Option<String> {
        Some(self.realm.tenant.clone()).filter(|tenant| !tenant.is_empty())
    }

    fn client_options(&self) -> Result<ClientOptions> {
        Ok(ClientOptions {
            transport: Some(Transport::new(self.http.clone())),
            // Entra that is busy (429, 5xx) is asked again a little later. The metadata service has a longer
            // patience of its own, as its documentation asks for.
            retry: RetryOptions::exponential(ExponentialRetryOptions {
                max_retries: 3,
                ..ExponentialRetryOptions::default()
            }),
            cloud: Some(self.realm.cloud.configuration()?),
            ..ClientOptions::default()
        })
    }
}

/// Which of Azure's machines set this: an empty variable is none.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn not_configured(why: &str) -> Error {
    Error::new(Status::Unauthenticated, format!("not configured: {why}"))
}

async fn get(credential: &(dyn TokenCredential + 'static)) -> Result<BearerToken> {
    let token = credential.get_token(&[SCOPE], None).await.map_err(refused)?;
    let expires = SystemTime::UNIX_EPOCH
        + Duration::from_secs(u64::try_from(token.expires_on.unix_timestamp()).unwrap_or_default());
    BearerToken::new(token.token.secret(), expires)
}

/// What an identity service or a tool said; or our own trouble on the way to it.
fn refused(error: azure_core::Error) -> Error {
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
    // Its last line is a link into the documentation of the SDK, which our callers do not use.
    let text = text.split("\nTo troubleshoot").next().unwrap_or_default();
    // Whose error it is, our own context says.
    let text = text.split_once(" authentication failed.").map_or(text, |(_, reason)| reason).trim();
    let error = Error::new(Status::Unauthenticated, text);
    if busy { error.retryable(None) } else { error }
}

/// Ids of no known form, as "common" for a tenant or those of a test's service, are shorter and plainer than secrets.
const LONGEST_FREE_FORM: usize = 24;

pub(super) fn is_tenant(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// Short, and not of capitals, small letters and digits at once, as most rules for passwords ask for.
fn is_free_form(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=LONGEST_FREE_FORM).contains(&text.len()) && !is_mixed && text.bytes().all(is_plain)
}

/// Like contoso.onmicrosoft.com.
fn is_domain(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_top_level = last.bytes().all(|byte| byte.is_ascii_alphabetic()) || last.starts_with("xn--");
    text.contains('.') && !text.split('.').any(str::is_empty) && is_top_level && !has_secret(text)
}

/// Not shown, like the client id: a secret may have been passed in its place. Nothing else is sent either, since it would be
/// in the URL of a request, and in the answer to it, which logs and errors show.
fn check_tenant(tenant_id: &str) -> Result<()> {
    let is_known = is_free_form(tenant_id) || is_uuid(tenant_id) || is_domain(tenant_id);
    if !is_tenant(tenant_id) || !is_known {
        return Err(Error::invalid("the tenant is neither an id (xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx) nor a domain"));
    }
    Ok(())
}

fn check_client_id(client_id: &str) -> Result<()> {
    if !(is_free_form(client_id) || is_uuid(client_id)) {
        return Err(Error::invalid("the client id is not one; it has the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"));
    }
    Ok(())
}

/// Without its values, of which one may be in the place of another.
impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for Member {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
