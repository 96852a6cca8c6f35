//! What became of every weight.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::ir::{DType, GraphPath, Model, NodeKind, Slot, Tensor, ValueId};
use crate::transfer::units::{Part, Unit, is_setting};

/// Why a weight is in no unit.
pub(super) const UNREAD: &str = "it is read in a body or by an operator whose weights are not known";

/// Why a protected weight is left.
pub(super) const KEPT: &str = "`keep` protects it";

/// What became of a weight of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// The source's numbers as they are.
    Loaded,
    /// The source's numbers in another form.
    Adapted,
    /// New random numbers.
    Initialised,
    /// As it was.
    Left,
}

/// A weight of the target.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TargetWeight {
    /// Its name.
    pub name: String,
    /// The operator that reads it.
    pub node: String,
    /// Its shape.
    pub dims: Vec<u64>,
    /// What became of it.
    pub fate: Fate,
    /// The source's weights that it was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// How they were adapted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub how: Vec<String>,
    /// Whether the pair was found by order alone, as the graphs differ.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_order: bool,
    /// Why it was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether nothing is missing if it is left: it is protected, or changes nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
}

/// A weight of the source.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SourceWeight {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub dims: Vec<u64>,
    /// Whether the target has got it.
    pub used: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether nothing is missing if it is not used: it is a buffer, or its numbers are used under another name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
}

/// What became of every weight of both models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Account {
    /// Whether weights were paired by structure and not by name.
    pub by_structure: bool,
    /// The target's weights in the order of the graph.
    pub weights: Vec<TargetWeight>,
    /// The source's weights.
    pub source: Vec<SourceWeight>,
    /// Whether the target is the source with channels removed, as pruning does it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub narrower: bool,
}

impl Account {
    /// Elements of the target's weights with this fate.
    pub fn elements(&self, fate: Fate) -> u64 {
        let of = self.weights.iter().filter(|weight| weight.fate == fate);
        of.map(|weight| weight.dims.iter().product::<u64>()).sum()
    }

    /// The share of the target's parameters that are the source's now, adapted or not.
    pub fn share(&self) -> f64 {
        let all: u64 = self
            .weights
            .iter()
            .map(|weight| weight.dims.iter().product::<u64>())
            .sum();
        let loaded = self.elements(Fate::Loaded) + self.elements(Fate::Adapted);
        loaded as f64 / all.max(1) as f64
    }

    /// Weights of the target that are as they were, and of the source that are not used, though something is missing then.
    pub fn behind(&self) -> (Vec<&TargetWeight>, Vec<&SourceWeight>) {
        let own = self
            .weights
            .iter()
            .filter(|weight| weight.fate == Fate::Left && !weight.spare);
        let other = self.source.iter().filter(|weight| !weight.used && !weight.spare);
        (own.collect(), other.collect())
    }
}

impl TargetWeight {
    pub(super) fn of(part: &Part, unit: &str) -> Self {
        Self {
            name: part.name.clone(),
            node: unit.to_owned(),
            dims: part.tensor.dims().to_vec(),
            fate: Fate::Left,
            from: Vec::new(),
            how: Vec::new(),
            by_order: false,
            why: None,
            spare: false,
        }
    }

    pub(super) fn unread(name: String, tensor: &Tensor) -> Self {
        Self {
            name,
            node: String::new(),
            dims: tensor.dims().to_vec(),
            fate: Fate::Left,
            from: Vec::new(),
            how: Vec::new(),
            by_order: false,
            why: Some(UNREAD.to_owned()),
            spare: false,
        }
    }
}

/// Float constants with more than one number that are in no unit: those that bodies, functions and unknown operators have.
pub(super) fn unread(model: &Model, units: &[Unit]) -> Vec<(String, Tensor)> {
    let known: BTreeSet<ValueId> = units
        .iter()
        .flat_map(|unit| unit.parts.iter().map(|part| part.constant))
        .collect();
    let mut found = Vec::new();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        let main = path == GraphPath::MAIN;
        for id in graph.node_ids() {
            let value = ValueId::new(id, 0);
            let Some(tensor) = graph.constant(value) else {
                continue;
            };
            let own = matches!(graph.get(id).map(|node| &node.kind), Some(NodeKind::Constant(_)));
            let float = matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16);
            if !own || main && known.contains(&value) || !float || tensor.elements() < 2 {
                continue;
            }
            let is_weight = graph.uses(value).iter().any(|at| match at.slot {
                Slot::Capture(_) => true,
                Slot::Input(_) => {
                    let operator = graph.operator(at.node);
                    let constant = |value: ValueId| graph.constant(value).is_some();
                    // What is computed from constants alone is a setting, else it would have been folded.
                    operator.is_some_and(|operator| !is_setting(operator))
                        && !graph.inputs_of(at.node).into_iter().flatten().all(constant)
                }
            });
            if is_weight {
                let name = graph.value(value).map(|value| value.name.to_string());
                found.push((name.unwrap_or_default(), tensor.clone()));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
