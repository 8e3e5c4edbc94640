//! Quotas that several clients share.

use super::super::demand::DemandEstimator;
use super::super::rate_controller::{RateController, RequestOutcome};
use super::{Quota, Scenario, median};

/// Seconds.
const WITHOUT_QUOTA: f64 = 2.0;
const UNDER_QUOTA: f64 = 30.0;

fn quota(from: f64, per_second: f64, burst: f64) -> Quota {
    Quota { from, per_second, burst }
}

/// Sixteen clients with a quota of a quarter of their demand, which then rises to the whole demand.
fn under_a_quarter(in_flight: usize, per_second: f64, burst: f64, seed: u64) {
    let case = format!("{in_flight} in flight, quota {per_second}, burst {burst}, seed {seed}");
    let rises = WITHOUT_QUOTA + UNDER_QUOTA;
    let quotas = vec![quota(WITHOUT_QUOTA, per_second, burst), quota(rises, 4.0 * per_second, burst)];
    let mut simulation = Scenario { quotas, ..Scenario::of(16, in_flight, 4.0 * per_second) }.start(seed);
    simulation.run(rises + 11.0);

    let used = simulation.used(per_second, WITHOUT_QUOTA, rises);
    assert!(used >= 0.95, "{case}: {used:.2} of the quota");
    let refused = simulation.refused_share(WITHOUT_QUOTA, rises);
    assert!(refused <= 0.09, "{case}: {refused:.3} refused");
    let slowest = simulation.inequality(WITHOUT_QUOTA, rises);
    assert!(slowest <= 1.3, "{case}: the slowest is {slowest:.2} times slower than the median");
    let recovered = simulation.used(4.0 * per_second, rises + 9.0, rises + 11.0);
    assert!(recovered >= 0.8, "{case}: {recovered:.2} of the demand after 10 s");
}

#[test]
fn sixteen_clients_share_a_quota_and_use_it() {
    for seed in 0..2 {
        for (in_flight, per_second) in [(4, 400.0), (8, 1000.0), (64, 1000.0), (8, 3000.0)] {
            for burst in [0.1, 1.0] {
                under_a_quarter(in_flight, per_second, burst, seed);
            }
        }
    }
}

/// Eight clients on busy processors that read 400 blobs each, with a quota of a quarter of their demand. Returns the
/// part of the quota that they use until the last one ends, the part of their requests that is refused, and the time of
/// the slowest client divided by the median.
fn from_the_first_second_on(in_flight: usize, refusal: f64, retry_after: f64, seed: u64) -> (f64, f64, f64) {
    let (per_second, burst) = (400.0, 0.2);
    let quotas = vec![quota(0.0, per_second, burst)];
    let eight = Scenario::of(8, in_flight, 4.0 * per_second);
    let mut simulation = Scenario { quotas, requests: 400, stalls: 1.0, refusal, retry_after, ..eight }.start(seed);
    simulation.run(100.0);
    let ends = simulation.ends();
    let used = 8.0 * 400.0 / (per_second * (ends[7] + burst));
    (used, simulation.refused_share(0.0, 100.0), ends[7] / ends[4])
}

#[test]
fn a_quota_is_used_and_shared_from_the_first_second_on() {
    // Refusals take as long as other answers, or come at once.
    for (refusal, in_flight, retry_after) in [
        (1.0, 1, 0.0),
        (1.0, 8, 0.0),
        (1.0, 24, 0.0),
        (1.0, 8, 1.0),
        (1.0, 24, 1.0),
        (0.05, 1, 0.0),
        (0.05, 8, 0.0),
        (0.05, 24, 0.0),
        (0.05, 8, 1.0),
    ] {
        let all: Vec<_> = (0..15).map(|seed| from_the_first_second_on(in_flight, refusal, retry_after, seed)).collect();
        let case = format!("{in_flight} in flight, refusals {refusal}, Retry-After {retry_after}: {all:.2?}");
        let of = |part: fn(&(f64, f64, f64)) -> f64| median(all.iter().map(part).collect());
        // This includes the end, when the clients with more than their share are already done.
        assert!(of(|(used, ..)| *used) >= 0.85, "{case}");
        assert!(of(|(_, refused, _)| *refused) <= 0.1, "{case}");
        assert!(of(|(.., slowest)| *slowest) <= 1.2, "{case}");
        assert!(all.iter().all(|(used, refused, _)| *used >= 0.5 && *refused <= 0.15), "{case}");
    }
}

/// The inequality of sixteen clients on busy processors, in each third of a minute for two minutes.
fn inequalities(in_flight: usize, per_second: f64, seed: u64, apart: f64) -> Vec<f64> {
    let quotas = vec![quota(if apart > 0.0 { 0.0 } else { WITHOUT_QUOTA }, per_second, 0.2)];
    let sixteen = Scenario::of(16, in_flight, 4.0 * per_second);
    let mut simulation = Scenario { quotas, apart, stalls: 1.0, ..sixteen }.start(seed);
    let begin = |third: u32| WITHOUT_QUOTA + 20.0 * f64::from(third);
    simulation.run(begin(6));
    (0..6).map(|third| simulation.inequality(begin(third), begin(third + 1))).collect()
}

#[test]
fn shares_stay_equal() {
    for (in_flight, per_second) in [(8, 500.0), (64, 1000.0)] {
        let all: Vec<_> = (0..4).map(|seed| inequalities(in_flight, per_second, seed, 0.0)).collect();
        let case = format!("{in_flight} in flight, quota {per_second}: {all:.2?}");
        for third in 0..6 {
            let mean = all.iter().map(|of_seed| of_seed[third]).sum::<f64>() / all.len() as f64;
            assert!(mean <= 1.2, "{mean:.2} in a third; {case}");
        }
        assert!(all.iter().flatten().all(|slowest| *slowest <= 1.4), "{case}");
    }
}

#[test]
fn a_client_that_starts_late_gets_a_share() {
    for seed in 0..4 {
        for (in_flight, per_second) in [(8, 500.0), (4, 300.0), (64, 1000.0)] {
            let all = inequalities(in_flight, per_second, seed, 0.5);
            let case = format!("{in_flight} in flight, quota {per_second}, seed {seed}: {all:.2?}");
            assert!(all[0] <= 3.0, "{case}");
            assert!(all[2..].iter().all(|slowest| *slowest <= 1.5), "{case}");
        }
    }
}

#[test]
fn the_time_before_the_first_request_does_not_count() {
    let rates = [0.0, 3.0, 1000.0].map(|created_before| {
        let (mut controller, demand) = (RateController::new(0.0), DemandEstimator::default());
        for answer in 0..40 {
            let now = created_before + f64::from(answer) * 0.01;
            demand.began();
            demand.granted(now, now - 0.01);
            demand.ended();
            let outcome = if answer % 2 == 1 { RequestOutcome::Refused } else { RequestOutcome::Granted };
            controller.answered(now, now - 0.01, outcome, &demand);
        }
        controller.per_second().unwrap()
    });
    // The demand is 100 requests per second; the rate is a quarter of that.
    assert!(rates.iter().all(|rate| (24.0..26.0).contains(rate)), "{rates:?}");
}

#[test]
fn clients_slow_down_when_a_quota_falls() {
    for seed in 0..8 {
        let quotas = vec![quota(0.0, 2000.0, 0.2), quota(15.0, 300.0, 0.2)];
        let mut simulation = Scenario { quotas, ..Scenario::of(16, 8, 4000.0) }.start(seed);
        simulation.run(40.0);
        let refused = simulation.refused_share(23.0, 40.0);
        assert!(refused <= 0.1, "seed {seed}: {refused:.3} refused eight seconds after the quota fell");
        let used = simulation.used(300.0, 23.0, 40.0);
        assert!(used >= 0.9, "seed {seed}: {used:.2} of the quota");
    }
}

#[test]
fn a_needless_limit_ends() {
    let quotas = vec![quota(2.0, 50.0, 0.2), quota(12.0, 1e9, 1.0)];
    let mut simulation = Scenario { quotas, ..Scenario::of(4, 2, 200.0) }.start(11);
    simulation.run(11.0);
    assert!(simulation.clients.iter().all(|client| client.controller.is_limited()));
    simulation.run(40.0);
    assert!(simulation.clients.iter().all(|client| !client.controller.is_limited()));
}
