//! Parts of a pattern that its root does not reach through operands.

use super::rule::{Operand, PatternNode, Sibling};

/// Why a pattern of several parts is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum SiblingError {
    /// A part that shares nothing with those before it.
    #[error(
        "the last statement does not reach every other one through its operands or a value that both read"
    )]
    Apart,
    /// An operand beside the shared value that may depend on data.
    #[error(
        "{name} must be a `constant`: in a pattern of several results only the value that all parts read is not"
    )]
    Operand {
        /// What it is called.
        name: String,
    },
}

/// The siblings of a pattern: each reads a value that the part before it binds, and constants otherwise, so that no result of one part can be
/// an operand of another.
pub(super) fn find(
    nodes: &[PatternNode],
    names: &[String],
    constants: &[String],
) -> Result<Vec<Sibling>, SiblingError> {
    let root = nodes.len().saturating_sub(1);
    let mut reached = vec![false; nodes.len()];
    let mut bound = vec![false; names.len()];
    reach(nodes, root, &mut reached, &mut bound);
    let mut open: Vec<usize> = (0..root).filter(|at| !is_operand(nodes, *at)).collect();
    let mut siblings = Vec::new();
    while !open.is_empty() {
        let found = open.iter().enumerate().find_map(|(index, at)| {
            let way = way_to_shared(nodes, *at, &bound)?;
            Some((index, way))
        });
        let Some((index, (shared, mut path))) = found else {
            return Err(SiblingError::Apart);
        };
        path.reverse();
        reach(nodes, open.remove(index), &mut reached, &mut bound);
        siblings.push(Sibling { shared, path });
    }
    if !siblings.is_empty() {
        check_operands(nodes, names, constants, &siblings)?;
    }
    Ok(siblings)
}

fn is_operand(nodes: &[PatternNode], at: usize) -> bool {
    let mut operands = nodes.iter().flat_map(|node| &node.operands);
    operands.any(|operand| matches!(operand, Operand::Node { node, .. } if *node == at))
}

/// Marks a node, what it reaches, and the values that are bound then.
fn reach(nodes: &[PatternNode], at: usize, reached: &mut [bool], bound: &mut [bool]) {
    let mut pending = vec![at];
    while let Some(at) = pending.pop() {
        match reached.get_mut(at) {
            Some(flag) if !*flag => *flag = true,
            _ => continue,
        }
        for operand in nodes.get(at).map_or(&[][..], |node| &node.operands) {
            match operand {
                Operand::Node { node, .. } => pending.push(*node),
                Operand::Value { name, .. } => {
                    if let Some(flag) = bound.get_mut(*name) {
                        *flag = true;
                    }
                }
                _ => {}
            }
        }
    }
}

/// The first bound value that a part reads, and the nodes from its root down to the reader.
fn way_to_shared(nodes: &[PatternNode], at: usize, bound: &[bool]) -> Option<(usize, Vec<usize>)> {
    for operand in &nodes.get(at)?.operands {
        match operand {
            Operand::Value {
                name,
                optional: false,
            } if bound.get(*name) == Some(&true) => return Some((*name, vec![at])),
            Operand::Node { node, output: 0 } => {
                if let Some((name, mut path)) = way_to_shared(nodes, *node, bound) {
                    path.insert(0, at);
                    return Some((name, path));
                }
            }
            _ => {}
        }
    }
    None
}

fn check_operands(
    nodes: &[PatternNode],
    names: &[String],
    constants: &[String],
    siblings: &[Sibling],
) -> Result<(), SiblingError> {
    for operand in nodes.iter().flat_map(|node| &node.operands) {
        let name = match operand {
            Operand::Node { .. } | Operand::Number(_) => continue,
            Operand::Value { name, .. } if siblings.iter().all(|sibling| sibling.shared == *name) => continue,
            Operand::Value { name, .. } => names.get(*name).map_or("", String::as_str),
            Operand::Any => "_",
            Operand::Splat(_) => "a list of values",
        };
        if !constants.iter().any(|known| known == name) {
            return Err(SiblingError::Operand {
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}
