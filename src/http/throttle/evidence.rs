//! What refusals (429 and 503) say: whether they are many, and whether they became fewer when the client asked less.

/// Some answers, and how many of them were refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) answers: u32,
    pub(super) refused: u32,
}

impl Sample {
    pub(super) fn add(&mut self, refused: bool) {
        self.answers += 1;
        self.refused += u32::from(refused);
    }

    pub(super) fn add_granted(&mut self, count: u64) {
        self.answers = self.answers.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Forgets half of it if it has more than `most` answers.
    pub(super) fn fade(&mut self, most: u32) {
        while self.answers > most {
            (self.answers, self.refused) = (self.answers / 2, self.refused / 2);
        }
    }

    /// The share of refusals, from 0 to 1.
    pub(super) fn share(self) -> f64 {
        f64::from(self.refused) / f64::from(self.answers.max(1))
    }

    /// The log-likelihood of this sample when each answer is a refusal with probability `share`.
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
    const MOST: u32 = u128::BITS;

    pub(super) fn add(&mut self, refused: bool) {
        self.bits = self.bits << 1 | u128::from(refused);
        self.len = (self.len + 1).min(Self::MOST);
    }

    pub(super) fn add_granted(&mut self, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.bits = self.bits.checked_shl(count).unwrap_or(0);
        self.len = self.len.saturating_add(count).min(Self::MOST);
    }

    /// The answers since the `count`-th latest refusal, which itself is not among them: where counting stops at a refusal,
    /// the others give an unbiased share (inverse binomial sampling).
    pub(super) fn since_refusal(&self, count: u32) -> Option<Sample> {
        let mut bits = self.bits;
        for _ in 1..count {
            bits &= bits.wrapping_sub(1);
        }
        (bits != 0).then(|| Sample { answers: bits.trailing_zeros(), refused: count - 1 })
    }

    /// The latest `count` answers, or as many as there are.
    pub(super) fn last(&self, count: u32) -> Sample {
        let answers = self.len.min(count).min(Self::MOST);
        let mask = u128::MAX.checked_shr(Self::MOST - answers).unwrap_or(0);
        Sample { answers, refused: (self.bits & mask).count_ones() }
    }
}

/// What explains the refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Fewer requests were refused less.
    Quota,
    /// Fewer requests were refused just as much.
    Chance,
}

/// Compares the answers at one rate with those at another: a sequential test that ends as soon as one explanation is much
/// likelier than the other (<https://en.wikipedia.org/wiki/Sequential_probability_ratio_test>).
///
/// The first sample is small, since each refusal in it is one too many. So its share is not taken for certain: both
/// explanations are averaged over all shares that it may have come from (their ratio is a Bayes factor).
#[derive(Debug)]
pub(super) struct Comparison {
    change: Change,
    pub(super) before: Sample,
    pub(super) after: Sample,
}

/// What the client, and all others that are refused, did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    AsksLess,
    AsksMore,
}

impl Change {
    fn chance(self) -> f64 {
        match self {
            Self::AsksLess => CHANCE,
            Self::AsksMore => CHANCE_IF_MORE,
        }
    }
}

/// A quota is an explanation only if at least this much more, or less, of what was asked is granted; a client that changed
/// its rate alone among many would see no difference.
const GAIN: f64 = 1.5;
/// Or if, of a small share of refusals, no more than this is left.
const LEFT: f64 = 0.3;
/// Or if at least so much more is refused of a higher rate; less where few were refused before, of which more is known.
const MORE: f64 = 0.2;
const MORE_IF_FEW: f64 = 0.08;
const FEW: f64 = 0.2;
/// Evidence in natural logarithms. Where all ask more, a quota shows so clearly that less will do.
const CHANCE: f64 = 4.0;
const CHANCE_IF_MORE: f64 = 2.5;
const QUOTA: f64 = -5.0;
/// So much more is wanted where fewer than this were refused before: then it often was chance that they were so many.
const WEAK: f64 = 0.25;
const DOUBT: f64 = 2.0;
/// Shares that are tried for each explanation.
const POINTS: usize = 48;

impl Comparison {
    /// Goes on from what was seen `after` such a change before.
    pub(super) fn new(change: Change, before: Sample, after: Sample) -> Self {
        Self { change, before, after }
    }

    /// Counts an answer that came after the change; the verdict, once there is one.
    pub(super) fn add(&mut self, refused: bool) -> Option<Verdict> {
        self.after.add(refused);
        match self.evidence() {
            evidence if evidence >= self.change.chance() => Some(Verdict::Chance),
            evidence if evidence <= QUOTA - if self.before.share() < WEAK { DOUBT } else { 0.0 } => {
                Some(Verdict::Quota)
            }
            _ => None,
        }
    }

    /// The logarithm of how many times likelier chance explains what was seen than a quota does.
    fn evidence(&self) -> f64 {
        let (before, after) = (Self::likelihoods(self.before), Self::likelihoods(self.after));
        let more = if self.before.share() < FEW { MORE_IF_FEW } else { MORE };
        let (mut chance, mut quota) = (0.0, 0.0);
        for point in 0..POINTS {
            let share = Self::share(point);
            chance += before[point] * after[point];
            // All shares that a quota can lead to are as likely as each other.
            let possible = match self.change {
                Change::AsksLess => &after[..=Self::point((1.0 - GAIN * (1.0 - share)).max(LEFT * share))],
                Change::AsksMore => &after[Self::point(share + more)..],
            };
            quota += before[point] * possible.iter().sum::<f64>() / possible.len() as f64;
        }
        (chance / quota).ln()
    }

    /// Of each share, as parts of the largest, since those of large samples are too small for a number.
    fn likelihoods(sample: Sample) -> [f64; POINTS] {
        let logs: [f64; POINTS] = std::array::from_fn(|point| sample.log_likelihood(Self::share(point)));
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        logs.map(|log| (log - most).exp())
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

    /// What `Comparison` says of answers that are refused with this probability, and after how many.
    fn verdict(before: Sample, change: Change, share: f64, random: &mut fastrand::Rng) -> (Option<Verdict>, u32) {
        let mut comparison = Comparison::new(change, before, Sample::default());
        for answer in 1..=400 {
            if let Some(verdict) = comparison.add(random.f64() < share) {
                return (Some(verdict), answer);
            }
        }
        (None, 400)
    }

    fn sample(share: f64, random: &mut fastrand::Rng) -> Sample {
        let mut latest = LatestAnswers::default();
        loop {
            latest.add(random.f64() < share);
            if let Some(sample) = latest.since_refusal(10) {
                return sample;
            }
        }
    }

    #[test]
    fn chance_and_quota_are_told_apart() {
        use Change::{AsksLess, AsksMore};
        let mut random = fastrand::Rng::with_seed(7);
        for (before, change, after, expected) in [
            (0.3, AsksLess, 0.3, Verdict::Chance),
            (0.75, AsksLess, 0.02, Verdict::Quota),
            (0.75, AsksLess, 0.25, Verdict::Quota),
            (0.3, AsksLess, 0.01, Verdict::Quota),
            (0.05, AsksMore, 0.05, Verdict::Chance),
            (0.3, AsksMore, 0.3, Verdict::Chance),
            (0.05, AsksMore, 0.5, Verdict::Quota),
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
            println!("{case}: {right} right, {wrong} wrong, {} answers as a rule", answers[answers.len() / 2]);
            assert!(wrong <= 9 && right >= 150, "{case}: {right} right, {wrong} wrong of 300");
            assert!(answers[answers.len() / 2] <= 40, "{case}: {answers:?}");
        }
    }

    #[test]
    fn evidence_is_a_number_whatever_was_seen() {
        for change in [Change::AsksLess, Change::AsksMore] {
            for (before, after) in [(0, 0), (64, 0), (0, 64), (64, 64)] {
                let before = Sample { answers: 64, refused: before };
                let comparison = Comparison { change, before, after: Sample { answers: 1000, refused: 15 * after } };
                assert!(!comparison.evidence().is_nan(), "{comparison:?}");
            }
        }
    }

    #[test]
    fn the_latest_answers_are_counted() {
        let mut latest = LatestAnswers::default();
        assert_eq!(latest.last(8), Sample::default());
        assert_eq!(latest.since_refusal(1), None);
        latest.add(true);
        latest.add_granted(3);
        latest.add(true);
        assert_eq!(latest.last(64), Sample { answers: 5, refused: 2 });
        assert_eq!(latest.last(4), Sample { answers: 4, refused: 1 });
        assert_eq!(latest.since_refusal(2), Some(Sample { answers: 4, refused: 1 }));
        latest.add_granted(1000);
        assert_eq!(latest.last(64), Sample { answers: 64, refused: 0 });
        assert_eq!(latest.last(500), Sample { answers: 128, refused: 0 });
        assert_eq!(latest.since_refusal(1), None);
    }
}
