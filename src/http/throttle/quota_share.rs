//! A client's share of a quota: a rate that grows with time and falls with each refusal.
//!
//! * **Shares converge.** Each refusal lowers the rate by a small proportion. Time raises it by as much as the refusals
//!   of a client with its fair share lower it (`expected_refusals`). The expected number of refusals per second hardly
//!   depends on the rate: a client with more than its share meets more refusals than expected, and one with less meets
//!   fewer, until all have the same. If the expected refusals were proportional to the rate, any ratio of shares would
//!   be stable and random refusals would drive the shares apart. The steps are small, because in the long run shares
//!   scatter by the square root of half a step; so convergence takes a minute or two. Below `SLOW_CLIENT` requests/s
//!   that many refusals would be too large a part of all answers, so fewer are expected and shares scatter more.
//! * **A higher quota** shows when no refusal comes for longer than random gaps explain (`QUIET_PERIOD`): the rate
//!   ramps up, faster the longer no refusal comes.
//! * **A lower quota**, or more clients, shows when refusals come much faster than expected.

/// Growth per second at the beginning of a ramp-up, its increase per second after `ACCELERATION_AFTER` seconds, and its
/// maximum. Clients on one quota ramp up at the same time, and constant growth at first keeps their rates equal.
const RAMP_UP: f64 = 0.1;
const ACCELERATION: f64 = 0.35;
const ACCELERATION_AFTER: f64 = 1.0;
const MAX_RAMP_UP: f64 = 0.7;
/// The assumed duration, in seconds, of a ramp-up that begins after a quiet period.
const QUIET_PERIOD_COUNTS: f64 = 0.0;
/// The maximum growth per second for each request per second, so that a ramp-up does not outrun its answers.
const GROWTH_PER_REQUEST: f64 = 0.25;
/// The seconds of quota that a service lets its clients accumulate (a guess). An overshoot stays unnoticed for this
/// time.
const BURST_SECONDS: f64 = 0.05;
/// The largest overshoot of a ramp-up, as a logarithm.
const MAX_OVERSHOOT: f64 = 0.4;
/// The part of the rate that a refusal takes away: `STEP_TIMES_RATE / rate` within these bounds. Small steps keep equal
/// shares equal; clients with few requests need larger steps.
const STEP: f64 = 0.01;
const LARGEST_STEP: f64 = 0.02;
const STEP_TIMES_RATE: f64 = 0.15;
/// For this many seconds after a ramp-up, each refusal takes `FAST_DECREASE_STEPS` steps if refusals are
/// `FAST_DECREASE` times more frequent than expected.
const FAST_DECREASE_SECONDS: f64 = 2.0;
const FAST_DECREASE: f64 = 4.0;
const FAST_DECREASE_STEPS: f64 = 3.0;
/// The expected refusals per second of a client with its share, at `SLOW_CLIENT` requests/s or more.
const EXPECTED_REFUSALS: f64 = 1.2;
const SLOW_CLIENT: f64 = 16.0;
/// The exponent for slower clients: between 0, where shares converge best, and 1, where the refused part is the same
/// for all rates.
const SLOW_CLIENT_EXPONENT: f64 = 0.7;
/// The rate ramps up once this many expected refusals did not come: the quota has risen, or other clients have left.
const QUIET_PERIOD: f64 = 5.0;
/// At low rates that would take minutes. There, this many seconds and requests without a refusal are enough.
const QUIET_SECONDS: f64 = 5.0;
const QUIET_REQUESTS: f64 = 20.0;
/// One request in ten seconds, for thousands of clients on one quota.
const MIN_RATE: f64 = 0.1;
const MAX_RATE: f64 = 1e6;
/// After this many seconds without a wait the rate does not grow.
const UNUSED_SECONDS: f64 = 1.0;
/// After this many seconds with neither a refusal nor a wait the limit ends.
const NEEDLESS_SECONDS: f64 = 5.0;

/// Times are in seconds. Times in "active" seconds count only while the client sends requests.
#[derive(Debug)]
pub(super) struct QuotaShare {
    /// Requests per second.
    rate: f64,
    first_rate: f64,
    /// The time of the latest [`Self::advance`].
    seen: f64,
    active: f64,
    ramp_up: Option<RampUp>,
    /// In active seconds, like `refused_at` and `waited_at`.
    ramp_up_ended_at: f64,
    refused_at: f64,
    waited_at: f64,
    /// The present growth per second.
    growth: f64,
    /// Answers to requests that were sent before this time do not count for the present rate.
    since: f64,
}

/// Growth until the next refusal.
#[derive(Debug)]
struct RampUp {
    /// Active seconds at its beginning.
    since: f64,
    /// The rate at its beginning, which is the lowest to return to.
    from: f64,
}

impl QuotaShare {
    /// A share that ramps up from `rate`.
    pub(super) fn new(now: f64, rate: f64) -> Self {
        Self {
            rate: rate.max(MIN_RATE),
            first_rate: rate,
            seen: now,
            active: 0.0,
            ramp_up: Some(RampUp { since: 0.0, from: 0.0 }),
            ramp_up_ended_at: 0.0,
            refused_at: 0.0,
            waited_at: 0.0,
            growth: 0.0,
            since: now,
        }
    }

    /// The same share without its first ramp-up, for a rate that was found before.
    pub(super) fn without_ramp_up(self) -> Self {
        Self { ramp_up: None, ..self }
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether the rate is less than a quarter of the first rate.
    pub(super) fn is_far_below_first_rate(&self) -> bool {
        self.rate < self.first_rate / 4.0
    }

    /// Records that the service failed a request without refusing it. The absence of refusals is then no sign of a
    /// higher quota.
    pub(super) fn failed(&mut self) {
        (self.refused_at, self.ramp_up) = (self.active, None);
    }

    /// Whether the limit has had no effect for so long that it can end.
    pub(super) fn is_needless(&self) -> bool {
        self.active - self.refused_at.max(self.waited_at) > NEEDLESS_SECONDS
    }

    /// Records that a request had to wait for the rate.
    pub(super) fn waited(&mut self) {
        self.waited_at = self.active;
    }

    /// Advances the time to `now`. Time without requests does not count.
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
        if self.ramp_up.is_none() && self.active - self.refused_at > self.quiet_period() {
            self.ramp_up = Some(RampUp { since: self.active - QUIET_PERIOD_COUNTS, from: self.rate });
        }
        self.growth = match &self.ramp_up {
            // A limit that no request waits for says nothing about the quota.
            _ if self.active - self.waited_at > UNUSED_SECONDS => 0.0,
            None => self.step() * self.expected_refusals(),
            Some(ramp_up) => {
                let acceleration = ACCELERATION * (self.active - ramp_up.since - ACCELERATION_AFTER).max(0.0);
                (RAMP_UP + acceleration).min(MAX_RAMP_UP).min(self.rate * GROWTH_PER_REQUEST)
            }
        };
        self.rate = (self.rate * (self.growth * seconds).exp()).min(MAX_RATE);
        self.active += seconds;
    }

    /// Records that a request that was sent at `sent` was refused. `share` is the share of refusals among the latest
    /// answers.
    pub(super) fn refused(&mut self, sent: f64, share: f64) {
        if sent <= self.since {
            return;
        }
        self.refused_at = self.active;
        if let Some(ramp_up) = self.ramp_up.take() {
            // Return to the rate where refusals should have begun. They come late, because the service has saved up
            // quota.
            let overshoot = (2.0 * self.growth * (1.0 / self.rate).max(BURST_SECONDS)).sqrt().min(MAX_OVERSHOOT);
            self.ramp_up_ended_at = self.active;
            self.set((self.rate * (-overshoot).exp()).max(ramp_up.from));
            return;
        }
        let is_fast = self.active - self.ramp_up_ended_at < FAST_DECREASE_SECONDS
            && share > FAST_DECREASE * self.expected_refusals() / self.rate;
        self.set(self.rate * (1.0 - if is_fast { FAST_DECREASE_STEPS } else { 1.0 } * self.step()));
    }

    fn set(&mut self, rate: f64) {
        self.rate = rate.max(MIN_RATE);
    }

    fn expected_refusals(&self) -> f64 {
        EXPECTED_REFUSALS * (self.rate / SLOW_CLIENT).min(1.0).powf(SLOW_CLIENT_EXPONENT)
    }

    fn step(&self) -> f64 {
        (STEP_TIMES_RATE / self.rate).clamp(STEP, LARGEST_STEP)
    }

    /// The active seconds without a refusal after which the rate ramps up.
    fn quiet_period(&self) -> f64 {
        (QUIET_PERIOD / self.expected_refusals()).min(QUIET_SECONDS.max(QUIET_REQUESTS / self.rate))
    }
}
