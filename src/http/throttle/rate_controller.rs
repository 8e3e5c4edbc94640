//! How fast a client may ask while the service refuses it (429, 503): arithmetic only, over times in seconds.
//!
//! A service that is over its quota refuses requests and does not say what the quota is. Clients do not know of each other.
//! And some services refuse by chance, whatever the rate (a partition that moves, a proxy in trouble): then a lower rate is
//! of no use. One client among many cannot tell chance from a quota by itself, since its own requests make hardly a
//! difference. So clients change their rates at the same moments: at multiples of half a second of the wall clock.
//!
//! A controller is in one of these states (`states`):
//!
//! * **Unlimited**, until too many of the latest answers are refusals.
//! * **Waiting**: refusals came before any request was granted. Refusals may take less time than other answers, so these
//!   prove nothing yet. A few requests per second go out until the time of a granted request is known.
//! * **Onset**: the rate is a quarter of the demand, and the answers are compared with those before
//!   ([`Comparison`](super::evidence::Comparison)). If clearly fewer are refused, there is a quota. If not, a probe follows.
//!   All clients with equal demand begin at the same rate, so their shares are equal from the start. The refusals before
//!   tell too little to find a share by.
//! * **Limited**: the client asks for its share of the quota, which [`QuotaShare`](super::quota_share::QuotaShare) finds.
//! * **Probe**: for a moment the client asks for its whole demand, together with all others that are in doubt. If no more is
//!   refused, refusals are chance, and the client has no limit.
//! * **Look**: a client that believes in chance asks for a quarter for a moment, together with all others that do; with each
//!   confirmation half as often. If fewer are refused, there is a quota after all.
//! * **Outage**: everything is refused. A few requests per second ask whether it is over. Then the rate doubles after every
//!   few granted requests until it is the demand.
//!
//! All numbers were found by simulating 1 to 16 clients with 1 to 64 requests in flight each, on busy processors
//! (`simulation`). Change none of them without it.

use super::demand::DemandEstimator;
use super::evidence::LatestAnswers;
use super::states::{Belief, LATEST, Limited, Look, Next, OUTAGE_RATE, Onset, Outage, Probe};

/// So many refusals are too many if they come within so many answers (40 %), or twice as many within 128 (16 %). Fewer cost
/// less than a limit that is wrong.
pub(super) const REFUSALS: u32 = 10;
const WITHIN: u32 = 24;
const MORE_REFUSALS: u32 = 20;
/// A refusal with `Retry-After` is the service's own word for a quota, and holds its request up: this many are enough.
const TOLD_REFUSALS: u32 = 4;
/// Clients probe at odd multiples of this time of the wall clock, and look at even multiples. In seconds.
const TOGETHER: f64 = 0.5;
/// A look needs this many answers without a limit. No more than `MOST_BEFORE` are kept.
const LEAST_BEFORE: u32 = 16;
const MOST_BEFORE: u32 = 256;
/// If fewer than `LEAST` of `LEAST_OF` answers are refusals, there is nothing to look for.
const LEAST: u32 = 2;
const LEAST_OF: u32 = 128;
/// If the share of refusals is higher by this than chance has shown, something else has begun.
const MUCH_MORE: f64 = 0.3;
/// A limit under which no more than `FEW_WAITED` of `TURNS` requests had to wait does not bind.
const TURNS: u32 = 12;
const FEW_WAITED: u32 = 2;
/// After so many seconds without a grant the first refusals were an outage and prove nothing of a quota.
const WAITED_LONG: f64 = 1.0;
/// Seconds of lateness that are made up for. Timers are no more exact than `CATCH_UP`. Up to a turn is made up for, since a
/// process that gets the processor late would have less of the quota than its rate says.
const CATCH_UP: f64 = 0.01;
const MOST_CATCH_UP: f64 = 0.1;

/// What a client knows of its quota. Times are in seconds since it began.
#[derive(Debug)]
pub(super) struct RateController {
    state: State,
    latest: LatestAnswers,
    refusals: RefusalTimes,
    /// While it is unlimited.
    belief: Option<Belief>,
    next_turn: f64,
    waits: Waits,
    /// When `State::Waiting` began.
    waits_since: f64,
    /// The wall clock's seconds at the time 0.
    wall_clock: f64,
    /// The number of the latest time at which clients act together.
    together: f64,
}

#[derive(Debug)]
enum State {
    Unlimited,
    Waiting,
    Onset(Onset),
    Limited(Limited),
    Probe(Probe),
    Look(Look),
    Outage(Outage),
}

/// How the service answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Refused,
    /// With `Retry-After`.
    AskedToWait,
}

impl RateController {
    pub(super) fn new(wall_clock: f64) -> Self {
        Self {
            state: State::Unlimited,
            latest: LatestAnswers::default(),
            refusals: RefusalTimes::default(),
            belief: None,
            next_turn: 0.0,
            waits: Waits::default(),
            waits_since: 0.0,
            wall_clock,
            together: (wall_clock / TOGETHER).floor(),
        }
    }

    /// Requests per second, while there is a limit.
    pub(super) fn per_second(&self) -> Option<f64> {
        match &self.state {
            State::Unlimited => None,
            State::Waiting => Some(OUTAGE_RATE),
            State::Onset(onset) => Some(onset.rate),
            State::Limited(limited) => Some(limited.share.rate()),
            State::Probe(probe) => Some(probe.demand),
            State::Look(look) => Some(look.rate),
            State::Outage(outage) => Some(outage.rate),
        }
    }

    pub(super) fn is_limited(&self) -> bool {
        !matches!(self.state, State::Unlimited)
    }

    /// Whether there is a limit, and requests are granted under it. Then the limit alone spaces a refused request's next try.
    pub(super) fn paces_retries(&self) -> bool {
        match &self.state {
            State::Unlimited | State::Waiting | State::Probe(_) => false,
            State::Outage(outage) => outage.sample.refused < outage.sample.answers,
            _ => {
                let latest = self.latest.last(8);
                // An onset comes after grants.
                latest.answers < 8 || latest.refused <= 6
            }
        }
    }

    /// Whether refusals are believed to be chance, so that a retry is as welcome as any request.
    pub(super) fn believes_in_chance(&self) -> bool {
        self.belief.is_some() || matches!(self.state, State::Look(_))
    }

    /// The wall clock's seconds at the time 0. It may have been set since.
    pub(super) fn set_wall_clock(&mut self, wall_clock: f64) {
        self.wall_clock = wall_clock;
    }

    /// The service failed a request without refusing it.
    pub(super) fn failed(&mut self) {
        if let State::Limited(limited) = &mut self.state {
            limited.failed();
        }
    }

    #[cfg(test)]
    pub(super) fn slow_down_to(&mut self, rate: f64) {
        self.state = State::Limited(Limited::new(self.next_turn, rate, rate));
    }

    /// How long the next request has to wait; when 0, it goes now.
    pub(super) fn take_turn(&mut self, now: f64) -> f64 {
        if let State::Limited(limited) = &mut self.state {
            limited.share.advance(now);
            if limited.share.is_of_no_use() {
                self.follow(now, Next::Unlimited(None));
            }
        }
        let Some(rate) = self.per_second() else { return 0.0 };
        self.next_turn = self.next_turn.max(now - (1.0 / rate).clamp(CATCH_UP, MOST_CATCH_UP));
        let wait = self.next_turn - now;
        if wait > 0.0 {
            (self.waits.waits, self.waits.any) = (true, true);
            if let State::Limited(limited) = &mut self.state {
                limited.share.waited();
            }
            return wait;
        }
        // At even intervals two clients of one rate keep step, and the same one finds the quota used up each time.
        self.next_turn += (0.5 + fastrand::f64()) / rate;
        let binds = self.waits.turn_taken();
        if let State::Onset(onset) = &mut self.state
            && binds == Some(false)
            && onset.is_in_vain()
        {
            onset.slow_down(now);
            self.next_turn = now;
        }
        0.0
    }

    /// `count` requests were granted while there was no limit.
    pub(super) fn granted_unlimited(&mut self, count: u64) {
        self.latest.add_granted(count);
        if let Some(belief) = &mut self.belief {
            belief.before.add_granted(count);
        }
    }

    /// One answer to a request that was sent at `sent`; granted ones only while there is a limit. `demand` tells
    /// what the client would ask without one.
    pub(super) fn answered(&mut self, now: f64, sent: f64, answer: Answer, demand: &DemandEstimator) {
        let refused = answer != Answer::Granted;
        self.latest.add(refused);
        let took = if refused { self.refusals.add(now) } else { 0.0 };
        let together = ((now + self.wall_clock) / TOGETHER).floor();
        // Once for each.
        let time = (std::mem::replace(&mut self.together, together) != together).then_some(together);
        let (probes, looks) = (time.is_some_and(|time| time % 2.0 == 1.0), time.filter(|time| time % 2.0 == 0.0));
        let next = match &mut self.state {
            State::Unlimited if refused => self.refused_unlimited(now, took, answer, looks, demand),
            State::Unlimited => Next::GoOn,
            State::Waiting => {
                if !demand.is_known() {
                    Next::GoOn
                } else if now - self.waits_since > WAITED_LONG {
                    Next::Unlimited(None)
                } else {
                    // The answers so far keep their weight.
                    self.state = State::Unlimited;
                    Next::GoOn
                }
            }
            State::Onset(onset) => onset.answered(now, sent, refused, probes),
            State::Limited(limited) => limited.answered(now, sent, refused, probes, &self.latest, took),
            State::Probe(probe) => probe.answered(now, sent, refused),
            State::Look(look) => look.answered(sent, refused, self.waits.any),
            State::Outage(outage) => outage.answered(now, sent, refused),
        };
        self.follow(now, next);
    }

    fn refused_unlimited(
        &mut self,
        now: f64,
        took: f64,
        answer: Answer,
        looks: Option<f64>,
        demand: &DemandEstimator,
    ) -> Next {
        let Some(belief) = &mut self.belief else {
            let count = if answer == Answer::AskedToWait { TOLD_REFUSALS } else { REFUSALS };
            let many = self.latest.since_refusal(count).filter(|sample| sample.answers < WITHIN);
            let Some(before) = many.or(self.latest.since_refusal(MORE_REFUSALS)) else { return Next::GoOn };
            if demand.is_known() {
                return Next::Onset(Onset::new(now, demand.per_second(), before, took));
            }
            (self.state, self.next_turn, self.waits_since) = (State::Waiting, now, now);
            return Next::GoOn;
        };
        belief.before.add(true);
        belief.before.fade(MOST_BEFORE);
        let belief = *belief;
        let (all, most) = (self.latest.last(LATEST), belief.before.share() + MUCH_MORE);
        let few = self.latest.last(LEAST_OF);
        if (few.answers == LEAST_OF && few.refused < LEAST) || (all.answers == LATEST && all.share() > most) {
            // Something else has begun.
            self.belief = None;
        } else if looks.is_some_and(|time| time % f64::from(2 << belief.times) == 0.0)
            && belief.before.answers >= LEAST_BEFORE
        {
            let since = self.together * TOGETHER - self.wall_clock;
            return Next::Look(Look::new(since, demand.per_second(), belief));
        }
        Next::GoOn
    }

    fn follow(&mut self, now: f64, next: Next) {
        self.state = match next {
            Next::GoOn => return,
            Next::Onset(onset) => State::Onset(onset),
            Next::Limited(limited) => State::Limited(limited),
            Next::Probe(probe) => State::Probe(probe),
            Next::Look(look) => State::Look(look),
            Next::Outage(outage) => State::Outage(outage),
            Next::Unlimited(belief) => {
                self.belief = belief;
                State::Unlimited
            }
        };
        self.next_turn = now;
        self.waits = Waits::default();
        self.latest = LatestAnswers::default();
    }
}

/// When the latest refusals came.
#[derive(Debug, Default)]
struct RefusalTimes {
    times: [f64; REFUSALS as usize],
    count: usize,
}

impl RefusalTimes {
    /// Notes one; in how many seconds the latest ten came.
    fn add(&mut self, now: f64) -> f64 {
        let oldest = std::mem::replace(&mut self.times[self.count % REFUSALS as usize], now);
        self.count += 1;
        now - if self.count > REFUSALS as usize { oldest } else { self.times[0] }
    }
}

/// How many of the latest requests had to wait for their turn.
#[derive(Debug, Default)]
struct Waits {
    /// Since the state began.
    any: bool,
    waits: bool,
    turns: u32,
    waited: u32,
}

impl Waits {
    /// Counts a request that goes out; of each few of them, whether any number had to wait.
    fn turn_taken(&mut self) -> Option<bool> {
        self.turns += 1;
        self.waited += u32::from(std::mem::take(&mut self.waits));
        if self.turns < TURNS {
            return None;
        }
        let binds = self.waited > FEW_WAITED;
        (self.turns, self.waited) = (0, 0);
        Some(binds)
    }
}
