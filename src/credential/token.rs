//! Tokens: kept per process and identity, asked for once however many wait, renewed before they expire.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use http::header::HeaderValue;
use tokio::sync::watch;

use super::cloud::Realm;
use super::identity::{Identity, Member};
use crate::core::runtime::spawn;
use crate::credential::token_http::TokenHttp;
use crate::error::{Error, Result};
use crate::http::Network;
use crate::observe::stats::Counters;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

/// Tokens are renewed this long before they expire, or when half of their life is over if that is short.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);
/// A renewal that failed is tried again after this, while the old token still serves.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// A token as a caller's own code gives it out.
#[derive(Clone)]
pub struct BearerToken {
    bearer: HeaderValue,
    expires: SystemTime,
}

impl BearerToken {
    /// A token and when it expires.
    pub fn new(token: &str, expires: SystemTime) -> Result<Self> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("the token is empty or has characters that no token has"));
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::invalid("the token cannot be sent in a header"))?;
        bearer.set_sensitive(true);
        Ok(Self { bearer, expires })
    }

    /// The text without this token.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let token = self.bearer.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        token.map_or(text.to_owned(), |token| text.replace(token, "REDACTED"))
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// When it is time for the next one.
    fn renewal(&self, now: SystemTime) -> SystemTime {
        let life = self.expires.duration_since(now).unwrap_or_default();
        now + life.saturating_sub(RENEWED_BEFORE).max(life / 2)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BearerToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Where a client's tokens come from. Shared by all clients of one identity and network in the process, and
/// usable in a forked child, which inherits the tokens.
pub(crate) struct TokenSource {
    identity: Identity,
    network: Network,
    state: PerProcess<State>,
}

struct State {
    http: Arc<TokenHttp>,
    /// One for each realm that was asked about. Never held while anything is waited for.
    slots: Mutex<Vec<(Realm, Slot)>>,
    /// The caller's own code is called one at a time, for whatever realms.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Slot {
    kept: Option<Kept>,
    /// The request for a token that is under way.
    flight: Option<Flight>,
    renewal_failed: Option<Instant>,
}

#[derive(Clone)]
struct Kept {
    token: BearerToken,
    renewal: SystemTime,
    /// Of the default chain: the member that worked, which is asked alone from then on.
    member: Option<Member>,
}

type Flight = watch::Receiver<Option<Result<BearerToken>>>;

/// The sources of this process's clients. They stay: a program has few identities, and may make many clients.
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
    pub(crate) fn shared(identity: &Identity, network: &Network) -> Arc<Self> {
        let make = || {
            let (identity, network) = (identity.clone(), network.clone());
            Arc::new(Self { identity, network, state: PerProcess::new() })
        };
        // The caller's own code lives as long as the caller's client, and is nobody else's.
        if identity.is_callers_own() {
            return make();
        }
        let Ok(mut sources) = sources() else { return make() };
        if let Some(known) = sources.iter().find(|known| known.identity == *identity && known.network == *network) {
            return known.clone();
        }
        sources.push(make());
        sources[sources.len() - 1].clone()
    }

    /// A token that is good now.
    pub(super) async fn token(self: &Arc<Self>, realm: &Realm, stats: &Arc<Counters>) -> Result<BearerToken> {
        let mut flight = {
            let state = self.state()?;
            let mut slots = state.lock();
            let slot = slot(&mut slots, realm);
            let now = SystemTime::now();
            if let Some(kept) = slot.kept.clone().filter(|kept| kept.token.expires > now) {
                let resting = slot.renewal_failed.is_some_and(|failed| failed.elapsed() < RENEWAL_PAUSE);
                if kept.renewal <= now && slot.flight.is_none() && !resting {
                    slot.flight = Some(self.begin(realm, kept.member, stats)?);
                }
                return Ok(kept.token);
            }
            match &slot.flight {
                Some(flight) => flight.clone(),
                None => {
                    let member = slot.kept.as_ref().and_then(|kept| kept.member);
                    slot.flight.insert(self.begin(realm, member, stats)?).clone()
                }
            }
        };
        let landed = flight.wait_for(Option::is_some).await;
        let result = landed.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| Err(Error::internal("the request for a token ended early")))
    }

    /// Whether another tenant's token may be had from it.
    pub(crate) fn has_tenants(&self) -> bool {
        self.identity.has_tenants()
    }

    /// Whether this token was asked for with this tenant.
    pub(super) fn is_of(&self, token: &HeaderValue, tenant: &str) -> bool {
        let is_it = |slot: &Slot| slot.kept.as_ref().is_some_and(|kept| kept.token.bearer == *token);
        self.state().is_ok_and(|state| state.lock().iter().any(|(realm, slot)| realm.tenant == tenant && is_it(slot)))
    }

    /// The service did not accept the token: the next request asks for another one.
    pub(super) fn forget(&self, refused: &HeaderValue) {
        let Ok(state) = self.state() else { return };
        for (_, slot) in state.lock().iter_mut() {
            // Its member stays known.
            if let Some(kept) = slot.kept.as_mut().filter(|kept| kept.token.bearer == *refused) {
                kept.token.expires = SystemTime::UNIX_EPOCH;
            }
        }
    }

    fn state(&self) -> Result<&State> {
        self.state.get_or_inherit(|parent| {
            // A lock that someone held at the fork is never released here.
            let slots = parent.and_then(|parent| parent.slots.try_lock().ok().map(|slots| slots.clone()));
            let mut slots = slots.unwrap_or_default();
            for (_, slot) in &mut slots {
                // What is on its way to the parent never arrives in the child; its receiver is left alone.
                std::mem::forget(slot.flight.take());
            }
            let turn = tokio::sync::Mutex::new(());
            Ok(State { http: TokenHttp::new(&self.network), slots: Mutex::new(slots), turn })
        })
    }

    /// Asks for a token in a task of its own: who waits may lose patience, and the others still get it.
    fn begin(self: &Arc<Self>, realm: &Realm, member: Option<Member>, stats: &Arc<Counters>) -> Result<Flight> {
        let (sender, flight) = watch::channel(None);
        let landing = Landing { source: self.clone(), realm: realm.clone() };
        stats.token_requests.add(1);
        spawn(async move {
            let result = landing.source.ask(landing.realm.clone(), member).await;
            let result = result.map(|(token, member)| landing.keep(token, member)).inspect_err(|error| {
                tracing::warn!(target: "aztorch::credential", "{}: no token: {error}", landing.source.identity.name());
                landing.failed();
            });
            drop(landing);
            sender.send_replace(Some(result));
        })?;
        Ok(flight)
    }

    async fn ask(&self, realm: Realm, member: Option<Member>) -> Result<(BearerToken, Option<Member>)> {
        let state = self.state()?;
        let _turn = if self.identity.is_callers_own() { Some(state.turn.lock().await) } else { None };
        self.identity.ask(state.http.clone(), realm, member).await
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Vec<(Realm, Slot)>> {
        lock(&self.slots)
    }
}

fn slot<'a>(slots: &'a mut Vec<(Realm, Slot)>, realm: &Realm) -> &'a mut Slot {
    let at = slots.iter().position(|(known, _)| known == realm).unwrap_or_else(|| {
        slots.push((realm.clone(), Slot::default()));
        slots.len() - 1
    });
    &mut slots[at].1
}

/// The end of a request for a token, also by a panic: the next one may begin.
struct Landing {
    source: Arc<TokenSource>,
    realm: Realm,
}

impl Landing {
    fn with_slot(&self, change: impl FnOnce(&mut Slot)) {
        if let Ok(state) = self.source.state() {
            change(slot(&mut state.lock(), &self.realm));
        }
    }

    fn keep(&self, token: BearerToken, member: Option<Member>) -> BearerToken {
        let now = SystemTime::now();
        let left = token.expires.duration_since(now).unwrap_or_default().as_secs();
        let name = member.map_or(self.source.identity.name(), Member::name);
        tracing::info!(target: "aztorch::credential", "{name}: a token, good for {left} s");
        let kept = Kept { renewal: token.renewal(now), token: token.clone(), member };
        self.with_slot(|slot| *slot = Slot { kept: Some(kept), flight: slot.flight.take(), renewal_failed: None });
        token
    }

    fn failed(&self) {
        self.with_slot(|slot| slot.renewal_failed = Some(Instant::now()));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.with_slot(|slot| slot.flight = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_comes_before_the_end_whatever_the_length() {
        let now = SystemTime::now();
        for (life, renewed_after) in [(3600, 3300), (86_400, 86_100), (60, 30), (0, 0)] {
            let token = BearerToken::new("x", now + Duration::from_secs(life)).unwrap();
            assert_eq!(token.renewal(now), now + Duration::from_secs(renewed_after), "{life}");
        }
    }

    #[test]
    fn a_token_shows_nowhere() {
        let token = BearerToken::new("hunter2", SystemTime::now()).unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("hunter2"));
        for bad in ["", "two words", "line\nbreak", "ü"] {
            assert!(BearerToken::new(bad, SystemTime::now()).is_err(), "{bad:?}");
        }
    }
}
