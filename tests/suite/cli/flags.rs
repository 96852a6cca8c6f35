//! Values of flags and options: lists, numbers below zero, and what is said of those that cannot be.

use super::{Bench, Called, call_words};

/// The error of a call with its lines put together: long ones are broken.
fn said(called: &Called) -> String {
    let words = called.stderr.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.model(
        "cell",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] r) {
           [one] h = Relu(x) [two] c = Neg(x) s = Add(h, c) r = Sigmoid(s)
         }",
    );
    bench.model(
        "product",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 3] x) => (float[batch, 2] y)
         <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { [first] y = MatMul(x, w) }",
    );
    bench
}

#[test]
fn a_file_that_is_there_is_never_advised_as_an_output() {
    let bench = bench();
    let called = bench.call("quantize-weights --symmetric false product.onnx -o out.onnx");
    assert_eq!(called.code, 2);
    assert!(said(&called).contains("--symmetric=false"), "{}", called.stderr);
    assert!(!said(&called).contains("-o product.onnx"), "{}", called.stderr);
    let called = bench.call("simplify product.onnx new.onnx");
    assert_eq!(called.code, 2);
    assert!(said(&called).contains("-o new.onnx"), "{}", called.stderr);
}

/// The case `extract_list_error`: several values of a list option.
#[test]
fn a_list_option_takes_its_flag_several_times_or_a_yaml_list() {
    let bench = bench();
    for words in [
        vec!["--inputs", "h", "--inputs", "c"],
        vec!["--inputs", "[\"h\", \"c\"]"],
        vec!["--inputs", "['h', 'c']"],
        vec!["--inputs", "[h, c]"],
        vec!["--set", "inputs=[h, c]"],
    ] {
        let mut all = vec!["extract", "cell.onnx"];
        all.extend(&words);
        all.extend(["--outputs", "r", "-o", "part.onnx", "--force"]);
        let called = call_words(bench.folder(), &all);
        assert_eq!(called.code, 0, "{words:?}\n{}", called.stderr);
        let facts = bench.call("inspect part.onnx --json").json();
        assert_eq!(facts["inputs"][0]["name"], "h", "{words:?}");
        assert_eq!(facts["inputs"][1]["name"], "c", "{words:?}");
    }
    let called = bench.call("extract cell.onnx --inputs h,c --outputs r -o never.onnx");
    assert_eq!(called.code, 2);
    assert!(
        said(&called).contains("h,c") && said(&called).contains("once for each"),
        "{}",
        called.stderr
    );
    let help = bench.call("extract --help").text();
    assert_eq!(help.matches("[may be given several times]").count(), 4, "{help}");
}

#[test]
fn names_that_look_like_numbers_stay_names() {
    let bench = bench();
    bench.model(
        "numbers",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { v7 = Relu(x) y = Neg(v7) }",
    );
    let called = bench.call("extract numbers.onnx --inputs 7 --outputs y -o never.onnx");
    assert_eq!(called.code, 2, "{}", called.stderr);
    assert!(called.stderr.contains("no value \"7\""), "{}", called.stderr);
}

#[test]
fn a_number_below_zero_is_a_value_and_no_flag() {
    let bench = bench();
    std::fs::copy(bench.path("product.onnx"), bench.path("other.onnx")).unwrap();
    for arguments in [
        "transfer merge product.onnx other.onnx --weights -1 --weights 2 -o merged.onnx --allow-unchanged",
        "transfer merge product.onnx other.onnx --weights -1,2 -o merged.onnx --allow-unchanged",
        "transfer merge product.onnx other.onnx --weights [-1,2] -o merged.onnx --allow-unchanged",
    ] {
        let called = bench.call(&format!("{arguments} --force"));
        assert!(
            !called.stderr.contains("unexpected argument"),
            "{arguments}\n{}",
            called.stderr
        );
        assert_eq!(called.code, 0, "{arguments}\n{}", called.stderr);
    }
}

#[test]
fn a_list_of_pairs_takes_one_pair_or_a_list_of_them() {
    let bench = bench();
    for value in ["[\"^far$\", \"near\"]", "[[\"^far$\", \"near\"]]"] {
        let all = [
            "transfer",
            "parameters",
            "product.onnx",
            "product.onnx",
            "--rename",
            value,
            "--print-pipeline",
        ];
        let called = call_words(bench.folder(), &all);
        assert_eq!(called.code, 0, "{value}\n{}", called.stderr);
        let text = called.text();
        assert!(
            text.contains("rename") && text.contains("near"),
            "{value}\n{text}"
        );
    }
}

#[test]
fn option_errors_name_the_option_the_value_what_is_allowed_and_an_example() {
    let bench = bench();
    for (arguments, words) in [
        (
            "quantize product.onnx --set calibrate=percentile",
            vec!["calibrate", "percentile", "min-max", "{percentile: "],
        ),
        (
            "quantize product.onnx --calibrate min-mx",
            vec!["calibrate", "min-mx", "did you mean `min-max`?"],
        ),
        (
            "quantize product.onnx --set calibrate={percentile: lots}",
            vec!["calibrate.percentile", "lots", "a number"],
        ),
        (
            "prune weights product.onnx --sparsity lots",
            vec!["sparsity", "lots", "a number", "for example"],
        ),
        (
            "quantize product.onnx --set scheme=int9",
            vec!["scheme", "int9", "int8", "did you mean"],
        ),
        (
            "quantize product.onnx --set exclude=3",
            vec!["exclude", "3", "a list, each a text"],
        ),
        (
            "quantize product.onnx --set layers=[{mtch: a}]",
            vec!["layers[0].mtch", "did you mean `match`?"],
        ),
        (
            "quantize product.onnx --set layers=[{}]",
            vec!["layers[0]", "`match` is missing"],
        ),
        (
            "bind product.onnx --set sizes={batch: true}",
            vec!["sizes.batch", "true", "a whole number"],
        ),
        (
            "simplify product.onnx --jobs x",
            vec!["jobs", "x", "whole number"],
        ),
        (
            "evaluate product.onnx --data a --threshold x",
            vec!["threshold", "x", "it takes a number"],
        ),
        (
            "verify product.onnx product.onnx --verify-time soon",
            vec!["verify-time", "soon", "number of seconds"],
        ),
    ] {
        let words_of_call: Vec<&str> = match arguments.split_once(" --set ") {
            Some((before, value)) => before.split(' ').chain(["--set", value]).collect(),
            None => arguments.split(' ').collect(),
        };
        let mut all = words_of_call.clone();
        if !arguments.starts_with("verify") && !arguments.starts_with("evaluate") {
            all.extend(["-o", "never.onnx"]);
        }
        let called = call_words(bench.folder(), &all);
        assert_eq!(called.code, 2, "{arguments}\n{}", called.stderr);
        // Long messages are broken into lines.
        let said = said(&called);
        for word in words {
            assert!(
                said.contains(word),
                "{arguments}: no `{word}` in\n{}",
                called.stderr
            );
        }
        for foreign in [
            "variant",
            "untagged",
            "f64",
            "\\u{a}",
            "struct",
            "invalid type",
            "invalid digit",
        ] {
            assert!(
                !said.contains(foreign),
                "{arguments}: `{foreign}` in\n{}",
                called.stderr
            );
        }
        assert!(!bench.path("never.onnx").exists());
    }
}

#[test]
fn mistakes_in_pipelines_have_their_place_and_plain_words() {
    let bench = bench();
    for (text, place, words) in [
        (
            "version: 1\nsteps:\n  - simplify\n   - bind: { batch: 1 }\n",
            (4, 10),
            vec![],
        ),
        (
            "version: 1\nsteps:\n  - prune-weights: { sparsity: lots }\n",
            (3, 32),
            vec!["sparsity", "lots", "a number"],
        ),
        (
            "version: 1\nsteps:\n  - quantize:\n      layers:\n        - { match: a }\n        - { mtch: b }\n",
            (6, 13),
            vec!["did you mean `match`?"],
        ),
        (
            "version: 1\nsteps:\n  - quantize: { calibrate: percentile }\n",
            (3, 28),
            vec!["{percentile: "],
        ),
        (
            "version: 1\nsteps:\n  - bind: { batch: true }\n",
            (3, 20),
            vec!["a whole number"],
        ),
        (
            "version: 1\nbind: { batch: true }\nsteps: []\n",
            (2, 16),
            vec!["a whole number"],
        ),
        (
            "version: 1\nsteps: []\ngates:\n  - size: { at-most: much }\n",
            (4, 22),
            vec!["a number"],
        ),
        (
            "version: 1\nsteps: []\ngates:\n  - size: { at-mots: 1 }\n",
            (4, 13),
            vec!["did you mean `at-most`?"],
        ),
        (
            "version: 1\nsteps: []\ngates:\n  - outputs: { verdict: exakt }\n",
            (4, 25),
            vec!["within"],
        ),
        (
            "version: 1\nsteps: []\ngates:\n  - size\n",
            (4, 5),
            vec!["`at-most` is missing"],
        ),
    ] {
        std::fs::write(bench.path("wrong.yaml"), text).unwrap();
        let called = bench.call("run wrong.yaml product.onnx -o never.onnx --json");
        let error = called.json()["error"].clone();
        assert_eq!(called.code, 2, "{text}\n{error}");
        assert_eq!(
            (error["line"].as_u64(), error["column"].as_u64()),
            (Some(place.0), Some(place.1)),
            "{text}\n{error}"
        );
        for word in words {
            assert!(error.to_string().contains(word), "{text}: no `{word}` in {error}");
        }
        for foreign in [
            "variant",
            "untagged",
            "f64",
            "\\u{a}",
            "struct",
            "invalid type",
            "expected",
        ] {
            assert!(
                !error.to_string().contains(foreign),
                "{text}: `{foreign}` in {error}"
            );
        }
    }
}

#[test]
fn selectors_that_name_nothing_are_errors_with_the_nearest_name() {
    let bench = bench();
    let tensor = secateur::ir::Tensor::from_slice::<f32>(&[2, 3], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).unwrap();
    secateur::data::write_npz(&bench.path("x.npz"), [("x", &tensor)]).unwrap();
    for (arguments, words) in [
        (
            "quantize product.onnx --data x.npz --exclude frist",
            vec!["exclude", "frist", "first"],
        ),
        (
            "quantize product.onnx --data x.npz --set layers=[{\"match\":\"frist\",\"type\":\"int8\"}]",
            vec!["layers", "frist", "first"],
        ),
        (
            "quantize-weights product.onnx --exclude nowhere_to_be_seen",
            vec!["exclude", "nowhere_to_be_seen", "for example"],
        ),
        (
            "quantize-dynamic product.onnx --exclude frist",
            vec!["exclude", "frist", "first"],
        ),
        (
            "convert-float product.onnx --exclude frist",
            vec!["exclude", "frist", "first"],
        ),
        (
            "prune weights product.onnx --set keep=[frist]",
            vec!["keep", "frist", "first"],
        ),
        (
            "prune channels product.onnx --set keep=[frist]",
            vec!["keep", "frist", "first"],
        ),
        (
            "search-precision product.onnx --data x.npz --exclude frist",
            vec!["exclude", "frist", "first"],
        ),
        (
            "widen product.onnx --layers frist",
            vec!["layers", "frist", "first"],
        ),
        (
            "deepen product.onnx --layers frist",
            vec!["layers", "frist", "first"],
        ),
        (
            "simplify product.onnx --keep frist",
            vec!["keep", "frist", "first"],
        ),
        (
            "simplify product.onnx --only fold-constnts",
            vec!["fold-constnts", "fold-constants"],
        ),
        (
            "quantize-weights product.onnx --only fold-constants",
            vec!["--only"],
        ),
        ("simplify product.onnx --size bacth=2", vec!["bacth", "batch"]),
        ("simplify product.onnx --bind bacth=2", vec!["bacth", "batch"]),
    ] {
        let called = bench.call(&format!("{arguments} -o never.onnx"));
        assert_eq!(
            called.code,
            2,
            "{arguments}\n{}\n{}",
            called.text(),
            called.stderr
        );
        for word in words {
            assert!(
                said(&called).contains(word),
                "{arguments}: no `{word}` in\n{}",
                called.stderr
            );
        }
        assert!(!bench.path("never.onnx").exists());
    }
    let called = bench.call("verify product.onnx product.onnx --size bacth=2");
    assert_eq!(called.code, 2, "{}", called.stderr);
}
