//! Fresh weights for a model's operators, those in bodies and functions included.
//!
//! What multiplies data gets random numbers whose spread follows from the operator's fan, or zeros, or an identity; biases are zero and
//! normalisations do nothing. A weight that several operators share stays shared, across the bodies that capture it, too. What looks
//! learned and has no fresh form is answered with the reason.

use std::collections::{BTreeMap, BTreeSet};

use regex::RegexSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adapt::uniform;
use super::units::{self, Kind, Part, Role, Unit};
use crate::ir::{
    ConstantOrigin, DType, EditError, FunctionIndex, Graph, GraphPath, Model, Node, NodeId, NodeKind,
    Operator, Slot, Tensor, TensorError, ValueId,
};

/// The origin of edits.
const NAME: &str = "transfer-structure";

/// Standard deviation of class tokens and position embeddings (Dosovitskiy et al., 2021).
const TOKEN_DEVIATION: f64 = 0.02;

/// How weights are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Uniform with variance 2 / fan-in (He et al., 2015).
    Kaiming,
    /// Uniform with variance 2 / (fan-in + fan-out) (Glorot and Bengio, 2010).
    Xavier,
    /// Zero.
    Zeros,
    /// Convolutions and matrix products that pass channel i on as channel i; zero for other operators.
    Identity,
    /// As they are.
    Keep,
}

/// Why there are no fresh weights.
#[derive(Debug, thiserror::Error)]
pub enum InitialiseError {
    /// The element type cannot hold them.
    #[error("{name}: {source}")]
    Tensor {
        /// The weight.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
    /// An edit broke a law of the IR.
    #[error("{0}; this is a defect of secateur, please report it with the model")]
    Edit(#[from] EditError),
}

/// What became of a model's weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Initialised {
    /// Weights with new numbers.
    pub made: usize,
    /// What looks learned and has its old numbers.
    pub stayed: Vec<Stayed>,
}

/// A weight that has its old numbers, though no pattern asked for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stayed {
    /// The weight.
    pub name: String,
    /// Why.
    pub why: String,
    /// What the user can do about it; empty where that is nothing.
    pub cure: &'static str,
}

/// Gives every weight new numbers, but for operators and weights whose names `keep` matches.
///
/// # Errors
/// An element type that cannot hold the numbers; an edit that breaks a law of the IR.
pub fn initialise(
    model: &mut Model,
    init: Init,
    seed: u64,
    keep: &RegexSet,
) -> Result<Initialised, InitialiseError> {
    if init == Init::Keep {
        return Ok(Initialised::default());
    }
    let mut fresh = Fresh::default();
    for path in model.graph_paths() {
        let Some((graph, places)) = opened(model, &path) else {
            continue;
        };
        for unit in &units::find(&graph) {
            for part in &unit.parts {
                if keep.is_match(&unit.name) || keep.is_match(&part.name) {
                    fresh.kept.insert((path.clone(), part.node));
                    continue;
                }
                let own = || (path.clone(), part.constant);
                let place = places.get(&part.constant).cloned().unwrap_or_else(own);
                let known = fresh.made.contains_key(&place);
                if !known {
                    let values = values(unit, part, init, seed, fresh.made.len() as u64);
                    let tensor = Tensor::from_f64(part.tensor.dtype(), part.tensor.dims(), &values);
                    let tensor = tensor.map_err(|source| InitialiseError::Tensor {
                        name: part.name.clone(),
                        source,
                    })?;
                    fresh.made.insert(place.clone(), tensor);
                }
                let spot = (path.clone(), part.node, part.slot);
                fresh.spots.entry(place).or_default().push(spot.clone());
                fresh.renewed.insert(spot);
            }
        }
    }
    fresh.write(model)?;
    Ok(Initialised {
        made: fresh.made.len(),
        stayed: fresh.stayed(model, keep),
    })
}

/// A constant, and the graph that holds it.
type Place = (GraphPath, ValueId);

/// An input slot of an operator.
type Spot = (GraphPath, NodeId, usize);

/// The graph at `path` with copies of the constants that it captures in the place of the captures, and the constant that each copy is
/// of: what looks for weights in one graph finds those that stand around it.
fn opened(model: &Model, path: &GraphPath) -> Option<(Graph, BTreeMap<ValueId, Place>)> {
    let mut graph = model.graph_at(path)?.clone();
    let mut places = BTreeMap::new();
    let captures: Vec<NodeId> = graph
        .node_ids()
        .filter(|id| matches!(graph.get(*id).map(|node| &node.kind), Some(NodeKind::Capture(_))))
        .collect();
    for id in captures {
        let capture = ValueId::new(id, 0);
        let Some(place) = stored(model, path, capture) else {
            continue;
        };
        let around = model.graph_at(&place.0)?;
        let Some(NodeKind::Constant(constant)) = around.get(place.1.node).map(|node| &node.kind) else {
            continue;
        };
        let Some(value) = around.value(place.1).cloned() else {
            continue;
        };
        let mut editor = graph.edit(NAME);
        let copy = editor.copy_constant(id, value, (**constant).clone());
        // A capture that the body puts out as it is stays one.
        if editor.replace(capture, copy).is_ok() {
            places.insert(copy, place);
        }
    }
    Some((graph, places))
}

/// The constant that a value is, through Identity and captures.
fn stored(model: &Model, path: &GraphPath, value: ValueId) -> Option<Place> {
    let (mut path, mut value) = (path.clone(), value);
    loop {
        let graph = model.graph_at(&path)?;
        match &graph.get(value.node)?.kind {
            NodeKind::Constant(constant) => {
                constant.tensor.as_ref()?;
                return Some((path, value));
            }
            NodeKind::Operator(operator) if operator.is("Identity") => value = graph.input(value.node, 0)?,
            NodeKind::Capture(capture) => (path, value) = model.captured(&path, capture.index)?,
            _ => return None,
        }
    }
}

/// Who reads a value in the end.
struct Read {
    path: GraphPath,
    node: NodeId,
    /// The operator's slot; `None` for an output of the graph.
    slot: Option<usize>,
}

/// The readers of a value, through Identity and into the bodies that capture it.
fn reads(model: &Model, path: &GraphPath, value: ValueId, found: &mut Vec<Read>) {
    let Some(graph) = model.graph_at(path) else { return };
    for at in graph.uses(value) {
        match (graph.operator(at.node), at.slot) {
            (Some(operator), Slot::Input(_)) if operator.is("Identity") => {
                reads(model, path, ValueId::new(at.node, 0), found);
            }
            (Some(operator), Slot::Capture(index)) => {
                for (body, inner) in operator.bodies() {
                    let there = inner.node_ids().filter(|id| {
                        let kind = inner.get(*id).map(|node| &node.kind);
                        matches!(kind, Some(NodeKind::Capture(one)) if one.index == index)
                    });
                    for id in there {
                        reads(model, &path.body(at.node, body), ValueId::new(id, 0), found);
                    }
                }
            }
            (operator, Slot::Input(slot)) => found.push(Read {
                path: path.clone(),
                node: at.node,
                slot: operator.map(|_| slot as usize),
            }),
            (None, Slot::Capture(_)) => {}
        }
    }
}

/// The new numbers, and where they go.
#[derive(Default)]
struct Fresh {
    made: BTreeMap<Place, Tensor>,
    spots: BTreeMap<Place, Vec<Spot>>,
    renewed: BTreeSet<Spot>,
    /// Operators that a pattern protects.
    kept: BTreeSet<(GraphPath, NodeId)>,
}

impl Fresh {
    /// Changes constants in place where all that read them get the new numbers; else those that do read one of their own.
    fn write(&self, model: &mut Model) -> Result<(), EditError> {
        for (place, spots) in &self.spots {
            let Some(tensor) = self.made.get(place) else {
                continue;
            };
            let (path, value) = place;
            let mut readers = Vec::new();
            reads(model, path, *value, &mut readers);
            let all = readers.iter().all(|read| self.renews(read));
            let Some(graph) = model.graph_at_mut(path) else {
                continue;
            };
            if all {
                graph.edit(NAME).set_constant(value.node, tensor.clone())?;
                continue;
            }
            let own = graph.edit(NAME).add_constant("", tensor.clone());
            for (at, node, slot) in spots {
                let there = model.capture(NAME, path, at, own)?;
                let Some(graph) = model.graph_at_mut(at) else {
                    continue;
                };
                let mut editor = graph.edit(NAME);
                let before = editor.graph().input(*node, *slot);
                editor.set_input(*node, *slot, Some(there))?;
                let Some(before) = before else { continue };
                let removable = matches!(
                    editor.graph().get(before.node).map(|node| &node.kind),
                    Some(NodeKind::Operator(_) | NodeKind::Constant(_))
                );
                if removable && !editor.graph().is_used(before.node) {
                    editor.remove_unused(before.node);
                }
            }
        }
        Ok(())
    }

    fn renews(&self, read: &Read) -> bool {
        let spot = |slot| (read.path.clone(), read.node, slot);
        read.slot.is_some_and(|slot| self.renewed.contains(&spot(slot)))
    }

    /// What looks learned and has its old numbers.
    fn stayed(&self, model: &Model, keep: &RegexSet) -> Vec<Stayed> {
        let functions = model.function_index();
        let mut found = Vec::new();
        for path in model.graph_paths() {
            let Some(graph) = model.graph_at(&path) else {
                continue;
            };
            for id in graph.node_ids() {
                let value = ValueId::new(id, 0);
                let name = graph.value(value).map(|value| value.name.to_string());
                let name = name.unwrap_or_default();
                let Some(numbers) = graph
                    .get(id)
                    .and_then(Numbers::of)
                    .filter(|_| !keep.is_match(&name))
                else {
                    continue;
                };
                let mut readers = Vec::new();
                reads(model, &path, value, &mut readers);
                let reason = readers.iter().filter(|read| !self.renews(read)).find_map(|read| {
                    let graph = model.graph_at(&read.path)?;
                    let kept = self.kept.contains(&(read.path.clone(), read.node))
                        || keep.is_match(&graph.label(read.node));
                    match kept {
                        true => None,
                        false => why(graph, &functions, read, &numbers),
                    }
                });
                // Numbers are looked at last: weights are large.
                if let Some((why, cure)) = reason.filter(|_| numbers.look_learned()) {
                    found.push(Stayed { name, why, cure });
                }
            }
        }
        found
    }
}

/// What a node holds, where that may be a weight.
enum Numbers<'a> {
    Float(&'a Tensor),
    Codes(&'a Tensor),
    Sparse,
    /// An input with a default.
    Default(&'a Tensor),
}

impl<'a> Numbers<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let tensor = match &node.kind {
            NodeKind::Constant(constant) => match &constant.tensor {
                Some(tensor) => tensor,
                None => return matches!(constant.origin, ConstantOrigin::Sparse(..)).then_some(Self::Sparse),
            },
            NodeKind::Input(input) => {
                let (tensor, _) = input.default.as_ref()?;
                return is_float(tensor).then_some(Self::Default(tensor));
            }
            _ => return None,
        };
        let dtype = tensor.dtype();
        let narrow = dtype.bits() <= 16 || dtype == DType::I32;
        match (tensor.elements() > 1, is_float(tensor)) {
            (true, true) => Some(Self::Float(tensor)),
            (true, false) if narrow && !matches!(dtype, DType::Bool | DType::String) => {
                Some(Self::Codes(tensor))
            }
            _ => None,
        }
    }

    /// Whether the numbers are neither all the same nor those of a mask.
    fn look_learned(&self) -> bool {
        let tensor = match self {
            Self::Sparse => return true,
            Self::Float(tensor) | Self::Codes(tensor) | Self::Default(tensor) => tensor,
        };
        tensor.to_f64().is_ok_and(|values| {
            let first = values.first().copied().unwrap_or(0.0);
            let bounded = matches!(self, Self::Codes(_)) || values.iter().all(|value| value.abs() < 1e4);
            bounded && values.iter().any(|value| *value != first)
        })
    }
}

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

/// Operators of ONNX's own domain that read codes, with the slots of these.
const CODED: [(&str, &[usize]); 6] = [
    ("DequantizeLinear", &[0]),
    ("QLinearConv", &[3]),
    ("QLinearMatMul", &[0, 3]),
    ("ConvInteger", &[1]),
    ("MatMulInteger", &[0, 1]),
    ("Gather", &[0]),
];

/// Why what a reader reads has no fresh form, and what would change that; `None` if the reader takes it for no weight.
fn why(
    graph: &Graph,
    functions: &FunctionIndex<'_>,
    read: &Read,
    numbers: &Numbers<'_>,
) -> Option<(String, &'static str)> {
    let codes = matches!(numbers, Numbers::Codes(_));
    let Some((operator, slot)) = graph.operator(read.node).zip(read.slot) else {
        let said = match read.path.bodies.is_empty() {
            true => "an output of the graph gives it",
            false => "a body gives it on as it is",
        };
        return (!codes).then(|| (said.to_owned(), ""));
    };
    let own = operator.domain().is_empty();
    let is_code = |tensor: &Tensor| match own {
        true => {
            let slots = CODED.iter().find(|(name, _)| operator.is(name));
            let known = slots.is_some_and(|(_, slots)| slots.contains(&slot));
            // Tables of whole numbers are codes where these have a byte.
            known && (!operator.is("Gather") || tensor.rank() > 1 && tensor.dtype().bits() == 8)
        }
        false => tensor.rank() > 1 && tensor.dtype() != DType::I32,
    };
    if functions.called_by(graph, read.node).is_some() {
        let said = "it comes in as an argument of a function".to_owned();
        return (!codes).then_some((said, "`inline-functions` first"));
    }
    match numbers {
        Numbers::Codes(tensor) => is_code(tensor).then(|| {
            let said = "its numbers are codes, which stay with their scales".to_owned();
            (said, "take the structure of the float model")
        }),
        Numbers::Float(_) if operator.is("QuantizeLinear") && slot == 0 => Some((
            "QuantizeLinear makes codes of it".to_owned(),
            "take the structure of the float model",
        )),
        _ if own && is_passive(operator) => None,
        Numbers::Sparse => Some(("it is a sparse initializer".to_owned(), "")),
        Numbers::Default(_) => {
            let said = "it is an input with a default, which a caller may replace".to_owned();
            Some((said, "`bind-defaults` first"))
        }
        Numbers::Float(_) if own => Some((
            format!(
                "{} reads it in a way that no fresh numbers are known for",
                operator.op_type
            ),
            "",
        )),
        Numbers::Float(_) => Some((
            format!(
                "{} is of another domain, and what its constants are is not known",
                operator.op_type
            ),
            "",
        )),
    }
}

/// Whether an operator of ONNX's own domain has no use for numbers that are learned.
fn is_passive(operator: &Operator) -> bool {
    let shapes = ["Shape", "Size"].iter().any(|name| operator.is(name));
    shapes || units::is_setting(operator)
}

fn values(unit: &Unit, part: &Part, init: Init, seed: u64, stream: u64) -> Vec<f64> {
    let count = part.tensor.elements() as usize;
    let random = |variance: f64| uniform(seed, stream, (3.0 * variance).sqrt(), count);
    let multiplies = matches!(part.role, Role::Weight | Role::Recurrence);
    match (part.role, init) {
        (Role::Scale, _) if unit.kind == Kind::Norm("slope") => vec![0.25; count],
        (Role::Scale | Role::Variance, _) => vec![1.0; count],
        (Role::Value, _) if matches!(&unit.kind, Kind::Constant(kind) if kind.starts_with("Mul") || kind.starts_with("Div")) =>
        {
            vec![1.0; count]
        }
        (Role::Value, Init::Kaiming | Init::Xavier) => random(TOKEN_DEVIATION * TOKEN_DEVIATION),
        (_, Init::Kaiming) if multiplies => random(2.0 / fans(unit, part).0),
        (_, Init::Xavier) if multiplies => {
            let (into, out) = fans(unit, part);
            random(2.0 / (into + out))
        }
        (Role::Weight, Init::Identity) if unit.kind == Kind::Linear => identity(unit, part),
        _ => vec![0.0; count],
    }
}

/// Numbers that each output is a sum of, and outputs that each input is in.
fn fans(unit: &Unit, part: &Part) -> (f64, f64) {
    let dims = unit.dims();
    let at = |index: usize| dims.get(index).copied().unwrap_or(1).max(1) as f64;
    let place = dims.iter().skip(2).product::<u64>().max(1) as f64;
    let group = unit.group as f64;
    match &unit.kind {
        Kind::Linear => (at(1) * place, at(0) / group * place),
        Kind::Transposed => (at(0) / group * place, at(1) * place),
        Kind::Recurrent(meaning) => {
            let gates = match meaning.split(' ').next() {
                Some("LSTM") => 4.0,
                Some("GRU") => 3.0,
                _ => 1.0,
            };
            let own = part.tensor.dims();
            let of = |index: usize| own.get(index).copied().unwrap_or(1).max(1) as f64;
            (of(2), of(1) / gates)
        }
        _ => {
            let width = part.tensor.dims().last().copied().unwrap_or(1).max(1) as f64;
            (width, width)
        }
    }
}

/// Weights that pass channel i of each group on as its channel i, in the middle of the kernel.
fn identity(unit: &Unit, part: &Part) -> Vec<f64> {
    let dims = unit.dims();
    let at = |index: usize| dims.get(index).copied().unwrap_or(1) as usize;
    let (outputs, inputs) = (at(0), at(1));
    let kernel: Vec<usize> = dims.iter().skip(2).map(|size| *size as usize).collect();
    let place: usize = kernel.iter().product();
    let centre = kernel.iter().fold(0, |offset, size| offset * size + size / 2);
    let per_group = (outputs / unit.group.max(1) as usize).max(1);
    let mut values = vec![0.0; part.tensor.elements() as usize];
    for output in 0..outputs {
        let input = output % per_group;
        if input >= inputs {
            continue;
        }
        let index = match part.layout.transposed {
            true => input * outputs + output,
            false => (output * inputs + input) * place + centre,
        };
        if let (Some(value), false) = (values.get_mut(index), part.layout.factor == 0.0) {
            *value = 1.0 / part.layout.factor;
        }
    }
    values
}
