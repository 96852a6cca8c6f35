//! Running a pipeline: every step on the IR, a check after each, one comparison with the input at the end, then the gates.

use std::time::Instant;

use regex::RegexSet;
use schemars::JsonSchema;
use serde::Serialize;

use super::definition::{Pipeline, Step};
use super::gates::{Gate, GateReport, Judged, Weight};
use super::weigh::{weigh, weigh_input};
use crate::engine::Engine;
use crate::evaluate::{Figures, State, StateSubject, Task};
use crate::format::{LowerError, Origin};
use crate::ir::{self, CheckError, Model};
use crate::ops;
use crate::passes::{
    Change, Context, Limits, PassError, PassReport, PlannedNode, ReportFile, Resources, Safety,
};
use crate::proto::StringStringEntryProto;
use crate::rewrite::Evaluator;
use crate::transfer::parameters::Account;
use crate::verify::{Divergence, Verdict, VerifyOptions, VerifyReport, localize, smallest_breaking, verify};

/// How to run a pipeline.
pub struct RunOptions<'a> {
    /// Evaluates constants.
    pub evaluator: &'a dyn Evaluator,
    /// The engine of the comparison at the end; `None` leaves the result not checked.
    pub engine: Option<&'a dyn Engine>,
    /// How to compare.
    pub verify: VerifyOptions,
    /// Bounds on the passes; the fuel is for all steps together.
    pub limits: Limits,
    /// Patterns beside those of the pipeline.
    pub keep: Vec<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether a changed model records where it comes from.
    pub provenance: bool,
    /// Data and an engine, for steps that need them.
    pub resources: Option<&'a dyn Resources>,
    /// Called with a step's progress.
    pub progress: &'a (dyn Fn(&str, u64, Option<u64>) + Sync),
}

/// What a step did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StepReport {
    /// The pass.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// Nodes before.
    pub nodes_before: u64,
    /// Nodes after.
    pub nodes_after: u64,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
    /// What was done.
    pub changes: Vec<Change>,
    /// What was left alone for a reason the user may want to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// For steps that plan for an engine: each node, and how it runs there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<PlannedNode>,
    /// For steps that move weights between models: what became of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Account>,
}

/// The step that made outputs differ.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Culprit {
    /// The step, counted from 1.
    pub step: usize,
    /// Its pass.
    pub name: String,
    /// The first node that differs, where it could be found.
    pub divergence: Option<Divergence>,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunReport {
    /// Each step.
    pub steps: Vec<StepReport>,
    /// How the result compares with the input.
    pub verdict: Verdict,
    /// The comparison; `null` when none was made.
    pub verify: Option<VerifyReport>,
    /// Each gate.
    pub gates: Vec<GateReport>,
    /// Figures on the evaluation data, where a gate asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Figures>,
    /// The file that was written; `null` if none was.
    pub output: Option<String>,
    /// Whether the result differs from the input in any way.
    pub changed: bool,
    /// Whether the result may be written.
    pub accepted: bool,
    /// The input model.
    pub before: Weight,
    /// The result.
    pub after: Weight,
    /// The step to blame for different outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub culprit: Option<Culprit>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A result and the model.
pub struct Outcome {
    /// The rewritten model.
    pub model: Model,
    /// What happened.
    pub report: RunReport,
    /// What steps leave beside the model, to be written with it.
    pub files: Vec<ReportFile>,
}

/// Why a pipeline could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A pattern of `keep` is not a regular expression.
    #[error("`keep`: {source}")]
    Keep {
        /// What is wrong.
        source: Box<regex::Error>,
    },
    /// A pass failed.
    #[error("step {step}: {source}")]
    Pass {
        /// The step, counted from 1.
        step: usize,
        /// What is wrong.
        source: PassError,
    },
    /// A pass left an invalid model: a defect of secateur.
    #[error(
        "step {step}, {name}, left an invalid model: {source}; this is a defect of secateur, please report it with the model"
    )]
    Invalid {
        /// The step, counted from 1.
        step: usize,
        /// The pass.
        name: String,
        /// What is wrong.
        source: Box<CheckError>,
    },
    /// The model cannot be written.
    #[error(
        "the result cannot be written: {source}; this is a defect of secateur, please report it with the model"
    )]
    Lower {
        /// What is wrong.
        #[from]
        source: LowerError,
    },
}

impl RunError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Keep { .. } => "keep-pattern",
            Self::Pass {
                source: PassError::Edit { .. },
                ..
            } => "pass-defect",
            Self::Pass {
                source: PassError::Option { .. },
                ..
            } => "pass-option",
            Self::Pass {
                source: PassError::Model { .. },
                ..
            } => "pass-model",
            Self::Pass {
                source: PassError::Resource { .. },
                ..
            } => "pass-resource",
            Self::Invalid { .. } => "pass-invalid-model",
            Self::Lower { .. } => "result-unwritable",
        }
    }
}

/// Runs `pipeline` on `input`, which was read from `origin`. A result that is not accepted is an answer, not an error.
pub fn run(
    pipeline: &Pipeline,
    input: &Model,
    origin: &Origin,
    options: &RunOptions<'_>,
) -> Result<Outcome, RunError> {
    let macs = pipeline.gates.iter().any(|gate| matches!(gate, Gate::Macs(_)));
    let before = weigh_input(input, origin, macs);
    let mut runner = Runner::new(pipeline, options)?;
    let mut model = input.clone();
    let mut steps = Vec::new();
    let mut files = Vec::new();
    let mut requirements = Vec::new();
    let mut snapshots: Vec<(usize, Model)> = Vec::new();
    let mut last = before;
    let mut changed = false;
    for (index, step) in pipeline.steps.iter().enumerate() {
        let (seconds, mut report) = runner.step(index, step, &mut model)?;
        files.append(&mut report.files);
        let after = if report.changed {
            weigh(&model, false)?
        } else {
            last
        };
        changed |= report.changed;
        if report.changed && options.engine.is_some() {
            snapshots.push((index, model.clone()));
        }
        steps.push(StepReport {
            name: step.name.clone(),
            seconds,
            nodes_before: last.nodes,
            nodes_after: after.nodes,
            bytes_before: last.bytes,
            bytes_after: after.bytes,
            changes: report.changes,
            notes: report.notes,
            nodes: report.nodes,
            transfer: report.transfer,
        });
        requirements.append(&mut report.requirements);
        last = after;
    }
    let after = if macs && changed {
        weigh(&model, true)?
    } else {
        Weight {
            macs: before.macs.filter(|_| !changed),
            ..last
        }
    };
    let mut report = RunReport {
        steps,
        verdict: if changed {
            Verdict::NotChecked
        } else {
            Verdict::Equal
        },
        verify: None,
        gates: Vec::new(),
        evaluation: None,
        output: None,
        changed,
        accepted: true,
        before,
        after,
        culprit: None,
        warnings: Vec::new(),
    };
    judge(pipeline, input, &model, &snapshots, options, &mut report);
    report.accepted &= requirements.iter().all(|requirement| requirement.passed);
    report
        .gates
        .extend(requirements.into_iter().map(|requirement| GateReport {
            name: requirement.name,
            passed: requirement.passed,
            value: Some(requirement.value),
            bound: Some(requirement.bound),
            message: requirement.message,
        }));
    if changed && options.provenance {
        record(&mut model, pipeline, origin);
    }
    Ok(Outcome { model, report, files })
}

/// The comparison with the input and the gates.
fn judge(
    pipeline: &Pipeline,
    input: &Model,
    model: &Model,
    snapshots: &[(usize, Model)],
    options: &RunOptions<'_>,
    report: &mut RunReport,
) {
    let bounded = pipeline.gates.iter().any(|gate| matches!(gate, Gate::Outputs(_)));
    if let Some(engine) = options.engine.filter(|_| report.changed || bounded) {
        (options.progress)("verify", 0, None);
        let mut found = verify(input, model, engine, &options.verify);
        if found.verdict == Verdict::Within && pipeline.safety() == Safety::Exact && options.verify.optimise {
            // The engine may have rounded differently in the changed graph; as they stand, both must give the same bits.
            found = verify(
                input,
                model,
                engine,
                &VerifyOptions {
                    optimise: false,
                    ..options.verify.clone()
                },
            );
        }
        report.verdict = found.verdict;
        // Even an approximation runs where the model does.
        if found.verdict == Verdict::Different
            && (pipeline.safety() < Safety::Approximate || found.does_not_run)
        {
            report.accepted = false;
            report.culprit = culprit(pipeline, input, snapshots, engine, options);
        }
        if found.verdict == Verdict::NotChecked {
            let why = found.not_checked.first().map(|entry| match &entry.operator {
                Some(operator) => format!("{operator}: {}", entry.reason),
                None => entry.reason.clone(),
            });
            report
                .warnings
                .push(format!("the result is not checked: {}", why.unwrap_or_default()));
        }
        report.verify = Some(found);
    }
    let evaluated = pipeline
        .gates
        .iter()
        .any(Gate::needs_evaluation)
        .then(|| evaluation(pipeline, input, model, options));
    let mut judged = Judged {
        before: report.before,
        after: report.after,
        verify: report.verify.as_ref(),
        ..Judged::default()
    };
    match &evaluated {
        Some(Ok((figures, state))) => (judged.figures, judged.state) = (Some(figures), Some(state)),
        Some(Err(reason)) => judged.reason = Some(reason),
        None => {}
    }
    report.gates = pipeline.gates.iter().map(|gate| gate.judge(&judged)).collect();
    report.evaluation = evaluated.and_then(|found| found.ok()).map(|(figures, _)| figures);
    report.accepted &= report.gates.iter().all(|gate| gate.passed);
}

/// Timed runs of a latency gate.
const LATENCY_RUNS: usize = 50;

/// Figures of the result on the evaluation data with the input as reference.
fn evaluation(
    pipeline: &Pipeline,
    input: &Model,
    model: &Model,
    options: &RunOptions<'_>,
) -> Result<(Figures, State), String> {
    let resources = options.resources.ok_or("there is no evaluation data")?;
    let data = resources.data("evaluation", &model.graph)?;
    let engine = resources.engine()?;
    let total = data.sample_range().end - data.sample_range().start;
    let timed = pipeline.gates.iter().any(|gate| matches!(gate, Gate::Latency(_)));
    let task = Task {
        engine,
        data: &data,
        output: None,
        threshold: 0.5,
        jobs: resources.jobs(),
        latency_runs: if timed { LATENCY_RUNS } else { 0 },
        progress: &|done| (options.progress)("evaluate", done, Some(total)),
    };
    let mut state = State::new(StateSubject::default());
    let figures = task
        .figures(model, Some(input), &mut state, None)
        .map_err(|error| error.to_string())?;
    Ok((figures, state))
}

/// The first step after which the outputs differ from the input's.
fn culprit(
    pipeline: &Pipeline,
    input: &Model,
    snapshots: &[(usize, Model)],
    engine: &dyn Engine,
    options: &RunOptions<'_>,
) -> Option<Culprit> {
    let differs = |count: u64| {
        let at = usize::try_from(count)
            .ok()
            .and_then(|count| snapshots.get(count.checked_sub(1)?));
        Ok::<bool, ()>(at.is_some_and(|(_, model)| {
            verify(input, model, engine, &options.verify).verdict == Verdict::Different
        }))
    };
    let found = smallest_breaking(snapshots.len() as u64, differs)
        .ok()
        .flatten()?;
    let at = usize::try_from(found).ok()?.checked_sub(1)?;
    let (index, after) = snapshots.get(at)?;
    let before = at
        .checked_sub(1)
        .and_then(|previous| snapshots.get(previous))
        .map_or(input, |(_, model)| model);
    let sample = verify(input, after, engine, &options.verify).worst;
    let divergence = sample.and_then(|sample| {
        localize(before, after, engine, &sample, &options.verify)
            .ok()
            .flatten()
    });
    Some(Culprit {
        step: index + 1,
        name: pipeline.steps.get(*index)?.name.clone(),
        divergence,
    })
}

/// The steps of one pipeline with what they share.
pub(super) struct Runner<'a> {
    pipeline: &'a Pipeline,
    options: &'a RunOptions<'a>,
    keep: RegexSet,
    fuel: Option<u64>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, options: &'a RunOptions<'a>) -> Result<Self, RunError> {
        let patterns = pipeline.keep.iter().chain(&options.keep);
        let keep = RegexSet::new(patterns).map_err(|source| RunError::Keep {
            source: Box::new(source),
        })?;
        Ok(Self {
            pipeline,
            options,
            keep,
            fuel: options.limits.fuel,
        })
    }

    pub(super) fn step(
        &mut self,
        index: usize,
        step: &Step,
        model: &mut Model,
    ) -> Result<(f64, PassReport), RunError> {
        if self.fuel == Some(0) {
            return Ok((0.0, PassReport::default()));
        }
        (self.options.progress)(&step.name, index as u64, Some(self.pipeline.steps.len() as u64));
        let start = Instant::now();
        let context = Context {
            evaluator: self.options.evaluator,
            limits: Limits {
                fuel: self.fuel,
                ..self.options.limits.clone()
            },
            keep: self.keep.clone(),
            seed: self.options.seed,
            base: self.pipeline.base.clone(),
            progress: self.options.progress,
            resources: self.options.resources,
        };
        let report = step.pass.run(model, &context).map_err(|source| RunError::Pass {
            step: index + 1,
            source,
        })?;
        if report.changed
            && let Some(errors) = ir::check(model).and_then(|()| ops::check(model)).err()
            && let Some(source) = errors.into_iter().next()
        {
            let name = step.name.clone();
            return Err(RunError::Invalid {
                step: index + 1,
                name,
                source: Box::new(source),
            });
        }
        if let Some(fuel) = &mut self.fuel {
            *fuel = fuel.saturating_sub(report.changes.iter().map(|change| change.count).sum());
        }
        Ok((start.elapsed().as_secs_f64(), report))
    }
}

/// Writes into the metadata where a model comes from.
fn record(model: &mut Model, pipeline: &Pipeline, origin: &Origin) {
    let entries = [
        ("secateur.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("secateur.pipeline", pipeline.digest()),
        ("secateur.input", digest(origin)),
    ];
    for (key, value) in entries {
        match model
            .metadata
            .iter_mut()
            .find(|entry| entry.key.as_deref() == Some(key))
        {
            Some(entry) => entry.value = Some(value),
            None => model.metadata.push(StringStringEntryProto {
                key: Some(key.to_owned()),
                value: Some(value),
            }),
        }
    }
}

/// The digest of a model file and its external data files, in the order of their locations.
pub fn digest(origin: &Origin) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&origin.bytes);
    for (location, file) in origin.external.iter() {
        hasher.update(location.as_bytes());
        hasher.update(&file.bytes);
    }
    hasher.finalize().to_hex().to_string()
}
