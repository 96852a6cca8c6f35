//! The pass `fold-constants`.
//!
//! Three parts take turns on each graph: `known` finds values that are the same in every run, `control_flow` and `loops` resolve If and
//! Loop whose course they decide, and `commit` replaces those that something else still reads, within the bounds on growth.

mod commit;
mod control_flow;
mod known;
mod loops;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::splice::Names;
use crate::analysis::infer;
use crate::ir::{Graph, Model, Tensor};
use crate::passes::encoded_size::{Budget, model_bytes};
use crate::passes::scope::{self, Scope};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};

const NAME: &str = "fold-constants";

/// Rounds of folding and resolving control flow in one graph; each resolves everything that is known by then.
const MAX_ROUNDS: usize = 16;

/// Computes what is the same in every run, and replaces it by constants.
///
/// Operators whose inputs are all constants are evaluated, in bodies and functions too. `Shape` and `Size` of values with
/// known dimensions become constants, and so do small integer tensors whose elements follow from shapes. An `If` with a known
/// condition is replaced by the branch taken; a `Loop` that never runs or runs once, by its inputs or its body, and one with few trips by all of them on request (`unroll`).
///
/// Left alone: random operators (Dropout that may be in training mode included), graph inputs with a default (a caller may
/// override it), `DequantizeLinear` and the `Gather` of a codebook at codes, as `cluster` writes it (the small weight is the point of
/// them), operators of other domains, and whatever `keep` protects. A constant never becomes larger than the constants it is computed from, or 4 MiB if that is more; and
/// the file never grows beyond `--max-growth`: what counts is the new constant's bytes minus those of the constants and nodes
/// that go with it, so a weight that something else still reads is not copied. Each refusal is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FoldConstants {
    /// Leave If and Loop as they are, even when their condition is known.
    pub keep_control_flow: bool,
    /// What has to be preserved: `rounding` evaluates everything; `exact` only what gives the same bits in every engine: moves,
    /// integers, and float arithmetic that IEEE 754 decides, but no functions such as `Exp` and no sums of many floats.
    pub safety: Safety,
    /// Make floats of weights that are stored as codes (`DequantizeLinear` of constants, values looked up in a codebook), for engines that
    /// would do so in every run; the file grows by that whatever `max-growth` says.
    pub decode: bool,
    /// Operators that a Loop with a known number of trips may become, written out trip by trip; with 0 only a Loop that runs once is.
    pub unroll: u64,
}

impl Default for FoldConstants {
    fn default() -> Self {
        Self {
            keep_control_flow: false,
            safety: Safety::Rounding,
            decode: false,
            unroll: 0,
        }
    }
}

impl Pass for FoldConstants {
    fn about(&self) -> About {
        let about = About::new(NAME, self.safety);
        match self.unroll {
            0 => about.tidying(),
            _ => about,
        }
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        infer(model);
        self.run_inferred(model, context)
    }
}

impl FoldConstants {
    /// Folds a model whose types are inferred already.
    pub(in crate::passes) fn run_inferred(
        &self,
        model: &mut Model,
        context: &Context<'_>,
    ) -> Result<PassReport, PassError> {
        let bytes = model_bytes(model);
        // What is decoded has room of its own.
        let decoded = if self.decode {
            known::decoded_bytes(model)
        } else {
            0
        };
        let growth = context.limits.max_growth + decoded as f64 / bytes.max(1) as f64;
        self.run_within(model, context, &mut Budget::new(bytes, bytes, growth))
    }

    /// Folds a model whose types are inferred already, within a budget that other passes share.
    pub(super) fn run_within(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        budget: &mut Budget,
    ) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        scope::for_each_root(model, NAME, context, |graph, scope| {
            let names = if graph.bodies().is_empty() {
                Names::default()
            } else {
                Names::of(graph)
            };
            let mut fold = Fold {
                options: self,
                budget,
                names,
                report: PassReport::default(),
                refused: BTreeMap::new(),
                kept: BTreeMap::new(),
            };
            fold.graph(graph, scope)?;
            let Fold {
                report: mut found,
                refused,
                kept,
                ..
            } = fold;
            found.notes.extend(refused.into_iter().map(|(reason, nodes)| {
                let nodes: Vec<String> = nodes.into_iter().collect();
                format!("not folded: {}: {reason}", nodes.join(", "))
            }));
            for (label, why) in kept {
                found.leave(label, why);
            }
            report.merge(found);
            Ok(())
        })?;
        Ok(report)
    }
}

/// Folding of one root graph and its bodies.
struct Fold<'a> {
    options: &'a FoldConstants,
    budget: &'a mut Budget,
    names: Names,
    report: PassReport,
    /// Refused nodes by reason.
    refused: BTreeMap<String, BTreeSet<String>>,
    /// Why loops that were to be written out stay.
    kept: BTreeMap<String, String>,
}

impl Fold<'_> {
    fn graph(&mut self, graph: &mut Graph, scope: &Scope<'_>) -> Result<(), PassError> {
        for round in 0.. {
            let known = known::find(graph, scope, self.options, &mut |node, reason| {
                self.refuse(node, reason)
            });
            if round < MAX_ROUNDS && !self.options.keep_control_flow {
                let mut resolved = false;
                for decision in control_flow::decide(graph, scope, &known, self.options) {
                    resolved |= control_flow::resolve(self, graph, scope, decision)?;
                }
                if resolved {
                    continue;
                }
            }
            commit::commit(self, graph, scope, &known)?;
            break;
        }
        for (owner, body) in graph.bodies() {
            if scope.protected(graph, owner) {
                continue;
            }
            let captured: Vec<Option<Tensor>> = graph
                .captures_of(owner)
                .into_iter()
                .map(|value| value.and_then(|value| graph.constant(value).cloned()))
                .collect();
            if let Some(inner) = graph.body_mut(owner, body) {
                for (capture, index) in scope::captures_in(inner) {
                    inner.set_captured_constant(capture, captured.get(index as usize).cloned().flatten());
                }
                self.graph(inner, scope)?;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, node: String, reason: String) {
        self.refused.entry(reason).or_default().insert(node);
    }
}
