//! The budget for memory that the library holds on a client's behalf.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LEAST_DEFAULT: u64 = 32 << 20;
const MOST_DEFAULT: u64 = 512 << 20;

/// Bytes that may be held, and bytes that are. Nobody waits here: who gets no memory does without, because
/// what would free it may be up to the caller that is waiting.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0) })
    }

    /// All that may be held.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What one use of many may take without starving the others.
    pub(crate) fn fair_share(&self) -> u64 {
        self.limit / 4
    }

    /// What is held now, and the most that ever was.
    pub(crate) fn use_and_peak(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed))
    }

    /// Takes `bytes` out of the budget until the reservation is dropped, if they are there.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let fits = |used: u64| used.checked_add(bytes).filter(|&total| total <= self.limit);
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        Some(Reservation { budget: self.clone(), bytes })
    }
}

/// A part of a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// Makes it one of `bytes`, if the budget has them.
    pub(crate) fn resize(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            let Some(mut more) = self.budget.try_reserve(bytes - self.bytes) else { return false };
            more.bytes = 0;
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a client may hold when nobody said otherwise: an eighth of the memory that this process can have, shared
/// with the ranks beside it, and 512 MiB where there is plenty.
pub(crate) fn default_memory_limit() -> u64 {
    let ranks = std::env::var("LOCAL_WORLD_SIZE").ok().and_then(|value| value.trim().parse().ok()).unwrap_or(1);
    share(available(Path::new("/proc"), Path::new("/sys/fs/cgroup")), ranks)
}

fn share(available: u64, ranks: u64) -> u64 {
    (available / 8 / ranks.max(1)).clamp(LEAST_DEFAULT, MOST_DEFAULT)
}

/// The machine's memory, or what the cgroups around this process leave of it. What cannot be read sets no limit.
fn available(proc: &Path, cgroups: &Path) -> u64 {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let meminfo = read(proc.join("meminfo"));
    let total =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let mut least = total.map_or(u64::MAX, |kib: u64| kib.saturating_mul(1024));
    let membership = read(proc.join("self/cgroup"));
    for line in membership.lines() {
        // v2: `0::/path`; v1: `7:memory:/path`.
        let mut fields = line.splitn(3, ':').skip(1);
        let (root, file) = match fields.next() {
            Some("") => (cgroups.to_owned(), "memory.max"),
            Some(controllers) if controllers.split(',').any(|name| name == "memory") => {
                (cgroups.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be the host's, which is not there; the root is then the container's own.
        let inner = Path::new(fields.next().unwrap_or_default().trim_start_matches('/'));
        for group in inner.ancestors() {
            least = number(read(root.join(group).join(file))).unwrap_or(u64::MAX).min(least);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_cgroup_and_ranks() {
        const GIB: u64 = 1 << 30;
        assert_eq!(share(u64::MAX, 1), 512 << 20);
        assert_eq!(share(2 * GIB, 1), 256 << 20);
        assert_eq!(share(2 * GIB, 4), 64 << 20);
        assert_eq!((share(2 * GIB, 0), share(1 << 20, 1)), (256 << 20, 32 << 20));

        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = || available(&root.path().join("proc"), &root.path().join("cgroup"));
        assert_eq!(found(), u64::MAX);
        write("proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\n");
        assert_eq!(found(), 8 * GIB);
        write("proc/self/cgroup", "0::/pod/container\n");
        write("cgroup/pod/container/memory.max", "max\n");
        assert_eq!(found(), 8 * GIB);
        write("cgroup/pod/memory.max", "4294967296\n");
        assert_eq!(found(), 4 * GIB);
        write("proc/self/cgroup", "5:cpu,memory:/job\n");
        write("cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(found(), GIB);
    }

    #[test]
    fn the_limit_holds_and_what_is_dropped_comes_back() {
        let budget = Budget::new(10);
        let first = budget.try_reserve(7).unwrap();
        assert!(budget.try_reserve(4).is_none());
        assert!(budget.try_reserve(u64::MAX).is_none());
        drop(first);
        assert!(budget.try_reserve(10).is_some());
    }
}
