//! How fast a client may ask while the service refuses it (429, 503): arithmetic only, over times in seconds.
//!
//! A service that is over its quota refuses requests and says nothing of the quota; clients do not know of each other. And
//! some services refuse by chance, whatever the rate (a partition that moves, a proxy in trouble): going slower would be
//! of no use. One client among many cannot tell these apart by itself, since what it asks makes hardly a difference. So
//! clients try it together, at multiples of half a second of the wall clock. A controller is in one of these states:
//!
//! * **Unlimited**, until too many of the latest answers are refusals.
//! * **Waiting**: refusals came before any request was granted. They may come sooner than other answers do, so that they
//!   prove nothing yet; some requests a second go out until it is known how long those take.
//! * **Onset**: the rate is a quarter of the demand at once, and the answers are compared with those before ([`Comparison`]).
//!   If clearly fewer are refused, it is a quota. If not, a probe follows. All clients with equal demand begin at the same
//!   rate, so that their shares are equal from the start: the refusals before tell too little to find one's share by.
//! * **Limited**: the client's share of the quota, found by [`QuotaShare`].
//! * **Probe**: for a moment the client asks for more, together with all others that are in doubt. If no more is refused, it
//!   is chance: the client is unlimited, and believes so.
//! * **Look**: a client that believes in chance asks for a quarter for a moment, together with all others that do, more and
//!   more rarely. If fewer are refused, it was a quota after all.
//! * **Outage**: everything is refused. Some requests a second ask whether it is over; then the rate doubles after each few
//!   granted requests until it is the demand.
//!
//! What each number is for was found by simulating 1 to 16 clients with 1 to 64 requests in flight each, on busy
//! processors (`simulation`). Change none of them without it.

use super::demand::DemandEstimator;
use super::evidence::{Change, Comparison, LatestAnswers, Sample, Verdict};
use super::quota_share::QuotaShare;

/// So many refusals are too many if they come within so many answers (40 %), or twice as many within more (16 %). Fewer cost
/// less than a limit that is wrong.
const REFUSALS: u32 = 10;
const WITHIN: u32 = 24;
const MORE_REFUSALS: u32 = 20;
/// A refusal with `Retry-After` is the service's own word for it, and each one holds its request up: these are enough.
const TOLD_REFUSALS: u32 = 4;
/// Answers that are looked back on.
const LATEST: u32 = 96;
/// What an onset, and a look, divide the rate by.
const CUT: f64 = 4.0;
const SMALL_CUT: f64 = 2.0;
/// An onset ignores requests that were sent in its first seconds, as long as the refusals before it took to come: for so
/// long other clients may take as well.
const SETTLE: (f64, f64) = (0.05, 0.5);
/// After so many times as long, within these bounds, and after so many answers, it is in doubt if as many are refused.
const DOUBT_TIMES: f64 = 4.0;
const DOUBT: (f64, f64) = (0.2, 1.0);
const ONSET_ANSWERS: u32 = 24;
const AS_MANY: f64 = 0.5;
const MANY: f64 = 0.25;
/// More than this is still refused of a quarter: the quota is even smaller.
const STILL_MANY: f64 = 0.35;
const STILL_MOST: f64 = 0.6;
const STILL_MANY_ANSWERS: u32 = 12;
/// Clients probe at odd multiples of so many seconds of the wall clock, and look at even ones.
const TOGETHER: f64 = 0.5;
/// Each confirmation doubles the time between looks, so many times.
const RAREST: u32 = 4;
/// A look ignores requests that were sent in the first of these seconds, and ends with the last.
const LOOK_SETTLE: f64 = 0.15;
const LOOK_END: f64 = 0.45;
/// The answers that are kept of the time without a limit, and of looks; and how many are needed for a look.
const MOST_BEFORE: u32 = 256;
const MOST_AFTER: u32 = 128;
const LEAST_BEFORE: u32 = 16;
/// With fewer refusals than this among so many answers there is nothing to look for.
const LEAST: u32 = 2;
const LEAST_OF: u32 = 128;
/// With so much more refused than chance has shown, it is something else.
const MUCH_MORE: f64 = 0.3;
/// While limited, so many refusals of the latest answers are too many, and so many mostly refused ones mean a deep fall of the
/// quota.
const LIMITED_REFUSALS: u32 = 25;
const DEEP_REFUSALS: u32 = 20;
/// Chance is not believed to refuse more than this.
const MOST_CHANCE: f64 = 0.5;
/// A probe ignores requests that were sent in its first seconds, in which what the service has saved up is used up, and
/// counts so many answers at most.
const PROBE_SETTLE: f64 = 0.1;
const PROBE_ANSWERS: u32 = 64;
const PROBE_END: f64 = 0.5;
/// An outage: so many answers, all refused, and some time of it. Then so many requests per second ask whether it is over.
const OUTAGE_ANSWERS: u32 = 12;
const OUTAGE_SECONDS: f64 = 0.04;
const OUTAGE_RATE: f64 = 20.0;
/// So many more granted than refused double the rate after an outage; so many refusals and nothing granted mean that it goes
/// on.
const SLOW_START: u32 = 3;
const ALL_REFUSED: u32 = 6;
/// A limit that makes hardly any of so many requests wait does not bind, so that an onset would prove nothing.
const TURNS: u32 = 12;
const FEW_WAITED: u32 = 2;
const RARE: f64 = 0.1;
/// Lateness that is made up for, since timers are no more exact than this; and up to a turn, since a process that gets
/// the processor late would have less of the quota than its rate says.
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

/// That refusals are chance: the answers without a limit, and those at a lower rate.
#[derive(Clone, Copy, Debug)]
struct Belief {
    before: Sample,
    after: Sample,
    /// How often it was confirmed.
    times: u32,
}

#[derive(Debug)]
struct Onset {
    rate: f64,
    /// What the client would ask without a limit.
    demand: f64,
    since: f64,
    settle: f64,
    doubt: f64,
    comparison: Comparison,
    /// It is a quota for certain, and only how large is not known, for which so many answers are enough.
    is_certain: bool,
    enough: u32,
}

#[derive(Debug)]
struct Limited {
    share: QuotaShare,
    demand: f64,
}

#[derive(Debug)]
struct Probe {
    demand: f64,
    since: f64,
    comparison: Comparison,
    /// The rate to go back to.
    share: f64,
}

#[derive(Debug)]
struct Look {
    rate: f64,
    demand: f64,
    since: f64,
    comparison: Comparison,
    times: u32,
}

#[derive(Debug)]
struct Outage {
    rate: f64,
    demand: f64,
    since: f64,
    sample: Sample,
}

/// How the service answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Refused,
    /// With `Retry-After`.
    AskedToWait,
}

/// What follows an answer.
enum Next {
    GoOn,
    Onset(Onset),
    Limited(Limited),
    Probe(Probe),
    Look(Look),
    Outage(Outage),
    Unlimited(Option<Belief>),
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
            State::Unlimited | State::Waiting => false,
            State::Outage(outage) => outage.sample.refused < outage.sample.answers,
            _ => self.latest.last(8).answers < 8 || self.latest.last(8).refused <= 6,
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
                self.state = State::Unlimited;
            }
        }
        let Some(rate) = self.per_second() else { return 0.0 };
        self.next_turn = self.next_turn.max(now - (1.0 / rate).clamp(CATCH_UP, MOST_CATCH_UP));
        let wait = self.next_turn - now;
        if wait > 0.0 {
            self.waits.waits = true;
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
                if demand.is_known() {
                    // The answers so far keep their weight.
                    self.state = State::Unlimited;
                }
                Next::GoOn
            }
            State::Onset(onset) => onset.answered(now, sent, refused, probes),
            State::Limited(limited) => limited.answered(now, sent, refused, probes, &self.latest, took),
            State::Probe(probe) => probe.answered(now, sent, refused),
            State::Look(look) => look.answered(sent, refused),
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
            if many.is_some() && !demand.is_known() {
                (self.state, self.next_turn) = (State::Waiting, now);
                return Next::GoOn;
            }
            return match many.or(self.latest.since_refusal(MORE_REFUSALS)) {
                Some(before) => Next::Onset(Onset::new(now, demand.per_second(), before, took)),
                None => Next::GoOn,
            };
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

impl Onset {
    /// After refusals that took so many seconds to come.
    fn new(now: f64, demand: f64, before: Sample, took: f64) -> Self {
        Self {
            rate: demand / CUT,
            demand,
            since: now,
            settle: took.clamp(SETTLE.0, SETTLE.1),
            doubt: (DOUBT_TIMES * took).clamp(DOUBT.0, DOUBT.1),
            comparison: Comparison::new(Change::AsksLess, before, Sample::default()),
            is_certain: before.share() > MOST_CHANCE,
            enough: ONSET_ANSWERS,
        }
    }

    /// Of a quota that is known to be one.
    fn certain(now: f64, rate: f64, demand: f64, before: Sample, took: f64) -> Self {
        Self { rate, is_certain: true, enough: STILL_MANY_ANSWERS, ..Self::new(now, demand, before, took) }
    }

    /// Whether a rate that does not bind is too high to prove something. Without refusals it need not bind. And where all is
    /// refused, it is the pauses of the requests that keep the client below it.
    fn is_in_vain(&self) -> bool {
        let Sample { answers, refused } = self.comparison.after;
        refused < answers && self.comparison.after.share() > RARE
    }

    fn slow_down(&mut self, now: f64) {
        self.rate /= CUT;
        (self.since, self.settle) = (now, SETTLE.0);
        self.comparison.after = Sample::default();
    }

    fn answered(&mut self, now: f64, sent: f64, refused: bool, probes: bool) -> Next {
        let into = sent - self.since;
        if into <= self.settle {
            return Next::GoOn;
        }
        let verdict = self.comparison.add(refused);
        let Comparison { before, after, .. } = self.comparison;
        if after.answers >= OUTAGE_ANSWERS && after.refused == after.answers && into > OUTAGE_SECONDS {
            return Next::Outage(Outage::new(now, self.rate.min(OUTAGE_RATE), self.demand));
        }
        let is_many = after.share() > STILL_MANY && after.answers >= STILL_MANY_ANSWERS;
        let (enough, as_many) = match self.is_certain {
            true => (self.enough, 0.0),
            false => (ONSET_ANSWERS, (AS_MANY * before.share()).max(MANY)),
        };
        let is_doubtful = after.answers >= enough && into > self.doubt;
        match verdict {
            Some(Verdict::Quota) if is_many => self.ask_even_less(now),
            Some(Verdict::Quota) => self.limit(now),
            _ if !is_doubtful => Next::GoOn,
            _ if self.is_certain && is_many => self.ask_even_less(now),
            _ if self.is_certain || after.share() < as_many => self.limit(now),
            _ if probes => Next::Probe(Probe::new(now, self.demand, after, self.rate)),
            _ => Next::GoOn,
        }
    }

    fn limit(&self, now: f64) -> Next {
        Next::Limited(Limited::new(now, self.rate, self.demand))
    }

    /// Much is refused of this rate, too: of a quota that is even smaller.
    fn ask_even_less(&self, now: f64) -> Next {
        let after = self.comparison.after;
        let cut = if after.share() > STILL_MOST { CUT } else { SMALL_CUT };
        Next::Onset(Self::certain(now, self.rate / cut, self.demand, after, SETTLE.0))
    }
}

impl Limited {
    fn new(now: f64, rate: f64, demand: f64) -> Self {
        Self { share: QuotaShare::new(now, rate), demand }
    }

    fn without_climb(self) -> Self {
        Self { share: self.share.without_climb(), ..self }
    }

    fn answered(
        &mut self,
        now: f64,
        sent: f64,
        refused: bool,
        probes: bool,
        latest: &LatestAnswers,
        took: f64,
    ) -> Next {
        let share = &mut self.share;
        share.advance(now);
        if refused {
            share.refused(sent, latest.since_refusal(4).map_or(0.0, Sample::share));
        }
        let (rate, all) = (share.rate(), latest.last(LATEST));
        if probes && all.answers == LATEST && all.refused >= LIMITED_REFUSALS {
            return Next::Probe(Probe::new(now, self.demand, all, rate));
        }
        match latest.since_refusal(DEEP_REFUSALS) {
            Some(many) if refused && many.share() > STILL_MOST => {
                Next::Onset(Onset::certain(now, rate / CUT, self.demand, many, took))
            }
            _ => Next::GoOn,
        }
    }
}

impl Probe {
    fn new(now: f64, demand: f64, before: Sample, share: f64) -> Self {
        let comparison = Comparison::new(Change::AsksMore, before, Sample::default());
        Self { demand, since: now, comparison, share }
    }

    fn answered(&mut self, now: f64, sent: f64, refused: bool) -> Next {
        let into = sent - self.since;
        if into <= PROBE_SETTLE {
            return Next::GoOn;
        }
        let verdict = self.comparison.add(refused);
        let after = self.comparison.after;
        match verdict {
            Some(Verdict::Chance) => {
                Next::Unlimited(Some(Belief { before: after, after: Sample::default(), times: 0 }))
            }
            None if after.answers < PROBE_ANSWERS && into < PROBE_END => Next::GoOn,
            _ => Next::Limited(Limited::new(now, self.share, self.demand).without_climb()),
        }
    }
}

impl Look {
    fn new(since: f64, demand: f64, belief: Belief) -> Self {
        let comparison = Comparison::new(Change::AsksLess, belief.before, belief.after);
        Self { rate: demand / CUT, demand, since, comparison, times: belief.times }
    }

    fn answered(&mut self, sent: f64, refused: bool) -> Next {
        let into = sent - self.since;
        if into <= LOOK_SETTLE {
            return Next::GoOn;
        }
        let verdict = self.comparison.add(refused);
        if verdict == Some(Verdict::Quota) {
            return Next::Limited(Limited::new(sent, self.rate, self.demand));
        }
        if into <= LOOK_END {
            return Next::GoOn;
        }
        let Comparison { before, mut after, .. } = self.comparison;
        after.fade(MOST_AFTER);
        let times = self.times + u32::from(verdict == Some(Verdict::Chance));
        Next::Unlimited(Some(Belief { before, after, times: times.min(RAREST) }))
    }
}

impl Outage {
    fn new(now: f64, rate: f64, demand: f64) -> Self {
        Self { rate, demand, since: now, sample: Sample::default() }
    }

    fn answered(&mut self, now: f64, sent: f64, refused: bool) -> Next {
        if sent < self.since {
            return Next::GoOn;
        }
        if !refused && self.sample.refused == self.sample.answers {
            // What was refused before this belongs to the outage.
            self.sample = Sample::default();
        }
        self.sample.add(refused);
        let Sample { answers, refused } = self.sample;
        if answers == refused && refused >= ALL_REFUSED {
            return Next::Outage(Self::new(now, self.rate.min(OUTAGE_RATE), self.demand));
        }
        if answers < SLOW_START + refused {
            return Next::GoOn;
        }
        if refused * 2 > answers {
            return Next::Limited(Limited::new(now, self.rate / 2.0, self.demand));
        }
        if self.rate >= self.demand {
            return Next::Unlimited(None);
        }
        Next::Outage(Self::new(now, self.rate * 2.0, self.demand))
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
