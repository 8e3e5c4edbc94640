//! The signer of a client's requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Method, Uri};

use super::cloud::Cloud;
use super::environment::{Environment, StorageSecret};
use super::identity::Identity;
use super::sas::expiry;
use super::token::TokenSource;
use super::{Credential, SharedKey};
use crate::error::{Error, Result};
use crate::stats::Counters;
use crate::transport::Network;
use crate::url::{Endpoint, has_signature};

/// A SAS that ends within this is worth a word in the log.
const EXPIRES_SOON: Duration = Duration::from_secs(3600);

/// Signs requests with what the client was told, or with what the environment has.
pub(crate) struct Signer {
    credential: Credential,
    environment: Option<Environment>,
    tokens: Option<Arc<TokenSource>>,
    warned_of_expiry: AtomicBool,
}

/// What a request was signed with, for the hint should it be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    SasInUrl,
    Sas,
    SharedKey,
    Token,
    Anonymous,
    /// No credential was configured, and plain http has no room for a token.
    NothingOverHttp,
}

impl Signer {
    pub(crate) fn new(credential: &Credential, network: &Network) -> Self {
        let (environment, tokens) = match credential {
            Credential::Unset => (Some(Environment::read()), Some(TokenSource::shared(&Identity::Default, network))),
            Credential::Identity(identity) => (None, Some(TokenSource::shared(identity, network))),
            Credential::Anonymous | Credential::Sas(_) | Credential::SharedKey(_) => (None, None),
        };
        Self { credential: credential.clone(), environment, tokens, warned_of_expiry: AtomicBool::new(false) }
    }

    /// Where the account of the environment's connection string lives.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.environment.as_ref()?.endpoint()
    }

    /// Signs one try of a request. A SAS that the URL brought along wins over everything.
    pub(crate) async fn authorize(
        &self,
        method: &Method,
        uri: Uri,
        headers: &mut HeaderMap,
        body_length: usize,
        stats: &Arc<Counters>,
    ) -> Result<(Uri, Signed)> {
        if uri.query().is_some_and(has_signature) {
            self.watch_expiry(&uri);
            return Ok((uri, Signed::SasInUrl));
        }
        let sign = |key: &SharedKey, headers: &mut HeaderMap| key.sign(method, &uri, headers, body_length);
        match &self.credential {
            Credential::Anonymous => return Ok((uri, Signed::Anonymous)),
            Credential::Sas(sas) => {
                let uri = sas.append_to(&uri)?;
                self.watch_expiry(&uri);
                return Ok((uri, Signed::Sas));
            }
            Credential::SharedKey(key) => {
                sign(key, headers)?;
                return Ok((uri, Signed::SharedKey));
            }
            Credential::Identity(_) => {}
            Credential::Unset => {
                let found = self.environment.as_ref().map_or(Ok(None), |known| known.credential_for(&uri))?;
                match found {
                    Some(StorageSecret::Sas(sas)) => {
                        let uri = sas.append_to(&uri)?;
                        self.watch_expiry(&uri);
                        return Ok((uri, Signed::Sas));
                    }
                    Some(StorageSecret::SharedKey(key)) => {
                        sign(key, headers)?;
                        return Ok((uri, Signed::SharedKey));
                    }
                    // As if there were none: emulators and public containers work without.
                    None if uri.scheme_str() != Some("https") => return Ok((uri, Signed::NothingOverHttp)),
                    None => {}
                }
            }
        }
        self.add_token(&uri, headers, stats).await?;
        Ok((uri, Signed::Token))
    }

    /// The one place that puts a token into a request.
    async fn add_token(&self, uri: &Uri, headers: &mut HeaderMap, stats: &Arc<Counters>) -> Result<()> {
        if uri.scheme_str() != Some("https") {
            return Err(Error::invalid("a token is never sent over http, where everyone on the way could read it")
                .hint("use an https URL, or a SAS or an account key with this one"));
        }
        let Some(tokens) = &self.tokens else { return Err(Error::internal("a credential without a source of tokens")) };
        headers.insert(AUTHORIZATION, tokens.token(Cloud::of(uri), stats).await?.header());
        Ok(())
    }

    /// The service did not accept this request's token: the next request gets another one.
    pub(crate) fn refused(&self, authorization: Option<&HeaderValue>) {
        if let (Some(tokens), Some(token)) = (&self.tokens, authorization) {
            tokens.forget(token);
        }
    }

    fn watch_expiry(&self, uri: &Uri) {
        let Some((at, Ok(left))) = expiry(uri.query().unwrap_or_default(), SystemTime::now()) else { return };
        if left < EXPIRES_SOON && !self.warned_of_expiry.swap(true, Ordering::Relaxed) {
            let minutes = left.as_secs() / 60;
            tracing::warn!(target: "aztorch::credential", "the SAS expires in {minutes} minutes, at {at}");
        }
    }
}
