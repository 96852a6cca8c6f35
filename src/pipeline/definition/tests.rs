use super::*;

fn parse(text: &str) -> Result<Pipeline, ConfigError> {
    Pipeline::parse("test.yaml", text, Path::new(""))
}

fn failure(text: &str) -> (&'static str, u64, u64, String) {
    let error = parse(text).map(|_| ()).unwrap_err();
    (
        error.code,
        error.spot.line,
        error.spot.column,
        error.hint.map(String::from).unwrap_or_default(),
    )
}

#[test]
fn a_step_is_a_name_a_name_with_a_colon_or_a_name_with_options() {
    let text = "version: 1\nsteps:\n  - fold-constants\n  - eliminate-dead-code:\n  - eliminate-dead-code: { keep-functions: true }\n";
    let pipeline = parse(text).unwrap();
    let names: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        ["fold-constants", "eliminate-dead-code", "eliminate-dead-code"]
    );
    assert_eq!(pipeline.steps[2].options.len(), 1);
    assert_eq!(pipeline.safety(), Safety::Rounding);
}

#[test]
fn errors_point_at_the_word_and_name_the_nearest_valid_one() {
    for (text, expected) in [
        (
            "steps:\n  - fold-constnts\n",
            ("unknown-pass", 2, 5, "did you mean `fold-constants`?"),
        ),
        ("step: []\n", ("unknown-key", 1, 1, "did you mean `steps`?")),
        (
            "steps:\n  - eliminate-dead-code:\n      keep-function: true\n",
            ("unknown-option", 3, 7, "did you mean `keep-functions`?"),
        ),
        (
            "steps:\n  - eliminate-dead-code:\n      keep-functions: 7\n",
            ("option-value", 3, 23, "for example false"),
        ),
        (
            "steps: []\ngates:\n  - sise: { at-most: 1 }\n",
            ("unknown-gate", 3, 5, "did you mean `size`?"),
        ),
        (
            "steps: []\ngates:\n  - size: { at-mst: 1 }\n",
            ("gate-bounds", 3, 13, "did you mean `at-most`?"),
        ),
        (
            "steps: []\ndata: { calibation: { npz: a } }\n",
            ("unknown-role", 2, 9, "did you mean `calibration`?"),
        ),
        (
            "version: 2\nsteps: []\n",
            ("pipeline-version", 1, 10, "this release reads version 1"),
        ),
        ("steps:\n  - fold-constants: 3\n", ("pipeline-shape", 2, 21, "")),
        ("- simplify\n", ("pipeline-shape", 1, 1, "")),
    ] {
        let (code, line, column, hint) = failure(text);
        assert_eq!((code, line, column, hint.as_str()), expected, "{text}");
    }
}

#[test]
fn printing_and_reading_again_gives_the_same_pipeline() {
    let text = "version: 1\nkeep: [\"^logits$\"]\nsteps:\n  - fold-constants\n  - eliminate-dead-code: { keep-functions: true }\ngates:\n  - size: { at-most: 0.35 }\n  - outputs: { cosine: 0.99 }\n";
    let pipeline = parse(text).unwrap();
    let printed = pipeline.to_yaml();
    let again = parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.to_yaml(), printed);
    assert_eq!(again.digest(), pipeline.digest());
    assert_eq!(again.gates, pipeline.gates);
}

#[test]
fn data_that_a_step_may_do_without_are_read_and_not_demanded() {
    let pipeline = parse("steps:\n- compress: { bits: 3 }\n- compress: { importance: weights }\n").unwrap();
    let [with, without] = pipeline.steps.as_slice() else {
        panic!("two steps")
    };
    assert_eq!(
        (with.data_roles(), with.read_roles()),
        (vec![], vec!["calibration".to_owned()])
    );
    assert!(without.read_roles().is_empty());
}
