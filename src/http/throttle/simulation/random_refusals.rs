//! Random refusals, outages, and other refusals without a quota.

use super::{Quota, Scenario, Simulation, median};

/// Single workloads against a service on the same machine.
fn workloads() -> [(&'static str, Scenario); 4] {
    let workload = |in_flight, requests, latency, in_batches| Scenario {
        requests,
        latency,
        in_batches,
        ..Scenario::of(1, in_flight, 1.0)
    };
    [
        ("a read of 256 MiB", workload(16, 40, 0.02, false)),
        ("250 gets in a loop", workload(1, 250, 80e-6, false)),
        ("250 gets in batches", workload(64, 250, 0.001, true)),
        ("a save of 100 MiB", workload(8, 16, 0.03, false)),
    ]
}

/// The total seconds of all workloads for each seed, and how many of all requests were given up.
fn seconds(seeds: std::ops::Range<u64>, change: impl Fn(&mut Scenario)) -> (Vec<f64>, usize) {
    let mut given_up = 0;
    let all = seeds.map(|seed| {
        let mut sum = 0.0;
        for (_, mut scenario) in workloads() {
            change(&mut scenario);
            let mut simulation = scenario.start(seed);
            simulation.run(1000.0);
            given_up += simulation.given_up;
            sum += simulation.ends()[0];
        }
        sum
    });
    (all.collect(), given_up)
}

#[test]
fn random_refusals_cost_little() {
    // The documented bounds are 1.5, 1.5 and 4 s.
    for (chance, max_median, max) in [(0.01, 0.3, 0.7), (0.05, 0.5, 1.5), (0.3, 2.5, 8.0)] {
        let (all, given_up) = seconds(0..40, |scenario| scenario.chance = chance);
        let worst = all.iter().copied().fold(0.0, f64::max);
        let median = median(all);
        assert!(median <= max_median && worst <= max, "chance {chance}: median {median:.2} s, worst {worst:.2} s");
        assert!(given_up <= 1, "chance {chance}: {given_up} requests were given up");
    }
}

#[test]
fn outages_of_two_tenths_of_a_second_cost_little() {
    for chance in [0.0, 0.05] {
        let (all, given_up) = seconds(0..40, |scenario| {
            (scenario.outages, scenario.chance) = (Some((1.0, 0.2)), chance);
        });
        let median = median(all);
        // Each of the four workloads begins with an outage.
        assert!(median <= 3.0, "chance {chance}: median {median:.2} s");
        assert!(given_up <= 8, "chance {chance}: {given_up} of 22,000 requests were given up");
    }
}

#[test]
fn many_clients_recognise_random_refusals_together() {
    for seed in 0..4 {
        let mut simulation = Scenario { chance: 0.3, stalls: 1.0, ..Scenario::of(16, 4, 3200.0) }.start(seed);
        simulation.run(20.0);
        let used = simulation.used(3200.0, 5.0, 20.0);
        assert!(used >= 0.4, "seed {seed}: {used:.2} of the demand, of which 0.7 is possible");
        let slowest = simulation.inequality(5.0, 20.0);
        assert!(slowest <= 2.0, "seed {seed}: the slowest is {slowest:.2} times slower than the median");
    }
}

/// A client with a demand of 800 requests per second.
fn one_client(chance: f64) -> Scenario {
    Scenario { chance, ..Scenario::of(1, 8, 800.0) }
}

fn granted(simulation: &Simulation, from: f64, until: f64) -> f64 {
    simulation.granted_between(from, until)[0] / (until - from)
}

#[test]
fn rare_refusals_cause_no_limit() {
    let mut simulation = one_client(0.01).start(3);
    simulation.run(20.0);
    assert!(simulation.refused.len() > 50);
    assert!(!simulation.clients[0].controller.is_limited());
    let granted = granted(&simulation, 0.0, 20.0);
    assert!(granted > 0.95 * 800.0, "{granted} granted a second");
}

#[test]
fn random_refusals_cost_little_in_the_long_run() {
    for seed in 0..6 {
        for (chance, least) in [(0.05, 600.0), (0.3, 250.0)] {
            let mut simulation = one_client(chance).start(seed);
            simulation.run(60.0);
            let granted = granted(&simulation, 0.0, 60.0);
            assert!(granted > least, "seed {seed}, chance {chance}: {granted} a second, of a demand of 800");
        }
    }
}

/// A client under a quota loses its limit if later refusals are random.
#[test]
fn random_refusals_after_a_quota_are_recognised() {
    for seed in 0..6 {
        let quota = |from, per_second| Quota { from, per_second, burst: 0.2 };
        let quotas = vec![quota(0.0, 200.0), quota(10.0, 1e9)];
        let mut simulation = Scenario { quotas, ..Scenario::of(4, 4, 800.0) }.start(seed);
        simulation.run(10.0);
        assert!(simulation.clients.iter().all(|client| client.controller.is_limited()), "seed {seed}");
        simulation.scenario.chance = 0.3;
        simulation.run(60.0);
        let used = simulation.used(800.0, 40.0, 60.0);
        assert!(used >= 0.3, "seed {seed}: {used:.2} of the demand");
    }
}

#[test]
fn few_requests_are_sent_during_an_outage_and_it_is_survived() {
    let quota = |from, per_second| Quota { from, per_second, burst: 1.0 };
    let quotas = vec![quota(2.0, 0.0), quota(32.0, 1e9)];
    // A bucket holds one request at least.
    let mut simulation = Scenario { quotas, ..Scenario::of(1, 64, 6400.0) }.start(9);
    simulation.run(60.0);
    let asked = simulation.sent.iter().filter(|at| (5.0..32.0).contains(*at)).count();
    assert!((100..1000).contains(&asked), "{asked} requests during an outage of 27 s");
    let granted = granted(&simulation, 44.0, 45.0);
    assert!(granted > 3000.0, "{granted} granted in a second, 12 s after the end of the outage");
}
