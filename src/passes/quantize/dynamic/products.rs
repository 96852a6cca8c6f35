//! Which matrix products become integer, and why the others do not.

use super::QuantizeDynamic;
use crate::analysis::linear::{self, Origin, Product as Matrix};
use crate::ir::{DType, Graph, GraphPath, Model, NodeId, Tensor, ValueId};
use crate::passes::Context;
use crate::passes::layer_patterns::layer_names;
use crate::passes::left::LeftAlone;

/// A product to be replaced.
pub(super) struct Product {
    pub(super) path: GraphPath,
    pub(super) node: NodeId,
    /// The slot of the weight; the other one is the input.
    pub(super) weight_slot: usize,
    /// Where the weight is stored.
    pub(super) origin: Origin,
    /// Its name.
    pub(super) name: String,
    /// Its elements.
    pub(super) tensor: Tensor,
    /// Axis of the stored weight that the outputs lie on.
    pub(super) output_axis: usize,
}

/// What products are looked for.
pub(super) struct Search<'a> {
    pub(super) options: &'a QuantizeDynamic,
    pub(super) excluded: &'a regex::RegexSet,
    pub(super) context: &'a Context<'a>,
}

impl Search<'_> {
    /// Names the products of a function whose opset has no dynamic codes.
    pub(super) fn too_old(&self, model: &Model, path: &GraphPath, left: &mut LeftAlone) {
        let Some(graph) = model.graph_at(path) else { return };
        for id in graph.topological_order() {
            if linear::product(graph, id).is_some() {
                left.add(
                    graph.label(id),
                    "its function imports an opset before 11",
                    "inline-functions puts it where the model's opset holds",
                );
            }
        }
    }

    /// The products of one graph, in topological order.
    pub(super) fn find(&self, model: &Model, path: &GraphPath, left: &mut LeftAlone) -> Vec<Product> {
        let Some(graph) = model.graph_at(path) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for id in graph.topological_order() {
            let Some(matrix) = linear::product(graph, id) else {
                if graph
                    .operator(id)
                    .is_some_and(|operator| operator.is("Conv") || operator.is("ConvTranspose"))
                {
                    left.add(
                        graph.label(id),
                        "convolutions are not quantized dynamically",
                        "quantize them with calibration data (`quantize`), or their weights alone (`quantize-weights --operators Conv`)",
                    );
                }
                continue;
            };
            match self.product(model, path, graph, &matrix) {
                Ok(product) => found.push(product),
                Err((why, cure)) => left.add(graph.label(id), why, cure),
            }
        }
        found
    }

    fn product(
        &self,
        model: &Model,
        path: &GraphPath,
        graph: &Graph,
        matrix: &Matrix,
    ) -> Result<Product, (&'static str, &'static str)> {
        let names = layer_names(graph, matrix.node, false);
        if names.iter().any(|name| self.excluded.is_match(name)) {
            return Err(("excluded", ""));
        }
        if names.iter().any(|name| self.context.keeps(name)) {
            return Err(("protected by keep", ""));
        }
        let of = |value: ValueId| linear::origin(model, path, value);
        let (weight_slot, origin, input) = match (of(matrix.right), of(matrix.left)) {
            (Some(_), Some(_)) => {
                return Err((
                    "both operands are constant",
                    "fold it first: `simplify --max-growth 1`",
                ));
            }
            (Some(origin), None) => (1, origin, matrix.left),
            (None, Some(origin)) => (0, origin, matrix.right),
            (None, None) => return Err(("it multiplies two activations", "")),
        };
        let tensor = model
            .graph_at(&origin.path)
            .and_then(|graph| graph.constant(origin.value))
            .ok_or(("its weight is not constant", ""))?;
        let [a, b] = origin.axes.as_slice() else {
            return Err((
                match tensor.rank() {
                    0 | 1 => "its weight is a vector",
                    _ => "its weight is a stack of matrices",
                },
                "`quantize-weights` stores it as codes",
            ));
        };
        let dtype = graph.ty(input).dtype();
        if dtype.is_some_and(|dtype| dtype != DType::F32) || !origin.cast && tensor.dtype() != DType::F32 {
            return Err((
                "it computes in another type than float, which DynamicQuantizeLinear does not read",
                "`quantize-weights` stores its weight as codes",
            ));
        }
        if tensor.elements() < self.options.minimum_elements {
            return Err(("its weight has few elements", "lower --minimum-elements"));
        }
        if weight_slot == 0 && graph.ty(input).rank().is_none_or(|rank| rank < 2) {
            return Err(("its second operand has no known rank of two or more", ""));
        }
        if !matrix.alpha.is_finite() || !matrix.beta.is_finite() {
            return Err(("alpha or beta is not finite", ""));
        }
        let turned = match weight_slot {
            0 => matrix.left_transposed,
            _ => matrix.right_transposed,
        };
        // As it multiplies: the right operand is `[K, N]`, the left one `[M, K]`.
        let output_axis = if (weight_slot == 1) != turned { *b } else { *a };
        let tensor = tensor.clone();
        let stored = model
            .graph_at(&origin.path)
            .and_then(|graph| graph.value(origin.value));
        Ok(Product {
            name: stored.map(|value| value.name.to_string()).unwrap_or_default(),
            path: path.clone(),
            node: matrix.node,
            weight_slot,
            origin,
            tensor,
            output_axis,
        })
    }
}
