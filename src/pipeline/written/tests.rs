use serde_json::json;

use super::*;

fn values(given: Value) -> Given {
    Given {
        values: given.as_object().unwrap().clone().into_iter().collect(),
        beside: Values::new(),
    }
}

fn resolved(text: &str, given: Value) -> Result<Pipeline, ConfigError> {
    Written::parse("test.yaml", text, Path::new(""))?.alone(&values(given))
}

fn steps(text: &str, given: Value) -> Vec<String> {
    let pipeline = resolved(text, given).unwrap_or_else(|error| panic!("{text}: {error}"));
    let name = |step: &super::super::definition::Step| {
        format!("{}{}", step.name, Value::Object(step.options.clone()))
    };
    pipeline.steps.iter().map(name).collect()
}

#[test]
fn a_text_that_is_one_variable_has_its_value_and_type() {
    let text = "vars: { share: 0.7, round: 8, kind: taylor }\nsteps:\n- prune-channels: { target-macs: \"${share}\", round-to: \"${round}\", criterion: \"${kind}\" }\n";
    assert_eq!(
        steps(text, json!({ "share": 0.5 })),
        [r#"prune-channels{"target-macs":0.5,"round-to":8,"criterion":"taylor"}"#]
    );
    let text = "vars: { folder: w, part: 2 }\nkeep: [\"^${folder}/$${x}\", \"end$\"]\nsteps: []\n";
    assert!(resolved(&text.replace(", part: 2", ""), json!({})).unwrap().keep == ["^w/${x}", "end$"]);
}

#[test]
fn a_step_is_left_out_by_when_and_by_a_variable_that_is_off() {
    let text = "vars: { on: true, type: int8, more: null }\nsteps:\n- simplify:\n  when: ${on}\n- quantize:\n  when: { type: int8 }\n- convert-float: { to: float16 }\n  when: { type: [float16, half], on: true }\n- ${more}\n";
    let names = |given: Value| -> Vec<String> {
        let pipeline = resolved(text, given).unwrap();
        pipeline.steps.iter().map(|step| step.name.clone()).collect()
    };
    assert_eq!(names(json!({ "more": null })), ["simplify", "quantize"]);
    assert_eq!(names(json!({ "more": null, "on": false })), ["quantize"]);
    assert_eq!(
        names(json!({ "more": "equalize", "type": "half" })),
        ["simplify", "convert-float", "equalize"]
    );
    let several = json!({ "more": ["equalize", { "fold-constants": {} }], "on": 0, "type": "none" });
    assert_eq!(names(several), ["equalize", "fold-constants"]);
    let one = json!({ "more": { "bind": { "batch": 2 } }, "on": 0, "type": "none" });
    assert_eq!(names(one), ["bind"]);
}

/// A text, the values that are given, and the code, the place and the hint of what is wrong.
#[allow(clippy::type_complexity)] // A table.
const MISTAKES: [(&str, &str, (&str, u64, u64, &str)); 24] = [
    (
        "vars: { a: 1 }\nsteps: []\n",
        r#"{}"#,
        ("unused-variable", 1, 9, "write ${a} where"),
    ),
    (
        "vars: { macs: 1 }\nkeep: \"${mcs}${macs}\"\nsteps: []\n",
        r#"{}"#,
        ("unknown-variable", 2, 7, "did you mean `macs`?"),
    ),
    (
        "keep: \"${x}\"\nsteps: []\n",
        r#"{}"#,
        ("unknown-variable", 1, 7, "declared under `vars`"),
    ),
    (
        "vars: { macs: 1 }\nkeep: \"${macs}\"\nsteps: []\n",
        r#"{ "mac": 1 }"#,
        ("unknown-variable", 1, 1, "did you mean `macs`?"),
    ),
    (
        "vars: { a: null }\nkeep: \"${a}\"\nsteps: []\n",
        r#"{}"#,
        ("variable-unset", 2, 7, "--var a=VALUE"),
    ),
    (
        "vars: { a: [1] }\nkeep: \"x${a}\"\nsteps: []\n",
        r#"{}"#,
        ("variable-value", 2, 7, "a text, a number"),
    ),
    (
        "vars: { a: 1, b: \"${a}\" }\nkeep: \"${b}\"\nsteps: []\n",
        r#"{}"#,
        ("variable-value", 1, 18, "of its own"),
    ),
    (
        "vars: { \"a b\": 1 }\nsteps: []\n",
        r#"{}"#,
        ("variable-syntax", 1, 9, "letters"),
    ),
    ("vars: [a]\nsteps: []\n", r#"{}"#, ("pipeline-shape", 1, 7, "")),
    (
        "keep: \"${a b}\"\nsteps: []\n",
        r#"{}"#,
        ("variable-syntax", 1, 7, "$${ for ${"),
    ),
    (
        "vars: { r: x }\nsteps:\n- prune-channels: { ratio: \"${r}\" }\n",
        r#"{}"#,
        ("option-value", 3, 28, ""),
    ),
    (
        "vars: { w: no }\nsteps:\n- simplify:\n  when: ${w}\n",
        r#"{}"#,
        ("pipeline-shape", 4, 9, "true or false"),
    ),
    (
        "vars: { w: false }\nsteps:\n- simplfy:\n  when: ${w}\n",
        r#"{}"#,
        ("unknown-pass", 3, 3, "did you mean `simplify`?"),
    ),
    (
        "vars: { w: false }\nsteps:\n- quantize: { calibarte: x }\n  when: ${w}\n",
        r#"{}"#,
        ("unknown-option", 3, 15, "did you mean `calibrate`?"),
    ),
    (
        "steps:\n- simplify:\n  when: { w: 1 }\n",
        r#"{}"#,
        ("unknown-variable", 3, 11, "declared"),
    ),
    (
        "steps:\n- when: true\n",
        r#"{}"#,
        ("pipeline-shape", 2, 3, "own list item"),
    ),
    (
        "vars: { s: simplfy }\nsteps: [\"${s}\"]\n",
        r#"{}"#,
        ("unknown-pass", 2, 9, "did you mean `simplify`?"),
    ),
    (
        "vars: { s: { include: a.yaml } }\nsteps: [\"${s}\"]\n",
        r#"{}"#,
        ("include", 2, 9, "text of the pipeline"),
    ),
    (
        "matrix: { a: [1] }\nkeep: \"${a}\"\nsteps: []\n",
        r#"{}"#,
        ("pipeline-matrix", 1, 1, "secateur run"),
    ),
    (
        "include: \"${a}.yaml\"\nsteps: []\n",
        r#"{}"#,
        ("include", 1, 10, "when"),
    ),
    (
        "include: { a: b }\nsteps: []\n",
        r#"{}"#,
        ("include", 1, 10, "FILE"),
    ),
    (
        "vars: { r: 1 }\nsteps:\n- prune-channels: { ratio: ${r} }\n",
        r#"{}"#,
        ("yaml-syntax", 3, 29, "in quotes"),
    ),
    (
        "vars: { r: 1 }\nkeep: [${r}]\nsteps: []\n",
        r#"{}"#,
        ("yaml-syntax", 2, 9, "in quotes"),
    ),
    (
        "include: nowhere.yaml\nsteps: []\n",
        r#"{}"#,
        ("include", 1, 10, "folder of the file"),
    ),
];

#[test]
fn mistakes_with_variables_have_a_code_a_place_and_a_hint() {
    for (text, given, expected) in MISTAKES {
        let given = serde_json::from_str(given).unwrap();
        let error = resolved(text, given).map(|_| ()).unwrap_err();
        let hint = error.hint.clone().unwrap_or_default();
        let found = (error.code, error.spot.line, error.spot.column);
        assert_eq!(found, (expected.0, expected.1, expected.2), "{text}: {error}");
        assert!(hint.contains(expected.3), "{text}: {hint}");
    }
}

/// A folder with files, and what the first of them is when it is read.
fn included(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Pipeline, String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let first = folder.path().join(files[0].0);
    let read = super::super::read(&first).map_err(|error| match error {
        super::super::ReadError::Config(error) => format!(
            "{}|{}|{}:{}|{error}",
            error.code,
            error.file.replace(&format!("{}/", folder.path().display()), ""),
            error.spot.line,
            error.spot.column
        ),
        other => other.to_string(),
    });
    (folder, read)
}

#[test]
fn what_is_included_comes_first_and_its_paths_start_from_its_own_folder() {
    let (_folder, read) = included(&[
        (
            "main.yaml",
            "include: parts/common.yaml\nvars: { bits: 16 }\ndata: { evaluation: own.npz }\nkeep: b\nsteps:\n- include: parts/last.yaml\n- simplify\ngates: [{ size: { at-most: 0.5 } }]\n",
        ),
        (
            "parts/common.yaml",
            "include: ../edge.yaml\nvars: { bits: 8, weights: w.npz }\ndata: { calibration: c.npz, evaluation: { npz: e.npz, labels: y } }\nkeep: [a]\nsteps:\n- transfer-parameters: { from: \"${weights}\" }\n- quantize: { bits: \"${bits}\" }\n  when: false\n- fold-constants\ngates: [{ size: { at-most: 0.9 } }]\n",
        ),
        (
            "parts/last.yaml",
            "vars: { opset: 18 }\nsteps: [{ convert-opset: { version: \"${opset}\" } }]\n",
        ),
        ("edge.yaml", "bind: { batch: 1 }\nsteps: [inline-functions]\n"),
    ]);
    // `bits` is no option of quantize: a step that is left out is held to its schema, too.
    assert!(
        read.as_ref()
            .err()
            .is_some_and(|error| error.starts_with("unknown-option|parts/common.yaml|7:15")),
        "{read:?}",
        read = read.map(|p| p.to_yaml())
    );
}

#[test]
fn an_included_file_is_extended_and_overridden() {
    let (folder, read) = included(&[
        (
            "main.yaml",
            "include: parts/common.yaml\nvars: { opset: 19 }\ndata: { evaluation: own.npz }\nkeep: b\nsteps:\n- include: parts/last.yaml\n- simplify\ngates: [{ size: { at-most: 0.5 } }]\n",
        ),
        (
            "parts/common.yaml",
            "include: [../edge.yaml, simplify]\nvars: { weights: w.npz }\ndata: { calibration: c.npz, evaluation: { npz: e.npz, labels: y } }\nkeep: [a]\nsteps:\n- transfer-parameters: { from: \"${weights}\" }\ngates: [{ size: { at-most: 0.9 } }]\n",
        ),
        (
            "parts/last.yaml",
            "vars: { opset: 18 }\nsteps: [{ convert-opset: { version: \"${opset}\" } }]\n",
        ),
        ("edge.yaml", "bind: { batch: 1 }\nsteps: [inline-functions]\n"),
    ]);
    let pipeline = read.unwrap();
    let yaml = pipeline.to_yaml();
    let names: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "bind",
            "inline-functions",
            "simplify",
            "transfer-parameters",
            "convert-opset",
            "simplify"
        ]
    );
    assert_eq!(pipeline.steps[3].options["from"], "parts/w.npz", "{yaml}");
    assert_eq!(pipeline.steps[4].options["version"], 19);
    assert_eq!(pipeline.keep, ["a", "b"]);
    assert_eq!(
        serde_json::to_value(&pipeline.data).unwrap(),
        json!({ "calibration": "parts/c.npz", "evaluation": "own.npz" })
    );
    assert_eq!(pipeline.gates.len(), 2);
    assert_eq!(pipeline.included.len(), 3);
    // What is resolved says the same by itself.
    let again = Pipeline::parse("again.yaml", &yaml, folder.path()).unwrap();
    assert_eq!((again.to_yaml(), again.digest()), (yaml, pipeline.digest()));
}

#[test]
fn mistakes_with_includes_name_the_file_at_fault() {
    for (files, expected) in [
        (
            vec![
                ("a.yaml", "include: b.yaml\nsteps: []\n"),
                ("b.yaml", "include: a.yaml\nsteps: []\n"),
            ],
            "include|b.yaml|1:10|a file includes itself",
        ),
        (
            vec![("a.yaml", "include: a.yaml\nsteps: []\n")],
            "include|a.yaml|1:10|a file includes itself",
        ),
        (
            vec![
                ("a.yaml", "steps:\n- include: b.yaml\n"),
                ("b.yaml", "steps:\n- include: b.yaml\n"),
            ],
            "include|b.yaml|2:12|a file includes itself",
        ),
        (
            vec![
                ("a.yaml", "steps:\n- include: b.yaml\n"),
                ("b.yaml", "steps: []\ngates: []\n"),
            ],
            "include|b.yaml|2:1|a file among steps has steps and no `gates`",
        ),
        (
            vec![("a.yaml", "include: b.yaml\n"), ("b.yaml", "steps: [simplfy]\n")],
            "unknown-pass|b.yaml|1:9|",
        ),
        (
            vec![("a.yaml", "include: b.yaml\n"), ("b.yaml", "step: []\n")],
            "unknown-key|b.yaml|1:1|",
        ),
        (
            vec![("a.yaml", "include: b.yaml\n"), ("b.yaml", "a: [\n")],
            "yaml-syntax|b.yaml|",
        ),
        (
            vec![
                ("a.yaml", "include: b.yaml\n"),
                ("b.yaml", "matrix: { a: [1] }\nsteps: []\n"),
            ],
            "include|b.yaml|1:1|a family stands",
        ),
        (
            vec![("a.yaml", "include: b.yaml\n"), ("b.yaml", "- a\n")],
            "pipeline-shape|b.yaml|1:1|",
        ),
        (
            vec![
                ("a.yaml", "include: b.yaml\n"),
                ("b.yaml", "vars: { x: 1 }\nsteps: []\n"),
            ],
            "unused-variable|b.yaml|1:9|",
        ),
    ] {
        let (_folder, read) = included(&files);
        let error = read.map(|_| ()).unwrap_err();
        assert!(error.starts_with(expected), "{files:?}: {error}");
    }
    // The same file twice is no cycle.
    let (_folder, read) = included(&[
        ("a.yaml", "include: [b.yaml, b.yaml]\n"),
        ("b.yaml", "steps: [simplify]\n"),
    ]);
    assert_eq!(read.unwrap().steps.len(), 2);
}

fn matrix(text: &str) -> Result<Vec<String>, ConfigError> {
    let written = Written::parse("test.yaml", text, Path::new(""))?;
    let all = written
        .matrix()?
        .map(|matrix| matrix.combinations())
        .unwrap_or_default();
    all.iter()
        .map(|combination| {
            written.resolve(&Given {
                values: combination.clone(),
                beside: Values::new(),
            })?;
            Ok(serde_json::to_string(combination).unwrap())
        })
        .collect()
}

#[test]
fn a_matrix_has_all_combinations_but_those_that_are_left_out() {
    let text = "matrix:\n  model: [a.onnx, b.onnx]\n  to: [17, 18]\n  exclude: [{ model: a.onnx, to: 18 }]\nsteps:\n- convert-opset: { version: \"${to}\" }\n";
    assert_eq!(
        matrix(text).unwrap(),
        [
            r#"{"model":"a.onnx","to":17}"#,
            r#"{"model":"b.onnx","to":17}"#,
            r#"{"model":"b.onnx","to":18}"#
        ]
    );
    for (matrix_text, line, column) in [
        ("{}", 1, 1),
        ("{ to: [] }", 1, 15),
        ("{ to: 17 }", 1, 15),
        ("[17]", 1, 9),
        ("{ to: [17, 17.0] }", 1, 20),
        ("{ to: [17], exclude: [{ to: 17 }] }", 1, 1),
        ("{ to: [17], exclude: [{ tp: 17 }] }", 1, 30),
        ("{ to: [17], exclude: [17] }", 1, 31),
        ("{ to: [17], model: [1] }", 1, 29),
    ] {
        let text = format!("matrix: {matrix_text}\nsteps:\n- convert-opset: {{ version: \"${{to}}\" }}\n");
        let error = matrix(&text).unwrap_err();
        assert_eq!(
            (error.code, error.spot.line, error.spot.column),
            ("pipeline-matrix", line, column),
            "{text}: {error}"
        );
    }
}

#[test]
fn values_are_called_by_what_file_names_may_hold() {
    for (value, expected) in [
        (json!("a/b c"), "a-b-c"),
        (json!(0.25), "0.25"),
        (json!(null), "nothing"),
        (json!([1, "x"]), "1--x"),
        (json!("../.."), "..-.."),
        (json!(true), "true"),
    ] {
        assert_eq!(label(&value), expected);
    }
}
