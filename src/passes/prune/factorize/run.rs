//! The run of the pass.

use std::collections::HashMap;

use rayon::prelude::*;
use regex::RegexSet;

use super::options::{Basis, Factorize};
use super::rank::{Choice, choose, lowest};
use super::spectrum::{Candidate, Factors};
use super::split::{multiply, split};
use crate::analysis::{self, cost};
use crate::ir::{DType, Editor, Graph, Model, NodeId};
use crate::passes::distinct::distinct_names;
use crate::passes::prune::bias::{Bias, LayerError};
use crate::passes::prune::channels::{OracleVerdict, compare_cut};
use crate::passes::quantize::{GramSource, grams};
use crate::passes::{
    About, Context, Needs, Pass, PassError, PassReport, Requirement, ResourceError, Safety, Selector, prepare,
};
use crate::schema;
use crate::statistics::gram::{self, Grams, Layer};

const NAME: &str = "factorize";

/// What the report calls what was done.
const FACTORIZED: &str = "layer factorized";

/// Most outputs of a layer: their variances are a matrix in double precision.
const MOST_OUTPUTS: usize = 8192;

impl Pass for Factorize {
    fn about(&self) -> About {
        let reads = self.basis == Basis::Outputs && self.stats.is_none();
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: reads,
            engine: reads,
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let reads = self.basis == Basis::Outputs && self.stats.is_none();
        reads.then(|| self.data.clone()).into_iter().collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![
            Selector::new("layers", &self.layers),
            Selector::new("keep", &self.keep),
        ]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        self.check()?;
        let given = model.clone();
        let mut report = prepare::fold_weights(model, context)?;
        let whole = model.clone();
        let layers = self.layers(&model.graph, context, &mut report)?;
        let candidates = self.candidates((&given, model), layers, context, &mut report)?;
        let chosen = self.chosen(model, &candidates, &mut report);
        if chosen.is_empty() {
            *model = given;
            report.changed = false;
            report.changes.clear();
            report.requirements.clear();
            return Ok(report);
        }
        let reference = self.apply(model, &chosen, &mut report)?;
        judge((&whole, &reference), model, context, &mut report)?;
        Ok(report)
    }
}

impl Factorize {
    fn check(&self) -> Result<(), PassError> {
        let asked = [self.target_macs, self.target_bytes, self.energy];
        match asked.iter().flatten().count() {
            1 => {}
            0 => {
                return Err(option(
                    "how far is not said: `target-macs`, `target-bytes` or `energy`",
                ));
            }
            _ => {
                return Err(option(
                    "one of `target-macs`, `target-bytes` and `energy` says how far",
                ));
            }
        }
        let named = [
            ("target-macs", self.target_macs),
            ("target-bytes", self.target_bytes),
            ("energy", self.energy),
        ];
        for (name, share) in named {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return Err(option(&format!("{name}: {share} is not in 0 to 1")));
            }
        }
        if self.round_to == 0 {
            return Err(option("round-to: a multiple of 0 is no rank"));
        }
        match (self.basis, &self.stats) {
            (Basis::Weights, Some(_)) => Err(option("stats: with `basis: weights` nothing is read from it")),
            _ => Ok(()),
        }
    }

    fn patterns(name: &str, patterns: &[String]) -> Result<RegexSet, PassError> {
        schema::patterns(patterns).map_err(|error| option(&format!("{name}: {error}")))
    }

    /// The layers that are asked for and can be split.
    fn layers(
        &self,
        graph: &Graph,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Vec<Layer>, PassError> {
        let wanted = Self::patterns("layers", &self.layers)?;
        let keep = Self::patterns("keep", &self.keep)?;
        let (found, skipped) = gram::layers(graph);
        let asks = |names: &[String]| wanted.is_empty() || names.iter().any(|name| wanted.is_match(name));
        for one in skipped.iter().filter(|one| asks(std::slice::from_ref(&one.node))) {
            report.leave(&one.node, one.reason.to_string());
        }
        let mut layers = Vec::new();
        for layer in found {
            let names = names(graph, &layer);
            if !asks(&names) {
                continue;
            }
            let kept = names
                .iter()
                .any(|name| keep.is_match(name) || context.keeps(name));
            let dtype = graph.constant(layer.weight).map(|weight| weight.dtype());
            let reason = match (kept, layer.groups, dtype) {
                (true, ..) => "a keep pattern",
                (_, 2.., _) => "its channels are in groups, each of which is small already",
                (.., dtype) if dtype != Some(DType::F32) => "its weight is not float32",
                _ if graph.use_count(layer.weight) != 1 => "its weight has other readers",
                _ if layer.outputs > MOST_OUTPUTS => {
                    "it has more outputs than a matrix of their variances is made for"
                }
                _ => {
                    layers.push(layer);
                    continue;
                }
            };
            report.leave(&layer.label, reason);
        }
        Ok(layers)
    }

    /// The spectra of layers.
    fn candidates(
        &self,
        (given, model): (&Model, &Model),
        layers: Vec<Layer>,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Vec<Candidate>, PassError> {
        let source = GramSource {
            pass: NAME,
            data: &self.data,
            stats: self.stats.as_deref(),
        };
        let moments = match self.basis {
            Basis::Outputs if !layers.is_empty() => grams(source, given, model, &layers, context)?,
            _ => Grams::default(),
        };
        let graph = &model.graph;
        let spectrum = |layer: Layer| {
            let label = layer.label.clone();
            let bias = Bias::of(graph, &layer, layer.outputs);
            let rows = match moments.of(&layer) {
                Some([rows]) if rows.rows > 0 => Some(rows.clone()),
                _ => None,
            };
            let weight = graph.constant(layer.weight).ok_or("its weight cannot be read");
            let found =
                weight.and_then(|weight| Candidate::new(layer, (weight, bias), self.basis, rows.as_ref()));
            found.map_err(|reason| (label, reason))
        };
        let found: Vec<Result<Candidate, (String, &str)>> = layers.into_par_iter().map(spectrum).collect();
        let mut candidates = Vec::new();
        for one in found {
            match one {
                Ok(candidate) => candidates.push(candidate),
                Err((label, reason)) => report.leave(label, reason),
            }
        }
        Ok(candidates)
    }

    /// The layers that are split, with their ranks.
    fn chosen<'c>(
        &self,
        model: &Model,
        candidates: &'c [Candidate],
        report: &mut PassReport,
    ) -> Vec<(&'c Candidate, Choice)> {
        let costs = cost(model, &|_| None);
        let macs: HashMap<NodeId, u64> = costs
            .by_node
            .iter()
            .filter(|node| node.path.function.is_none() && node.path.bodies.is_empty())
            .filter_map(|node| Some((node.node, node.macs?)))
            .collect();
        let of_layer = |candidate: &Candidate| -> Option<f64> {
            match self.target_macs {
                Some(_) => macs.get(&candidate.layer.node).map(|macs| *macs as f64),
                None => {
                    let weight = model.graph.constant(candidate.layer.weight)?;
                    Some(weight.byte_len() as f64)
                }
            }
        };
        let round_to = self.round_to as usize;
        let mut layers: Vec<Vec<Choice>> = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let choices = of_layer(candidate).map(|cost| candidate.choices(cost, round_to));
            if choices.is_none() {
                report.leave(&candidate.layer.label, "its multiply-accumulates are not known");
            }
            layers.push(choices.unwrap_or_default());
        }
        let taken = match self.energy {
            Some(energy) => layers
                .iter()
                .map(|choices| lowest(choices, 1.0 - energy))
                .collect(),
            None => {
                let (name, share, whole) = match (self.target_macs, self.target_bytes) {
                    (Some(share), _) => ("target-macs", share, macs.values().sum::<u64>() as f64),
                    (_, share) => ("target-bytes", share.unwrap_or(1.0), costs.constant_bytes as f64),
                };
                let taken = choose(&layers, (1.0 - share) * whole);
                let freed: f64 = taken.iter().flatten().map(|choice| choice.freed).sum();
                let left = if whole > 0.0 { 1.0 - freed / whole } else { 1.0 };
                if left > share + 1e-9 {
                    report.requirements.push(Requirement {
                        name: name.to_owned(),
                        passed: false,
                        value: left,
                        bound: share,
                        message: format!("{:.1} % remain with the lowest rank of every layer", 100.0 * left),
                    });
                }
                taken
            }
        };
        let pairs = candidates.iter().zip(taken);
        let mut chosen = Vec::new();
        for (candidate, choice) in pairs {
            match choice {
                Some(choice) => chosen.push((candidate, choice)),
                None => report.leave(&candidate.layer.label, "no rank of it is worth what it loses"),
            }
        }
        chosen
    }

    /// Splits the chosen layers; answers the model in which they have the products as weights.
    fn apply(
        &self,
        model: &mut Model,
        chosen: &[(&Candidate, Choice)],
        report: &mut PassReport,
    ) -> Result<Model, PassError> {
        let mut reference = model.clone();
        let factors = |(candidate, choice): &(&Candidate, Choice)| {
            let weight = model.graph.constant(candidate.layer.weight)?;
            candidate.factors(choice.rank, weight)
        };
        let factors: Vec<Option<Factors>> = chosen.par_iter().map(factors).collect();
        let change = |editor: &mut Editor<'_>, put: Put| -> Result<(), PassError> {
            for ((candidate, _), factors) in chosen.iter().zip(&factors) {
                if let Some(factors) = factors {
                    put(editor, candidate, factors).map_err(|error| refused(&candidate.layer, error))?;
                }
            }
            Ok(())
        };
        change(&mut reference.graph.edit(NAME), multiply)?;
        change(&mut model.graph.edit(NAME), split)?;
        distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
        model.name_values();
        analysis::infer(model);
        report.add(FACTORIZED, chosen.len() as u64);
        if let Some(change) = report.changes.iter_mut().find(|change| change.rule == FACTORIZED) {
            change.details = chosen
                .iter()
                .map(|(candidate, choice)| words(candidate, choice))
                .collect();
        }
        Ok(reference)
    }
}

type Put = fn(&mut Editor<'_>, &Candidate, &Factors) -> Result<(), LayerError>;

fn words(candidate: &Candidate, choice: &Choice) -> String {
    let layer = &candidate.layer;
    format!(
        "{}: rank {} of {}, {:.2} % of the variance of its outputs is lost",
        layer.label,
        choice.rank,
        layer.outputs.min(layer.columns),
        100.0 * choice.lost
    )
}

fn names(graph: &Graph, layer: &Layer) -> Vec<String> {
    let weight = graph.value(layer.weight).map(|value| value.name.to_string());
    let node = graph.get(layer.node);
    let outputs = node.iter().flat_map(|node| node.outputs());
    let outputs = outputs.map(|value| value.name.to_string());
    let own = node.and_then(|node| node.name.as_ref()).map(ToString::to_string);
    own.into_iter().chain(weight).chain(outputs).collect()
}

fn option(message: &str) -> PassError {
    PassError::Option {
        pass: NAME,
        message: message.to_owned(),
    }
}

fn refused(layer: &Layer, error: LayerError) -> PassError {
    match error {
        LayerError::Edit(source) => PassError::Edit { pass: NAME, source },
        LayerError::Tensor(error) => {
            PassError::resource(NAME, ResourceError::of(layer.label.as_str(), error))
        }
    }
}

/// Compares the result with the model that has the products as weights.
fn judge(
    (whole, reference): (&Model, &Model),
    split: &Model,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let found = compare_cut(whole, reference, split, context.engine(), context.seed);
    let reason = found.reason.as_deref().unwrap_or("");
    match found.verdict {
        OracleVerdict::Equal => Ok(()),
        OracleVerdict::NotChecked => {
            let note = format!("not checked against the model with the products as weights: {reason}");
            report.notes.push(note);
            Ok(())
        }
        OracleVerdict::Different => Err(PassError::Model {
            pass: NAME,
            node: whole.graph.meta.name.clone().unwrap_or_default(),
            message: format!(
                "the result differs from the model with the products as weights: {reason}; this is a defect of secateur"
            ),
        }),
    }
}
