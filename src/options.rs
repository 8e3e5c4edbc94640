//! What a client can be told, checked where it is told.

use std::path::Path;
use std::time::Duration;

use crate::credential::{BearerToken, ConnectionString, Credential, Identity, Sas, SharedKey, TokenCallback};
use crate::error::{Error, Result};
use crate::http::{Network, Proxies, check_user_agent_suffix, read_ca_file};
use crate::url::Endpoint;

const MIB: u64 = 1 << 20;
/// The service takes blocks of up to 4,000 MiB since version 2019-12-12
/// (<https://learn.microsoft.com/rest/api/storageservices/put-block>).
pub(crate) const MAX_BLOCK_SIZE: u64 = 4000 * MIB;
const MIN_BLOCK_SIZE: u64 = 64 << 10;
const MIN_MEMORY: u64 = MIB;

/// The settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub(crate) credential: Credential,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) max_concurrency: usize,
    /// `None`: as much as this process should.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) block_size: u64,
    pub(crate) max_retries: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stall_timeout: Duration,
    /// `None`: uploads only, as far as the service takes part.
    pub(crate) checksum: Option<bool>,
    pub(crate) network: Network,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credential: Credential::default(),
            endpoint: None,
            // A batch of 64 samples goes out at once.
            max_concurrency: 64,
            memory_limit: None,
            // Large enough that a request's fixed cost is small, small enough to retry cheaply.
            block_size: 8 * MIB,
            // About eight seconds of patience before a dead service is reported, and a request in twenty thousand that
            // fails for good when every third answer does.
            max_retries: 8,
            timeout: None,
            // As long as the service itself may take for an operation.
            stall_timeout: Duration::from_secs(30),
            checksum: None,
            network: Network::default(),
        }
    }
}

impl ClientOptions {
    /// The defaults: the environment's credential for storage, or else the default chain of identities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends no credential. URLs with a SAS still use it.
    pub fn set_anonymous(&mut self) -> Result<()> {
        self.credential = Credential::Anonymous;
        Ok(())
    }

    /// Signs with a shared access signature, with or without its leading '?'.
    pub fn set_sas_token(&mut self, sas: &str) -> Result<()> {
        self.credential = Credential::Sas(Sas::new(sas)?);
        Ok(())
    }

    /// Signs each request with an account's key (SharedKey).
    pub fn set_account_key(&mut self, account: &str, key_base64: &str) -> Result<()> {
        self.credential = Credential::SharedKey(SharedKey::new(account, key_base64)?);
        Ok(())
    }

    /// Takes credential and endpoint from an Azure Storage connection string.
    pub fn set_connection_string(&mut self, text: &str) -> Result<()> {
        let parsed = ConnectionString::parse(text)?;
        self.credential = parsed.secret.into();
        self.endpoint = Some(parsed.endpoint);
        Ok(())
    }

    /// Uses tokens of the first member that works of the default chain: a service principal or workload identity
    /// in the environment, a managed identity, the Azure CLI, the Azure Developer CLI.
    pub fn set_default_credential(&mut self) -> Result<()> {
        self.set_identity(Identity::Default)
    }

    /// Uses tokens of an application with a secret.
    pub fn set_client_secret(&mut self, tenant_id: &str, client_id: &str, secret: &str) -> Result<()> {
        self.set_identity(Identity::client_secret(tenant_id, client_id, secret)?)
    }

    /// Uses tokens of this machine's managed identity, or of the one assigned to it that has this client id.
    pub fn set_managed_identity(&mut self, client_id: Option<&str>) -> Result<()> {
        self.set_identity(Identity::managed_identity(client_id)?)
    }

    /// Uses tokens of this pod's workload identity.
    pub fn set_workload_identity(&mut self) -> Result<()> {
        self.set_identity(Identity::Workload)
    }

    /// Uses tokens of whoever logged in with `az login`.
    pub fn set_azure_cli(&mut self) -> Result<()> {
        self.set_identity(Identity::AzureCli)
    }

    /// Uses tokens that `ask` gives for a scope and a tenant: "" when any, or the one that the account has named. It is
    /// called on a thread of its own, one at a time.
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

    /// Goes through this http:// proxy, whatever the environment says. Default: `HTTPS_PROXY` and its kin.
    pub fn set_proxy(&mut self, proxy_url: &str) -> Result<()> {
        self.network.proxy = Some(Proxies::explicit(proxy_url)?);
        Ok(())
    }

    /// Trusts the CA certificates of this PEM file, beside those of the system.
    pub fn set_ca_file(&mut self, pem_path: &Path) -> Result<()> {
        self.network.extra_roots = read_ca_file(pem_path)?;
        Ok(())
    }

    /// Says this behind the library's own name in each request's `User-Agent`.
    pub fn set_user_agent(&mut self, suffix: &str) -> Result<()> {
        check_user_agent_suffix(suffix)?;
        self.network.user_agent_suffix = suffix.to_owned();
        Ok(())
    }

    /// At most this many requests of the client are under way at once. Default: 64.
    pub fn set_max_concurrency(&mut self, requests: u32) -> Result<()> {
        if !(1..=4096).contains(&requests) {
            return Err(Error::invalid(format!("max_concurrency must be 1 to 4096 requests, not {requests}")));
        }
        self.max_concurrency = requests as usize;
        Ok(())
    }

    /// Bounds the memory for read-ahead and for blocks under way. Default: an eighth of the
    /// memory that the machine or the cgroup has, divided by `LOCAL_WORLD_SIZE`, 32 to 512 MiB.
    pub fn set_memory_limit(&mut self, bytes: u64) -> Result<()> {
        if bytes < MIN_MEMORY {
            return Err(Error::invalid(format!("memory_limit must be at least {MIN_MEMORY} bytes, not {bytes}")));
        }
        self.memory_limit = Some(bytes);
        Ok(())
    }

    /// The size of a blob's first blocks; later ones grow with it. Default: 8 MiB.
    pub fn set_block_size(&mut self, bytes: u64) -> Result<()> {
        if !(MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&bytes) {
            return Err(Error::invalid(format!(
                "block_size must be {MIN_BLOCK_SIZE} to {MAX_BLOCK_SIZE} bytes, not {bytes}"
            )));
        }
        self.block_size = bytes;
        Ok(())
    }

    /// How often one request is tried again; 0 turns retries off. Default: 8.
    pub fn set_max_retries(&mut self, retries: u32) -> Result<()> {
        if retries > 1000 {
            return Err(Error::invalid(format!("max_retries must be at most 1000, not {retries}")));
        }
        self.max_retries = retries;
        Ok(())
    }

    /// Gives up a connection that moves less than 1 KiB/s over this long, in either direction, and one on which the answer
    /// to a read does not begin for this long; what it brought is kept and the rest asked for again. Default: 30 s.
    pub fn set_stall_timeout(&mut self, timeout: Duration) -> Result<()> {
        if timeout.is_zero() {
            return Err(Error::invalid("the stall timeout must be more than 0 milliseconds"));
        }
        self.stall_timeout = timeout;
        Ok(())
    }

    /// Whether every byte of a blob is checked end to end. Default: uploads over https are, with a CRC64 that the
    /// service compares; downloads are not.
    pub fn set_checksum(&mut self, verify: bool) -> Result<()> {
        self.checksum = Some(verify);
        Ok(())
    }

    /// Ends each call after this long; `None` waits as long as retries last. Default: `None`.
    pub fn set_timeout(&mut self, whole_call: Option<Duration>) -> Result<()> {
        if whole_call.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Error::invalid("the timeout must be more than 0 milliseconds"));
        }
        self.timeout = whole_call;
        Ok(())
    }
}
