//! Every verb, taken from the command line itself: its help, its errors as JSON, and what it does where there is nothing to do.

use std::collections::BTreeSet;

use clap::Command;
use secateur::data::write_npz;
use secateur::ir::Tensor;
use serde_json::Value;

use super::Bench;

/// A verb by the words that call it.
struct Verb {
    words: String,
    about: String,
    /// Whether it changes models: only verbs of passes can set any option of a step.
    changes: bool,
}

/// The verbs that help shows, groups opened.
fn verbs() -> Vec<Verb> {
    fn walk(command: &Command, before: &str, found: &mut Vec<Verb>) {
        let shown = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
        for verb in shown {
            let words = format!("{before}{}", verb.get_name());
            match verb.has_subcommands() {
                true => walk(verb, &format!("{words} "), found),
                false => found.push(Verb {
                    words,
                    about: verb.get_about().map(ToString::to_string).unwrap_or_default(),
                    changes: verb.get_arguments().any(|argument| argument.get_id() == "set"),
                }),
            }
        }
    }
    let mut found = Vec::new();
    walk(&secateur::cli::command(), "", &mut found);
    assert!(found.len() > 30, "{} verbs", found.len());
    found
}

#[test]
fn every_verb_has_help_that_says_what_it_does_and_ends_with_0() {
    let bench = Bench::new();
    for verb in verbs() {
        let called = bench.call(&format!("{} --help", verb.words));
        let text = called.text();
        assert_eq!(called.code, 0, "{}\n{}", verb.words, called.stderr);
        assert!(text.contains("Usage: secateur"), "{}\n{text}", verb.words);
        let start: String = verb
            .about
            .split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" ");
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            !start.is_empty() && squeezed.contains(&start),
            "{}\n{text}",
            verb.words
        );
    }
}

#[test]
fn every_verb_answers_a_mistake_with_status_2_and_json_where_that_is_asked_for() {
    let bench = Bench::new();
    for verb in verbs() {
        let called = bench.call(&format!("{} --json --no-such-option", verb.words));
        assert_eq!(called.code, 2, "{}\n{}", verb.words, called.stderr);
        assert!(
            !called.error_code().is_empty(),
            "{}\n{}",
            verb.words,
            called.text()
        );
        let plain = bench.call(&format!("{} --no-such-option", verb.words));
        assert!(
            plain.stderr.contains("--no-such-option"),
            "{}\n{}",
            verb.words,
            plain.stderr
        );
    }
}

/// What a verb does that finds nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It says why and ends with 1, and with `--allow-unchanged` it writes the model as it is; or the model cannot serve it, and it ends
    /// with 2 and an error.
    Refuses,
    /// It was asked whether there is anything to do: no.
    Tidies,
    /// It always does what it is asked for: the result is another model.
    Changes,
}

/// For every verb that changes models a model, and what else it needs, on which nothing can be done.
const CASES: [(&str, &str, Then); 38] = [
    ("awq", "relu.onnx --data x.npz", Then::Refuses),
    ("bake", "relu.onnx --classes softmax", Then::Changes),
    ("bind", "relu.onnx", Then::Tidies),
    ("bind-defaults", "relu.onnx", Then::Tidies),
    ("chain", "relu.onnx sigmoid.onnx", Then::Changes),
    ("clean-names", "clean.onnx", Then::Tidies),
    ("cluster", "relu.onnx", Then::Refuses),
    ("compress", "relu.onnx", Then::Refuses),
    ("convert-float", "integers.onnx", Then::Refuses),
    ("convert-opset", "relu.onnx --to 17", Then::Refuses),
    ("correct-bias", "relu.onnx --data x.npz", Then::Refuses),
    ("deduplicate-initializers", "relu.onnx", Then::Tidies),
    ("deepen", "integers.onnx", Then::Refuses),
    ("drop-outputs", "relu.onnx --outputs y", Then::Refuses),
    ("eliminate-common-subexpressions", "relu.onnx", Then::Tidies),
    ("eliminate-dead-code", "relu.onnx", Then::Tidies),
    ("equalize", "relu.onnx --data x.npz", Then::Refuses),
    ("extract", "chain.onnx --outputs b", Then::Changes),
    (
        "factorize",
        "relu.onnx --energy 0.9 --basis weights",
        Then::Refuses,
    ),
    (
        "finetune",
        "relu.onnx --data training=labelled.yaml",
        Then::Refuses,
    ),
    ("fold-constants", "relu.onnx", Then::Tidies),
    ("inline-functions", "relu.onnx", Then::Tidies),
    (
        "merge-lora",
        "linear.onnx --adapter adapter.npz --alpha 1 --partial",
        Then::Refuses,
    ),
    ("prune blocks", "relu.onnx --count 1 --data x.npz", Then::Refuses),
    ("prune channels", "relu.onnx --ratio 0.5", Then::Refuses),
    ("prune weights", "relu.onnx --sparsity 0.5", Then::Refuses),
    ("quantize", "relu.onnx --data x.npz", Then::Refuses),
    ("quantize-dynamic", "relu.onnx", Then::Refuses),
    ("quantize-weights", "relu.onnx", Then::Refuses),
    ("rename", "relu.onnx --inputs z=w", Then::Refuses),
    ("search-precision", "relu.onnx --data x.npz", Then::Refuses),
    ("simplify", "relu.onnx", Then::Tidies),
    ("smooth-quant", "relu.onnx --data x.npz", Then::Refuses),
    (
        "transfer features",
        "chain.onnx --at b --features-only",
        Then::Changes,
    ),
    ("transfer merge", "relu.onnx relu.onnx", Then::Refuses),
    (
        "transfer parameters",
        "nothing.npz linear.onnx --partial",
        Then::Refuses,
    ),
    ("transfer structure", "relu.onnx --init keep", Then::Refuses),
    ("widen", "relu.onnx", Then::Refuses),
];

/// Verbs whose case has to be refused as unchanged, and not as a model that cannot serve them.
const REFUSED_AS_UNCHANGED: usize = 14;

fn bench() -> Bench {
    let bench = Bench::new();
    let values: Vec<f32> = (0..24).map(|index| (index as f32 * 0.7).sin()).collect();
    let x = Tensor::from_slice::<f32>(&[8, 3], &values).unwrap();
    let y = Tensor::from_slice(&[8], &[0i64, 1, 2, 0, 1, 2, 0, 1]).unwrap();
    write_npz(&bench.path("x.npz"), [("x", &x)]).unwrap();
    write_npz(&bench.path("xy.npz"), [("x", &x), ("y", &y)]).unwrap();
    std::fs::write(bench.path("labelled.yaml"), "npz: xy.npz\nlabels: y\n").unwrap();
    let job = "{job: stats, model: relu.onnx, data: {calibration: x.npz}, parts: 2, output: joined}";
    std::fs::write(bench.path("job.yaml"), job).unwrap();
    std::fs::write(
        bench.path("sweep.yaml"),
        "{ model: relu.onnx, pipeline: clean.yaml, data: { evaluation: labelled.yaml } }\n",
    )
    .unwrap();
    let one = Tensor::from_slice(&[1, 3], &[1f32, 2.0, 3.0]).unwrap();
    let other = Tensor::from_slice(&[2, 1], &[1f32, 2.0]).unwrap();
    let adapter = [("far.lora_A.weight", &one), ("far.lora_B.weight", &other)];
    write_npz(&bench.path("adapter.npz"), adapter).unwrap();
    write_npz(&bench.path("nothing.npz"), [("far.away", &one)]).unwrap();
    bench.model(
        "integers",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (int64[3] x) => (int64[3] y) { y = Add(x, x) }",
    );
    bench.model(
        "clean",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[3] x) => (float[3] y) { [Relu_0] y = Relu(x) }",
    );
    bench.model(
        "linear",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 3] x) => (float[batch, 2] y)
         <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }",
    );
    bench
}

#[test]
fn no_verb_ends_with_0_having_done_nothing_that_it_was_asked_to() {
    let bench = bench();
    let tested: BTreeSet<&str> = CASES.iter().map(|(verb, ..)| *verb).collect();
    let all: BTreeSet<String> = verbs()
        .into_iter()
        .filter(|verb| verb.changes)
        .map(|verb| verb.words)
        .collect();
    let missing: Vec<&String> = all
        .iter()
        .filter(|verb| !tested.contains(verb.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "nothing says what {missing:?} do where nothing can be done"
    );
    let mut refused = 0;
    for (verb, arguments, then) in CASES {
        let what = format!("{verb} {arguments}");
        assert!(all.contains(verb), "{verb} is no verb");
        let model = arguments.split(' ').find(|word| word.ends_with(".onnx")).unwrap();
        let _ = std::fs::remove_file(bench.path("out.onnx"));
        let called = bench.call(&format!("{what} -o out.onnx"));
        let said = called.stderr.clone() + &called.text();
        let document = bench.call(&format!("{what} -o again.onnx --force --json")).json();
        let allowed = bench.call(&format!("{what} -o allowed.onnx --force --allow-unchanged"));
        match (then, called.code) {
            (Then::Refuses, 1) => {
                refused += 1;
                // The reason is there without -v.
                let reason = called.stderr.split("changed nothing").nth(1).unwrap_or_default();
                assert!(reason.trim_start_matches(':').trim().len() > 10, "{what}\n{said}");
                assert_eq!(document["accepted"], false, "{what}\n{document}");
                assert_eq!(document["output"], Value::Null, "{what}\n{document}");
                assert!(!bench.path("out.onnx").exists(), "{what}\n{said}");
                assert_eq!(allowed.code, 0, "{what}\n{}", allowed.stderr);
                assert_eq!(bench.read("allowed.onnx"), bench.read(model), "{what}");
            }
            (Then::Refuses, 2) => {
                let message = document["error"]["message"].as_str().unwrap_or_default();
                assert!(message.len() > 10, "{what}\n{document}");
                assert!(!bench.path("out.onnx").exists(), "{what}\n{said}");
                assert_eq!(allowed.code, 2, "{what}\n{}", allowed.stderr);
            }
            (Then::Tidies, 0) => {
                assert!(said.contains("nothing to change"), "{what}\n{said}");
                assert_eq!(document["changed"], false, "{what}\n{document}");
                assert_eq!(bench.read("out.onnx"), bench.read(model), "{what}");
            }
            (Then::Changes, 0) => {
                assert_eq!(document["changed"], true, "{what}\n{document}");
                assert_ne!(bench.read("out.onnx"), bench.read(model), "{what}");
            }
            (_, code) => panic!("{what} ends with {code}\n{said}"),
        }
    }
    assert!(refused >= REFUSED_AS_UNCHANGED, "{refused} verbs");
}

/// For every verb that changes no model a call that it answers: its arguments, its status, and a field of its JSON. `clean.yaml` has
/// nothing to do.
const ANSWERS: [(&str, &str, i32, &str); 32] = [
    ("bisect", "relu.onnx --pipeline clean.yaml", 0, "breaking"),
    ("check", "dead.onnx --deny warning", 1, "findings"),
    ("completions", "bash", 0, "script"),
    ("diff", "relu.onnx sigmoid.onnx", 1, "same"),
    (
        "evaluate",
        "relu.onnx --data labelled.yaml --state one.json --force",
        0,
        "accuracy",
    ),
    ("evaluate merge", "one.json", 0, "accuracy"),
    ("explain", "simplify", 0, "documentation"),
    (
        "features",
        "linear.onnx --data x.npz -o features.npz --force",
        0,
        "features",
    ),
    (
        "gradients",
        "linear.onnx --loss mean-squared-error -o loss.onnx --force",
        0,
        "output",
    ),
    ("inspect", "relu.onnx", 0, "parameters"),
    ("man", "", 0, "roff"),
    ("pack", "relu.onnx -o relu.sct --force", 0, "bytes"),
    ("unpack", "relu.sct -o unpacked.onnx --force", 0, "files"),
    (
        "share",
        "linear.onnx relu.onnx --data common.data -o shared --smallest 1 --force",
        0,
        "models",
    ),
    (
        "convert-external",
        "linear.onnx -o apart.onnx --smallest 1 --force",
        0,
        "files",
    ),
    ("single-file", "apart.onnx -o whole.onnx --force", 0, "files"),
    ("print", "relu.onnx", 0, "text"),
    ("rules list", "", 0, "rules"),
    ("rules test", "--name hard-swish", 0, "rules"),
    (
        "run",
        "clean.yaml relu.onnx -o out.onnx --report stored.json --force",
        0,
        "verdict",
    ),
    ("ci", "stored.json --update", 0, "holds"),
    ("report", "stored.json -o stored.html --force", 0, "output"),
    ("schema", "", 0, "properties"),
    ("stats", "relu.onnx --data x.npz -o part --force", 0, "samples"),
    ("stats merge", "part -o whole --force", 0, "samples"),
    ("plan", "job.yaml -o plan", 0, "pending"),
    ("work", "plan", 0, "done"),
    ("merge", "plan --force", 0, "samples"),
    ("sweep", "sweep.yaml -o swept", 0, "front"),
    (
        "search-structure",
        "relu.onnx --write search.yaml --force",
        0,
        "output",
    ),
    ("verify", "relu.onnx sigmoid.onnx", 1, "verdict"),
    ("verify", "relu.onnx relu.onnx", 0, "verdict"),
];

#[test]
fn every_verb_that_changes_no_model_answers_with_its_status_and_one_document() {
    let bench = bench();
    for verb in verbs().iter().filter(|verb| !verb.changes) {
        assert!(
            ANSWERS.iter().any(|(words, ..)| *words == verb.words),
            "nothing says what {} answers",
            verb.words
        );
    }
    for (verb, arguments, status, field) in ANSWERS {
        let what = format!("{verb} {arguments}");
        let plain = bench.call(&what);
        assert_eq!(plain.code, status, "{what}\n{}{}", plain.text(), plain.stderr);
        assert!(!plain.text().trim().is_empty(), "{what} says nothing");
        let called = bench.call(&format!("{what} --json"));
        assert_eq!(called.code, status, "{what} --json\n{}", called.stderr);
        let document = called.json();
        assert!(document.get(field).is_some(), "{what}: no {field} in {document}");
    }
}
