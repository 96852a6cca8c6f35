//! Running a pipeline: every step on the IR, a check after each, one comparison with the input at the end, then the gates.

use std::time::{Duration, Instant};

use regex::RegexSet;
use schemars::JsonSchema;
use serde::Serialize;

use super::definition::{Pipeline, Step};
use super::done::Done;
use super::gates::{GateReport, Weight};
use super::interfaces::recalled;
use super::judge::{Models, judge};
use super::provenance::{InputDigest, recorded};
use super::reuse::{Reuse, Trail};
use super::until::{self, Searched};
use super::weigh::{weigh, weigh_input};
use crate::analysis::adopt;
use crate::engine::{CancelToken, Engine};
use crate::evaluate::Figures;
use crate::format::{Origin, ToProtoError};
use crate::ir::{self, CheckError, Model};
use crate::ops;
use crate::parts::PartsError;
use crate::passes::{
    Change, Context, HeadTraining, Limits, Pass, PassError, PassReport, PlannedNode, Reason, ReportFile,
    Resources, Safety, Selector, Simplify, Times, distinct_names, overridable, unmatched,
};
use crate::rewrite::Evaluator;
use crate::schema::{self, PatternError};
use crate::transfer::parameters::Account;
use crate::verify::{Divergence, NodeErrors, Verdict, VerifyOptions, VerifyReport};

/// How to run a pipeline.
pub struct RunOptions<'a> {
    /// Evaluates constants.
    pub evaluator: &'a dyn Evaluator,
    /// The engine of the comparison at the end; `None` leaves the result not checked.
    pub engine: Option<&'a dyn Engine>,
    /// How to compare. Without data here it is on those of the resources, if there are any; without a bound on the time, for
    /// about as long as the steps take.
    pub verify: VerifyOptions,
    /// Bounds on the passes; the fuel is for all steps together.
    pub limits: Limits,
    /// Patterns beside those of the pipeline.
    pub keep: Vec<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether a changed model records where it comes from.
    pub provenance: bool,
    /// Whether multiply-accumulates are counted, which takes inferred shapes. Gates have them counted in any case.
    pub macs: bool,
    /// Data and an engine, for steps that need them.
    pub resources: Option<&'a dyn Resources>,
    /// Called with a step's progress.
    pub progress: &'a (dyn Fn(&str, u64, Option<u64>) + Sync),
    /// What becomes of a result in which steps changed nothing that were asked to.
    pub unchanged: Unchanged,
    /// Whether each node of an approximation is compared, on a few samples.
    pub node_errors: bool,
    /// Asks the run to end before the next step.
    pub cancel: Option<&'a CancelToken>,
    /// States of other runs, of which this one starts from the last whose steps are its own, and where it leaves its own.
    pub reuse: Option<&'a Reuse>,
}

/// What becomes of a result in which steps changed nothing that were asked to: steps of passes that tidy may always do so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unchanged {
    /// It is accepted, with a warning.
    #[default]
    Allowed,
    /// It is refused if it is the input itself.
    RefusedAltogether,
    /// It is refused.
    Refused,
}

/// What a step did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StepReport {
    /// The pass.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// Whether the model differs from before in any way.
    pub changed: bool,
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
    /// Why things were left alone, and how many for each reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// For steps that plan for an engine: each node, and how it runs there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<PlannedNode>,
    /// For steps with a target for the time of one run: what was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// For steps with `until`: what was tried, and what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Searched>,
    /// For steps that move weights between models: what became of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Account>,
    /// For steps that train a head: on what, and how well it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<HeadTraining>,
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
    /// How far each node is off by itself, where a report as HTML asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_errors: Option<NodeErrors>,
    /// Each gate.
    pub gates: Vec<GateReport>,
    /// Figures on the evaluation data, where a gate asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Figures>,
    /// The file that was written; `null` if none was.
    pub output: Option<String>,
    /// Every file that was written: the model, its external data, and what steps leave beside it.
    pub files: Vec<String>,
    /// Whether the result differs from the input in any way.
    pub changed: bool,
    /// Whether a step may make outputs differ by more than rounding.
    pub approximate: bool,
    /// Whether the result may be written.
    pub accepted: bool,
    /// Whether it may not because steps changed nothing that were asked to.
    pub unchanged: bool,
    /// The input model.
    pub before: Weight,
    /// The result.
    pub after: Weight,
    /// The step to blame for different outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub culprit: Option<Culprit>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Of steps that changed something what they say of it, and what they left alone and why. In JSON that is with each step, as `changes`
    /// and `reasons`.
    #[serde(skip)]
    #[schemars(skip)]
    pub left: Vec<String>,
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
        source: PatternError,
    },
    /// A pattern of `keep` names nothing.
    #[error("{message}")]
    Selector {
        /// What is wrong.
        message: String,
    },
    /// A pass failed.
    #[error("step {step}: {source}")]
    Pass {
        /// The step, counted from 1.
        step: usize,
        /// What is wrong.
        source: PassError,
    },
    /// The caller asked the run to end.
    #[error("the run was cancelled")]
    Cancelled,
    /// Parts of shared work that are not there, or do not fit.
    #[error(transparent)]
    Parts(#[from] PartsError),
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
    Unwritable {
        /// What is wrong.
        #[from]
        source: ToProtoError,
    },
}

impl RunError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Keep { .. } | Self::Selector { .. } => "keep-pattern",
            Self::Pass { source, .. } => source.code(),
            Self::Cancelled => "cancelled",
            Self::Parts(error) => error.code(),
            Self::Invalid { .. } => "pass-invalid-model",
            Self::Unwritable { .. } => "result-unwritable",
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
    let macs = options.macs || !pipeline.gates.is_empty();
    let input_digest = options.provenance.then(|| InputDigest::begin(origin));
    let before = weigh_input(input, origin, macs);
    let mut runner = Runner::new(pipeline, options)?;
    let kept = Selector::new("keep", pipeline.keep.iter().chain(&options.keep));
    if let Some(message) = unmatched(input, &[kept]) {
        return Err(RunError::Selector { message });
    }
    let (mut model, mut done) = runner.all(input, before)?;
    let replay = runner.replay()?;
    if let Some(replay) = &replay {
        done.files.extend(until::written(pipeline, replay));
    }
    let Done {
        steps,
        files,
        requirements,
        snapshots,
        idle,
        worse,
        left,
        reference,
        recalls,
        evened,
        changed,
        ..
    } = done;
    let after = match (changed, input_digest) {
        (false, _) => before,
        (true, None) => weigh(&model, macs)?,
        // What made the result is what makes it again.
        (true, Some(input)) => {
            let pipeline = replay.as_ref().unwrap_or(pipeline);
            recorded(&mut model, (before, macs), pipeline, &input)?
        }
    };
    let fixes = |step: &StepReport| step.name == "bind-defaults";
    let mut warnings = idle.clone();
    warnings.extend(worse);
    if !steps.iter().any(fixes) {
        warnings.extend(overridable(&model));
    }
    let mut report = RunReport {
        steps,
        verdict: if changed {
            Verdict::NotChecked
        } else {
            Verdict::Equal
        },
        verify: None,
        node_errors: None,
        gates: Vec::new(),
        evaluation: None,
        output: None,
        files: Vec::new(),
        changed,
        approximate: pipeline.safety() == Safety::Approximate,
        unchanged: match options.unchanged {
            Unchanged::Allowed => false,
            Unchanged::RefusedAltogether => !changed && !idle.is_empty(),
            Unchanged::Refused => !idle.is_empty(),
        },
        accepted: true,
        before,
        after,
        culprit: None,
        warnings,
        left,
    };
    report.accepted &= !report.unchanged;
    let work = Duration::try_from_secs_f64(report.steps.iter().map(|step| step.seconds).sum());
    let work = work.unwrap_or_default();
    let reference = match reference {
        None => recalled(input, &recalls)?,
        reference => reference,
    };
    let reference = reference.as_ref().unwrap_or(input);
    let models = Models {
        input: reference,
        evened: evened.as_deref().unwrap_or(reference),
        result: &model,
        snapshots: &snapshots,
    };
    judge(pipeline, models, work, options, &mut report)?;
    report.accepted &= requirements.iter().all(|requirement| requirement.passed);
    report.gates.extend(requirements.into_iter().map(|requirement| {
        let (value, bound) = (Some(requirement.value), Some(requirement.bound));
        GateReport::plain(
            &requirement.name,
            requirement.passed,
            value,
            bound,
            requirement.message,
        )
    }));
    Ok(Outcome { model, report, files })
}

/// The steps of one pipeline with what they share.
pub(super) struct Runner<'a> {
    pipeline: &'a Pipeline,
    options: &'a RunOptions<'a>,
    keep: RegexSet,
    found: Found,
    /// By which share the next step may let the file grow.
    growth: f64,
}

/// What the steps of a run leave for those after them, beside the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    fuel: Option<u64>,
    /// What searches found, by step.
    searched: Vec<(usize, Searched)>,
    /// The steps that make the same without a search.
    steps: Vec<(usize, until::NamedStep)>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, options: &'a RunOptions<'a>) -> Result<Self, RunError> {
        let patterns = pipeline.keep.iter().chain(&options.keep);
        let keep = schema::patterns(patterns).map_err(|source| RunError::Keep { source })?;
        Ok(Self {
            pipeline,
            options,
            keep,
            found: Found {
                fuel: options.limits.fuel,
                ..Found::default()
            },
            growth: options.limits.max_growth,
        })
    }

    /// Runs all steps, or those that no other run has done.
    fn all(&mut self, input: &Model, before: Weight) -> Result<(Model, Done), RunError> {
        let (pipeline, options) = (self.pipeline, self.options);
        let mut trail = Trail::of(options.reuse, pipeline);
        let (from, mut model, mut done) = match trail.start() {
            Some((from, state)) => {
                self.found = state.found.clone();
                (from, state.model.clone(), state.done.clone())
            }
            None => {
                let mut model = input.clone();
                adopt(&mut model);
                let done = Done {
                    last: before,
                    ..Done::default()
                };
                (0, model, done)
            }
        };
        for (index, step) in pipeline.steps.iter().enumerate().skip(from) {
            self.growth = self.growth_of(index, before.bytes, done.last.bytes);
            let (seconds, report) = self.step(index, step, &mut model)?;
            done.add((index, step), seconds, report, &model, (pipeline, options))?;
            trail.reach(index, &model, &done, &self.found);
        }
        done.searched(std::mem::take(&mut self.found.searched));
        Ok((model, done))
    }

    /// The growth that the step at `index` is allowed: what fixing sizes before it has saved may be spent, as the bound is about the file
    /// that was given.
    fn growth_of(&self, index: usize, input: u64, now: u64) -> f64 {
        let asked = self.options.limits.max_growth;
        let mut earlier = self.pipeline.steps.iter().take(index);
        if index == 0 || now == 0 || !earlier.all(|step| step.name == "bind") {
            return asked;
        }
        (input as f64 * (1.0 + asked.max(0.0)) / now as f64 - 1.0).max(asked)
    }

    /// The pipeline that gives the same result without searches, where there were any or a step wants it in a file.
    fn replay(&self) -> Result<Option<Pipeline>, RunError> {
        if self.found.steps.is_empty() && !until::is_wanted(self.pipeline) {
            return Ok(None);
        }
        let replay = until::replayed(self.pipeline, &self.found.steps, &self.options.keep);
        replay.map(Some).map_err(|error| RunError::Pass {
            step: self.found.steps.first().map_or(0, |(index, _)| *index) + 1,
            source: PassError::Option {
                pass: "until",
                message: error.to_string(),
            },
        })
    }

    /// Runs a step, or searches for its result.
    fn made(
        &mut self,
        index: usize,
        step: &Step,
        model: &mut Model,
        context: &Context<'_>,
    ) -> Result<PassReport, PassError> {
        if step.until.is_empty() {
            let report = step.pass.run(model, context)?;
            if report.changed {
                let pass = step.pass.about().name;
                distinct_names(model, pass).map_err(|source| PassError::Edit { pass, source })?;
            }
            return Ok(report);
        }
        let means = until::Means {
            gates: &step.until,
            verify: &self.options.verify,
            context,
        };
        let outcome = until::search(step, model, &means)?;
        self.found.searched.push((index, outcome.searched));
        self.found.steps.push((index, outcome.step));
        Ok(outcome.report)
    }

    pub(super) fn step(
        &mut self,
        index: usize,
        step: &Step,
        model: &mut Model,
    ) -> Result<(f64, PassReport), RunError> {
        if self.options.cancel.is_some_and(CancelToken::is_cancelled) {
            return Err(RunError::Cancelled);
        }
        if self.found.fuel == Some(0) {
            let mut report = PassReport::default();
            report.leave_curable("", "no rewrites are left", "--fuel N allows more");
            return Ok((0.0, report));
        }
        (self.options.progress)(&step.name, index as u64, Some(self.pipeline.steps.len() as u64));
        let start = Instant::now();
        let context = Context {
            evaluator: self.options.evaluator,
            limits: Limits {
                fuel: self.found.fuel,
                max_growth: self.growth,
                ..self.options.limits.clone()
            },
            keep: self.keep.clone(),
            seed: self.options.seed,
            base: self.pipeline.base.clone(),
            progress: self.options.progress,
            resources: self.options.resources,
        };
        if let Some(message) = self.unnamed(model, step, &context) {
            return Err(RunError::Pass {
                step: index + 1,
                source: PassError::Option {
                    pass: step.pass.about().name,
                    message,
                },
            });
        }
        let report = self
            .made(index, step, model, &context)
            .map_err(|source| RunError::Pass {
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
        if let Some(fuel) = &mut self.found.fuel {
            *fuel = fuel.saturating_sub(report.changes.iter().map(|change| change.count).sum());
        }
        Ok((start.elapsed().as_secs_f64(), report))
    }

    /// What is wrong with the patterns of a step. Passes that simplify first may be asked for what only then has a name.
    fn unnamed(&self, model: &Model, step: &Step, context: &Context<'_>) -> Option<String> {
        let selectors = step.pass.selectors();
        let message = unmatched(model, &selectors)?;
        let mut prepared = model.clone();
        if Simplify::default().run(&mut prepared, context).is_err() {
            return Some(message);
        }
        prepared.name_values();
        unmatched(&prepared, &selectors).and(Some(message))
    }
}
