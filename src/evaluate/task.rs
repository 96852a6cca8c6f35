//! Evaluating a model, with or without a reference, from compiling to figures.

use std::time::Instant;

use super::EvaluateError;
use super::report::Figures;
use super::run::{Counter, Options, check_labels, evaluate, uncovered};
use super::state::{Checkpoint, State};
use crate::data::Dataset;
use crate::engine::stream::Stream;
use crate::engine::{Engine, Latency, Session, measure, peak_memory};
use crate::ir::{Graph, Model, model_digest};
use crate::lower::Lowering;
use crate::ops::works_on_codes;
use crate::parts::Work;

/// What models are evaluated on, and how.
pub struct Task<'a> {
    /// The engine.
    pub engine: &'a dyn Engine,
    /// The data.
    pub data: &'a Dataset,
    /// Output that predictions are read from; the first by default.
    pub output: Option<String>,
    /// A single score above this is class 1.
    pub threshold: f64,
    /// Threads.
    pub jobs: usize,
    /// Timed runs; 0 leaves latency out.
    pub latency_runs: usize,
    /// Called with the samples done.
    pub progress: &'a dyn Fn(u64),
}

/// Said of the time of a quantized model in the built-in engine.
pub const NO_INTEGERS: &str = "the built-in engine computes quantized models in float, so they are not faster than float models: \
     --engine ort times them as ONNX Runtime runs them, on integers";

/// Whether a model has operators that work on codes.
pub fn is_quantized(model: &Model) -> bool {
    let on_codes = |graph: &Graph| {
        graph
            .node_ids()
            .any(|id| graph.operator(id).is_some_and(works_on_codes))
    };
    model
        .graph_paths()
        .iter()
        .filter_map(|path| model.graph_at(path))
        .any(on_codes)
}

impl Task<'_> {
    /// Compiles a model for runs with one thread each, as samples run side by side.
    pub fn compile<'m>(&self, model: &'m Model) -> Result<Stream<'m>, EvaluateError> {
        Ok(Stream::compile(model, &[], &Lowering(self.engine))?)
    }

    /// Counts what `model` and `reference` answer, where something else runs them.
    pub fn counter<'m>(&'m self, model: &'m Model, reference: Option<&'m Model>) -> Counter<'m> {
        Counter::new(model, reference, self.data, self.output.clone(), self.threshold)
    }

    /// Runs the samples that `state` does not hold yet and answers the figures of all it holds. Nothing is compiled where there is
    /// nothing to run.
    pub fn figures<'c>(
        &'c self,
        model: &Model,
        reference: Option<&Model>,
        state: &mut State,
        checkpoint: Option<Checkpoint<'c>>,
    ) -> Result<Figures, EvaluateError> {
        let needs_labels = reference.is_none();
        check_labels(self.data, needs_labels)?;
        if self.data.ledger().is_some() {
            self.joined(model, reference, state)?;
        }
        let todo = uncovered(self.data, state);
        if todo.is_empty() && self.latency_runs == 0 {
            // The part of a shard without samples merges with the others.
            if let Some(write) = checkpoint {
                write(state)?;
            }
            let mut figures = Figures::of(state);
            figures.peak_memory_bytes = peak_memory();
            return Ok(figures);
        }
        let stream = self.compile(model)?;
        let other = reference.map(|reference| self.compile(reference)).transpose()?;
        let counter = self.counter(model, reference);
        let before = state.samples();
        let start = Instant::now();
        let options = Options {
            jobs: self.jobs,
            checkpoint,
            progress: self.progress,
        };
        evaluate(
            &counter,
            &stream,
            other.as_ref(),
            (self.data, todo),
            state,
            options,
        )?;
        let seconds = start.elapsed().as_secs_f64();
        let mut figures = Figures::of(state);
        figures.notes = counter.notes();
        figures.notes.extend(self.data.left_out().map(str::to_owned));
        let ran = state.samples() - before;
        figures.samples_per_second = (ran > 0 && seconds > 0.0).then(|| ran as f64 / seconds);
        if self.latency_runs > 0 {
            let mut times = self
                .latency(&[Some(stream.session()), other.as_ref().map(Stream::session)])?
                .into_iter();
            figures.latency_ms = times.next();
            let float = self.engine.name() == "tract";
            let quantized = |model: &Model| float && is_quantized(model);
            figures.latency_note =
                (quantized(model) || reference.is_some_and(quantized)).then(|| NO_INTEGERS.to_owned());
            if let Some(against) = &mut figures.against {
                against.latency_ms = times.next();
            }
        }
        figures.peak_memory_bytes = peak_memory();
        Ok(figures)
    }

    /// Counts what `state` does not hold in parts that other processes may do.
    fn joined(
        &self,
        model: &Model,
        reference: Option<&Model>,
        state: &mut State,
    ) -> Result<(), EvaluateError> {
        let Some(ledger) = self.data.ledger() else {
            return Ok(());
        };
        if uncovered(self.data, state).is_empty() {
            return Ok(());
        }
        let cuts = self.data.cuts(ledger.cuts());
        let names: Vec<String> = cuts.iter().map(|cut| self.data.words(cut)).collect();
        let work = Work::new(
            "evaluate",
            [
                ("model", model_digest(model)),
                ("reference", reference.map(model_digest).unwrap_or_default()),
                ("output", self.output.clone().unwrap_or_default()),
                ("threshold", self.threshold.to_string()),
                (
                    "labels",
                    format!("{:?}", self.data.task().map(|task| task.from_reference)),
                ),
                ("engine", self.engine.release()),
            ],
        );
        let subject = state.subject.clone();
        let counter = self.counter(model, reference);
        let mut compiled = None;
        let make = |index: usize| -> Result<Vec<u8>, EvaluateError> {
            let (stream, other) = match &mut compiled {
                Some(compiled) => compiled,
                empty @ None => {
                    let other = reference.map(|reference| self.compile(reference)).transpose()?;
                    empty.insert((self.compile(model)?, other))
                }
            };
            let mut part = State::new(subject.clone());
            let options = Options {
                jobs: self.jobs,
                checkpoint: None,
                progress: self.progress,
            };
            let todo = cuts.get(index).cloned().unwrap_or_default().collect();
            evaluate(
                &counter,
                stream,
                other.as_ref(),
                (self.data, todo),
                &mut part,
                options,
            )?;
            Ok(part.to_bytes())
        };
        ledger.each(&self.data.described(work), &names, make, |_, bytes| {
            state.merge(&State::from_bytes(&bytes)?)
        })
    }

    fn latency(&self, sessions: &[Option<&dyn Session>]) -> Result<Vec<Latency>, EvaluateError> {
        let sessions: Vec<&dyn Session> = sessions.iter().flatten().copied().collect();
        let batch = self.data.batch(
            self.data
                .batches()
                .start
                .min(self.data.samples().saturating_sub(1)),
        )?;
        Ok(measure(&sessions, &batch.inputs, self.latency_runs)?)
    }
}

/// Names of a model's outputs, in order.
pub fn names(model: &Model) -> Vec<String> {
    model
        .graph
        .outputs()
        .iter()
        .map(|output| output.name.to_string())
        .collect()
}
