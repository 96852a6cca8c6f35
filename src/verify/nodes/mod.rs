//! Each node alone, with inputs that another run computed (*teacher forcing*), so that errors do not add up along the way.
//!
//! `errors` feeds a model the values of its reference and asks how far each value is off: the error that quantization makes at
//! one place. `agreement` feeds a second engine the values of the first and asks by how many codes each result differs: in a
//! whole network one flipped rounding becomes many, between a node's inputs and its output there is one rounding. Both cut the
//! model (`cut`) so that one compilation serves every node; `matching` says which values of a model stand for which of its reference,
//! `codes` knows which operators work on codes, and with which scale.

mod agreement;
mod codes;
mod cut;
mod errors;
mod matching;
mod samples;

use schemars::JsonSchema;
use serde::Serialize;

pub use self::agreement::{Agreement, NodeAgreement};
pub use self::errors::{NodeError, NodeErrors};
use super::report::{NotChecked, VerifyOptions, VerifyReport};
use crate::engine::compare::Verdict;
use crate::engine::{Engine, EngineError};
use crate::ir::{Graph, Model};

/// How nodes are judged.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// How many of the worst nodes are listed.
    pub worst: usize,
    /// The lowest SQNR in decibels that a node may have against the reference; `None` accepts any.
    pub least_sqnr: Option<f64>,
    /// By how many codes two engines may differ.
    pub most_codes: f64,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            worst: 10,
            least_sqnr: None,
            most_codes: 1.0,
        }
    }
}

/// What was found node by node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeReport {
    /// `within`: every node that was checked holds; `different`: one does not; `not-checked`: nothing could be compared.
    pub verdict: Verdict,
    /// What makes the verdict `different`, in words that name the node.
    pub reasons: Vec<String>,
    /// How far each node is off when it gets the reference's values.
    pub errors: NodeErrors,
    /// How far two engines are apart on each node of the model.
    pub agreement: Agreement,
    /// What could not be checked, and operators in bodies, which are checked as part of the node that holds them.
    pub not_checked: Vec<NotChecked>,
}

/// The engines that run the nodes.
#[derive(Clone, Copy)]
pub struct Engines<'a> {
    /// Runs the reference and the model for `errors`.
    pub main: &'a dyn Engine,
    /// Two different engines for `agreement`; the first one's values are fed to both.
    pub pair: Result<(&'a dyn Engine, &'a dyn Engine), &'a EngineError>,
}

/// Judges `model` node by node. `whole` is the report of [`super::verify`] on the same pair: it knows sizes that run.
pub fn verify_nodes(
    reference: &Model,
    model: &Model,
    whole: &VerifyReport,
    engines: Engines<'_>,
    options: &VerifyOptions,
    nodes: &NodeOptions,
) -> NodeReport {
    let (mut reference, mut model) = (reference.clone(), model.clone());
    reference.name_values();
    model.name_values();
    let samples = samples::Samples::new(&reference, whole, options);
    let mut blocked = in_bodies(&model.graph);
    let errors = errors::errors(
        &reference,
        &model,
        engines.main,
        &samples,
        options,
        nodes,
        &mut blocked,
    );
    let agreement = agreement::agreement(&model, engines.pair, &samples, nodes, &mut blocked);
    let mut reasons = Vec::new();
    for node in &errors.worst {
        if let Some(reason) = &node.reason {
            reasons.push(format!(
                "{} of {} ({}): {reason}",
                node.value, node.node, node.operator
            ));
        } else if let (Some(least), Some(found)) = (nodes.least_sqnr, node.sqnr_db)
            && found < least
        {
            reasons.push(format!(
                "{} ({}): {found:.1} dB, at least {least} dB is asked for",
                node.node, node.operator
            ));
        }
    }
    for node in &agreement.worst {
        if let Some(reason) = &node.reason {
            reasons.push(format!("{} ({}): {reason}", node.node, node.operator));
        } else if node.codes > nodes.most_codes {
            reasons.push(format!(
                "{} ({}): the engines differ by {:.2} codes",
                node.node, node.operator, node.codes
            ));
        }
    }
    let verdict = if !reasons.is_empty() {
        Verdict::Different
    } else if errors.nodes == 0 && agreement.nodes == 0 {
        Verdict::NotChecked
    } else {
        Verdict::Within
    };
    NodeReport {
        verdict,
        reasons,
        errors,
        agreement,
        not_checked: blocked,
    }
}

/// How far each node of `model` is off when it gets the values of `reference`, the worst first; nodes with values of other shapes than
/// the reference's come last, with the reason. `whole` is the report of [`super::verify`] on the same pair.
pub fn node_errors(
    reference: &Model,
    model: &Model,
    whole: &VerifyReport,
    engine: &dyn Engine,
    options: &VerifyOptions,
) -> NodeErrors {
    let (mut reference, mut model) = (reference.clone(), model.clone());
    reference.name_values();
    model.name_values();
    let samples = samples::Samples::new(&reference, whole, options);
    let all = NodeOptions {
        worst: usize::MAX,
        ..NodeOptions::default()
    };
    let mut blocked = in_bodies(&model.graph);
    let found = errors::errors(&reference, &model, engine, &samples, options, &all, &mut blocked);
    NodeErrors {
        not_checked: blocked,
        ..found
    }
}

impl NodeErrors {
    /// The node that is worst by itself, if one is off: first those whose numbers are none, then by SQNR. Nodes whose values have other
    /// shapes than the reference's are left out.
    pub fn worst_node(&self) -> Option<&NodeError> {
        let undefined = self.worst.iter().find(|node| node.undefined > 0);
        undefined.or_else(|| self.worst.iter().find(|node| node.reason.is_none()))
    }
}

/// Nodes whose bodies hold operators: those are not judged one by one.
fn in_bodies(graph: &Graph) -> Vec<NotChecked> {
    graph
        .topological_order()
        .into_iter()
        .filter_map(|id| {
            let operator = graph.operator(id).filter(|operator| operator.has_bodies())?;
            let inside: usize = operator.bodies().map(|(_, body)| body.operator_count()).sum();
            Some(NotChecked {
                what: graph.label(id),
                operator: Some(operator.op_type.to_string()),
                reason: format!("{inside} operators in its bodies are checked together, not one by one"),
            })
        })
        .collect()
}

/// A place in a list of worst nodes.
fn keep_worst<T>(mut all: Vec<T>, most: usize, key: impl Fn(&T) -> f64) -> Vec<T> {
    all.sort_by(|a, b| key(a).total_cmp(&key(b)));
    all.truncate(most);
    all
}
