//! Measures two ways to do the same work: their wall time and their CPU time.

use std::time::Instant;

const RUNS: usize = 5;

/// Times in seconds.
#[derive(Clone, Copy)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
}

/// The CPU time of this process so far, of all threads.
pub fn cpu_seconds() -> f64 {
    // SAFETY: `usage` is plain data that getrusage fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

pub fn measure(mut work: impl FnMut()) -> Cost {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    work();
    Cost { wall: began.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }
}

pub fn median(costs: &[Cost]) -> Cost {
    let of = |get: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(get).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Cost { wall: of(|cost| cost.wall), cpu: of(|cost| cost.cpu) }
}

/// Runs both several times, alternately, so that a change in the load of the machine affects both. Prints the medians
/// and their ratios.
pub fn compare(name: &str, mut floor: impl FnMut(), mut ours: impl FnMut()) {
    floor();
    ours();
    let (mut floors, mut all) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        floors.push(measure(&mut floor));
        all.push(measure(&mut ours));
    }
    let (floor, ours) = (median(&floors), median(&all));
    println!(
        "{name:34} floor {:6.3} s {:6.3} cpu   ours {:6.3} s {:6.3} cpu   ratio {:5.2} wall {:5.2} cpu",
        floor.wall,
        floor.cpu,
        ours.wall,
        ours.cpu,
        ours.wall / floor.wall,
        ours.cpu / floor.cpu
    );
}
