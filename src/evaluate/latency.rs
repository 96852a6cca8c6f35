//! Latency and memory of runs.

use schemars::JsonSchema;
use serde::Serialize;

use super::EvaluateError;
use crate::engine::{RunValues, Session, workers_memory};

/// Time of single runs, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Latency {
    /// Half of the runs are faster.
    pub p50: f64,
    /// 95 % of the runs are faster.
    pub p95: f64,
    /// Fastest run: the figure that other work on the machine disturbs least.
    pub min: f64,
    /// Timed runs.
    pub runs: usize,
}

/// Runs before the clock starts.
const WARM_UP: usize = 3;

/// Times `runs` runs of each session on the same inputs, one after the other in turn, so that a change of the machine's speed
/// meets all of them alike.
pub fn measure(
    sessions: &[&dyn Session],
    inputs: &RunValues,
    runs: usize,
) -> Result<Vec<Latency>, EvaluateError> {
    for session in sessions {
        for _ in 0..WARM_UP {
            session.run(inputs)?;
        }
    }
    let mut times = vec![Vec::with_capacity(runs); sessions.len()];
    for _ in 0..runs.max(1) {
        for (session, times) in sessions.iter().zip(&mut times) {
            times.push(session.time(inputs)?.as_secs_f64() * 1e3);
        }
    }
    Ok(times.into_iter().map(summary).collect())
}

fn summary(mut times: Vec<f64>) -> Latency {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
        times.get(index).copied().unwrap_or(0.0)
    };
    Latency {
        p50: at(0.5),
        p95: at(0.95),
        min: at(0.0),
        runs: times.len(),
    }
}

/// Peak resident memory of this process and of those that run its engines, in bytes, where the operating system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024 + workers_memory())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_sorted_times() {
        let latency = summary((1..=101).rev().map(f64::from).collect());
        assert_eq!((latency.p50, latency.p95, latency.min), (51.0, 96.0, 1.0));
    }
}
