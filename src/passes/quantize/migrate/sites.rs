//! Values between a normalization's scale and shift and the matrix products that read them.

use std::collections::BTreeMap;

use crate::ir::{DType, EditError, Editor, Graph, Model, NodeId, NodeKind, Tensor, TensorError, ValueId};
use crate::passes::{Context, PassError, PassReport, ResourceError, prepare};

/// A value `[..., D]` that only matrix products read, with the constants of shape `[D]` that its channels can be scaled by.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) value: ValueId,
    /// What messages call it.
    pub(super) name: String,
    /// `D`.
    pub(super) channels: usize,
    /// Scale and shift of the normalization, where each is read; divided by the factors.
    given: Vec<(NodeId, usize, ValueId)>,
    /// The products that read the value, with their weights; rows are multiplied with the factors.
    pub(super) readers: Vec<Reader>,
}

/// One matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) node: NodeId,
    pub(super) weight: ValueId,
    /// The weight is `[D, M]`; else `[M, D]`.
    pub(super) rows_first: bool,
}

/// Why a value that a product reads is no site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Skip {
    #[error("nothing before it has a scale for each channel")]
    NoScale,
    #[error("something else than matrix products with constant weights reads it")]
    OtherReader,
    #[error("a weight is shared or not float")]
    Weight,
    #[error("protected by keep")]
    Kept,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum MigrateError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl MigrateError {
    /// As the error of a pass, for the site of this name.
    fn of(self, pass: &'static str, site: &str) -> PassError {
        match self {
            Self::Edit(source) => PassError::Edit { pass, source },
            Self::Tensor(error) => PassError::resource(pass, ResourceError::of(site, error)),
        }
    }
}

/// Names every value of `model`, simplifies it first if `simplify` says so, and answers its sites with a report that says why other
/// values are none.
pub(super) fn prepared(
    model: &mut Model,
    simplify: bool,
    context: &Context<'_>,
) -> Result<(Vec<Site>, PassReport), PassError> {
    let mut report = PassReport {
        changes: prepare::simplify(model, simplify, context)?.changes,
        ..PassReport::default()
    };
    prepare::name(model);
    let (found, skipped) = sites(&model.graph, context);
    report.notes = skipped
        .iter()
        .map(|(name, skip)| format!("{name} stays as it is: {skip}"))
        .collect();
    Ok((found, report))
}

/// Moves a factor for each channel of `site` from its value into the weights that read it.
pub(super) fn move_factors(
    model: &mut Model,
    site: &Site,
    factors: &[f64],
    pass: &'static str,
) -> Result<(), PassError> {
    scale(&mut model.graph.edit(pass), site, factors).map_err(|error| error.of(pass, &site.name))
}

/// Every site of `graph`, and why other values that products read are none.
fn sites(graph: &Graph, context: &Context<'_>) -> (Vec<Site>, Vec<(String, Skip)>) {
    let mut seen: BTreeMap<ValueId, ()> = BTreeMap::new();
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for id in graph.topological_order() {
        if product(graph, id).is_none() {
            continue;
        }
        let Some(value) = graph.input(id, 0) else { continue };
        if seen.insert(value, ()).is_some() {
            continue;
        }
        let name = graph
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        match site(graph, value, &name, context) {
            Ok(site) => found.push(site),
            Err(skip) => skipped.push((name, skip)),
        }
    }
    (found, skipped)
}

/// MatMul or Gemm with a constant weight in slot 1, and whether the weight is `[D, M]`.
fn product(graph: &Graph, id: NodeId) -> Option<(ValueId, bool)> {
    let operator = graph
        .operator(id)
        .filter(|operator| operator.domain().is_empty())?;
    let weight = graph.input(id, 1)?;
    let tensor = graph.constant(weight).filter(|tensor| tensor.rank() == 2)?;
    let rows_first = match &*operator.op_type {
        "MatMul" => true,
        "Gemm" if operator.int("transA").unwrap_or(0) == 0 => operator.int("transB").unwrap_or(0) == 0,
        _ => return None,
    };
    (tensor.dtype() == DType::F32).then_some((weight, rows_first))
}

fn is_constant(graph: &Graph, value: ValueId) -> bool {
    matches!(
        graph.get(value.node).map(|node| &node.kind),
        Some(NodeKind::Constant(_))
    )
}

fn site(graph: &Graph, value: ValueId, name: &str, context: &Context<'_>) -> Result<Site, Skip> {
    if graph.is_graph_output(value) {
        return Err(Skip::OtherReader);
    }
    let mut readers: Vec<Reader> = Vec::new();
    for reader in graph.uses(value) {
        let (weight, rows_first) = product(graph, reader.node)
            .filter(|_| graph.input(reader.node, 0) == Some(value))
            .ok_or(Skip::OtherReader)?;
        if graph.input(reader.node, 1) == Some(value) || graph.input(reader.node, 2) == Some(value) {
            return Err(Skip::OtherReader);
        }
        if !is_constant(graph, weight) || graph.use_count(weight) != 1 {
            return Err(Skip::Weight);
        }
        if context.keeps(&graph.label(reader.node)) {
            return Err(Skip::Kept);
        }
        readers.push(Reader {
            node: reader.node,
            weight,
            rows_first,
        });
    }
    let channels = readers
        .first()
        .and_then(|reader| {
            let dims = graph.constant(reader.weight)?.dims();
            dims.get(usize::from(!reader.rows_first)).copied()
        })
        .ok_or(Skip::OtherReader)?;
    let given = scale_and_shift(graph, value, channels).ok_or(Skip::NoScale)?;
    if context.keeps(&graph.label(value.node)) {
        return Err(Skip::Kept);
    }
    Ok(Site {
        value,
        name: name.to_owned(),
        channels: channels as usize,
        given,
        readers,
    })
}

/// The constants `[D]` that `value` is a multiple of, channel by channel: those of a LayerNormalization over the last axis, or of
/// a Mul and an Add at the end of one written out.
fn scale_and_shift(graph: &Graph, value: ValueId, channels: u64) -> Option<Vec<(NodeId, usize, ValueId)>> {
    let vector = |node: NodeId, slot: usize| {
        let constant = graph.input(node, slot)?;
        let tensor = graph
            .constant(constant)
            .filter(|_| is_constant(graph, constant))?;
        let plain = tensor.dtype() == DType::F32 && tensor.dims() == [channels];
        plain.then_some((node, slot, constant))
    };
    let operator = graph
        .operator(value.node)
        .filter(|operator| operator.domain().is_empty())?;
    match &*operator.op_type {
        "LayerNormalization" | "RMSNormalization" if value.output == 0 => {
            if operator.int("axis").unwrap_or(-1) != -1 {
                let rank = graph.ty(value).shape()?.len() as i64;
                if operator.int("axis")? != rank - 1 {
                    return None;
                }
            }
            let mut given = vec![vector(value.node, 1)?];
            if graph.input(value.node, 2).is_some() {
                given.push(vector(value.node, 2)?);
            }
            Some(given)
        }
        "Add" => {
            let (shift, other) = operand(graph, value.node, &vector)?;
            let private = graph.use_count(other) == 1 && !graph.is_graph_output(other);
            let scale = graph
                .operator(other.node)
                .filter(|operator| private && operator.is("Mul"))
                .and_then(|_| operand(graph, other.node, &vector))?
                .0;
            Some(vec![scale, shift])
        }
        "Mul" => Some(vec![operand(graph, value.node, &vector)?.0]),
        _ => None,
    }
}

type Place = (NodeId, usize, ValueId);

/// The constant operand of a node with two, and the other one.
fn operand(
    graph: &Graph,
    node: NodeId,
    vector: &dyn Fn(NodeId, usize) -> Option<Place>,
) -> Option<(Place, ValueId)> {
    [(0, 1), (1, 0)]
        .into_iter()
        .find_map(|(slot, other)| Some((vector(node, slot)?, graph.input(node, other)?)))
}

/// Divides the channels of the site's value by `factors` and multiplies the rows of the weights with them.
fn scale(editor: &mut Editor<'_>, site: &Site, factors: &[f64]) -> Result<(), MigrateError> {
    for (node, slot, constant) in &site.given {
        let Some(tensor) = editor.graph().constant(*constant) else {
            continue;
        };
        let values: Vec<f64> = tensor
            .to_f64()?
            .iter()
            .zip(factors)
            .map(|(value, factor)| value / factor)
            .collect();
        let tensor = Tensor::from_f64(DType::F32, &[values.len() as u64], &values)?;
        let name = editor
            .graph()
            .value(*constant)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        // Constants of a normalization may be shared with others.
        let fresh = editor.add_constant(format!("{name}_scaled"), tensor);
        editor.set_input(*node, *slot, Some(fresh))?;
        editor.remove_unused(constant.node);
    }
    for reader in &site.readers {
        let Some(tensor) = editor.graph().constant(reader.weight) else {
            continue;
        };
        let dims = tensor.dims().to_vec();
        let inner = dims.get(1).copied().unwrap_or(1).max(1) as usize;
        let values: Vec<f64> = tensor
            .to_f64()?
            .iter()
            .enumerate()
            .map(|(flat, value)| {
                let channel = if reader.rows_first {
                    flat / inner
                } else {
                    flat % inner
                };
                value * factors.get(channel).copied().unwrap_or(1.0)
            })
            .collect();
        editor.set_constant(reader.weight.node, Tensor::from_f64(DType::F32, &dims, &values)?)?;
    }
    Ok(())
}

/// The largest magnitude of the weights that multiply each channel, over all readers.
pub(super) fn weight_extremes(graph: &Graph, site: &Site) -> Result<Vec<f64>, TensorError> {
    let mut largest = vec![0f64; site.channels];
    for reader in &site.readers {
        let Some(tensor) = graph.constant(reader.weight) else {
            continue;
        };
        let inner = tensor.dims().get(1).copied().unwrap_or(1).max(1) as usize;
        for (flat, value) in tensor.to_f64()?.iter().enumerate() {
            let channel = if reader.rows_first {
                flat / inner
            } else {
                flat % inner
            };
            if let Some(slot) = largest.get_mut(channel) {
                *slot = slot.max(value.abs());
            }
        }
    }
    Ok(largest)
}
