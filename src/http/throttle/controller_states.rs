//! The states of a `RateController` that keep numbers of their own, and the transition that each answer causes. Times
//! are in seconds since the client began, rates in requests per second.

use super::evidence::{AnswerCount, Comparison, LatestAnswers, RateChange, Verdict};
use super::quota_share::QuotaShare;

/// A limited client judges its rate by this many latest answers. This many refusals among them (26 %) cause a probe.
pub(super) const LATEST: u32 = 96;
const LIMITED_REFUSALS: u32 = 25;
/// If the rate is below the demand by this factor, `LATEST` answers would take too long. Then `SLOW_REFUSALS` refusals
/// within `SLOW_ANSWERS` answers (33 %) cause a probe.
const SLOW: f64 = 10.0;
const SLOW_REFUSALS: u32 = 13;
const SLOW_ANSWERS: u32 = 40;
/// If the rate has become far lower than the first one, this many refusals among the latest answers are enough.
const LOW_RATE_REFUSALS: u32 = 5;
/// If the latest refusals, this many of them, came with almost no grant between them, the quota has fallen far.
const COLLAPSE_REFUSALS: u32 = 20;
/// A backoff and a low-rate probe divide the rate by these.
const DIVISOR: f64 = 4.0;
const SMALL_DIVISOR: f64 = 2.0;
const MAX_DIVISOR: f64 = 1024.0;
/// A backoff ignores requests that were sent in its first seconds: as many as the refusals before it took to come,
/// within these bounds. Other clients may need as long to notice the refusals.
const SETTLE: (f64, f64) = (0.05, 0.5);
/// A backoff is undecided after `UNDECIDED_FACTOR` times as long, within these bounds, and after `BACKOFF_ANSWERS`, if
/// the share of refusals is still at least `UNDECIDED_PART` of the share before, and at least `UNDECIDED_SHARE`.
const UNDECIDED_FACTOR: f64 = 4.0;
const UNDECIDED_AFTER: (f64, f64) = (0.2, 1.0);
const BACKOFF_ANSWERS: u32 = 24;
const UNDECIDED_PART: f64 = 0.6;
const UNDECIDED_SHARE: f64 = 0.25;
/// A backoff ends when nothing was refused for this many seconds and at least this many answers.
const BACKOFF_END: f64 = 5.0;
const BACKOFF_MIN_ANSWERS: u32 = 4;
/// The lowest rate of a backoff, in requests per second.
const BACKOFF_MIN_RATE: f64 = 1.0;
/// The number of answers that a backoff keeps.
const BACKOFF_MAX_ANSWERS: u32 = 512;
/// A larger share of refusals than this is never judged random.
const MAX_RANDOM_SHARE: f64 = 0.5;
/// If more than this share is refused at a quarter of the demand, the quota is even smaller; if more than
/// `VERY_HIGH_SHARE`, far smaller.
const HIGH_SHARE: f64 = 0.35;
const VERY_HIGH_SHARE: f64 = 0.6;
const HIGH_SHARE_ANSWERS: u32 = 12;
/// The rate is lowered again only if the last cut has brought the share of refusals below this part of the share
/// before.
const IMPROVED_PART: f64 = 0.8;
/// If the share of refusals is below this, a rate is conclusive even if no request had to wait for it.
const RARE: f64 = 0.1;
/// A high-rate probe ignores requests that were sent in its first seconds, while the service may have saved up quota.
/// It ends after `HIGH_PROBE_ANSWERS`, or `HIGH_PROBE_END` seconds.
const HIGH_PROBE_SETTLE: f64 = 0.1;
const HIGH_PROBE_ANSWERS: u32 = 64;
const HIGH_PROBE_END: f64 = 0.5;
/// A client with little demand gets more time for this many answers, up to `HIGH_PROBE_LAST_END` seconds.
const HIGH_PROBE_MIN_ANSWERS: u32 = 16;
const HIGH_PROBE_LAST_END: f64 = 10.0;
/// A low-rate probe ignores requests that were sent before `LOW_PROBE_SETTLE`, and ends at `LOW_PROBE_END`, in seconds.
const LOW_PROBE_SETTLE: f64 = 0.15;
const LOW_PROBE_END: f64 = 0.45;
/// The number of answers to low-rate probes that are kept.
const LOW_PROBE_MAX_ANSWERS: u32 = 128;
/// The time between low-rate probes doubles at most this many times.
const MAX_CONFIRMATIONS: u32 = 4;
/// It is an outage if this many answers, to requests that were sent over this many seconds, are all refusals.
const OUTAGE_ANSWERS: u32 = 12;
const OUTAGE_SECONDS: f64 = 0.04;
/// The requests per second that are sent during an outage.
pub(super) const OUTAGE_RATE: f64 = 20.0;
/// After an outage this many granted requests double the rate. This many refusals without a grant mean that the outage
/// continues.
const SLOW_START: u32 = 3;
const ALL_REFUSED: u32 = 6;

/// The evidence that refusals are random: the answers without a limit, and those at a lower rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct RandomRefusals {
    pub(super) before: AnswerCount,
    after: AnswerCount,
    /// How many low-rate probes have confirmed it.
    pub(super) confirmations: u32,
    /// A low-rate probe divides the demand by this.
    divisor: f64,
}

/// The client sends at a lower rate, and compares the refusals with those before.
#[derive(Debug)]
pub(super) struct Backoff {
    pub(super) rate: f64,
    /// The rate that the client would have without a limit.
    demand: f64,
    since: f64,
    settle: f64,
    undecided_after: f64,
    comparison: Comparison,
    /// There is certainly a quota, and only its size is unknown.
    is_quota: bool,
    /// The number of answers that are enough if `is_quota`.
    enough: u32,
}

/// The client sends at its share of the quota.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) share: QuotaShare,
    demand: f64,
}

/// The client sends at its whole demand for a moment, to see whether more is refused.
#[derive(Debug)]
pub(super) struct HighRateProbe {
    pub(super) demand: f64,
    since: f64,
    comparison: Comparison,
    /// The rate before, to return to.
    rate_before: f64,
}

/// A client whose refusals are random sends less for a moment, to see whether less is refused.
#[derive(Debug)]
pub(super) struct LowRateProbe {
    pub(super) rate: f64,
    demand: f64,
    since: f64,
    comparison: Comparison,
    random: RandomRefusals,
}

/// Everything was refused: the client sends few requests until some are granted, and then doubles its rate.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) rate: f64,
    demand: f64,
    since: f64,
    pub(super) count: AnswerCount,
}

/// The state that follows an answer.
pub(super) enum Transition {
    /// No change.
    Stay,
    Backoff(Backoff),
    Limited(Limited),
    HighRateProbe(HighRateProbe),
    LowRateProbe(LowRateProbe),
    Outage(Outage),
    Unlimited(Option<RandomRefusals>),
}

impl Backoff {
    /// A backoff after refusals that took `took` seconds to come.
    pub(super) fn new(now: f64, demand: f64, before: AnswerCount, took: f64) -> Self {
        Self {
            rate: (demand / DIVISOR).max(BACKOFF_MIN_RATE),
            demand,
            since: now,
            settle: took.clamp(SETTLE.0, SETTLE.1),
            undecided_after: (UNDECIDED_FACTOR * took).clamp(UNDECIDED_AFTER.0, UNDECIDED_AFTER.1),
            comparison: Comparison::new(RateChange::Lower, before, AnswerCount::default()),
            is_quota: false,
            enough: BACKOFF_ANSWERS,
        }
    }

    /// A backoff to `rate` under a known quota.
    fn under_quota(now: f64, rate: f64, demand: f64, before: AnswerCount, took: f64) -> Self {
        Self {
            rate: rate.max(BACKOFF_MIN_RATE),
            is_quota: true,
            enough: HIGH_SHARE_ANSWERS,
            ..Self::new(now, demand, before, took)
        }
    }

    /// Whether a rate that makes no request wait is too high to be conclusive. Without refusals it is conclusive. If
    /// everything is refused, the pauses between retries keep the client below its rate.
    pub(super) fn is_inconclusive(&self) -> bool {
        let AnswerCount { answers, refused } = self.comparison.after;
        refused < answers && self.comparison.after.refused_share() > RARE
    }

    /// Lowers the rate, and begins the comparison again.
    pub(super) fn slow_down(&mut self, now: f64) {
        self.rate = (self.rate / SMALL_DIVISOR).max(BACKOFF_MIN_RATE);
        (self.since, self.settle) = (now, SETTLE.0);
        self.comparison.after = AnswerCount::default();
    }

    /// Counts an answer. `may_probe`: a high-rate probe may begin now.
    pub(super) fn answered(&mut self, now: f64, sent: f64, refused: bool, may_probe: bool) -> Transition {
        let elapsed = sent - self.since;
        if elapsed <= self.settle {
            return Transition::Stay;
        }
        let verdict = self.comparison.add(refused);
        self.comparison.after.limit(BACKOFF_MAX_ANSWERS);
        let Comparison { before, after, .. } = self.comparison;
        if after.answers >= OUTAGE_ANSWERS && after.refused == after.answers && elapsed > OUTAGE_SECONDS {
            return Transition::Outage(Outage::new(now, self.rate.min(OUTAGE_RATE), self.demand));
        }
        let is_high = after.refused_share() > HIGH_SHARE && after.answers >= HIGH_SHARE_ANSWERS;
        let (enough, undecided_share) = match self.is_quota {
            true => (self.enough, 0.0),
            false => (BACKOFF_ANSWERS, (UNDECIDED_PART * before.refused_share()).max(UNDECIDED_SHARE)),
        };
        let has_waited = after.answers >= enough && elapsed > self.undecided_after;
        match verdict {
            Some(Verdict::Quota) if is_high => self.back_off_further(now),
            Some(Verdict::Quota) => self.limit(now),
            _ if elapsed > BACKOFF_END && after.refused == 0 && after.answers >= BACKOFF_MIN_ANSWERS => self.limit(now),
            _ if !has_waited => Transition::Stay,
            _ if self.is_quota && is_high && after.refused_share() < IMPROVED_PART * before.refused_share() => {
                self.back_off_further(now)
            }
            _ if self.is_quota || after.refused_share() < undecided_share => self.limit(now),
            _ if may_probe => Transition::HighRateProbe(HighRateProbe::new(now, self.demand, after, self.rate)),
            _ => Transition::Stay,
        }
    }

    fn limit(&self, now: f64) -> Transition {
        Transition::Limited(Limited::new(now, self.rate, self.demand))
    }

    fn back_off_further(&self, now: f64) -> Transition {
        Transition::Backoff(Self::below(now, self.rate, self.demand, self.comparison.after))
    }

    /// A backoff from `rate`, for a quota that is even smaller. `before` counts the answers at that rate.
    fn below(now: f64, rate: f64, demand: f64, before: AnswerCount) -> Self {
        let divisor = if before.refused_share() > VERY_HIGH_SHARE { DIVISOR } else { SMALL_DIVISOR };
        Self::under_quota(now, rate / divisor, demand, before, SETTLE.0)
    }
}

impl Limited {
    pub(super) fn new(now: f64, rate: f64, demand: f64) -> Self {
        Self { share: QuotaShare::new(now, rate), demand }
    }

    /// Records that the service failed a request without refusing it.
    pub(super) fn failed(&mut self) {
        self.share.failed();
    }

    fn without_ramp_up(self) -> Self {
        Self { share: self.share.without_ramp_up(), ..self }
    }

    /// Counts an answer. `may_probe`: a high-rate probe may begin now. `took`: the seconds in which the latest ten
    /// refusals came.
    pub(super) fn answered(
        &mut self,
        now: f64,
        sent: f64,
        refused: bool,
        may_probe: bool,
        latest: &LatestAnswers,
        took: f64,
    ) -> Transition {
        let share = &mut self.share;
        share.advance(now);
        if refused {
            share.refused(sent, latest.since_refusal(4).map_or(0.0, AnswerCount::refused_share));
        }
        let (rate, all) = (share.rate(), latest.last(LATEST));
        let is_many = all.answers == LATEST && all.refused >= LIMITED_REFUSALS;
        let is_slow = rate * SLOW < self.demand;
        let many = latest.since_refusal(SLOW_REFUSALS).filter(|many| is_slow && many.answers < SLOW_ANSWERS);
        let is_ineffective =
            share.is_far_below_first_rate() && all.answers == LATEST && all.refused >= LOW_RATE_REFUSALS;
        if let Some(before) = many.or((is_many || is_ineffective).then_some(all))
            && may_probe
        {
            // The demand may have grown since.
            return Transition::HighRateProbe(HighRateProbe::new(now, self.demand.max(2.0 * rate), before, rate));
        }
        match latest.since_refusal(COLLAPSE_REFUSALS) {
            Some(many) if refused && many.refused_share() > VERY_HIGH_SHARE => {
                Transition::Backoff(Backoff::under_quota(now, rate / DIVISOR, self.demand, many, took))
            }
            _ => Transition::Stay,
        }
    }
}

impl HighRateProbe {
    fn new(now: f64, demand: f64, before: AnswerCount, rate_before: f64) -> Self {
        let comparison = Comparison::new(RateChange::Higher, before, AnswerCount::default());
        Self { demand, since: now, comparison, rate_before }
    }

    /// Counts an answer.
    pub(super) fn answered(&mut self, now: f64, sent: f64, refused: bool) -> Transition {
        let elapsed = sent - self.since;
        if elapsed <= HIGH_PROBE_SETTLE {
            return Transition::Stay;
        }
        let verdict = self.comparison.add(refused);
        let Comparison { before, after, .. } = self.comparison;
        let rate = self.rate_before;
        match verdict {
            Some(Verdict::Random) if after.refused_share() <= MAX_RANDOM_SHARE => {
                let at_lower_rate = AnswerCount::default();
                let random = RandomRefusals { before: after, after: at_lower_rate, confirmations: 0, divisor: DIVISOR };
                Transition::Unlimited(Some(random))
            }
            None if after.answers < HIGH_PROBE_MIN_ANSWERS && elapsed < HIGH_PROBE_LAST_END => Transition::Stay,
            None if after.answers < HIGH_PROBE_ANSWERS && elapsed < HIGH_PROBE_END => Transition::Stay,
            _ if before.refused_share() > HIGH_SHARE => {
                Transition::Backoff(Backoff::below(now, rate, self.demand, before))
            }
            _ => Transition::Limited(Limited::new(now, rate, self.demand).without_ramp_up()),
        }
    }
}

impl LowRateProbe {
    pub(super) fn new(since: f64, demand: f64, random: RandomRefusals) -> Self {
        let comparison = Comparison::new(RateChange::Lower, random.before, random.after);
        Self { rate: demand / random.divisor, demand, since, comparison, random }
    }

    /// Counts an answer. `binds`: whether the rate has made a request wait.
    pub(super) fn answered(&mut self, sent: f64, refused: bool, binds: bool) -> Transition {
        let elapsed = sent - self.since;
        if elapsed <= LOW_PROBE_SETTLE {
            return Transition::Stay;
        }
        let verdict = self.comparison.add(refused);
        if verdict == Some(Verdict::Quota) {
            return Transition::Limited(Limited::new(sent, self.rate, self.demand));
        }
        if elapsed <= LOW_PROBE_END {
            return Transition::Stay;
        }
        Transition::Unlimited(Some(if binds {
            let Comparison { before, mut after, .. } = self.comparison;
            after.limit(LOW_PROBE_MAX_ANSWERS);
            let confirmations = self.random.confirmations + u32::from(verdict == Some(Verdict::Random));
            RandomRefusals { before, after, confirmations: confirmations.min(MAX_CONFIRMATIONS), ..self.random }
        } else {
            // The client sent as much as without a limit, so the probe is inconclusive. The next one goes lower.
            RandomRefusals { divisor: (2.0 * self.random.divisor).min(MAX_DIVISOR), ..self.random }
        }))
    }
}

impl Outage {
    fn new(now: f64, rate: f64, demand: f64) -> Self {
        Self { rate, demand, since: now, count: AnswerCount::default() }
    }

    /// Counts an answer.
    pub(super) fn answered(&mut self, now: f64, sent: f64, refused: bool) -> Transition {
        if sent < self.since {
            return Transition::Stay;
        }
        if !refused && self.count.refused == self.count.answers {
            // The refusals before the first grant belong to the outage.
            self.count = AnswerCount::default();
        }
        self.count.add(refused);
        let AnswerCount { answers, refused } = self.count;
        if answers == refused && refused >= ALL_REFUSED {
            return Transition::Outage(Self::new(now, self.rate.min(OUTAGE_RATE), self.demand));
        }
        if answers < SLOW_START + refused {
            return Transition::Stay;
        }
        if refused * 2 > answers {
            return Transition::Limited(Limited::new(now, self.rate / 2.0, self.demand));
        }
        if self.rate >= self.demand {
            return Transition::Unlimited(None);
        }
        Transition::Outage(Self::new(now, self.rate * 2.0, self.demand))
    }
}
