//! Latency and memory of runs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{EngineError, RunValues, Session, workers_memory};

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

/// Timed runs of each session where a time bounds them: fewer say nothing, more say no more.
const FEWEST: usize = 3;
const MOST: usize = 50;

/// The times of two models, run in turn on the same inputs with one thread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Pace {
    /// The reference.
    pub reference: Latency,
    /// The model.
    pub model: Latency,
}

impl Pace {
    /// The time of the model as a share of the reference's. Of the shares of the median and of the fastest run, the one nearer to 1: what
    /// moves one of them alone is the machine.
    pub fn share(&self) -> f64 {
        let share = |of: fn(&Latency) -> f64| match of(&self.reference) {
            time if time > 0.0 => of(&self.model) / time,
            _ => 1.0,
        };
        let (median, fastest) = (share(|latency| latency.p50), share(|latency| latency.min));
        match (median > 1.0, fastest > 1.0) {
            (true, true) => median.min(fastest),
            (false, false) => median.max(fastest),
            _ => 1.0,
        }
    }
}

/// Times `runs` runs of each session on the same inputs, one after the other in turn, so that a change of the machine's speed
/// meets all of them alike.
pub fn measure(
    sessions: &[&dyn Session],
    inputs: &RunValues,
    runs: usize,
) -> Result<Vec<Latency>, EngineError> {
    for _ in 0..WARM_UP {
        for session in sessions {
            session.run(inputs)?;
        }
    }
    in_turn(sessions, inputs, runs)
}

/// Times a session and its reference for about `time`; `None` where a few runs would take ten times as long.
pub fn pace(
    (reference, model): (&dyn Session, &dyn Session),
    inputs: &RunValues,
    time: Duration,
) -> Result<Option<Pace>, EngineError> {
    let round = reference.time(inputs)? + model.time(inputs)?;
    if round * FEWEST as u32 > time * 10 {
        return Ok(None);
    }
    let sessions = [reference, model];
    if round * WARM_UP as u32 * 4 < time {
        in_turn(&sessions, inputs, WARM_UP - 1)?;
    }
    let rounds = time.as_secs_f64() / round.as_secs_f64().max(1e-9);
    let times = in_turn(&sessions, inputs, (rounds as usize).clamp(FEWEST, MOST))?;
    Ok(match times.as_slice() {
        [reference, model] => Some(Pace {
            reference: *reference,
            model: *model,
        }),
        _ => None,
    })
}

fn in_turn(
    sessions: &[&dyn Session],
    inputs: &RunValues,
    rounds: usize,
) -> Result<Vec<Latency>, EngineError> {
    let mut times = vec![Vec::with_capacity(rounds); sessions.len()];
    for _ in 0..rounds.max(1) {
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

    #[test]
    fn slower_is_what_median_and_fastest_run_both_say() {
        let times = |min, p50| Latency {
            p50,
            p95: p50,
            min,
            runs: 9,
        };
        let share = |min, p50| {
            let pace = Pace {
                reference: times(1.0, 2.0),
                model: times(min, p50),
            };
            pace.share()
        };
        assert_eq!(share(1.5, 2.4), 1.2);
        assert_eq!(share(0.5, 1.8), 0.9);
        assert_eq!(share(0.9, 3.0), 1.0, "one of them alone says nothing");
    }

    /// Runs for as long as it is told.
    struct Sleeper(Duration);

    impl Session for Sleeper {
        fn run(&self, _: &RunValues) -> Result<RunValues, EngineError> {
            Ok(RunValues::new())
        }

        fn time(&self, _: &RunValues) -> Result<Duration, EngineError> {
            Ok(self.0)
        }
    }

    #[test]
    fn a_time_bounds_the_rounds_and_what_takes_too_long_is_not_timed() {
        let of = |run: u64, time: u64| {
            let session = Sleeper(Duration::from_millis(run));
            pace(
                (&session, &session),
                &RunValues::new(),
                Duration::from_millis(time),
            )
            .unwrap()
        };
        assert_eq!(of(10, 200).unwrap().model.runs, 10);
        assert_eq!(of(10, 20).unwrap().model.runs, FEWEST);
        assert_eq!(of(0, 20).unwrap().reference.runs, MOST);
        assert!(of(100, 20).is_none());
    }
}
