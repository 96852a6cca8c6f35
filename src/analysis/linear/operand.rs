//! What an input slot is to its operator: a weight, with its axes, or not.

use crate::ir::Operator;

/// A kind of operator that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// MatMul: each operand may be the weight.
    MatMul,
    /// Gemm: each operand may be the weight.
    Gemm,
    /// Conv.
    Conv,
    /// ConvTranspose.
    ConvTranspose,
    /// LSTM, GRU, RNN: the weights of the input and of the state.
    Recurrent,
    /// Gather from a table along its first axis: an embedding.
    Lookup,
    /// Einsum of two operands.
    Einsum,
}

/// A weight as its operator reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The kind of operator.
    pub family: Family,
    /// The input slot of the weight.
    pub slot: usize,
    /// The input slot of what the weight multiplies, or of the indices into a table.
    pub other: usize,
    /// Axis of the weight that the output channels (of a table: the rows) lie on; `None` for a vector that is summed up.
    pub output_axis: Option<usize>,
    /// Axis that is summed over, where it is one.
    pub sum_axis: Option<usize>,
    /// Groups that the channels are divided into.
    pub groups: u64,
}

/// Operators of ONNX's own domain that have weights, with the slots that may hold one.
pub const WEIGHTED: &[(&str, &[usize])] = &[
    ("MatMul", &[1, 0]),
    ("Gemm", &[1, 0]),
    ("Conv", &[1]),
    ("ConvTranspose", &[1]),
    ("LSTM", &[1, 2]),
    ("GRU", &[1, 2]),
    ("RNN", &[1, 2]),
    ("Gather", &[0]),
    ("Einsum", &[1, 0]),
];

/// The input slots of the operator that may hold a weight, the usual one first.
pub fn weight_slots(operator: &Operator) -> &'static [usize] {
    WEIGHTED
        .iter()
        .find(|(name, _)| operator.is(name))
        .map_or(&[], |(_, slots)| slots)
}

/// What a tensor of this rank in input slot `slot` is to the operator; `None` if it is no weight.
pub fn operand(operator: &Operator, slot: usize, rank: usize) -> Option<Operand> {
    if !weight_slots(operator).contains(&slot) {
        return None;
    }
    let of = |family, other, output_axis, sum_axis| {
        Some(Operand {
            family,
            slot,
            other,
            output_axis,
            sum_axis,
            groups: 1,
        })
    };
    match &*operator.op_type {
        "MatMul" => match (slot, rank) {
            (_, 0) => None,
            (_, 1) => of(Family::MatMul, 1 - slot, None, Some(0)),
            (1, _) => of(Family::MatMul, 0, Some(rank - 1), Some(rank - 2)),
            _ => of(Family::MatMul, 1, Some(rank - 2), Some(rank - 1)),
        },
        "Gemm" if rank == 2 => {
            let flag = if slot == 1 { "transB" } else { "transA" };
            let turned = operator.int(flag).unwrap_or(0) != 0;
            // As stored: B is `[K, N]`, A is `[M, K]`.
            let output = usize::from((slot == 1) != turned);
            of(Family::Gemm, 1 - slot, Some(output), Some(1 - output))
        }
        "Conv" if rank >= 3 => of(Family::Conv, 0, Some(0), None).map(|one| grouped(one, operator)),
        "ConvTranspose" if rank >= 3 => {
            let one = grouped(of(Family::ConvTranspose, 0, Some(1), None)?, operator);
            // `[C, M / group, ...]`: an index of axis 1 is an output channel of every group, one of axis 0 is in one group only.
            let output_axis = Some(usize::from(one.groups == 1));
            Some(Operand { output_axis, ..one })
        }
        // `[directions, gates * hidden, inputs]`.
        "LSTM" | "GRU" | "RNN" if rank == 3 => of(Family::Recurrent, 0, Some(1), Some(2)),
        "Gather" if rank >= 2 => {
            let axis = operator.int("axis").unwrap_or(0);
            let first = axis == 0 || axis == -(rank as i64);
            first.then(|| of(Family::Lookup, 1, Some(0), None)).flatten()
        }
        "Einsum" => einsum(operator, slot, rank),
        _ => None,
    }
}

fn grouped(one: Operand, operator: &Operator) -> Operand {
    let groups = operator.int("group").unwrap_or(1);
    Operand {
        groups: u64::try_from(groups).unwrap_or(1).max(1),
        ..one
    }
}

/// The axes of one operand of `ab,bc->ac` and the like: letters only, no letter twice in the operand, an explicit output.
fn einsum(operator: &Operator, slot: usize, rank: usize) -> Option<Operand> {
    let equation: String = operator
        .string("equation")?
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    let (operands, output) = equation.split_once("->")?;
    let operands: Vec<&str> = operands.split(',').collect();
    let [a, b] = operands.as_slice() else { return None };
    let (own, other) = if slot == 0 { (*a, *b) } else { (*b, *a) };
    let plain = own.chars().all(|letter| letter.is_ascii_alphabetic());
    let letters: Vec<char> = own.chars().collect();
    let repeated = letters
        .iter()
        .enumerate()
        .any(|(at, letter)| letters.iter().skip(at + 1).any(|b| b == letter));
    if !plain || repeated || letters.len() != rank {
        return None;
    }
    let axes = |wanted: &dyn Fn(char) -> bool| -> Vec<usize> {
        let found = letters.iter().enumerate().filter(|(_, letter)| wanted(**letter));
        found.map(|(at, _)| at).collect()
    };
    let outputs = axes(&|letter| output.contains(letter) && !other.contains(letter));
    let sums = axes(&|letter| !output.contains(letter));
    Some(Operand {
        family: Family::Einsum,
        slot,
        other: 1 - slot,
        output_axis: outputs.last().copied(),
        sum_axis: match sums.as_slice() {
            [only] => Some(*only),
            _ => None,
        },
        groups: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_each_operator() {
        let axes = |operator: Operator, slot, rank| {
            operand(&operator, slot, rank).map(|one| (one.output_axis, one.sum_axis))
        };
        let grouped = Operator::new("ConvTranspose").with("group", 2);
        for (operator, slot, rank, expected) in [
            (Operator::new("MatMul"), 1, 2, Some((Some(1), Some(0)))),
            (Operator::new("MatMul"), 0, 2, Some((Some(0), Some(1)))),
            (Operator::new("MatMul"), 1, 3, Some((Some(2), Some(1)))),
            (Operator::new("MatMul"), 1, 1, Some((None, Some(0)))),
            (Operator::new("Gemm"), 1, 2, Some((Some(1), Some(0)))),
            (
                Operator::new("Gemm").with("transB", 1),
                1,
                2,
                Some((Some(0), Some(1))),
            ),
            (Operator::new("Gemm"), 0, 2, Some((Some(0), Some(1)))),
            (
                Operator::new("Gemm").with("transA", 1),
                0,
                2,
                Some((Some(1), Some(0))),
            ),
            (Operator::new("Gemm"), 2, 2, None),
            (Operator::new("Conv"), 1, 4, Some((Some(0), None))),
            (Operator::new("ConvTranspose"), 1, 4, Some((Some(1), None))),
            (grouped, 1, 4, Some((Some(0), None))),
            (Operator::new("GRU"), 2, 3, Some((Some(1), Some(2)))),
            (Operator::new("Gather"), 0, 2, Some((Some(0), None))),
            (Operator::new("Gather").with("axis", 1), 0, 2, None),
            (Operator::new("MatMul").in_domain("other"), 1, 2, None),
            (einsum_of("bij, jk -> bik"), 1, 2, Some((Some(1), Some(0)))),
            (einsum_of("kj,bj->bk"), 0, 2, Some((Some(0), Some(1)))),
            (einsum_of("ii,ij->j"), 0, 2, None),
            (einsum_of("...i,ij->...j"), 1, 2, Some((Some(1), Some(0)))),
        ] {
            let name = operator.op_type.to_string();
            assert_eq!(
                axes(operator, slot, rank),
                expected,
                "{name} slot {slot} rank {rank}"
            );
        }
    }

    fn einsum_of(equation: &str) -> Operator {
        Operator::new("Einsum").with("equation", equation)
    }
}
