//! The states of a [`RateController`](super::rate_controller::RateController) that have figures of their own, and what an
//! answer changes about them. Times are in seconds since the client began, rates in requests per second.

use super::evidence::{Change, Comparison, LatestAnswers, Sample, Verdict};
use super::quota_share::QuotaShare;

/// The latest answers by which a limited client judges its rate, and the refusals among them that lead to a probe: 26 %.
pub(super) const LATEST: u32 = 96;
const LIMITED_REFUSALS: u32 = 25;
/// Where the rate is less than the demand by this factor, so many answers would take too long. There it is this many refusals
/// within this many answers: 33 %.
const SLOW: f64 = 10.0;
const MANY_REFUSALS: u32 = 13;
const MANY_WITHIN: u32 = 40;
/// If little is left of the rate, this many of the latest answers are enough.
const ERODED_REFUSALS: u32 = 5;
/// If the latest refusals, this many, came with hardly a grant between them, the quota has fallen far.
const DEEP_REFUSALS: u32 = 20;
/// What an onset, and a look, divide the rate by.
const CUT: f64 = 4.0;
const SMALL_CUT: f64 = 2.0;
const MOST_CUT: f64 = 1024.0;
/// An onset ignores requests that were sent in its first seconds: as many as the refusals before it took to come, within
/// these bounds. Other clients may need as long to notice.
const SETTLE: (f64, f64) = (0.05, 0.5);
/// An onset is in doubt after `DOUBT_TIMES` as long, within these bounds, and after `ONSET_ANSWERS`, if at least `AS_MANY`
/// of the share before, and at least `MANY` of all, are still refused.
const DOUBT_TIMES: f64 = 4.0;
const DOUBT: (f64, f64) = (0.2, 1.0);
const ONSET_ANSWERS: u32 = 24;
const AS_MANY: f64 = 0.6;
const MANY: f64 = 0.25;
/// It ends when nothing was refused for this many seconds and answers, however few those are.
const ONSET_END: f64 = 5.0;
const ONSET_LEAST_ANSWERS: u32 = 4;
/// Requests per second of an onset at least.
const ONSET_SLOWEST: f64 = 1.0;
/// The answers that an onset keeps.
const MOST_ONSET_ANSWERS: u32 = 512;
/// Chance is not believed to refuse more than this share.
const MOST_CHANCE: f64 = 0.5;
/// If more than this share of a quarter is refused, the quota is even smaller; if more than `STILL_MOST`, far smaller.
const STILL_MANY: f64 = 0.35;
const STILL_MOST: f64 = 0.6;
const STILL_MANY_ANSWERS: u32 = 12;
/// A rate that has brought the share of refusals down by less than this helps no more when it is lower still.
const LESS: f64 = 0.8;
/// Below this share of refusals a rate need not bind to prove something.
const RARE: f64 = 0.1;
/// A probe ignores requests that were sent in its first seconds, while the service has some of its quota saved up. It ends
/// after `PROBE_ANSWERS`, or `PROBE_END` seconds.
const PROBE_SETTLE: f64 = 0.1;
const PROBE_ANSWERS: u32 = 64;
const PROBE_END: f64 = 0.5;
/// But a client with little demand needs more time for this many answers, within `PROBE_LAST_END` seconds.
const PROBE_LEAST_ANSWERS: u32 = 16;
const PROBE_LAST_END: f64 = 10.0;
/// A look ignores requests that were sent before `LOOK_SETTLE`, and ends at `LOOK_END`. In seconds.
const LOOK_SETTLE: f64 = 0.15;
const LOOK_END: f64 = 0.45;
/// The answers to looks that are kept.
const MOST_AFTER: u32 = 128;
/// The time between looks doubles at most so many times.
const RAREST: u32 = 4;
/// It is an outage if this many answers, to requests that were sent over this many seconds, are all refusals.
const OUTAGE_ANSWERS: u32 = 12;
const OUTAGE_SECONDS: f64 = 0.04;
/// Requests per second that ask whether an outage is over.
pub(super) const OUTAGE_RATE: f64 = 20.0;
/// After an outage this many granted requests double the rate. This many refusals without a grant mean that it goes on.
const SLOW_START: u32 = 3;
const ALL_REFUSED: u32 = 6;

/// That refusals are chance: the answers without a limit, and those at a lower rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Belief {
    pub(super) before: Sample,
    after: Sample,
    /// How often it was confirmed.
    pub(super) times: u32,
    /// What a look divides the rate by.
    cut: f64,
}

#[derive(Debug)]
pub(super) struct Onset {
    pub(super) rate: f64,
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
pub(super) struct Limited {
    pub(super) share: QuotaShare,
    demand: f64,
}

#[derive(Debug)]
pub(super) struct Probe {
    pub(super) demand: f64,
    since: f64,
    comparison: Comparison,
    /// The rate to go back to.
    share: f64,
}

#[derive(Debug)]
pub(super) struct Look {
    pub(super) rate: f64,
    demand: f64,
    since: f64,
    comparison: Comparison,
    belief: Belief,
}

#[derive(Debug)]
pub(super) struct Outage {
    pub(super) rate: f64,
    demand: f64,
    since: f64,
    pub(super) sample: Sample,
}

/// What follows an answer.
pub(super) enum Next {
    GoOn,
    Onset(Onset),
    Limited(Limited),
    Probe(Probe),
    Look(Look),
    Outage(Outage),
    Unlimited(Option<Belief>),
}

impl Onset {
    /// After refusals that took so many seconds to come.
    pub(super) fn new(now: f64, demand: f64, before: Sample, took: f64) -> Self {
        Self {
            rate: (demand / CUT).max(ONSET_SLOWEST),
            demand,
            since: now,
            settle: took.clamp(SETTLE.0, SETTLE.1),
            doubt: (DOUBT_TIMES * took).clamp(DOUBT.0, DOUBT.1),
            comparison: Comparison::new(Change::AsksLess, before, Sample::default()),
            is_certain: false,
            enough: ONSET_ANSWERS,
        }
    }

    /// Of a quota that is known to be one.
    fn certain(now: f64, rate: f64, demand: f64, before: Sample, took: f64) -> Self {
        Self {
            rate: rate.max(ONSET_SLOWEST),
            is_certain: true,
            enough: STILL_MANY_ANSWERS,
            ..Self::new(now, demand, before, took)
        }
    }

    /// Whether a rate that does not bind is too high to prove something. Without refusals it need not bind. And where all is
    /// refused, it is the pauses of the requests that keep the client below it.
    pub(super) fn is_in_vain(&self) -> bool {
        let Sample { answers, refused } = self.comparison.after;
        refused < answers && self.comparison.after.share() > RARE
    }

    pub(super) fn slow_down(&mut self, now: f64) {
        self.rate = (self.rate / SMALL_CUT).max(ONSET_SLOWEST);
        (self.since, self.settle) = (now, SETTLE.0);
        self.comparison.after = Sample::default();
    }

    pub(super) fn answered(&mut self, now: f64, sent: f64, refused: bool, probes: bool) -> Next {
        let into = sent - self.since;
        if into <= self.settle {
            return Next::GoOn;
        }
        let verdict = self.comparison.add(refused);
        self.comparison.after.fade(MOST_ONSET_ANSWERS);
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
            _ if into > ONSET_END && after.refused == 0 && after.answers >= ONSET_LEAST_ANSWERS => self.limit(now),
            _ if !is_doubtful => Next::GoOn,
            _ if self.is_certain && is_many && after.share() < LESS * before.share() => self.ask_even_less(now),
            _ if self.is_certain || after.share() < as_many => self.limit(now),
            _ if probes => Next::Probe(Probe::new(now, self.demand, after, self.rate)),
            _ => Next::GoOn,
        }
    }

    fn limit(&self, now: f64) -> Next {
        Next::Limited(Limited::new(now, self.rate, self.demand))
    }

    fn ask_even_less(&self, now: f64) -> Next {
        Next::Onset(Self::lower(now, self.rate, self.demand, self.comparison.after))
    }

    /// Below this rate, of which so much is refused: of a quota that is even smaller.
    fn lower(now: f64, rate: f64, demand: f64, before: Sample) -> Self {
        let cut = if before.share() > STILL_MOST { CUT } else { SMALL_CUT };
        Self::certain(now, rate / cut, demand, before, SETTLE.0)
    }
}

impl Limited {
    pub(super) fn new(now: f64, rate: f64, demand: f64) -> Self {
        Self { share: QuotaShare::new(now, rate), demand }
    }

    /// The service failed a request without refusing it.
    pub(super) fn failed(&mut self) {
        self.share.failed();
    }

    fn without_climb(self) -> Self {
        Self { share: self.share.without_climb(), ..self }
    }

    pub(super) fn answered(
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
        let is_many = all.answers == LATEST && all.refused >= LIMITED_REFUSALS;
        let is_slow = rate * SLOW < self.demand;
        let many = latest.since_refusal(MANY_REFUSALS).filter(|many| is_slow && many.answers < MANY_WITHIN);
        let is_in_vain = share.has_eroded() && all.answers == LATEST && all.refused >= ERODED_REFUSALS;
        if let Some(before) = many.or((is_many || is_in_vain).then_some(all))
            && probes
        {
            // The demand may have grown since.
            return Next::Probe(Probe::new(now, self.demand.max(2.0 * rate), before, rate));
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

    pub(super) fn answered(&mut self, now: f64, sent: f64, refused: bool) -> Next {
        let into = sent - self.since;
        if into <= PROBE_SETTLE {
            return Next::GoOn;
        }
        let verdict = self.comparison.add(refused);
        let Comparison { before, after, .. } = self.comparison;
        match verdict {
            Some(Verdict::Chance) if after.share() <= MOST_CHANCE => {
                Next::Unlimited(Some(Belief { before: after, after: Sample::default(), times: 0, cut: CUT }))
            }
            None if after.answers < PROBE_LEAST_ANSWERS && into < PROBE_LAST_END => Next::GoOn,
            None if after.answers < PROBE_ANSWERS && into < PROBE_END => Next::GoOn,
            _ if before.share() > STILL_MANY => Next::Onset(Onset::lower(now, self.share, self.demand, before)),
            _ => Next::Limited(Limited::new(now, self.share, self.demand).without_climb()),
        }
    }
}

impl Look {
    pub(super) fn new(since: f64, demand: f64, belief: Belief) -> Self {
        let comparison = Comparison::new(Change::AsksLess, belief.before, belief.after);
        Self { rate: demand / belief.cut, demand, since, comparison, belief }
    }

    /// `binds`: whether the rate has made a request wait.
    pub(super) fn answered(&mut self, sent: f64, refused: bool, binds: bool) -> Next {
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
        Next::Unlimited(Some(if binds {
            let Comparison { before, mut after, .. } = self.comparison;
            after.fade(MOST_AFTER);
            let times = self.belief.times + u32::from(verdict == Some(Verdict::Chance));
            Belief { before, after, times: times.min(RAREST), ..self.belief }
        } else {
            // The client asked as much as ever, which proves nothing.
            Belief { cut: (2.0 * self.belief.cut).min(MOST_CUT), ..self.belief }
        }))
    }
}

impl Outage {
    fn new(now: f64, rate: f64, demand: f64) -> Self {
        Self { rate, demand, since: now, sample: Sample::default() }
    }

    pub(super) fn answered(&mut self, now: f64, sent: f64, refused: bool) -> Next {
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
