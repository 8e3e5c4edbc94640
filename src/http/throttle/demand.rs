//! How many requests a second a client would make if nothing slowed it down.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Durations that are kept.
const KEPT: usize = 32;
/// So many durations are enough for an estimate.
const ENOUGH: usize = 4;
/// For so many seconds the most requests in flight are remembered, and at least as long before that.
const PEAK_SECONDS: f64 = 1.0;

/// Estimates the demand by Little's law: the most requests that were in flight lately, divided by how long one takes.
///
/// A rate that is counted over time would not do: the first refusals come within milliseconds of the first requests, and
/// requests that pause before they are tried again count for less than they want. Durations are those of granted requests,
/// since a refusal comes sooner; of these the lower quartile is taken, since a busy processor makes all requests in flight
/// late together. Where the callers themselves pause, the estimate is too high.
#[derive(Debug, Default)]
pub(super) struct DemandEstimator {
    in_flight: AtomicU32,
    peak: AtomicU32,
    previous_peak: AtomicU32,
    /// Milliseconds, of the client's time.
    peak_since: AtomicU32,
    next: AtomicUsize,
    /// Microseconds; 0 where there is none yet.
    durations: [AtomicU32; KEPT],
}

impl DemandEstimator {
    /// A request goes out.
    pub(super) fn began(&self) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    /// A request that had begun is over, with an answer or without.
    pub(super) fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request that was sent at `sent` was granted at `now`, in seconds.
    pub(super) fn granted(&self, now: f64, sent: f64) {
        let microseconds = ((now - sent) * 1e6).clamp(1.0, f64::from(u32::MAX)) as u32;
        let next = self.next.fetch_add(1, Ordering::Relaxed) % KEPT;
        self.durations[next].store(microseconds, Ordering::Relaxed);
        // Wraps around after 49 days, as the difference below allows.
        let milliseconds = (now * 1e3) as u64 as u32;
        let since = self.peak_since.load(Ordering::Relaxed);
        if f64::from(milliseconds.wrapping_sub(since)) > PEAK_SECONDS * 1e3
            && self.peak_since.compare_exchange(since, milliseconds, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let peak = self.peak.swap(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
            self.previous_peak.store(peak, Ordering::Relaxed);
        }
    }

    /// Whether enough requests were granted for an estimate.
    pub(super) fn is_known(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= ENOUGH
    }

    /// Requests per second.
    pub(super) fn per_second(&self) -> f64 {
        let mut durations: Vec<_> = self.durations.iter().map(|duration| duration.load(Ordering::Relaxed)).collect();
        durations.retain(|duration| *duration > 0);
        durations.sort_unstable();
        let quartile = durations.get(durations.len() / 4).copied().unwrap_or(1);
        let peak = self.peak.load(Ordering::Relaxed).max(self.previous_peak.load(Ordering::Relaxed)).max(1);
        f64::from(peak) / (f64::from(quartile) * 1e-6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight_and_their_durations_tell_the_demand() {
        let demand = DemandEstimator::default();
        for wave in 0..100 {
            let now = f64::from(wave) * 0.1;
            (0..8).for_each(|_| demand.began());
            // A busy processor makes every third wave late.
            let late = if wave % 3 == 0 { 0.08 } else { 0.0 };
            (0..8).for_each(|_| {
                demand.granted(now + 0.02 + late, now);
                demand.ended();
            });
        }
        let per_second = demand.per_second();
        assert!((399.0..401.0).contains(&per_second), "{per_second}");
    }

    #[test]
    fn a_peak_is_forgotten() {
        let demand = DemandEstimator::default();
        (0..64).for_each(|_| demand.began());
        (0..64).for_each(|_| demand.ended());
        for request in 0..300 {
            let now = f64::from(request) * 0.01;
            demand.began();
            demand.granted(now + 0.01, now);
            demand.ended();
        }
        let per_second = demand.per_second();
        assert!((99.0..101.0).contains(&per_second), "{per_second}");
    }
}
