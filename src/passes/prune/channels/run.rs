//! The run of the pass.

use std::collections::BTreeMap;
use std::path::Path;

use regex::RegexSet;
use schemars::JsonSchema;
use serde::Serialize;

use super::choose::{Start, candidates, choose};
use super::clock::Clock;
use super::evidence::{Evidence, Measured};
use super::explain::{Explained, describe, frees};
use super::history::History;
use super::options::{Baseline, PruneChannels};
use super::oracle::{OracleReport, OracleVerdict, oracle};
use super::refit::refit;
use super::score;
use super::unreached::{Unreached, unreached};
use crate::analysis::{Cost, cost};
use crate::axes::rewrite::remove;
use crate::axes::{Removal, Solution, solve};
use crate::engine::Engine;
use crate::ir::Model;
use crate::passes::{
    About, Context, Needs, Pass, PassError, PassReport, ReportFile, ResourceError, Safety, Selector, prepare,
};
use crate::schema;

const NAME: &str = "prune-channels";

/// Steps of the search for a target's ratio.
const SEARCH_STEPS: usize = 10;

/// A pruned model and what is to be said about it.
#[derive(Debug)]
pub struct Pruned {
    /// The model without the removed units.
    pub model: Model,
    /// Every group of units.
    pub groups: Vec<Explained>,
    /// Parameters that no group covers.
    pub unreached: Vec<Unreached>,
    /// What went, for a replay.
    pub history: History,
    /// Whether the result was compared with the masked original, and how it came out.
    pub oracle: OracleReport,
    cut: (Solution, Removal),
}

impl Pass for PruneChannels {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: self.takes_samples(),
            training: Evidence::takes_labels(self),
            engine: self.target_latency.is_some() || self.until.is_some() || self.recover.is_some(),
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let samples = self.takes_samples().then(|| self.data.clone());
        let labels = Evidence::takes_labels(self).then(|| self.training.clone());
        samples.into_iter().chain(labels).collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("keep", &self.keep)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        validate(self)?;
        if self.until.is_some() {
            return Err(option(
                "until: a search runs the pass more than once: run it as a step of a pipeline".to_owned(),
            ));
        }
        let original = model.clone();
        let replay = self.replayed(context)?;
        let replays: Vec<Option<History>> = match &replay {
            Some(history) => history.rounds().map(Some).collect(),
            None => vec![None; self.iterations.max(1) as usize],
        };
        let mut report = PassReport::default();
        let Some(asked) = self.of_step(model, context)? else {
            report.leave("", "what is asked for is reached without a unit less");
            return Ok(report);
        };
        let each = asked.each_of(replays.len());
        let mut history: Option<History> = None;
        let mut last = None;
        let mut start = None;
        for (round, replay) in replays.iter().enumerate() {
            let mut found = prepare::fold(model, context)?;
            let start = start.get_or_insert_with(|| Start::of(&model.graph));
            let pruned = each.round(model, replay.as_ref(), (round, start), context, &mut found)?;
            match &mut history {
                None => history = Some(pruned.history.clone()),
                Some(history) => history.further.push(pruned.history.groups.clone()),
            }
            count(&pruned, &mut found);
            report.merge(found);
            last = Some(pruned);
            if let Some(recover) = self.recover.as_ref().filter(|_| round + 1 < replays.len()) {
                report.merge(recover.pass(&self.data).run(model, context)?);
            }
        }
        if let Some(path) = &self.history
            && let Some(history) = &history
        {
            report.files.push(record(&context.base.join(path), history)?);
        }
        if let Some(pruned) = last {
            // What stays is the same in every round: the last one says it.
            explain_rest(&pruned, &mut report);
        }
        if !report.changes.iter().any(|change| change.rule == REMOVED) {
            // Folded shape arithmetic alone is not what was asked for.
            *model = original;
            return Ok(PassReport {
                changed: false,
                changes: Vec::new(),
                ..report
            });
        }
        let engine = context.resources.and_then(|resources| resources.engine().ok());
        let seed = self.seed.unwrap_or(context.seed);
        if let Some(clock) = Clock::start(&original, self, engine, seed)? {
            report.times = Some(clock.times(model)?);
        }
        Ok(report)
    }
}

impl PruneChannels {
    /// Whether samples without labels are needed.
    fn takes_samples(&self) -> bool {
        Evidence::takes_samples(self) || self.recover.is_some()
    }

    /// The same with targets that are shares of the model that the step gets; `None` where it holds them already.
    fn of_step(&self, model: &Model, context: &Context<'_>) -> Result<Option<Self>, PassError> {
        if self.relative_to == Baseline::Step || self.replay.is_some() {
            return Ok(Some(self.clone()));
        }
        if self.target_latency.is_some() || self.target_macs.or(self.target_bytes).is_none() {
            let message =
                "relative-to: `target-macs` or `target-bytes` can be a share of what the run began with";
            return Err(option(message.to_owned()));
        }
        let resources = context.resources(NAME, "relative-to: the run that it is a step of is not known")?;
        let begun = resources
            .original()
            .ok_or_else(|| option("relative-to: there is no run".to_owned()))?;
        let costs = |model: &Model| -> Result<Cost, PassError> {
            let mut folded = model.clone();
            prepare::fold(&mut folded, context)?;
            Ok(cost(&folded, &|_| None))
        };
        let (begun, now) = (costs(begun)?, costs(model)?);
        let (Some(macs), Some(left)) = (begun.macs, now.macs) else {
            let message = "relative-to: the shapes of the model are not known well enough";
            return Err(option(message.to_owned()));
        };
        let share = |target: f64, begun: u64, now: u64| target * begun as f64 / now.max(1) as f64;
        let target_macs = self.target_macs.map(|target| share(target, macs, left));
        let target_bytes = self
            .target_bytes
            .map(|target| share(target, begun.constant_bytes, now.constant_bytes));
        if target_macs.unwrap_or(1.0) >= 1.0 && target_bytes.unwrap_or(1.0) >= 1.0 {
            return Ok(None);
        }
        Ok(Some(Self {
            target_macs: target_macs.map(|target| target.min(1.0)),
            target_bytes: target_bytes.map(|target| target.min(1.0)),
            ..self.clone()
        }))
    }

    /// The options of one of so many rounds.
    fn each_of(&self, rounds: usize) -> Self {
        let root = |share: f64| share.powf(1.0 / rounds.max(1) as f64);
        Self {
            ratio: 1.0 - root(1.0 - self.ratio),
            target_macs: self.target_macs.map(root),
            target_bytes: self.target_bytes.map(root),
            target_latency: self.target_latency.map(root),
            ..self.clone()
        }
    }

    /// Cuts `model` and refits the result. `model` keeps its units, but is left with the result's, too, for the next round.
    fn round(
        &self,
        model: &mut Model,
        replay: Option<&History>,
        (round, start): (usize, &Start),
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Pruned, PassError> {
        let seed = self.seed.unwrap_or(context.seed).wrapping_add(round as u64);
        let evidence = Evidence::collect(model, self, context)?;
        let measured = Measured {
            evidence: evidence.as_ref(),
            clock: context.resources.and_then(|resources| resources.engine().ok()),
            start: Some(start),
        };
        let mut pruned = prune(
            model,
            self,
            &context.keep,
            replay,
            measured,
            context.engine(),
            seed,
        )?;
        if let (true, Some(evidence)) = (self.refit, &evidence) {
            let (solution, removal) = &pruned.cut;
            refit(
                model,
                &mut pruned.model,
                (solution, removal),
                evidence,
                (self.refit_order, &self.data),
                context,
                report,
            )?;
        }
        *model = pruned.model.clone();
        Ok(pruned)
    }

    fn replayed(&self, context: &Context<'_>) -> Result<Option<History>, PassError> {
        let path = self.replay.as_ref().map(|path| context.base.join(path));
        path.map(|path| read(&path)).transpose()
    }

    /// What the first round would do to a model, and why it would leave the rest alone; the model only gets its shape arithmetic folded.
    pub fn plan(&self, model: &mut Model, context: &Context<'_>) -> Result<ClassPlan, PassError> {
        prepare::fold(model, context)?;
        let replay = self.replayed(context)?;
        let seed = self.seed.unwrap_or(context.seed);
        let evidence = Evidence::collect(model, self, context)?;
        let measured = Measured {
            evidence: evidence.as_ref(),
            clock: context.resources.and_then(|resources| resources.engine().ok()),
            start: None,
        };
        Ok(plan(model, self, &context.keep, replay.as_ref(), measured, seed)?.0)
    }
}

/// Every class of units and what is planned for it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ClassPlan {
    /// Groups of units that play the same part, in graph order.
    pub classes: Vec<Explained>,
    /// Parameters that no class covers.
    pub unreached: Vec<Unreached>,
}

/// Chosen units: pairs of group and unit.
type Chosen = Vec<(usize, usize)>;

/// Ranks and chooses, and removes nothing.
pub fn plan(
    model: &Model,
    options: &PruneChannels,
    keep: &RegexSet,
    replay: Option<&History>,
    measured: Measured<'_>,
    seed: u64,
) -> Result<(ClassPlan, Solution, Chosen), PassError> {
    validate(options)?;
    let own = schema::patterns(&options.keep).map_err(|error| option(format!("keep: {error}")))?;
    let solution = solve(model);
    let (groups, left) = candidates(&model.graph, &solution, options.attention, &[keep, &own]);
    let scores = score::scores(&model.graph, &solution, options, measured.evidence, seed);
    let chosen = match replay {
        Some(history) => history
            .find(&solution)
            .map_err(|error| option(error.to_string()))?,
        None => {
            let frees = frees(model, &solution);
            let price = |group: usize| {
                let frees = frees.get(group).copied().unwrap_or_default();
                let time = options.target_macs.or(options.target_latency).is_some();
                let freed = match options.target_bytes {
                    _ if time => frees.macs,
                    Some(_) => frees.bytes,
                    None => 1,
                };
                freed.max(1) as f64
            };
            let own = Start::default();
            let limits = (options, measured.start.unwrap_or(&own));
            let at = |ratio: f64| choose(&solution, &scores, &groups, limits, &price, ratio);
            let targets = [options.target_macs, options.target_bytes, options.target_latency];
            if targets.iter().all(Option::is_none) {
                at(options.ratio)
            } else {
                let clock = Clock::start(model, options, measured.clock, seed)?;
                search(model, &solution, options, clock.as_ref(), &at)?
            }
        }
    };
    let classes = describe(model, &solution, &scores, &left, &chosen);
    let unreached = unreached(model, &classes);
    Ok((ClassPlan { classes, unreached }, solution, chosen))
}

/// Prunes a model whose types have been inferred and whose shape arithmetic has been folded. `keep` are patterns beside the
/// options' own; `replay` takes the place of ranking.
pub fn prune(
    model: &Model,
    options: &PruneChannels,
    keep: &RegexSet,
    replay: Option<&History>,
    measured: Measured<'_>,
    engine: &dyn Engine,
    seed: u64,
) -> Result<Pruned, PassError> {
    let (planned, solution, chosen) = plan(model, options, keep, replay, measured, seed)?;
    let removal = solution
        .removal(chosen.iter().copied())
        .map_err(|error| defect(model, error.to_string()))?;
    let cut = remove(model, &solution, &removal).map_err(|error| defect(model, error.to_string()))?;
    let report = match chosen.is_empty() {
        true => OracleReport {
            verdict: OracleVerdict::Equal,
            max_difference: Some(0.0),
            reason: None,
        },
        false => oracle(model, &cut, &solution, &removal, engine, seed),
    };
    if report.verdict == OracleVerdict::Different {
        let culprit = culprit(model, &solution, &chosen, engine, seed);
        let reason = report.reason.unwrap_or_default();
        return Err(PassError::Model {
            pass: NAME,
            node: culprit,
            message: format!(
                "the result is not what the masked original gives: {reason}; this is a defect of secateur, please report it with \
                 the model"
            ),
        });
    }
    Ok(Pruned {
        model: cut,
        groups: planned.classes,
        unreached: planned.unreached,
        history: History::of(&solution, &chosen),
        oracle: report,
        cut: (solution, removal),
    })
}

/// The least ratio that meets every target, or the greatest that there is.
fn search(
    model: &Model,
    solution: &Solution,
    options: &PruneChannels,
    clock: Option<&Clock<'_>>,
    at: &dyn Fn(f64) -> Vec<(usize, usize)>,
) -> Result<Vec<(usize, usize)>, PassError> {
    let before = cost(model, &|_| None);
    let meets = |chosen: &[(usize, usize)]| -> Result<bool, PassError> {
        let removal = solution
            .removal(chosen.iter().copied())
            .map_err(|error| defect(model, error.to_string()))?;
        let cut = remove(model, solution, &removal).map_err(|error| defect(model, error.to_string()))?;
        let after = cost(&cut, &|_| None);
        let macs = match (options.target_macs, before.macs, after.macs) {
            (None, ..) => true,
            (Some(target), Some(before), Some(after)) => after as f64 <= target * before as f64,
            _ => {
                return Err(option(
                    "target-macs: the shapes of the model are not known well enough".to_owned(),
                ));
            }
        };
        let bytes = options
            .target_bytes
            .is_none_or(|target| after.constant_bytes as f64 <= target * before.constant_bytes as f64);
        match (options.target_latency, clock) {
            (Some(target), Some(clock)) if macs && bytes => Ok(clock.share(&cut)? <= target),
            _ => Ok(macs && bytes),
        }
    };
    let (mut low, mut high) = (0.0, 1.0);
    if !meets(&at(high))? {
        return Err(option(
            "no choice of units meets the target: explain lists what pins the rest".to_owned(),
        ));
    }
    for _ in 0..SEARCH_STEPS {
        let middle = f64::midpoint(low, high);
        if meets(&at(middle))? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(at(high))
}

/// The first group whose units alone come out different.
fn culprit(
    model: &Model,
    solution: &Solution,
    chosen: &[(usize, usize)],
    engine: &dyn Engine,
    seed: u64,
) -> String {
    for chunk in chosen.chunk_by(|a, b| a.0 == b.0) {
        let Ok(removal) = solution.removal(chunk.iter().copied()) else {
            continue;
        };
        let different = match remove(model, solution, &removal) {
            Ok(cut) => {
                oracle(model, &cut, solution, &removal, engine, seed).verdict == OracleVerdict::Different
            }
            Err(_) => true,
        };
        if different {
            let group = chunk.first().and_then(|(group, _)| solution.groups().get(*group));
            let names = group.map(|group| {
                group
                    .members
                    .iter()
                    .map(|member| member.name.as_str())
                    .collect::<Vec<_>>()
            });
            return format!("the class of {}", names.unwrap_or_default().join(", "));
        }
    }
    "several classes together".to_owned()
}

fn validate(options: &PruneChannels) -> Result<(), PassError> {
    let share = |name: &str, value: f64| {
        if (0.0..=1.0).contains(&value) {
            Ok(())
        } else {
            Err(option(format!("{name} must be from 0 to 1")))
        }
    };
    share("ratio", options.ratio)?;
    share("max-ratio", options.max_ratio)?;
    share("target-latency", options.target_latency.unwrap_or(1.0))?;
    share("target-macs", options.target_macs.unwrap_or(1.0))?;
    share("target-bytes", options.target_bytes.unwrap_or(1.0))
}

/// Says what went.
fn count(pruned: &Pruned, report: &mut PassReport) {
    let groups = &pruned.groups;
    let removed: usize = groups.iter().map(|group| group.removed).sum();
    report.add(REMOVED, removed as u64);
    if let Some(change) = report.changes.iter_mut().find(|change| change.rule == REMOVED) {
        change.details = groups
            .iter()
            .filter(|group| group.removed > 0)
            .map(|group| {
                let first = group.members.first();
                let name = first.map_or("", |member| member.constant.as_str());
                let axis = first.map_or(0, |member| member.axis);
                format!(
                    "{} of {} units along axis {axis} of {name}",
                    group.removed, group.units
                )
            })
            .collect();
    }
    if pruned.oracle.verdict == OracleVerdict::NotChecked {
        let reason = pruned.oracle.reason.as_deref().unwrap_or("");
        report
            .notes
            .push(format!("not checked against the masked original: {reason}"));
    }
}

/// Says, by pin, what stayed.
fn explain_rest(pruned: &Pruned, report: &mut PassReport) {
    let groups = &pruned.groups;
    let mut pinned: BTreeMap<String, usize> = BTreeMap::new();
    for group in groups {
        if let Some(reason) = &group.pinned_by {
            *pinned.entry(reason.clone()).or_default() += group.units;
        }
    }
    report.notes.extend(
        pinned
            .into_iter()
            .map(|(reason, units)| format!("{units} units stay: {reason}")),
    );
    let mut unreached: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in &pruned.unreached {
        *unreached.entry(&entry.reason).or_default() += entry.parameters;
    }
    report.notes.extend(
        unreached
            .into_iter()
            .map(|(reason, parameters)| format!("{parameters} parameters stay: {reason}")),
    );
}

/// What the report calls what went.
const REMOVED: &str = "units removed";

fn option(message: String) -> PassError {
    PassError::Option { pass: NAME, message }
}

fn defect(model: &Model, message: String) -> PassError {
    PassError::Model {
        pass: NAME,
        node: model.graph.meta.name.clone().unwrap_or_default(),
        message,
    }
}

fn read(path: &Path) -> Result<History, PassError> {
    let text = crate::files::read_text(path).map_err(|source| {
        let path = path.to_owned();
        PassError::resource(NAME, ResourceError::Text { path, source })
    })?;
    serde_json::from_str(&text)
        .map_err(|error| PassError::resource(NAME, format!("{}: {error}", path.display())))
}

/// The file that keeps a history.
fn record(path: &Path, history: &History) -> Result<ReportFile, PassError> {
    let mut text = serde_json::to_string_pretty(history)
        .map_err(|error| PassError::resource(NAME, format!("{}: {error}", path.display())))?;
    text.push('\n');
    Ok(ReportFile {
        path: path.to_owned(),
        content: text.into(),
    })
}
