//! What there is to say about a model without running it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::analysis::{self, linear};
use crate::format::Origin;
use crate::ir::{
    AttributeValue, Dim, Graph, GraphOutput, GraphPath, Model, Name, NodeId, NodeKind, Tensor, ValueId,
    ValueType, tensor_type,
};

/// What `inspect` shows.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ModelFacts {
    /// Operators in every graph, bodies and functions included, without Constant nodes.
    pub nodes: u64,
    /// Elements of float and quantized constants; shared ones once.
    pub parameters: u64,
    /// Bytes of the file with its external data.
    pub bytes: u64,
    /// Multiply-accumulates of one run; `null` where sizes are not known.
    pub macs: Option<u64>,
    /// The sizes of free dimensions that `macs` is counted with: those given, and 1 for the others.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub macs_sizes: IndexMap<String, i64>,
    /// IR version.
    pub ir_version: i64,
    /// Version by domain; ONNX's own is `ai.onnx`.
    pub opsets: IndexMap<String, i64>,
    /// Number of operators by type, sorted.
    pub ops: IndexMap<String, u64>,
    /// Graph inputs.
    pub inputs: Vec<ValueFacts>,
    /// Graph outputs.
    pub outputs: Vec<ValueFacts>,
    /// The program that wrote the file.
    pub producer: Option<String>,
    /// Model-local functions.
    pub functions: u64,
    /// External data files with their bytes.
    pub external: IndexMap<String, u64>,
    /// Nodes whose inputs do not fit each other, with their shapes: no engine can run the model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// What is unusual about the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Inferred types of the values of the main graph, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<ValueFacts>>,
    /// Operators of the main graph that have parameters or multiply, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<LayerFacts>>,
}

/// What one operator of the main graph costs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LayerFacts {
    /// How messages call it.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// Type of its first output.
    pub output: String,
    /// Elements of the constants that it reads, itself or as codes; a constant with several readers counts for each.
    pub parameters: u64,
    /// Multiply-accumulates of one run; `null` where sizes are not known.
    pub macs: Option<u64>,
    /// Its share of the multiply-accumulates of the operators that are listed.
    pub macs_share: Option<f64>,
}

/// What is listed beside totals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed {
    /// Every value of the main graph.
    pub values: bool,
    /// Every operator that costs something.
    pub layers: bool,
}

/// A value's name and type.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ValueFacts {
    /// Name.
    pub name: String,
    /// Element type in ONNX's words (`float`, `int64`), or the whole type of what is no tensor; `null` if unknown.
    pub dtype: Option<String>,
    /// Sizes: a number, the name of a symbol or an expression of symbols, or `null`. `null` for an unknown rank.
    pub shape: Option<Vec<Value>>,
    /// The operator that produces the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Whether the caller may leave an input out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A node of the main graph.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NodeFacts {
    /// Name; empty if it has none.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// Domain of the operator; empty for ONNX's own.
    pub domain: String,
    /// Names of what it reads, in order; empty for an operand that is left out.
    pub inputs: Vec<String>,
    /// Names of what it computes, in order; empty for a result that is left out.
    pub outputs: Vec<String>,
    /// Attributes by name: numbers, texts and lists of them; of a tensor its type and shape, of a body the number of its nodes.
    pub attributes: IndexMap<String, Value>,
}

/// The nodes of the main graph in an order in which they can run.
pub fn nodes(model: &Model) -> Vec<NodeFacts> {
    let graph = &model.graph;
    let name = |value: Option<crate::ir::ValueId>| {
        value
            .and_then(|value| graph.value(value))
            .map(|value| value.name.to_string())
            .unwrap_or_default()
    };
    let one = |id| {
        let (node, operator) = (graph.get(id)?, graph.operator(id)?);
        let attributes = operator.attributes().iter();
        Some(NodeFacts {
            name: node.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            op_type: operator.op_type.to_string(),
            domain: operator.domain().to_owned(),
            inputs: graph.inputs_of(id).into_iter().map(name).collect(),
            outputs: node
                .outputs()
                .iter()
                .map(|value| value.name.to_string())
                .collect(),
            attributes: attributes
                .map(|attribute| (attribute.name.to_string(), attribute_facts(&attribute.value)))
                .collect(),
        })
    };
    graph.topological_order().into_iter().filter_map(one).collect()
}

fn attribute_facts(value: &AttributeValue) -> Value {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let tensor = |tensor: &Tensor| json!({ "dtype": tensor.dtype().name(), "shape": tensor.dims() });
    let body = |graph: &Graph| json!({ "nodes": graph.operator_count() });
    match value {
        AttributeValue::Int(value) => json!(value),
        AttributeValue::Float(value) => json!(value),
        AttributeValue::String(value) => text(value),
        AttributeValue::Ints(values) => json!(values),
        AttributeValue::Floats(values) => json!(values),
        AttributeValue::Strings(values) => values.iter().map(|value| text(value)).collect(),
        AttributeValue::Tensor(value) => tensor(value),
        AttributeValue::Tensors(values) => values.iter().map(tensor).collect(),
        AttributeValue::Graph(value) => body(value),
        AttributeValue::Graphs(values) => values.iter().map(body).collect(),
        _ => Value::Null,
    }
}

/// Collects the facts of a model whose types have been inferred. `sizes` are those of free dimensions, by symbol or as
/// `input[axis]`, that operations are counted with; the others count as 1.
pub fn facts(model: &Model, origin: &Origin, sizes: &BTreeMap<String, i64>, listed: Listed) -> ModelFacts {
    let assumed = RefCell::new(BTreeMap::new());
    let cost = analysis::cost(model, &|symbol| {
        let name = symbol.trim_start_matches('?');
        let size = sizes.get(name).copied();
        assumed.borrow_mut().insert(name.to_owned(), size.unwrap_or(1));
        size
    });
    let header = &model.header;
    let producer = header.producer_name.clone().filter(|name| !name.is_empty());
    let version = header
        .producer_version
        .clone()
        .filter(|version| !version.is_empty());
    ModelFacts {
        nodes: cost.nodes,
        parameters: cost.parameters,
        bytes: origin.bytes.len() as u64 + origin.external.bytes(),
        macs: cost.macs,
        macs_sizes: assumed.into_inner().into_iter().collect(),
        warnings: Vec::new(),
        ir_version: model.ir_version(),
        opsets: opsets(model),
        ops: operators(model),
        inputs: inputs(model),
        outputs: outputs(model),
        producer: producer.map(|name| version.map_or(name.clone(), |version| format!("{name} {version}"))),
        functions: model.functions.len() as u64,
        external: origin
            .external
            .iter()
            .map(|(location, file)| (location.to_owned(), file.bytes.len() as u64))
            .collect(),
        conflicts: analysis::conflicts(model)
            .iter()
            .map(ToString::to_string)
            .collect(),
        values: listed.values.then(|| all_values(model)),
        layers: listed.layers.then(|| layers(model, &cost)),
    }
}

/// The inputs of the main graph. One without a declared type has that of its default, where it has one.
pub fn inputs(model: &Model) -> Vec<ValueFacts> {
    let graph = &model.graph;
    let one = |id: &NodeId| {
        let node = graph.get(*id)?;
        let value = node.outputs().first()?;
        let default = match &node.kind {
            NodeKind::Input(input) => input.default.as_ref(),
            _ => None,
        };
        let ty = match (&value.ty, default) {
            (ValueType::Unknown, Some((tensor, _))) => tensor_type(tensor),
            (declared, _) => declared.clone(),
        };
        Some(ValueFacts {
            optional: default.is_some(),
            ..value_facts(&value.name, &ty)
        })
    };
    graph.inputs().iter().filter_map(one).collect()
}

/// The outputs of the main graph, with declared types; with inferred ones where nothing is declared.
pub fn outputs(model: &Model) -> Vec<ValueFacts> {
    let graph = &model.graph;
    let pairs = graph.outputs().iter().zip(graph.output_values());
    let one = |(output, value): (&GraphOutput, Option<ValueId>)| {
        let inferred = || value.map(|value| graph.ty(value).clone()).unwrap_or_default();
        let ty = match &output.ty {
            ValueType::Unknown => inferred(),
            declared => declared.clone(),
        };
        value_facts(&output.name, &ty)
    };
    pairs.map(one).collect()
}

fn opsets(model: &Model) -> IndexMap<String, i64> {
    let mut opsets = IndexMap::new();
    for import in &model.opset_imports {
        let domain = if import.domain().is_empty() {
            "ai.onnx"
        } else {
            import.domain()
        };
        let version = crate::ir::opset_version(&model.opset_imports, import.domain()).unwrap_or(0);
        opsets.insert(domain.to_owned(), version);
    }
    opsets
}

/// Number of operators by type, in every graph, without Constant nodes.
pub(super) fn operators(model: &Model) -> IndexMap<String, u64> {
    let mut ops: IndexMap<String, u64> = IndexMap::new();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for operator in graph
            .node_ids()
            .filter_map(|id| graph.operator(id))
            .filter(|op| !op.is("Constant"))
        {
            *ops.entry(operator.op_type.to_string()).or_default() += 1;
        }
    }
    ops.sort_unstable_keys();
    ops
}

fn layers(model: &Model, cost: &analysis::Cost) -> Vec<LayerFacts> {
    let graph = &model.graph;
    let own = cost.by_node.iter().filter(|node| node.path == GraphPath::MAIN);
    let macs: BTreeMap<NodeId, Option<u64>> = own.map(|node| (node.node, node.macs)).collect();
    let elements = |value: ValueId| -> u64 {
        let constant = graph.get(value.node).and_then(|node| node.constant());
        constant
            .filter(|tensor| tensor.dtype().is_float() || tensor.dtype().bits() <= 8)
            .map_or(0, |tensor| tensor.dims().iter().product())
    };
    let parameters = |id: NodeId| -> u64 {
        let read = graph.inputs_of(id).into_iter().flatten();
        read.map(|value| match graph.operator(value.node) {
            Some(codes) if codes.is("DequantizeLinear") => graph.input(value.node, 0).map_or(0, elements),
            // The codes behind the Cast that makes indices of them.
            Some(_) if linear::codebook(graph, value.node).is_some() => graph
                .input(value.node, 1)
                .and_then(|indices| graph.input(indices.node, 0))
                .map_or(0, elements),
            _ => elements(value),
        })
        .sum()
    };
    let mut found = Vec::new();
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let (parameters, macs) = (parameters(id), macs.get(&id).copied());
        // Scales and codes count for what reads the values.
        let rounds = operator.is("QuantizeLinear")
            || operator.is("DequantizeLinear")
            || linear::reads_codes(graph, id);
        if rounds || parameters == 0 && macs.is_none() {
            continue;
        }
        let first = graph.get(id).and_then(|node| node.outputs().first());
        found.push(LayerFacts {
            name: graph.label(id),
            op_type: operator.op_type.to_string(),
            output: first.map_or(String::new(), |value| {
                analysis::public_type(&value.ty).to_string()
            }),
            parameters,
            macs: macs.unwrap_or(Some(0)),
            macs_share: None,
        });
    }
    let total: u64 = found.iter().filter_map(|layer| layer.macs).sum();
    for layer in &mut found {
        layer.macs_share = layer
            .macs
            .filter(|_| total > 0)
            .map(|macs| macs as f64 / total as f64);
    }
    found
}

fn all_values(model: &Model) -> Vec<ValueFacts> {
    let graph = &model.graph;
    let mut found = Vec::new();
    for node in graph
        .topological_order()
        .into_iter()
        .filter_map(|id| graph.get(id))
    {
        for value in node.outputs().iter().filter(|value| !value.omitted) {
            let operator = node.operator().map(|operator| operator.op_type.to_string());
            found.push(ValueFacts {
                operator,
                ..value_facts(&value.name, &value.ty)
            });
        }
    }
    found
}

fn value_facts(name: &Name, ty: &ValueType) -> ValueFacts {
    let ty = &analysis::public_type(ty);
    let (dtype, shape) = match ty {
        ValueType::Unknown => (None, None),
        ValueType::Tensor(tensor) => (
            tensor.dtype.map(|dtype| dtype.name().to_owned()),
            tensor.shape.as_ref(),
        ),
        other => (Some(other.to_string()), None),
    };
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) if *size >= 0 => json!(size),
        Dim::Fixed(_) | Dim::Unknown => Value::Null,
        Dim::Expr(expr) => json!(expr.to_string()),
    };
    let shape = shape.map(|shape| shape.iter().map(dim).collect());
    ValueFacts {
        name: name.to_string(),
        dtype,
        shape,
        operator: None,
        optional: false,
    }
}
