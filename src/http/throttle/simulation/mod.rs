//! Tests of the rate controller in simulated time: clients with several requests in flight each, on busy processors; a
//! service with a quota, random refusals or outages; and retries that pause as those of `crate::core::retry`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::demand::DemandEstimator;
use super::rate_controller::{RateController, RequestOutcome};

mod quota;
mod random_refusals;

/// The constants of `crate::core::retry`, in seconds.
const FIRST_PAUSE: f64 = 0.005;
const LONGER: f64 = 3.0;
const LONGEST_PAUSE: f64 = 20.0;
const LONGEST_PACED_PAUSE: f64 = 0.1;
const MAX_RETRIES: u32 = 8;

#[derive(Clone, Copy, PartialEq)]
struct At(f64, u64, Event);

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Event {
    /// A request joins its client's queue.
    Joins {
        client: usize,
        tries: u32,
    },
    /// The request at the head of the queue tries again to be sent.
    Wakes {
        client: usize,
    },
    /// A request arrives at the service.
    Arrives {
        client: usize,
        tries: u32,
        sent: f64,
    },
    Answered {
        client: usize,
        tries: u32,
        sent: f64,
        refused: bool,
    },
}

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

struct SimulatedClient {
    controller: RateController,
    demand: DemandEstimator,
    /// Requests that were granted without a limit and that the controller has not counted yet.
    uncounted: u64,
    queue: VecDeque<u32>,
    is_sleeping: bool,
    stalled_until: f64,
    /// The requests that are not begun yet, and those that are begun and not done.
    left: usize,
    begun: usize,
    /// The time at which each request was granted.
    granted: Vec<f64>,
}

impl SimulatedClient {
    fn new(requests: usize) -> Self {
        Self {
            // An arbitrary time of the wall clock.
            controller: RateController::new(3.3),
            demand: DemandEstimator::default(),
            uncounted: 0,
            queue: VecDeque::new(),
            is_sleeping: false,
            stalled_until: 0.0,
            left: requests,
            begun: 0,
            granted: Vec::new(),
        }
    }

    /// Handles an answer as `SentRequest::on_response` does.
    fn answered(&mut self, now: f64, sent: f64, outcome: RequestOutcome) {
        let refused = outcome != RequestOutcome::Granted;
        if !refused {
            self.demand.granted(now, sent);
        }
        self.demand.ended();
        if !self.controller.is_limited() {
            self.uncounted += u64::from(!refused);
            if refused {
                self.controller.granted_unlimited(std::mem::take(&mut self.uncounted));
            }
        }
        if refused || self.controller.is_limited() {
            self.controller.answered(now, sent, outcome, &self.demand);
        }
    }
}

/// A token bucket: from a time on, requests per second, and the seconds for which they accumulate.
#[derive(Clone, Copy)]
struct Quota {
    from: f64,
    per_second: f64,
    burst: f64,
}

/// The parameters of a simulation.
#[derive(Clone)]
struct Scenario {
    clients: usize,
    /// The requests that each client has in flight, and those that it makes in all.
    in_flight: usize,
    requests: usize,
    /// Each batch of `in_flight` requests begins when the batch before is done.
    in_batches: bool,
    /// The seconds until an answer; half of them pass on the way to the service.
    latency: f64,
    /// The time that a refusal takes on its way back, as a part of the time of other answers.
    refusal: f64,
    /// The seconds between the first requests of one client and those of the next.
    apart: f64,
    /// The percentage of events that stop their client for up to a tenth of a second, as busy processors do.
    stalls: f64,
    quotas: Vec<Quota>,
    /// The probability of a random refusal.
    chance: f64,
    /// `(interval, length)` in seconds: everything is refused for `length` at the beginning of each `interval`.
    outages: Option<(f64, f64)>,
    /// The seconds that a refused request has to wait while its client has no limit.
    retry_after: f64,
}

impl Scenario {
    /// `clients` with `in_flight` requests each that together send `demand` requests per second without a quota.
    fn of(clients: usize, in_flight: usize, demand: f64) -> Self {
        Self {
            clients,
            in_flight,
            requests: usize::MAX,
            in_batches: false,
            latency: (clients * in_flight) as f64 / demand,
            refusal: 1.0,
            apart: 0.0,
            stalls: 0.0,
            quotas: Vec::new(),
            chance: 0.0,
            outages: None,
            retry_after: 0.0,
        }
    }

    fn start(&self, seed: u64) -> Simulation {
        // The controllers use this generator.
        fastrand::seed(seed);
        let mut simulation = Simulation {
            scenario: self.clone(),
            clients: (0..self.clients).map(|_| SimulatedClient::new(self.requests)).collect(),
            tokens: 0.0,
            filled_at: f64::NEG_INFINITY,
            random: fastrand::Rng::with_seed(seed),
            events: BinaryHeap::new(),
            made: 0,
            sent: Vec::new(),
            refused: Vec::new(),
            given_up: 0,
        };
        for client in 0..self.clients {
            for _ in 0..self.in_flight.min(self.requests) {
                let at = 0.03 * simulation.random.f64() + client as f64 * self.apart;
                simulation.begin(at, client);
            }
        }
        simulation
    }
}

struct Simulation {
    scenario: Scenario,
    clients: Vec<SimulatedClient>,
    tokens: f64,
    filled_at: f64,
    random: fastrand::Rng,
    events: BinaryHeap<Reverse<At>>,
    made: u64,
    sent: Vec<f64>,
    refused: Vec<f64>,
    /// Requests whose retries are used up. Endless clients continue to retry.
    given_up: usize,
}

impl Simulation {
    fn add(&mut self, at: f64, event: Event) {
        self.made += 1;
        self.events.push(Reverse(At(at, self.made, event)));
    }

    fn begin(&mut self, at: f64, client: usize) {
        self.clients[client].left -= 1;
        self.clients[client].begun += 1;
        self.add(at, Event::Joins { client, tries: 0 });
    }

    fn run(&mut self, until: f64) {
        while self.events.peek().is_some_and(|Reverse(next)| next.0 <= until) {
            let Some(Reverse(At(now, _, event))) = self.events.pop() else { return };
            if let Some(later) = self.stalled(now, event) {
                self.add(later, event);
                continue;
            }
            match event {
                Event::Joins { client, tries } => {
                    self.clients[client].queue.push_back(tries);
                    self.send_queued(now, client);
                }
                Event::Wakes { client } => {
                    self.clients[client].is_sleeping = false;
                    self.send_queued(now, client);
                }
                Event::Arrives { client, tries, sent } => {
                    let refused = !self.grants(now);
                    let at = now + self.half_way() * if refused { self.scenario.refusal } else { 1.0 };
                    self.add(at, Event::Answered { client, tries, sent, refused });
                }
                Event::Answered { client, tries, sent, refused } => {
                    let outcome = match refused {
                        false => RequestOutcome::Granted,
                        true if self.scenario.retry_after > 0.0 => RequestOutcome::RefusedWithRetryAfter,
                        true => RequestOutcome::Refused,
                    };
                    self.clients[client].answered(now, sent, outcome);
                    if refused { self.try_again(now, client, tries) } else { self.done(now, client) }
                }
            }
        }
    }

    /// The time when the event's client runs again, if it does not run now.
    fn stalled(&mut self, now: f64, event: Event) -> Option<f64> {
        let (Event::Joins { client, .. } | Event::Wakes { client } | Event::Answered { client, .. }) = event else {
            return None;
        };
        let until = self.clients[client].stalled_until;
        if now < until {
            return Some(until);
        }
        if self.random.f64() * 100.0 < self.scenario.stalls {
            self.clients[client].stalled_until = now + 0.1 * self.random.f64();
        }
        None
    }

    fn half_way(&mut self) -> f64 {
        self.scenario.latency / 2.0 * (0.8 + 0.4 * self.random.f64())
    }

    fn send_queued(&mut self, now: f64, client: usize) {
        while !self.clients[client].is_sleeping
            && let Some(&tries) = self.clients[client].queue.front()
        {
            let wait = self.clients[client].controller.try_acquire(now);
            if wait > 0.0 {
                self.clients[client].is_sleeping = true;
                // Timers are late.
                let at = now + wait.min(0.1) + 0.001 * self.random.f64();
                return self.add(at, Event::Wakes { client });
            }
            self.clients[client].queue.pop_front();
            self.clients[client].demand.began();
            self.sent.push(now);
            let at = now + self.half_way();
            self.add(at, Event::Arrives { client, tries, sent: now });
        }
    }

    fn grants(&mut self, now: f64) -> bool {
        if self.scenario.outages.is_some_and(|(each, length)| now % each < length) {
            return false;
        }
        if self.random.f64() < self.scenario.chance {
            return false;
        }
        let Some(quota) = self.scenario.quotas.iter().rev().find(|quota| quota.from <= now) else { return true };
        let capacity = (quota.per_second * quota.burst).max(1.0);
        if self.filled_at < quota.from {
            (self.tokens, self.filled_at) = (capacity, now);
        }
        self.tokens = (self.tokens + (now - self.filled_at) * quota.per_second).min(capacity);
        self.filled_at = now;
        let granted = self.tokens >= 1.0;
        self.tokens -= if granted { 1.0 } else { 0.0 };
        granted
    }

    fn try_again(&mut self, now: f64, client: usize, tries: u32) {
        self.refused.push(now);
        let is_endless = self.scenario.requests == usize::MAX;
        if tries >= MAX_RETRIES && !is_endless {
            self.given_up += 1;
            return self.done(now, client);
        }
        let paced = self.clients[client].controller.paces_retries();
        let max = if paced { LONGEST_PACED_PAUSE } else { LONGEST_PAUSE };
        let longest = (FIRST_PAUSE * LONGER.powi(tries.min(30) as i32)).min(max);
        let retry_after = if paced { 0.0 } else { self.scenario.retry_after };
        let pause = (longest * self.random.f64()).max(retry_after);
        self.add(now + pause, Event::Joins { client, tries: tries + 1 });
    }

    fn done(&mut self, now: f64, client: usize) {
        let one = &mut self.clients[client];
        one.granted.push(now);
        one.begun -= 1;
        let next = match self.scenario.in_batches {
            true if one.begun > 0 => 0,
            true => self.scenario.in_flight.min(one.left),
            false => one.left.min(1),
        };
        for _ in 0..next {
            self.begin(now, client);
        }
    }

    fn granted_between(&self, from: f64, until: f64) -> Vec<f64> {
        let within =
            |client: &SimulatedClient| client.granted.iter().filter(|at| (from..until).contains(*at)).count() as f64;
        self.clients.iter().map(within).collect()
    }

    /// The part of a quota that was used.
    fn used(&self, per_second: f64, from: f64, until: f64) -> f64 {
        self.granted_between(from, until).iter().sum::<f64>() / (per_second * (until - from))
    }

    /// The median client's grants divided by those of the slowest client.
    fn inequality(&self, from: f64, until: f64) -> f64 {
        let mut granted = self.granted_between(from, until);
        granted.sort_by(f64::total_cmp);
        granted[granted.len() / 2] / granted[0]
    }

    fn refused_share(&self, from: f64, until: f64) -> f64 {
        let within = |times: &[f64]| times.iter().filter(|at| (from..until).contains(*at)).count() as f64;
        within(&self.refused) / within(&self.sent)
    }

    /// The times when the clients were done, in order.
    fn ends(&self) -> Vec<f64> {
        let mut ends: Vec<_> =
            self.clients.iter().map(|client| client.granted.last().copied().unwrap_or(f64::INFINITY)).collect();
        ends.sort_by(f64::total_cmp);
        ends
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
