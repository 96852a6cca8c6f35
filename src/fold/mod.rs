//! Computing operators on constants.
//!
//! [`TractEvaluator`] backs [`Evaluator`]. Shape arithmetic and moves of elements, which occur by the thousand and on large weights,
//! are computed here, exactly ([`integer`], [`moves`], [`picks`], [`repeats`], [`cast`], [`views`]); elementwise operators on floats
//! ([`float`]) and what runs along axes ([`reduce`]) in double precision by ONNX's definition, rounded once. The engine, which is the
//! one that judges the result, computes only what is left: layers and their like, on finite numbers. What is random, has bodies,
//! or is not trusted in tract is refused: a refusal leaves the node in the model, a guess would change the model.

mod broadcast;
mod cast;
mod elementary;
mod float;
mod integer;
mod moves;
mod numbers;
mod picks;
mod reduce;
mod repeats;
mod views;

use crate::engine::{EngineError, run_node};
use crate::ir::{DType, Operator, Tensor};
use crate::ops::{Schema, Traits, schema};
use crate::rewrite::{EvaluateError, Evaluator};

/// Computes operators by kernels of its own or in tract.
#[derive(Clone, Copy, Debug, Default)]
pub struct TractEvaluator;

/// Operators that tract computes to within rounding but not to the bit of the specification, where folding needs the bit, and
/// operators whose results are no function of their inputs' values.
const NOT_FOLDED: &[(&str, &str)] = &[
    (
        "DynamicQuantizeLinear",
        "tract multiplies by the reciprocal of the scale, which moves ties",
    ),
    ("Dropout", "it is random in its training form"),
];

/// Operators whose first stage has a precision of its own.
const STASHED: &[&str] = &["LayerNormalization", "RMSNormalization", "GroupNormalization"];

/// What a kernel answers: `None` when the case is not one of its own.
type Answer = Option<Result<Vec<Tensor>, EvaluateError>>;

impl Evaluator for TractEvaluator {
    fn evaluate(
        &self,
        operator: &Operator,
        version: i64,
        inputs: &[Option<Tensor>],
        outputs: usize,
    ) -> Result<Vec<Tensor>, EvaluateError> {
        let refuse = |reason: &str| {
            Err(EvaluateError::Unsupported {
                operator: operator.op_type.to_string(),
                reason: reason.to_owned(),
            })
        };
        if Traits::of(operator.domain(), &operator.op_type).random {
            return refuse("it is random");
        }
        if operator.has_bodies() {
            return refuse("it has a body");
        }
        if operator.has_references() {
            return refuse("an attribute refers to one of the enclosing function");
        }
        if let Some(answer) = own(operator, version, inputs, outputs) {
            return answer;
        }
        if let Some((_, reason)) = NOT_FOLDED
            .iter()
            .find(|(name, _)| operator.domain().is_empty() && operator.op_type == **name)
        {
            return refuse(reason);
        }
        let double = inputs.iter().flatten().any(|tensor| tensor.dtype() == DType::F64);
        if double && STASHED.contains(&&*operator.op_type) {
            return refuse("by the standard its statistics are of single precision, in engines of double");
        }
        if inputs.iter().flatten().any(not_finite) {
            return refuse("engines differ on infinite or undefined elements");
        }
        let found =
            run_node(operator, version, inputs, outputs).map_err(|error| evaluate_error(operator, error))?;
        if found.iter().any(not_finite) {
            return refuse("a result is infinite or undefined");
        }
        match schema(operator.domain(), &operator.op_type, version) {
            Some(schema) => check_types(operator, schema, inputs, &found)?,
            None if operator.domain().is_empty() => return refuse("the opset has no such operator"),
            None => {}
        }
        Ok(found)
    }
}

/// Whether every correct implementation of the operator gives the same bits on these constants: moves of elements, integers, truth
/// values, and float arithmetic that IEEE 754 decides. Functions such as `Exp`, and sums of more than two floats, round as an engine
/// pleases.
pub fn decided(operator: &Operator, inputs: &[Option<Tensor>]) -> bool {
    if !operator.domain().is_empty() {
        return false;
    }
    let floats = inputs.iter().flatten().any(|tensor| tensor.dtype().is_float());
    !floats || MOVES.contains(&&*operator.op_type) || float::decided(operator, inputs.len())
}

/// Operators that give elements of their inputs back, or numbers that do not depend on the elements.
const MOVES: &[&str] = &[
    "Cast",
    "CastLike",
    "Compress",
    "Concat",
    "ConstantOfShape",
    "DepthToSpace",
    "Expand",
    "EyeLike",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "NonZero",
    "Pad",
    "Reshape",
    "ReverseSequence",
    "ScatterElements",
    "ScatterND",
    "Shape",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
];

fn own(operator: &Operator, version: i64, inputs: &[Option<Tensor>], outputs: usize) -> Answer {
    if !operator.domain().is_empty() {
        return None;
    }
    if outputs != 1 && !matches!(&*operator.op_type, "Split" | "TopK") {
        return None;
    }
    views::evaluate(operator, version, inputs)
        .or_else(|| moves::evaluate(operator, version, inputs, outputs))
        .or_else(|| picks::evaluate(operator, inputs))
        .or_else(|| repeats::evaluate(operator, version, inputs))
        .or_else(|| integer::evaluate(operator, version, inputs))
        .or_else(|| cast::evaluate(operator, inputs))
        .or_else(|| float::evaluate(operator, version, inputs))
        .or_else(|| reduce::evaluate(operator, version, inputs, outputs))
}

fn not_finite(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32
        && tensor
            .view::<f32>()
            .is_ok_and(|values| values.iter().any(|value| !value.is_finite()))
        || tensor.dtype().is_float()
            && tensor.dtype() != DType::F32
            && tensor
                .to_f64()
                .is_ok_and(|values| values.iter().any(|value| !value.is_finite()))
}

fn evaluate_error(operator: &Operator, error: EngineError) -> EvaluateError {
    let operator = operator.op_type.to_string();
    match error {
        EngineError::Failed { reason, .. } => EvaluateError::Failed { operator, reason },
        other => EvaluateError::Unsupported {
            operator,
            reason: other.to_string(),
        },
    }
}

/// Whether the outputs have the element types that the operator's schema demands.
fn check_types(
    operator: &Operator,
    schema: &Schema,
    inputs: &[Option<Tensor>],
    found: &[Tensor],
) -> Result<(), EvaluateError> {
    for (index, tensor) in found.iter().enumerate() {
        let Some(formal) = schema.outputs.get(index).or(schema.outputs.last()) else {
            continue;
        };
        let expected = match formal
            .ty
            .strip_prefix("tensor(")
            .and_then(|ty| ty.strip_suffix(')'))
        {
            Some(name) => DType::from_name(name),
            None => schema.inputs.iter().zip(inputs).find_map(|(input, tensor)| {
                if input.ty == formal.ty {
                    tensor.as_ref().map(Tensor::dtype)
                } else {
                    None
                }
            }),
        };
        if expected.is_some_and(|expected| expected != tensor.dtype()) {
            return Err(EvaluateError::Unsupported {
                operator: operator.op_type.to_string(),
                reason: format!("tract answered with {}", tensor.dtype()),
            });
        }
    }
    Ok(())
}

/// An error about invalid inputs.
fn invalid(operator: &Operator, reason: impl Into<String>) -> EvaluateError {
    EvaluateError::Failed {
        operator: operator.op_type.to_string(),
        reason: reason.into(),
    }
}

/// One output, or why there is none.
fn single(operator: &Operator, result: Result<Tensor, crate::ir::TensorError>) -> Answer {
    Some(
        result
            .map(|tensor| vec![tensor])
            .map_err(|error| invalid(operator, error.to_string())),
    )
}

/// The input in this slot.
fn operand(inputs: &[Option<Tensor>], index: usize) -> Option<&Tensor> {
    inputs.get(index)?.as_ref()
}

/// An axis counted from the front, if it is one of `rank` axes.
fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank = rank as i64;
    if (-rank..rank).contains(&axis) {
        usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()
    } else {
        None
    }
}
