//! The quota of a service: a token bucket of requests and one of bytes. A request beyond it is refused with 503
//! ServerBusy before it is executed.

use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct Quota {
    pub requests_per_second: f64,
    /// Request and response bodies together.
    pub bytes_per_second: f64,
    /// The capacity of the buckets, in seconds of the rate.
    pub burst: f64,
    /// `Retry-After` of the refusals, in seconds.
    pub retry_after: Option<u32>,
}

impl Quota {
    /// A quota of requests only.
    pub fn requests(per_second: f64) -> Quota {
        Quota { requests_per_second: per_second, bytes_per_second: f64::INFINITY, burst: 0.2, retry_after: None }
    }
}

/// How many requests were granted and refused so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub granted: u64,
    pub refused: u64,
}

#[derive(Default)]
pub struct Bucket {
    quota: Option<Quota>,
    requests: f64,
    bytes: f64,
    filled: Option<Instant>,
    /// Counted from the first call of [`set`](Self::set) on.
    counts: Option<BTreeMap<String, Count>>,
}

impl Bucket {
    /// Replaces the quota; the buckets are full then.
    pub fn set(&mut self, quota: Option<Quota>) {
        self.quota = quota;
        self.filled = None;
        self.counts.get_or_insert_default();
    }

    pub fn counts(&self) -> BTreeMap<String, Count> {
        self.counts.clone().unwrap_or_default()
    }

    /// Takes a request for `path` from the bucket; returns whether it is granted. Its bytes are spent later, when they
    /// are known.
    pub fn grants(&mut self, path: &str) -> bool {
        self.fill();
        let granted = self.requests >= 1.0 && self.bytes > 0.0;
        self.requests -= if granted { 1.0 } else { 0.0 };
        if let Some(counts) = &mut self.counts {
            let count = counts.entry(path.to_owned()).or_default();
            *(if granted { &mut count.granted } else { &mut count.refused }) += 1;
        }
        granted
    }

    pub fn retry_after(&self) -> Option<u32> {
        self.quota.and_then(|quota| quota.retry_after)
    }

    pub fn spend(&mut self, bytes: u64) {
        self.bytes -= bytes as f64;
    }

    fn fill(&mut self) {
        let Some(quota) = self.quota else {
            (self.requests, self.bytes) = (f64::INFINITY, f64::INFINITY);
            return;
        };
        let now = Instant::now();
        let most = |per_second: f64| (per_second * quota.burst).max(1.0);
        let seconds = self.filled.replace(now).map_or(f64::INFINITY, |before| (now - before).as_secs_f64());
        self.requests = (self.requests + seconds * quota.requests_per_second).min(most(quota.requests_per_second));
        self.bytes = (self.bytes + seconds * quota.bytes_per_second).min(most(quota.bytes_per_second));
    }
}
