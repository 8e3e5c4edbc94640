//! How fast a client may ask while the service throttles it: arithmetic only, over times in seconds.
//!
//! A service that is over its quota answers 503 or 429 and says nothing of the quota. Clients do not know of each
//! other, so each has to find its share from its own refusals. The constants come from simulations of 4 to 64 clients
//! with 1 to 64 requests under way each, latencies of 2 to 170 ms, quotas of 100 to 3,000 requests/s and bursts of 0.1
//! to 1 s. What they are for:
//!
//! * **The start is equal.** Refusals carry little to tell one's share by: a client that sees thirty of them knows the
//!   rate of refusals to a fifth. So whoever finds himself throttled goes well below his share at once (`FIRST_CUT`, of
//!   what he asked in the seconds before), ignores the refusals that the others' haste still causes (`SETTLE`), and
//!   climbs at a rate that is the same for all until refusals begin again. All arrive there together.
//! * **Then shares draw nearer.** Each refusal takes a little off the rate, in proportion, and time adds as much as the
//!   refusals of a client that has its share would take (`expected_refusals`). How many those are a second hardly
//!   depends on the rate: who has more meets more than that, and who has less fewer, until all have the same. With
//!   refusals in proportion to the rate all ratios would do, and chance would drive them apart. The steps are small, since
//!   in the long run shares scatter by the root of half a step; so it takes a minute or two. Below `FEW` requests/s that
//!   many refusals would be too large a part of all, and shares scatter more: at 10 requests/s to 1.2 to 1.6 ×.
//! * **A quota that rose** shows by refusals that stay away for longer than chance would have it (`LULL`): the rate
//!   climbs again, the faster the longer nobody objects. Fourfold takes 5 to 9 s.
//! * **A quota that fell** shows by refusals of most requests: the rate is cut to a part, and the climb begins anew.
//! * **An outage is no quota.** Where nothing at all is accepted there is no share to find, and going slower than
//!   `OUTAGE` would only put off the error. Where refusals do not care for how much is asked (`POINTLESS`), they are
//!   chance: the rate goes back to what it was, and stays there for a while. It is not set free: if that were wrong, one
//!   client's haste would look like chance to the next.

use super::recent::Recent;

/// What a client that finds itself throttled divides its rate by.
const FIRST_CUT: f64 = 6.0;
/// The others need about this long to find out, too.
const SETTLE: f64 = 2.5;
/// What was sent before the first cut is answered by then, in all likelihood.
const SOON: f64 = 0.7;
/// Answers that are judged together; so many refusals among them mean a quota far below the rate.
const JUDGED: u32 = 16;
const MOST_REFUSED: u32 = 12;
const MOST_REFUSED_WHILE_SETTLING: u32 = 10;
const DEEP_CUT: f64 = 4.0;
/// So many are a reason not to climb yet.
const MANY_REFUSED: u32 = 4;
/// Growth per second of a climb, and what each further second without a refusal adds to it.
const CLIMB: f64 = 0.22;
const STEEPER: f64 = 0.35;
const STEEPEST: f64 = 1.2;
/// After the first cut the goal is near and not to be overshot; after a lull it is far away.
const STEEPER_AFTER_CUT: f64 = 6.0;
const STEEPER_AFTER_LULL: f64 = 2.0;
/// No climb outruns its evidence: at most so much growth for each request.
const GROWTH_PER_REQUEST: f64 = 0.25;
/// The first refusal of a climb comes late, when the rate is too high already.
const END_OF_CLIMB: f64 = 0.2;
/// A refusal's share of the rate. Small steps keep equal what is equal; where requests are few they have to be larger.
const STEP: f64 = 0.01;
const LARGEST_STEP: f64 = 0.02;
const STEP_TIMES_RATE: f64 = 0.15;
/// What a client with its share is refused in a second. At more than `FEW` requests/s it does not depend on the rate.
const EXPECTED_REFUSALS: f64 = 1.2;
const FEW: f64 = 16.0;
/// Between 0, where shares come together best, and 1, where the refused part is the same for all rates.
const FEWER_WHERE_FEW: f64 = 0.7;
/// So many refusals that were to be expected did not come.
const LULL: f64 = 5.0;
/// At low rates that would take minutes: so many seconds and requests without a refusal are enough.
const LULL_SECONDS: f64 = 5.0;
const LULL_REQUESTS: f64 = 20.0;
/// Below this rate, only what others are granted is a reason to go slower still.
const OUTAGE: f64 = 10.0;
/// One request in ten seconds, for thousands of clients on one quota.
const SLOWEST: f64 = 0.1;
const FASTEST: f64 = 1e6;
/// So long neither a refusal nor a wait: the limit limits nothing.
const OF_NO_USE: f64 = 5.0;
/// Lateness that is made up for, since timers are no more exact than this; and up to a turn, since a process that gets
/// the processor late would have less of the quota than its rate says.
const CATCH_UP: f64 = 0.01;
const MOST_CATCH_UP: f64 = 0.1;
/// Refusals are chance when the rate fell by this factor and their share, of so many answers each, never did, in a time in
/// which the others would have gone slower, too.
const POINTLESS: f64 = 5.0;
const POINTLESS_ANSWERS: u32 = 32;
const POINTLESS_SECONDS: f64 = 12.0;
/// How long single refusals are then ignored.
const PATIENCE: f64 = 30.0;

/// What a client knows of its quota.
#[derive(Debug, Default)]
pub(super) struct Rate {
    recent: Recent,
    limit: Option<Limit>,
}

impl Rate {
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Requests per second, while there is a limit.
    pub(super) fn per_second(&self) -> Option<f64> {
        self.limit.as_ref().map(|limit| limit.rate)
    }

    /// How long the next request has to wait; when 0, it goes now.
    pub(super) fn take_turn(&mut self, now: f64) -> f64 {
        let Some(limit) = &mut self.limit else { return 0.0 };
        limit.advance(now);
        if limit.is_of_no_use() {
            self.limit = None;
            self.recent = Recent::default();
            return 0.0;
        }
        limit.take_turn(now)
    }

    /// `count` requests were granted. Only counted while there is no limit.
    pub(super) fn granted_unlimited(&mut self, now: f64, count: u64) {
        self.recent.answered(now, count, 0);
    }

    /// One answer to a request that was sent at `sent`.
    pub(super) fn answered(&mut self, now: f64, sent: f64, refused: bool) {
        let Some(limit) = &mut self.limit else {
            self.recent.answered(now, 1, u64::from(refused));
            if refused && self.recent.shows_a_quota(now) {
                self.limit = Some(Limit::new(now, self.recent.rate(now), self.recent.accepts()));
            }
            return;
        };
        limit.advance(now);
        limit.answered(now, sent, refused);
    }
}

/// A limit that is in force.
#[derive(Debug)]
struct Limit {
    rate: f64,
    seen: f64,
    /// Seconds in which requests were made, the clock of all that grows.
    active: f64,
    climb: Option<Climb>,
    /// The others have not found out yet, it seems.
    holds: bool,
    /// In active seconds.
    refused_at: f64,
    waited_at: f64,
    /// Requests sent before this say nothing of the present rate.
    cut_at: f64,
    next_turn: f64,
    judged: Judged,
    /// Some of those were accepted.
    accepts: bool,
    long: Judged,
    reference: Option<Reference>,
    patient_until: f64,
}

/// A rate, and the share that was refused at it.
#[derive(Debug)]
struct Reference {
    rate: f64,
    share: f64,
    at: f64,
}

/// In active seconds.
#[derive(Debug)]
struct Climb {
    since: f64,
    after_cut: bool,
    /// The rate at its beginning. After a cut to a guess that is nothing to keep to.
    from: f64,
}

#[derive(Debug, Default)]
struct Judged {
    answers: u32,
    refused: u32,
}

impl Judged {
    fn add(&mut self, refused: bool) {
        self.answers += 1;
        self.refused += u32::from(refused);
    }

    fn share(&self) -> f64 {
        f64::from(self.refused) / f64::from(self.answers)
    }
}

impl Limit {
    fn new(now: f64, asked: f64, accepts: bool) -> Self {
        let mut limit = Self {
            rate: asked,
            seen: now,
            active: 0.0,
            climb: None,
            holds: false,
            refused_at: 0.0,
            waited_at: 0.0,
            cut_at: now,
            next_turn: now,
            judged: Judged::default(),
            accepts,
            long: Judged::default(),
            reference: None,
            patient_until: now,
        };
        limit.cut(now, FIRST_CUT);
        limit
    }

    fn cut(&mut self, now: f64, by: f64) {
        self.set(self.rate / by);
        self.climb = Some(Climb { since: self.active, after_cut: true, from: 0.0 });
        (self.refused_at, self.cut_at, self.judged) = (self.active, now, Judged::default());
        (self.patient_until, self.long, self.reference) = (now, Judged::default(), None);
    }

    fn set(&mut self, rate: f64) {
        let slowest = if self.accepts { SLOWEST } else { OUTAGE };
        self.rate = rate.max(slowest);
    }

    /// How many refusals a second a client with this rate would meet if it had its share.
    fn expected_refusals(&self) -> f64 {
        EXPECTED_REFUSALS * (self.rate / FEW).min(1.0).powf(FEWER_WHERE_FEW)
    }

    fn step(&self) -> f64 {
        (STEP_TIMES_RATE / self.rate).clamp(STEP, LARGEST_STEP)
    }

    fn lull(&self) -> f64 {
        (LULL / self.expected_refusals()).min(LULL_SECONDS.max(LULL_REQUESTS / self.rate))
    }

    fn advance(&mut self, now: f64) {
        // Time in which nobody asks proves nothing.
        let mut left = (now - self.seen).clamp(0.0, (2.0 / self.rate).max(1.0));
        self.seen = self.seen.max(now);
        while left > 0.0 {
            let step = left.min(0.1);
            left -= step;
            self.grow(step);
        }
    }

    fn grow(&mut self, seconds: f64) {
        if self.climb.is_none() && self.active - self.refused_at > self.lull() {
            self.climb = Some(Climb { since: self.active, after_cut: false, from: self.rate });
        }
        let growth = match &self.climb {
            None => self.step() * self.expected_refusals(),
            Some(_) if self.holds => 0.0,
            Some(climb) => {
                let gentle = if climb.after_cut { STEEPER_AFTER_CUT } else { STEEPER_AFTER_LULL };
                let steeper = STEEPER * (self.active - climb.since - gentle).max(0.0);
                (CLIMB + steeper).min(STEEPEST).min(self.rate * GROWTH_PER_REQUEST)
            }
        };
        self.rate = (self.rate * (growth * seconds).exp()).min(FASTEST);
        self.active += seconds;
    }

    fn take_turn(&mut self, now: f64) -> f64 {
        self.next_turn = self.next_turn.max(now - (1.0 / self.rate).clamp(CATCH_UP, MOST_CATCH_UP));
        let wait = self.next_turn - now;
        if wait > 0.0 {
            self.waited_at = self.active;
            return wait;
        }
        // At even intervals two clients of one rate keep step, and the same one finds the quota used up each time.
        self.next_turn += (0.5 + fastrand::f64()) / self.rate;
        0.0
    }

    fn answered(&mut self, now: f64, sent: f64, refused: bool) {
        if sent <= self.cut_at + SOON {
            return;
        }
        let settling = matches!(self.climb, Some(Climb { after_cut: true, .. })) && sent <= self.cut_at + SETTLE;
        self.judged.add(refused);
        if self.judged.answers >= JUDGED {
            let most = if settling { MOST_REFUSED_WHILE_SETTLING } else { MOST_REFUSED };
            let judged = std::mem::take(&mut self.judged);
            self.accepts = judged.refused < judged.answers;
            if judged.refused >= most {
                return self.cut(now, DEEP_CUT);
            }
            self.holds = judged.refused >= MANY_REFUSED;
        }
        self.holds &= settling;
        if settling {
            return;
        }
        self.look_for_chance(now, refused);
        if refused {
            self.refused(now);
        }
    }

    fn refused(&mut self, now: f64) {
        self.refused_at = self.active;
        let climb = self.climb.take();
        if now < self.patient_until {
            return;
        }
        self.set(match climb {
            // Where a climb began, refusals had stayed away for long.
            Some(climb) => (self.rate * (1.0 - END_OF_CLIMB)).max(climb.from),
            None => self.rate * (1.0 - self.step()),
        });
    }

    /// Whether going slower has helped.
    fn look_for_chance(&mut self, now: f64, refused: bool) {
        self.long.add(refused);
        if self.long.answers < POINTLESS_ANSWERS {
            return;
        }
        let share = std::mem::take(&mut self.long).share();
        match self.reference {
            None if (0.15..=0.5).contains(&share) => {
                self.reference = Some(Reference { rate: self.rate, share, at: now })
            }
            Some(_) if !(0.1..=0.6).contains(&share) => self.reference = None,
            Some(Reference { rate, share: before, at })
                if self.rate <= rate / POINTLESS && share >= 0.7 * before && now - at >= POINTLESS_SECONDS =>
            {
                self.patient_until = now + PATIENCE;
                self.set(rate);
                self.reference = None;
            }
            _ => {}
        }
    }

    fn is_of_no_use(&self) -> bool {
        self.active - self.refused_at.max(self.waited_at) > OF_NO_USE
    }
}
