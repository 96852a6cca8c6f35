//! Constants that are stored narrow and used wide, made wide once for all plans of a model.
//!
//! tract folds constants only where the result is small; what makes a large weight wider (a dequantization, a cast from
//! float16) it would compute in every run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::{DatumType, IntoTValue as _, TValue, Tensor as TractTensor};

use super::kernels;
use super::messages;
use crate::ir::DType;

/// Bytes of wide constants beyond which the rest stays narrow and is widened in every run.
const LIMIT: usize = 1 << 30;

/// The constants of a program, by the names of the graph's inputs that stand for them.
pub(super) type Constants = Vec<(String, Arc<TractTensor>)>;

/// Evaluates the nodes of `graph` that widen constants; their outputs become constants. Constants that nothing reads any more go.
pub(super) fn widen(graph: &mut pb::GraphProto, constants: &mut Constants) {
    let mut known: HashMap<String, Arc<TractTensor>> = constants.iter().cloned().collect();
    let mut left = LIMIT;
    let mut kept = Vec::with_capacity(graph.node.len());
    let mut made: Constants = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        match widened(&node, &known, left) {
            Some((name, dtype, tensor)) => {
                let dims: Vec<u64> = tensor.shape().iter().map(|dim| *dim as u64).collect();
                graph.input.push(messages::concrete(&name, dtype, &dims));
                left = left.saturating_sub(bytes(&tensor));
                known.insert(name.clone(), tensor.clone());
                made.push((name, tensor));
            }
            None => kept.push(node),
        }
    }
    graph.node = kept;
    if made.is_empty() {
        return;
    }
    constants.extend(made);
    let mut read: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    reads(graph, &mut read);
    let unread: HashSet<String> = constants
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| !read.contains(name))
        .collect();
    graph.input.retain(|input| !unread.contains(&input.name));
    constants.retain(|(name, _)| !unread.contains(name));
}

fn bytes(tensor: &TractTensor) -> usize {
    tensor.len() * tensor.datum_type().size_of()
}

/// Name, type and elements of the one output of a node that widens constants.
fn widened(
    node: &pb::NodeProto,
    known: &HashMap<String, Arc<TractTensor>>,
    left: usize,
) -> Option<(String, DType, Arc<TractTensor>)> {
    let [output] = node.output.as_slice() else {
        return None;
    };
    let known = |name: &String| Some(known.get(name)?.clone().into_tvalue());
    let inputs: Vec<TValue> = node.input.iter().map(known).collect::<Option<_>>()?;
    // The result is of float, the widest type that is made here.
    if inputs.first()?.len().saturating_mul(size_of::<f32>()) > left {
        return None;
    }
    // A node that cannot be evaluated stays, for tract to judge.
    let tensor = kernels::widened(node, &inputs)?.ok()?;
    let dtype = match tensor.datum_type() {
        DatumType::F32 => DType::F32,
        DatumType::F16 => DType::F16,
        _ => return None,
    };
    Some((output.clone(), dtype, Arc::new(tensor)))
}

/// The names that nodes read, in bodies too.
fn reads(graph: &pb::GraphProto, found: &mut HashSet<String>) {
    for node in &graph.node {
        found.extend(node.input.iter().cloned());
        for attribute in &node.attribute {
            for body in attribute.g.iter().chain(&attribute.graphs) {
                found.extend(body.output.iter().map(|output| output.name.clone()));
                reads(body, found);
            }
        }
    }
}
