//! What a client can be told, checked where it is told.

use std::time::Duration;

use crate::credential::{ConnectionString, Credential, SharedKey};
use crate::error::{Error, Result};
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
    pub(crate) memory_limit: u64,
    pub(crate) block_size: u64,
    pub(crate) max_retries: u32,
    pub(crate) timeout: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credential: Credential::default(),
            endpoint: None,
            // A batch of 64 samples goes out at once.
            max_concurrency: 64,
            // Read-ahead of a few readers and the blocks of a writer, on a machine that also trains.
            memory_limit: 512 * MIB,
            // Large enough that a request's fixed cost is small, small enough to retry cheaply.
            block_size: 8 * MIB,
            // About six seconds of patience before a dead service is reported.
            max_retries: 5,
            timeout: None,
        }
    }
}

impl ClientOptions {
    /// The defaults, with no credential.
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
        self.credential = Credential::sas(sas)?;
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
        self.credential = parsed.credential;
        self.endpoint = Some(parsed.endpoint);
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

    /// Bounds the memory for read-ahead and for blocks under way. Default: 512 MiB.
    pub fn set_memory_limit(&mut self, bytes: u64) -> Result<()> {
        if bytes < MIN_MEMORY {
            return Err(Error::invalid(format!("memory_limit must be at least {MIN_MEMORY} bytes, not {bytes}")));
        }
        self.memory_limit = bytes;
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

    /// How often one request is tried again; 0 turns retries off. Default: 5.
    pub fn set_max_retries(&mut self, retries: u32) -> Result<()> {
        if retries > 1000 {
            return Err(Error::invalid(format!("max_retries must be at most 1000, not {retries}")));
        }
        self.max_retries = retries;
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
