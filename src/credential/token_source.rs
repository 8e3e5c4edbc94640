//! The cache of tokens, per process and identity. Concurrent requests share one token request, and tokens are renewed
//! before they expire.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use http::header::HeaderValue;
use tokio::sync::watch;

use super::bearer_token::BearerToken;
use super::cloud::Authority;
use super::identity::Identity;
use super::token_http::TokenHttp;
use super::token_request::ChainMember;
use crate::core::runtime::spawn;
use crate::error::{Error, Result};
use crate::http::Network;
use crate::observe::stats::Counters;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

/// Tokens are renewed this long before they expire, or after half of their lifetime if that is later.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);
/// The pause after a failed renewal, while the old token is still valid.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// The source of a client's tokens. All clients of one identity and network in the process share it. It works in a
/// forked child, which inherits the tokens.
pub(super) struct TokenSource {
    identity: Identity,
    network: Network,
    cache: PerProcess<TokenCache>,
}

struct TokenCache {
    http: Arc<TokenHttp>,
    /// One entry per authority. The lock is never held while anything is awaited.
    entries: Mutex<Vec<(Authority, CacheEntry)>>,
    /// Held while the caller's callback runs: it is called from one thread at a time, for all authorities.
    callback_lock: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct CacheEntry {
    cached: Option<CachedToken>,
    /// The token request that is under way.
    pending: Option<PendingToken>,
    /// When the last renewal failed.
    renewal_failed: Option<Instant>,
}

#[derive(Clone)]
struct CachedToken {
    token: BearerToken,
    /// When the token can no longer be used: its expiry, or earlier if the service refused it.
    expires: SystemTime,
    /// When to request the next token.
    renewal: SystemTime,
    /// The member of the default chain that gave the token. Later requests go to this member only.
    member: Option<ChainMember>,
}

type PendingToken = watch::Receiver<Option<Result<BearerToken>>>;

/// When a token that expires at `expires` is renewed.
fn renewal(expires: SystemTime, now: SystemTime) -> SystemTime {
    let life = expires.duration_since(now).unwrap_or_default();
    now + life.saturating_sub(RENEWED_BEFORE).max(life / 2)
}

/// The sources of this process's clients. They are never dropped: a program has few identities and may make many
/// clients.
static SOURCES: PerProcess<Mutex<Vec<Arc<TokenSource>>>> = PerProcess::for_static();

fn sources() -> Result<MutexGuard<'static, Vec<Arc<TokenSource>>>> {
    let sources = SOURCES.get_or_inherit(|parent| {
        let known = parent.and_then(|parent| parent.try_lock().ok().map(|known| known.clone()));
        Ok(Mutex::new(known.unwrap_or_default()))
    })?;
    Ok(lock(sources))
}

impl TokenSource {
    /// The process's source for this identity over this network.
    pub(super) fn shared(identity: &Identity, network: &Network) -> Arc<Self> {
        let make = || {
            let (identity, network) = (identity.clone(), network.clone());
            Arc::new(Self { identity, network, cache: PerProcess::new() })
        };
        // A callback belongs to one client and is dropped with it.
        if identity.is_callback() {
            return make();
        }
        let Ok(mut sources) = sources() else { return make() };
        if let Some(known) = sources.iter().find(|known| known.identity == *identity && known.network == *network) {
            return known.clone();
        }
        sources.push(make());
        sources[sources.len() - 1].clone()
    }

    /// A valid token, from the cache or from the token request under way. Begins a token request if there is none.
    pub(super) async fn token(self: &Arc<Self>, authority: &Authority, stats: &Arc<Counters>) -> Result<BearerToken> {
        let mut pending = {
            let cache = self.cache()?;
            let mut entries = cache.lock();
            let entry = entry(&mut entries, authority);
            let now = SystemTime::now();
            if let Some(cached) = entry.cached.clone().filter(|cached| cached.expires > now) {
                let is_pausing = entry.renewal_failed.is_some_and(|failed| failed.elapsed() < RENEWAL_PAUSE);
                if cached.renewal <= now && entry.pending.is_none() && !is_pausing {
                    entry.pending = Some(self.begin_request(authority, cached.member, stats)?);
                }
                return Ok(cached.token);
            }
            match &entry.pending {
                Some(pending) => pending.clone(),
                None => {
                    let member = entry.cached.as_ref().and_then(|cached| cached.member);
                    entry.pending.insert(self.begin_request(authority, member, stats)?).clone()
                }
            }
        };
        let ended = pending.wait_for(Option::is_some).await;
        let result = ended.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| Err(Error::internal("the request for a token ended early")))
    }

    /// Whether the identity may have tokens of several tenants.
    pub(super) fn has_tenants(&self) -> bool {
        self.identity.has_tenants()
    }

    /// Whether this token was requested for this tenant.
    pub(super) fn is_for_tenant(&self, token: &HeaderValue, tenant: &str) -> bool {
        let has_token = |entry: &CacheEntry| entry.cached.as_ref().is_some_and(|cached| cached.token.header() == token);
        self.cache().is_ok_and(|cache| {
            cache.lock().iter().any(|(authority, entry)| authority.tenant == tenant && has_token(entry))
        })
    }

    /// Drops a token that the service has refused, so that the next request gets another one.
    pub(super) fn forget(&self, refused: &HeaderValue) {
        let Ok(cache) = self.cache() else { return };
        for (_, entry) in cache.lock().iter_mut() {
            // The entry stays, because its member of the chain is still needed.
            if let Some(cached) = entry.cached.as_mut().filter(|cached| cached.token.header() == refused) {
                cached.expires = SystemTime::UNIX_EPOCH;
            }
        }
    }

    fn cache(&self) -> Result<&TokenCache> {
        self.cache.get_or_inherit(|parent| {
            // A lock that was held at the fork is never released in the child.
            let entries = parent.and_then(|parent| parent.entries.try_lock().ok().map(|entries| entries.clone()));
            let mut entries = entries.unwrap_or_default();
            for (_, entry) in &mut entries {
                // The parent's token request never ends in the child. Its receiver is leaked, because dropping it could
                // take a lock of the parent.
                std::mem::forget(entry.pending.take());
            }
            let callback_lock = tokio::sync::Mutex::new(());
            Ok(TokenCache { http: TokenHttp::new(&self.network), entries: Mutex::new(entries), callback_lock })
        })
    }

    /// Requests a token in a task of its own: a caller may stop waiting, and the others still get the token.
    fn begin_request(
        self: &Arc<Self>,
        authority: &Authority,
        member: Option<ChainMember>,
        stats: &Arc<Counters>,
    ) -> Result<PendingToken> {
        let (sender, pending) = watch::channel(None);
        let update = CacheUpdate { source: self.clone(), authority: authority.clone() };
        stats.token_requests.add(1);
        spawn(async move {
            let result = update.source.request(update.authority.clone(), member).await;
            let result = result.map(|(token, member)| update.store(token, member)).inspect_err(|error| {
                tracing::warn!(target: "aztorch::credential", "{}: no token: {error}", update.source.identity.name());
                update.failed();
            });
            drop(update);
            sender.send_replace(Some(result));
        })?;
        Ok(pending)
    }

    async fn request(
        &self,
        authority: Authority,
        member: Option<ChainMember>,
    ) -> Result<(BearerToken, Option<ChainMember>)> {
        let cache = self.cache()?;
        let _guard = if self.identity.is_callback() { Some(cache.callback_lock.lock().await) } else { None };
        self.identity.request_token(cache.http.clone(), authority, member).await
    }
}

impl TokenCache {
    fn lock(&self) -> MutexGuard<'_, Vec<(Authority, CacheEntry)>> {
        lock(&self.entries)
    }
}

/// Returns the authority's entry. Adds it if it is missing.
fn entry<'a>(entries: &'a mut Vec<(Authority, CacheEntry)>, authority: &Authority) -> &'a mut CacheEntry {
    let at = entries.iter().position(|(known, _)| known == authority).unwrap_or_else(|| {
        entries.push((authority.clone(), CacheEntry::default()));
        entries.len() - 1
    });
    &mut entries[at].1
}

/// Writes the result of a token request into the cache. Dropping it, also by a panic, lets the next request begin.
struct CacheUpdate {
    source: Arc<TokenSource>,
    authority: Authority,
}

impl CacheUpdate {
    fn with_entry(&self, change: impl FnOnce(&mut CacheEntry)) {
        if let Ok(cache) = self.source.cache() {
            change(entry(&mut cache.lock(), &self.authority));
        }
    }

    fn store(&self, token: BearerToken, member: Option<ChainMember>) -> BearerToken {
        let (now, expires) = (SystemTime::now(), token.expires());
        let left = expires.duration_since(now).unwrap_or_default().as_secs();
        let name = member.map_or(self.source.identity.name(), ChainMember::name);
        tracing::info!(target: "aztorch::credential", "{name}: a token, good for {left} s");
        let cached = CachedToken { token: token.clone(), expires, renewal: renewal(expires, now), member };
        self.with_entry(|entry| {
            *entry = CacheEntry { cached: Some(cached), pending: entry.pending.take(), renewal_failed: None };
        });
        token
    }

    fn failed(&self) {
        self.with_entry(|entry| entry.renewal_failed = Some(Instant::now()));
    }
}

impl Drop for CacheUpdate {
    fn drop(&mut self) {
        self.with_entry(|entry| entry.pending = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_any_lifetime_are_renewed_before_they_expire() {
        let now = SystemTime::now();
        for (life, renewed_after) in [(3600, 3300), (86_400, 86_100), (60, 30), (0, 0)] {
            let expires = now + Duration::from_secs(life);
            assert_eq!(renewal(expires, now), now + Duration::from_secs(renewed_after), "{life}");
        }
    }
}
