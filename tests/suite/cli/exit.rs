//! Exit statuses: 0 done, 1 the answer is no, 2 it could not be done.

use secateur::data::write_npz;
use secateur::ir::Tensor;

use super::Bench;

#[test]
fn every_verb_ends_with_its_documented_status() {
    let bench = Bench::new();
    for (arguments, code) in [
        ("run clean.yaml dead.onnx -o run.onnx", 0),
        ("run clean.yaml dead.onnx -o run.onnx", 2),
        ("run clean.yaml dead.onnx -o run.onnx --force", 0),
        ("run clean.yaml dead.onnx --check", 1),
        ("run clean.yaml relu.onnx --check", 0),
        ("run clean.yaml dead.onnx --dry-run", 0),
        ("run clean.yaml dead.onnx", 2),
        ("run clean.yaml dead.onnx --print-pipeline", 0),
        ("run clean.yaml --print-pipeline", 0),
        ("run clean.yaml broken.onnx -o never.onnx", 2),
        ("run clean.yaml missing.onnx -o never.onnx", 2),
        ("run missing.yaml relu.onnx -o never.onnx", 2),
        ("run no-such-preset relu.onnx -o never.onnx", 2),
        ("eliminate-dead-code dead.onnx -o step.onnx", 0),
        ("eliminate-dead-code dead.onnx -o step2.onnx --verify", 0),
        ("eliminate-dead-code dead.onnx --check", 1),
        ("eliminate-dead-code dead.onnx -o never.onnx --no-such-flag", 2),
        (
            "eliminate-dead-code dead.onnx -o never.onnx --set keep-function=true",
            2,
        ),
        ("bind relu.onnx --bind batch=2 -o bound.onnx", 0),
        ("bind relu.onnx --bind height=2 -o never.onnx", 2),
        ("verify relu.onnx relu.onnx", 0),
        ("verify relu.onnx dead.onnx", 0),
        ("verify relu.onnx bound.onnx", 0),
        ("verify relu.onnx sigmoid.onnx", 1),
        ("verify relu.onnx scaled.onnx", 1),
        ("verify relu.onnx scaled.onnx --tolerance f32=0.1", 0),
        ("verify unknown.onnx unknown.onnx", 1),
        ("verify unknown.onnx unknown.onnx --allow-not-checked", 0),
        ("verify random.onnx random.onnx", 1),
        ("verify random.onnx random.onnx --allow-not-checked", 0),
        ("verify relu.onnx broken.onnx", 2),
        (
            "gradients relu.onnx --loss mean-squared-error --wrt x -o grad.onnx",
            0,
        ),
        ("gradients relu.onnx --loss cross-entropy --wrt x -o grad.onnx", 2),
        (
            "gradients relu.onnx --loss cross-entropy --wrt x -o grad.onnx --force",
            0,
        ),
        ("gradients relu.onnx --loss mean-squared-error -o never.onnx", 2),
        (
            "gradients unknown.onnx --loss mean-squared-error --wrt x -o never.onnx",
            2,
        ),
        ("gradients relu.onnx --loss no-such-loss -o never.onnx", 2),
        ("schema gradients", 0),
        ("inspect relu.onnx", 0),
        ("inspect broken.onnx", 2),
        ("diff relu.onnx relu.onnx", 0),
        ("diff relu.onnx sigmoid.onnx", 1),
        ("diff relu.onnx missing.onnx", 2),
        ("check relu.onnx", 0),
        ("check relu.onnx --deny note", 0),
        ("check dead.onnx", 0),
        ("check dead.onnx --deny warning", 1),
        ("check dead.onnx --deny warning --skip dead-node", 0),
        ("check dead.onnx --deny warning --only unused-input", 0),
        ("check dead.onnx --fix -o checked.onnx --deny note", 0),
        ("check relu.onnx --fix -o never.onnx", 1),
        ("check relu.onnx --fix -o taken.onnx --allow-unchanged", 0),
        ("check dead.onnx --fix", 2),
        ("check dead.onnx -o never.onnx", 2),
        ("check dead.onnx --fix -o relu.onnx", 2),
        ("check dead.onnx --in-place", 2),
        ("check unknown.onnx --target ort", 1),
        ("check relu.onnx --target nothing", 2),
        ("check relu.onnx --only nothing", 2),
        ("check relu.onnx --json --format sarif", 2),
        ("check broken.onnx", 2),
        ("check missing.onnx", 2),
        ("check --list", 0),
        ("check", 2),
        ("print relu.onnx", 0),
        ("print broken.onnx", 2),
        ("explain", 0),
        ("explain fold-constants", 0),
        ("explain fold-constnts", 2),
        ("rules list", 0),
        ("rules test --name no-rule-has-this-name", 0),
        ("bisect dead.onnx --pipeline clean.yaml", 0),
        ("bisect broken.onnx --pipeline clean.yaml", 2),
        ("schema", 0),
        ("schema verify", 0),
        ("schema check", 0),
        ("schema nothing", 2),
        ("completions bash", 0),
        ("completions csh", 2),
        ("man", 0),
        ("man verify", 0),
        ("man nothing", 2),
        ("--version", 0),
        ("--help", 0),
        ("verify --help", 0),
        ("fold-constants --help", 0),
        ("no-such-verb", 2),
        ("", 2),
    ] {
        let called = bench.call(arguments);
        assert_eq!(
            called.code,
            code,
            "{arguments}\n{}\n{}",
            called.text(),
            called.stderr
        );
        assert!(
            !called.stderr.contains("panicked"),
            "{arguments}\n{}",
            called.stderr
        );
    }
    assert!(!bench.path("never.onnx").exists());
}

#[test]
fn errors_go_to_stderr_for_people_and_to_stdout_as_json() {
    let bench = Bench::new();
    let people = bench.call("run clean.yaml missing.onnx -o out.onnx");
    assert!(people.stdout.is_empty(), "{}", people.text());
    assert!(
        people.stderr.contains("read-failed") && people.stderr.contains("missing.onnx"),
        "{}",
        people.stderr
    );
    for (arguments, code) in [
        ("inspect missing.onnx", "read-failed"),
        (
            "gradients unknown.onnx --loss mean-squared-error --wrt x -o out.onnx",
            "autodiff-operator",
        ),
        ("run clean.yaml relu.onnx -o relu.onnx", "output-is-input"),
        ("run clean.yaml relu.onnx -o dead.onnx", "output-exists"),
        ("run clean.yaml relu.onnx", "usage"),
        ("run clean.yaml relu.onnx -o - ", "usage"),
        ("run nothing relu.onnx -o out.onnx", "unknown-preset"),
        (
            "eliminate-dead-code relu.onnx -o out.onnx --keep (",
            "keep-pattern",
        ),
        (
            "eliminate-dead-code relu.onnx -o out.onnx --set keep-function=true",
            "unknown-option",
        ),
        (
            "eliminate-dead-code relu.onnx -o out.onnx --set keep-functions=7",
            "option-value",
        ),
        ("bind relu.onnx --bind height=2 -o out.onnx", "pass-option"),
        ("verify relu.onnx relu.onnx --data missing.npz", "data-read"),
        ("inspect", "usage"),
        ("verify relu.onnx relu.onnx --tolerance float=-1", "usage"),
    ] {
        let called = bench.call(&format!("{arguments} --json"));
        assert_eq!(
            (called.code, called.error_code().as_str()),
            (2, code),
            "{arguments}\n{}",
            called.text()
        );
        let error = &called.json()["error"];
        for field in ["code", "message", "file", "node", "value"] {
            assert!(error.get(field).is_some(), "{arguments}: no {field} in {error}");
        }
    }
}

#[test]
fn a_mistake_in_a_pipeline_is_shown_with_its_line_and_the_nearest_name() {
    let bench = Bench::new();
    std::fs::write(
        bench.path("slip.yaml"),
        "version: 1\nsteps:\n  - eliminate-ded-code\n",
    )
    .unwrap();
    let people = bench.call("run slip.yaml relu.onnx -o out.onnx");
    assert_eq!(people.code, 2);
    for part in [
        "slip.yaml:3:5",
        "unknown-pass",
        "did you mean `eliminate-dead-code`?",
        "- eliminate-ded-code",
    ] {
        assert!(people.stderr.contains(part), "no {part} in\n{}", people.stderr);
    }
    let error = bench.call("run slip.yaml relu.onnx -o out.onnx --json").json()["error"].clone();
    assert_eq!(
        (error["line"].as_u64(), error["column"].as_u64()),
        (Some(3), Some(5)),
        "{error}"
    );
}

#[test]
fn an_operator_without_a_gradient_is_named_with_its_node_and_nothing_is_written() {
    let bench = Bench::new();
    let header = "<ir_version: 8, opset_import: [\"\" : 17, \"acme\" : 1]>";
    for (name, nodes, node, operator) in [
        (
            "hidden",
            "[spell] a = acme.Magic(h) y = Relu(a)",
            "spell",
            "Magic",
        ),
        (
            "spectrum",
            "[invert] a = Inverse(h) y = Relu(a)",
            "invert",
            "Inverse",
        ),
    ] {
        let text = format!(
            "{header} g (float[batch, 3] x) => (float[batch, 3] y) <float[3, 3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}> {{ h = MatMul(x, w) {nodes} }}"
        );
        bench.model(name, &text);
        let called = bench.call(&format!(
            "gradients {name}.onnx --loss mean-squared-error -o never.onnx"
        ));
        assert_eq!(called.code, 2, "{}", called.stderr);
        for word in [node, operator] {
            assert!(called.stderr.contains(word), "{word}: {}", called.stderr);
        }
        assert!(!bench.path("never.onnx").exists());
    }
}

/// A product of `x: float[batch, 3]`, and data that do not fit it.
#[test]
fn calibration_data_that_do_not_fit_leave_no_file_and_say_what_is_wrong() {
    let bench = Bench::new();
    bench.model(
        "product",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 3] x) => (float[batch, 2] y)
         <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }",
    );
    let floats = |dims: &[u64], values: &[f32]| Tensor::from_slice::<f32>(dims, values).unwrap();
    let arrays = [
        ("shape", "x", floats(&[2, 4], &[0.5; 8])),
        ("name", "z", floats(&[2, 3], &[0.5; 6])),
        ("nan", "x", floats(&[2, 3], &[0.1, 0.2, 0.3, f32::NAN, 0.5, 0.6])),
        ("empty", "x", floats(&[0, 3], &[])),
        ("good", "x", floats(&[2, 3], &[0.1, -0.2, 0.3, 0.4, 0.5, -0.6])),
    ];
    for (file, array, tensor) in &arrays {
        write_npz(&bench.path(&format!("{file}.npz")), [(*array, tensor)]).unwrap();
    }
    std::fs::write(bench.path("torn.npz"), b"PK").unwrap();
    // One array for one input is taken whatever its name is.
    for (file, words) in [
        (
            "shape",
            vec!["shape.npz", "x has shape [2, 4]", "takes [batch, 3]"],
        ),
        ("nan", vec!["nan.npz", "sample 1", "NaN"]),
        ("empty", vec!["empty.npz"]),
        ("torn", vec!["torn.npz"]),
        ("missing", vec!["missing.npz"]),
    ] {
        let call = format!("quantize product.onnx -o out.onnx --data {file}.npz --profile generic --json");
        let called = bench.call(&call);
        assert_eq!(called.code, 2, "{file}: {}", called.text());
        assert!(!bench.path("out.onnx").exists(), "{file}");
        let message = called.json()["error"].to_string();
        for word in words {
            assert!(message.contains(word), "{file}: {message}");
        }
    }
    for file in ["good", "name"] {
        let called = bench.call(&format!(
            "quantize product.onnx -o {file}.onnx --data {file}.npz --profile generic --json"
        ));
        assert_eq!(called.code, 0, "{file}: {}", called.text());
        assert!(bench.path(&format!("{file}.onnx")).exists());
    }
}

#[test]
fn a_pattern_that_is_none_is_said_in_one_line() {
    let bench = Bench::new();
    for call in [
        "eliminate-dead-code relu.onnx -o out.onnx --keep (",
        "convert-float relu.onnx -o out.onnx --exclude (",
        "prune channels relu.onnx --explain --ratio 0.5 --keep (",
    ] {
        let refused = bench.call(call);
        assert_eq!(refused.code, 2, "{call}");
        let said = &refused.stderr;
        assert!(
            said.contains(r#""(" is not a regular expression: unclosed group"#) && !said.contains("u{a}"),
            "{call}: {said}"
        );
    }
}
