//! Gemm and MatMul seen as one: `alpha * op(A) op(B) + beta * C`.

use crate::ir::{Graph, NodeId, Tensor, ValueId};

/// A matrix product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// The node.
    pub node: NodeId,
    /// The node is a Gemm.
    pub is_gemm: bool,
    /// The left operand.
    pub left: ValueId,
    /// The right operand.
    pub right: ValueId,
    /// The left operand is transposed first.
    pub left_transposed: bool,
    /// The right operand is transposed first.
    pub right_transposed: bool,
    /// The factor of the product.
    pub alpha: f32,
    /// What is added.
    pub bias: Option<ValueId>,
    /// The factor of what is added.
    pub beta: f32,
}

/// The product that a node is.
pub fn product(graph: &Graph, node: NodeId) -> Option<Product> {
    let operator = graph.operator(node)?;
    let is_gemm = operator.is("Gemm");
    if !is_gemm && !operator.is("MatMul") {
        return None;
    }
    let flag = |name: &str| is_gemm && operator.int(name).unwrap_or(0) != 0;
    let factor = |name: &str| operator.float(name).filter(|_| is_gemm).unwrap_or(1.0);
    Some(Product {
        node,
        is_gemm,
        left: graph.input(node, 0)?,
        right: graph.input(node, 1)?,
        left_transposed: flag("transA"),
        right_transposed: flag("transB"),
        alpha: factor("alpha"),
        bias: graph.input(node, 2).filter(|_| is_gemm),
        beta: factor("beta"),
    })
}

/// One number for each of `columns` columns, if that is what a bias of this shape adds to every row; `None` where rows differ.
pub fn column_bias(bias: &Tensor, columns: u64) -> Option<Vec<f64>> {
    let values = bias.to_f64().ok()?;
    let count = usize::try_from(columns).ok()?;
    let width = match bias.dims() {
        [] => 1,
        [.., width] => *width,
    };
    if bias.rank() > 2 || values.is_empty() || width != 1 && width != columns {
        return None;
    }
    let width = usize::try_from(width).ok()?;
    let first = values.get(..width)?;
    let same = |row: &[f64]| row.iter().zip(first).all(|(a, b)| a.to_bits() == b.to_bits());
    if !values.chunks(width).all(same) {
        return None;
    }
    match first {
        [only] => Some(vec![*only; count]),
        row => Some(row.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_that_are_the_same_for_every_row() {
        let columns =
            |dims: &[u64], values: &[f32]| column_bias(&Tensor::from_slice(dims, values).unwrap(), 3);
        assert_eq!(columns(&[], &[2.0]), Some(vec![2.0; 3]));
        assert_eq!(columns(&[1], &[2.0]), Some(vec![2.0; 3]));
        assert_eq!(columns(&[1, 1], &[2.0]), Some(vec![2.0; 3]));
        assert_eq!(columns(&[3], &[1.0, 2.0, 3.0]), Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(columns(&[1, 3], &[1.0, 2.0, 3.0]), Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(columns(&[2, 1], &[4.0, 4.0]), Some(vec![4.0; 3]));
        assert_eq!(columns(&[2, 1], &[4.0, 5.0]), None);
        assert_eq!(
            columns(&[2, 3], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]),
            Some(vec![1.0, 2.0, 3.0])
        );
        assert_eq!(columns(&[2, 3], &[1.0, 2.0, 3.0, 1.0, 2.0, 4.0]), None);
    }
}
