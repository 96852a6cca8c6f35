//! What candidates are judged on: a part of the evaluation data, on which the input of the step runs once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::gates::{Gate, GateReport, Judged, Weight};
use crate::data::Dataset;
use crate::engine::stream::{Batch, Stream, in_order};
use crate::engine::{Engine, RunValue, RunValues, measure};
use crate::evaluate::{Counter, Figures, State, StateSubject};
use crate::ir::Model;
use crate::lower::Lowering;
use crate::passes::ResourceError;
use crate::verify::{VerifyOptions, verify};

/// Bytes of the answers of the reference that are kept, so that it does not run again for each candidate.
const MOST_KEPT: u64 = 1 << 30;

/// Timed runs of a bound on latency.
const LATENCY_RUNS: usize = 50;

/// A single score above this is class 1.
const THRESHOLD: f64 = 0.5;

/// Samples with what the model that candidates are compared with answers to them.
pub(super) struct Samples<'m> {
    pub(super) data: Arc<Dataset>,
    reference: &'m Model,
    stream: Stream<'m>,
    engine: &'m dyn Engine,
    jobs: usize,
    kept: Mutex<Kept>,
}

/// Answers by batch.
#[derive(Default)]
struct Kept {
    answers: BTreeMap<u64, Arc<RunValues>>,
    bytes: u64,
}

/// A batch with what both models answer.
pub(super) struct Ran {
    pub(super) batch: Batch,
    pub(super) expected: Arc<RunValues>,
    pub(super) found: RunValues,
}

impl<'m> Samples<'m> {
    /// Samples of `data`, which fit the inputs of `reference`.
    pub(super) fn new(
        data: Dataset,
        reference: &'m Model,
        engine: &'m dyn Engine,
        jobs: usize,
    ) -> Result<Self, ResourceError> {
        Ok(Self {
            data: Arc::new(data),
            reference,
            stream: Stream::compile(reference, &[], &Lowering(engine))?,
            engine,
            jobs,
            kept: Mutex::default(),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        let range = self.data.sample_range();
        range.end - range.start
    }

    /// Compiles a candidate.
    pub(super) fn compile<'c>(&self, model: &'c Model) -> Result<Stream<'c>, ResourceError> {
        Ok(Stream::compile(model, &[], &Lowering(self.engine))?)
    }

    fn expected(&self, batch: &Batch) -> Result<Arc<RunValues>, ResourceError> {
        let known = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answers) = known().answers.get(&batch.index) {
            return Ok(Arc::clone(answers));
        }
        let answers = Arc::new(self.stream.run(batch)?);
        let bytes: u64 = answers.values().map(bytes).sum();
        let mut kept = known();
        if kept.bytes + bytes <= MOST_KEPT {
            kept.bytes += bytes;
            kept.answers.insert(batch.index, Arc::clone(&answers));
        }
        Ok(answers)
    }

    /// Runs a candidate over the first `batches` and hands over what both answer, in the order of the samples.
    pub(super) fn run(
        &self,
        candidate: &Stream<'_>,
        batches: u64,
        mut see: impl FnMut(&Ran) -> Result<(), ResourceError>,
    ) -> Result<(), ResourceError> {
        let work = |index: u64| -> Result<Ran, ResourceError> {
            let batch = self.data.batch(index)?;
            let expected = self.expected(&batch)?;
            let found = candidate.run(&batch)?;
            Ok(Ran {
                batch,
                expected,
                found,
            })
        };
        let range = self.data.batches();
        let end = range.end.min(range.start.saturating_add(batches));
        in_order(range.start..end, self.jobs, work, |ran| see(&ran))
    }

    /// Counts what both models answered.
    pub(super) fn counter<'c>(&'c self, model: &'c Model) -> Counter<'c> {
        Counter::new(model, Some(self.reference), &self.data, None, THRESHOLD)
    }
}

/// Bytes of the tensors of an answer.
fn bytes(value: &RunValue) -> u64 {
    match value {
        RunValue::Tensor(tensor) => tensor.byte_len(),
        RunValue::Sequence(values) => values.iter().map(bytes).sum(),
        _ => 0,
    }
}

/// What gates are judged by, beside the figures of the samples.
pub(super) struct Terms<'a> {
    pub(super) gates: &'a [Gate],
    /// What the model that candidates are compared with weighs.
    pub(super) before: Weight,
    /// How outputs are compared, where a gate asks for that.
    pub(super) verify: &'a VerifyOptions,
    pub(super) progress: &'a (dyn Fn(&str, u64, Option<u64>) + Sync),
}

impl Terms<'_> {
    /// Judges those of the gates that `wanted` names, on the samples where one needs them.
    pub(super) fn judge(
        &self,
        model: &Model,
        after: Weight,
        samples: Option<&Samples<'_>>,
        wanted: &dyn Fn(&Gate) -> bool,
    ) -> Result<Vec<GateReport>, ResourceError> {
        let gates: Vec<&Gate> = self.gates.iter().filter(|gate| wanted(gate)).collect();
        let counted = gates.iter().any(|gate| gate.needs_evaluation());
        let timed = gates.iter().any(|gate| matches!(gate, Gate::Latency(_)));
        let evaluated = match samples.filter(|_| counted) {
            Some(samples) => Some(self.figures(model, samples, timed)?),
            None => None,
        };
        let compared = gates.iter().any(|gate| matches!(gate, Gate::Outputs(_)));
        let verified = samples.filter(|_| compared).map(|samples| {
            let mut options = self.verify.clone();
            options.data = Some(("evaluation data".to_owned(), Arc::clone(&samples.data)));
            options.bounds.usual = true;
            verify(samples.reference, model, samples.engine, &options)
        });
        let judged = Judged {
            before: self.before,
            after,
            verify: verified.as_ref(),
            figures: evaluated.as_ref().map(|(figures, _)| figures),
            state: evaluated.as_ref().map(|(_, state)| state),
            reason: None,
        };
        Ok(gates.iter().map(|gate| gate.judge(&judged)).collect())
    }

    fn figures(
        &self,
        model: &Model,
        samples: &Samples<'_>,
        timed: bool,
    ) -> Result<(Figures, State), ResourceError> {
        let stream = samples.compile(model)?;
        let counter = samples.counter(model);
        let mut state = State::new(StateSubject::default());
        samples.run(&stream, u64::MAX, |ran| {
            counter.count(&ran.batch, &ran.found, Some(&ran.expected), &mut state)?;
            (self.progress)("evaluate", state.samples(), Some(samples.count()));
            Ok(())
        })?;
        let mut figures = Figures::of(&state);
        if timed {
            let batch = samples.data.batch(samples.data.batches().start)?;
            let sessions = [stream.session(), samples.stream.session()];
            let mut times = measure(&sessions, &batch.inputs, LATENCY_RUNS)?.into_iter();
            figures.latency_ms = times.next();
            if let Some(against) = &mut figures.against {
                against.latency_ms = times.next();
            }
        }
        Ok((figures, state))
    }
}
