//! Which matrix products become integer, and why the others do not.

use std::collections::{BTreeSet, HashMap};

use super::QuantizeDynamic;
use super::product::Product;
use super::tied::{lookups, reads_rows};
use crate::analysis::linear::{self, Product as Matrix};
use crate::ir::{DType, Graph, GraphPath, Model, NodeId, ValueId};
use crate::passes::Context;
use crate::passes::layer_patterns::layer_names;
use crate::passes::left::LeftAlone;

/// What products are looked for.
pub(super) struct Search<'a> {
    pub(super) options: &'a QuantizeDynamic,
    pub(super) excluded: &'a regex::RegexSet,
    pub(super) context: &'a Context<'a>,
}

/// Why a product stays as it is, and what would change that.
type Refusal = (String, &'static str);

fn refuse<T>(why: &str, cure: &'static str) -> Result<T, Refusal> {
    Err((why.to_owned(), cure))
}

/// Products that may be replaced, in every graph, with the way in which each reads its weight: the axis of the outputs, and the slot.
pub(super) struct Candidates {
    ways: HashMap<(GraphPath, NodeId), (usize, usize)>,
}

impl Candidates {
    /// Why codes of the weight of `product` would only add to the file: something reads it as float, or it is read in ways that have
    /// codes of their own.
    fn refusal(&self, model: &Model, search: &Search<'_>, product: &Product) -> Option<String> {
        let origin = &product.origin;
        let graph = model.graph_at(&origin.path)?;
        let readings = linear::readings(graph, origin.value);
        let as_float = |label: String, operator: &str| {
            let by = match operator.is_empty() {
                true => label,
                false => format!("{label} ({operator})"),
            };
            Some(format!(
                "{by} reads its weight as float, so that codes would only add to the file"
            ))
        };
        if let Some(other) = readings.others.first() {
            return as_float(other.label.clone(), other.operator.as_deref().unwrap_or_default());
        }
        let (mut ways, mut own, mut gathered) = (BTreeSet::new(), false, false);
        for reading in &readings.weights {
            let path = reading
                .bodies
                .iter()
                .fold(origin.path.clone(), |path, (node, body)| path.body(*node, *body));
            if let Some(way) = self.ways.get(&(path, reading.node)) {
                ways.insert(*way);
                continue;
            }
            let Some(inner) = reading.graph(graph) else {
                continue;
            };
            let operator = inner.operator(reading.node).map(|one| one.op_type.to_string());
            let operator = operator.unwrap_or_default();
            let names = layer_names(inner, reading.node, false);
            let free = !names.iter().any(|name| search.keeps(name));
            if !free || !search.options.weights_only.contains(&operator) {
                return as_float(inner.label(reading.node), &operator);
            }
            // The weight of an operator that computes in float becomes codes of its own, and so does a table, unless a product reads its rows.
            match operator == "Gather" {
                true => gathered = true,
                false => own = true,
            }
        }
        let shared = ways.iter().any(|(axis, slot)| reads_rows(*axis, *slot))
            && lookups(graph, origin).is_some_and(|found| !found.is_empty());
        let codings = ways.len() as u64 + u64::from(own) + u64::from(gathered && !shared);
        (codings * product.tensor.elements() >= product.tensor.byte_len()).then(|| {
            "its weight is read in several ways, whose codes together take as much as its floats".to_owned()
        })
    }
}

impl Search<'_> {
    /// Whether a pattern leaves what has this name in float.
    fn keeps(&self, name: &str) -> bool {
        self.excluded.is_match(name) || self.context.keeps(name)
    }

    /// What may be replaced, whatever else reads the weights.
    pub(super) fn candidates(&self, model: &Model, paths: &[GraphPath]) -> Candidates {
        let mut ways = HashMap::new();
        for path in paths {
            for product in self.find(model, path, None, &mut LeftAlone::default()) {
                let way = (product.output_axis, product.weight_slot);
                ways.insert((path.clone(), product.node), way);
            }
        }
        Candidates { ways }
    }

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

    /// The products of one graph, in topological order; without `candidates` those that nothing but the weight's other readers may keep
    /// from being replaced.
    pub(super) fn find(
        &self,
        model: &Model,
        path: &GraphPath,
        candidates: Option<&Candidates>,
        left: &mut LeftAlone,
    ) -> Vec<Product> {
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
            let product = self.product(model, path, graph, &matrix).and_then(|product| {
                let why = candidates.and_then(|all| all.refusal(model, self, &product));
                why.map_or(Ok(product), |why| Err((why, "")))
            });
            match product {
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
    ) -> Result<Product, Refusal> {
        let names = layer_names(graph, matrix.node, false);
        if names.iter().any(|name| self.excluded.is_match(name)) {
            return refuse("excluded", "");
        }
        if names.iter().any(|name| self.context.keeps(name)) {
            return refuse("protected by keep", "");
        }
        let of = |value: ValueId| linear::origin(model, path, value);
        let (weight_slot, origin, input) = match (of(matrix.right), of(matrix.left)) {
            (Some(_), Some(_)) => {
                return refuse(
                    "both operands are constant",
                    "fold it first: `simplify --max-growth 1`",
                );
            }
            (Some(origin), None) => (1, origin, matrix.left),
            (None, Some(origin)) => (0, origin, matrix.right),
            (None, None) => {
                let hidden = [matrix.right, matrix.left]
                    .into_iter()
                    .find_map(|value| linear::hidden(model, path, value));
                return match hidden {
                    Some(hidden) => refuse(hidden.why(), hidden.cure()),
                    None => refuse("it multiplies two activations", ""),
                };
            }
        };
        let tensor = model
            .graph_at(&origin.path)
            .and_then(|graph| graph.constant(origin.value))
            .ok_or_else(|| ("its weight is not constant".to_owned(), ""))?;
        let [a, b] = origin.axes.as_slice() else {
            return refuse(
                match tensor.rank() {
                    0 | 1 => "its weight is a vector",
                    _ => "its weight is a stack of matrices",
                },
                "`quantize-weights` stores it as codes",
            );
        };
        let dtype = graph.ty(input).dtype();
        if dtype.is_some_and(|dtype| dtype != DType::F32) || !origin.cast && tensor.dtype() != DType::F32 {
            return refuse(
                "it computes in another type than float, which DynamicQuantizeLinear does not read",
                "`quantize-weights` stores its weight as codes",
            );
        }
        if tensor.elements() < self.options.minimum_elements {
            return refuse("its weight has few elements", "lower --minimum-elements");
        }
        if weight_slot == 0 && graph.ty(input).rank().is_none_or(|rank| rank < 2) {
            return refuse("its second operand has no known rank of two or more", "");
        }
        if !matrix.alpha.is_finite() || !matrix.beta.is_finite() {
            return refuse("alpha or beta is not finite", "");
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
