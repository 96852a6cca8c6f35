//! PyTorch state dicts in exports that renamed, transposed and folded their weights.

use std::collections::BTreeMap;
use std::path::Path;

use secateur::format::{ReadOptions, read};
use secateur::ir::{Model, NodeMeta, Tensor};
use secateur::passes::{MatchBy, PassError, PassReport, TransferParameters};
use secateur::transfer::parameters::{Account, Fate};

use super::parameters::Second;
use super::*;

type Named = Vec<(String, Tensor)>;

/// Tensors of numbers that tell where they come from: the first is `from`, each next one a half more.
fn tensors(list: &[(&str, &[u64], f32)]) -> Named {
    list.iter()
        .map(|(name, dims, from)| {
            let count = dims.iter().product::<u64>();
            let numbers: Vec<f32> = (0..count).map(|at| from + at as f32 * 0.5).collect();
            ((*name).to_owned(), Tensor::from_slice(dims, &numbers).unwrap())
        })
        .collect()
}

fn exact(list: &[(&str, &[u64], &[f32])]) -> Named {
    list.iter()
        .map(|(name, dims, values)| ((*name).to_owned(), Tensor::from_slice(dims, values).unwrap()))
        .collect()
}

fn pass() -> TransferParameters {
    TransferParameters {
        from: "weights.safetensors".into(),
        ..TransferParameters::default()
    }
}

fn load(pass: &TransferParameters, target: &mut Model, tensors: Named) -> Result<PassReport, PassError> {
    let second = Second {
        tensors,
        ..Second::default()
    };
    run_with(pass, target, &Setting::default(), Some(&second))
}

/// Everything is loaded, and nothing stays behind on either side.
fn complete(target: &mut Model, tensors: Named) -> Account {
    let report = load(&pass(), target, tensors).unwrap();
    let [requirement] = report.requirements.as_slice() else {
        panic!("{:?}", report.requirements)
    };
    let account = report.transfer.unwrap();
    assert!(requirement.passed, "{}\n{account:#?}", requirement.message);
    lines(target);
    account
}

/// The message of the requirement that does not hold.
fn incomplete(pass: &TransferParameters, target: &str, tensors: Named) -> String {
    let mut target = model(target);
    let report = load(pass, &mut target, tensors).unwrap();
    let [requirement] = report.requirements.as_slice() else {
        panic!("{:?}", report.requirements)
    };
    assert!(!requirement.passed, "{:#?}", report.transfer);
    requirement.message.clone()
}

/// The numbers that a slot of the node that makes `output` reads.
fn read_by(model: &Model, output: &str, slot: usize) -> Vec<f64> {
    let graph = &model.graph;
    let value = graph.find_value(output).unwrap();
    let constant = graph.input(value.node, slot).unwrap();
    graph.constant(constant).unwrap().to_f64().unwrap()
}

fn near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?}\n{expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
            "{found} is not {expected}"
        );
    }
}

fn file(name: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/state_dict")
        .join(name);
    let mut model = read(&path, &ReadOptions::default()).unwrap().model;
    infer(&mut model);
    model
}

/// The case state_dict: a transposed projection, an LSTM and its gates, tables and a head by name.
#[test]
fn a_state_dict_finds_renamed_and_reordered_weights_by_node_path() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/state_dict");
    let tensors = secateur::data::read_weights(&folder.join("weights.safetensors")).unwrap();
    let mut target = file("target.onnx");
    let account = complete(&mut target, tensors);
    assert!(account.weights.iter().all(|weight| weight.fate != Fate::Left));
    let expected = file("expected.onnx");
    let all = |model: &Model| -> BTreeMap<String, Vec<f64>> {
        let graph = &model.graph;
        let named = graph.initializers().into_iter().map(|(id, constant)| {
            let name = graph.value(ValueId::new(id, 0)).unwrap().name.to_string();
            (name, constant.tensor.as_ref().unwrap().to_f64().unwrap())
        });
        named.collect()
    };
    assert_eq!(all(&target), all(&expected));
}

/// Two layers, both directions; three hidden units' worth of gates are told apart by their numbers.
#[test]
fn gates_of_stacked_and_bidirectional_networks_are_reordered() {
    let text = |lbr: u8| {
        format!(
            r#"<ir_version: 8, opset_import: ["": 17]>
g (float[t,n,2] x) => (float[t,2,n,1] y, float[t,2,n,1] z)
<float[2,3,2] a = {{1,1,1,1,1,1,1,1,1,1,1,1}}, float[2,3,1] b = {{1,1,1,1,1,1}}, float[2,6] c = {{1,1,1,1,1,1,1,1,1,1,1,1}},
 float[2,3,2] d = {{1,1,1,1,1,1,1,1,1,1,1,1}}, float[2,3,1] e = {{1,1,1,1,1,1}}, float[2,6] f = {{1,1,1,1,1,1,1,1,1,1,1,1}},
 int64[3] s = {{0, 0, 2}}> {{
  ["/r/GRU"] y = GRU <hidden_size = 1, direction = "bidirectional", linear_before_reset = {lbr}> (x, a, b, c)
  p = Transpose <perm = [0, 2, 1, 3]> (y)
  q = Reshape (p, s)
  ["/r/GRU_1"] z = GRU <hidden_size = 1, direction = "bidirectional", linear_before_reset = {lbr}> (q, d, e, f)
}}"#
        )
    };
    let mut list: Vec<(String, Vec<u64>, f32)> = Vec::new();
    for level in 0..2 {
        for (at, ending) in ["", "_reverse"].iter().enumerate() {
            let from = (level * 1000 + at * 100) as f32;
            list.push((format!("r.weight_ih_l{level}{ending}"), vec![3, 2], from));
            list.push((format!("r.weight_hh_l{level}{ending}"), vec![3, 1], from + 10.0));
            list.push((format!("r.bias_ih_l{level}{ending}"), vec![3], from + 20.0));
            list.push((format!("r.bias_hh_l{level}{ending}"), vec![3], from + 30.0));
        }
    }
    let named = || {
        let list: Vec<(&str, &[u64], f32)> = list
            .iter()
            .map(|(name, dims, from)| (name.as_str(), dims.as_slice(), *from))
            .collect();
        tensors(&list)
    };
    let mut target = model(&text(1));
    complete(&mut target, named());
    // r, z, n become z, r, h: the second block comes first.
    assert_eq!(
        read_by(&target, "y", 1),
        [
            1.0, 1.5, 0.0, 0.5, 2.0, 2.5, 101.0, 101.5, 100.0, 100.5, 102.0, 102.5
        ]
    );
    assert_eq!(read_by(&target, "y", 2), [10.5, 10.0, 11.0, 110.5, 110.0, 111.0]);
    assert_eq!(
        read_by(&target, "y", 3),
        [
            20.5, 20.0, 21.0, 30.5, 30.0, 31.0, 120.5, 120.0, 121.0, 130.5, 130.0, 131.0
        ]
    );
    assert_eq!(
        read_by(&target, "z", 2),
        [1010.5, 1010.0, 1011.0, 1110.5, 1110.0, 1111.0]
    );
    // PyTorch's reset gate comes behind the product.
    let message = incomplete(&pass(), &text(0), named());
    assert!(message.contains("linear_before_reset"), "{message}");
    // A third layer has no operator.
    let mut more = named();
    for word in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"] {
        for ending in ["", "_reverse"] {
            more.extend(tensors(&[(&format!("r.{word}_l2{ending}"), &[3, 2], 0.0)]));
        }
    }
    let message = incomplete(&pass(), &text(1), more);
    assert!(
        message.contains("3 layers") && message.contains("2 operators"),
        "{message}"
    );
}

const ATTENTION: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[n,2] x) => (float[n,2] y)
<float[2,2] "onnx::MatMul_1" = {1, 0, 0, 1}, float[2] "onnx::Add_2" = {0, 1}, float[2,2] "onnx::MatMul_3" = {2, 0, 0, 2},
 float[2] "onnx::Add_4" = {0, 2}, float[2,2] "onnx::MatMul_5" = {3, 0, 0, 3}, float[2] "onnx::Add_6" = {0, 3},
 float[2,2] "onnx::MatMul_7" = {4, 0, 0, 4}, float[2] "attn.out_proj.bias" = {0, 4}, float s = {0.5}> {
  ["/attn/MatMul"] v = MatMul (x, "onnx::MatMul_5")
  ["/attn/Add"] vb = Add (v, "onnx::Add_6")
  ["/attn/MatMul_1"] k = MatMul (x, "onnx::MatMul_3")
  ["/attn/Add_1"] kb = Add (k, "onnx::Add_4")
  ["/attn/MatMul_2"] q = MatMul (x, "onnx::MatMul_1")
  ["/attn/Add_2"] qb = Add (q, "onnx::Add_2")
  qs = Mul (qb, s)
  kt = Transpose <perm = [1, 0]> (kb)
  a = MatMul (qs, kt)
  p = Softmax <axis = -1> (a)
  o = MatMul (p, vb)
  ["/attn/MatMul_5"] w = MatMul (o, "onnx::MatMul_7")
  ["/attn/Add_3"] y = Add (w, "attn.out_proj.bias")
}"#;

/// The order of the nodes says nothing: what the attention does with a result does.
#[test]
fn a_packed_projection_is_split_into_query_key_and_value_by_the_flow_of_data() {
    let mut target = model(ATTENTION);
    complete(
        &mut target,
        tensors(&[
            ("attn.in_proj_weight", &[6, 2], 0.0),
            ("attn.in_proj_bias", &[6], 100.0),
            ("attn.out_proj.weight", &[2, 2], 50.0),
            ("attn.out_proj.bias", &[2], 60.0),
        ]),
    );
    // Rows 0 and 1, transposed, are the query's.
    assert_eq!(read_by(&target, "q", 1), [0.0, 1.0, 0.5, 1.5]);
    assert_eq!(read_by(&target, "k", 1), [2.0, 3.0, 2.5, 3.5]);
    assert_eq!(read_by(&target, "v", 1), [4.0, 5.0, 4.5, 5.5]);
    assert_eq!(read_by(&target, "qb", 1), [100.0, 100.5]);
    assert_eq!(read_by(&target, "kb", 1), [101.0, 101.5]);
    assert_eq!(read_by(&target, "vb", 1), [102.0, 102.5]);
    assert_eq!(read_by(&target, "w", 1), [50.0, 51.0, 50.5, 51.5]);
}

/// A block whose normalisations come first: bn1 stands in the graph, bn2 is folded into conv1, and conv2 has none.
const BLOCK: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[n,2,h,w] x) => (float[n,2,h,w] y)
<float[2] "b.bn1.weight" = {1, 1}, float[2] "b.bn1.bias" = {0, 0}, float[2] "b.bn1.running_mean" = {0, 0}, float[2] "b.bn1.running_var" = {1, 1},
 float[2,2,1,1] "onnx::Conv_8" = {9, 9, 9, 9}, float[2] "onnx::Conv_9" = {9, 9}, float[2,2,1,1] "b.conv2.weight" = {9, 9, 9, 9}> {
  ["/b/bn1/BatchNormalization"] n = BatchNormalization (x, "b.bn1.weight", "b.bn1.bias", "b.bn1.running_mean", "b.bn1.running_var")
  ["/b/conv1/Conv"] c = Conv (n, "onnx::Conv_8", "onnx::Conv_9")
  r = Relu (c)
  ["/b/conv2/Conv"] y = Conv (r, "b.conv2.weight")
}"#;

fn block() -> Named {
    let mut list = exact(&[
        ("b.bn2.weight", &[2], &[2.0, 3.0]),
        ("b.bn2.bias", &[2], &[0.5, -0.5]),
        ("b.bn2.running_mean", &[2], &[1.0, 2.0]),
        ("b.bn2.running_var", &[2], &[4.0 - 1e-5, 9.0 - 1e-5]),
        ("b.conv1.weight", &[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]),
    ]);
    list.extend(tensors(&[
        ("b.conv2.weight", &[2, 2, 1, 1], 30.0),
        ("b.bn1.weight", &[2], 1.0),
        ("b.bn1.bias", &[2], 2.0),
        ("b.bn1.running_mean", &[2], 3.0),
        ("b.bn1.running_var", &[2], 4.0),
    ]));
    list.push(("b.bn1.num_batches_tracked".to_owned(), Tensor::scalar(7i64)));
    list
}

#[test]
fn a_folded_normalisation_goes_to_the_layer_that_got_a_bias_by_it() {
    let mut target = model(BLOCK);
    let account = complete(&mut target, block());
    // Scale over root of variance is 1 for both channels.
    near(&read_by(&target, "c", 1), &[1.0, 2.0, 3.0, 4.0]);
    near(&read_by(&target, "c", 2), &[-0.5, -2.5]);
    assert_eq!(read_by(&target, "y", 1), [30.0, 30.5, 31.0, 31.5]);
    assert_eq!(read_by(&target, "n", 3), [3.0, 3.5]);
    let folded = account
        .weights
        .iter()
        .find(|weight| weight.name == "onnx::Conv_8")
        .unwrap();
    assert!(
        folded
            .how
            .iter()
            .any(|how| how.contains("b.bn2, epsilon 0.00001")),
        "{folded:?}"
    );
    // Another epsilon is another factor.
    let pass = TransferParameters {
        epsilon: 5.0 + 1e-5,
        ..pass()
    };
    let mut target = model(BLOCK);
    load(&pass, &mut target, block()).unwrap();
    near(&read_by(&target, "c", 1)[..2], &[2.0 / 3.0, 4.0 / 3.0]);
}

#[test]
fn a_normalisation_that_may_belong_to_two_layers_is_refused_by_name_unless_the_user_says_it() {
    let two = BLOCK
        .replace(
            "\"b.conv2.weight\" = {9, 9, 9, 9}>",
            "\"onnx::Conv_10\" = {9, 9, 9, 9}, float[2] \"onnx::Conv_11\" = {9, 9}>",
        )
        .replace(
            "(r, \"b.conv2.weight\")",
            "(r, \"onnx::Conv_10\", \"onnx::Conv_11\")",
        )
        .replace("/b/conv2/Conv", "/b/last/Conv")
        .replace("/b/conv1/Conv", "/b/first/Conv");
    let named = || -> Named {
        let rename = |name: String| name.replace("conv1", "first").replace("conv2", "last");
        let mut list: Named = block()
            .into_iter()
            .map(|(name, tensor)| (rename(name), tensor))
            .collect();
        // The last layer has a bias of its own, the first had none.
        list.extend(tensors(&[("b.last.bias", &[2], 0.0)]));
        list
    };
    // The first is the only one that needs it.
    complete(&mut model(&two), named());
    let both = || -> Named {
        let mut list = named();
        list.extend(tensors(&[("b.first.bias", &[2], 0.0)]));
        list
    };
    let message = incomplete(&pass(), &two, both());
    assert!(
        message.contains("b.bn2") && message.contains("batch-norm"),
        "{message}"
    );
    let given = TransferParameters {
        batch_norm: BTreeMap::from([("b.last".to_owned(), "b.bn2".to_owned())]),
        ..pass()
    };
    let mut target = model(&two);
    let report = load(&given, &mut target, both()).unwrap();
    assert!(
        report.requirements[0].passed,
        "{}",
        report.requirements[0].message
    );
    near(&read_by(&target, "y", 2), &[0.0 - 1.0 + 0.5, 0.5 - 2.0 - 0.5]);
    let wrong = TransferParameters {
        batch_norm: BTreeMap::from([("b.lst".to_owned(), "b.bn2".to_owned())]),
        ..pass()
    };
    let error = load(&wrong, &mut model(&two), both()).unwrap_err().to_string();
    assert!(error.contains("batch-norm") && error.contains("b.lst"), "{error}");
}

/// The dynamo exporter names a folded convolution after the normalisation, and says modules in metadata.
#[test]
fn scopes_in_metadata_say_which_module_a_node_is_of() {
    let text = r#"<ir_version: 10, opset_import: ["": 20]>
g (float[n,2] x) => (float[n,2] y)
<float[2,2] val_3 = {9, 9, 9, 9}, float[2] "fc.bias" = {9, 9}> {
  ["node_MatMul_3"] m = MatMul (x, val_3)
  ["node_linear"] y = Add (m, "fc.bias")
}"#;
    let mut target = model(text);
    let node = target.graph.find_value("m").unwrap().node;
    let entry = |key: &str, value: &str| secateur::proto::StringStringEntryProto {
        key: Some(format!("pkg.torch.onnx.{key}")),
        value: Some(value.to_owned()),
    };
    let meta = NodeMeta {
        metadata: vec![
            entry("name_scopes", "['', 'net', 'net.fc', 'linear']"),
            entry(
                "class_hierarchy",
                "['Net', 'Sub', 'torch.nn.modules.linear.Linear', 'aten.linear.default']",
            ),
        ],
        ..NodeMeta::default()
    };
    target.graph.edit("test").set_node_meta(node, meta).unwrap();
    // The bias says fc, the scope net.fc: the file has the second.
    complete(
        &mut target,
        tensors(&[("net.fc.weight", &[2, 2], 0.0), ("net.fc.bias", &[2], 5.0)]),
    );
    assert_eq!(read_by(&target, "m", 1), [0.0, 1.0, 0.5, 1.5]);
    assert_eq!(read_by(&target, "y", 1), [5.0, 5.5]);
}

/// Exporters store equal weights once, under the name of one of their modules.
#[test]
fn weights_that_the_exporter_stored_once_get_a_tensor_for_each_module() {
    let text = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[n,2] x) => (float[n,2] z)
<float[2] "n1.weight" = {1, 1}, float[2] "n1.bias" = {0, 0}> {
  ["/n1/LayerNormalization"] y = LayerNormalization (x, "n1.weight", "n1.bias")
  w = Identity ("n1.weight")
  ["/n2/LayerNormalization"] z = LayerNormalization (y, w, "n1.bias")
}"#;
    let mut target = model(text);
    complete(
        &mut target,
        tensors(&[
            ("n1.weight", &[2], 10.0),
            ("n1.bias", &[2], 20.0),
            ("n2.gamma", &[2], 30.0),
            ("n2.beta", &[2], 40.0),
        ]),
    );
    assert_eq!(read_by(&target, "y", 1), [10.0, 10.5]);
    assert_eq!(read_by(&target, "z", 1), [30.0, 30.5]);
    assert_eq!(read_by(&target, "z", 2), [40.0, 40.5]);
}

/// A head that is the table of the words, transposed; the file has the parameter once.
#[test]
fn tied_weights_are_found_by_the_numbers_that_the_target_has() {
    let text = r#"<ir_version: 8, opset_import: ["": 17]>
g (int64[n] i) => (float[n,5] y)
<float[5,3] "wte.weight" = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
 float[3,5] "onnx::MatMul_9" = {1, 4, 7, 10, 13, 2, 5, 8, 11, 14, 3, 6, 9, 12, 15}> {
  ["/wte/Gather"] e = Gather ("wte.weight", i)
  ["/lm_head/MatMul"] y = MatMul (e, "onnx::MatMul_9")
}"#;
    let mut target = model(text);
    complete(&mut target, tensors(&[("wte.weight", &[5, 3], 0.0)]));
    assert_eq!(read_by(&target, "y", 1)[..5], [0.0, 1.5, 3.0, 4.5, 6.0]);
    // With both in the file, each gets its own, and equal ones are no leftover.
    let both = tensors(&[("wte.weight", &[5, 3], 0.0), ("lm_head.weight", &[5, 3], 100.0)]);
    let mut target = model(text);
    complete(&mut target, both);
    assert_eq!(read_by(&target, "y", 1)[..2], [100.0, 101.5]);
}

const LINEAR: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[n,2] x) => (float[n,3] y)
<float[2,3] "onnx::MatMul_3" = {9, 9, 9, 9, 9, 9}, float[3] "fc.bias" = {9, 9, 9}> {
  ["/fc/MatMul"] m = MatMul (x, "onnx::MatMul_3")
  ["/fc/Add"] y = Add (m, "fc.bias")
}"#;

#[test]
fn what_stays_behind_on_either_side_is_named_unless_partial_accepts_it() {
    let whole = || tensors(&[("fc.weight", &[3, 2], 0.0), ("fc.bias", &[3], 5.0)]);
    complete(&mut model(LINEAR), whole());
    let mut prefixed: Named = Vec::new();
    for (name, tensor) in whole() {
        prefixed.push((format!("model.{name}"), tensor));
    }
    prefixed.push(("model.fc.num_batches_tracked".to_owned(), Tensor::scalar(1i64)));
    prefixed.push(("model.position_ids".to_owned(), Tensor::vector_i64(&[0, 1])));
    complete(&mut model(LINEAR), prefixed);
    let mut more = whole();
    more.extend(tensors(&[("other.weight", &[2, 2], 0.0)]));
    let message = incomplete(&pass(), LINEAR, more.clone());
    assert!(
        message.contains("other.weight") && message.contains("partial"),
        "{message}"
    );
    let half = tensors(&[("fc.bias", &[3], 5.0)]);
    let message = incomplete(&pass(), LINEAR, half.clone());
    assert!(
        message.contains("onnx::MatMul_3") && message.contains("fc.bias"),
        "{message}"
    );
    let partial = TransferParameters {
        partial: true,
        ..pass()
    };
    let mut target = model(LINEAR);
    let report = load(&partial, &mut target, more).unwrap();
    assert!(report.requirements.is_empty() && report.changed);
    let mut target = model(LINEAR);
    let report = load(&partial, &mut target, half).unwrap();
    assert!(!report.changed, "a bias without its weight is not loaded");
}

#[test]
fn numbers_that_are_none_are_an_error_with_the_name_of_the_tensor() {
    for value in [f32::NAN, f32::INFINITY] {
        let list = exact(&[
            ("fc.weight", &[3, 2], &[1.0, 2.0, value, 4.0, 5.0, 6.0]),
            ("fc.bias", &[3], &[1.0, 2.0, 3.0]),
        ]);
        let error = load(&pass(), &mut model(LINEAR), list).unwrap_err().to_string();
        assert!(
            error.contains("weights.safetensors")
                && error.contains("\"fc.weight\"")
                && error.contains("element 2"),
            "{error}"
        );
    }
    // A model as the source, too.
    let mut source = model(LINEAR);
    let bias = source.graph.find_value("fc.bias").unwrap().node;
    let broken = Tensor::from_slice(&[3], &[9.0, f32::NAN, 9.0]).unwrap();
    source.graph.edit("test").set_constant(bias, broken).unwrap();
    let second = Second {
        model: Some(source),
        ..Second::default()
    };
    let from_model = TransferParameters {
        from: "source.onnx".into(),
        ..TransferParameters::default()
    };
    let error = run_with(
        &from_model,
        &mut model(LINEAR),
        &Setting::default(),
        Some(&second),
    )
    .unwrap_err();
    assert!(error.to_string().contains("fc.bias"), "{error}");
}

/// Newcomer: a pruned target without the history, and a network of another kind.
#[test]
fn a_source_of_another_width_or_kind_is_no_success() {
    let narrow = LINEAR
        .replace("float[2,3]", "float[2,2]")
        .replace("{9, 9, 9, 9, 9, 9}", "{9, 9, 9, 9}")
        .replace("float[3]", "float[2]")
        .replace("{9, 9, 9}", "{9, 9}")
        .replace("float[n,3] y", "float[n,2] y");
    let run = |source: &str| {
        let second = Second {
            model: Some(model(source)),
            ..Second::default()
        };
        let pass = TransferParameters {
            from: "source.onnx".into(),
            ..TransferParameters::default()
        };
        let mut target = model(&narrow);
        run_with(&pass, &mut target, &Setting::default(), Some(&second)).unwrap()
    };
    let report = run(LINEAR);
    assert!(
        !report.requirements[0].passed && report.requirements[0].message.contains("pruned"),
        "{report:?}"
    );
    let other = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[n,1,4,4] x) => (float[n,2,4,4] y) <float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}> { y = Conv <pads = [1,1,1,1]> (x, w) }"#;
    let report = run(other);
    assert!(!report.changed && !report.requirements[0].passed);
    assert!(
        !report.requirements[0].message.contains("history"),
        "{}",
        report.requirements[0].message
    );
}

#[test]
fn a_rule_that_matches_no_name_is_an_error() {
    let rules = |pattern: &str, matching| TransferParameters {
        rename: vec![(pattern.to_owned(), String::new())],
        matching,
        ..pass()
    };
    let named = || tensors(&[("fc.weight", &[3, 2], 0.0), ("fc.bias", &[3], 5.0)]);
    let error = load(&rules("^fv", MatchBy::Auto), &mut model(LINEAR), named()).unwrap_err();
    assert!(
        error.to_string().contains("\"^fv\"") && error.to_string().contains("fc.weight"),
        "{error}"
    );
    let structure = TransferParameters {
        from: "source.onnx".into(),
        ..rules("^fc", MatchBy::Structure)
    };
    let error = load(&structure, &mut model(LINEAR), named()).unwrap_err();
    assert!(error.to_string().contains("rename"), "{error}");
}
