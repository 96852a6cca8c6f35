//! The judgement on a result: the comparison with the input model, the figures on evaluation data, the gates.

use std::sync::Arc;
use std::time::Duration;

use super::definition::Pipeline;
use super::gates::{Gate, Judged};
use super::pace;
use super::resources::describe_data;
use super::run::{Culprit, RunOptions, RunReport};
use crate::data::Dataset;
use crate::engine::stream::Batch;
use crate::engine::{Engine, RunValues};
use crate::evaluate::{EvaluateError, Figures, State, StateSubject, Task};
use crate::ir::Model;
use crate::parts::PartsError;
use crate::passes::{Aim, ResourceError, Safety};
use crate::verify::{
    Bounds, Names, NodeErrors, NotChecked, OutputFigures, Verdict, VerifyOptions, VerifyReport,
    interface_difference, localize, node_errors, smallest_breaking, verify, watched,
};

/// The least time that a comparison may take.
const FLOOR: Duration = Duration::from_secs(5);

/// Batches of data that are compared at most, where they are not there for evaluation.
const BATCHES: u64 = 64;

/// Batches on which each node is compared, where a report asks for it.
const NODE_BATCHES: u64 = 4;

/// Decibels below which an approximation is worth a warning.
const POOR: f64 = 10.0;

/// Timed runs of a latency gate.
const LATENCY_RUNS: usize = 50;

/// Roles of data on which a result is compared, the best one first.
const COMPARED_ON: [&str; 3] = [EVALUATION, "calibration", "training"];

/// The role of data that gates are judged on.
const EVALUATION: &str = "evaluation";

/// The models of a run.
#[derive(Clone, Copy)]
pub(super) struct Models<'a> {
    /// What the result is compared with.
    pub(super) input: &'a Model,
    /// What its nodes are compared with, one by one.
    pub(super) evened: &'a Model,
    pub(super) result: &'a Model,
    /// The model after each step that changed it.
    pub(super) snapshots: &'a [(usize, Model)],
}

/// The comparison with the input and the gates. `work` is how long the steps took.
pub(super) fn judge(
    pipeline: &Pipeline,
    models: Models<'_>,
    work: Duration,
    options: &RunOptions<'_>,
    report: &mut RunReport,
) -> Result<(), PartsError> {
    let (input, model) = (models.input, models.result);
    let gated = pipeline.gates.iter().any(Gate::needs_evaluation);
    let mut evaluation = match (gated, options.engine) {
        (true, _) => Some(Evaluation::open(pipeline, model, options, EVALUATION)),
        (false, Some(_)) if report.changed && pipeline.safety() == Safety::Approximate => {
            Evaluation::of_task(pipeline, model, options)
        }
        _ => None,
    };
    if let Some(Ok(evaluation)) = &mut evaluation {
        evaluation.share(input, model, options)?;
    }
    let bounded = pipeline.gates.iter().any(|gate| matches!(gate, Gate::Outputs(_)));
    if let Some(engine) = options.engine.filter(|_| report.changed || bounded) {
        let pair = Pair {
            pipeline,
            input,
            evened: models.evened,
            model,
            snapshots: models.snapshots,
            engine,
            options,
        };
        let evaluation = evaluation.as_mut().and_then(|found| found.as_mut().ok());
        pair.compare(work, evaluation, report);
    }
    let evaluated =
        evaluation.map(|found| found.and_then(|evaluation| evaluation.figures(input, model, options)));
    let mut judged = Judged {
        before: report.before,
        after: report.after,
        verify: report.verify.as_ref(),
        ..Judged::default()
    };
    let reason = evaluated
        .as_ref()
        .and_then(|found| found.as_ref().err())
        .map(NoFigures::to_string);
    judged.reason = reason.as_deref();
    if let Some(Ok((figures, state))) = &evaluated {
        (judged.figures, judged.state) = (Some(figures), Some(state));
    }
    report.gates = pipeline.gates.iter().map(|gate| gate.judge(&judged)).collect();
    if let (Some(reason), false) = (&reason, gated) {
        report.warnings.push(format!(
            "what was lost in the figures of the task is not known: {reason}"
        ));
    }
    report.evaluation = evaluated.and_then(|found| found.ok()).map(|(figures, _)| figures);
    report.accepted &= report.gates.iter().all(|gate| gate.passed);
    Ok(())
}

/// What is compared with what, and how.
struct Pair<'a> {
    pipeline: &'a Pipeline,
    input: &'a Model,
    evened: &'a Model,
    model: &'a Model,
    snapshots: &'a [(usize, Model)],
    engine: &'a dyn Engine,
    options: &'a RunOptions<'a>,
}

impl Pair<'_> {
    fn compare(&self, work: Duration, evaluation: Option<&mut Evaluation<'_>>, report: &mut RunReport) {
        let safety = self.pipeline.safety();
        let replaces = self
            .pipeline
            .steps
            .iter()
            .any(|step| step.pass.about().aim == Aim::Replace);
        if replaces && let Some(reason) = self.called_otherwise() {
            report.warnings.push(format!(
                "the result is not compared with the input, which is called in another way: {reason}"
            ));
            return;
        }
        let options = self.bounded(work, safety, evaluation.as_deref(), report);
        (self.options.progress)("verify", 0, None);
        let timed = VerifyOptions {
            timed: pace::time(self.pipeline, work, &options).filter(|_| !replaces),
            ..options.clone()
        };
        let mut found = match evaluation.filter(|evaluation| evaluation.is_on(&options)) {
            Some(evaluation) => evaluation.watch(self, &timed),
            None => verify(self.input, self.model, self.engine, &timed),
        };
        if found.verdict == Verdict::Within && safety == Safety::Exact && options.optimise {
            // The engine may have rounded differently in the changed graph; as they stand, both must give the same bits.
            let plain = VerifyOptions {
                optimise: false,
                ..options.clone()
            };
            found = verify(self.input, self.model, self.engine, &plain);
        }
        report.verdict = found.verdict;
        // Even an approximation runs where the model does; what is another model on purpose may not.
        let broken = safety < Safety::Approximate || found.does_not_run && !replaces;
        if found.verdict == Verdict::Different && broken {
            report.accepted = false;
            report.culprit = self.culprit(&options);
        }
        if found.verdict == Verdict::NotChecked {
            report.warnings.push(not_checked(&found.not_checked));
        }
        if safety == Safety::Approximate {
            let poor = found.outputs.iter().find(|output| is_poor(output, replaces));
            let batches = match poor {
                _ if self.options.node_errors => Some(NODE_BATCHES),
                Some(_) => Some(1),
                None => None,
            };
            let errors = batches.map(|batches| self.node_errors(&found, &options, batches));
            if let (Some(output), Some(errors)) = (poor, &errors) {
                report.warnings.push(poor_output(output, errors, &options));
            }
            report.node_errors = errors.filter(|_| self.options.node_errors);
        }
        report.verify = Some(found);
        let slower = pace::slower(report, self.engine.name(), self.model);
        report.warnings.extend(slower);
    }

    /// What makes it impossible to call both models in the same way.
    fn called_otherwise(&self) -> Option<String> {
        let outputs = |model: &Model| -> Vec<String> {
            let outputs = model.graph.outputs().iter();
            outputs.map(|output| output.name.to_string()).collect()
        };
        let (before, after) = (outputs(self.input), outputs(self.model));
        if before != after {
            return Some(format!(
                "its outputs are {} in place of {}",
                after.join(", "),
                before.join(", ")
            ));
        }
        let pairs = self.input.graph.outputs().iter().zip(self.model.graph.outputs());
        for (before, after) in pairs {
            if before.ty.contradicts(&after.ty) {
                return Some(format!(
                    "its output {} is {} in place of {}",
                    after.name, after.ty, before.ty
                ));
            }
        }
        match Names::new(self.input, self.model, &self.options.verify.map) {
            Ok(names) => interface_difference(self.input, self.model, &names),
            Err(unpaired) => Some(unpaired.to_string()),
        }
    }

    /// How to compare: on the data that the pipeline has, if it has any, for about as long as the steps took. A gate on outputs
    /// is judged on all of the evaluation data.
    fn bounded(
        &self,
        work: Duration,
        safety: Safety,
        evaluation: Option<&Evaluation<'_>>,
        report: &mut RunReport,
    ) -> VerifyOptions {
        let mut options = self.options.verify.clone();
        let judged = self
            .pipeline
            .gates
            .iter()
            .any(|gate| matches!(gate, Gate::Outputs(_)));
        options.bounds.usual |= safety == Safety::Approximate;
        if options.bounds.time.is_none() && !judged {
            options.bounds.time = Some(work.max(FLOOR));
        }
        let Some(resources) = self.options.resources.filter(|_| options.data.is_none()) else {
            return options;
        };
        let Some(role) = COMPARED_ON.into_iter().find(|role| resources.describes(role)) else {
            return options;
        };
        let open = evaluation
            .filter(|open| open.role == role)
            .map(|open| Arc::clone(&open.data));
        match open.map_or_else(|| resources.data(role, &self.model.graph).map(Arc::new), Ok) {
            Ok(data) => {
                if role != EVALUATION && options.bounds.batches.is_none() {
                    options.bounds.batches = Some(BATCHES);
                }
                options.data = Some((format!("{role} data"), data));
            }
            Err(reason) => report.warnings.push(format!(
                "the result is compared on synthetic inputs, as the {role} data do not fit it: {reason}"
            )),
        }
        options
    }

    /// How far each node is off, on a few batches.
    fn node_errors(&self, found: &VerifyReport, options: &VerifyOptions, batches: u64) -> NodeErrors {
        (self.options.progress)("nodes", 0, None);
        let few = VerifyOptions {
            bounds: Bounds {
                batches: Some(batches),
                ..options.bounds.clone()
            },
            ..options.clone()
        };
        node_errors(self.evened, self.model, found, self.engine, &few)
    }

    /// The first step after which the outputs differ from the input's.
    fn culprit(&self, options: &VerifyOptions) -> Option<Culprit> {
        let differs = |count: u64| {
            let at = usize::try_from(count)
                .ok()
                .and_then(|count| self.snapshots.get(count.checked_sub(1)?));
            Ok::<bool, ()>(at.is_some_and(|(_, model)| {
                verify(self.input, model, self.engine, options).verdict == Verdict::Different
            }))
        };
        let found = smallest_breaking(self.snapshots.len() as u64, differs)
            .ok()
            .flatten()?;
        let at = usize::try_from(found).ok()?.checked_sub(1)?;
        let (index, after) = self.snapshots.get(at)?;
        let before = at
            .checked_sub(1)
            .and_then(|previous| self.snapshots.get(previous))
            .map_or(self.input, |(_, model)| model);
        let sample = verify(self.input, after, self.engine, options).worst;
        let divergence = sample.and_then(|sample| {
            localize(before, after, self.engine, &sample, options)
                .ok()
                .flatten()
        });
        Some(Culprit {
            step: index + 1,
            name: self.pipeline.steps.get(*index)?.name.clone(),
            divergence,
        })
    }
}

/// What to say of an approximation that is far from the input model.
fn poor_output(output: &OutputFigures, errors: &NodeErrors, options: &VerifyOptions) -> String {
    let mut text = if output.undefined > 0 {
        format!(
            "output {} has {} elements that are NaN or infinite and are not in the input model",
            output.name, output.undefined
        )
    } else {
        let decibels = output
            .sqnr_db
            .map_or("no".to_owned(), |db| format!("{db:.1} dB of"));
        format!(
            "output {} is far from the input model's: {decibels} SQNR",
            output.name
        )
    };
    if let Some(worst) = errors.worst_node() {
        let error = match worst.sqnr_db {
            Some(db) if worst.undefined == 0 => format!("{db:.1} dB"),
            _ => worst.reason.clone().unwrap_or_else(|| "no signal".to_owned()),
        };
        text.push_str(&format!(
            "; the worst node by itself is {} ({}): {error}",
            worst.node, worst.operator
        ));
    }
    if options.data.is_none() {
        text.push_str("; the inputs are synthetic, --data gives real ones");
    }
    text
}

fn not_checked(entries: &[NotChecked]) -> String {
    let why = entries.first().map(|entry| match &entry.operator {
        Some(operator) => format!("{operator}: {}", entry.reason),
        None => entry.reason.clone(),
    });
    format!("the result is not checked: {}", why.unwrap_or_default())
}

/// Whether an output of an approximation is worth a warning. One that is to be another is so only where it is no number.
fn is_poor(output: &OutputFigures, replaces: bool) -> bool {
    output.undefined > 0 || !replaces && output.differing > 0 && output.sqnr_db.is_some_and(|db| db < POOR)
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
enum NoFigures {
    #[error("there is no evaluation data")]
    NoData,
    #[error(transparent)]
    Resource(#[from] ResourceError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

/// Figures of the result on data with the input as reference. What a comparison runs is not run again.
struct Evaluation<'a> {
    role: &'static str,
    data: Arc<Dataset>,
    engine: &'a dyn Engine,
    jobs: usize,
    latency_runs: usize,
    state: State,
}

impl<'a> Evaluation<'a> {
    /// On the first data there are that describe a task: what a lossy step lost is said in its words.
    fn of_task(
        pipeline: &Pipeline,
        model: &Model,
        options: &RunOptions<'a>,
    ) -> Option<Result<Self, NoFigures>> {
        let names_task = |role: &&str| {
            let described = pipeline.data.get(*role);
            described.is_some_and(|described| {
                describe_data(described, &pipeline.base).is_ok_and(|(spec, _)| spec.names_task())
            })
        };
        let role = COMPARED_ON.into_iter().find(names_task)?;
        Some(Self::open(pipeline, model, options, role))
    }

    fn open(
        pipeline: &Pipeline,
        model: &Model,
        options: &RunOptions<'a>,
        role: &'static str,
    ) -> Result<Self, NoFigures> {
        let resources = options.resources.ok_or(NoFigures::NoData)?;
        let timed = pipeline.gates.iter().any(|gate| matches!(gate, Gate::Latency(_)));
        Ok(Self {
            role,
            data: Arc::new(resources.data(role, &model.graph)?),
            engine: resources.engine()?,
            jobs: resources.jobs(),
            latency_runs: if timed { LATENCY_RUNS } else { 0 },
            state: State::new(StateSubject::default()),
        })
    }

    /// Whether a comparison runs on the same data.
    fn is_on(&self, options: &VerifyOptions) -> bool {
        let compared = options.data.as_ref();
        compared.is_some_and(|(_, data)| Arc::ptr_eq(data, &self.data))
    }

    fn task<'t>(&'t self, progress: &'t dyn Fn(u64)) -> Task<'t> {
        Task {
            engine: self.engine,
            data: &self.data,
            output: None,
            threshold: 0.5,
            jobs: self.jobs,
            latency_runs: self.latency_runs,
            progress,
        }
    }

    /// Compares, and counts what both models answer.
    fn watch(&mut self, pair: &Pair<'_>, options: &VerifyOptions) -> VerifyReport {
        let mut state = std::mem::replace(&mut self.state, State::new(StateSubject::default()));
        let total = self.data.sample_range().end - self.data.sample_range().start;
        let task = self.task(&|_| ());
        let counter = task.counter(pair.model, Some(pair.input));
        let mut count = |batch: &Batch, expected: &RunValues, found: &RunValues| {
            // What cannot be counted stays uncovered, and is an error when it runs again.
            if counter.count(batch, found, Some(expected), &mut state).is_ok() {
                (pair.options.progress)("evaluate", state.samples(), Some(total));
            }
        };
        let report = watched(pair.input, pair.model, pair.engine, options, Some(&mut count));
        self.state = state;
        report
    }

    /// Counts in parts first where other processes do some of them: a comparison would run every sample.
    fn share(&mut self, input: &Model, model: &Model, options: &RunOptions<'_>) -> Result<(), PartsError> {
        if self.data.ledger().is_none() {
            return Ok(());
        }
        let mut state = std::mem::replace(&mut self.state, State::new(StateSubject::default()));
        let progress = |done| (options.progress)("evaluate", done, None);
        let task = Task {
            latency_runs: 0,
            ..self.task(&progress)
        };
        let found = task.figures(model, Some(input), &mut state, None);
        self.state = state;
        match found {
            Err(EvaluateError::Parts(error)) => Err(error),
            // What cannot be counted is an error when it runs again.
            _ => Ok(()),
        }
    }

    /// The figures, after the samples ran that no comparison saw.
    fn figures(
        mut self,
        input: &Model,
        model: &Model,
        options: &RunOptions<'_>,
    ) -> Result<(Figures, State), NoFigures> {
        let mut state = std::mem::replace(&mut self.state, State::new(StateSubject::default()));
        let total = self.data.sample_range().end - self.data.sample_range().start;
        let progress = |done| (options.progress)("evaluate", done, Some(total));
        let figures = self
            .task(&progress)
            .figures(model, Some(input), &mut state, None)?;
        Ok((figures, state))
    }
}
