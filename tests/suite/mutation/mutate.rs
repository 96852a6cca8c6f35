//! One changed model from one number: the same number gives the same model on every machine.

use bytes::Bytes;
use prost::Message as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use secateur::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    type_proto,
};

/// Numbers that arithmetic on sizes goes wrong on.
const NUMBERS: [i64; 20] = [
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    -2,
    -3,
    17,
    255,
    65_536,
    1 << 31,
    -(1 << 31),
    4_294_967_296,
    (1 << 62) + 1,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
    i64::MAX - 1,
];

const FLOATS: [f32; 10] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN_POSITIVE,
];

const OPERATORS: [&str; 48] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "GatherND",
    "ScatterND",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Expand",
    "Tile",
    "Pad",
    "Resize",
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "LayerNormalization",
    "ReduceSum",
    "ReduceMean",
    "ArgMax",
    "TopK",
    "Cast",
    "Shape",
    "Range",
    "ConstantOfShape",
    "Where",
    "If",
    "Loop",
    "Scan",
    "LSTM",
    "GRU",
    "QuantizeLinear",
    "DequantizeLinear",
    "Einsum",
    "Constant",
];

/// What was made.
pub(super) struct Mutated {
    /// The model file.
    pub(super) bytes: Bytes,
    /// What its external data file must be called and hold, if the model has one.
    pub(super) data: Option<(String, Vec<u8>)>,
}

/// The mutation that a number stands for.
pub(super) fn mutate(seeds: &[ModelProto], number: u64) -> Mutated {
    let mut random = Random(ChaCha8Rng::seed_from_u64(number));
    let mut model = random.one(seeds).cloned().unwrap_or_default();
    let data = if random.chance(8) {
        externalize(&mut model, &mut random)
    } else {
        None
    };
    // What is wrong in one place gets further than what is wrong in many.
    for _ in 0..random.one(&[1, 1, 1, 2, 4]).copied().unwrap_or(1) {
        random.model(&mut model);
    }
    let mut bytes = model.encode_to_vec();
    match random.below(24) {
        0 => bytes.truncate(random.below(bytes.len() + 1)),
        1 => {
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        _ => {}
    }
    Mutated {
        bytes: Bytes::from(bytes),
        data,
    }
}

/// Moves an initializer into a data file, now and then with wrong entries.
fn externalize(model: &mut ModelProto, random: &mut Random) -> Option<(String, Vec<u8>)> {
    let graph = model.graph.as_mut()?;
    let count = graph.initializer.len();
    let tensor = graph.initializer.get_mut(random.below(count))?;
    let content = match tensor.raw_data.take() {
        Some(raw) => raw.to_vec(),
        None => {
            let floats = std::mem::take(&mut tensor.float_data);
            floats.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
    };
    tensor.data_location = Some(1);
    let mut entries = vec![
        ("location", "w.data".to_owned()),
        ("offset", "0".to_owned()),
        ("length", content.len().to_string()),
    ];
    if random.chance(3) {
        let wrong = [
            ("location", "../w.data".to_owned()),
            ("location", "/dev/zero".to_owned()),
            ("location", ".".to_owned()),
            ("offset", "18446744073709551615".to_owned()),
            ("offset", random.number().to_string()),
            ("length", random.number().to_string()),
            ("checksum", "da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned()),
        ];
        entries.extend(random.one(&wrong).cloned());
    }
    tensor.external_data = entries
        .into_iter()
        .map(|(key, value)| secateur::proto::StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        })
        .collect();
    Some(("w.data".to_owned(), content))
}

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            0
        } else {
            self.0.next_u64() as usize % end
        }
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn one<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len());
        from.get(at)
    }

    fn number(&mut self) -> i64 {
        self.one(&NUMBERS).copied().unwrap_or_default()
    }

    fn float(&mut self) -> f32 {
        self.one(&FLOATS).copied().unwrap_or_default()
    }

    /// One change somewhere in the model.
    fn model(&mut self, model: &mut ModelProto) {
        match self.below(16) {
            0 => self.opsets(model),
            1 if !model.functions.is_empty() => self.function(model),
            _ => {
                if let Some(graph) = model.graph.as_mut() {
                    self.graph(graph);
                }
            }
        }
    }

    fn opsets(&mut self, model: &mut ModelProto) {
        match self.below(5) {
            0 => model.opset_import.clear(),
            1 => model.ir_version = Some(self.number()),
            2 => model.opset_import.push(OperatorSetIdProto {
                domain: Some("com.microsoft".to_owned()),
                version: Some(1),
            }),
            _ => {
                let versions = [
                    1,
                    5,
                    6,
                    7,
                    9,
                    11,
                    12,
                    13,
                    15,
                    17,
                    18,
                    19,
                    21,
                    23,
                    25,
                    0,
                    -1,
                    i64::MAX,
                ];
                let version = self.one(&versions).copied();
                if let Some(import) = model.opset_import.first_mut() {
                    import.version = version;
                }
            }
        }
    }

    fn function(&mut self, model: &mut ModelProto) {
        let count = model.functions.len();
        let at = self.below(count);
        let names: Vec<Option<String>> = model
            .functions
            .iter()
            .map(|function| function.name.clone())
            .collect();
        let other = self.one(&names).cloned().flatten();
        let Some(function) = model.functions.get_mut(at) else {
            return;
        };
        match self.below(8) {
            0 => function.input.truncate(function.input.len().saturating_sub(1)),
            1 => function.output.push("missing".to_owned()),
            2 => function.attribute.clear(),
            3 => function.opset_import.clear(),
            4 => function.name = other,
            5 => {
                // A call of another function, or of itself.
                let count = function.node.len();
                let node = self.below(count);
                if let Some(node) = function.node.get_mut(node) {
                    (node.domain, node.op_type) = (function.domain.clone(), other);
                }
            }
            _ => self.nodes(&mut function.node),
        }
    }

    fn graph(&mut self, graph: &mut GraphProto) {
        match self.below(12) {
            0 => self.info(&mut graph.input),
            1 => self.info(&mut graph.output),
            2 => self.info(&mut graph.value_info),
            3 | 4 => {
                let count = graph.initializer.len();
                let at = self.below(count);
                if let Some(tensor) = graph.initializer.get_mut(at) {
                    self.tensor(tensor);
                }
            }
            5 => self.list(graph),
            _ => self.nodes(&mut graph.node),
        }
    }

    /// Takes away, doubles or moves an entry of one of the lists.
    fn list(&mut self, graph: &mut GraphProto) {
        let which = self.below(4);
        let length = [
            graph.node.len(),
            graph.initializer.len(),
            graph.input.len(),
            graph.output.len(),
        ];
        let count = length.get(which).copied().unwrap_or(0);
        if count == 0 {
            return;
        }
        let (at, to, double) = (self.below(count), self.below(count), self.chance(2));
        match which {
            0 => alter(&mut graph.node, at, to, double),
            1 => alter(&mut graph.initializer, at, to, double),
            2 => alter(&mut graph.input, at, to, double),
            _ => alter(&mut graph.output, at, to, double),
        }
    }

    fn info(&mut self, list: &mut [ValueInfoProto]) {
        use secateur::proto::tensor_shape_proto::{Dimension, dimension::Value};
        let at = self.below(list.len());
        let Some(info) = list.get_mut(at) else { return };
        match self.below(6) {
            0 => {
                info.name = self
                    .one(&["x", "y", "a", "", "k\u{7f}", "c"])
                    .map(|name| (*name).to_owned())
            }
            1 => info.r#type = None,
            _ => {
                let Some(type_proto::Value::TensorType(tensor)) =
                    info.r#type.as_mut().and_then(|ty| ty.value.as_mut())
                else {
                    return;
                };
                match (self.below(5), &mut tensor.shape) {
                    (0, _) => tensor.elem_type = Some(self.below(30) as i32),
                    (1, shape) => *shape = None,
                    (_, None) => {}
                    (2, Some(shape)) => shape.dim.truncate(shape.dim.len().saturating_sub(1)),
                    (3, Some(shape)) => shape.dim.push(Dimension {
                        value: Some(Value::DimValue(self.number())),
                        denotation: None,
                    }),
                    (_, Some(shape)) => {
                        let count = shape.dim.len();
                        let value = match self.below(3) {
                            0 => None,
                            1 => Some(Value::DimParam("N".to_owned())),
                            _ => Some(Value::DimValue(self.number())),
                        };
                        let at = self.below(count);
                        if let Some(dim) = shape.dim.get_mut(at) {
                            dim.value = value;
                        }
                    }
                }
            }
        }
    }

    fn tensor(&mut self, tensor: &mut TensorProto) {
        match self.below(10) {
            0 => tensor.data_type = Some(self.below(30) as i32),
            1 => tensor.dims.truncate(tensor.dims.len().saturating_sub(1)),
            2 => tensor.dims.push(self.number()),
            3 | 4 => {
                let (count, number) = (tensor.dims.len(), self.number());
                let at = self.below(count);
                if let Some(dim) = tensor.dims.get_mut(at) {
                    *dim = number;
                }
            }
            5 => {
                if let Some(raw) = &mut tensor.raw_data {
                    raw.truncate(self.below(raw.len() + 1));
                }
            }
            6 => tensor.float_data.push(self.float()),
            7 => tensor.name = self.one(&["x", "W", "", "a"]).map(|name| (*name).to_owned()),
            // Other contents of the same size: sizes, axes and indices are constants, too.
            _ => {
                for value in &mut tensor.int64_data {
                    *value = self.number();
                }
                for value in &mut tensor.float_data {
                    *value = self.float();
                }
                for value in &mut tensor.int32_data {
                    *value = self.number() as i32;
                }
                if let (Some(raw), Some(7)) = (&mut tensor.raw_data, tensor.data_type) {
                    let spoiled: Vec<u8> = raw
                        .chunks(8)
                        .flat_map(|chunk| self.number().to_le_bytes().into_iter().take(chunk.len()))
                        .collect();
                    *raw = Bytes::from(spoiled);
                }
            }
        }
    }

    fn nodes(&mut self, nodes: &mut [NodeProto]) {
        let names: Vec<String> = nodes
            .iter()
            .flat_map(|node| node.output.iter().chain(&node.input))
            .cloned()
            .collect();
        let at = self.below(nodes.len());
        let Some(node) = nodes.get_mut(at) else { return };
        match self.below(14) {
            0 => node.op_type = self.one(&OPERATORS).map(|name| (*name).to_owned()),
            1 => {
                node.domain = self
                    .one(&["local", "com.microsoft", "acme"])
                    .map(|name| (*name).to_owned())
            }
            2 => node.input.truncate(node.input.len().saturating_sub(1)),
            3 => node.input.extend(self.one(&names).cloned()),
            4 => node.output.push("more".to_owned()),
            5 => node.output.truncate(node.output.len().saturating_sub(1)),
            6 | 7 => {
                // Another edge: forward, backward, to itself, out of a body, or to nothing.
                let (count, name) = (node.input.len(), self.one(&names).cloned());
                let at = self.below(count);
                if let Some(input) = node.input.get_mut(at) {
                    *input = if self.chance(6) {
                        String::new()
                    } else {
                        name.unwrap_or_default()
                    };
                }
            }
            8 => node.output.iter_mut().take(1).for_each(|output| {
                *output = self.one(&names).cloned().unwrap_or_default();
            }),
            9 => {
                let count = node.attribute.len();
                if count > 0 {
                    node.attribute.remove(self.below(count));
                }
            }
            10 => node.attribute.push(self.fresh_attribute()),
            _ => {
                let count = node.attribute.len();
                let at = self.below(count);
                if let Some(attribute) = node.attribute.get_mut(at) {
                    self.attribute(attribute);
                }
            }
        }
    }

    fn fresh_attribute(&mut self) -> AttributeProto {
        const NAMES: [&str; 16] = [
            "axis",
            "axes",
            "perm",
            "to",
            "kernel_shape",
            "strides",
            "pads",
            "dilations",
            "group",
            "keepdims",
            "hidden_size",
            "block_size",
            "num_outputs",
            "allowzero",
            "ceil_mode",
            "mode",
        ];
        let mut attribute = AttributeProto {
            name: self.one(&NAMES).map(|name| (*name).to_owned()),
            ..AttributeProto::default()
        };
        match self.below(3) {
            0 => (attribute.r#type, attribute.i) = (Some(2), Some(self.number())),
            1 => {
                attribute.r#type = Some(7);
                attribute.ints = (0..self.below(5)).map(|_| self.number()).collect();
            }
            _ => (attribute.r#type, attribute.s) = (Some(3), Some(Bytes::from_static(b"SAME_UPPER"))),
        }
        attribute
    }

    fn attribute(&mut self, attribute: &mut AttributeProto) {
        if let Some(graph) = attribute.g.as_mut().filter(|_| !self.chance(6)) {
            return self.graph(graph);
        }
        match self.below(8) {
            0 => attribute.r#type = Some(self.below(16) as i32),
            1 => attribute.ref_attr_name = Some("alpha".to_owned()),
            2 => attribute.ints.truncate(attribute.ints.len().saturating_sub(1)),
            3 => attribute.ints.push(self.number()),
            4 if attribute.g.is_some() => attribute.g = None,
            _ => {
                if let Some(value) = &mut attribute.i {
                    *value = self.number();
                }
                if let Some(value) = &mut attribute.f {
                    *value = self.float();
                }
                if let Some(value) = &mut attribute.s {
                    *value = Bytes::from_static(b"ij,jk->");
                }
                let count = attribute.ints.len();
                let at = self.below(count);
                if let Some(value) = attribute.ints.get_mut(at) {
                    *value = self.number();
                }
                if let Some(tensor) = &mut attribute.t {
                    self.tensor(tensor);
                }
            }
        }
    }
}

/// Takes an entry away, or puts it (or another one like it) at another place.
fn alter<T: Clone>(list: &mut Vec<T>, at: usize, to: usize, double: bool) {
    let entry = if double {
        list.get(at).cloned()
    } else {
        Some(list.remove(at))
    };
    if let (Some(entry), true) = (entry, double || to.is_multiple_of(2)) {
        list.insert(to.min(list.len()), entry);
    }
}
