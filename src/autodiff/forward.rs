//! What the loss needs of the model, copied; and which of it depends on the wanted values.

use std::collections::{HashMap, HashSet};

use super::emit::{Emitter, Fault, Var};
use super::vjp::{self, Call, Form, Rule};
use super::{AutodiffError, GradientOptions, Loss, Wrt};
use crate::ir::{
    ConstantOrigin, Dim, Graph, Input, Model, Name, NodeId, NodeKind, Operator, Shape, Slot, Value, ValueId,
    ValueType,
};

/// A value to differentiate with respect to.
pub(super) struct Wanted<'e> {
    /// Its name in the model.
    pub(super) name: Name,
    /// Its copy.
    pub(super) value: Var<'e>,
}

/// The copied forward pass.
pub(super) struct Forward<'e> {
    /// The output that the loss sits on.
    pub(super) output: Var<'e>,
    /// Its name.
    pub(super) output_name: Name,
    /// What to differentiate with respect to, in the order of the outputs.
    pub(super) wanted: Vec<Wanted<'e>>,
    /// Label and operator of the model's node behind each operator of the tape.
    origins: HashMap<NodeId, (String, String)>,
}

impl<'e> Forward<'e> {
    /// Copies what the output under the loss needs into the emitter.
    pub(super) fn copy(
        model: &Model,
        emitter: &'e Emitter,
        loss: &Loss,
        wrt: &Wrt,
        options: &GradientOptions,
    ) -> Result<Self, AutodiffError> {
        let graph = &model.graph;
        let (output_name, output) = differentiated_output(graph, options.output.as_deref())?;
        let order = graph.topological_order();
        let needed = ancestors(graph, output.node);
        let wanted = match wrt {
            Wrt::Parameters => parameters(model, &order, &needed),
            Wrt::Named(names) => named(graph, names)?,
        };
        let varied = dependents(model, &order, &wanted);
        let path = paths(model, output, &varied);
        let reached = |value: &ValueId| path.values.contains(value);
        let wanted: Vec<ValueId> = match wrt {
            Wrt::Parameters => wanted.into_iter().filter(reached).collect(),
            Wrt::Named(names) => {
                if let Some((name, _)) = names.iter().zip(&wanted).find(|(_, value)| !reached(value)) {
                    return Err(AutodiffError::Unreachable { name: name.clone() });
                }
                wanted
            }
        };
        if wanted.is_empty() {
            return Err(AutodiffError::NothingWanted);
        }
        let mut copier = Copier {
            model,
            emitter,
            wanted: wanted.iter().copied().collect(),
            path: path.nodes,
            varied,
            weights_as_inputs: options.weights_as_inputs,
            reserved: loss.input_name(),
            values: HashMap::new(),
            origins: HashMap::new(),
            unknown: 0,
        };
        for id in graph.inputs() {
            copier.input(*id)?;
        }
        for id in order {
            if needed.contains(&id) {
                copier.node(id)?;
            }
        }
        let lookup = |value: &ValueId| copier.values.get(value).and_then(|id| emitter.var(*id));
        let unknown = |value: &ValueId| AutodiffError::UnknownType {
            node: graph.label(value.node),
            operator: "the loss".to_owned(),
            value: label(graph, *value),
        };
        let wanted = wanted
            .iter()
            .map(|value| {
                let name = graph.value(*value).map(|v| v.name.clone()).unwrap_or_default();
                Ok(Wanted {
                    name,
                    value: lookup(value).ok_or_else(|| unknown(value))?,
                })
            })
            .collect::<Result<_, AutodiffError>>()?;
        let output = lookup(&output).ok_or_else(|| unknown(&output))?;
        Ok(Self {
            output,
            output_name,
            wanted,
            origins: copier.origins,
        })
    }

    /// The error for an operator of the tape whose formula could not be emitted.
    pub(super) fn form_error(&self, node: Option<NodeId>, fault: Fault) -> AutodiffError {
        let (node, operator) = match node.and_then(|id| self.origins.get(&id)) {
            Some((label, operator)) => (label.clone(), operator.clone()),
            None => (self.output_name.to_string(), "loss".to_owned()),
        };
        AutodiffError::Form {
            node,
            operator,
            reason: fault.reason(),
        }
    }

    /// The error for an operator of the tape that reads or makes a value of unknown type.
    pub(super) fn unknown_type(&self, node: NodeId, value: &str) -> AutodiffError {
        let (node, operator) = self.origins.get(&node).cloned().unwrap_or_default();
        AutodiffError::UnknownType {
            node,
            operator,
            value: value.to_owned(),
        }
    }
}

fn label(graph: &Graph, value: ValueId) -> String {
    match graph.value(value) {
        Some(value) if !value.name.is_empty() => value.name.to_string(),
        _ => graph.label(value.node),
    }
}

fn differentiated_output(graph: &Graph, name: Option<&str>) -> Result<(Name, ValueId), AutodiffError> {
    let missing = || AutodiffError::NoOutput {
        name: name.unwrap_or_default().to_owned(),
    };
    let index = match name {
        None => 0,
        Some(name) => graph
            .outputs()
            .iter()
            .position(|output| output.name == *name)
            .ok_or_else(missing)?,
    };
    let value = graph
        .output_values()
        .get(index)
        .copied()
        .flatten()
        .ok_or_else(missing)?;
    let name = graph
        .outputs()
        .get(index)
        .map(|output| output.name.clone())
        .unwrap_or_default();
    Ok((name, value))
}

/// The node and everything that it reads, directly or not.
fn ancestors(graph: &Graph, node: NodeId) -> HashSet<NodeId> {
    let mut found = HashSet::from([node]);
    let mut pending = vec![node];
    while let Some(id) = pending.pop() {
        for source in graph.inputs_of(id).iter().chain(&graph.captures_of(id)).flatten() {
            if found.insert(source.node) {
                pending.push(source.node);
            }
        }
    }
    found
}

fn is_float(ty: &ValueType) -> bool {
    ty.dtype().is_some_and(crate::ir::DType::is_float)
}

/// The values of these names; each must hold floats.
fn named(graph: &Graph, names: &[String]) -> Result<Vec<ValueId>, AutodiffError> {
    names
        .iter()
        .map(|name| {
            let value = graph
                .find_value(name)
                .ok_or_else(|| AutodiffError::NoValue { name: name.clone() })?;
            if !is_float(graph.ty(value)) {
                return Err(AutodiffError::not_float(name, graph.ty(value).dtype()));
            }
            Ok(value)
        })
        .collect()
}

/// Float initializers (those that callers may override, too) that some operator reads through a differentiable input.
fn parameters(model: &Model, order: &[NodeId], needed: &HashSet<NodeId>) -> Vec<ValueId> {
    let graph = &model.graph;
    let mut used = HashSet::new();
    for id in order.iter().filter(|id| needed.contains(*id)) {
        let Some(operator) = graph.operator(*id) else {
            continue;
        };
        for (slot, input) in graph.inputs_of(*id).iter().enumerate() {
            if let Some(value) = input.filter(|_| passes(model, *id, operator, slot)) {
                used.insert(value);
            }
        }
        used.extend(graph.captures_of(*id).iter().flatten());
    }
    let mut found: Vec<(u32, ValueId)> = Vec::new();
    for id in graph.node_ids() {
        let at = match graph.get(id).map(|node| &node.kind) {
            Some(NodeKind::Constant(constant)) => match constant.origin {
                ConstantOrigin::Initializer(at) => at,
                _ => continue,
            },
            Some(NodeKind::Input(input)) => match &input.default {
                Some((_, at)) => *at,
                None => continue,
            },
            _ => continue,
        };
        let value = ValueId::new(id, 0);
        if is_float(graph.ty(value)) && used.contains(&value) && !is_setting(graph, value) {
            found.push((at, value));
        }
    }
    found.sort();
    found.into_iter().map(|(_, value)| value).collect()
}

/// Statistics, bounds, steps and fill values are no parameters, though they have gradients for who asks by name.
fn is_setting(graph: &Graph, value: ValueId) -> bool {
    graph.uses(value).iter().any(|at| {
        let (Some(operator), Slot::Input(slot)) = (graph.operator(at.node), at.slot) else {
            return false;
        };
        operator.is("BatchNormalization") && slot >= 3
            || operator.is("Clip") && slot >= 1
            || operator.is("Pad") && slot >= 2
            || operator.is("Range")
            // Exporters hand equal initializers on through Identity.
            || operator.is("Identity") && is_setting(graph, ValueId::new(at.node, 0))
    })
}

/// Whether a change of this input may change the operator's outputs smoothly, as far as is known.
fn passes(model: &Model, id: NodeId, operator: &Operator, slot: usize) -> bool {
    match rule_of(model, id, operator) {
        Some(rule) => rule.passes(slot),
        None => true,
    }
}

/// The rule of an operator; none for calls of functions that bear an operator's name.
fn rule_of(model: &Model, id: NodeId, operator: &Operator) -> Option<&'static Rule> {
    if model.calls_function(id) {
        return None;
    }
    vjp::rule(operator.domain(), &operator.op_type)
}

/// For each float value that depends on a wanted one: which.
fn dependents(model: &Model, order: &[NodeId], wanted: &[ValueId]) -> HashMap<ValueId, ValueId> {
    let graph = &model.graph;
    let mut varied: HashMap<ValueId, ValueId> = wanted.iter().map(|value| (*value, *value)).collect();
    for id in order {
        let Some(operator) = graph.operator(*id) else {
            continue;
        };
        let inputs = graph.inputs_of(*id);
        let by_input = inputs.iter().enumerate().find_map(|(slot, input)| {
            let from = varied.get(&(*input)?)?;
            passes(model, *id, operator, slot).then_some(*from)
        });
        let captured = graph
            .captures_of(*id)
            .iter()
            .flatten()
            .find_map(|value| varied.get(value).copied());
        let Some(from) = by_input.or(captured) else {
            continue;
        };
        for output in 0..graph.get(*id).map_or(0, |node| node.outputs().len()) {
            let value = ValueId::new(*id, output);
            let ty = graph.ty(value);
            if is_float(ty) || ty.dtype().is_none() {
                varied.entry(value).or_insert(from);
            }
        }
    }
    varied
}

/// What lies on a differentiable path to the output.
struct Path {
    /// The operators.
    nodes: HashSet<NodeId>,
    /// The varied values that they read, and the output.
    values: HashSet<ValueId>,
}

/// The paths from varied values to the output.
fn paths(model: &Model, output: ValueId, varied: &HashMap<ValueId, ValueId>) -> Path {
    let graph = &model.graph;
    let mut path = Path {
        nodes: HashSet::new(),
        values: HashSet::new(),
    };
    let mut pending = vec![output];
    while let Some(value) = pending.pop() {
        if !varied.contains_key(&value) || !path.values.insert(value) {
            continue;
        }
        let Some(operator) = graph.operator(value.node) else {
            continue;
        };
        let inputs = graph.inputs_of(value.node);
        let read = inputs
            .iter()
            .enumerate()
            .filter(|(slot, _)| passes(model, value.node, operator, *slot));
        let captures = graph.captures_of(value.node);
        let next: Vec<ValueId> = read
            .filter_map(|(_, input)| *input)
            .chain(captures.iter().flatten().copied())
            .filter(|value| varied.contains_key(value))
            .collect();
        if !next.is_empty() {
            path.nodes.insert(value.node);
        }
        pending.extend(next);
    }
    path
}

struct Copier<'m, 'e> {
    model: &'m Model,
    emitter: &'e Emitter,
    wanted: HashSet<ValueId>,
    path: HashSet<NodeId>,
    varied: HashMap<ValueId, ValueId>,
    weights_as_inputs: bool,
    reserved: &'static str,
    values: HashMap<ValueId, ValueId>,
    origins: HashMap<NodeId, (String, String)>,
    unknown: usize,
}

impl Copier<'_, '_> {
    /// Records a copy, and its type where element type and rank are known. Each unknown size becomes a symbol of its own.
    fn placed(&mut self, from: ValueId, to: ValueId) {
        self.values.insert(from, to);
        let Some(value) = self.model.graph.value(from) else {
            return;
        };
        let is_input = self.model.graph.inputs().contains(&from.node);
        let (Some(dtype), Some(shape)) = (value.ty.dtype(), value.ty.shape()) else {
            return;
        };
        let named: Shape = shape
            .iter()
            .enumerate()
            .map(|(axis, dim)| match dim {
                // As the analysis calls an unnamed dimension of an input.
                Dim::Unknown if is_input => Dim::symbol(format!("?{}[{axis}]", value.name)),
                Dim::Unknown => {
                    self.unknown += 1;
                    Dim::symbol(format!("?#{}", self.unknown))
                }
                known => known.clone(),
            })
            .collect();
        self.emitter.know(to, dtype, named);
    }

    fn input(&mut self, id: NodeId) -> Result<(), AutodiffError> {
        let graph = &self.model.graph;
        let (Some(node), from) = (graph.get(id), ValueId::new(id, 0)) else {
            return Ok(());
        };
        let (NodeKind::Input(input), Some(value)) = (&node.kind, graph.value(from)) else {
            return Ok(());
        };
        if value.name == *self.reserved {
            return Err(AutodiffError::NameTaken {
                name: self.reserved.to_owned(),
            });
        }
        let mut input = (**input).clone();
        if self.weights_as_inputs && self.wanted.contains(&from) {
            input.default = None;
        }
        let value = value.clone();
        let to = self.emitter.build(|b| b.input(value, input));
        self.placed(from, to);
        Ok(())
    }

    fn node(&mut self, id: NodeId) -> Result<(), AutodiffError> {
        let graph = &self.model.graph;
        let Some(node) = graph.get(id) else { return Ok(()) };
        let values: Vec<Value> = node.outputs().iter().map(|value| self.output(value)).collect();
        match &node.kind {
            NodeKind::Constant(constant) => {
                let from = ValueId::new(id, 0);
                let Some(value) = values.into_iter().next() else {
                    return Ok(());
                };
                let to = if self.weights_as_inputs && self.wanted.contains(&from) {
                    let index = self.emitter.read(|graph| graph.inputs().len()) as u32;
                    self.emitter.build(|b| {
                        b.input(
                            value,
                            Input {
                                index,
                                ..Input::default()
                            },
                        )
                    })
                } else {
                    let mut constant = (**constant).clone();
                    constant.listed_input = None;
                    let (name, meta) = (node.name.clone(), node.meta.as_deref().cloned());
                    self.emitter.build(|b| b.constant(value, constant, name, meta))
                };
                self.placed(from, to);
                Ok(())
            }
            NodeKind::Operator(operator) => self.operator(id, operator, values),
            _ => Ok(()),
        }
    }

    fn output(&self, value: &Value) -> Value {
        let mut copy = value.clone();
        copy.declared = None;
        if copy.name == *self.reserved {
            copy.name = Name::default();
        }
        copy
    }

    fn operator(&mut self, id: NodeId, operator: &Operator, values: Vec<Value>) -> Result<(), AutodiffError> {
        let graph = &self.model.graph;
        let outputs = values.len();
        let inputs: Vec<Option<ValueId>> = graph
            .inputs_of(id)
            .iter()
            .map(|input| input.and_then(|value| self.values.get(&value).copied()))
            .collect();
        if !self.path.contains(&id) {
            self.copied(id, operator, &inputs, values, false);
            return Ok(());
        }
        let label_of = graph.label(id);
        let name = match operator.domain() {
            "" => operator.op_type.to_string(),
            domain => format!("{domain}.{}", operator.op_type),
        };
        let from = (0..outputs).find_map(|index| self.varied.get(&ValueId::new(id, index)));
        let wanted = from.map(|value| label(graph, *value)).unwrap_or_default();
        if operator.has_bodies() {
            return Err(AutodiffError::Body {
                node: label_of,
                operator: name,
                wanted,
            });
        }
        let Some(rule) = rule_of(self.model, id, operator) else {
            return Err(AutodiffError::Operator {
                node: label_of,
                operator: name,
                wanted,
            });
        };
        let Form::Steps(steps) = &rule.form else {
            let node = self.copied(id, operator, &inputs, values, true);
            self.origins.insert(node, (label_of, name));
            return Ok(());
        };
        let error = |fault: Fault| AutodiffError::Form {
            node: label_of.clone(),
            operator: name.clone(),
            reason: fault.reason(),
        };
        let mut vars = Vec::with_capacity(inputs.len());
        for input in &inputs {
            vars.push(match input {
                None => None,
                Some(value) => Some(
                    self.emitter
                        .var(*value)
                        .ok_or_else(|| AutodiffError::UnknownType {
                            node: label_of.clone(),
                            operator: name.clone(),
                            value: self.emitter.read(|g| label(g, *value)),
                        })?,
                ),
            });
        }
        let call = Call {
            e: self.emitter,
            operator: operator.clone(),
            needs: vec![false; vars.len()],
            inputs: vars,
            outputs: vec![None; outputs],
            grads: Vec::new(),
        };
        let before = self.emitter.tape().len();
        self.emitter.record(true);
        let results = steps(&call);
        self.emitter.record(false);
        if let Some(fault) = self.emitter.take_fault() {
            return Err(error(fault));
        }
        for node in self.emitter.tape().into_iter().skip(before) {
            self.origins.insert(node, (label_of.clone(), name.clone()));
        }
        for (index, value) in values.iter().enumerate() {
            let result = results.get(index).and_then(Option::as_ref);
            match result {
                Some(var) => {
                    self.values.insert(ValueId::new(id, index), var.id);
                }
                None if value.omitted || graph.use_count(ValueId::new(id, index)) == 0 => {}
                None => return Err(error(Fault::Form(format!("its output {} is used", value.name)))),
            }
        }
        Ok(())
    }

    fn copied(
        &mut self,
        id: NodeId,
        operator: &Operator,
        inputs: &[Option<ValueId>],
        values: Vec<Value>,
        log: bool,
    ) -> NodeId {
        let graph = &self.model.graph;
        let captures: Vec<Option<ValueId>> = graph
            .captures_of(id)
            .iter()
            .map(|value| value.and_then(|value| self.values.get(&value).copied()))
            .collect();
        let source = graph.get(id);
        let (name, meta) = (
            source.and_then(|n| n.name.clone()),
            source.and_then(|n| n.meta.as_deref().cloned()),
        );
        let outputs = values.len();
        let node = self.emitter.build(|b| {
            let node = b.operator(operator.clone(), inputs.len(), captures.len(), values, name, meta);
            let slots = inputs
                .iter()
                .enumerate()
                .map(|(index, value)| (Slot::Input(index as u32), value));
            let captures = captures
                .iter()
                .enumerate()
                .map(|(index, value)| (Slot::Capture(index as u32), value));
            for (slot, value) in slots.chain(captures) {
                if let Some(value) = value {
                    b.connect(*value, node, slot);
                }
            }
            node
        });
        if log {
            self.emitter.record(true);
            self.emitter.log(node);
            self.emitter.record(false);
        }
        for index in 0..outputs {
            self.placed(ValueId::new(id, index), ValueId::new(node, index));
        }
        node
    }
}
