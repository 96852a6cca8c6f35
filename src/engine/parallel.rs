//! Many runs of one session on several threads, in the order of the samples.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use super::{EngineError, RunValues, Session};

/// Runs `session` on every sample with `jobs` threads (0 and 1: on the caller's) and hands each result to `consume`, in
/// the order of the samples; see [`run_ordered`]. The results do not depend on `jobs`: runs share nothing but the model.
pub fn run_many<S>(
    session: &dyn Session,
    samples: S,
    jobs: usize,
    consume: impl FnMut(usize, Result<RunValues, EngineError>) -> bool,
) where
    S: Iterator<Item = RunValues> + Send,
{
    run_ordered(samples, jobs, |sample| session.run(&sample), consume);
}

/// Does `work` on every item with `jobs` threads (0 and 1: on the caller's) and hands each result to `consume`, in the
/// order of the items, on the caller's thread. At most `4 * jobs` items and results are in memory at a time.
/// `consume` ends the work early by answering `false`.
pub fn run_ordered<I, R>(
    items: impl Iterator<Item = I> + Send,
    jobs: usize,
    work: impl Fn(I) -> R + Sync,
    mut consume: impl FnMut(usize, R) -> bool,
) where
    I: Send,
    R: Send,
{
    if jobs <= 1 {
        for (index, item) in items.enumerate() {
            if !consume(index, work(item)) {
                return;
            }
        }
        return;
    }
    let source = Mutex::new(items.enumerate());
    // A worker takes a ticket before it takes an item and the consumer gives it back once the result has left, so that
    // one slow item does not let the others run ahead without bound.
    let (give, take) = sync_channel::<()>(4 * jobs);
    for _ in 0..4 * jobs {
        let _ = give.try_send(());
    }
    let take = Mutex::new(take);
    let (send, receive) = sync_channel(jobs);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (send, source, take, work) = (send.clone(), &source, &take, &work);
            scope.spawn(move || {
                loop {
                    if take
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv()
                        .is_err()
                    {
                        return;
                    }
                    let next = source.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, item)) = next else { return };
                    if send.send((index, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        'results: for (index, result) in &receive {
            waiting.insert(index, result);
            while let Some(result) = waiting.remove(&due) {
                if !consume(due, result) {
                    break 'results;
                }
                due += 1;
                let _ = give.try_send(());
            }
        }
        drop(receive);
        drop(give);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::engine::RunValue;
    use crate::ir::Tensor;

    /// Answers its input; even samples take longer than odd ones.
    struct Echo(AtomicUsize);

    impl Session for Echo {
        fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let Some(RunValue::Tensor(tensor)) = inputs.get("x") else {
                panic!("no x")
            };
            let value = tensor.single_i64().unwrap();
            std::thread::sleep(Duration::from_millis(if value % 2 == 0 { 3 } else { 0 }));
            Ok(inputs.clone())
        }
    }

    fn samples(count: i64) -> impl Iterator<Item = RunValues> + Send {
        (0..count).map(|value| RunValues::from([("x".to_owned(), RunValue::Tensor(Tensor::scalar(value)))]))
    }

    fn order(count: i64, jobs: usize, limit: usize) -> (Vec<i64>, usize) {
        let session = Echo(AtomicUsize::new(0));
        let mut seen = Vec::new();
        run_many(&session, samples(count), jobs, |index, result| {
            let values = result.unwrap();
            let Some(RunValue::Tensor(tensor)) = values.get("x") else {
                panic!("no x")
            };
            assert_eq!(tensor.single_i64(), Some(index as i64));
            seen.push(index as i64);
            seen.len() < limit
        });
        (seen, session.0.load(Ordering::SeqCst))
    }

    #[test]
    fn results_arrive_in_the_order_of_the_samples() {
        for jobs in [1, 2, 5] {
            assert_eq!(
                order(40, jobs, usize::MAX),
                ((0..40).collect(), 40),
                "{jobs} jobs"
            );
        }
        assert_eq!(order(0, 3, usize::MAX).0, Vec::<i64>::new());
    }

    #[test]
    fn a_consumer_that_has_enough_stops_the_runs() {
        for jobs in [1, 2] {
            let (seen, runs) = order(1000, jobs, 3);
            assert_eq!(seen, [0, 1, 2]);
            assert!(runs <= 3 + 5 * jobs, "{runs} runs with {jobs} jobs");
        }
    }
}
