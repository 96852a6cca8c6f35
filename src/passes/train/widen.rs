//! The pass `widen`.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use regex::RegexSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::growth::{option, patterns, same};
use crate::axes::rewrite::{RewriteError, repeat, repeatable};
use crate::axes::{Group, Member, Solution, solve};
use crate::ir::{Graph, Model, Use};
use crate::passes::{About, Change, Context, Pass, PassError, PassReport, Safety, Selector, prepare};

const NAME: &str = "widen";

/// Most elements that a layer is widened to.
const MOST: usize = 1 << 20;

/// Makes layers wider without changing what the model computes, as a start for further training.
///
/// Channels, neurons and hidden units are copied, and whatever sums over them counts each copy for a share (Net2Net). What is tied
/// to a layer (normalisation, additions, depthwise convolutions, all gates of a recurrent layer) grows with it. A layer stays as it
/// is where copies would count twice: attention, normalisation across channels, quantized weights, inputs and outputs of the
/// model. The result is compared with the model before on synthetic inputs, and a difference beyond rounding is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Widen {
    /// Size of each layer afterwards, as a multiple of its size before.
    pub ratio: f64,
    /// Layers to widen: patterns over names of nodes and weights; all by default.
    pub layers: Vec<String>,
    /// New sizes are rounded up to a multiple of this.
    pub round_to: u32,
    /// Copies of a unit count alike, or for seeded random shares, so that training moves them apart.
    pub shares: Shares,
}

/// What part of a sum each copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shares {
    /// Random shares, none below a quarter of the largest.
    #[default]
    Random,
    /// The same share for each copy.
    Equal,
}

impl Default for Widen {
    fn default() -> Self {
        Self {
            ratio: 1.5,
            layers: Vec::new(),
            round_to: 1,
            shares: Shares::default(),
        }
    }
}

impl Pass for Widen {
    fn about(&self) -> About {
        About::new(NAME, Safety::Rounding)
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("layers", &self.layers)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if !(self.ratio >= 1.0 && self.ratio <= 64.0) {
            return Err(option(NAME, format!("ratio: {} is not in 1 to 64", self.ratio)));
        }
        if self.round_to == 0 {
            return Err(option(NAME, "round-to: nothing is a multiple of 0".to_owned()));
        }
        let layers = patterns(NAME, "layers", &self.layers)?;
        let mut report = prepare::fold(model, context)?;
        let solution = solve(model);
        let mut rng = ChaCha8Rng::seed_from_u64(context.seed);
        let mut details = Vec::new();
        let mut chosen = Vec::new();
        let mut shares: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for (index, (group, verdict)) in solution
            .groups()
            .iter()
            .zip(repeatable(model, &solution))
            .enumerate()
        {
            if !self.layers.is_empty() && !named(&model.graph, group, &layers)
                || kept(&model.graph, group, context)
            {
                continue;
            }
            let first = group.members.first().map_or("", |member| member.name.as_str());
            if let Err(obstacle) = verdict {
                // Axes of kernels, time and the model's own inputs are no layers.
                let made = |member: &Member| {
                    let uses = model.graph.uses(member.value);
                    uses.iter().any(|used| makes(&model.graph, used, member.axis))
                };
                if group.members.iter().any(made) {
                    report.notes.push(format!("{first} stays: {obstacle}"));
                }
                continue;
            }
            let before = group.units.len();
            let after = self.size(before);
            if after > MOST {
                return Err(option(NAME, format!("{first} would have {after} units")));
            }
            for (unit, copies) in spread(before, after, &mut rng).into_iter().enumerate() {
                if copies > 1 {
                    chosen.push((index, unit, copies));
                    self.share_out(&solution, index, unit, copies, &mut rng, &mut shares);
                }
            }
            if after > before {
                details.push(format!("{first}: {before} -> {after}"));
            }
        }
        if chosen.is_empty() {
            report.notes.push("no layer can be widened".to_owned());
            return Ok(report);
        }
        let defect = |error: RewriteError| PassError::Model {
            pass: NAME,
            node: String::new(),
            message: error.to_string(),
        };
        let repetition = solution
            .repetition(chosen)
            .map_err(|error| defect(RewriteError::Removal(error)))?;
        let share = |class: u32, copy: u32| {
            shares
                .get(&class)
                .and_then(|shares| shares.get(copy as usize))
                .copied()
                .unwrap_or(1.0)
        };
        let widened = repeat(model, &solution, &repetition, &share, NAME).map_err(defect)?;
        same(NAME, model, &widened, context, &mut report)?;
        *model = widened;
        report.changed = true;
        report.changes.push(Change {
            rule: "layer widened".to_owned(),
            count: details.len() as u64,
            details,
        });
        Ok(report)
    }
}

impl Widen {
    fn size(&self, before: usize) -> usize {
        let wanted = (before as f64 * self.ratio).round() as usize;
        wanted.max(before).next_multiple_of(self.round_to as usize)
    }

    fn share_out(
        &self,
        solution: &Solution,
        group: usize,
        unit: usize,
        copies: u32,
        rng: &mut ChaCha8Rng,
        shares: &mut BTreeMap<u32, Vec<f64>>,
    ) {
        let unit = solution
            .groups()
            .get(group)
            .and_then(|group| group.units.get(unit));
        let Some([class]) = unit.map(|unit| unit.classes()) else {
            return;
        };
        let parts: Vec<f64> = (0..copies)
            .map(|_| match self.shares {
                Shares::Equal => 1.0,
                Shares::Random => 0.25 + 0.75 * uniform(rng),
            })
            .collect();
        let sum: f64 = parts.iter().sum();
        shares.insert(*class, parts.into_iter().map(|part| part / sum).collect());
    }
}

/// A number from 0 to below 1.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// How often each of `before` units is there for `after` in all: as evenly as can be, the rest by chance.
fn spread(before: usize, after: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut copies = vec![(after / before.max(1)) as u32; before];
    let mut order: Vec<usize> = (0..before).collect();
    for at in (1..before).rev() {
        order.swap(at, (uniform(rng) * (at + 1) as f64) as usize);
    }
    for unit in order.into_iter().take(after % before.max(1)) {
        if let Some(copies) = copies.get_mut(unit) {
            *copies += 1;
        }
    }
    copies
}

/// Whether a pattern matches weights that make the units, or the node that they belong to.
fn named(graph: &Graph, group: &Group, patterns: &RegexSet) -> bool {
    group.members.iter().any(|member| {
        graph.uses(member.value).iter().any(|used| {
            makes(graph, used, member.axis)
                && (patterns.is_match(&member.name) || patterns.is_match(&graph.label(used.node)))
        })
    })
}

/// Whether a node makes the units of an axis of its weights, rather than reads them.
fn makes(graph: &Graph, used: &Use, axis: usize) -> bool {
    let Some(operator) = graph.operator(used.node) else {
        return false;
    };
    match operator.op_type.as_str() {
        "Conv" => axis == 0,
        "ConvTranspose" => axis == 1,
        "Gemm" => axis == usize::from(operator.int("transB").unwrap_or(0) == 0),
        "MatMul" => graph.input(used.node, 1).and_then(|value| graph.ty(value).rank()) == Some(axis + 1),
        "LSTM" | "GRU" | "RNN" => axis == 1,
        _ => false,
    }
}

fn kept(graph: &Graph, group: &Group, context: &Context<'_>) -> bool {
    group.members.iter().any(|member| {
        context.keeps(&member.name)
            || graph
                .uses(member.value)
                .iter()
                .any(|used| context.keeps(&graph.label(used.node)))
    })
}
