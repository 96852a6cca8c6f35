//! A model cut at many values at once: readers of a cut value read a new graph input instead, and what is asked for becomes a
//! graph output. Every node stands in the cut model once, so one compilation and one run serve all of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::codes::Coding;
use crate::analysis::infer;
use crate::engine::{RunValue, RunValues};
use crate::ir::{
    AttributeValue, Constant, DType, Dim, Graph, GraphBuilder, GraphOutput, Input, Model, Name, NodeId,
    NodeKind, Operator, Slot, Value, ValueId, ValueType,
};

/// First IR version in which an initializer need not be listed among the graph inputs.
const UNLISTED_INITIALIZERS: i64 = 4;
/// First opset in which Q and DQ know codes of 4 and 16 bits.
const WIDE_CODES: i64 = 21;

/// What a reader gets in place of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Source {
    /// The given value, by the name its teacher knows it under.
    pub(super) given: String,
    pub(super) form: Form,
}

/// What is done between a given value and its reader, or between a value and the output that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Form {
    /// Nothing.
    Same,
    /// A conversion to this element type.
    Cast(DType),
    /// `QuantizeLinear` to codes of this type at a reader; `DequantizeLinear` at an output.
    Codes(Coding, DType),
}

/// Where a model is cut.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Readers that get something else than what they read in the model.
    pub(super) sources: HashMap<(NodeId, Slot), Source>,
    /// Values that become outputs.
    pub(super) ends: Vec<(ValueId, Form)>,
}

/// A cut model.
pub(super) struct Cut {
    pub(super) model: Model,
    /// Graph inputs by the name that the teacher knows the value under.
    inputs: Vec<(String, String)>,
    /// Names of the outputs, one for each end of the plan.
    pub(super) outputs: Vec<String>,
}

impl Cut {
    /// The inputs of the cut model, from values by the teacher's names; `None` if one is missing.
    pub(super) fn feed(&self, values: &RunValues) -> Option<RunValues> {
        self.inputs
            .iter()
            .map(|(given, input)| Some((input.clone(), values.get(given)?.clone())))
            .collect()
    }
}

/// Cuts `model` as `plan` says; `values` are what the teacher computes on one sample: their types and shapes are those of the
/// new inputs. Given values that `values` lacks are an error of the caller: their readers get nothing.
#[allow(
    clippy::too_many_lines,
    reason = "one walk, whose parts share what was cut before"
)]
pub(super) fn cut(model: &Model, plan: &Plan, values: &RunValues) -> Cut {
    let graph = &model.graph;
    let needed = needed(graph, plan);
    let mut builder = GraphBuilder::new();
    let mut taken: HashSet<String> = graph
        .node_ids()
        .filter_map(|id| graph.get(id))
        .flat_map(|node| node.outputs())
        .map(|value| value.name.to_string())
        .collect();
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    let mut inputs = Vec::new();
    for id in graph.inputs().iter().filter(|id| needed.contains(id)) {
        let (Some(NodeKind::Input(input)), Some(value)) = (
            graph.get(*id).map(|node| &node.kind),
            graph.value(ValueId::new(*id, 0)),
        ) else {
            continue;
        };
        let name = value.name.to_string();
        let ty = values
            .get(&name)
            .and_then(type_of)
            .unwrap_or_else(|| value.ty.clone());
        let input = Input {
            declared: None,
            index: inputs.len() as u32,
            ..(**input).clone()
        };
        if values.contains_key(&name) {
            inputs.push((name.clone(), name.clone()));
        }
        let copy = builder.input(Value::typed(value.name.clone(), ty), input);
        copies.insert(ValueId::new(*id, 0), copy);
    }
    let mut sources: Vec<&Source> = plan
        .sources
        .iter()
        .filter(|((reader, _), _)| needed.contains(reader))
        .map(|(_, source)| source)
        .collect();
    sources.sort();
    sources.dedup();
    let mut given: BTreeMap<&str, ValueId> = BTreeMap::new();
    for source in &sources {
        if given.contains_key(source.given.as_str()) {
            continue;
        }
        let own = graph.inputs().iter().find_map(|id| {
            let copy = copies.get(&ValueId::new(*id, 0))?;
            let value = graph.value(ValueId::new(*id, 0))?;
            (*value.name == *source.given).then_some(*copy)
        });
        let value = match own {
            Some(copy) => copy,
            None => {
                let Some(ty) = values.get(&source.given).and_then(type_of) else {
                    continue;
                };
                let name = fresh(&mut taken, &format!("given/{}", source.given));
                let input = Input {
                    index: inputs.len() as u32,
                    ..Input::default()
                };
                inputs.push((source.given.clone(), name.clone()));
                builder.input(Value::typed(name, ty), input)
            }
        };
        given.insert(&source.given, value);
    }
    let made = copy_nodes(graph, &needed, &mut builder, &mut copies);
    let opset = model.opset().unwrap_or(1);
    let mut formed: HashMap<&Source, ValueId> = HashMap::new();
    for source in sources {
        let Some(value) = given.get(source.given.as_str()) else {
            continue;
        };
        let copy = form(
            &mut builder,
            &mut taken,
            &copies,
            *value,
            source.form,
            Direction::In,
            opset,
        );
        if let Some(copy) = copy {
            formed.insert(source, copy);
        }
    }
    for (id, copy) in made {
        let read = |slot: Slot, value: Option<ValueId>| match plan.sources.get(&(id, slot)) {
            Some(source) => formed.get(source).copied(),
            None => copies.get(&value?).copied(),
        };
        for (at, value) in graph.inputs_of(id).into_iter().enumerate() {
            let slot = Slot::Input(at as u32);
            if let Some(value) = read(slot, value) {
                builder.connect(value, copy, slot);
            }
        }
        for (at, value) in graph.captures_of(id).into_iter().enumerate() {
            let slot = Slot::Capture(at as u32);
            if let Some(value) = read(slot, value) {
                builder.connect(value, copy, slot);
            }
        }
    }
    let mut outputs = Vec::new();
    for (end, how) in &plan.ends {
        let shown = copies.get(end).and_then(|copy| {
            form(
                &mut builder,
                &mut taken,
                &copies,
                *copy,
                *how,
                Direction::Out,
                opset,
            )
        });
        let Some(shown) = shown else {
            outputs.push(String::new());
            continue;
        };
        let Some(value) = builder.graph().value(shown).cloned() else {
            continue;
        };
        if !outputs.contains(&value.name.to_string()) {
            let output = GraphOutput {
                name: value.name.clone(),
                declared: None,
                ty: value.ty.clone(),
            };
            builder.output(output, Some(shown));
        }
        outputs.push(value.name.to_string());
    }
    let mut result = Model {
        graph: builder.finish(),
        ..model.clone()
    };
    // Training information names values that are gone.
    result.header.training_info.clear();
    if result.ir_version() < UNLISTED_INITIALIZERS {
        result.header.ir_version = Some(UNLISTED_INITIALIZERS);
    }
    infer(&mut result);
    Cut {
        model: result,
        inputs,
        outputs,
    }
}

/// The nodes behind the ends, up to the cuts.
fn needed(graph: &Graph, plan: &Plan) -> HashSet<NodeId> {
    let mut pending: Vec<NodeId> = Vec::new();
    let coding = |form: &Form| match form {
        Form::Codes(coding, _) => [Some(coding.scale), coding.zero],
        _ => [None, None],
    };
    for (end, form) in &plan.ends {
        pending.push(end.node);
        pending.extend(coding(form).into_iter().flatten().map(|value| value.node));
    }
    let mut found = HashSet::new();
    while let Some(id) = pending.pop() {
        if !found.insert(id) {
            continue;
        }
        let inputs = graph.inputs_of(id);
        let captures = graph.captures_of(id);
        let read = (0u32..)
            .zip(&inputs)
            .map(|(at, value)| (Slot::Input(at), value))
            .chain(
                (0u32..)
                    .zip(&captures)
                    .map(|(at, value)| (Slot::Capture(at), value)),
            );
        for (slot, value) in read {
            match plan.sources.get(&(id, slot)) {
                Some(source) => {
                    pending.extend(coding(&source.form).into_iter().flatten().map(|value| value.node));
                }
                None => pending.extend(value.iter().map(|value| value.node)),
            }
        }
    }
    found
}

/// Copies constants and operators, unconnected; answers the operators with their copies.
fn copy_nodes(
    graph: &Graph,
    needed: &HashSet<NodeId>,
    builder: &mut GraphBuilder,
    copies: &mut HashMap<ValueId, ValueId>,
) -> Vec<(NodeId, NodeId)> {
    let mut made = Vec::new();
    for id in graph.topological_order() {
        let Some(node) = graph.get(id).filter(|_| needed.contains(&id)) else {
            continue;
        };
        let meta = node.meta.as_deref().cloned();
        let copy = match &node.kind {
            NodeKind::Constant(constant) => {
                let constant = Constant {
                    listed_input: None,
                    ..(**constant).clone()
                };
                let value = node.outputs().first().cloned().unwrap_or_default();
                builder.constant(value, constant, node.name.clone(), meta).node
            }
            NodeKind::Operator(operator) => {
                // What is known of shapes holds for the whole model's inputs; the types are what inference cannot know of
                // operators without a schema.
                let outputs = node
                    .outputs()
                    .iter()
                    .map(|value| Value {
                        ty: match &value.ty {
                            ValueType::Tensor(tensor) => ValueType::tensor(tensor.dtype, None),
                            other => other.clone(),
                        },
                        content: None,
                        declared: None,
                        ..value.clone()
                    })
                    .collect();
                let copy = builder.operator(
                    operator.clone(),
                    operator.input_count(),
                    operator.capture_count(),
                    outputs,
                    node.name.clone(),
                    meta,
                );
                made.push((id, copy));
                copy
            }
            _ => continue,
        };
        for output in 0..node.outputs().len() {
            copies.insert(ValueId::new(id, output), ValueId::new(copy, output));
        }
    }
    made
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// `value` in another form.
fn form(
    builder: &mut GraphBuilder,
    taken: &mut HashSet<String>,
    copies: &HashMap<ValueId, ValueId>,
    value: ValueId,
    form: Form,
    direction: Direction,
    opset: i64,
) -> Option<ValueId> {
    let name = builder.graph().value(value)?.name.clone();
    let shape = builder.graph().ty(value).shape().cloned();
    let node = match form {
        Form::Same => return Some(value),
        Form::Cast(dtype) => {
            let operator = Operator::new("Cast").with("to", AttributeValue::Int(i64::from(dtype.onnx())));
            let output = Value::typed(
                fresh(taken, &format!("cast/{name}")),
                ValueType::tensor(dtype, shape),
            );
            builder.node(operator, &[Some(value)], vec![output])
        }
        Form::Codes(coding, dtype) => {
            let (kind, to) = match direction {
                Direction::In => ("QuantizeLinear", dtype),
                Direction::Out => ("DequantizeLinear", DType::F32),
            };
            let mut operator = Operator::new(kind);
            if opset < WIDE_CODES && !matches!(dtype, DType::I8 | DType::U8) {
                operator = operator.in_domain("com.microsoft");
            }
            let scale = copies.get(&coding.scale).copied()?;
            let zero = match coding.zero {
                Some(zero) => Some(copies.get(&zero).copied()?),
                None => None,
            };
            let output = Value::typed(
                fresh(taken, &format!("codes/{name}")),
                ValueType::tensor(to, shape),
            );
            builder.node(operator, &[Some(value), Some(scale), zero], vec![output])
        }
    };
    Some(ValueId::new(node, 0))
}

fn fresh(taken: &mut HashSet<String>, stem: &str) -> String {
    let mut name = stem.to_owned();
    let mut number = 1usize;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{stem}/{number}");
    }
    name
}

/// The type and shape of a tensor at run time.
fn type_of(value: &RunValue) -> Option<ValueType> {
    match value {
        RunValue::Tensor(tensor) => Some(ValueType::tensor(
            tensor.dtype(),
            Some(tensor.dims().iter().map(|dim| Dim::Fixed(*dim as i64)).collect()),
        )),
        _ => None,
    }
}

/// A value's name.
pub(super) fn name_of(graph: &Graph, value: ValueId) -> Option<Name> {
    graph
        .value(value)
        .filter(|value| !value.omitted && !value.name.is_empty())
        .map(|value| value.name.clone())
}
