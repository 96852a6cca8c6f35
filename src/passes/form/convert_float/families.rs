//! Operators by what they do to the size of numbers.

use crate::ir::Operator;
use crate::ops::picks_elements;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Results are elements of the inputs.
    Moves,
    /// Elements of the inputs, cut to bounds.
    Bounds,
    /// A constant of any shape.
    Fills,
    Multiplies,
    Divides,
    Adds,
    Roots,
    Inverts,
    Raises,
    Logs,
    /// Sums, means and norms.
    Reduces,
    /// Sums of products.
    Products,
    Other,
}

pub(super) fn family(operator: &Operator) -> Family {
    if !operator.domain().is_empty() {
        return Family::Other;
    }
    match &*operator.op_type {
        "Clip" | "Max" | "Min" => Family::Bounds,
        "ConstantOfShape" => Family::Fills,
        "Mul" => Family::Multiplies,
        "Div" => Family::Divides,
        "Add" | "Sub" | "Sum" | "Mean" => Family::Adds,
        "Sqrt" => Family::Roots,
        "Reciprocal" => Family::Inverts,
        "Pow" => Family::Raises,
        "Log" => Family::Logs,
        "ReduceMean" | "ReduceSum" | "ReduceSumSquare" | "ReduceL1" | "ReduceL2" | "ReduceMax"
        | "ReduceMin" | "ReduceProd" | "GlobalAveragePool" | "AveragePool" => Family::Reduces,
        "MatMul" | "Gemm" | "Conv" | "ConvTranspose" | "Einsum" | "LSTM" | "GRU" | "RNN" => Family::Products,
        "Cast" | "CastLike" | "Dropout" => Family::Moves,
        other if picks_elements(other) => Family::Moves,
        _ => Family::Other,
    }
}
