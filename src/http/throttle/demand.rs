//! Estimates how many requests per second a client would send without a limit.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The number of latest durations that are kept.
const KEPT: usize = 32;
/// The number of durations that are enough for an estimate.
const ENOUGH: usize = 4;
/// The length in seconds of each of the two latest periods whose peak of requests in flight counts.
const PEAK_SECONDS: f64 = 1.0;

/// Estimates the demand by Little's law: the recent peak of requests in flight, divided by the duration of one.
///
/// Counting requests over time would not work: the first refusals come within milliseconds of the first requests, and
/// requests that pause before a retry would lower the count. Only granted requests give durations, because refusals
/// come sooner. The lower quartile is used, because a busy processor delays all requests in flight together. If the
/// callers pause between requests, the estimate is too high.
#[derive(Debug, Default)]
pub(super) struct DemandEstimator {
    in_flight: AtomicU32,
    peak: AtomicU32,
    previous_peak: AtomicU32,
    /// When the current period began, in milliseconds of the client's time.
    peak_since: AtomicU32,
    next: AtomicUsize,
    /// Microseconds; 0 for none yet.
    durations: [AtomicU32; KEPT],
}

impl DemandEstimator {
    /// Records that a request is sent now.
    pub(super) fn began(&self) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    /// Records that a request has ended, with a response or without.
    pub(super) fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records that a request that was sent at `sent` was granted at `now`, both in seconds.
    pub(super) fn granted(&self, now: f64, sent: f64) {
        let microseconds = ((now - sent) * 1e6).clamp(1.0, f64::from(u32::MAX)) as u32;
        let next = self.next.fetch_add(1, Ordering::Relaxed) % KEPT;
        self.durations[next].store(microseconds, Ordering::Relaxed);
        // Wraps around after 49 days; the wrapping difference below allows that.
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

    /// The estimated demand in requests per second.
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
    fn demand_follows_from_requests_in_flight_and_their_durations() {
        let demand = DemandEstimator::default();
        for wave in 0..100 {
            let now = f64::from(wave) * 0.1;
            (0..8).for_each(|_| demand.began());
            // A busy processor delays every third wave.
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
    fn an_old_peak_does_not_count() {
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
