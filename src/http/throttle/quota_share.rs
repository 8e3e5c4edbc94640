//! A client's share of a quota: a rate that grows with time and shrinks with refusals.
//!
//! * **Shares draw nearer.** Each refusal takes a little off the rate, in proportion, and time adds as much as the refusals
//!   of a client that has its share would take (`expected_refusals`). How many those are in a second hardly depends on the
//!   rate: a client with more than its share meets more than that, and one with less fewer, until all have the same. With
//!   refusals in proportion to the rate any ratio of shares would last, and chance would drive them apart. The steps are
//!   small, since in the long run shares scatter by the square root of half a step; so it takes a minute or two. Below `FEW`
//!   requests/s that many refusals would be too large a part of all, and shares scatter more.
//! * **A quota that rose** shows by refusals that stay away for longer than chance would have it (`LULL`): the rate climbs,
//!   the faster the longer no refusal comes.
//! * **A quota that fell**, or a crowd that came, shows by refusals that come much faster than expected.

/// Growth per second at the beginning of a climb, its increase per second after `STEEPER_AFTER` seconds, and the most.
/// Clients on one quota begin to climb together, and an even pace at first keeps them together.
const CLIMB: f64 = 0.1;
const STEEPER: f64 = 0.35;
const STEEPER_AFTER: f64 = 1.0;
const STEEPEST: f64 = 0.7;
/// A climb after a lull begins as if it had gone on for so many seconds.
const LULL_COUNTS: f64 = 0.0;
/// At most so much growth per second for each request per second, so that no climb outruns its answers.
const GROWTH_PER_REQUEST: f64 = 0.25;
/// Seconds of a quota that a service lets its clients save up, at a guess: for so long a climb goes on unnoticed.
const SAVED_UP: f64 = 0.05;
/// A climb has overshot by no more than this, as a logarithm.
const MOST_OVERSHOT: f64 = 0.4;
/// The part of the rate that a refusal takes. Small steps keep equal what is equal; where requests are few they have to
/// be larger.
const STEP: f64 = 0.01;
const LARGEST_STEP: f64 = 0.02;
const STEP_TIMES_RATE: f64 = 0.15;
/// For so many seconds after a climb, refusals that are so many times more frequent than expected take so many steps.
const HASTE_SECONDS: f64 = 2.0;
const HASTE: f64 = 4.0;
const HASTE_STEPS: f64 = 3.0;
/// Refusals a second of a client with its share, from `FEW` requests/s on.
const EXPECTED_REFUSALS: f64 = 1.2;
const FEW: f64 = 16.0;
/// Between 0, where shares come together best, and 1, where the refused part is the same for all rates.
const FEWER_WHERE_FEW: f64 = 0.7;
/// So many refusals that were expected did not come: the quota has risen, or others have left.
const LULL: f64 = 5.0;
/// At low rates that would take minutes: so many seconds and requests without a refusal are enough.
const LULL_SECONDS: f64 = 5.0;
const LULL_REQUESTS: f64 = 20.0;
/// One request in ten seconds, for thousands of clients on one quota.
const SLOWEST: f64 = 0.1;
const FASTEST: f64 = 1e6;
/// Seconds without a wait after which the rate does not grow.
const UNUSED: f64 = 1.0;
/// Seconds with neither a refusal nor a wait, after which the limit goes.
const OF_NO_USE: f64 = 5.0;

/// Times are in seconds; "active" ones count only while requests are made.
#[derive(Debug)]
pub(super) struct QuotaShare {
    rate: f64,
    /// At the beginning.
    first_rate: f64,
    seen: f64,
    active: f64,
    climb: Option<Climb>,
    climb_ended_at: f64,
    growth: f64,
    refused_at: f64,
    waited_at: f64,
    /// Answers to requests that were sent before this time say nothing of the present rate.
    since: f64,
}

/// Growth that goes on until the next refusal.
#[derive(Debug)]
struct Climb {
    /// Active seconds at its beginning.
    since: f64,
    /// The rate to which it goes back at most.
    from: f64,
}

impl QuotaShare {
    pub(super) fn new(now: f64, rate: f64) -> Self {
        Self {
            rate: rate.max(SLOWEST),
            first_rate: rate,
            seen: now,
            active: 0.0,
            climb: Some(Climb { since: 0.0, from: 0.0 }),
            climb_ended_at: 0.0,
            growth: 0.0,
            refused_at: 0.0,
            waited_at: 0.0,
            since: now,
        }
    }

    /// The rate was found already.
    pub(super) fn without_climb(self) -> Self {
        Self { climb: None, ..self }
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether less than a quarter of the rate at the beginning is left.
    pub(super) fn has_eroded(&self) -> bool {
        self.rate < self.first_rate / 4.0
    }

    /// The service failed a request without refusing it: that no refusal comes is no sign of a higher quota.
    pub(super) fn failed(&mut self) {
        (self.refused_at, self.climb) = (self.active, None);
    }

    pub(super) fn is_of_no_use(&self) -> bool {
        self.active - self.refused_at.max(self.waited_at) > OF_NO_USE
    }

    /// A request had to wait for its turn.
    pub(super) fn waited(&mut self) {
        self.waited_at = self.active;
    }

    /// Time passes. Time in which no request is made proves nothing.
    pub(super) fn advance(&mut self, now: f64) {
        let mut left = (now - self.seen).clamp(0.0, (2.0 / self.rate).max(1.0));
        self.seen = self.seen.max(now);
        while left > 0.0 {
            let step = left.min(0.05);
            left -= step;
            self.grow(step);
        }
    }

    fn grow(&mut self, seconds: f64) {
        if self.climb.is_none() && self.active - self.refused_at > self.lull() {
            self.climb = Some(Climb { since: self.active - LULL_COUNTS, from: self.rate });
        }
        self.growth = match &self.climb {
            // A limit that makes nothing wait says nothing of the quota.
            _ if self.active - self.waited_at > UNUSED => 0.0,
            None => self.step() * self.expected_refusals(),
            Some(climb) => {
                let steeper = STEEPER * (self.active - climb.since - STEEPER_AFTER).max(0.0);
                (CLIMB + steeper).min(STEEPEST).min(self.rate * GROWTH_PER_REQUEST)
            }
        };
        self.rate = (self.rate * (self.growth * seconds).exp()).min(FASTEST);
        self.active += seconds;
    }

    /// A request that was sent at `sent` was refused; of the latest answers this share was.
    pub(super) fn refused(&mut self, sent: f64, share: f64) {
        if sent <= self.since {
            return;
        }
        self.refused_at = self.active;
        if let Some(climb) = self.climb.take() {
            // Back to where refusals should have begun: a client meets none for a while, and the service saves up.
            let overshot = (2.0 * self.growth * (1.0 / self.rate).max(SAVED_UP)).sqrt().min(MOST_OVERSHOT);
            self.climb_ended_at = self.active;
            self.set((self.rate * (-overshot).exp()).max(climb.from));
            return;
        }
        let is_haste =
            self.active - self.climb_ended_at < HASTE_SECONDS && share > HASTE * self.expected_refusals() / self.rate;
        self.set(self.rate * (1.0 - if is_haste { HASTE_STEPS } else { 1.0 } * self.step()));
    }

    fn set(&mut self, rate: f64) {
        self.rate = rate.max(SLOWEST);
    }

    fn expected_refusals(&self) -> f64 {
        EXPECTED_REFUSALS * (self.rate / FEW).min(1.0).powf(FEWER_WHERE_FEW)
    }

    fn step(&self) -> f64 {
        (STEP_TIMES_RATE / self.rate).clamp(STEP, LARGEST_STEP)
    }

    fn lull(&self) -> f64 {
        (LULL / self.expected_refusals()).min(LULL_SECONDS.max(LULL_REQUESTS / self.rate))
    }
}
