//! What two rules must not share.

use super::rule::{Operand, Pattern};

/// The operator tree of a pattern without names: what two rules must not share.
pub(crate) fn tree(pattern: &Pattern) -> String {
    fn walk(pattern: &Pattern, at: usize) -> String {
        let Some(node) = pattern.nodes.get(at) else {
            return String::new();
        };
        let mut operands: Vec<String> = node
            .operands
            .iter()
            .map(|operand| match operand {
                Operand::Value { optional: true, .. } => "_?".to_owned(),
                Operand::Value { .. } | Operand::Any => "_".to_owned(),
                Operand::Number(number) => format!("{:?}", number.expr),
                Operand::Splat(_) => "*".to_owned(),
                Operand::Node { node, .. } => walk(pattern, *node),
            })
            .collect();
        if super::rule::swaps(&node.domain, &node.op_type) {
            operands.sort();
        }
        format!("{}.{}({})", node.domain, node.op_type, operands.join(","))
    }
    let mut siblings: Vec<String> = pattern
        .siblings
        .iter()
        .map(|part| walk(pattern, part.root()))
        .collect();
    siblings.sort();
    siblings.insert(0, walk(pattern, pattern.root()));
    siblings.join(" beside ")
}
