//! Which operators are converted, and which of their inputs and outputs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::constants::{leaves, lower_constant, usage, vanishes};
use super::quantized::{self, Quantized};
use super::ranges::values_beyond;
use super::{ConvertFloat, NAME, angles, risk};
use crate::ir::{
    AttributeValue, DType, Graph, GraphPath, Model, NodeId, Operator, Slot, Tensor, Use, ValueId, ValueType,
};
use crate::ops::{Schema, Traits, schema};
use crate::passes::{Context, PassError};

/// An attribute that decides the output's type.
pub(super) enum TypeAttribute {
    /// `to` of Cast.
    To,
    /// `value` of ConstantOfShape.
    Value(Tensor),
}

/// What is converted in one graph.
#[derive(Default)]
pub(super) struct Decisions {
    /// Operators with the input slots that read the narrow type.
    pub(super) nodes: BTreeMap<NodeId, Vec<usize>>,
    /// Outputs that become narrow.
    pub(super) outputs: BTreeSet<ValueId>,
    pub(super) attributes: Vec<(NodeId, TypeAttribute)>,
    /// Operators with bodies, and the capture slots through which the bodies read the narrow type.
    pub(super) captures: BTreeSet<(NodeId, u32)>,
    /// In a body: the captured values that arrive in the narrow type.
    pub(super) captured: BTreeSet<ValueId>,
}

impl Decisions {
    /// Whether a use reads the narrow type.
    pub(super) fn reads_narrow(&self, at: Use) -> bool {
        match at.slot {
            Slot::Input(slot) => self
                .nodes
                .get(&at.node)
                .is_some_and(|slots| slots.contains(&(slot as usize))),
            Slot::Capture(slot) => self.captures.contains(&(at.node, slot)),
        }
    }

    /// Leaves an operator as it is.
    pub(super) fn leave(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        self.outputs.retain(|value| value.node != id);
        self.attributes.retain(|(node, _)| *node != id);
    }
}

/// Why an operator stays float.
pub(super) struct Reason {
    /// The value or constant that the reason is about, if it is about one.
    subject: Option<String>,
    why: String,
}

impl From<String> for Reason {
    fn from(why: String) -> Self {
        Self { subject: None, why }
    }
}

impl From<&str> for Reason {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

/// Input slots and outputs that become narrow, and the attribute that names their type.
type Narrowed = (Vec<usize>, Vec<usize>, Option<TypeAttribute>);

/// The operators that stay float for one reason.
#[derive(Default)]
pub(super) struct Stays {
    /// What the reason is about.
    pub(super) subjects: BTreeSet<String>,
    /// The operators.
    pub(super) labels: Vec<String>,
}

/// What is converted, and what stays float for which reason.
#[derive(Default)]
pub(super) struct ConversionPlan {
    /// By graph, outer graphs before their bodies.
    pub(super) graphs: BTreeMap<GraphPath, Decisions>,
    /// What stays float, by reason.
    pub(super) float: BTreeMap<String, Stays>,
    pub(super) notes: Vec<String>,
}

impl ConversionPlan {
    pub(super) fn stays(&mut self, graph: &Graph, id: NodeId, reason: impl Into<Reason>) {
        let Reason { subject, why } = reason.into();
        let stays = self.float.entry(why).or_default();
        stays.subjects.extend(subject);
        stays.labels.push(graph.label(id));
    }

    /// Operators that are converted.
    pub(super) fn converted(&self) -> usize {
        self.graphs.values().map(|decisions| decisions.nodes.len()).sum()
    }

    /// Finds the captured values that bodies read in the narrow type only; the cast, or the narrow constant, then stands outside.
    pub(super) fn settle_captures(&mut self, model: &Model) {
        for decisions in self.graphs.values_mut() {
            decisions.captures.clear();
            decisions.captured.clear();
        }
        let mut paths: Vec<GraphPath> = self.graphs.keys().cloned().collect();
        // Inner bodies first: what they read of a body counts as its uses.
        paths.sort_by_key(|path| std::cmp::Reverse(path.bodies.len()));
        let mut owners: Vec<(GraphPath, NodeId)> = Vec::new();
        for path in &paths {
            let mut outer = path.clone();
            if let Some((owner, _)) = outer.bodies.pop()
                && !owners.contains(&(outer.clone(), owner))
            {
                owners.push((outer, owner));
            }
        }
        for (path, owner) in owners {
            let Some(graph) = model.graph_at(&path) else {
                continue;
            };
            let Some(operator) = graph.operator(owner) else {
                continue;
            };
            for (slot, value) in graph.captures_of(owner).into_iter().enumerate() {
                if value.is_none_or(|value| graph.ty(value).dtype() != Some(DType::F32)) {
                    continue;
                }
                let mut narrow: Vec<(GraphPath, ValueId)> = Vec::new();
                let mut wide = false;
                for (at, body) in operator.bodies() {
                    let inner = path.body(owner, at);
                    let decisions = self.graphs.get(&inner);
                    for capture in body.captured(slot as u32) {
                        let uses = body.uses(capture);
                        let reads = |at: &Use| decisions.is_some_and(|decisions| decisions.reads_narrow(*at));
                        wide |= !uses.iter().all(reads);
                        if !uses.is_empty() {
                            narrow.push((inner.clone(), capture));
                        }
                    }
                }
                if wide || narrow.is_empty() {
                    continue;
                }
                for (inner, capture) in narrow {
                    if let Some(decisions) = self.graphs.get_mut(&inner) {
                        decisions.captured.insert(capture);
                    }
                }
                if let Some(decisions) = self.graphs.get_mut(&path) {
                    decisions.captures.insert((owner, slot as u32));
                }
            }
        }
    }
}

/// Operators that stay float whatever their schema allows.
fn never(operator: &Operator) -> Option<&'static str> {
    if Traits::of(operator.domain(), &operator.op_type).random {
        return Some("it is random");
    }
    match &*operator.op_type {
        "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" => Some("its scales are float"),
        "ScatterElements" | "ScatterND"
            if operator.string("reduction").is_some_and(|kind| kind != "none") =>
        {
            Some("ONNX Runtime has no kernel for its reduction in 16 bits")
        }
        "Cast" | "ConstantOfShape" => None,
        _ if operator.attribute("dtype").is_some() || operator.attribute("output_dtype").is_some() => {
            Some("an attribute fixes its type")
        }
        _ => None,
    }
}

/// Input slots and outputs of an operator that take the narrow type.
fn slots(
    graph: &Graph,
    id: NodeId,
    operator: &Operator,
    schema: &Schema,
    dtype: DType,
) -> (Vec<usize>, Vec<usize>) {
    let allows = |ty: &str| !ty.ends_with(')') && schema.type_set(ty).is_some_and(|set| set.has_dtype(dtype));
    let inputs = graph
        .inputs_of(id)
        .into_iter()
        .enumerate()
        .filter(|(slot, value)| {
            value.is_some_and(|value| graph.ty(value).dtype() == Some(DType::F32))
                && schema.input(*slot).is_some_and(|parameter| allows(parameter.ty))
        })
        .map(|(slot, _)| slot)
        .collect();
    // With the default stash type, LayerNormalization computes mean and deviation in float.
    let fixed = |output: usize| operator.is("LayerNormalization") && output > 0;
    let count = graph.get(id).map_or(0, |node| node.outputs().len());
    let outputs = (0..count)
        .filter(|output| {
            graph.ty(ValueId::new(id, *output)).dtype() == Some(DType::F32)
                && !fixed(*output)
                && schema
                    .output(*output)
                    .is_some_and(|parameter| allows(parameter.ty))
        })
        .collect();
    (inputs, outputs)
}

/// What is known before operators are judged.
struct Judge<'a> {
    options: &'a ConvertFloat,
    context: &'a Context<'a>,
    excluded: regex::RegexSet,
    /// Names of values that leave the range.
    beyond: BTreeSet<String>,
    risks: risk::Found,
    version: i64,
    dtype: DType,
}

pub(super) fn decide(
    model: &Model,
    options: &ConvertFloat,
    context: &Context<'_>,
) -> Result<ConversionPlan, PassError> {
    let excluded = crate::schema::patterns(&options.exclude).map_err(|error| PassError::Option {
        pass: NAME,
        message: format!("exclude: {error}"),
    })?;
    let dtype = options.to.dtype();
    let mut plan = ConversionPlan::default();
    let beyond = match values_beyond(model, options, context)? {
        Ok(beyond) => beyond,
        Err(why) => {
            plan.notes.push(format!(
                "ranges of values are not checked ({why}); with range-data they are"
            ));
            BTreeSet::new()
        }
    };
    let judge = Judge {
        options,
        context,
        excluded,
        beyond,
        risks: risk::find(model, dtype),
        version: model.opset().unwrap_or(1),
        dtype,
    };
    for path in model.graph_paths() {
        if path.function.is_some() {
            continue;
        }
        if let Some(graph) = model.graph_at(&path) {
            let decisions = judge.graph(graph, &path, &mut plan);
            plan.graphs.insert(path, decisions);
        }
    }
    Ok(plan)
}

impl Judge<'_> {
    fn graph(&self, graph: &Graph, path: &GraphPath, plan: &mut ConversionPlan) -> Decisions {
        let mut found = Decisions::default();
        let quantized = quantized::find(graph, self.dtype, self.version);
        let angles = angles::find(graph);
        for id in graph.topological_order() {
            let Some(node) = graph.get(id) else { continue };
            let Some(operator) = node.operator() else { continue };
            let own: Vec<ValueId> = (0..node.outputs().len()).map(|at| ValueId::new(id, at)).collect();
            let values = graph.inputs_of(id).into_iter().flatten().chain(own);
            let float = |value: ValueId| graph.ty(value).dtype() == Some(DType::F32);
            // What bodies hold is judged there; their inputs and outputs stay float.
            if operator.has_bodies() || !values.into_iter().any(float) {
                continue;
            }
            match self.operator(graph, path, id, operator, &quantized, &angles) {
                Ok((inputs, outputs, attribute)) => {
                    found
                        .attributes
                        .extend(attribute.map(|attribute| (id, attribute)));
                    found
                        .outputs
                        .extend(outputs.iter().map(|output| ValueId::new(id, *output)));
                    found.nodes.insert(id, inputs);
                }
                Err(why) => plan.stays(graph, id, why),
            }
        }
        found
    }

    /// The slots and outputs that become narrow, or why the operator stays float.
    fn operator(
        &self,
        graph: &Graph,
        path: &GraphPath,
        id: NodeId,
        operator: &Operator,
        quantized: &Quantized,
        angles: &HashSet<NodeId>,
    ) -> Result<Narrowed, Reason> {
        let dtype = self.dtype;
        let known = schema(operator.domain(), &operator.op_type, self.version)
            .filter(|schema| operator.domain().is_empty() && !schema.deprecated);
        let Some(known) = known else {
            return Err(format!("{} is no operator of ONNX's own", operator.op_type).into());
        };
        let weights = quantized.weights.contains(&id);
        if let Some(why) = never(operator).filter(|_| !weights) {
            return Err(why.into());
        }
        if self.options.keep_operators.iter().any(|name| operator.is(name)) {
            return Err(format!("{} is on the keep list", operator.op_type).into());
        }
        if self.names_excluded(graph, id) {
            return Err("excluded".into());
        }
        if quantized.between.contains(&id) {
            return Err("it computes between quantized values".into());
        }
        if let Some(reason) = self.leaves_range(graph, id) {
            return Err(reason);
        }
        unknown(graph, id)?;
        let (inputs, outputs) = slots(graph, id, operator, known, dtype);
        if inputs.is_empty() && outputs.is_empty() {
            return Err(format!("no {dtype} form in opset {}", self.version).into());
        }
        attributes_refuse(operator, dtype)?;
        constants_refuse(graph, id, operator, &inputs, dtype)?;
        if let Some(cause) = self.risks.get(&(path.clone(), id)) {
            return Err(lost(cause, dtype));
        }
        if angles.contains(&id) {
            return Err(format!("it computes angles of positions, which {dtype} rounds too much").into());
        }
        let attribute = match &*operator.op_type {
            "ConstantOfShape" => {
                let value = match operator.tensor("value") {
                    Some(value) => Ok(lower_constant(value, dtype, usage("ConstantOfShape", 0)).tensor),
                    None => Tensor::from_f64(dtype, &[1], &[0.0]),
                };
                Some(TypeAttribute::Value(
                    value.map_err(|error| Reason::from(error.to_string()))?,
                ))
            }
            "Cast" if !outputs.is_empty() => Some(TypeAttribute::To),
            _ => None,
        };
        Ok((inputs, outputs, attribute))
    }

    fn names_excluded(&self, graph: &Graph, id: NodeId) -> bool {
        let Some(node) = graph.get(id) else { return false };
        let names = node.name.iter().map(|name| name.to_string());
        let outputs = node.outputs().iter().map(|value| value.name.to_string());
        names
            .chain(outputs)
            .any(|name| self.excluded.is_match(&name) || self.context.keeps(&name))
    }

    fn leaves_range(&self, graph: &Graph, id: NodeId) -> Option<Reason> {
        let outputs = graph.get(id)?.outputs().len();
        let values = graph.inputs_of(id).into_iter().flatten();
        let own = (0..outputs).map(|output| ValueId::new(id, output));
        values.chain(own).find_map(|value| {
            let name = &graph.value(value)?.name;
            self.beyond.contains(&**name).then(|| Reason {
                subject: Some(name.to_string()),
                why: "leaves the range of the type".to_owned(),
            })
        })
    }
}

fn lost(cause: &Arc<str>, dtype: DType) -> Reason {
    format!("it computes with {cause}, which {dtype} does not hold").into()
}

/// A value whose type decides those of the others, and is not known or no tensor's.
fn unknown(graph: &Graph, id: NodeId) -> Result<(), Reason> {
    let outputs = graph.get(id).map_or(&[][..], |node| node.outputs());
    let own = outputs
        .iter()
        .filter(|value| !value.omitted)
        .map(|value| &value.ty);
    let inputs = graph.inputs_of(id);
    let read = inputs.iter().flatten().map(|value| graph.ty(*value));
    for ty in read.chain(own) {
        match ty {
            ValueType::Tensor(tensor) if tensor.dtype.is_some() => {}
            ValueType::Tensor(_) | ValueType::Unknown => {
                return Err("the type of a value is not known".into());
            }
            _ => return Err("a value is no tensor".into()),
        }
    }
    Ok(())
}

/// A number among the attributes that the narrow type does not hold.
fn attributes_refuse(operator: &Operator, dtype: DType) -> Result<(), Reason> {
    if operator.is("MeanVarianceNormalization") && dtype == DType::F16 {
        return Err(lost(&"1e-9 (the epsilon of its definition)".into(), dtype));
    }
    let numbers = operator
        .attributes()
        .iter()
        .filter_map(|attribute| match &attribute.value {
            AttributeValue::Float(number) => Some((&attribute.name, *number)),
            AttributeValue::Tensor(tensor) => {
                let numbers = tensor.to_f64().ok().filter(|_| tensor.dtype().is_float())?;
                Some((&attribute.name, *numbers.first()? as f32))
            }
            _ => None,
        });
    for (name, number) in numbers {
        let wide = f64::from(number);
        if vanishes(wide, dtype) || leaves(wide, dtype) {
            return Err(lost(&format!("{number:e} (attribute {name})").into(), dtype));
        }
    }
    Ok(())
}

/// A constant that does not survive the conversion. Weights may lose their smallest values; a single value may not.
fn constants_refuse(
    graph: &Graph,
    id: NodeId,
    operator: &Operator,
    inputs: &[usize],
    dtype: DType,
) -> Result<(), Reason> {
    for slot in inputs {
        let Some(value) = graph.input(id, *slot) else {
            continue;
        };
        let Some(tensor) = super::constants::known(graph, value) else {
            continue;
        };
        let lowered = lower_constant(tensor, dtype, usage(&operator.op_type, *slot));
        let name = graph
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        let why = if lowered.beyond > 0 {
            format!("leaves the range of {dtype}")
        } else if lowered.vanished > 0 && tensor.elements() == 1 {
            format!("would become 0 or lose its precision in {dtype}")
        } else {
            continue;
        };
        return Err(Reason {
            subject: Some(format!("constant {name}")),
            why,
        });
    }
    Ok(())
}
