//! Pipelines with variables, includes and families: what is run, what is written and what is said of mistakes.

use super::Bench;

/// A bench with pipelines of which each says a thing in another way.
fn bench() -> Bench {
    let bench = Bench::new();
    for (name, text) in [
        (
            "vars.yaml",
            "vars: { opset: 18, tidy: true }\nsteps:\n- eliminate-dead-code:\n  when: ${tidy}\n- convert-opset: { version: \"${opset}\" }\n",
        ),
        (
            "flat.yaml",
            "steps:\n- eliminate-dead-code\n- convert-opset: { version: 18 }\n",
        ),
        (
            "includes.yaml",
            "include: parts/tidy.yaml\nsteps:\n- include: parts/opset.yaml\n",
        ),
        (
            "family.yaml",
            "matrix:\n  model: [relu.onnx, dead.onnx]\n  opset: [18, 19]\nsteps:\n- eliminate-dead-code\n- convert-opset: { version: \"${opset}\" }\n",
        ),
        (
            "opsets.yaml",
            "matrix: { opset: [18, 19] }\nsteps:\n- convert-opset: { version: \"${opset}\" }\n",
        ),
        (
            "mixed.yaml",
            "matrix: { model: [relu.onnx, broken.onnx, absent.onnx] }\nsteps: [{ convert-opset: { version: 18 } }]\n",
        ),
        (
            "gated.yaml",
            "matrix: { most: [0.01, 9] }\nsteps: [{ convert-opset: { version: 18 } }]\ngates: [{ size: { at-most: \"${most}\" } }]\n",
        ),
    ] {
        std::fs::write(bench.path(name), text).unwrap();
    }
    std::fs::create_dir(bench.path("parts")).unwrap();
    std::fs::write(bench.path("parts/tidy.yaml"), "steps: [eliminate-dead-code]\n").unwrap();
    std::fs::write(
        bench.path("parts/opset.yaml"),
        "vars: { opset: 18 }\nsteps: [{ convert-opset: { version: \"${opset}\" } }]\n",
    )
    .unwrap();
    bench
}

#[test]
fn a_pipeline_with_values_gives_the_bytes_of_the_one_that_is_written_out() {
    let bench = bench();
    assert_eq!(bench.call("run flat.yaml dead.onnx -o flat.onnx").code, 0);
    for (call, same) in [
        ("run vars.yaml dead.onnx", true),
        ("run includes.yaml dead.onnx", true),
        ("run vars.yaml dead.onnx --var opset=18 --var tidy=true", true),
        ("run vars.yaml dead.onnx --var opset=19", false),
        ("run includes.yaml dead.onnx --var opset=19", false),
        ("run vars.yaml dead.onnx --var tidy=false", false),
        ("run flat.yaml dead.onnx --var convert-opset.version=18", true),
        ("run flat.yaml dead.onnx --var 2.version=19", false),
    ] {
        let called = bench.call(&format!("{call} -o out.onnx --force"));
        assert_eq!(called.code, 0, "{call}\n{}", called.stderr);
        assert_eq!(bench.read("out.onnx") == bench.read("flat.onnx"), same, "{call}");
    }
    let shown = bench.call("run vars.yaml --var opset=20 --print-pipeline").text();
    assert!(
        shown.contains("version: 20") && !shown.contains("vars"),
        "{shown}"
    );
    std::fs::write(bench.path("shown.yaml"), &shown).unwrap();
    assert_eq!(bench.call("run shown.yaml --print-pipeline").text(), shown);
}

#[test]
fn mistakes_end_with_2_and_a_place_and_write_nothing() {
    let bench = bench();
    let before = bench.names();
    for (call, code, file, line, hint) in [
        (
            "run vars.yaml dead.onnx --var opst=18",
            "unknown-variable",
            "vars.yaml",
            Some(1),
            "did you mean `opset`?",
        ),
        (
            "run vars.yaml dead.onnx --var opset=x",
            "option-value",
            "vars.yaml",
            Some(5),
            "",
        ),
        (
            "run vars.yaml dead.onnx --var opset=18 --var opset=19",
            "usage",
            "",
            None,
            "",
        ),
        ("run vars.yaml dead.onnx --var opset", "usage", "", None, ""),
        (
            "run vars.yaml dead.onnx --var convert.version=18",
            "unknown-variable",
            "",
            None,
            "write STEP.OPTION",
        ),
        (
            "run vars.yaml dead.onnx --var convert-opset.versin=18",
            "unknown-option",
            "",
            None,
            "did you mean `version`?",
        ),
        (
            "run includes.yaml dead.onnx --var opset=x",
            "option-value",
            "parts/opset.yaml",
            Some(2),
            "",
        ),
        (
            "run family.yaml relu.onnx",
            "usage",
            "",
            None,
            "take one of them away",
        ),
        ("run opsets.yaml", "usage", "", None, ""),
        (
            "run opsets.yaml relu.onnx --var opset=x",
            "option-value",
            "opsets.yaml",
            Some(3),
            "",
        ),
        (
            "run opsets.yaml relu.onnx --var opst=18",
            "unknown-variable",
            "opsets.yaml",
            None,
            "did you mean `opset`?",
        ),
    ] {
        let called = bench.call(&format!("{call} -o out.onnx --json"));
        assert_eq!(called.code, 2, "{call}\n{}", called.text());
        let error = called.json()["error"].clone();
        assert_eq!(error["code"], code, "{call}\n{error}");
        if !file.is_empty() {
            assert_eq!(error["file"], file, "{call}\n{error}");
        }
        if let Some(line) = line {
            assert_eq!(error["line"], line, "{call}\n{error}");
        }
        assert!(
            error["hint"].as_str().unwrap_or_default().contains(hint),
            "{call}\n{error}"
        );
        assert_eq!(bench.names(), before, "{call}");
    }
    // What is included is read, so it is never written.
    let called = bench.call("run includes.yaml dead.onnx -o parts/tidy.yaml --force --json");
    assert_eq!(
        (called.code, called.error_code().as_str()),
        (2, "output-is-input")
    );
}

#[test]
fn a_family_runs_every_combination_and_answers_the_worst_status() {
    let bench = bench();
    std::fs::create_dir(bench.path("out")).unwrap();
    let called =
        bench.call("run family.yaml -o out/${model}-${opset}.onnx --report out/${model}-${opset}.md --json");
    assert_eq!(called.code, 0, "{}\n{}", called.text(), called.stderr);
    let list = called.json();
    let outputs: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["output"].as_str().unwrap())
        .collect();
    assert_eq!(
        outputs,
        [
            "out/relu-18.onnx",
            "out/relu-19.onnx",
            "out/dead-18.onnx",
            "out/dead-19.onnx"
        ]
    );
    assert!(outputs.iter().all(|path| bench.path(path).exists()));
    assert!(bench.path("out/dead-19.md").exists());
    assert_eq!(list[2]["vars"]["opset"], 18);
    assert_eq!(list[2]["report"]["accepted"], true);
    assert_eq!(bench.call("run flat.yaml dead.onnx -o flat.onnx").code, 0);
    assert_eq!(bench.read("out/dead-18.onnx"), bench.read("flat.onnx"));

    let called = bench.call("run mixed.yaml -o out/m-${model}.onnx");
    assert_eq!(called.code, 2, "{}", called.stderr);
    assert!(bench.path("out/m-relu.onnx").exists());
    assert!(
        called.stderr.contains("broken.onnx") && called.stderr.contains("absent.onnx"),
        "{}",
        called.stderr
    );
    let list = bench.call("run mixed.yaml -o out/j-${model}.onnx --json").json();
    assert_eq!(list[2]["error"]["code"], "read-failed", "{list}");

    let called = bench.call("run gated.yaml relu.onnx -o out/g-${most}.onnx");
    assert_eq!(called.code, 1, "{}\n{}", called.text(), called.stderr);
    assert!(bench.path("out/g-9.onnx").exists() && !bench.path("out/g-0.01.onnx").exists());
    assert!(called.text().contains("refused") && called.stderr.contains("gate size is broken"));

    let called = bench.call("run opsets.yaml relu.onnx --dry-run");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert_eq!(bench.call("run opsets.yaml relu.onnx --check").code, 1);
    assert_eq!(
        bench
            .call("run opsets.yaml --print-pipeline")
            .text()
            .matches("---")
            .count(),
        2
    );
    let one = bench.call("run opsets.yaml relu.onnx -o one.onnx --var opset=18");
    assert_eq!(one.code, 0, "{}", one.stderr);
}

#[test]
fn names_of_results_tell_the_members_of_a_family_apart() {
    let bench = bench();
    let before = bench.names();
    for (call, words) in [
        ("run opsets.yaml relu.onnx -o same.onnx", "members 1 and 2"),
        ("run family.yaml -o ${opset}.onnx", "members 1 and 3"),
        ("run opsets.yaml relu.onnx -o ${opst}.onnx", "no variable `opst`"),
        (
            "run opsets.yaml relu.onnx -o ${opset.onnx",
            "no use of a variable",
        ),
        (
            "run opsets.yaml relu.onnx -o ${opset}.onnx --report r.md",
            "members 1 and 2",
        ),
        ("run opsets.yaml relu.onnx -o -", "stdout"),
        ("run opsets.yaml relu.onnx --in-place", "no output"),
        ("run opsets.yaml - -o ${opset}.onnx", "stdin"),
        ("run opsets.yaml relu.onnx", "no output"),
        (
            "run opsets.yaml relu.onnx -o ${opset}.onnx --format junit",
            "text or JSON",
        ),
    ] {
        let called = bench.call(&format!("{call} --force"));
        assert_eq!(called.code, 2, "{call}\n{}", called.text());
        let said = called.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{call}\n{said}");
        assert_eq!(bench.names(), before, "{call}");
    }
}
