//! What a client asked and was refused lately, before there is a limit to how fast it may ask.

/// More than this share of the latest answers is more than rare.
const RARE: f64 = 0.05;
/// What clients ask is measured over some windows: one of half a second is off by a third when processors are busy, and
/// the shares would be, too.
const LATEST: f64 = 0.3;

/// The answers of about the last second, while there is no limit.
#[derive(Debug, Default)]
pub(super) struct Recent {
    since: f64,
    last: f64,
    answers: u64,
    /// Answers per second of the windows before this one, the latest with the weight `LATEST`.
    previous: Option<f64>,
    /// Halved with each window.
    weight: f64,
    refused: f64,
}

impl Recent {
    pub(super) fn answered(&mut self, now: f64, count: u64, refused: u64) {
        if self.weight == 0.0 {
            // The time before the first request is no time in which little was asked.
            (self.since, self.last) = (now, now);
        }
        let length = self.last - self.since;
        // A pause of the caller's is no part of how fast it asks.
        let paused = now - self.last > 1.0 && length >= 0.5;
        if paused || (length >= 0.5 && (self.answers >= 8 || length >= 4.0)) {
            let latest = self.answers as f64 / length;
            let weight = if self.previous.is_some_and(|before| is_a_jump(before, latest)) { 1.0 } else { LATEST };
            self.previous = Some(self.previous.map_or(latest, |before| before + weight * (latest - before)));
            (self.since, self.answers) = (if paused { now } else { self.last }, 0);
            self.weight /= 2.0;
            self.refused /= 2.0;
        } else if now - self.last > 4.0 {
            (self.since, self.answers, self.weight, self.refused) = (now, 0, 0.0, 0.0);
        }
        self.last = now;
        self.answers += count;
        self.weight += count as f64;
        self.refused += refused as f64;
    }

    /// Whether so much is refused that it cannot be chance alone, and enough is known to say what was asked.
    pub(super) fn shows_a_quota(&self, now: f64) -> bool {
        self.refused >= 2.0 && self.refused / self.weight > RARE && self.tells(now)
    }

    pub(super) fn accepts(&self) -> bool {
        self.weight - self.refused >= 0.5
    }

    /// Whether `rate` means something.
    fn tells(&self, now: f64) -> bool {
        self.previous.is_some() || self.answers >= 64 || now - self.since >= 0.25
    }

    /// What was asked per second before the trouble began, or since if that is far more.
    pub(super) fn rate(&self, now: f64) -> f64 {
        let current = self.answers as f64 / (now - self.since).max(0.1);
        match self.previous {
            Some(before) if current < before || !is_a_jump(before, current) => before,
            _ => current,
        }
    }
}

/// Whether so many requests per second are another load, and not chance.
fn is_a_jump(before: f64, after: f64) -> bool {
    !(before / 2.0..=before * 2.0).contains(&after)
}
