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

/// One operator on constants.
struct Call<'a> {
    operator: &'a Operator,
    version: i64,
    inputs: &'a [Option<Tensor>],
    outputs: usize,
}

/// The kernels of a family.
type Family = fn(&Call<'_>) -> Answer;

/// Families of kernels with the operators of ONNX's own domain that each computes, at some element types: what is not registered here
/// is left to the engine. Of several families the first that answers counts.
const KERNELS: &[(Family, &[&str])] = &[
    (
        |call| views::evaluate(call.operator, call.version, call.inputs),
        &[
            "Flatten",
            "Identity",
            "Reshape",
            "Shape",
            "Size",
            "Squeeze",
            "Unsqueeze",
        ],
    ),
    (
        |call| moves::evaluate(call.operator, call.version, call.inputs, call.outputs),
        &[
            "Concat",
            "ConstantOfShape",
            "Expand",
            "Gather",
            "Slice",
            "Split",
            "Transpose",
            "Where",
        ],
    ),
    (
        |call| picks::evaluate(call.operator, call.inputs),
        &[
            "Compress",
            "EyeLike",
            "GatherElements",
            "GatherND",
            "NonZero",
            "OneHot",
            "ReverseSequence",
            "Scatter",
            "ScatterElements",
            "ScatterND",
            "Trilu",
        ],
    ),
    (
        |call| repeats::evaluate(call.operator, call.version, call.inputs),
        &["DepthToSpace", "Pad", "SpaceToDepth", "Tile"],
    ),
    (
        |call| integer::evaluate(call.operator, call.version, call.inputs),
        &[
            "Abs",
            "Add",
            "And",
            "BitShift",
            "BitwiseAnd",
            "BitwiseNot",
            "BitwiseOr",
            "BitwiseXor",
            "Clip",
            "Div",
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
            "Max",
            "Min",
            "Mod",
            "Mul",
            "Neg",
            "Not",
            "Or",
            "Pow",
            "Range",
            "Relu",
            "Sign",
            "Sub",
            "Sum",
            "Xor",
        ],
    ),
    (
        |call| cast::evaluate(call.operator, call.inputs),
        &["Cast", "CastLike"],
    ),
    (
        |call| float::evaluate(call.operator, call.version, call.inputs),
        &[
            "Abs",
            "Acos",
            "Acosh",
            "Add",
            "Asin",
            "Asinh",
            "Atan",
            "Atanh",
            "Ceil",
            "Celu",
            "Clip",
            "Cos",
            "Cosh",
            "Div",
            "Elu",
            "Equal",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "Greater",
            "GreaterOrEqual",
            "HardSigmoid",
            "HardSwish",
            "IsInf",
            "IsNaN",
            "LeakyRelu",
            "Less",
            "LessOrEqual",
            "Log",
            "Max",
            "Mean",
            "Min",
            "Mish",
            "Mod",
            "Mul",
            "Neg",
            "PRelu",
            "Pow",
            "Range",
            "Reciprocal",
            "Relu",
            "Round",
            "Selu",
            "Shrink",
            "Sigmoid",
            "Sign",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Sub",
            "Sum",
            "Swish",
            "Tan",
            "Tanh",
            "ThresholdedRelu",
        ],
    ),
    (
        |call| reduce::evaluate(call.operator, call.version, call.inputs, call.outputs),
        &[
            "ArgMax",
            "ArgMin",
            "CumSum",
            "Hardmax",
            "LogSoftmax",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
            "Softmax",
            "TopK",
        ],
    ),
];

/// Types of the operators of ONNX's own domain that kernels of this module compute.
pub fn operators() -> Vec<&'static str> {
    let names = KERNELS.iter().flat_map(|(_, names)| names.iter().copied());
    names.collect()
}

/// Whether the operator is never computed here, not even by the engine.
pub fn is_refused(op_type: &str) -> bool {
    NOT_FOLDED.iter().any(|(name, _)| *name == op_type)
}

fn own(operator: &Operator, version: i64, inputs: &[Option<Tensor>], outputs: usize) -> Answer {
    if !operator.domain().is_empty() {
        return None;
    }
    if outputs != 1 && !matches!(&*operator.op_type, "Split" | "TopK") {
        return None;
    }
    let call = Call {
        operator,
        version,
        inputs,
        outputs,
    };
    KERNELS
        .iter()
        .filter(|(_, names)| names.contains(&&*operator.op_type))
        .find_map(|(family, _)| family(&call))
}

fn not_finite(tensor: &Tensor) -> bool {
    !tensor.is_finite()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs among which every registered kernel finds some that it computes.
    fn samples() -> Vec<Option<Tensor>> {
        let floats: Vec<f32> = vec![0.25, 0.5, 0.75, 0.125];
        vec![
            Tensor::from_slice(&[2, 2], &floats).ok(),
            Tensor::from_slice(&[2, 2], &[1i64, 0, 1, 0]).ok(),
            Some(Tensor::vector_i64(&[1, 1])),
            Some(Tensor::vector_i64(&[0, 0, 0, 0])),
            Some(Tensor::vector_i64(&[0])),
            Some(Tensor::scalar(1i64)),
            Some(Tensor::scalar(1.0f32)),
            Tensor::from_bools(&[2], &[true, true]).ok(),
            Tensor::from_slice(&[1, 4, 1, 1], &floats).ok(),
            Tensor::from_slice(&[1, 1, 2, 2], &floats).ok(),
        ]
    }

    /// The operators with the attributes that they cannot do without.
    fn forms(name: &str) -> Vec<Operator> {
        let plain = Operator::new(name);
        match name {
            "Cast" => vec![plain.with("to", 7)],
            "BitShift" => vec![plain.with("direction", "LEFT")],
            "Concat" => vec![plain.with("axis", 0)],
            "DepthToSpace" | "SpaceToDepth" => vec![plain.with("blocksize", 2)],
            "Mod" => vec![plain.clone(), plain.with("fmod", 1)],
            "Split" => vec![plain.with("num_outputs", 1)],
            _ => vec![plain],
        }
    }

    #[test]
    fn every_registered_kernel_computes_some_form_of_its_operators() {
        let samples = samples();
        let mut lists: Vec<Vec<Option<Tensor>>> = vec![Vec::new()];
        for length in 0..3 {
            let shorter: Vec<Vec<Option<Tensor>>> = lists
                .iter()
                .filter(|list| list.len() == length)
                .cloned()
                .collect();
            for (list, sample) in shorter
                .iter()
                .flat_map(|list| samples.iter().map(move |one| (list, one)))
            {
                let mut longer = list.clone();
                longer.push(sample.clone());
                lists.push(longer);
            }
        }
        let computes = |family: &Family, name: &str| {
            forms(name).iter().any(|operator| {
                lists.iter().any(|inputs| {
                    let call = Call {
                        operator,
                        version: 18,
                        inputs,
                        outputs: if name == "TopK" { 2 } else { 1 },
                    };
                    matches!(family(&call), Some(Ok(_)))
                })
            })
        };
        let idle: Vec<&str> = KERNELS
            .iter()
            .flat_map(|(family, names)| names.iter().filter(|name| !computes(family, name)))
            .copied()
            .collect();
        assert!(
            idle.is_empty(),
            "registered with a family that computes no form of them: {idle:?}"
        );
    }
}
