//! `rename`, `drop-outputs` and `clean-names` as verbs: what is compared, what is refused, what is written.

use super::{Bench, call_words};

fn bench() -> Bench {
    let bench = Bench::new();
    bench.model(
        "two",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2, 3] u, float[2, 3] v) => (float[2, 3] y) { y = Sub(u, v) }",
    );
    bench.model(
        "heads",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 3] x) => (float[batch, 3] y, float[batch, 3] aux)
         { y = Relu(x) t = Exp(x) aux = Neg(t) }",
    );
    bench
}

#[test]
fn a_renamed_model_is_compared_with_the_input_under_its_new_names() {
    let bench = bench();
    for (words, inputs, outputs) in [
        (
            "rename chain.onnx --inputs x=image --outputs y=scores --values a=negated",
            &["image"][..],
            &["scores"][..],
        ),
        (
            "rename two.onnx --inputs u=v --inputs v=u",
            &["v", "u"][..],
            &["y"][..],
        ),
        (
            "rename heads.onnx --outputs y=aux --outputs aux=y",
            &["x"][..],
            &["aux", "y"][..],
        ),
    ] {
        let called = bench.call(&format!("{words} -o out.onnx --force --json"));
        assert_eq!(called.code, 0, "{words}\n{}", called.stderr);
        let document = called.json();
        assert_eq!(document["verdict"], "equal", "{words}\n{document}");
        let facts = bench.call("inspect out.onnx --json").json();
        for (index, name) in inputs.iter().enumerate() {
            assert_eq!(facts["inputs"][index]["name"], *name, "{words}");
        }
        for (index, name) in outputs.iter().enumerate() {
            assert_eq!(facts["outputs"][index]["name"], *name, "{words}");
        }
    }
    let swapped = bench.call("rename two.onnx --inputs u=v --inputs v=u -o out.onnx --force");
    assert_eq!(swapped.code, 0, "{}", swapped.stderr);
    // Judged by names alone, the swapped model computes something else.
    assert_eq!(bench.call("verify two.onnx out.onnx").code, 1);
    assert_eq!(bench.call("verify two.onnx out.onnx --map u=v --map v=u").code, 0);
}

#[test]
fn steps_before_and_after_a_change_of_names_are_compared_too() {
    let bench = bench();
    std::fs::write(
        bench.path("names.yaml"),
        "version: 1\nsteps:\n  - drop-outputs: { outputs: [aux] }\n  - rename: { inputs: { x: t }, outputs: { \"y\": scores } }\n  \
         - clean-names\n  - simplify\n",
    )
    .unwrap();
    let called = bench.call("run names.yaml heads.onnx -o out.onnx --json");
    assert_eq!(called.code, 0, "{}", called.stderr);
    let document = called.json();
    assert_eq!(document["verdict"], "equal", "{document}");
    assert_eq!(document["after"]["nodes"], 1, "{document}");
    assert_eq!(document["steps"][0]["changes"][0]["rule"], "output", "{document}");
    let facts = bench.call("inspect out.onnx --json").json();
    assert_eq!(facts["inputs"][0]["name"], "t");
    assert_eq!(facts["outputs"][0]["name"], "scores");
    assert_eq!(facts["outputs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn wrong_names_are_refused_and_nothing_is_written() {
    let bench = bench();
    for words in [
        "rename chain.onnx --inputs z=image",
        "rename chain.onnx --inputs x=a",
        "rename chain.onnx --values a=same --values b=same",
        "rename chain.onnx",
        "drop-outputs heads.onnx --outputs nothing",
        "drop-outputs heads.onnx --outputs y --outputs aux",
        "drop-outputs heads.onnx",
    ] {
        let called = bench.call(&format!("{words} -o never.onnx --json"));
        assert_eq!(called.code, 2, "{words}\n{}", called.stderr);
        assert_eq!(called.error_code(), "pass-option", "{words}");
        assert!(!bench.path("never.onnx").exists(), "{words}");
    }
}

#[test]
fn patterns_and_clean_names_work_from_the_command_line() {
    let bench = bench();
    let words = ["rename", "chain.onnx", "--values", "^(.)$=m_$1", "-o", "out.onnx"];
    let called = call_words(bench.folder(), &words);
    assert_eq!(called.code, 0, "{}", called.stderr);
    let text = bench.call("print out.onnx").text();
    assert!(text.contains("m_a = Neg") && text.contains("m_b = Abs"), "{text}");
    let called = bench.call("clean-names out.onnx -o clean.onnx --json");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert_eq!(called.json()["verdict"], "equal");
    let again = bench.call("clean-names clean.onnx -o again.onnx");
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(bench.read("again.onnx"), bench.read("clean.onnx"));
}
