//! Tokens from the caller's callback.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::bearer_token::BearerToken;
use crate::core::runtime::spawn_thread;
use crate::error::{Error, Result};

type GetToken = dyn Fn(&str, &str) -> Result<BearerToken> + Send + Sync;

/// A function that returns a token for a scope and a tenant ("" for any tenant).
#[derive(Clone)]
pub(crate) struct TokenCallback(Arc<GetToken>);

impl TokenCallback {
    pub(crate) fn new(callback: impl Fn(&str, &str) -> Result<BearerToken> + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    /// Calls the callback on a new thread, where it may block.
    pub(super) async fn call(&self, scope: &'static str, tenant: &str) -> Result<BearerToken> {
        let (sender, result) = oneshot::channel();
        let (callback, tenant) = (self.0.clone(), tenant.to_owned());
        spawn_thread("aztorch-token", move || {
            let result = callback(scope, &tenant);
            // Drop the callback before sending the result: the receiver may free the client, whose finalizer must not
            // wait for this thread.
            drop(callback);
            // Sending fails only at the end of the process, when the receiver was dropped.
            let _ = sender.send(result);
        })?;
        result.await.unwrap_or_else(|_| Err(Error::internal("the token callback panicked")))
    }
}

impl PartialEq for TokenCallback {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for TokenCallback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenCallback")
    }
}
