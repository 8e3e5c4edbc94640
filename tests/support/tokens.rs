//! Clients with a token callback, and the tokens that a server received.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use aztorch::{BearerToken, Client};

use super::client::client_with;
use super::deployed::HOUR;
use super::identity::IdentityServer;
use super::secure::secure;

/// A client whose token callback returns `planted-0`, `planted-1` and so on, and the number of calls of that callback.
pub fn client_with_numbered_tokens(max_retries: u32) -> (Client, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let client = client_with(|options| {
        options.set_ca_file(&secure().certificate)?;
        options.set_max_retries(max_retries)?;
        options.set_token_callback(move |_, _| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            BearerToken::new(&format!("planted-{number}"), SystemTime::now() + HOUR)
        })
    });
    (client, calls)
}

/// The `Authorization` headers of all requests, empty where there was none.
pub fn authorizations(server: &IdentityServer) -> Vec<String> {
    server.requests().iter().map(|request| request.header("authorization").unwrap_or_default().to_owned()).collect()
}
