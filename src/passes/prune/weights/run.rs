//! The run of the pass.

use std::collections::{BTreeMap, BTreeSet};

use super::NAME;
use super::layers::{Layer, layers};
use super::options::{Criterion, OPERATORS, Pattern, PruneWeights, Scope};
use super::score::{Evidence, scores};
use super::select::{Rule, select};
use super::update::{Moments, ReadError, Update, UpdateError};
use crate::analysis;
use crate::data::npz_bytes;
use crate::ir::{GraphPath, Model, Tensor, model_digest};
use crate::passes::train::gradient_statistics;
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, ReportFile, ResourceError, Safety, Selector,
    prepare,
};
use crate::schema;
use crate::statistics::{Along, GradientStatistics, second_moments};

impl Pass for PruneWeights {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: self.criterion == Criterion::Wanda
                || (self.update == Update::Obs && self.gram_stats.is_none()),
            training: self.criterion.takes_gradients() && self.stats.is_none(),
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let role = |default: &str| self.data.clone().unwrap_or_else(|| default.to_owned());
        let mut roles = Vec::new();
        if self.criterion.takes_gradients() && self.stats.is_none() {
            roles.push(role("training"));
        }
        if self.criterion == Criterion::Wanda {
            roles.push(role("calibration"));
        }
        if self.update == Update::Obs && self.gram_stats.is_none() {
            roles.push("calibration".to_owned());
        }
        roles
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("keep", &self.keep)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let rule = self.rule()?;
        let own = schema::patterns(&self.keep).map_err(|error| option(format!("keep: {error}")))?;
        let mut report = PassReport::default();
        let mut named = model.clone();
        prepare::name(&mut named);
        let mut found = layers(&named, self, &own, context, &mut report);
        if let Rule::Pattern(pattern) = rule {
            found.retain(|layer| {
                let size = layer.dims.get(layer.sum_axis).copied().unwrap_or(1);
                let fits = size % pattern.of == 0 && size > 0;
                if !fits {
                    let why = format!("it sums over {size}, which is no multiple of {}", pattern.of);
                    report.notes.push(stays(layer, &why));
                }
                fits
            });
        }
        let evidence = self.evidence(&named, &found, context)?;
        let (chosen, mut ranks) = self.ranked(&named, found, &evidence, &mut report)?;
        let gone = select(&chosen, &mut ranks, rule, self.max_sparsity);
        drop(ranks);
        let moments = self.moments(&named, &chosen, context)?;
        let mut updated = 0u64;
        let mut masks: BTreeMap<String, Tensor> = BTreeMap::new();
        let (mut zeroed, mut zeros, mut total) = (0u64, 0usize, 0usize);
        let mut details = Vec::new();
        for (layer, gone) in chosen.iter().zip(&gone) {
            // What makes up for the zeros is computed from the weights that are there before.
            let others = match &moments {
                Some(moments) if gone.contains(&true) => match update(&named, moments, layer, gone)? {
                    Ok(tensor) => Some(tensor),
                    Err(error) => {
                        let name = &layer.name;
                        report
                            .notes
                            .push(format!("{name}: what stays is not updated: {error}"));
                        None
                    }
                },
                _ => None,
            };
            let (fresh, before, after) = zero(model, layer, gone)?;
            if let Some(tensor) = others {
                write(model, layer, tensor)?;
                updated += 1;
            }
            zeroed += fresh;
            zeros += after;
            total += layer.elements();
            details.push(format!(
                "{} ({}): {after} of {} zero, {:.1} % ({:.1} % before)",
                layer.name,
                layer.reader,
                layer.elements(),
                share(after, layer.elements()),
                share(before, layer.elements()),
            ));
            if self.masks.is_some() {
                let dims: Vec<u64> = layer.dims.iter().map(|dim| *dim as u64).collect();
                let kept: Vec<bool> = gone.iter().map(|gone| !gone).collect();
                let mask = Tensor::from_bools(&dims, &kept).map_err(resource)?;
                masks.insert(layer.name.clone(), mask);
            }
        }
        report.files.extend(self.written(&masks, context)?);
        if chosen.is_empty() {
            report
                .notes
                .push("no weight of the chosen operators: nothing to prune".to_owned());
            return Ok(report);
        }
        details.push(format!(
            "all {} weights of {} that are pruned: {zeros} of {total} zero, {:.1} %",
            chosen.len(),
            self.operators.join(", "),
            share(zeros, total)
        ));
        report.changed = zeroed > 0 || updated > 0;
        if report.changed && model.graph_paths().len() > 1 {
            // What bodies know of the constants that they capture.
            analysis::infer(model);
        }
        if rule.asks_for_nothing() {
            let why = "a sparsity or threshold of 0 asks for no weight to become zero";
            report.leave_curable("", why, "raise it");
        }
        report.changes.push(Change {
            rule: "weight set to zero".to_owned(),
            count: zeroed,
            details,
        });
        if updated > 0 {
            report.add("layer updated", updated);
        }
        Ok(report)
    }
}

impl Criterion {
    /// Whether it needs gradients.
    pub(super) fn takes_gradients(self) -> bool {
        matches!(self, Self::Gradient | Self::Taylor | Self::Fisher)
    }
}

impl PruneWeights {
    fn rule(&self) -> Result<Rule, PassError> {
        let given = [
            self.sparsity.is_some(),
            self.threshold.is_some(),
            self.pattern.is_some(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(option(
                "sparsity, threshold and pattern exclude each other".to_owned(),
            ));
        }
        if let Some(unknown) = self
            .operators
            .iter()
            .find(|name| !OPERATORS.contains(&name.as_str()))
        {
            return Err(option(format!(
                "operators: {unknown} is none of {}",
                OPERATORS.join(", ")
            )));
        }
        if !(0.0..=1.0).contains(&self.max_sparsity) {
            return Err(option(format!(
                "max-sparsity: {} is not in 0 to 1",
                self.max_sparsity
            )));
        }
        if self.gram_stats.is_some() && self.update != Update::Obs {
            return Err(option(
                "gram-stats: only update: obs uses Gram matrices".to_owned(),
            ));
        }
        if self.stats.is_some() && !self.criterion.takes_gradients() {
            return Err(option(
                "stats: this criterion uses no gradient statistics".to_owned(),
            ));
        }
        if let Some(text) = &self.pattern {
            let pattern = Pattern::parse(text).ok_or_else(|| {
                option(format!(
                    "pattern: {text:?} is not N:M with N from 1 to M - 1, such as 2:4"
                ))
            })?;
            return Ok(Rule::Pattern(pattern));
        }
        if let Some(threshold) = self.threshold {
            return match threshold.is_finite() && threshold >= 0.0 {
                true => Ok(Rule::Below(threshold)),
                false => Err(option(format!("threshold: {threshold} is no number from 0 on"))),
            };
        }
        let sparsity = self.sparsity.unwrap_or(0.5);
        if !(0.0..=1.0).contains(&sparsity) {
            return Err(option(format!("sparsity: {sparsity} is not in 0 to 1")));
        }
        let scope: Scope = self.scope;
        Ok(Rule::Share(sparsity, scope))
    }

    /// The file of the masks, where one is asked for.
    fn written(
        &self,
        masks: &BTreeMap<String, Tensor>,
        context: &Context<'_>,
    ) -> Result<Option<ReportFile>, PassError> {
        let Some(path) = &self.masks else { return Ok(None) };
        let arrays = masks.iter().map(|(name, mask)| (name.as_str(), mask));
        Ok(Some(ReportFile {
            path: context.base.join(path),
            content: npz_bytes(arrays).map_err(|error| resource(format!("masks: {error}")))?,
        }))
    }

    fn evidence(
        &self,
        model: &Model,
        layers: &[Layer],
        context: &Context<'_>,
    ) -> Result<Evidence, PassError> {
        let mut evidence = Evidence {
            seed: self.random_seed.unwrap_or(context.seed),
            ..Evidence::default()
        };
        if self.criterion.takes_gradients() {
            evidence.gradients = Some(self.gradients(model, context)?);
        }
        if self.criterion == Criterion::Wanda {
            let resources = context.resources(NAME, "needs data and an engine")?;
            let role = self.data.as_deref().unwrap_or("calibration");
            let data = resources.data(role, &model.graph).map_err(resource)?;
            let main = layers.iter().filter(|layer| layer.path == GraphPath::MAIN);
            let wanted: BTreeSet<Along> = main.filter_map(|layer| layer.input.clone()).collect();
            let wanted: Vec<Along> = wanted.into_iter().collect();
            let samples = data.sample_range();
            let progress = |done: u64| {
                (context.progress)(
                    "second moments",
                    done - samples.start,
                    Some(samples.end - samples.start),
                );
            };
            let engine = resources.engine().map_err(resource)?;
            evidence.moments = second_moments(model, &wanted, &data, engine, resources.jobs(), &progress)
                .map_err(resource)?;
        }
        Ok(evidence)
    }

    /// The layers that the criterion can score, and the score of each of their weights.
    fn ranked(
        &self,
        named: &Model,
        found: Vec<Layer>,
        evidence: &Evidence,
        report: &mut PassReport,
    ) -> Result<(Vec<Layer>, Vec<Vec<f32>>), PassError> {
        let mut chosen: Vec<Layer> = Vec::new();
        let mut ranks: Vec<Vec<f32>> = Vec::new();
        for (at, layer) in found.into_iter().enumerate() {
            let weights = weights(named, &layer)?;
            match scores(self.criterion, &layer, &weights, evidence, at) {
                Ok(mut scores) => {
                    // A zero goes first, whatever the criterion says: it is pruned already.
                    for (score, weight) in scores.iter_mut().zip(&weights) {
                        if *weight == 0.0 {
                            *score = f32::NEG_INFINITY;
                        }
                    }
                    ranks.push(scores);
                    chosen.push(layer);
                }
                Err(unscored) => report.notes.push(stays(&layer, &unscored.to_string())),
            }
        }
        Ok((chosen, ranks))
    }

    fn moments(
        &self,
        model: &Model,
        chosen: &[Layer],
        context: &Context<'_>,
    ) -> Result<Option<Moments>, PassError> {
        if self.update == Update::None {
            return Ok(None);
        }
        if let Some(path) = &self.gram_stats {
            let found = Moments::read(&context.base.join(path), model, chosen);
            let found = found.map_err(|error| match error {
                ReadError::File(error) => resource(error),
                other => resource(other.to_string()),
            })?;
            return Ok(Some(found));
        }
        let resources = context.resources(NAME, "needs data and an engine")?;
        let data = resources.data("calibration", &model.graph).map_err(resource)?;
        let samples = data.sample_range();
        let total = samples.end - samples.start;
        let progress = |done: u64| {
            (context.progress)("second moments", done.saturating_sub(samples.start), Some(total));
        };
        let engine = resources.engine().map_err(resource)?;
        Moments::collect(model, chosen, &data, engine, resources.jobs(), &progress)
            .map(Some)
            .map_err(resource)
    }

    fn gradients(&self, model: &Model, context: &Context<'_>) -> Result<GradientStatistics, PassError> {
        if let Some(path) = &self.stats {
            let path = context.base.join(path);
            let statistics = GradientStatistics::read(&path).map_err(resource)?;
            if statistics.subject.model != model_digest(model) {
                let message = format!("the statistics {} are of another model", path.display());
                return Err(resource(message));
            }
            return Ok(statistics);
        }
        let resources = context.resources(NAME, "needs data and an engine")?;
        let role = self.data.as_deref().unwrap_or("training");
        let objective = self.loss.objective(self.loss_output.as_deref());
        let engine = resources.engine().map_err(resource)?;
        let open = |model: &Model| resources.data(role, &model.graph);
        gradient_statistics(
            model,
            &objective,
            open,
            engine,
            resources.jobs(),
            context.progress,
        )
        .map_err(resource)
    }
}

fn option(message: String) -> PassError {
    PassError::Option { pass: NAME, message }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}

fn stays(layer: &Layer, reason: &str) -> String {
    format!("{} ({}) stays: {reason}", layer.name, layer.reader)
}

fn share(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// The numbers of a layer; an infinite or undefined one is an error.
fn weights(model: &Model, layer: &Layer) -> Result<Vec<f32>, PassError> {
    let wrong = |message: String| PassError::Model {
        pass: NAME,
        node: layer.name.clone(),
        message,
    };
    let tensor = model
        .graph_at(&layer.path)
        .and_then(|graph| graph.constant(layer.value))
        .ok_or_else(|| wrong("is no constant".to_owned()))?;
    let values = tensor
        .to_f32()
        .map_err(|error| wrong(error.to_string()))?
        .into_owned();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(wrong(format!("element {at} is not finite"))),
        None => Ok(values),
    }
}

/// The weights that stay, made up for those that go.
fn update(
    model: &Model,
    moments: &Moments,
    layer: &Layer,
    gone: &[bool],
) -> Result<Result<Tensor, UpdateError>, PassError> {
    let tensor = model
        .graph_at(&layer.path)
        .and_then(|graph| graph.constant(layer.value))
        .ok_or_else(|| missing(layer))?;
    Ok(moments.updated(layer, tensor, gone))
}

fn write(model: &mut Model, layer: &Layer, tensor: Tensor) -> Result<(), PassError> {
    let graph = model.graph_at_mut(&layer.path).ok_or_else(|| missing(layer))?;
    graph
        .edit(NAME)
        .set_constant(layer.value.node, tensor)
        .map_err(|source| PassError::Edit { pass: NAME, source })
}

fn missing(layer: &Layer) -> PassError {
    PassError::Model {
        pass: NAME,
        node: layer.name.clone(),
        message: "is no constant".to_owned(),
    }
}

/// Writes the zeros. Answers how many weights became zero, and how many are before and after.
fn zero(model: &mut Model, layer: &Layer, gone: &[bool]) -> Result<(u64, usize, usize), PassError> {
    let wrong = |message: String| PassError::Model {
        pass: NAME,
        node: layer.name.clone(),
        message,
    };
    let graph = model
        .graph_at_mut(&layer.path)
        .ok_or_else(|| wrong("its graph is gone".to_owned()))?;
    let tensor = graph
        .constant(layer.value)
        .cloned()
        .ok_or_else(|| wrong("is no constant".to_owned()))?;
    let mut raw = tensor
        .raw()
        .map_err(|error| wrong(error.to_string()))?
        .into_owned();
    let width = tensor.dtype().bits() / 8;
    let (mut fresh, mut before, mut after) = (0u64, 0usize, 0usize);
    for (element, gone) in raw.chunks_mut(width).zip(gone) {
        // The sign of a zero is in the highest bit of the last byte.
        let (last, rest) = element.split_last().map_or((0, true), |(last, rest)| {
            (*last & 0x7f, rest.iter().all(|byte| *byte == 0))
        });
        let is_zero = last == 0 && rest;
        before += usize::from(is_zero);
        after += usize::from(is_zero || *gone);
        if *gone && !is_zero {
            element.fill(0);
            fresh += 1;
        }
    }
    if fresh > 0 {
        let mut pruned = Tensor::from_raw(tensor.dtype(), tensor.dims().iter().copied(), raw)
            .map_err(|error| wrong(error.to_string()))?;
        if let Some(meta) = tensor.meta() {
            pruned = pruned.with_meta(meta.clone());
        }
        graph
            .edit(NAME)
            .set_constant(layer.value.node, pruned)
            .map_err(|source| PassError::Edit { pass: NAME, source })?;
    }
    Ok((fresh, before, after))
}
