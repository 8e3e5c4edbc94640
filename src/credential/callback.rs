//! Tokens from the caller's own code.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::token::BearerToken;
use crate::core::runtime::spawn_thread;
use crate::error::{Error, Result};

type Ask = dyn Fn(&str, &str) -> Result<BearerToken> + Send + Sync;

/// A function that gives a token for a scope and a tenant ("" when any).
#[derive(Clone)]
pub(crate) struct TokenCallback(Arc<Ask>);

impl TokenCallback {
    pub(crate) fn new(ask: impl Fn(&str, &str) -> Result<BearerToken> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Calls it on a thread of its own, where it may take its time.
    pub(super) async fn ask(&self, scope: &'static str, tenant: &str) -> Result<BearerToken> {
        let (sender, answer) = oneshot::channel();
        let (ask, tenant) = (self.0.clone(), tenant.to_owned());
        spawn_thread("aztorch-token", move || {
            let result = ask(scope, &tenant);
            // Before the answer: whoever gets it may free the client, and then its finalizer must not wait for us.
            drop(ask);
            // Nobody is left to hear it only when the process ends.
            let _ = sender.send(result);
        })?;
        answer.await.unwrap_or_else(|_| Err(Error::internal("the token callback panicked")))
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
