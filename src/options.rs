//! The options of a client. Each setter checks its value.

use std::path::Path;
use std::time::Duration;

use crate::credential::{BearerToken, ConnectionString, Credential, Identity, Sas, SharedKey, TokenCallback};
use crate::error::{Error, Result};
use crate::http::{Network, Proxies, check_user_agent_suffix, read_ca_file};
use crate::url::Endpoint;

const MIB: u64 = 1 << 20;
/// The service accepts blocks of up to 4,000 MiB since version 2019-12-12
/// (<https://learn.microsoft.com/rest/api/storageservices/put-block>).
pub(crate) const MAX_BLOCK_SIZE: u64 = 4000 * MIB;
const MIN_BLOCK_SIZE: u64 = 64 << 10;
const MIN_MEMORY: u64 = MIB;

/// The options of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub(crate) credential: Credential,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) max_concurrency: usize,
    /// In bytes. `None`: the default for this process.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) block_size: u64,
    pub(crate) max_retries: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stall_timeout: Duration,
    /// `None`: only uploads, if the service supports it.
    pub(crate) checksum: Option<bool>,
    pub(crate) network: Network,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credential: Credential::default(),
            endpoint: None,
            // All samples of a batch of 64 are requested at once.
            max_concurrency: 64,
            memory_limit: None,
            // The fixed cost of a request is small compared with this size, and a retry is cheap.
            block_size: 8 * MIB,
            // A dead service is reported after about eight seconds. If every third response is a failure, one request
            // in twenty thousand fails for good.
            max_retries: 8,
            timeout: None,
            // The service itself may take this time for an operation.
            stall_timeout: Duration::from_secs(30),
            checksum: None,
            network: Network::default(),
        }
    }
}

impl ClientOptions {
    /// Returns the default options: the storage credential in the environment variables, or else the default chain of
    /// identities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends no credential. A URL with a SAS still uses the SAS.
    pub fn set_anonymous(&mut self) -> Result<()> {
        self.credential = Credential::Anonymous;
        Ok(())
    }

    /// Uses a shared access signature (SAS), with or without its leading '?'.
    pub fn set_sas_token(&mut self, sas: &str) -> Result<()> {
        self.credential = Credential::Sas(Sas::new(sas)?);
        Ok(())
    }

    /// Signs each request with the key of a storage account (Shared Key). The key is base64.
    pub fn set_account_key(&mut self, account: &str, key_base64: &str) -> Result<()> {
        self.credential = Credential::SharedKey(SharedKey::new(account, key_base64)?);
        Ok(())
    }

    /// Uses the credential and the endpoint of an Azure Storage connection string.
    pub fn set_connection_string(&mut self, text: &str) -> Result<()> {
        let parsed = ConnectionString::parse(text)?;
        self.credential = parsed.secret.into();
        self.endpoint = Some(parsed.endpoint);
        Ok(())
    }

    /// Uses tokens of the first identity of the default chain that works: a service principal or a workload identity in
    /// the environment variables, a managed identity, the Azure CLI, the Azure Developer CLI.
    pub fn set_default_credential(&mut self) -> Result<()> {
        self.set_identity(Identity::Default)
    }

    /// Uses tokens of an application (service principal) that has a secret.
    pub fn set_client_secret(&mut self, tenant_id: &str, client_id: &str, secret: &str) -> Result<()> {
        self.set_identity(Identity::client_secret(tenant_id, client_id, secret)?)
    }

    /// Uses tokens of this machine's managed identity: the user-assigned one with this client ID, or the
    /// system-assigned one for `None`.
    pub fn set_managed_identity(&mut self, client_id: Option<&str>) -> Result<()> {
        self.set_identity(Identity::managed_identity(client_id)?)
    }

    /// Uses tokens of this pod's workload identity.
    pub fn set_workload_identity(&mut self) -> Result<()> {
        self.set_identity(Identity::Workload)
    }

    /// Uses tokens of the user who logged in with `az login`.
    pub fn set_azure_cli(&mut self) -> Result<()> {
        self.set_identity(Identity::AzureCli)
    }

    /// Uses tokens that `ask` returns for a scope and a tenant: "" for any tenant, or the tenant that the storage
    /// account has named. It runs on a thread of its own, one call at a time.
    pub fn set_token_callback(
        &mut self,
        ask: impl Fn(&str, &str) -> Result<BearerToken> + Send + Sync + 'static,
    ) -> Result<()> {
        self.set_identity(Identity::Callback(TokenCallback::new(ask)))
    }

    fn set_identity(&mut self, identity: Identity) -> Result<()> {
        self.credential = Credential::Identity(identity);
        Ok(())
    }

    /// Sends all requests through this http:// proxy. Default: the proxy in the environment variables, such as
    /// `HTTPS_PROXY`.
    pub fn set_proxy(&mut self, proxy_url: &str) -> Result<()> {
        self.network.proxy = Some(Proxies::explicit(proxy_url)?);
        Ok(())
    }

    /// Trusts the CA certificates of a PEM file in addition to those of the system. The file is read now.
    pub fn set_ca_file(&mut self, pem_path: &Path) -> Result<()> {
        self.network.extra_roots = read_ca_file(pem_path)?;
        Ok(())
    }

    /// Adds text after the library's name in the `User-Agent` of each request.
    pub fn set_user_agent(&mut self, suffix: &str) -> Result<()> {
        check_user_agent_suffix(suffix)?;
        self.network.user_agent_suffix = suffix.to_owned();
        Ok(())
    }

    /// Sets the maximum number of requests that the client has in flight, 1 to 4096. Default: 64.
    pub fn set_max_concurrency(&mut self, requests: u32) -> Result<()> {
        if !(1..=4096).contains(&requests) {
            return Err(Error::invalid(format!("max_concurrency must be 1 to 4096 requests, not {requests}")));
        }
        self.max_concurrency = requests as usize;
        Ok(())
    }

    /// Sets the maximum memory in bytes for read-ahead, prefetched samples and blocks being written. Default: one
    /// eighth of the memory of the machine or of the cgroup, divided by `LOCAL_WORLD_SIZE`, but 32 to 512 MiB.
    pub fn set_memory_limit(&mut self, bytes: u64) -> Result<()> {
        if bytes < MIN_MEMORY {
            return Err(Error::invalid(format!("memory_limit must be at least {MIN_MEMORY} bytes, not {bytes}")));
        }
        self.memory_limit = Some(bytes);
        Ok(())
    }

    /// Sets the size in bytes of the first blocks of a blob. Later blocks are larger. Default: 8 MiB.
    pub fn set_block_size(&mut self, bytes: u64) -> Result<()> {
        if !(MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&bytes) {
            return Err(Error::invalid(format!(
                "block_size must be {MIN_BLOCK_SIZE} to {MAX_BLOCK_SIZE} bytes, not {bytes}"
            )));
        }
        self.block_size = bytes;
        Ok(())
    }

    /// Sets how often a request is retried. 0 turns retries off. Default: 8.
    pub fn set_max_retries(&mut self, retries: u32) -> Result<()> {
        if retries > 1000 {
            return Err(Error::invalid(format!("max_retries must be at most 1000, not {retries}")));
        }
        self.max_retries = retries;
        Ok(())
    }

    /// Sets after how long a stalled connection is given up. A connection is stalled if it moves less than 1 KiB/s over
    /// this time, in either direction, or if the response to a read does not begin within this time. The bytes received
    /// so far are kept and the rest is requested again. Default: 30 s.
    pub fn set_stall_timeout(&mut self, timeout: Duration) -> Result<()> {
        if timeout.is_zero() {
            return Err(Error::invalid("the stall timeout must be more than 0 milliseconds"));
        }
        self.stall_timeout = timeout;
        Ok(())
    }

    /// Sets whether the content of every blob is checked end to end. Default: only uploads over https, with a CRC64
    /// that the service compares.
    pub fn set_checksum(&mut self, verify: bool) -> Result<()> {
        self.checksum = Some(verify);
        Ok(())
    }

    /// Sets the time limit of each call, retries included. `None` means no limit, which is the default.
    pub fn set_timeout(&mut self, whole_call: Option<Duration>) -> Result<()> {
        if whole_call.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Error::invalid("the timeout must be more than 0 milliseconds"));
        }
        self.timeout = whole_call;
        Ok(())
    }
}
