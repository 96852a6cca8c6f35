//! Small models that mutations start from: between them they have bodies with captures, functions, quantization, recurrent layers,
//! shape arithmetic, sequences, strings, external data, and what exporters write.

use std::path::Path;

use prost::Message as _;
use secateur::format::text::parse_model;
use secateur::proto::{ModelProto, TensorProto};

/// Each as ONNX text.
const TEXTS: &[&str] = &[
    r#"<ir_version: 8, opset_import: ["" : 17]>
    network (float[N, 1, 6, 6] x) => (float[N, 3] y)
    <float[2, 1, 3, 3] W = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}, float[2] B = {0.5, -0.5}, float[2] s = {1, 2}, float[2] m = {0, 1}, float[2] v = {1, 4},
     float[18, 3] F = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}, float[3] G = {1, 2, 3}> {
      c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1], dilations = [1, 1], group = 1> (x, W, B)
      b = BatchNormalization <epsilon = 0.001> (c, s, B, m, v)
      r = Relu (b)
      p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
      f = Flatten <axis = 1> (p)
      g = Gemm <alpha = 1.0, beta = 1.0, transA = 0, transB = 0> (f, F, G)
      y = Softmax <axis = -1> (g)
    }"#,
    r#"<ir_version: 8, opset_import: ["" : 17]>
    bodies (float[2, 3] x, bool flag) => (float[2, 3] y, float[?, 2, 3] all)
    <int64 n = {3}, bool yes = {1}, float k = {2}> {
      c = If (flag) <then_branch = t () => (float[2, 3] u) { u = Mul (x, k) }, else_branch = e () => (float[2, 3] w) { h = Neg (x) w = Add (h, k) }>
      y, all = Loop (n, yes, c) <body = b (int64 i, bool d, float[2, 3] a) => (bool d2, float[2, 3] a2, float[2, 3] o) {
        d2 = Identity (d)
        a2 = Add (a, x)
        o = Mul (a2, k)
      }>
    }"#,
    r#"<ir_version: 8, opset_import: ["" : 17]>
    scan (float[3] h, float[4, 3] x) => (float[3] s, float[4, 3] all) {
      s, all = Scan <num_scan_inputs = 1, body = b (float[3] a, float[3] e) => (float[3] a2, float[3] o) { a2 = Add (a, e) o = Tanh (a2) }> (h, x)
    }"#,
    r#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    calls (float[N, 4] x) => (float[N, 4] y) <float[4, 4] W = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> {
      a = local.outer <alpha = 0.5> (x, W)
      y = local.inner <alpha = 0.25> (a)
    }
    <domain: "local", opset_import: ["" : 17]>
    inner <alpha> (p) => (q) { q = LeakyRelu <alpha: float = @alpha> (p) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]>
    outer <alpha> (a, w) => (b) { m = MatMul (a, w) b = local.inner <alpha: float = @alpha> (m) }"#,
    r#"<ir_version: 8, opset_import: ["" : 17]>
    shapes (float[N, C, 4] x, float[N, 8] z) => (float[?, ?] y, int64[3] t)
    <int64 zero = {0}, int64[1] minus = {-1}, int64[1] one = {1}, int64[1] ends = {2}, int64[1] axes = {0}> {
      t = Shape (x)
      n = Gather <axis = 0> (t, zero)
      u = Unsqueeze (n, axes)
      s = Concat <axis = 0> (u, minus)
      r = Reshape (x, s)
      l = Slice (t, one, ends, axes, one)
      e = Expand (r, one)
      f = Tile (e, ends)
      g, k = Split <axis = 1> (z)
      j = ReduceSum <keepdims = 1> (g, axes)
      q = Add (k, j)
      o = Transpose <perm = [1, 0]> (q)
      d = Squeeze (l, axes)
      w = Range (zero, d, d)
      v = Cast <to = 1> (w)
      y = MatMul (q, o)
    }"#,
    r#"<ir_version: 8, opset_import: ["" : 17]>
    codes (float[1, 4] x) => (float[1, 3] y)
    <float s = {0.1}, uint8 z = {128}, int8[4, 3] W = {1,-2,3,4,-5,6,7,-8,9,1,-2,3}, float[3] ws = {0.1, 0.2, 0.3}, int8[3] wz = {0, 0, 0}, float[3] B = {1, 2, 3}> {
      q = QuantizeLinear (x, s, z)
      d = DequantizeLinear (q, s, z)
      w = DequantizeLinear <axis = 1> (W, ws, wz)
      m = MatMul (d, w)
      a = Add (m, B)
      y = Clip (a, s)
    }"#,
    r#"<ir_version: 8, opset_import: ["" : 17]>
    recurrent (float[5, N, 2] x) => (float[5, 1, N, 2] y, float[1, N, 2] h)
    <float[1, 8, 2] W = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}, float[1, 8, 2] R = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}, float[1, 16] B = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}> {
      y, h, c = LSTM <hidden_size = 2, direction = "forward"> (x, W, R, B)
    }"#,
    r#"<ir_version: 10, opset_import: ["" : 21]>
    others (float[2, 3] x, string[2] names) => (int64 length, float[2, 3] y, string[2] same)
    <int64 at = {0}, float[3] scale = {1, 1, 1}, float[3] bias = {0, 0, 0}> {
      s = SequenceConstruct (x, x)
      length = SequenceLength (s)
      e = SequenceAt (s, at)
      o = Optional (e)
      g = OptionalGetElement (o)
      n = LayerNormalization <axis = -1, epsilon = 0.00001> (g, scale, bias)
      k = Constant <value_floats = [1.0, 2.0, 3.0]> ()
      f = ConstantOfShape <value = float[1] {2}> (at)
      p = Pow (n, k)
      y = Where (same_as, p, x)
      same_as = Equal (x, x)
      same = Identity (names)
    }"#,
    r#"<ir_version: 8, opset_import: ["" : 17]>
    folds (float[2, 3] x) => (float[2, 3] y)
    <float[2, 3] a = {1, 2, 3, 4, 5, 6}, int64[2] shape = {3, 2}, int64[4] pads = {0, 1, 1, 0}, float fill = {1.5}, int64[2] index = {1, 0}> {
      r = Reshape (a, shape)
      t = Transpose (r)
      p = Pad <mode = "constant"> (a, pads, fill)
      i = Gather <axis = 1> (t, index)
      c = Concat <axis = 1> (i, t)
      e = Exp (a)
      l = Log (e)
      z = ReduceMean <axes = [1], keepdims = 1> (c)
      q = ArgMax <axis = 0> (a)
      b = Einsum <equation = "ij,kj->ik"> (a, a)
      o = TopK <axis = -1> (a, one)
      one = Constant <value_ints = [1]> ()
      d = Resize <mode = "nearest"> (a, , scales)
      scales = Constant <value_floats = [1.0, 2.0]> ()
      u = Add (l, z)
      y = Sub (x, u)
    }"#,
];

/// Fixtures that exporters wrote.
const FILES: &[&str] = &[
    "local_functions.onnx",
    "sk_logreg_pipeline_iris.onnx",
    "digits_mlp.onnx",
    "digits_mlp_dynamo.onnx",
    "digits_cnn_qop_pc_u8u8.onnx",
    "digits_gru.onnx",
    "digits_mlp_external.onnx",
    "chain/pre.onnx",
    "lora/base.onnx",
];

/// Every seed. The order is part of what a seed of [`super::mutate`] means.
pub(super) fn all() -> Vec<ModelProto> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let texts = TEXTS
        .iter()
        .map(|text| parse_model(text).unwrap_or_else(|error| panic!("{error}: {text}")));
    let files = FILES.iter().map(|name| {
        let bytes = std::fs::read(fixtures.join(name)).unwrap();
        ModelProto::decode(bytes::Bytes::from(bytes)).unwrap()
    });
    let mut seeds: Vec<ModelProto> = texts.chain(files).collect();
    if std::env::var_os("SECATEUR_MUTATION_NODES").is_some() {
        seeds.extend(node_tests());
    }
    seeds
}

/// The ONNX node tests, one of each operator's forms: every second one with its inputs as initializers, so that it is folded.
fn node_tests() -> impl Iterator<Item = ModelProto> {
    let read = |path: &Path| std::fs::read(path).map(bytes::Bytes::from);
    crate::corpus::node_tests()
        .into_iter()
        .enumerate()
        .filter_map(move |(at, path)| {
            let bytes = read(&path).ok().filter(|bytes| bytes.len() < 20_000)?;
            let mut model = ModelProto::decode(bytes).unwrap();
            let graph = model.graph.as_mut()?;
            let folder = path.with_file_name("test_data_set_0");
            let inputs = std::mem::take(&mut graph.input);
            for (index, info) in inputs.into_iter().enumerate() {
                let tensor = read(&folder.join(format!("input_{index}.pb")))
                    .ok()
                    .filter(|bytes| at % 2 == 0 && bytes.len() < 20_000)
                    .and_then(|bytes| TensorProto::decode(bytes).ok());
                match tensor {
                    Some(tensor) => graph.initializer.push(TensorProto {
                        name: info.name,
                        ..tensor
                    }),
                    None => graph.input.push(info),
                }
            }
            Some(model)
        })
}
