//! Statistics of refusals (429 and 503): their share of the latest answers, and whether it fell when the client sent
//! less.

/// A number of answers, and how many of them were refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerCount {
    pub(super) answers: u32,
    pub(super) refused: u32,
}

impl AnswerCount {
    pub(super) fn add(&mut self, refused: bool) {
        self.answers += 1;
        self.refused += u32::from(refused);
    }

    pub(super) fn add_granted(&mut self, count: u64) {
        self.answers = self.answers.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Halves the numbers until there are at most `max` answers.
    pub(super) fn limit(&mut self, max: u32) {
        while self.answers > max {
            (self.answers, self.refused) = (self.answers / 2, self.refused / 2);
        }
    }

    /// The share of refusals, from 0 to 1.
    pub(super) fn refused_share(self) -> f64 {
        f64::from(self.refused) / f64::from(self.answers.max(1))
    }

    /// The log-likelihood of these numbers if each answer is a refusal with probability `share`.
    fn log_likelihood(self, share: f64) -> f64 {
        f64::from(self.refused) * share.ln() + f64::from(self.answers - self.refused) * (1.0 - share).ln()
    }
}

/// The latest 128 answers, one bit each, the newest in the lowest bit; a set bit is a refusal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatestAnswers {
    bits: u128,
    len: u32,
}

impl LatestAnswers {
    const MAX: u32 = u128::BITS;

    pub(super) fn add(&mut self, refused: bool) {
        self.bits = self.bits << 1 | u128::from(refused);
        self.len = (self.len + 1).min(Self::MAX);
    }

    pub(super) fn add_granted(&mut self, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.bits = self.bits.checked_shl(count).unwrap_or(0);
        self.len = self.len.saturating_add(count).min(Self::MAX);
    }

    /// The answers since the `count`-th latest refusal, without that refusal: counting that stops at a refusal is
    /// unbiased without it (inverse binomial sampling). `None` if there are fewer refusals.
    pub(super) fn since_refusal(&self, count: u32) -> Option<AnswerCount> {
        let mut bits = self.bits;
        for _ in 1..count {
            bits &= bits.wrapping_sub(1);
        }
        (bits != 0).then(|| AnswerCount { answers: bits.trailing_zeros(), refused: count - 1 })
    }

    /// The latest `count` answers, or as many as there are.
    pub(super) fn last(&self, count: u32) -> AnswerCount {
        let answers = self.len.min(count).min(Self::MAX);
        let mask = u128::MAX.checked_shr(Self::MAX - answers).unwrap_or(0);
        AnswerCount { answers, refused: (self.bits & mask).count_ones() }
    }
}

/// The explanation of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The share of refusals depends on the rate.
    Quota,
    /// The share of refusals does not depend on the rate.
    Random,
}

/// Compares the answers at one rate with those at another: a sequential test that ends as soon as one explanation is
/// much likelier than the other (<https://en.wikipedia.org/wiki/Sequential_probability_ratio_test>).
///
/// The first sample is small, because each refusal costs time. Its share of refusals is therefore uncertain, and both
/// explanations are averaged over all shares that it may have come from (their ratio is a Bayes factor).
#[derive(Debug)]
pub(super) struct Comparison {
    change: RateChange,
    pub(super) before: AnswerCount,
    pub(super) after: AnswerCount,
}

/// How the client changed its rate, and with it all other clients that are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateChange {
    Lower,
    Higher,
}

impl RateChange {
    /// The evidence at which refusals are judged random.
    fn random_threshold(self) -> f64 {
        match self {
            Self::Lower => RANDOM_IF_LOWER,
            Self::Higher => RANDOM_IF_HIGHER,
        }
    }
}

/// A quota explains the refusals after a lower rate only if the granted share grew by at least this factor. A client
/// that changed its rate alone among many would see no difference.
const GAIN: f64 = 1.5;
/// It also explains them if at most this part of a small share of refusals remains.
const REMAINING: f64 = 0.3;
/// A quota explains the refusals after a higher rate only if their share grew by at least this much; by the smaller
/// number if the share before was below `SMALL_SHARE`, because such a share is known more exactly.
const INCREASE: f64 = 0.2;
const INCREASE_FROM_SMALL: f64 = 0.08;
const SMALL_SHARE: f64 = 0.2;
/// The evidence that decides, in natural logarithms. After a higher rate a quota shows so clearly that less is enough.
const RANDOM_IF_LOWER: f64 = 4.0;
const RANDOM_IF_HIGHER: f64 = 2.5;
const QUOTA: f64 = -5.0;
/// The additional evidence for a quota if the share of refusals before was below `WEAK_SHARE`: such a share was often
/// high only at random.
const WEAK_SHARE: f64 = 0.25;
const WEAK_SHARE_EXTRA: f64 = 2.0;
/// The number of shares that are tried for each explanation.
const POINTS: usize = 48;

impl Comparison {
    /// A comparison that begins with the answers `before` the change and those `after` earlier changes of the same
    /// kind.
    pub(super) fn new(change: RateChange, before: AnswerCount, after: AnswerCount) -> Self {
        Self { change, before, after }
    }

    /// Counts an answer that came after the change. Returns the verdict once there is one.
    pub(super) fn add(&mut self, refused: bool) -> Option<Verdict> {
        self.after.add(refused);
        match self.evidence() {
            evidence if evidence >= self.change.random_threshold() => Some(Verdict::Random),
            evidence
                if evidence
                    <= QUOTA - if self.before.refused_share() < WEAK_SHARE { WEAK_SHARE_EXTRA } else { 0.0 } =>
            {
                Some(Verdict::Quota)
            }
            _ => None,
        }
    }

    /// The logarithm of the likelihood of random refusals divided by that of a quota.
    fn evidence(&self) -> f64 {
        let (before, after) = (Self::likelihoods(self.before), Self::likelihoods(self.after));
        let increase = if self.before.refused_share() < SMALL_SHARE { INCREASE_FROM_SMALL } else { INCREASE };
        let (mut random, mut quota) = (0.0, 0.0);
        for point in 0..POINTS {
            let share = Self::share(point);
            random += before[point] * after[point];
            // All shares that a quota can lead to are equally likely.
            let possible = match self.change {
                RateChange::Lower => &after[..=Self::point((1.0 - GAIN * (1.0 - share)).max(REMAINING * share))],
                RateChange::Higher => &after[Self::point(share + increase)..],
            };
            quota += before[point] * possible.iter().sum::<f64>() / possible.len() as f64;
        }
        (random / quota).ln()
    }

    /// The likelihood of each share relative to the largest: the absolute ones of large samples underflow.
    fn likelihoods(count: AnswerCount) -> [f64; POINTS] {
        let logs: [f64; POINTS] = std::array::from_fn(|point| count.log_likelihood(Self::share(point)));
        let max = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        logs.map(|log| (log - max).exp())
    }

    fn share(point: usize) -> f64 {
        (point as f64 + 0.5) / POINTS as f64
    }

    /// The largest point whose share is not above this one.
    fn point(share: f64) -> usize {
        ((share * POINTS as f64 - 0.5).max(0.0) as usize).min(POINTS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict of a `Comparison` if answers are refused with this probability, and the number of answers to it.
    fn verdict(
        before: AnswerCount,
        change: RateChange,
        share: f64,
        random: &mut fastrand::Rng,
    ) -> (Option<Verdict>, u32) {
        let mut comparison = Comparison::new(change, before, AnswerCount::default());
        for answer in 1..=400 {
            if let Some(verdict) = comparison.add(random.f64() < share) {
                return (Some(verdict), answer);
            }
        }
        (None, 400)
    }

    fn sample(share: f64, random: &mut fastrand::Rng) -> AnswerCount {
        let mut latest = LatestAnswers::default();
        loop {
            latest.add(random.f64() < share);
            if let Some(count) = latest.since_refusal(10) {
                return count;
            }
        }
    }

    #[test]
    fn random_refusals_and_a_quota_are_distinguished() {
        use RateChange::{Higher, Lower};
        let mut random = fastrand::Rng::with_seed(7);
        for (before, change, after, expected) in [
            (0.3, Lower, 0.3, Verdict::Random),
            (0.75, Lower, 0.02, Verdict::Quota),
            (0.75, Lower, 0.25, Verdict::Quota),
            (0.3, Lower, 0.01, Verdict::Quota),
            (0.05, Higher, 0.05, Verdict::Random),
            (0.3, Higher, 0.3, Verdict::Random),
            (0.05, Higher, 0.5, Verdict::Quota),
        ] {
            let case = format!("{before} before, {change:?}, {after} after");
            let verdicts = (0..300).map(|_| verdict(sample(before, &mut random), change, after, &mut random));
            let (mut right, mut wrong, mut answers) = (0, 0, Vec::new());
            for (verdict, count) in verdicts {
                match verdict {
                    Some(verdict) if verdict == expected => right += 1,
                    Some(_) => wrong += 1,
                    None => continue,
                }
                answers.push(count);
            }
            answers.sort_unstable();
            println!("{case}: {right} right, {wrong} wrong, {} answers in the median", answers[answers.len() / 2]);
            assert!(wrong <= 9 && right >= 150, "{case}: {right} right, {wrong} wrong of 300");
            assert!(answers[answers.len() / 2] <= 40, "{case}: {answers:?}");
        }
    }

    #[test]
    fn evidence_is_never_nan() {
        for change in [RateChange::Lower, RateChange::Higher] {
            for (before, after) in [(0, 0), (64, 0), (0, 64), (64, 64)] {
                let before = AnswerCount { answers: 64, refused: before };
                let after = AnswerCount { answers: 1000, refused: 15 * after };
                let comparison = Comparison { change, before, after };
                assert!(!comparison.evidence().is_nan(), "{comparison:?}");
            }
        }
    }

    #[test]
    fn the_latest_answers_are_counted() {
        let mut latest = LatestAnswers::default();
        assert_eq!(latest.last(8), AnswerCount::default());
        assert_eq!(latest.since_refusal(1), None);
        latest.add(true);
        latest.add_granted(3);
        latest.add(true);
        assert_eq!(latest.last(64), AnswerCount { answers: 5, refused: 2 });
        assert_eq!(latest.last(4), AnswerCount { answers: 4, refused: 1 });
        assert_eq!(latest.since_refusal(2), Some(AnswerCount { answers: 4, refused: 1 }));
        latest.add_granted(1000);
        assert_eq!(latest.last(64), AnswerCount { answers: 64, refused: 0 });
        assert_eq!(latest.last(500), AnswerCount { answers: 128, refused: 0 });
        assert_eq!(latest.since_refusal(1), None);
    }
}
