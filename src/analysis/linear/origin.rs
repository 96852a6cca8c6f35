//! The constant behind an operand, wherever it is stored.

use super::readers::{float_cast, permutation};
use crate::ir::{GraphPath, Model, NodeKind, ValueId};

/// Where an operand's elements are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The graph that holds the constant: that of the operand, or one around it.
    pub path: GraphPath,
    /// The constant.
    pub value: ValueId,
    /// The stored axis that each axis of the operand is.
    pub axes: Vec<usize>,
    /// Whether a Cast lies between.
    pub cast: bool,
}

/// Follows `value` of the graph at `path` back through Identity, Cast between floats, Transpose and captures; `None` where that does
/// not end at a constant.
pub fn origin(model: &Model, path: &GraphPath, value: ValueId) -> Option<Origin> {
    let (mut path, mut value, mut cast) = (path.clone(), value, false);
    let mut orders: Vec<Option<Vec<i64>>> = Vec::new();
    loop {
        let graph = model.graph_at(&path)?;
        let node = graph.get(value.node)?;
        match &node.kind {
            NodeKind::Constant(constant) => {
                let rank = constant.tensor.as_ref()?.rank();
                let mut axes: Vec<usize> = (0..rank).collect();
                // From the constant towards the operand.
                for order in orders.iter().rev() {
                    let order = permutation(order.as_deref(), rank)?;
                    axes = order.iter().filter_map(|axis| axes.get(*axis).copied()).collect();
                }
                return Some(Origin {
                    path,
                    value,
                    axes,
                    cast,
                });
            }
            NodeKind::Capture(capture) => (path, value) = model.captured(&path, capture.index)?,
            NodeKind::Operator(operator) => {
                if operator.is("Transpose") {
                    orders.push(operator.ints("perm").map(<[i64]>::to_vec));
                } else if float_cast(operator).is_some() {
                    cast = true;
                } else if !operator.is("Identity") {
                    return None;
                }
                value = graph.input(value.node, 0)?;
            }
            _ => return None,
        }
    }
}
