//! Files that ONNX Runtime runs although the specification does not allow them: read with a warning, repaired where they need it, and
//! refused under `--strict`. The cases `layernorm_opset14`, `not_sorted` and `contrib_without_import`, and their kin.

use super::{Bench, Called};

const NORM: &str = "<ir_version: 7, opset_import: [\"\" : 14]> g (float[N, 4] x) => (float[N, 4] y)
    <float[4] g = {1, 2, 3, 4}, float[4] b = {0, 1, 0, 1}>
    { i = Identity (x) y = LayerNormalization <axis = -1, epsilon = 1e-5> (i, g, b) }";
const UNSORTED: &str = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 4] x) => (float[N, 4] y)
    { y = Relu (b) b = Identity (a) a = Neg (x) }";
const CONTRIB: &str = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 4] x) => (float[N, 4] y)
    { a = Identity (x) y = com.microsoft.Gelu (a) }";

#[track_caller]
fn done(called: &Called) {
    assert_eq!(called.code, 0, "{}\n{}", called.text(), called.stderr);
}

/// The operators and domains of a model, in the order of the file.
fn nodes(bench: &Bench, name: &str) -> Vec<String> {
    let message = secateur::format::read_proto(bench.path(name), &secateur::format::ReadOptions::default())
        .unwrap()
        .model;
    message
        .graph
        .unwrap()
        .node
        .into_iter()
        .map(|node| node.op_type.unwrap())
        .collect()
}

#[test]
fn layernorm_opset14_is_carried_through_every_verb_with_a_warning() {
    let bench = Bench::new();
    bench.model("norm", NORM);
    for call in ["inspect norm.onnx", "print norm.onnx", "diff norm.onnx norm.onnx"] {
        let called = bench.call(call);
        done(&called);
        assert!(
            called
                .stderr
                .contains("LayerNormalization does not exist in version 14"),
            "{call}: {}",
            called.stderr
        );
    }
    let inspected = bench.call("inspect norm.onnx --json --values");
    let document = inspected.json();
    assert!(
        document["warnings"][0]
            .as_str()
            .unwrap()
            .contains("LayerNormalization")
    );
    // What ONNX Runtime has under this name keeps the shape.
    let y = document["values"]
        .as_array()
        .unwrap()
        .iter()
        .find(|value| value["name"] == "y")
        .unwrap();
    assert_eq!(y["shape"], serde_json::json!(["N", 4]));

    let simplified = bench.call("simplify norm.onnx -o out.onnx --verify --json");
    done(&simplified);
    assert_eq!(nodes(&bench, "out.onnx"), ["LayerNormalization"]);
    assert_eq!(simplified.json()["verdict"], "equal", "{}", simplified.text());
    assert!(
        simplified.json()["warnings"]
            .to_string()
            .contains("LayerNormalization")
    );

    for call in [
        "inspect norm.onnx",
        "simplify norm.onnx -o strict.onnx",
        "verify norm.onnx norm.onnx",
    ] {
        let refused = bench.call(&format!("{call} --strict --json"));
        assert_eq!(
            (refused.code, refused.error_code().as_str()),
            (2, "unknown-operator"),
            "{call}"
        );
        assert_eq!(refused.json()["error"]["node"], "y");
    }
    assert!(!bench.path("strict.onnx").exists());
}

#[test]
fn layernorm_opset14_becomes_the_operator_of_opset_17() {
    let bench = Bench::new();
    bench.model("norm", NORM);
    done(&bench.call("convert-opset norm.onnx --to 17 -o out.onnx"));
    let read = bench.call("inspect out.onnx --strict --json");
    done(&read);
    assert_eq!(read.json()["opsets"]["ai.onnx"], 17);
}

#[test]
fn operators_of_no_opset_and_withdrawn_ones_are_rewritten_around() {
    let bench = Bench::new();
    let plugin = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 4] x) => (float[N, 4] y)
        { i = Identity (x) a = EfficientNMS_TRT <score = 0.25> (i) y = Relu (a) unused = EfficientNMS_TRT (x) }";
    let group = "<ir_version: 8, opset_import: [\"\" : 18]> g (float[1, 4, 5] x) => (float[1, 4, 5] y)
        <float[2] s = {1, 2}, float[2] b = {0, 1}>
        { i = Identity (x) y = GroupNormalization <num_groups = 2> (i, s, b) }";
    for (name, text, kept, code) in [
        ("plugin", plugin, "EfficientNMS_TRT", "unknown-operator"),
        ("group", group, "GroupNormalization", "deprecated-operator"),
    ] {
        bench.model(name, text);
        let called = bench.call(&format!("simplify {name}.onnx -o {name}2.onnx --verify --json"));
        done(&called);
        // No engine that is built in runs it.
        assert_eq!(called.json()["verdict"], "not-checked", "{}", called.text());
        let found = nodes(&bench, &format!("{name}2.onnx"));
        assert!(
            found.iter().any(|op| op == kept) && !found.iter().any(|op| op == "Identity"),
            "{found:?}"
        );
        let strict = bench.call(&format!("inspect {name}.onnx --strict --json"));
        assert_eq!((strict.code, strict.error_code().as_str()), (2, code));
    }
}

#[test]
fn an_operator_that_a_later_opset_has_with_a_meaning_of_its_own_is_taken_for_neither() {
    let bench = Bench::new();
    // A Gelu of opset 13 is not the one of opset 20: no shape, no folding, no rule, no merging.
    let text = "<ir_version: 8, opset_import: [\"\" : 13]> g (float[2, 4] x) => (float y, float z)
        <float[2] c = {1, 2}>
        { y = Gelu (x) z = Gelu (x) w = Gelu (c) }";
    bench.model("gelu", text);
    let shown = bench.call("inspect gelu.onnx --json --values");
    done(&shown);
    let values = shown.json()["values"].as_array().unwrap().clone();
    let w = values.iter().find(|value| value["name"] == "w").unwrap();
    assert_eq!(
        (&w["dtype"], &w["shape"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    done(&bench.call("simplify gelu.onnx -o out.onnx"));
    assert!(nodes(&bench, "out.onnx").len() >= 2);
    let converted = bench.call("convert-opset gelu.onnx --to 21 -o newer.onnx --json");
    assert_eq!(
        (converted.code, converted.error_code().as_str()),
        (2, "pass-model"),
        "{}",
        converted.text()
    );
    done(&bench.call("convert-opset gelu.onnx --to 18 -o newer.onnx"));
}

#[test]
fn not_sorted_nodes_are_sorted_with_a_warning() {
    let bench = Bench::new();
    bench.model("unsorted", UNSORTED);
    let body = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N] x, bool c) => (y)
        { y = If (c) <then_branch = t () => (p) { p = Neg (q) q = Relu (late) }, else_branch = e () => (r) { r = Neg (x) }>
          late = Abs (x) }";
    bench.model("body", body);
    let function = "<ir_version: 8, opset_import: [\"\" : 17, \"f\" : 1]> g (float[N] x) => (float[N] y) { y = f.both (x) }
        <domain: \"f\", opset_import: [\"\" : 17]> both (a) => (b) { b = Neg (c) c = Relu (a) }";
    bench.model("function", function);
    for (name, order) in [
        ("unsorted", vec!["Neg", "Relu"]),
        ("body", vec!["Abs", "If"]),
        ("function", vec!["both"]),
    ] {
        let called = bench.call(&format!("simplify {name}.onnx -o {name}2.onnx --verify --json"));
        done(&called);
        assert!(
            called.stderr.contains("not in topological order"),
            "{}",
            called.stderr
        );
        assert_eq!(called.json()["verdict"], "equal", "{}", called.text());
        assert_eq!(nodes(&bench, &format!("{name}2.onnx")), order, "{name}");
        let again = bench.call(&format!("inspect {name}2.onnx --strict"));
        done(&again);
        let strict = bench.call(&format!("inspect {name}.onnx --strict --json"));
        assert_eq!((strict.code, strict.error_code().as_str()), (2, "not-sorted"));
    }
}

#[test]
fn not_sorted_models_are_written_sorted_even_if_nothing_else_changes() {
    let bench = Bench::new();
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N] x) => (float[N] y) { y = Exp (a) a = Neg (x) }";
    bench.model("plain", text);
    assert_eq!(bench.call("eliminate-dead-code plain.onnx --check").code, 1);
    done(&bench.call("eliminate-dead-code plain.onnx -o out.onnx"));
    assert_eq!(nodes(&bench, "out.onnx"), ["Neg", "Exp"]);
    done(&bench.call("eliminate-dead-code plain.onnx --in-place"));
    assert_eq!(nodes(&bench, "plain.onnx"), ["Neg", "Exp"]);
    assert_eq!(bench.call("eliminate-dead-code plain.onnx --check").code, 0);
    let cycle = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N] x) => (float[N] y) { y = Add (x, a) a = Neg (y) }";
    bench.model("cycle", cycle);
    let refused = bench.call("simplify cycle.onnx -o no.onnx --json");
    assert_eq!((refused.code, refused.error_code().as_str()), (2, "cycle"));
}

#[test]
fn contrib_without_import_is_imported() {
    let bench = Bench::new();
    bench.model("contrib", CONTRIB);
    let called = bench.call("simplify contrib.onnx -o out.onnx --json");
    done(&called);
    assert!(
        called.json()["warnings"].to_string().contains("com.microsoft"),
        "{}",
        called.text()
    );
    let document = bench.call("inspect out.onnx --strict --json").json();
    assert_eq!(document["opsets"]["com.microsoft"], 1);
    let strict = bench.call("inspect contrib.onnx --strict --json");
    assert_eq!(
        (strict.code, strict.error_code().as_str()),
        (2, "missing-opset-import")
    );

    // In a function, and ai.onnx.ml in the version whose form is the newest.
    let function = "<ir_version: 8, opset_import: [\"\" : 17, \"f\" : 1]> g (float[N] x) => (float[N] y) { y = f.gelu (x) }
        <domain: \"f\", opset_import: [\"\" : 17]> gelu (a) => (b) { b = com.microsoft.Gelu (a) }";
    bench.model("function", function);
    let called = bench.call("inspect function.onnx --json");
    done(&called);
    assert!(
        called.json()["warnings"].to_string().contains("function gelu"),
        "{}",
        called.text()
    );
    let ml = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 2] x) => (float[N, 2] y)
        { y = ai.onnx.ml.Scaler <offset = [0.0, 0.0], scale = [2.0, 2.0]> (x) }";
    bench.model("ml", ml);
    done(&bench.call("eliminate-dead-code ml.onnx -o ml2.onnx"));
    assert_eq!(
        bench.call("inspect ml2.onnx --strict --json").json()["opsets"]["ai.onnx.ml"],
        1
    );
    // What ONNX's own operators mean depends on the version: that is not guessed.
    let own = "<ir_version: 8, opset_import: [\"com.microsoft\" : 1]> g (float[N] x) => (float[N] y) { y = Relu (x) }";
    bench.model("own", own);
    let refused = bench.call("inspect own.onnx --json");
    assert_eq!(
        (refused.code, refused.error_code().as_str()),
        (2, "missing-opset-import")
    );
}

#[test]
fn an_initializer_that_is_given_twice_alike_is_one() {
    use prost::Message as _;
    let bench = Bench::new();
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { y = Add (x, c) }";
    bench.model("twice", text);
    let mut message = secateur::proto::ModelProto::decode(&*bench.read("twice.onnx")).unwrap();
    let graph = message.graph.as_mut().unwrap();
    let again = graph.initializer[0].clone();
    graph.initializer.push(again);
    std::fs::write(bench.path("twice.onnx"), message.encode_to_vec()).unwrap();
    let called = bench.call("eliminate-dead-code twice.onnx -o once.onnx");
    done(&called);
    assert!(called.stderr.contains("given twice"), "{}", called.stderr);
    done(&bench.call("inspect once.onnx --strict"));
    let strict = bench.call("inspect twice.onnx --strict --json");
    assert_eq!(
        (strict.code, strict.error_code().as_str()),
        (2, "duplicate-value")
    );
    // Other elements under the same name are no repetition.
    message.graph.as_mut().unwrap().initializer[1].float_data.clear();
    message.graph.as_mut().unwrap().initializer[1].raw_data = Some(vec![0u8; 8].into());
    std::fs::write(bench.path("other.onnx"), message.encode_to_vec()).unwrap();
    let refused = bench.call("inspect other.onnx --json");
    assert_eq!(
        (refused.code, refused.error_code().as_str()),
        (2, "duplicate-value")
    );
}

#[test]
fn weights_that_a_caller_may_replace_are_named_with_the_cure() {
    let bench = Bench::new();
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 2] x, float[2] c) => (float[N, 2] y)
        <float[2] c = {0, 0}> { a = Add (x, c) y = Relu (a) }";
    bench.model("overridable", text);
    let plain = bench.call("simplify overridable.onnx -o plain.onnx --json");
    done(&plain);
    assert!(
        plain.json()["warnings"].to_string().contains("--constant-inputs"),
        "{}",
        plain.text()
    );
    // How much stays as it is.
    assert!(
        plain.json()["warnings"]
            .to_string()
            .contains("1 initializer (8 B) is also a graph input (c)"),
        "{}",
        plain.text()
    );
    assert_eq!(nodes(&bench, "plain.onnx"), ["Add", "Relu"]);
    let cured = bench.call("simplify overridable.onnx -o cured.onnx --constant-inputs --verify --json");
    done(&cured);
    assert_eq!(cured.json()["verdict"], "equal", "{}", cured.text());
    assert!(!cured.json()["warnings"].to_string().contains("--constant-inputs"));
    assert_eq!(
        bench.call("inspect cured.onnx --json").json()["inputs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    done(&bench.call("bind-defaults overridable.onnx -o bound.onnx --inputs c"));
    assert_eq!(
        bench.call("inspect bound.onnx --json").json()["inputs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let wrong = bench.call("bind-defaults overridable.onnx -o no.onnx --inputs x --json");
    assert_eq!((wrong.code, wrong.error_code().as_str()), (2, "pass-option"));
}

#[test]
fn a_default_without_elements_has_a_size_of_0() {
    let bench = Bench::new();
    let text = "<ir_version: 6, opset_import: [\"\" : 11]> g (float[1, 1, 2, 2] x, float[0] roi, float[0] open) => (float[1, 1, 4, 4] y)
        <float[0] roi = {}, float[4] s = {1, 1, 2, 2}> { y = Resize (x, roi, s) z = Neg (open) }";
    bench.model("roi", text);
    let inputs = bench.call("inspect roi.onnx --json").json()["inputs"].clone();
    assert_eq!(inputs[1]["shape"], serde_json::json!([0]));
    // Without a default, 0 is how exporters write a size that they do not know.
    assert_eq!(inputs[2]["shape"], serde_json::json!([null]));
}

#[test]
fn sizes_are_said_and_misspelt_ones_refused() {
    let bench = Bench::new();
    let text =
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, height, 4] x) => (float[N, height, 2] y)
        <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = MatMul (x, w) }";
    bench.model("macs", text);
    let shown = bench.call("inspect macs.onnx");
    assert!(
        shown.text().contains("8 (with N=1, height=1; see --size)"),
        "{}",
        shown.text()
    );
    let counted = bench.call("inspect macs.onnx --size height=10 --json").json();
    assert_eq!(counted["macs"], 80);
    assert_eq!(counted["macs_sizes"], serde_json::json!({"N": 1, "height": 10}));
    for whole in ["x=2,10,4", "x:2,10,4", "x=2,10,?"] {
        assert_eq!(
            bench
                .call(&format!("inspect macs.onnx --size {whole} --json"))
                .json()["macs"],
            160,
            "{whole}"
        );
        let bound = bench.call(&format!("bind macs.onnx --bind {whole} -o bound.onnx --force"));
        done(&bound);
        let inputs = bench.call("inspect bound.onnx --json").json()["inputs"].clone();
        assert_eq!(inputs[0]["shape"], serde_json::json!([2, 10, 4]), "{whole}");
    }
    for call in [
        "inspect macs.onnx --size hieght=10",
        "verify macs.onnx macs.onnx --size hieght=10",
        "simplify macs.onnx -o no.onnx --size hieght=10",
        "bind macs.onnx -o no.onnx --bind hieght=10",
        "bind macs.onnx -o no.onnx --bind x=2,10,5",
        "inspect macs.onnx --size x=2,10,5",
        "bind macs.onnx -o no.onnx --bind x=2,10",
        "simplify macs.onnx -o no.onnx --bind x=2,10,4,1",
        "inspect macs.onnx --size x=2,10",
        "bind macs.onnx -o no.onnx --bind z=2,10,4",
    ] {
        let refused = bench.call(&format!("{call} --json"));
        assert_eq!(refused.code, 2, "{call}");
        if call.contains("hieght") {
            assert!(
                refused.text().contains("did you mean height?"),
                "{call}: {}",
                refused.text()
            );
        }
    }
    for (call, said) in [
        (
            "bind macs.onnx -o no.onnx --bind x=2,10",
            "x=2,10 gives 2 sizes, and x has 3 axes: [N, height, 4]",
        ),
        (
            "bind macs.onnx -o no.onnx --bind x=2,10,4,?",
            "x=2,10,4,? gives 4 sizes, and x has 3 axes",
        ),
        (
            "bind macs.onnx -o no.onnx --bind z=2,10",
            "there is no graph input z",
        ),
        (
            "inspect macs.onnx --size x=2,10",
            "x=2,10 gives 2 sizes, and x has 3 axes",
        ),
    ] {
        let refused = bench.call(&format!("{call} --json"));
        assert!(refused.text().contains(said), "{call}: {}", refused.text());
    }
    assert!(!bench.path("no.onnx").exists());
}

#[test]
fn options_that_mean_nothing_and_outputs_by_position_are_refused_with_a_hint() {
    let bench = Bench::new();
    for call in [
        "inspect relu.onnx --in-place",
        "inspect relu.onnx --force",
        "print relu.onnx --max-growth 3",
        "diff relu.onnx relu.onnx --no-verify",
    ] {
        let refused = bench.call(call);
        assert_eq!(refused.code, 2, "{call}");
        assert!(
            refused.stderr.contains("means nothing to"),
            "{call}: {}",
            refused.stderr
        );
    }
    let refused = bench.call("simplify dead.onnx out.onnx");
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("-o out.onnx"), "{}", refused.stderr);
    let pads = |pads: &str| {
        format!(
            "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1, 1, 4, 4] x) => (y) {{ y = MaxPool <kernel_shape = [2, 2], pads = {pads}> (x) }}"
        )
    };
    bench.model("a", &pads("[0, 0, 0, 0]"));
    bench.model("b", &pads("[1, 0, 1, 0]"));
    let found = bench.call("diff a.onnx b.onnx");
    assert_eq!(found.code, 1);
    assert!(
        found.text().contains("pads is [0, 0, 0, 0], then [1, 0, 1, 0]"),
        "{}",
        found.text()
    );
}
