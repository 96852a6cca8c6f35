//! What operators do to the axis that the samples lie on.

use super::{Placement, Walk, elements};
use crate::ir::{NodeId, Operator, ValueId};

/// The placement of the samples in one output of a node; `None` if it is not known.
pub(super) type Move = fn(&Walk<'_>, NodeId, usize) -> Option<Placement>;

/// The rule of an operator.
pub(super) fn rule(operator: &Operator) -> Option<Move> {
    if !operator.domain().is_empty() {
        return None;
    }
    Some(match &*operator.op_type {
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => same_order,
        "Transpose" => transpose,
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Gather" => gather,
        "GatherElements" | "ScatterElements" | "Scatter" | "CumSum" | "TopK" | "Compress" => along_another,
        "GatherND" | "ScatterND" | "ReverseSequence" | "Unique" | "NonZero" | "NonMaxSuppression" => never,
        "Gemm" => gemm,
        "Einsum" => einsum,
        "LSTM" | "GRU" | "RNN" => recurrent,
        "ArgMax" | "ArgMin" => reduce,
        name if name.starts_with("Reduce") => reduce,
        "Conv"
        | "ConvTranspose"
        | "MaxPool"
        | "AveragePool"
        | "LpPool"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "GlobalLpPool"
        | "BatchNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LayerNormalization"
        | "RMSNormalization"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "LRN"
        | "Softmax"
        | "LogSoftmax"
        | "Hardmax"
        | "Pad"
        | "Resize"
        | "Upsample"
        | "Tile"
        | "DepthToSpace"
        | "SpaceToDepth"
        | "Dropout"
        | "QuantizeLinear"
        | "DequantizeLinear"
        | "DynamicQuantizeLinear"
        | "Trilu" => first_operand,
        "Identity" | "Cast" | "CastLike" | "Clip" | "PRelu" | "Where" | "Expand" | "Sum" | "Mean" | "Max"
        | "Min" | "MatMul" | "Abs" | "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "And" | "Or" | "Xor"
        | "Not" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Relu" | "LeakyRelu"
        | "Elu" | "Selu" | "Celu" | "Gelu" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Swish" | "Mish"
        | "Softplus" | "Softsign" | "ThresholdedRelu" | "Tanh" | "Erf" | "Exp" | "Log" | "Sqrt"
        | "Reciprocal" | "Neg" | "Sign" | "Floor" | "Ceil" | "Round" | "Sin" | "Cos" | "Tan" | "Asin"
        | "Acos" | "Atan" | "Sinh" | "Cosh" | "Asinh" | "Acosh" | "Atanh" | "IsNaN" | "IsInf" => broadcast,
        _ => return None,
    })
}

/// Whether only the rule of this operator tells, and not the shape of what comes out: one axis may have the batch's size and yet
/// hold the samples in another order, or other things.
pub(super) fn decides(operator: &Operator) -> bool {
    matches!(
        &*operator.op_type,
        "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Transpose"
            | "Concat"
            | "Split"
            | "Slice"
            | "Gather"
            | "GatherElements"
            | "ScatterElements"
            | "Scatter"
            | "CumSum"
            | "TopK"
            | "Compress"
            | "GatherND"
            | "ScatterND"
            | "ReverseSequence"
            | "Unique"
            | "NonZero"
            | "NonMaxSuppression"
    )
}

fn input(walk: &Walk<'_>, id: NodeId, slot: usize) -> Option<ValueId> {
    walk.graph.input(id, slot)
}

fn output(id: NodeId, output: usize) -> ValueId {
    ValueId::new(id, output)
}

fn axis_of(index: i64, rank: usize) -> Option<usize> {
    let axis = if index < 0 { index + rank as i64 } else { index };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}

fn never(_: &Walk<'_>, _: NodeId, _: usize) -> Option<Placement> {
    None
}

/// The same elements in the same order under another shape.
fn same_order(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let source = input(walk, id, 0)?;
    let (from, to) = (walk.dims(source)?, walk.dims(output(id, out))?);
    let count = elements(&to).filter(|count| *count > 0)?;
    if elements(&from) != Some(count) {
        return None;
    }
    let run = walk.at(source)?.run_length(&from, walk.samples)?;
    let mut behind = 1;
    for (axis, size) in to.iter().enumerate().rev() {
        if run % behind == 0 {
            let minor = run / behind;
            if size % minor.checked_mul(walk.samples)? == 0 {
                return Some(Placement { axis, minor });
            }
        }
        behind *= size;
    }
    None
}

fn transpose(walk: &Walk<'_>, id: NodeId, _: usize) -> Option<Placement> {
    let source = input(walk, id, 0)?;
    let placement = walk.at(source)?;
    let rank = walk.dims(source)?.len();
    let axis = match walk.graph.operator(id)?.ints("perm") {
        Some(order) => order
            .iter()
            .position(|axis| axis_of(*axis, rank) == Some(placement.axis))?,
        None => rank.checked_sub(1 + placement.axis)?,
    };
    Some(Placement { axis, ..placement })
}

fn concat(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let rank = walk.dims(output(id, out))?.len();
    let along = axis_of(walk.graph.operator(id)?.int("axis").unwrap_or(1), rank)?;
    let parts: Vec<ValueId> = walk.graph.inputs_of(id).into_iter().flatten().collect();
    let mut found: Option<Placement> = None;
    for part in &parts {
        match walk.places.get(part) {
            None => continue,
            Some(_) => {
                let placement = walk.at(*part)?;
                if found.is_some_and(|other| other != placement) {
                    return None;
                }
                found = Some(placement);
            }
        }
    }
    let found = found?;
    // Joined along the batch's own axis, each part has to hold all the samples.
    let whole = found.axis != along || parts.iter().all(|part| walk.at(*part).is_some());
    whole.then_some(found)
}

fn split(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let source = input(walk, id, 0)?;
    let placement = walk.at(source)?;
    let along = axis_of(
        walk.graph.operator(id)?.int("axis").unwrap_or(0),
        walk.dims(source)?.len(),
    )?;
    if placement.axis != along {
        return Some(placement);
    }
    // Each part has to begin with the first sample and end with the last.
    let count = walk.graph.get(id)?.outputs().len();
    let whole = (0..count).all(|part| {
        let size = walk
            .dims(output(id, part))
            .and_then(|dims| dims.get(along).copied());
        let part = walk.samples.checked_mul(placement.minor).filter(|part| *part > 0);
        size.zip(part).is_some_and(|(size, part)| size % part == 0)
    });
    (whole && out < count).then_some(placement)
}

fn constant(walk: &Walk<'_>, id: NodeId, slot: usize) -> Option<Vec<i64>> {
    walk.graph.constant(input(walk, id, slot)?)?.to_i64().ok()
}

fn slice(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let source = input(walk, id, 0)?;
    let placement = walk.at(source)?;
    let from = walk.dims(source)?;
    let to = walk.dims(output(id, out))?;
    // The batch's axis stays whole, and forward: a step has to be known where it could turn the axis round.
    let whole = from.get(placement.axis) == to.get(placement.axis);
    let forward = match input(walk, id, 4) {
        None => true,
        Some(_) => {
            let steps = constant(walk, id, 4)?;
            let axes = match input(walk, id, 3) {
                Some(_) => constant(walk, id, 3)?,
                None => (0..steps.len() as i64).collect(),
            };
            axes.iter()
                .zip(&steps)
                .all(|(axis, step)| *step > 0 || axis_of(*axis, from.len()) != Some(placement.axis))
        }
    };
    (whole && forward).then_some(placement)
}

fn gather(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let (data, indices) = (input(walk, id, 0)?, input(walk, id, 1)?);
    let rank = walk.dims(data)?.len();
    let along = axis_of(walk.graph.operator(id)?.int("axis").unwrap_or(0), rank)?;
    let index_rank = walk.dims(indices)?.len();
    walk.dims(output(id, out))?;
    match (
        walk.places.contains_key(&data),
        walk.places.contains_key(&indices),
    ) {
        (true, false) => {
            let placement = walk.at(data)?;
            let axis = match placement.axis {
                axis if axis < along => axis,
                axis if axis > along => axis + index_rank - 1,
                _ => return None,
            };
            Some(Placement { axis, ..placement })
        }
        (false, true) => {
            let placement = walk.at(indices)?;
            Some(Placement {
                axis: along + placement.axis,
                ..placement
            })
        }
        _ => None,
    }
}

/// Operators that pick or add up along one axis, which must not be the batch's.
fn along_another(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let operator = walk.graph.operator(id)?;
    let placement = first_operand(walk, id, out)?;
    let rank = walk.dims(input(walk, id, 0)?)?.len();
    let axis = match operator.is("CumSum") {
        true => constant(walk, id, 1)?.first().copied()?,
        false => operator.int("axis").unwrap_or(match &*operator.op_type {
            "TopK" => -1,
            _ => 0,
        }),
    };
    (axis_of(axis, rank)? != placement.axis).then_some(placement)
}

/// The batch keeps its axis, counted from the front, and the axis its size.
fn first_operand(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let source = input(walk, id, 0)?;
    let placement = walk.at(source)?;
    let (from, to) = (walk.dims(source)?, walk.dims(output(id, out))?);
    let kept = from.len() == to.len() && from.get(placement.axis) == to.get(placement.axis);
    kept.then_some(placement)
}

/// Operands are aligned at their last axes; all that have the samples must have them at the same place of the result.
fn broadcast(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let to = walk.dims(output(id, out))?;
    let multiplies = walk
        .graph
        .operator(id)
        .is_some_and(|operator| operator.is("MatMul"));
    let mut found: Option<Placement> = None;
    for (slot, value) in walk.graph.inputs_of(id).into_iter().enumerate() {
        let Some(value) = value.filter(|value| walk.places.contains_key(value)) else {
            continue;
        };
        let from = walk.dims(value)?;
        // What mixes the samples, such as a mask, moves none of them.
        let Some(placement) = walk.at(value) else {
            continue;
        };
        // The summed axis of a matrix product does not come out.
        let summed = match slot {
            0 => from.len().checked_sub(1),
            _ => from.len().checked_sub(2),
        };
        if multiplies && (from.len() < 2 || summed == Some(placement.axis)) {
            return None;
        }
        let axis = (placement.axis + to.len()).checked_sub(from.len())?;
        let placement = Placement { axis, ..placement };
        if from.get(placement.axis + from.len() - to.len()) != to.get(axis)
            || found.is_some_and(|other| other != placement)
        {
            return None;
        }
        found = Some(placement);
    }
    found
}

fn gemm(walk: &Walk<'_>, id: NodeId, _: usize) -> Option<Placement> {
    let (a, b) = (input(walk, id, 0)?, input(walk, id, 1)?);
    let operator = walk.graph.operator(id)?;
    let rows = usize::from(operator.int("transA").unwrap_or(0) != 0);
    let placement = walk.at(a)?;
    (placement.axis == rows && !walk.places.contains_key(&b)).then_some(Placement { axis: 0, ..placement })
}

fn reduce(walk: &Walk<'_>, id: NodeId, _: usize) -> Option<Placement> {
    let source = input(walk, id, 0)?;
    let placement = walk.at(source)?;
    let rank = walk.dims(source)?.len();
    let operator = walk.graph.operator(id)?;
    let keeps = operator.int("keepdims").unwrap_or(1) != 0;
    let listed = match operator.op_type.starts_with("Arg") {
        true => vec![operator.int("axis").unwrap_or(0)],
        false => match (operator.ints("axes"), input(walk, id, 1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(_)) => constant(walk, id, 1)?,
            (None, None) => Vec::new(),
        },
    };
    if listed.is_empty() {
        let idle = operator.int("noop_with_empty_axes").unwrap_or(0) != 0;
        return idle.then_some(placement);
    }
    let axes: Vec<usize> = listed
        .iter()
        .map(|axis| axis_of(*axis, rank))
        .collect::<Option<_>>()?;
    if axes.contains(&placement.axis) {
        return None;
    }
    let before = axes.iter().filter(|axis| **axis < placement.axis).count();
    Some(match keeps {
        true => placement,
        false => Placement {
            axis: placement.axis - before,
            ..placement
        },
    })
}

/// X `[T, N, F]`, Y `[T, D, N, H]`, final states `[D, N, H]`; with `layout` 1 the batch comes first.
fn recurrent(walk: &Walk<'_>, id: NodeId, out: usize) -> Option<Placement> {
    let placement = walk.at(input(walk, id, 0)?)?;
    let first = walk.graph.operator(id)?.int("layout").unwrap_or(0) != 0;
    let (read, written) = match (first, out) {
        (true, _) => (0, 0),
        (false, 0) => (1, 2),
        (false, _) => (1, 1),
    };
    (placement.axis == read).then_some(Placement {
        axis: written,
        ..placement
    })
}

/// The letter of the batch's axis, the same in every operand that has the samples, and where it comes out.
fn einsum(walk: &Walk<'_>, id: NodeId, _: usize) -> Option<Placement> {
    let equation: String = walk
        .graph
        .operator(id)?
        .string("equation")?
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    let (terms, result) = equation.split_once("->")?;
    if equation.contains('.') {
        return None;
    }
    let mut found: Option<(char, u64)> = None;
    for (slot, term) in terms.split(',').enumerate() {
        let value = input(walk, id, slot)?;
        if !walk.places.contains_key(&value) {
            continue;
        }
        let placement = walk.at(value)?;
        let letter = (term.chars().nth(placement.axis)?, placement.minor);
        if found.is_some_and(|other| other != letter) {
            return None;
        }
        found = Some(letter);
    }
    let (letter, minor) = found?;
    let axis = result.chars().position(|other| other == letter)?;
    Some(Placement { axis, minor })
}
