//! A model cut at many values at once: readers of a cut value read a new graph input instead, and what is asked for becomes a
//! graph output. Every node stands in the cut model once, so one compilation and one run serve all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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
pub(super) struct CutPlan {
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
pub(super) fn cut(model: &Model, plan: &CutPlan, values: &RunValues) -> Cut {
    let needed = needed(&model.graph, plan);
    let mut cutting = Cutting::new(model, values);
    cutting.keep_inputs(&needed);
    let sources: BTreeSet<&Source> = plan
        .sources
        .iter()
        .filter(|((reader, _), _)| needed.contains(reader))
        .map(|(_, source)| source)
        .collect();
    let mut given: BTreeMap<&str, ValueId> = BTreeMap::new();
    for source in &sources {
        if !given.contains_key(source.given.as_str())
            && let Some(value) = cutting.given(&source.given)
        {
            given.insert(&source.given, value);
        }
    }
    let made = cutting.copy_nodes(&needed);
    let mut formed: HashMap<&Source, ValueId> = HashMap::new();
    for source in sources {
        let value = given.get(source.given.as_str());
        if let Some(copy) = value.and_then(|value| cutting.form(*value, source.form, Direction::In)) {
            formed.insert(source, copy);
        }
    }
    cutting.connect(made, |at| {
        plan.sources.get(&at).map(|source| formed.get(source).copied())
    });
    let outputs = plan
        .ends
        .iter()
        .map(|(end, form)| cutting.show(*end, *form).unwrap_or_default());
    let outputs = outputs.collect();
    let mut result = Model {
        graph: cutting.builder.finish(),
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
        inputs: cutting.inputs,
        outputs,
    }
}

/// The nodes behind the ends, up to the cuts.
fn needed(graph: &Graph, plan: &CutPlan) -> HashSet<NodeId> {
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
        for (slot, value) in reads(graph, id) {
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// A cut model that is being built.
struct Cutting<'a> {
    graph: &'a Graph,
    values: &'a RunValues,
    opset: i64,
    builder: GraphBuilder,
    /// Names of the whole model and of what was added.
    taken: HashSet<String>,
    /// What stands for the values of the whole model.
    copies: HashMap<ValueId, ValueId>,
    /// As in [`Cut`].
    inputs: Vec<(String, String)>,
    /// Names of the outputs.
    shown: HashSet<String>,
}

impl<'a> Cutting<'a> {
    fn new(model: &'a Model, values: &'a RunValues) -> Self {
        let graph = &model.graph;
        let nodes = graph.node_ids().filter_map(|id| graph.get(id));
        Self {
            graph,
            values,
            opset: model.opset().unwrap_or(1),
            builder: GraphBuilder::new(),
            taken: nodes
                .flat_map(|node| node.outputs())
                .map(|value| value.name.to_string())
                .collect(),
            copies: HashMap::new(),
            inputs: Vec::new(),
            shown: HashSet::new(),
        }
    }

    /// Takes over the graph inputs that are needed.
    fn keep_inputs(&mut self, needed: &HashSet<NodeId>) {
        for id in self.graph.inputs().iter().filter(|id| needed.contains(id)) {
            let (Some(NodeKind::Input(input)), Some(value)) = (
                self.graph.get(*id).map(|node| &node.kind),
                self.graph.value(ValueId::new(*id, 0)),
            ) else {
                continue;
            };
            let name = value.name.to_string();
            let found = self.values.get(&name);
            let ty = found.and_then(type_of).unwrap_or_else(|| value.ty.clone());
            let input = Input {
                declared: None,
                index: self.inputs.len() as u32,
                ..(**input).clone()
            };
            if found.is_some() {
                self.inputs.push((name.clone(), name));
            }
            let copy = self.builder.input(Value::typed(value.name.clone(), ty), input);
            self.copies.insert(ValueId::new(*id, 0), copy);
        }
    }

    /// The graph input that brings a given value: one that was kept, or a new one; `None` where the teacher has no such tensor.
    fn given(&mut self, name: &str) -> Option<ValueId> {
        let kept = self.graph.inputs().iter().find_map(|id| {
            let copy = self.copies.get(&ValueId::new(*id, 0))?;
            let value = self.graph.value(ValueId::new(*id, 0))?;
            (*value.name == *name).then_some(*copy)
        });
        if kept.is_some() {
            return kept;
        }
        let ty = self.values.get(name).and_then(type_of)?;
        let fresh = self.fresh(&format!("given/{name}"));
        let input = Input {
            index: self.inputs.len() as u32,
            ..Input::default()
        };
        self.inputs.push((name.to_owned(), fresh.clone()));
        Some(self.builder.input(Value::typed(fresh, ty), input))
    }

    /// Copies constants and operators, unconnected; answers the operators with their copies.
    fn copy_nodes(&mut self, needed: &HashSet<NodeId>) -> Vec<(NodeId, NodeId)> {
        let mut made = Vec::new();
        for id in self.graph.topological_order() {
            let Some(node) = self.graph.get(id).filter(|_| needed.contains(&id)) else {
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
                    let name = node.name.clone();
                    self.builder.constant(value, constant, name, meta).node
                }
                NodeKind::Operator(operator) => {
                    let copy = self.builder.operator(
                        operator.clone(),
                        operator.input_count(),
                        operator.capture_count(),
                        node.outputs().iter().map(of_any_shape).collect(),
                        node.name.clone(),
                        meta,
                    );
                    made.push((id, copy));
                    copy
                }
                _ => continue,
            };
            for output in 0..node.outputs().len() {
                self.copies
                    .insert(ValueId::new(id, output), ValueId::new(copy, output));
            }
        }
        made
    }

    /// Connects copies of operators: with the copies of what the operators read, or with what `instead` has for a reader, which may
    /// be nothing.
    fn connect(
        &mut self,
        made: Vec<(NodeId, NodeId)>,
        instead: impl Fn((NodeId, Slot)) -> Option<Option<ValueId>>,
    ) {
        for (id, copy) in made {
            for (slot, value) in reads(self.graph, id) {
                let copied = || self.copies.get(&value?).copied();
                if let Some(value) = instead((id, slot)).unwrap_or_else(copied) {
                    self.builder.connect(value, copy, slot);
                }
            }
        }
    }

    /// Shows a value of the whole model as an output, whose name is answered; `None` where there is no such value.
    fn show(&mut self, end: ValueId, form: Form) -> Option<String> {
        let copy = self.copies.get(&end).copied()?;
        let shown = self.form(copy, form, Direction::Out)?;
        let value = self.builder.graph().value(shown).cloned()?;
        let name = value.name.to_string();
        if self.shown.insert(name.clone()) {
            let output = GraphOutput {
                name: value.name,
                declared: None,
                ty: value.ty,
            };
            self.builder.output(output, Some(shown));
        }
        Some(name)
    }

    /// `value` in another form.
    fn form(&mut self, value: ValueId, form: Form, direction: Direction) -> Option<ValueId> {
        let name = self.builder.graph().value(value)?.name.clone();
        let shape = self.builder.graph().ty(value).shape().cloned();
        let node = match form {
            Form::Same => return Some(value),
            Form::Cast(dtype) => {
                let operator = Operator::new("Cast").with("to", AttributeValue::Int(i64::from(dtype.onnx())));
                let output = Value::typed(
                    self.fresh(&format!("cast/{name}")),
                    ValueType::tensor(dtype, shape),
                );
                self.builder.node(operator, &[Some(value)], vec![output])
            }
            Form::Codes(coding, dtype) => {
                let (kind, to) = match direction {
                    Direction::In => ("QuantizeLinear", dtype),
                    Direction::Out => ("DequantizeLinear", DType::F32),
                };
                let mut operator = Operator::new(kind);
                if self.opset < WIDE_CODES && !matches!(dtype, DType::I8 | DType::U8) {
                    operator = operator.in_domain("com.microsoft");
                }
                let scale = self.copies.get(&coding.scale).copied()?;
                let zero = match coding.zero {
                    Some(zero) => Some(self.copies.get(&zero).copied()?),
                    None => None,
                };
                let output = Value::typed(self.fresh(&format!("codes/{name}")), ValueType::tensor(to, shape));
                self.builder
                    .node(operator, &[Some(value), Some(scale), zero], vec![output])
            }
        };
        Some(ValueId::new(node, 0))
    }

    fn fresh(&mut self, stem: &str) -> String {
        let mut name = stem.to_owned();
        let mut number = 1usize;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{stem}/{number}");
        }
        name
    }
}

/// What a node reads, by slot.
fn reads(graph: &Graph, id: NodeId) -> impl Iterator<Item = (Slot, Option<ValueId>)> {
    let inputs = (0u32..).map(Slot::Input).zip(graph.inputs_of(id));
    inputs.chain((0u32..).map(Slot::Capture).zip(graph.captures_of(id)))
}

/// A value as it is known whatever the inputs are: what is known of shapes holds for the whole model's inputs; the types are what
/// inference cannot know of operators without a schema.
fn of_any_shape(value: &Value) -> Value {
    Value {
        ty: match &value.ty {
            ValueType::Tensor(tensor) => ValueType::tensor(tensor.dtype, None),
            other => other.clone(),
        },
        content: None,
        declared: None,
        ..value.clone()
    }
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
