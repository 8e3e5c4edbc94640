//! The default of the option `memory_limit`.

use std::path::{Path, PathBuf};

/// The smallest and the largest default, in bytes.
const MIN_DEFAULT: u64 = 32 << 20;
const MAX_DEFAULT: u64 = 512 << 20;

/// The default limit in bytes: an eighth of the memory that this process can use, divided by the number of ranks on
/// this machine; at least 32 MiB and at most 512 MiB.
pub(crate) fn default_memory_limit() -> u64 {
    let ranks = std::env::var("LOCAL_WORLD_SIZE").ok().and_then(|value| value.trim().parse().ok()).unwrap_or(1);
    share(available(Path::new("/proc"), Path::new("/sys/fs/cgroup")), ranks)
}

fn share(available: u64, ranks: u64) -> u64 {
    (available / 8 / ranks.max(1)).clamp(MIN_DEFAULT, MAX_DEFAULT)
}

/// The machine's memory in bytes, or the smallest limit of this process's cgroups. A file that cannot be read sets no
/// limit.
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
        // In a container the path may be the host's and not exist here. The root is then the container's cgroup.
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
}
