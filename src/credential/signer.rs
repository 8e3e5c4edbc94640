//! Signs a client's requests. This is the only place that adds a credential to a request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Uri};

use super::Credential;
use super::auth_hints::{Signed, challenged_tenant};
use super::bearer_token::BearerToken;
use super::cloud::{Authority, Cloud};
use super::connection_string::StorageSecret;
use super::environment::Environment;
use super::identity::Identity;
use super::sas::expiry;
use super::shared_key::SharedKey;
use super::token_source::TokenSource;
use crate::error::{Error, Result};
use crate::http::{Network, Request};
use crate::observe::stats::Counters;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;
use crate::url::{Endpoint, has_signature};

/// A SAS that expires within this time is logged as a warning.
const EXPIRES_SOON: Duration = Duration::from_secs(3600);

/// Signs requests with the client's credential, or with the environment's.
pub(crate) struct Signer {
    credential: Credential,
    environment: Option<Environment>,
    tokens: Option<Arc<TokenSource>>,
    warned_of_expiry: AtomicBool,
    /// The tenants that accounts have named, by host. Only the first of each host is kept, so that no server can send
    /// the client from one tenant to the next. The lock may be held at a fork, because background requests take it.
    tenants: PerProcess<Mutex<Tenants>>,
}

type Tenants = HashMap<String, String>;

impl Signer {
    pub(crate) fn new(credential: &Credential, network: &Network) -> Self {
        let (environment, tokens) = match credential {
            Credential::Unset => (Some(Environment::read()), Some(TokenSource::shared(&Identity::Default, network))),
            Credential::Identity(identity) => (None, Some(TokenSource::shared(identity, network))),
            Credential::Anonymous | Credential::Sas(_) | Credential::SharedKey(_) => (None, None),
        };
        let (warned_of_expiry, tenants) = (AtomicBool::new(false), PerProcess::new());
        Self { credential: credential.clone(), environment, tokens, warned_of_expiry, tenants }
    }

    /// The endpoint of the environment's connection string.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.environment.as_ref()?.endpoint()
    }

    /// Whether a request to `uri` would reveal a secret of the client to a server that is not Azure Storage: a SAS, a
    /// token, or the signature of a request, which can be sent again.
    pub(crate) fn sends_secret_to(&self, uri: &Uri) -> bool {
        if uri.query().is_some_and(has_signature) || Cloud::is_storage(uri) {
            return false;
        }
        let is_https = uri.scheme_str() == Some("https");
        match &self.credential {
            Credential::Anonymous => false,
            Credential::Sas(_) | Credential::SharedKey(_) => true,
            Credential::Identity(_) => is_https,
            Credential::Unset => {
                let found = self.environment.as_ref().map_or(Ok(None), |known| known.credential_for(uri));
                is_https || !matches!(found, Ok(None))
            }
        }
    }

    /// Waits for a token if a request to `uri` needs one. A token request may take long and run the caller's callback,
    /// so it is made before the request takes a permit.
    pub(crate) async fn prepare(&self, uri: &Uri, stats: &Arc<Counters>) -> Result<()> {
        match self.needs_token(uri) {
            true => self.token(uri, stats).await.map(drop),
            false => Ok(()),
        }
    }

    fn needs_token(&self, uri: &Uri) -> bool {
        if uri.scheme_str() != Some("https") || uri.query().is_some_and(has_signature) {
            return false;
        }
        match &self.credential {
            Credential::Identity(_) => true,
            Credential::Unset => {
                self.environment.as_ref().is_none_or(|env| matches!(env.credential_for(uri), Ok(None)))
            }
            Credential::Anonymous | Credential::Sas(_) | Credential::SharedKey(_) => false,
        }
    }

    /// Signs one try of a request. A SAS in the URL takes precedence over every credential.
    pub(crate) async fn authorize(&self, request: &mut Request, stats: &Arc<Counters>) -> Result<Signed> {
        let Request { method, uri, headers, body } = request;
        if uri.query().is_some_and(has_signature) {
            self.check_expiry(uri);
            return Ok(Signed::SasInUrl);
        }
        let sign = |key: &SharedKey, uri: &Uri, headers: &mut HeaderMap| key.sign(method, uri, headers, body.len());
        match &self.credential {
            Credential::Anonymous => return Ok(Signed::Anonymous),
            Credential::Sas(sas) => {
                *uri = sas.append_to(uri)?;
                self.check_expiry(uri);
                return Ok(Signed::Sas);
            }
            Credential::SharedKey(key) => {
                sign(key, uri, headers)?;
                return Ok(Signed::SharedKey);
            }
            Credential::Identity(_) => {}
            Credential::Unset => {
                let found = self.environment.as_ref().map_or(Ok(None), |known| known.credential_for(uri))?;
                match found {
                    Some(StorageSecret::Sas(sas)) => {
                        *uri = sas.append_to(uri)?;
                        self.check_expiry(uri);
                        return Ok(Signed::Sas);
                    }
                    Some(StorageSecret::SharedKey(key)) => {
                        sign(key, uri, headers)?;
                        return Ok(Signed::SharedKey);
                    }
                    // Not an error: emulators and public containers work without a credential.
                    None if uri.scheme_str() != Some("https") => return Ok(Signed::NothingOverHttp),
                    None => {}
                }
            }
        }
        self.add_token(uri, headers, stats).await?;
        Ok(Signed::Token)
    }

    /// Adds a token to a request; an error over plain http.
    async fn add_token(&self, uri: &Uri, headers: &mut HeaderMap, stats: &Arc<Counters>) -> Result<()> {
        if uri.scheme_str() != Some("https") {
            return Err(Error::invalid("a token is never sent over http, where everyone on the way could read it")
                .hint("use an https URL, or a SAS or an account key with this one"));
        }
        headers.insert(AUTHORIZATION, self.token(uri, stats).await?.header().clone());
        Ok(())
    }

    /// A token for the account of this URL.
    async fn token(&self, uri: &Uri, stats: &Arc<Counters>) -> Result<BearerToken> {
        let Some(tokens) = &self.tokens else { return Err(Error::internal("a credential without a source of tokens")) };
        let tenant = match uri.host() {
            Some(host) => self.tenants()?.get(host).cloned().unwrap_or_default(),
            None => String::new(),
        };
        let authority = Authority { cloud: Cloud::of(uri), tenant };
        tokens.token(&authority, stats).await
    }

    /// Handles a 401 response with these headers: the next request gets another token. If the response names another
    /// tenant, the next token is one of that tenant.
    pub(crate) fn refused(&self, uri: &Uri, authorization: Option<&HeaderValue>, response: &HeaderMap) {
        let (Some(tokens), Some(token)) = (&self.tokens, authorization) else { return };
        // A token of another tenant is still valid for other accounts.
        if !self.learn_tenant(tokens, token, uri, response) {
            tokens.forget(token);
        }
    }

    /// Remembers the tenant that the response names. Returns whether it is another tenant than the token's.
    fn learn_tenant(&self, tokens: &TokenSource, token: &HeaderValue, uri: &Uri, response: &HeaderMap) -> bool {
        let (Some(tenant), Some(host)) = (challenged_tenant(response), uri.host()) else { return false };
        if !tokens.has_tenants() || tokens.is_for_tenant(token, tenant) {
            return false;
        }
        let Ok(mut tenants) = self.tenants() else { return false };
        let known = tenants.entry(host.to_owned()).or_insert_with(|| {
            tracing::info!(target: "aztorch::credential", "{host} takes tokens of the tenant {tenant}");
            tenant.to_owned()
        });
        known == tenant
    }

    fn tenants(&self) -> Result<MutexGuard<'_, Tenants>> {
        let tenants = self.tenants.get_or_inherit(|parent| {
            let known = parent.and_then(|parent| parent.try_lock().ok().map(|known| known.clone()));
            Ok(Mutex::new(known.unwrap_or_default()))
        })?;
        Ok(lock(tenants))
    }

    /// Logs a warning once if the URI's SAS expires soon.
    fn check_expiry(&self, uri: &Uri) {
        let Some((at, Ok(left))) = expiry(uri.query().unwrap_or_default(), SystemTime::now()) else { return };
        if left < EXPIRES_SOON && !self.warned_of_expiry.swap(true, Ordering::Relaxed) {
            let minutes = left.as_secs() / 60;
            tracing::warn!(target: "aztorch::credential", "the SAS expires in {minutes} minutes, at {at}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::in_fork;

    #[test]
    fn a_forked_child_inherits_the_tenants_and_does_not_wait_for_their_lock() {
        let signer = Signer::new(&Credential::Anonymous, &Network::default());
        let tenant = || signer.tenants().ok().and_then(|tenants| tenants.get("host").cloned()).unwrap_or_default();
        signer.tenants().unwrap().insert("host".to_owned(), "tenant".to_owned());
        assert!(in_fork(|| tenant() == "tenant"));
        // A background request may hold the lock at the fork.
        let held = signer.tenants().unwrap();
        assert!(in_fork(|| tenant().is_empty()));
        drop(held);
    }

    #[test]
    fn a_token_is_revealed_over_https_to_servers_other_than_azure_storage() {
        let of_identity = Signer::new(&Credential::Identity(Identity::Default), &Network::default());
        let unset = Signer::new(&Credential::Unset, &Network::default());
        for (uri, expected) in [
            ("https://data.example/container/blob", true),
            ("https://data.example/container/blob?snapshot=1", true),
            ("https://data.example/container/blob?sv=1&sig=x", false),
            ("https://acc.blob.core.windows.net/container/blob", false),
        ] {
            for signer in [&of_identity, &unset] {
                assert_eq!(signer.sends_secret_to(&uri.parse().unwrap()), expected, "{uri}");
            }
        }
        // Tokens are never sent over http.
        assert!(!of_identity.sends_secret_to(&Uri::from_static("http://data.example/container/blob")));
        let anonymous = Signer::new(&Credential::Anonymous, &Network::default());
        assert!(!anonymous.sends_secret_to(&Uri::from_static("https://data.example/container/blob")));
    }
}
