//! Putting a plan into a graph: weights and biases as codes, pairs around activations, clamps left out.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::GraphPlan;
use super::products::{Saturated, product_codes};
use super::roles::is_constant;
use crate::ir::{
    EditError, Editor, Graph, Name, NodeId, Operator, Tensor, TensorError, Value, ValueId, ValueType,
};
use crate::passes::quantize::Rounding;
use crate::passes::quantize::weights::{Coding, Moments, WeightError};
use crate::quantize::{Granularity, Kind, Parameters, QuantizeError, pack, quantize_tensor};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("{value}: {source}")]
    Codes { value: String, source: QuantizeError },
    #[error("{value}: {source}")]
    Tensor { value: String, source: TensorError },
    #[error("{value}: {source}")]
    Rounding { value: String, source: WeightError },
}

/// How the weight and the bias of one product are coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProductScheme {
    pub(super) weight: Coding,
    /// The bias becomes codes, too.
    pub(super) integer_bias: bool,
    pub(super) reduced: bool,
    /// Whether kernels that saturate may run the product.
    pub(super) saturation: Saturation,
    /// Whether a bias makes up for the mean error of the codes.
    pub(super) correct_bias: bool,
}

/// What is known of the values and weights that a plan names.
pub(super) struct Found<'a> {
    /// Scale and zero point of each activation in each type.
    pub(super) activations: BTreeMap<(ValueId, Kind), Parameters>,
    /// Means of the channels of what products read.
    pub(super) means: BTreeMap<ValueId, Vec<f64>>,
    /// How each product is coded.
    pub(super) schemes: BTreeMap<NodeId, ProductScheme>,
    /// How weights are rounded, with the second moments of what products read.
    pub(super) rounding: Option<(Rounding, &'a Moments)>,
}

/// What is done about pairs of weights whose products leave 16 bits on x86 processors without VNNI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Saturation {
    /// Channels with such a pair are numbered in the report.
    Report,
    /// Channels with such a pair get a larger scale, or the pair smaller codes, whichever costs less.
    #[default]
    Avoid,
    /// Nothing.
    Ignore,
}

/// What was put into the graph.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) pairs: u64,
    pub(super) saturated: Vec<Saturated>,
    /// What was not done as asked, and why.
    pub(super) notes: Vec<String>,
}

/// Applies `plan` to `graph`.
pub(super) fn apply(graph: &mut Graph, plan: &GraphPlan, found: Found<'_>) -> Result<Applied, ApplyError> {
    let mut editor = graph.edit("quantize");
    // Clamps first: their output's range goes to the product before them.
    let mut moved: HashMap<ValueId, ValueId> = HashMap::new();
    for clamp in &plan.clamps {
        let Some(input) = editor.graph().input(*clamp, 0) else {
            continue;
        };
        let output = ValueId::new(*clamp, 0);
        editor.replace(output, input)?;
        editor.remove_unused(*clamp);
        moved.insert(output, input);
    }
    let place = |value: &ValueId| moved.get(value).copied().unwrap_or(*value);
    let found = Found {
        activations: found
            .activations
            .iter()
            .map(|((v, k), p)| ((place(v), *k), *p))
            .collect(),
        means: found.means.into_iter().map(|(v, m)| (place(&v), m)).collect(),
        ..found
    };
    let roots: HashMap<ValueId, Kind> = plan.roots.iter().map(|(v, k)| (place(v), *k)).collect();
    let mut applied = Applied::default();
    for product in &plan.products {
        let kind = plan.kinds.get(product).copied();
        product_codes(&mut editor, *product, kind, &found, &mut applied)?;
    }
    let mut types: BTreeMap<ValueId, Vec<(Kind, Parameters)>> = BTreeMap::new();
    for ((value, kind), parameters) in &found.activations {
        types.entry(*value).or_default().push((*kind, *parameters));
    }
    for (value, types) in types {
        if editor.graph().value(value).is_none() {
            continue;
        }
        applied.pairs += types.len() as u64;
        if is_constant(editor.graph(), value) {
            constant_codes(&mut editor, value, &types, &plan.kinds)?;
        } else {
            activation_pairs(
                &mut editor,
                value,
                &types,
                roots.get(&value).copied(),
                &plan.kinds,
            )?;
        }
    }
    Ok(applied)
}

pub(super) fn label(graph: &Graph, value: ValueId) -> String {
    graph
        .value(value)
        .map(|v| v.name.to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| graph.label(value.node))
}

pub(super) fn suffixed(stem: &str, suffix: &str) -> Name {
    if stem.is_empty() {
        Name::default()
    } else {
        Name::from(format!("{stem}_{suffix}"))
    }
}

/// What names of a value's codes start with: where it has codes of two types, those of the second name theirs.
fn stem(name: &str, kind: Kind, first: bool) -> String {
    match first {
        true => name.to_owned(),
        false => format!("{name}_{}", kind.name()),
    }
}

/// A pair behind `value` for each type. Operators of a type read that one's; everything else reads the pair of `root`, the type
/// that the value's own operator puts out, from whose codes the other types are made, or the widest one.
fn activation_pairs(
    editor: &mut Editor<'_>,
    value: ValueId,
    types: &[(Kind, Parameters)],
    root: Option<Kind>,
    kinds: &HashMap<NodeId, Kind>,
) -> Result<(), ApplyError> {
    let Some((first, parameters)) = types
        .iter()
        .copied()
        .max_by_key(|(kind, _)| (Some(*kind) == root, kind.bits(), *kind))
    else {
        return Ok(());
    };
    let name = label(editor.graph(), value);
    let others: Vec<(Kind, Parameters)> = types.iter().copied().filter(|(kind, _)| *kind != first).collect();
    let of_other = |node: &NodeId| {
        let kind = kinds.get(node);
        others.iter().any(|(other, _)| kind == Some(other))
    };
    let (quantize, pair) = one_pair(editor, value, parameters, first, &name)?;
    editor.replace_where(value, pair, |reader| {
        reader.node != quantize && !of_other(&reader.node)
    })?;
    let source = if root == Some(first) { pair } else { value };
    for (kind, parameters) in &others {
        let (_, other) = one_pair(editor, source, *parameters, *kind, &stem(&name, *kind, false))?;
        editor.replace_where(value, other, |reader| kinds.get(&reader.node) == Some(kind))?;
    }
    Ok(())
}

/// QuantizeLinear and DequantizeLinear of `value`: the node of the first and the value of the second.
fn one_pair(
    editor: &mut Editor<'_>,
    value: ValueId,
    parameters: Parameters,
    kind: Kind,
    name: &str,
) -> Result<(NodeId, ValueId), ApplyError> {
    let codes_error = |source| ApplyError::Codes {
        value: name.to_owned(),
        source,
    };
    let ty = editor.graph().ty(value).clone();
    let coded = ValueType::tensor(kind.dtype(), ty.shape().cloned());
    let scale = editor.add_constant(suffixed(name, "scale"), Tensor::scalar(parameters.scale));
    let zero = pack(&[], &[parameters.zero_point], kind).map_err(codes_error)?;
    let zero = editor.add_constant(suffixed(name, "zero_point"), zero);
    let q = editor.add_operator(
        value.node,
        Operator::new("QuantizeLinear"),
        &[Some(value), Some(scale), Some(zero)],
        vec![Value::typed(suffixed(name, "quantized"), coded)],
    )?;
    let dq = editor.add_operator(
        value.node,
        Operator::new("DequantizeLinear"),
        &[Some(ValueId::new(q, 0)), Some(scale), Some(zero)],
        vec![Value::typed(suffixed(name, "dequantized"), ty)],
    )?;
    Ok((q, ValueId::new(dq, 0)))
}

/// A constant operand of an elementwise operator: codes with one scale and a DequantizeLinear for each type.
fn constant_codes(
    editor: &mut Editor<'_>,
    value: ValueId,
    types: &[(Kind, Parameters)],
    kinds: &HashMap<NodeId, Kind>,
) -> Result<(), ApplyError> {
    let name = label(editor.graph(), value);
    let Some(tensor) = editor.graph().constant(value).cloned() else {
        return Ok(());
    };
    for (at, (kind, parameters)) in types.iter().enumerate() {
        let codes_error = |source| ApplyError::Codes {
            value: name.clone(),
            source,
        };
        let stem = stem(&name, *kind, at == 0);
        let codes =
            quantize_tensor(&tensor, &[*parameters], Granularity::PerTensor, *kind).map_err(codes_error)?;
        let zero = pack(&[], &[parameters.zero_point], *kind).map_err(codes_error)?;
        let ty = editor.graph().ty(value).clone();
        let inputs = [
            editor.add_constant(suffixed(&stem, "quantized"), codes),
            editor.add_constant(suffixed(&stem, "scale"), Tensor::scalar(parameters.scale)),
            editor.add_constant(suffixed(&stem, "zero_point"), zero),
        ];
        let of_kind = |node: NodeId| types.len() == 1 || kinds.get(&node) == Some(kind);
        let mut readers = editor.graph().uses(value).into_iter().map(|reader| reader.node);
        let Some(near) = readers.find(|node| of_kind(*node)) else {
            continue;
        };
        let dq = editor.add_operator(
            near,
            Operator::new("DequantizeLinear"),
            &inputs.map(Some),
            vec![Value::typed(suffixed(&stem, "dequantized"), ty)],
        )?;
        editor.replace_where(value, ValueId::new(dq, 0), |reader| of_kind(reader.node))?;
    }
    editor.remove_unused(value.node);
    Ok(())
}
