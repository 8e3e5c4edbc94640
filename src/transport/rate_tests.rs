//! The controller against a quota: clients with some requests under way each, in simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::rate::Rate;

/// Seconds.
const WITHOUT_QUOTA: f64 = 2.0;
const UNDER_QUOTA: f64 = 30.0;

#[derive(Clone, Copy, PartialEq)]
struct At(f64, u64, Event);

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Event {
    Wants { client: usize, tries: u32 },
    Looks { client: usize },
    Arrives { client: usize, tries: u32, sent: f64 },
    Answered { client: usize, tries: u32, sent: f64, refused: bool },
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

struct Client {
    rate: Rate,
    waiting: VecDeque<u32>,
    looking: bool,
    granted: Vec<f64>,
}

struct Simulation {
    clients: Vec<Client>,
    /// How many events in a hundred stop their client for up to a tenth of a second, as busy processors do.
    stalls: f64,
    stalled_until: Vec<f64>,
    /// Seconds to an answer, half of them on the way to the service.
    latency: f64,
    /// Requests per second and what may be saved up, from a time on.
    quotas: Vec<(f64, f64, f64)>,
    /// Refused without a reason.
    chance: f64,
    tokens: f64,
    filled_at: f64,
    random: fastrand::Rng,
    events: BinaryHeap<Reverse<At>>,
    made: u64,
    sent: Vec<f64>,
    refused: Vec<f64>,
}

impl Simulation {
    /// `demand` is what all of them ask for without a quota.
    fn new(clients: usize, under_way: usize, demand: f64, seed: u64) -> Self {
        Self::one_by_one(clients, under_way, demand, seed, 0.0)
    }

    /// So many seconds pass between the first requests of one and of the next.
    fn one_by_one(clients: usize, under_way: usize, demand: f64, seed: u64, apart: f64) -> Self {
        // The rates draw from it, too.
        fastrand::seed(seed);
        let client =
            |_| Client { rate: Rate::default(), waiting: VecDeque::new(), looking: false, granted: Vec::new() };
        let mut simulation = Self {
            clients: (0..clients).map(client).collect(),
            stalls: 0.0,
            stalled_until: vec![0.0; clients],
            latency: (clients * under_way) as f64 / demand,
            quotas: Vec::new(),
            chance: 0.0,
            tokens: 0.0,
            filled_at: 0.0,
            random: fastrand::Rng::with_seed(seed),
            events: BinaryHeap::new(),
            made: 0,
            sent: Vec::new(),
            refused: Vec::new(),
        };
        for client in 0..clients {
            for _ in 0..under_way {
                let at = simulation.random.f64() * 0.05 + client as f64 * apart;
                simulation.add(at, Event::Wants { client, tries: 0 });
            }
        }
        simulation
    }

    fn add(&mut self, at: f64, event: Event) {
        self.made += 1;
        self.events.push(Reverse(At(at, self.made, event)));
    }

    fn run(&mut self, until: f64) {
        while self.events.peek().is_some_and(|Reverse(next)| next.0 <= until) {
            let Some(Reverse(At(now, _, event))) = self.events.pop() else { return };
            if let Some(later) = self.stalled(now, event) {
                self.add(later, event);
                continue;
            }
            match event {
                Event::Wants { client, tries } => {
                    self.clients[client].waiting.push_back(tries);
                    self.pump(now, client);
                }
                Event::Looks { client } => {
                    self.clients[client].looking = false;
                    self.pump(now, client);
                }
                Event::Arrives { client, tries, sent } => {
                    let refused = !self.grants(now);
                    let at = now + self.half_way();
                    self.add(at, Event::Answered { client, tries, sent, refused });
                }
                Event::Answered { client, tries, sent, refused } => self.hear(now, client, tries, sent, refused),
            }
        }
    }

    /// When the event's client runs again, if it does not run now.
    fn stalled(&mut self, now: f64, event: Event) -> Option<f64> {
        let (Event::Wants { client, .. } | Event::Looks { client } | Event::Answered { client, .. }) = event else {
            return None;
        };
        let until = self.stalled_until[client];
        if now < until {
            return Some(until);
        }
        if self.random.f64() * 100.0 < self.stalls {
            self.stalled_until[client] = now + 0.1 * self.random.f64();
        }
        None
    }

    fn half_way(&mut self) -> f64 {
        self.latency / 2.0 * (0.8 + 0.4 * self.random.f64())
    }

    fn pump(&mut self, now: f64, client: usize) {
        while !self.clients[client].looking
            && let Some(&tries) = self.clients[client].waiting.front()
        {
            let wait = self.clients[client].rate.take_turn(now);
            if wait > 0.0 {
                self.clients[client].looking = true;
                // Timers are late.
                let at = now + wait.min(0.1) + 0.001 * self.random.f64();
                return self.add(at, Event::Looks { client });
            }
            self.clients[client].waiting.pop_front();
            self.sent.push(now);
            let at = now + self.half_way();
            self.add(at, Event::Arrives { client, tries, sent: now });
        }
    }

    fn grants(&mut self, now: f64) -> bool {
        if self.random.f64() < self.chance {
            return false;
        }
        let Some((from, quota, burst)) = self.quotas.iter().rev().find(|(from, ..)| *from <= now) else { return true };
        if self.filled_at < *from {
            (self.tokens, self.filled_at) = (quota * burst, *from);
        }
        self.tokens = (self.tokens + (now - self.filled_at) * quota).min(quota * burst);
        self.filled_at = now;
        let granted = self.tokens >= 1.0;
        self.tokens -= if granted { 1.0 } else { 0.0 };
        granted
    }

    fn hear(&mut self, now: f64, client: usize, tries: u32, sent: f64, refused: bool) {
        self.clients[client].rate.answered(now, sent, refused);
        if !refused {
            self.clients[client].granted.push(now);
            return self.add(now, Event::Wants { client, tries: 0 });
        }
        self.refused.push(now);
        let pause = self.random.f64() * (0.05 * f64::from(1 << tries.min(8))).min(20.0);
        self.add(now + pause, Event::Wants { client, tries: tries + 1 });
    }

    fn granted_between(&self, from: f64, until: f64) -> Vec<f64> {
        let within = |client: &Client| client.granted.iter().filter(|at| (from..until).contains(*at)).count() as f64;
        self.clients.iter().map(within).collect()
    }

    /// The median's share divided by the least.
    fn inequality(&self, from: f64, until: f64) -> f64 {
        let mut granted = self.granted_between(from, until);
        granted.sort_by(f64::total_cmp);
        granted[granted.len() / 2] / granted[0]
    }

    fn refused_share(&self, from: f64, until: f64) -> f64 {
        let within = |times: &[f64]| times.iter().filter(|at| (from..until).contains(*at)).count() as f64;
        within(&self.refused) / within(&self.sent)
    }
}

/// Sixteen clients on a quarter of their demand, which then rises to all of it.
fn under_a_quarter(under_way: usize, quota: f64, burst: f64, seed: u64) {
    let case = format!("{under_way} under way, quota {quota}, burst {burst}, seed {seed}");
    let mut simulation = Simulation::new(16, under_way, 4.0 * quota, seed);
    let rises = WITHOUT_QUOTA + UNDER_QUOTA;
    simulation.quotas = vec![(WITHOUT_QUOTA, quota, burst), (rises, 4.0 * quota, burst)];
    simulation.run(rises + 11.0);

    let granted = simulation.granted_between(WITHOUT_QUOTA, rises);
    let share = granted.iter().sum::<f64>() / (quota * UNDER_QUOTA);
    assert!(share >= 0.95, "{case}: {share:.2} of the quota");
    let refused = simulation.refused_share(WITHOUT_QUOTA, rises);
    assert!(refused <= 0.09, "{case}: {refused:.3} refused");
    let slowest = simulation.inequality(WITHOUT_QUOTA, rises);
    assert!(slowest <= 1.3, "{case}: the slowest is {slowest:.2} times slower than the median");
    let recovered = simulation.granted_between(rises + 9.0, rises + 11.0).iter().sum::<f64>() / (4.0 * quota * 2.0);
    assert!(recovered >= 0.8, "{case}: {recovered:.2} of the demand after 10 s");
}

#[test]
fn sixteen_clients_share_a_quota_and_use_it() {
    for seed in 0..2 {
        for (under_way, quota) in [(4, 400.0), (8, 1000.0), (64, 1000.0), (8, 3000.0)] {
            for burst in [0.1, 1.0] {
                under_a_quarter(under_way, quota, burst, seed);
            }
        }
    }
}

/// The slowest of sixteen in each third of a minute and for two minutes, on busy processors.
fn inequalities(under_way: usize, quota: f64, seed: u64, apart: f64) -> Vec<f64> {
    let mut simulation = Simulation::one_by_one(16, under_way, 4.0 * quota, seed, apart);
    simulation.stalls = 1.0;
    simulation.quotas = vec![(if apart > 0.0 { 0.0 } else { WITHOUT_QUOTA }, quota, 0.2)];
    let begin = |third: u32| WITHOUT_QUOTA + 20.0 * f64::from(third);
    simulation.run(begin(6));
    (0..6).map(|third| simulation.inequality(begin(third), begin(third + 1))).collect()
}

#[test]
fn shares_stay_equal() {
    for (under_way, quota) in [(8, 500.0), (64, 1000.0)] {
        let all: Vec<_> = (0..4).map(|seed| inequalities(under_way, quota, seed, 0.0)).collect();
        let case = format!("{under_way} under way, quota {quota}: {all:.2?}");
        for third in 0..6 {
            let mean = all.iter().map(|of_seed| of_seed[third]).sum::<f64>() / all.len() as f64;
            assert!(mean <= 1.2, "{mean:.2} in a third; {case}");
        }
        assert!(all.iter().flatten().all(|slowest| *slowest <= 1.4), "{case}");
    }
}

#[test]
fn who_comes_late_gets_a_share() {
    for seed in 0..4 {
        for (under_way, quota) in [(8, 500.0), (4, 300.0), (64, 1000.0)] {
            let all = inequalities(under_way, quota, seed, 0.5);
            let case = format!("{under_way} under way, quota {quota}, seed {seed}: {all:.2?}");
            assert!(all[0] <= 3.0, "{case}");
            assert!(all[2..].iter().all(|slowest| *slowest <= 1.5), "{case}");
        }
    }
}

#[test]
fn the_time_before_the_first_request_does_not_count() {
    let rates = [0.0, 3.0, 1000.0].map(|created_before| {
        let mut rate = Rate::default();
        for answer in 0..40 {
            let now = created_before + f64::from(answer) * 0.01;
            rate.answered(now, now - 0.005, answer % 2 == 1);
        }
        rate.per_second().unwrap()
    });
    // 100 requests a second, and a sixth of that.
    assert!(rates.iter().all(|rate| (14.0..21.0).contains(rate)), "{rates:?}");
}

#[test]
fn a_quota_that_falls_is_followed() {
    for seed in 0..8 {
        let mut simulation = Simulation::new(16, 8, 4000.0, seed);
        simulation.quotas = vec![(0.0, 2000.0, 0.2), (15.0, 300.0, 0.2)];
        simulation.run(40.0);
        let refused = simulation.refused_share(23.0, 40.0);
        assert!(refused <= 0.1, "seed {seed}: {refused:.3} refused eight seconds after the quota fell");
        let used = simulation.granted_between(23.0, 40.0).iter().sum::<f64>() / (300.0 * 17.0);
        assert!(used >= 0.9, "seed {seed}: {used:.2} of the quota");
    }
}

#[test]
fn a_rare_refusal_limits_nobody() {
    let mut simulation = Simulation::new(1, 8, 800.0, 3);
    simulation.chance = 0.01;
    simulation.run(20.0);
    assert!(simulation.refused.len() > 50);
    assert!(!simulation.clients[0].rate.is_limited());
    let granted = simulation.granted_between(0.0, 20.0)[0];
    assert!(granted > 0.95 * 800.0 * 20.0, "{granted} granted");
}

#[test]
fn refusals_by_chance_do_not_strangle() {
    for seed in 0..6 {
        let mut simulation = Simulation::new(1, 8, 800.0, seed);
        simulation.chance = 0.3;
        simulation.run(60.0);
        let granted = simulation.granted_between(0.0, 60.0)[0] / 60.0;
        assert!(granted > 25.0, "seed {seed}: {granted} a second of 800 that were asked for");
    }
}

#[test]
fn an_outage_is_asked_little_and_not_given_up() {
    let mut simulation = Simulation::new(1, 64, 6400.0, 9);
    simulation.quotas = vec![(2.0, 0.0, 0.0), (32.0, 1e9, 1.0)];
    simulation.run(60.0);
    let asked = simulation.sent.iter().filter(|at| (5.0..32.0).contains(*at)).count();
    assert!((100..1000).contains(&asked), "{asked} requests to a service that was away for 27 s");
    let granted = simulation.granted_between(44.0, 45.0)[0];
    assert!(granted > 3000.0, "{granted} granted in a second, 12 s after it came back");
}

#[test]
fn a_limit_that_limits_nothing_goes() {
    let mut simulation = Simulation::new(4, 2, 200.0, 11);
    simulation.quotas = vec![(2.0, 50.0, 0.2), (12.0, 1e9, 1.0)];
    simulation.run(11.0);
    assert!(simulation.clients.iter().all(|client| client.rate.is_limited()));
    simulation.run(40.0);
    assert!(simulation.clients.iter().all(|client| !client.rate.is_limited()));
}
