//! The request rate of a client that the service refuses (429, 503): arithmetic only, over times in seconds.
//!
//! A service that is over its quota refuses requests and does not tell the quota. Clients cannot communicate with each
//! other. Some services also refuse at random, at any rate (a partition that moves, a broken proxy); then a lower rate
//! does not help. One client among many cannot distinguish random refusals from a quota on its own, because its own
//! requests hardly make a difference. So all clients change their rates at the same moments: at multiples of half a
//! second of the wall clock.
//!
//! A controller is in one of these states (`controller_states`):
//!
//! * **Unlimited**, until too many of the latest answers are refusals.
//! * **AwaitingGrant**: refusals came before any request was granted. Refusals may be faster than other answers, so
//!   these are not conclusive. A few requests per second are sent until the duration of a granted request is known.
//! * **Backoff**: the rate is a quarter of the demand, and the answers are compared with those before
//!   ([`Comparison`](super::evidence::Comparison)). If clearly fewer are refused, there is a quota. If not, a high-rate
//!   probe follows. All clients with equal demand begin at the same rate, so their shares are equal from the start. The
//!   refusals before are too few to compute a share from.
//! * **Limited**: the client sends at its share of the quota, which [`QuotaShare`](super::quota_share::QuotaShare)
//!   finds.
//! * **HighRateProbe**: for a moment the client sends at its whole demand, at the same time as all other undecided
//!   clients. If the share of refusals does not grow, refusals are random and the client has no limit.
//! * **LowRateProbe**: a client whose refusals are random sends a quarter of its demand for a moment, at the same time
//!   as all others of the kind; with each confirmation half as often. If fewer are refused, there is a quota after all.
//! * **Outage**: everything is refused. The client sends a few requests per second until some are granted. Then the
//!   rate doubles after every few granted requests until it reaches the demand.
//!
//! All numbers were found by simulating 1 to 16 clients with 1 to 64 requests in flight each, on busy processors
//! (`simulation`). Do not change any of them without it.

use super::controller_states::{
    Backoff, HighRateProbe, LATEST, Limited, LowRateProbe, OUTAGE_RATE, Outage, RandomRefusals, Transition,
};
use super::demand::DemandEstimator;
use super::evidence::LatestAnswers;

/// A backoff begins after this many refusals within this many answers (40 %), or after `MORE_REFUSALS` within the
/// latest 128 (16 %). Fewer refusals cost less than a wrong limit.
const REFUSALS: u32 = 10;
const WITHIN: u32 = 24;
const MORE_REFUSALS: u32 = 20;
/// With `Retry-After` this many are enough: the service itself announces a quota then, and the header delays the
/// request.
const REFUSALS_WITH_RETRY_AFTER: u32 = 4;
/// Clients begin high-rate probes at odd multiples of this time of the wall clock, and low-rate probes at even
/// multiples. In seconds.
const PROBE_INTERVAL: f64 = 0.5;
/// A low-rate probe needs this many answers without a limit. At most `MAX_BEFORE` are kept.
const MIN_BEFORE: u32 = 16;
const MAX_BEFORE: u32 = 256;
/// If fewer than `MIN_REFUSALS` of the latest `MIN_REFUSALS_OF` answers are refusals, random refusals have ended.
const MIN_REFUSALS: u32 = 2;
const MIN_REFUSALS_OF: u32 = 128;
/// If the share of refusals is this much higher than that of the random refusals, they have another cause.
const MUCH_MORE: f64 = 0.3;
/// A rate does not bind if at most `MAX_WAITED` of `SENT` requests had to wait for it.
const SENT: u32 = 12;
const MAX_WAITED: u32 = 2;
/// After this many seconds without a grant the first refusals were an outage and no evidence of a quota.
const LONG_WITHOUT_GRANT: f64 = 1.0;
/// Requests that are late are caught up with: up to one interval between requests, within these bounds in seconds.
/// Otherwise a process that gets the processor late would use less of the quota than its rate. Timers are not more
/// exact than `MIN_CATCH_UP`.
const MIN_CATCH_UP: f64 = 0.01;
const MAX_CATCH_UP: f64 = 0.1;

/// Finds a client's request rate. Times are in seconds since the client began.
#[derive(Debug)]
pub(super) struct RateController {
    state: State,
    latest: LatestAnswers,
    refusals: RefusalTimes,
    /// Set while the client is unlimited because its refusals are random.
    random: Option<RandomRefusals>,
    /// When the next request may be sent.
    next_send: f64,
    waits: WaitCount,
    /// When `State::AwaitingGrant` began.
    awaiting_since: f64,
    /// The wall clock's seconds at the time 0.
    wall_clock: f64,
    /// The number of the latest [`PROBE_INTERVAL`] of the wall clock.
    interval: f64,
}

#[derive(Debug)]
enum State {
    Unlimited,
    AwaitingGrant,
    Backoff(Backoff),
    Limited(Limited),
    HighRateProbe(HighRateProbe),
    LowRateProbe(LowRateProbe),
    Outage(Outage),
}

/// How the service answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    Granted,
    Refused,
    RefusedWithRetryAfter,
}

impl RateController {
    pub(super) fn new(wall_clock: f64) -> Self {
        Self {
            state: State::Unlimited,
            latest: LatestAnswers::default(),
            refusals: RefusalTimes::default(),
            random: None,
            next_send: 0.0,
            waits: WaitCount::default(),
            awaiting_since: 0.0,
            wall_clock,
            interval: (wall_clock / PROBE_INTERVAL).floor(),
        }
    }

    /// The limit in requests per second; `None` without one.
    pub(super) fn per_second(&self) -> Option<f64> {
        match &self.state {
            State::Unlimited => None,
            State::AwaitingGrant => Some(OUTAGE_RATE),
            State::Backoff(backoff) => Some(backoff.rate),
            State::Limited(limited) => Some(limited.share.rate()),
            State::HighRateProbe(probe) => Some(probe.demand),
            State::LowRateProbe(probe) => Some(probe.rate),
            State::Outage(outage) => Some(outage.rate),
        }
    }

    pub(super) fn is_limited(&self) -> bool {
        !matches!(self.state, State::Unlimited)
    }

    /// Whether there is a limit and requests are granted under it. Then the retry of a refused request only waits for
    /// the limit.
    pub(super) fn paces_retries(&self) -> bool {
        match &self.state {
            State::Unlimited | State::AwaitingGrant | State::HighRateProbe(_) => false,
            State::Outage(outage) => outage.count.refused < outage.count.answers,
            _ => {
                let latest = self.latest.last(8);
                // Grants came before a backoff began.
                latest.answers < 8 || latest.refused <= 6
            }
        }
    }

    /// Whether refusals are random, so that retries need no retry budget.
    pub(super) fn has_random_refusals(&self) -> bool {
        self.random.is_some() || matches!(self.state, State::LowRateProbe(_))
    }

    /// Sets the wall clock's seconds at the time 0, because the wall clock may have been changed.
    pub(super) fn set_wall_clock(&mut self, wall_clock: f64) {
        self.wall_clock = wall_clock;
    }

    /// Records that the service failed a request without refusing it.
    pub(super) fn failed(&mut self) {
        if let State::Limited(limited) = &mut self.state {
            limited.failed();
        }
    }

    #[cfg(test)]
    pub(super) fn slow_down_to(&mut self, rate: f64) {
        self.state = State::Limited(Limited::new(self.next_send, rate, rate));
    }

    /// Lets the next request be sent now and returns 0, or returns the seconds that it has to wait.
    pub(super) fn try_acquire(&mut self, now: f64) -> f64 {
        if let State::Limited(limited) = &mut self.state {
            limited.share.advance(now);
            if limited.share.is_needless() {
                self.apply(now, Transition::Unlimited(None));
            }
        }
        let Some(rate) = self.per_second() else { return 0.0 };
        self.next_send = self.next_send.max(now - (1.0 / rate).clamp(MIN_CATCH_UP, MAX_CATCH_UP));
        let wait = self.next_send - now;
        if wait > 0.0 {
            (self.waits.is_waiting, self.waits.any) = (true, true);
            if let State::Limited(limited) = &mut self.state {
                limited.share.waited();
            }
            return wait;
        }
        // At even intervals two clients with the same rate stay in step, and the same one finds the quota used up each
        // time.
        self.next_send += (0.5 + fastrand::f64()) / rate;
        let binds = self.waits.count_sent();
        if let State::Backoff(backoff) = &mut self.state
            && binds == Some(false)
            && backoff.is_inconclusive()
        {
            backoff.slow_down(now);
            self.next_send = now;
        }
        0.0
    }

    /// Counts `count` requests that were granted while there was no limit.
    pub(super) fn granted_unlimited(&mut self, count: u64) {
        self.latest.add_granted(count);
        if let Some(random) = &mut self.random {
            random.before.add_granted(count);
        }
    }

    /// Counts one answer to a request that was sent at `sent`. Without a limit only refusals are counted here; see
    /// [`Self::granted_unlimited`].
    pub(super) fn answered(&mut self, now: f64, sent: f64, outcome: RequestOutcome, demand: &DemandEstimator) {
        let refused = outcome != RequestOutcome::Granted;
        self.latest.add(refused);
        let took = if refused { self.refusals.add(now) } else { 0.0 };
        let interval = ((now + self.wall_clock) / PROBE_INTERVAL).floor();
        // Only the first answer in an interval may begin a probe.
        let begun = (std::mem::replace(&mut self.interval, interval) != interval).then_some(interval);
        let may_probe_high = begun.is_some_and(|interval| interval % 2.0 == 1.0);
        let low_probe_interval = begun.filter(|interval| interval % 2.0 == 0.0);
        let transition = match &mut self.state {
            State::Unlimited if refused => self.refused_unlimited(now, took, outcome, low_probe_interval, demand),
            State::Unlimited => Transition::Stay,
            State::AwaitingGrant => {
                if !demand.is_known() {
                    Transition::Stay
                } else if now - self.awaiting_since > LONG_WITHOUT_GRANT {
                    Transition::Unlimited(None)
                } else {
                    // Keeps the answers so far, which `apply` would drop.
                    self.state = State::Unlimited;
                    Transition::Stay
                }
            }
            State::Backoff(backoff) => backoff.answered(now, sent, refused, may_probe_high),
            State::Limited(limited) => limited.answered(now, sent, refused, may_probe_high, &self.latest, took),
            State::HighRateProbe(probe) => probe.answered(now, sent, refused),
            State::LowRateProbe(probe) => probe.answered(sent, refused, self.waits.any),
            State::Outage(outage) => outage.answered(now, sent, refused),
        };
        self.apply(now, transition);
    }

    /// Judges a refusal without a limit. `low_probe_interval`: the number of the interval if a low-rate probe may begin
    /// now.
    fn refused_unlimited(
        &mut self,
        now: f64,
        took: f64,
        outcome: RequestOutcome,
        low_probe_interval: Option<f64>,
        demand: &DemandEstimator,
    ) -> Transition {
        let Some(random) = &mut self.random else {
            let is_announced = outcome == RequestOutcome::RefusedWithRetryAfter;
            let count = if is_announced { REFUSALS_WITH_RETRY_AFTER } else { REFUSALS };
            let many = self.latest.since_refusal(count).filter(|many| many.answers < WITHIN);
            let Some(before) = many.or(self.latest.since_refusal(MORE_REFUSALS)) else { return Transition::Stay };
            if demand.is_known() {
                return Transition::Backoff(Backoff::new(now, demand.per_second(), before, took));
            }
            (self.state, self.next_send, self.awaiting_since) = (State::AwaitingGrant, now, now);
            return Transition::Stay;
        };
        random.before.add(true);
        random.before.limit(MAX_BEFORE);
        let random = *random;
        let (all, max_share) = (self.latest.last(LATEST), random.before.refused_share() + MUCH_MORE);
        let few = self.latest.last(MIN_REFUSALS_OF);
        let has_ended = few.answers == MIN_REFUSALS_OF && few.refused < MIN_REFUSALS;
        if has_ended || (all.answers == LATEST && all.refused_share() > max_share) {
            self.random = None;
        } else if low_probe_interval.is_some_and(|number| number % f64::from(2 << random.confirmations) == 0.0)
            && random.before.answers >= MIN_BEFORE
        {
            let since = self.interval * PROBE_INTERVAL - self.wall_clock;
            return Transition::LowRateProbe(LowRateProbe::new(since, demand.per_second(), random));
        }
        Transition::Stay
    }

    fn apply(&mut self, now: f64, transition: Transition) {
        self.state = match transition {
            Transition::Stay => return,
            Transition::Backoff(backoff) => State::Backoff(backoff),
            Transition::Limited(limited) => State::Limited(limited),
            Transition::HighRateProbe(probe) => State::HighRateProbe(probe),
            Transition::LowRateProbe(probe) => State::LowRateProbe(probe),
            Transition::Outage(outage) => State::Outage(outage),
            Transition::Unlimited(random) => {
                self.random = random;
                State::Unlimited
            }
        };
        self.next_send = now;
        self.waits = WaitCount::default();
        self.latest = LatestAnswers::default();
    }
}

/// The times of the latest refusals.
#[derive(Debug, Default)]
struct RefusalTimes {
    times: [f64; REFUSALS as usize],
    count: usize,
}

impl RefusalTimes {
    /// Adds a refusal. Returns the number of seconds in which the latest ten came.
    fn add(&mut self, now: f64) -> f64 {
        let oldest = std::mem::replace(&mut self.times[self.count % REFUSALS as usize], now);
        self.count += 1;
        now - if self.count > REFUSALS as usize { oldest } else { self.times[0] }
    }
}

/// How many of the latest requests had to wait for the rate.
#[derive(Debug, Default)]
struct WaitCount {
    /// A request has waited since the state began.
    any: bool,
    /// The next request has waited.
    is_waiting: bool,
    sent: u32,
    waited: u32,
}

impl WaitCount {
    /// Counts a request that is sent. After every [`SENT`] requests returns whether the rate binds.
    fn count_sent(&mut self) -> Option<bool> {
        self.sent += 1;
        self.waited += u32::from(std::mem::take(&mut self.is_waiting));
        if self.sent < SENT {
            return None;
        }
        let binds = self.waited > MAX_WAITED;
        (self.sent, self.waited) = (0, 0);
        Some(binds)
    }
}
