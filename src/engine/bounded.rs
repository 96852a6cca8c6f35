//! A bound on the time of each call of an engine.
//!
//! Some models make an engine's analysis grow without end, or loop for ever. A call runs on a thread of its own; one that does not
//! come back in time is given up, and its thread ends with the process. How long a call may take follows from the model:
//! real ones need a small part of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

use super::own::Own;
use super::{EngineError, RunValue, RunValues, worker};
use crate::ir::{Model, NodeKind};

/// What a call may take in any case, in seconds.
const LEAST: f64 = 15.0;
/// What it may take for each node, in seconds.
const NODE: f64 = 0.1;
/// Elements of weights that it may compile in a second.
const COMPILED: f64 = 1e6;
/// Products of an element of a weight with one of an input that a run may make in a second.
const PRODUCTS: f64 = 1e9;
/// What no call may take, in seconds.
const MOST: f64 = 24.0 * 3600.0;

/// Threads that wait for the next call.
const IDLE: usize = 64;
/// The stack of such a thread: engines recurse along a model.
const STACK: usize = 64 << 20;

/// The bound that the user chose, in milliseconds; 0: none.
static CHOSEN: AtomicU64 = AtomicU64::new(0);

/// Bounds each further call of an engine in this process by `limit`, or, with `None`, by what its model leads to expect.
///
/// # Examples
///
/// ```
/// secateur::limit_calls(Some(std::time::Duration::from_secs(60)));
/// ```
pub fn limit_calls(limit: Option<Duration>) {
    let milliseconds = limit.map_or(0, |limit| {
        u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1)
    });
    if CHOSEN.swap(milliseconds, Ordering::Relaxed) != milliseconds {
        worker::retire();
    }
}

/// The bound that the user chose.
pub(super) fn chosen() -> Option<Duration> {
    let milliseconds = CHOSEN.load(Ordering::Relaxed);
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

/// How large a model is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    nodes: f64,
    weights: f64,
}

impl Extent {
    pub(super) fn of(model: &Model) -> Self {
        let mut extent = Self::default();
        for graph in model.graph_paths().iter().filter_map(|path| model.graph_at(path)) {
            for id in graph.node_ids() {
                match graph.get(id).map(|node| &node.kind) {
                    Some(NodeKind::Constant(constant)) => {
                        let elements = constant.tensor.as_ref().map_or(0, |tensor| tensor.elements());
                        extent.weights += elements as f64;
                    }
                    Some(NodeKind::Operator(_)) => extent.nodes += 1.0,
                    _ => {}
                }
            }
        }
        extent
    }

    /// How long compiling may take.
    pub(super) fn compiling(&self) -> Duration {
        bound(NODE * self.nodes + self.weights / COMPILED)
    }

    /// Nodes, and elements of weights.
    #[cfg(target_os = "linux")]
    pub(super) fn parts(&self) -> (f64, f64) {
        (self.nodes, self.weights)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn from_parts((nodes, weights): (f64, f64)) -> Self {
        Self { nodes, weights }
    }

    /// How long a run on this many elements may take.
    pub(super) fn running(&self, elements: u64) -> Duration {
        bound(NODE * self.nodes + self.weights * elements as f64 / PRODUCTS)
    }
}

/// Elements of all tensors in `inputs`.
pub(super) fn elements(inputs: &RunValues) -> u64 {
    fn of(value: &RunValue) -> u64 {
        match value {
            RunValue::Tensor(tensor) => tensor.elements(),
            RunValue::Sequence(values) => values.iter().map(of).sum(),
            RunValue::Optional(value) => value.as_deref().map_or(0, of),
            RunValue::Map(keys, value) => keys.elements() + of(value),
        }
    }
    inputs.values().map(of).sum()
}

fn bound(seconds: f64) -> Duration {
    chosen().unwrap_or_else(|| Duration::from_secs_f64((LEAST + seconds).min(MOST)))
}

type Job = Box<dyn FnOnce(&Sender<Handed>) + Send>;

/// A job by another name, as the type of a channel cannot name itself.
struct Handed(Job);

static WAITING: Own<Vec<Sender<Handed>>> = Own::new(Vec::new());

/// Does `work` and gives it up after `limit`; `at` says what it is: `compiling`, `a run`.
pub(super) fn bounded<T: Send + 'static>(
    engine: &'static str,
    at: &'static str,
    limit: Duration,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    if worker::serving() {
        // The program that waits for the answer ends this process if it is late.
        worker::say(at, limit);
        return work();
    }
    let (give, take) = sync_channel(1);
    let job = Handed(Box::new(move |own: &Sender<Handed>| {
        let result = work();
        WAITING.with(|waiting| {
            if waiting.len() < IDLE {
                waiting.push(own.clone());
            }
        });
        // Nobody listens after the limit.
        let _ = give.send(result);
    }));
    hand_over(engine, job)?;
    match take.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(EngineError::TimedOut {
            engine,
            at,
            seconds: limit.as_secs_f64(),
            node: None,
        }),
        Err(RecvTimeoutError::Disconnected) => Err(EngineError::Failed {
            engine,
            reason: "its thread ended before it had an answer".to_owned(),
        }),
    }
}

/// Gives a job to a thread that waits, or to a new one.
fn hand_over(engine: &'static str, mut job: Handed) -> Result<(), EngineError> {
    let failed = |reason: String| EngineError::Failed { engine, reason };
    loop {
        let idle = WAITING.with(Vec::pop);
        match idle {
            Some(thread) => match thread.send(job) {
                Ok(()) => return Ok(()),
                Err(unsent) => job = unsent.0,
            },
            None => break,
        }
    }
    let (send, receive) = channel::<Handed>();
    let own = send.clone();
    std::thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            while let Ok(Handed(job)) = receive.recv() {
                job(&own);
            }
        })
        .map_err(|error| failed(format!("no thread for it: {error}")))?;
    send.send(job)
        .map_err(|_| failed("its thread ended at once".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_come_back_is_given_up() {
        let endless = || -> Result<(), EngineError> {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        };
        let found = bounded("tract", "compiling", Duration::from_millis(50), endless);
        assert_eq!(
            found.unwrap_err().to_string(),
            "the engine tract took longer than 0.05 s at compiling"
        );
        let inside = std::thread::current().id();
        let found = bounded("tract", "a run", Duration::from_secs(60), move || {
            Ok(std::thread::current().id() != inside)
        });
        assert!(found.unwrap());
    }

    #[test]
    fn real_models_have_time() {
        let small = Extent::default();
        assert_eq!(small.compiling(), Duration::from_secs_f64(LEAST));
        let detector = Extent {
            nodes: 300.0,
            weights: 5e6,
        };
        assert!(detector.compiling() > Duration::from_secs(40));
        assert!(detector.running(150_528) > Duration::from_secs(600));
        let huge = Extent {
            nodes: 1e9,
            weights: 1e12,
        };
        assert_eq!(huge.running(u64::MAX), Duration::from_secs_f64(MOST));
    }
}
