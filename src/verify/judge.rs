//! The verdict on a pair of models: both run on the same inputs, and their outputs are compared.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::bounds::Clock;
use super::cover::Coverage;
use super::explain::{Explained, Sample};
use super::further;
use super::interface::{self, Names};
use super::kind::SampleKind;
use super::landmarks::Landmarks;
use super::overrides::Defaults;
use super::random::{Randomness, randomness};
use super::report::{NotChecked, VerifyOptions, VerifyReport};
use super::session::{self, Shapes};
use super::sizes::{self, Sizes};
use super::synthesize::Synthesizer;
use super::tally::{Tally, Trial};
use super::watch::{Sessions, Watch};
use crate::analysis::infer;
use crate::data::{DataError, Dataset};
use crate::engine::compare::{OutputFigures, Verdict};
use crate::engine::stream::Batch;
use crate::engine::{Engine, EngineError, Pace, RunValues, pace};
use crate::ir::Model;

/// Compares `model` with `reference`. Never an error: what could not be run is in the report.
pub fn verify(
    reference: &Model,
    model: &Model,
    engine: &dyn Engine,
    options: &VerifyOptions,
) -> VerifyReport {
    watched(reference, model, engine, options, None)
}

/// The same, and `watch` sees what both answered to given data. When the time of the comparison is over the rest of the data run for the
/// watch alone.
pub fn watched(
    reference: &Model,
    model: &Model,
    engine: &dyn Engine,
    options: &VerifyOptions,
    watch: Option<&mut Watch<'_>>,
) -> VerifyReport {
    let names = Names::new(reference, model, &options.map);
    let mut pair = Pair {
        reference,
        model,
        engine,
        options,
        names: names.clone().unwrap_or_default(),
        random: merged(randomness(reference), randomness(model)),
        tally: Tally::default(),
        planned: 0,
        cut_short: false,
        clock: Clock::new(&options.bounds),
        sizes: Vec::new(),
        further: Vec::new(),
        blocked: Vec::new(),
        broken: None,
        does_not_run: false,
        explained: Explained::default(),
        latency: None,
        coverage: Coverage::default(),
        remarks: Vec::new(),
    };
    let difference = names
        .err()
        .map(|unpaired| unpaired.to_string())
        .or_else(|| interface::interface_difference(reference, model, &pair.names));
    if let Some(reason) = difference {
        pair.broken = Some(reason);
        return pair.report();
    }
    let by_chance = |name: &str| pair.random.outputs.iter().any(|(output, _)| output == name);
    let certain = reference
        .graph
        .outputs()
        .iter()
        .any(|output| !by_chance(&output.name));
    // Where every output depends on chance, no run says anything.
    match &options.data {
        _ if !certain => {}
        Some((_, data)) => pair.given(data, watch),
        None => pair.synthetic(),
    }
    pair.settle();
    pair.report()
}

fn merged(mut a: Randomness, b: Randomness) -> Randomness {
    a.seeded |= b.seeded;
    a.outputs.extend(b.outputs);
    a
}

/// Kinds of samples that are drawn at the second size.
const COMMON: usize = 6;

/// Why an attempt at one size came to nothing.
pub(super) enum Attempt {
    Done,
    /// Other sizes may work.
    Retry,
    /// No size will work.
    Stop,
}

pub(super) struct Pair<'a> {
    pub(super) reference: &'a Model,
    model: &'a Model,
    pub(super) engine: &'a dyn Engine,
    pub(super) options: &'a VerifyOptions,
    names: Names,
    pub(super) random: Randomness,
    pub(super) tally: Tally,
    pub(super) planned: u64,
    pub(super) cut_short: bool,
    pub(super) clock: Clock,
    pub(super) sizes: Vec<Sizes>,
    pub(super) further: Vec<Sizes>,
    blocked: Vec<NotChecked>,
    pub(super) broken: Option<String>,
    does_not_run: bool,
    pub(super) explained: Explained,
    latency: Option<Pace>,
    /// What synthetic samples have read of tables and lists.
    pub(super) coverage: Coverage,
    /// What was not tried.
    pub(super) remarks: Vec<String>,
}

impl Pair<'_> {
    /// Runs both models on the batches of a data set, a few at a time; one compilation serves all batches of one shape.
    fn given(&mut self, data: &Dataset, mut watch: Option<&mut Watch<'_>>) {
        /// Batches in memory at a time; fewer where their outputs are kept for a watch.
        const AT_ONCE: usize = 64;
        let most = match watch {
            Some(_) => 2 * rayon::current_num_threads(),
            None => AT_ONCE,
        };
        let mut compiled: BTreeMap<Shapes, Sessions> = BTreeMap::new();
        let indices = self.options.bounds.order(data.batches().collect());
        self.planned += indices.len() as u64;
        for (number, part) in indices.chunks(self.clock.at_once(most)).enumerate() {
            let over = number > 0 && self.clock.over();
            self.cut_short |= over;
            if over && watch.is_none() {
                break;
            }
            let read = part.iter().map(|index| data.batch(*index));
            let batches = match read.collect::<Result<Vec<Batch>, DataError>>() {
                Ok(batches) => batches,
                Err(error) => return self.block("data", None, error.to_string()),
            };
            let mut groups: BTreeMap<Shapes, Vec<Trial>> = BTreeMap::new();
            for batch in batches {
                groups
                    .entry(session::shapes_of(&batch.inputs))
                    .or_default()
                    .push(Trial::given(batch));
            }
            for (shapes, group) in groups {
                if !compiled.contains_key(&shapes) {
                    match self.compile(&shapes) {
                        Ok(sessions) => compiled.insert(shapes.clone(), sessions),
                        Err(_) => continue,
                    };
                }
                let Some(sessions) = compiled.get(&shapes) else {
                    continue;
                };
                match watch.as_deref_mut() {
                    Some(watch) if over => sessions.show(&group, watch),
                    watch => {
                        self.run(sessions, &group, watch);
                    }
                }
            }
        }
    }

    fn synthetic(&mut self) {
        let mut inferred = self.reference.clone();
        infer(&mut inferred);
        let landmarks = Landmarks::of([self.reference, self.model]);
        let length = landmarks.length;
        let synthesizer = Synthesizer::new(&inferred).around(landmarks);
        self.coverage = Coverage::of(&synthesizer, false);
        let (free, fixed) = sizes::free_dims(self.reference, self.model, &self.names, &self.options.sizes);
        self.clock.halved = !free.is_empty();
        let first = sizes::attempts(&free, &fixed, None);
        let Some(worked) = self.first_that_works(&synthesizer, first, 0) else {
            return;
        };
        self.clock.halved = false;
        if !free.is_empty() {
            let second = sizes::attempts(&free, &fixed, Some(&worked));
            self.first_that_works(&synthesizer, second, 1);
            self.at_larger(&synthesizer, &inferred, &free, &worked, length);
            for sizes in sizes::edges(&free, &worked, further::is_large(self.reference)) {
                self.at_edge(&synthesizer, &[SampleKind::Normal], sizes);
            }
            // One size at which the reference runs is enough: it may have been exported for it.
            self.forget_reference();
        }
        self.cover(&synthesizer, &inferred, &free, &worked);
        let defaults = Defaults::of(&inferred, self.model, &self.names);
        self.at_other_defaults(&synthesizer, defaults, &worked);
    }

    /// Forgets where the reference did not run: it did elsewhere.
    pub(super) fn forget_reference(&mut self) {
        self.blocked.retain(|entry| entry.what != "reference");
    }

    fn first_that_works(
        &mut self,
        synthesizer: &Synthesizer,
        attempts: Vec<Sizes>,
        series: u64,
    ) -> Option<Sizes> {
        let kinds: &[SampleKind] = if synthesizer.has_floats() {
            self.options.bounds.kinds()
        } else if synthesizer.has_inputs() {
            &[
                SampleKind::Normal,
                SampleKind::Uniform,
                SampleKind::Zeros,
                SampleKind::Mixed,
                SampleKind::Magnitudes,
                SampleKind::Landmarks,
            ]
        } else {
            &[SampleKind::Normal]
        };
        // The second size says whether sizes matter, for which the common kinds do.
        let kinds = match kinds.get(..COMMON) {
            Some(common) if series > 0 => common,
            _ => kinds,
        };
        for sizes in attempts {
            // Sizes at which the reference does not run say nothing; a model that does not run where the reference does
            // is remembered, whatever other sizes give.
            self.blocked.retain(|entry| entry.what != "reference");
            let mut samples = Vec::new();
            for round in 0..self.options.rounds.max(1) {
                for kind in kinds {
                    let index = (series << 32) + round * kinds.len() as u64 + samples.len() as u64;
                    match synthesizer.sample(&sizes, *kind, self.options.seed, index) {
                        Ok(sample) => samples.push(Trial::of(*kind, sample)),
                        Err(error) => {
                            self.block("reference", None, error.to_string());
                            return None;
                        }
                    }
                }
            }
            let shapes = session::shapes_under(self.reference, &sizes);
            match self.attempt(&shapes, &samples) {
                Attempt::Done => {
                    self.planned += samples.len() as u64;
                    if !sizes.is_empty() {
                        self.sizes.push(sizes.clone());
                    }
                    return Some(sizes);
                }
                Attempt::Retry => {}
                Attempt::Stop => return None,
            }
        }
        None
    }

    fn block(&mut self, what: &str, operator: Option<String>, reason: String) {
        let entry = NotChecked {
            what: what.to_owned(),
            operator,
            reason,
        };
        if !self.blocked.contains(&entry) {
            self.blocked.push(entry);
        }
    }

    /// The reference could not be run.
    fn no_reference(&mut self, error: &EngineError) -> Attempt {
        let operator = match error {
            EngineError::Unsupported { operator, .. } => Some(operator.clone()),
            _ => None,
        };
        self.block("reference", operator, reason_of(error));
        match error {
            EngineError::Unsupported { .. } | EngineError::Unavailable { .. } => Attempt::Stop,
            error if error.ends_the_engine() => Attempt::Stop,
            _ => Attempt::Retry,
        }
    }

    /// The model could not be run on a sample on which the reference runs: a difference, unless it is the engine that lacks
    /// something.
    fn no_model(&mut self, error: &EngineError, sample: &Trial) -> Attempt {
        match error {
            EngineError::Unsupported { operator, .. } => {
                self.block("model", Some(operator.clone()), reason_of(error));
            }
            error if matches!(error, EngineError::Unavailable { .. }) || error.ends_the_engine() => {
                self.block("model", None, reason_of(error));
            }
            _ => {
                self.does_not_run = true;
                self.broken = Some(format!(
                    "the model does not run where the reference does: {error}"
                ));
                self.tally.set_worst(sample.inputs.clone());
            }
        }
        Attempt::Stop
    }

    /// Compiles both models for one set of shapes; the error says what to try next.
    pub(super) fn compile(&mut self, shapes: &Shapes) -> Result<Sessions, Attempt> {
        let optimise = self.options.optimise;
        let compile = |model: &Model, shapes: &Shapes| {
            session::prepare(model, self.engine, shapes)?.compile(self.engine, Vec::new(), optimise)
        };
        match compile(self.reference, shapes) {
            Ok(reference) => Ok(Sessions {
                reference,
                model: compile(self.model, &session::translated(shapes, &self.names))
                    .map(|session| self.names.translate(session)),
            }),
            Err(error) => Err(self.no_reference(&error)),
        }
    }

    /// Runs both models on `samples`, all of the given shapes.
    pub(super) fn attempt(&mut self, shapes: &Shapes, samples: &[Trial]) -> Attempt {
        match self.compile(shapes) {
            Ok(sessions) => self.run(&sessions, samples, None),
            Err(attempt) => attempt,
        }
    }

    pub(super) fn run(
        &mut self,
        sessions: &Sessions,
        samples: &[Trial],
        mut watch: Option<&mut Watch<'_>>,
    ) -> Attempt {
        let watching = watch.is_some();
        let Some((first, rest)) = samples.split_first() else {
            return Attempt::Done;
        };
        let expected = match sessions.reference.run(&first.inputs) {
            Ok(expected) => expected,
            Err(error) => return self.no_reference(&error),
        };
        let model = match &sessions.model {
            Ok(model) => model,
            Err(error) => return self.no_model(&error.clone(), first),
        };
        let (random, tolerances) = (&self.random, &self.options.tolerances);
        let reference = &*sessions.reference;
        let judge = |trial: &Trial, expected: RunValues| match model.run(&trial.inputs) {
            Ok(found) => {
                let compared = random.compared(&expected, &found, tolerances);
                Sample::Compared(compared, Vec::new(), watching.then_some((expected, found)))
            }
            Err(error) => Sample::Model(error),
        };
        let run = |sample: &Trial| match reference.run(&sample.inputs) {
            Ok(expected) => judge(sample, expected),
            Err(error) if error.ends_the_engine() => Sample::Ended(error),
            Err(_) => Sample::Reference(model.run(&sample.inputs).is_ok()),
        };
        // The first sample decides whether these sizes work at all, before the others cost time.
        let opening = judge(first, expected);
        if let Sample::Model(error) = &opening {
            return self.no_model(&error.clone(), first);
        }
        if let (Some(time), None, false) = (self.options.timed, self.latency, self.random.seeded) {
            // What cannot be timed is compared all the same.
            self.latency = pace((reference, &**model), &first.inputs, time).ok().flatten();
        }
        let mut results = vec![opening];
        for part in rest.chunks(self.clock.at_once(rest.len())) {
            if self.clock.over() {
                self.cut_short = true;
                break;
            }
            if self.random.seeded {
                results.extend(part.iter().map(run));
            } else {
                results.extend(part.par_iter().map(run).collect::<Vec<_>>());
            }
        }
        // Runs more or fewer would shift the numbers of a seeded generator.
        if !self.random.seeded {
            // An approximation differs on every sample, and why is known.
            let way = !self.options.bounds.usual;
            self.explain((reference, &**model), samples, &mut results, way);
        }
        for (sample, result) in samples.iter().zip(results) {
            match result {
                Sample::Compared(outputs, left_out, answers) => {
                    if !outputs.is_empty() {
                        self.coverage.add(&sample.inputs);
                    }
                    self.tally.add(sample, outputs, left_out);
                    if let (Some(watch), Some((expected, found)), Some(batch)) =
                        (watch.as_deref_mut(), &answers, &sample.batch)
                    {
                        watch(batch, expected, found);
                    }
                }
                // An input that both refuse says nothing about the pair.
                Sample::Reference(false) => {}
                Sample::Reference(true) => self.block(
                    "sample",
                    None,
                    format!(
                        "the reference does not run on {}, where the model does",
                        sample.kind_name()
                    ),
                ),
                Sample::Ended(error) => return self.no_reference(&error),
                Sample::Model(error) => return self.no_model(&error, sample),
            }
        }
        Attempt::Done
    }

    fn report(mut self) -> VerifyReport {
        let ran = std::mem::take(&mut self.blocked);
        for (output, operator) in std::mem::take(&mut self.random.outputs) {
            self.block(
                &output,
                Some(operator),
                "its numbers differ from run to run".to_owned(),
            );
        }
        self.blocked.extend(ran);
        let names: Vec<String> = self
            .reference
            .graph
            .outputs()
            .iter()
            .map(|output| output.name.to_string())
            .collect();
        for name in &names {
            if let Some(doubt) = self.tally.doubt(name)
                && !self.blocked.iter().any(|entry| entry.what == *name)
            {
                self.block(name, None, doubt);
            }
        }
        let mut notes = if self.options.every_size {
            interface::lost_sizes(self.reference, self.model, &self.names, &self.options.sizes)
        } else {
            Vec::new()
        };
        let outputs: Vec<OutputFigures> = names.iter().filter_map(|name| self.tally.figures(name)).collect();
        let mut verdict = outputs
            .iter()
            .map(|figures| figures.verdict)
            .max()
            .unwrap_or(Verdict::NotChecked);
        if self.tally.sensitive > 0 {
            // Where rounding explains a difference, the bits are other ones all the same.
            verdict = verdict.max(Verdict::Within);
        }
        if !notes.is_empty() {
            // What takes other inputs is not the same, whatever it answers.
            verdict = verdict.max(Verdict::Within);
        }
        if !self.blocked.is_empty() || self.tally.samples == 0 {
            verdict = verdict.max(Verdict::NotChecked);
        }
        if self.broken.is_some() {
            verdict = Verdict::Different;
        }
        // What was not tried is no difference.
        notes.append(&mut self.remarks);
        if verdict == Verdict::NotChecked && self.blocked.is_empty() {
            self.block("reference", None, "no sample ran".to_owned());
        }
        VerifyReport {
            verdict,
            engine: self.engine.name().to_owned(),
            samples: self.tally.samples,
            inputs: match &self.options.data {
                Some((name, _)) => name.clone(),
                None => "synthetic".to_owned(),
            },
            planned: self.planned,
            cut_short: self.cut_short,
            sensitive: self.tally.sensitive,
            not_checked: self.blocked,
            outputs,
            sizes: self.sizes,
            further_sizes: self.further,
            notes,
            does_not_run: self.does_not_run,
            reason: self.broken,
            latency: self.latency,
            worst: self.tally.worst(),
        }
    }
}

/// The engine's reason; what it is about is said beside it.
fn reason_of(error: &EngineError) -> String {
    match error {
        EngineError::Unsupported { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}
