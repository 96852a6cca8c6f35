//! Which operators are converted, and which of their inputs and outputs.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConvertFloat, Lowered, NAME};
use crate::data::{Dataset, Spec, SyntheticSpec};
use crate::ir::{DType, Graph, Model, NodeId, NodeKind, Operator, Tensor, ValueId};
use crate::ops::{Schema, Traits, schema};
use crate::passes::{Context, PassError, Resources};
use crate::statistics::{self, Wanted};

/// Largest finite half-precision value.
const LARGEST_HALF: f64 = 65504.0;
/// Constants from here on stand for infinity (masks); they are cut to the largest value.
const LIKE_INFINITE: f64 = 1e30;
/// Random inputs that ranges are checked on.
const RANDOM_SAMPLES: u64 = 2;
/// How far below the largest half-precision value the results of random inputs must stay: those of real ones may be larger.
const RANDOM_MARGIN: f64 = 4.0;

/// An attribute that decides the output's type.
pub(super) enum TypeAttribute {
    /// `to` of Cast.
    To,
    /// `value` of ConstantOfShape.
    Value(Tensor),
}

/// What is converted.
#[derive(Default)]
pub(super) struct Decisions {
    /// Operators with the input slots that read the narrow type.
    pub(super) nodes: BTreeMap<NodeId, Vec<usize>>,
    /// Outputs that become narrow.
    pub(super) outputs: BTreeSet<ValueId>,
    pub(super) attributes: Vec<(NodeId, TypeAttribute)>,
    pub(super) notes: Vec<String>,
}

impl Decisions {
    /// Whether an input slot reads the narrow type.
    pub(super) fn reads_narrow(&self, node: NodeId, slot: usize) -> bool {
        self.nodes.get(&node).is_some_and(|slots| slots.contains(&slot))
    }
}

/// The tensor in type `dtype`; what stands for infinity in half precision is cut to its largest value.
pub(super) fn lower_constant(tensor: &Tensor, dtype: DType) -> Lowered {
    let Ok(mut values) = tensor.to_f64() else {
        return Lowered {
            tensor: tensor.clone(),
            beyond: 0,
            vanished: 0,
        };
    };
    let (mut beyond, mut vanished) = (0, 0);
    if dtype == DType::F16 {
        for value in &mut values {
            if !value.is_finite() {
                continue;
            }
            if value.abs() >= LIKE_INFINITE {
                *value = LARGEST_HALF.copysign(*value);
            } else if value.abs() > LARGEST_HALF {
                beyond += 1;
            } else if *value != 0.0 && half::f16::from_f64(*value).to_f64() == 0.0 {
                vanished += 1;
            }
        }
    }
    let lowered = Tensor::from_f64(dtype, tensor.dims(), &values).unwrap_or_else(|_| tensor.clone());
    Lowered {
        tensor: lowered,
        beyond,
        vanished,
    }
}

/// Operators that stay float whatever their schema allows.
fn never(operator: &Operator) -> Option<&'static str> {
    if operator.has_bodies() {
        return Some("it holds a body");
    }
    if Traits::of(operator.domain(), &operator.op_type).random {
        return Some("it is random");
    }
    match &*operator.op_type {
        "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" => Some("its scales are float"),
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

pub(super) fn decide(
    model: &Model,
    options: &ConvertFloat,
    context: &Context<'_>,
) -> Result<Decisions, PassError> {
    let excluded = regex::RegexSet::new(&options.exclude).map_err(|error| PassError::Option {
        pass: NAME,
        message: format!("exclude: {error}"),
    })?;
    let (graph, dtype) = (&model.graph, options.to.dtype());
    let version = model.opset().unwrap_or(1);
    let mut found = Decisions::default();
    let beyond = match values_beyond(model, options, context)? {
        Ok(beyond) => beyond,
        Err(why) => {
            found.notes.push(format!(
                "ranges of values are not checked ({why}); with range-data they are"
            ));
            BTreeSet::new()
        }
    };
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let known =
            schema(operator.domain(), &operator.op_type, version).filter(|_| operator.domain().is_empty());
        let Some(known) = known.filter(|schema| !schema.deprecated) else {
            found.notes.push(format!(
                "{} stays float: {} has no schema",
                graph.label(id),
                operator.op_type
            ));
            continue;
        };
        let (inputs, outputs) = slots(graph, id, operator, known, dtype);
        let reads_or_gives_float =
            |value: Option<ValueId>| value.is_some_and(|value| graph.ty(value).dtype() == Some(DType::F32));
        let touches_float = graph.inputs_of(id).into_iter().any(reads_or_gives_float)
            || (0..graph.get(id).map_or(0, |node| node.outputs().len()))
                .any(|output| reads_or_gives_float(Some(ValueId::new(id, output))));
        if !touches_float {
            continue;
        }
        let why = reason(graph, id, operator, options, context, &excluded, &beyond)
            .or_else(|| {
                (inputs.is_empty() && outputs.is_empty())
                    .then(|| format!("no {dtype} form in opset {version}"))
            })
            .or_else(|| constants_refuse(graph, id, &inputs, dtype));
        if let Some(why) = why {
            found
                .notes
                .push(format!("{} stays float: {why}", graph.label(id)));
            continue;
        }
        if operator.is("ConstantOfShape") {
            let value = operator.tensor("value").cloned();
            let value = value.map_or_else(
                || Tensor::from_f64(dtype, &[1], &[0.0]),
                |value| Ok(lower_constant(&value, dtype).tensor),
            );
            match value {
                Ok(value) => found.attributes.push((id, TypeAttribute::Value(value))),
                Err(_) => continue,
            }
        }
        if operator.is("Cast") && !outputs.is_empty() {
            found.attributes.push((id, TypeAttribute::To));
        }
        found
            .outputs
            .extend(outputs.iter().map(|output| ValueId::new(id, *output)));
        found.nodes.insert(id, inputs);
    }
    Ok(found)
}

/// Why an operator stays float for a reason of its own.
fn reason(
    graph: &Graph,
    id: NodeId,
    operator: &Operator,
    options: &ConvertFloat,
    context: &Context<'_>,
    excluded: &regex::RegexSet,
    beyond: &BTreeSet<String>,
) -> Option<String> {
    if let Some(why) = never(operator) {
        return Some(why.to_owned());
    }
    if options.keep_operators.iter().any(|name| operator.is(name)) {
        return Some(format!("{} is on the keep list", operator.op_type));
    }
    let node = graph.get(id)?;
    let names = node.name.iter().map(|name| name.to_string());
    let outputs = node.outputs().iter().map(|value| value.name.to_string());
    if names
        .chain(outputs)
        .any(|name| excluded.is_match(&name) || context.keeps(&name))
    {
        return Some("excluded".to_owned());
    }
    let values = graph.inputs_of(id).into_iter().flatten();
    let own = (0..node.outputs().len()).map(|output| ValueId::new(id, output));
    values.chain(own).find_map(|value| {
        let name = &graph.value(value)?.name;
        beyond
            .contains(&**name)
            .then(|| format!("{name} leaves the range of the type"))
    })
}

/// A constant that does not survive the conversion. Weights may lose their smallest values; a single value may not vanish.
fn constants_refuse(graph: &Graph, id: NodeId, inputs: &[usize], dtype: DType) -> Option<String> {
    inputs.iter().find_map(|slot| {
        let value = graph.input(id, *slot)?;
        let tensor = graph.constant(value)?;
        let lowered = lower_constant(tensor, dtype);
        let name = &graph.value(value)?.name;
        if lowered.beyond > 0 {
            return Some(format!("constant {name} leaves the range of {dtype}"));
        }
        (lowered.vanished > 0 && tensor.elements() == 1).then(|| format!("constant {name} would become 0"))
    })
}

/// Values that exceed the range of half precision on the data of `range-data`, or come near it on random inputs; or why the latter
/// could not be found out.
fn values_beyond(
    model: &Model,
    options: &ConvertFloat,
    context: &Context<'_>,
) -> Result<Result<BTreeSet<String>, String>, PassError> {
    let resource = |message: String| PassError::Resource { pass: NAME, message };
    if options.to.dtype() != DType::F16 {
        return Ok(Ok(BTreeSet::new()));
    }
    if let Some(role) = &options.range_data {
        let resources = context.resources(NAME, "range-data needs data and an engine")?;
        let data = resources.data(role, &model.graph).map_err(resource)?;
        let found = above(model, LARGEST_HALF, &data, resources, context).map_err(resource)?;
        return Ok(Ok(found));
    }
    let Some(resources) = context.resources.filter(|_| options.check_ranges) else {
        return Ok(Ok(BTreeSet::new()));
    };
    let random = Spec {
        synthetic: Some(SyntheticSpec::default()),
        samples: Some(RANDOM_SAMPLES),
        seed: Some(context.seed),
        ..Spec::default()
    };
    Ok(Dataset::open(&random, &context.base, &model.graph)
        .map_err(|error| error.to_string())
        .and_then(|data| above(model, LARGEST_HALF / RANDOM_MARGIN, &data, resources, context)))
}

/// Values that exceed `bound` on `data`.
fn above(
    model: &Model,
    bound: f64,
    data: &Dataset,
    resources: &dyn Resources,
    context: &Context<'_>,
) -> Result<BTreeSet<String>, String> {
    let engine = resources.engine()?;
    let graph = &model.graph;
    let mut names: Vec<String> = graph
        .node_ids()
        .filter(|id| {
            matches!(
                graph.get(*id).map(|node| &node.kind),
                Some(NodeKind::Operator(_) | NodeKind::Input(_))
            )
        })
        .flat_map(|id| {
            let outputs = graph.get(id).map(|node| node.outputs()).unwrap_or_default();
            outputs
                .iter()
                .enumerate()
                .map(move |(output, value)| (ValueId::new(id, output), value))
        })
        // What nothing reads has no range that matters, such as the mask of Dropout, which engines give another type.
        .filter(|(id, _)| graph.use_count(*id) > 0)
        .map(|(_, value)| value)
        .filter(|value| value.ty.dtype() == Some(DType::F32) && !value.name.is_empty())
        .map(|value| value.name.to_string())
        .collect();
    names.sort();
    names.dedup();
    let total = data.sample_range().end - data.sample_range().start;
    let progress = |done: u64| (context.progress)("checking ranges", done, Some(total));
    let found = statistics::collect(
        model,
        &names,
        Wanted::default(),
        data,
        engine,
        resources.jobs(),
        &progress,
    )
    .map_err(|error| error.to_string())?;
    Ok(found
        .into_iter()
        .filter(|(_, summary)| {
            summary
                .histogram
                .extremes()
                .is_some_and(|(low, high)| f64::from(low.abs().max(high.abs())) > bound)
        })
        .map(|(name, _)| name)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_beyond_the_range_and_vanishing_ones_are_counted() {
        let x = Tensor::from_slice::<f32>(&[4], &[1.0, 7e4, 1e-12, -3.4e38]).unwrap();
        let lowered = lower_constant(&x, DType::F16);
        assert_eq!((lowered.beyond, lowered.vanished), (1, 1));
        assert_eq!(lowered.tensor.dtype(), DType::F16);
        assert_eq!(lowered.tensor.to_f64().unwrap()[3], -65504.0);
        let lowered = lower_constant(&x, DType::BF16);
        assert_eq!((lowered.beyond, lowered.vanished), (0, 0));
    }
}
