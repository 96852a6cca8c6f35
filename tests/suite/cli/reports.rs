//! Reports and the forms of answers: what a page holds, what CI reads.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::{Bench, Called, fixtures};

/// A page that needs nothing but itself, and its text without markup.
fn page(bench: &Bench, name: &str) -> (String, String) {
    let html = String::from_utf8(bench.read(name)).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>"), "{name}");
    assert!(!html.contains("http"), "{name} asks for something: {html}");
    assert_eq!(html.matches("<script").count(), 1, "{name}");
    let sources = Regex::new(r#"(?:src|href)="([^"]*)""#).unwrap();
    let ids: Vec<&str> = Regex::new(r#" id="([^"]*)""#)
        .unwrap()
        .captures_iter(&html)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "{name}: an id occurs twice");
    for found in sources.captures_iter(&html) {
        let target = &found[1];
        let known = target.strip_prefix('#').is_some_and(|id| distinct.contains(id));
        assert!(
            known || target.starts_with("data:"),
            "{name}: {target} leads nowhere"
        );
    }
    let body = html
        .split("<main>")
        .nth(1)
        .unwrap()
        .split("</main>")
        .next()
        .unwrap();
    let text = Regex::new(r"<[^>]*>")
        .unwrap()
        .replace_all(body, " ")
        .into_owned();
    (html, text)
}

fn fixture(name: &str) -> String {
    fixtures().join(name).display().to_string()
}

#[track_caller]
fn done(called: &Called) {
    assert_eq!(called.code, 0, "{}{}", called.text(), called.stderr);
}

#[test]
fn the_page_of_a_run_has_both_graphs_the_errors_and_the_gates() {
    let bench = Bench::new();
    let run = format!(
        "run edge-int8 {} --data calibration={} --data evaluation={} -o small.onnx --report run.html --json",
        fixture("digits_cnn_bn.onnx"),
        fixture("data/digits_calib.npz"),
        fixture("data/digits_test.yaml"),
    );
    let called = bench.call(&run);
    done(&called);
    let report = called.json();
    let (html, text) = page(&bench, "run.html");
    for gate in report["gates"].as_array().unwrap() {
        assert!(text.contains(gate["message"].as_str().unwrap()), "{gate}");
    }
    // Every bar, every dot and every node has its figure in words.
    let errors = report["node_errors"]["worst"].as_array().unwrap();
    let compared = errors.iter().filter(|node| node["sqnr_db"].is_number()).count();
    assert!(compared >= 5, "{}", report["node_errors"]);
    assert!(html.matches("class=\"dot").count() >= 4, "{html}");
    for node in errors.iter().take(3) {
        let words = format!("{:.1} dB", node["sqnr_db"].as_f64().unwrap());
        assert!(text.contains(&words), "{words}");
    }
    let boxes = html.matches("<g class=\"n").count();
    let rows = html.matches("<tr id=\"r").count();
    let nodes = report["before"]["nodes"].as_u64().unwrap() + report["after"]["nodes"].as_u64().unwrap();
    assert_eq!((boxes, rows), (nodes as usize, nodes as usize));
    assert!(
        text.contains("conv-batch-norm") && text.contains("to leave these layers in float")
            || text.contains("To leave these layers in float"),
        "{text}"
    );
    assert!(
        text.contains("units removed") || text.contains("prune-channels"),
        "{text}"
    );
    assert!(text.contains("secateur run edge-int8"), "{text}");
    assert!(html.contains("class=\"clip\""), "the range of codes is drawn");
}

#[test]
fn a_refused_result_has_a_page_that_says_what_is_missing() {
    let bench = Bench::new();
    std::fs::write(
        bench.path("tight.yaml"),
        "version: 1\nsteps: [eliminate-dead-code]\ngates: [{ size: { at-most: 0.01 } }]\n",
    )
    .unwrap();
    let called = bench.call("run tight.yaml dead.onnx -o o.onnx --report r.html");
    assert_eq!(called.code, 1, "{}", called.stderr);
    assert!(!bench.path("o.onnx").exists());
    let (html, text) = page(&bench, "r.html");
    assert!(html.contains("refused: 1 gates are broken"), "{html}");
    assert!(text.contains("it holds once the figure has moved by -"), "{text}");
}

#[test]
fn the_page_of_two_models_names_the_changed_attribute() {
    let bench = Bench::new();
    let header = "<ir_version: 8, opset_import: [\"\" : 17]>";
    for (name, alpha) in [("a", 0.25), ("b", 0.5)] {
        let nodes =
            format!("t = Neg(x) [leak] u = LeakyRelu<alpha = {alpha}>(t) y = Exp(u)").replace("[leak] ", "");
        bench.model(
            name,
            &format!("{header} g (float[2, 3] x) => (float[2, 3] y) {{ {nodes} }}"),
        );
    }
    let called = bench.call("diff a.onnx b.onnx --report d.html");
    assert_eq!(called.code, 1);
    let (html, text) = page(&bench, "d.html");
    assert!(text.contains("alpha is 0.25, then 0.5"), "{text}");
    assert_eq!(
        html.matches("<g class=\"n changed").count(),
        2,
        "one in each graph"
    );
    let called = bench.call("verify a.onnx b.onnx --report v.html");
    assert_eq!(called.code, 1);
    let (html, text) = page(&bench, "v.html");
    assert!(html.contains("the models are different"), "{html}");
    assert!(text.contains("alpha is 0.25, then 0.5"), "{text}");
}

#[test]
fn names_in_a_model_are_no_markup() {
    let bench = Bench::new();
    let text =
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[3] x) => (float[3] y) { t = Neg(x) y = Exp(t) }";
    let mut message = secateur::format::text::parse_model(text).unwrap();
    message.graph.as_mut().unwrap().node[0].name = Some("<img src=x onerror=alert(1)>\u{202e}".to_owned());
    std::fs::write(
        bench.path("evil.onnx"),
        secateur::format::encode_to_bytes(&message),
    )
    .unwrap();
    bench.call("diff evil.onnx relu.onnx --report d.html");
    let (html, _) = page(&bench, "d.html");
    assert!(!html.contains("<img"), "{html}");
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"), "{html}");
}

#[test]
fn stored_results_stand_side_by_side() {
    let bench = Bench::new();
    for (model, name) in [("digits_cnn", "a"), ("digits_mlp", "b")] {
        let call = format!(
            "evaluate {} --data {} --report {name}.json",
            fixture(&format!("{model}.onnx")),
            fixture("data/digits_test.yaml")
        );
        done(&bench.call(&call));
    }
    done(&bench.call("report a.json b.json -o both.html"));
    let (html, text) = page(&bench, "both.html");
    let figures: Value = serde_json::from_slice(&bench.read("b.json")).unwrap();
    let accuracy = format!("{:.5}", figures["accuracy"].as_f64().unwrap());
    assert!(text.contains(&accuracy), "{accuracy} is not in {text}");
    assert!(html.contains("accuracy (up is better)"), "{html}");
    std::fs::write(bench.path("other.json"), "{\"a\": 1}").unwrap();
    let called = bench.call("report a.json other.json -o none.html --json");
    assert_eq!((called.code, called.error_code().as_str()), (2, "stored-report"));
    assert!(!bench.path("none.html").exists());
}

#[test]
fn answers_have_the_forms_that_ci_reads() {
    let bench = Bench::new();
    let called = bench.call("verify relu.onnx sigmoid.onnx --format github");
    assert_eq!(called.code, 1);
    let text = called.text();
    assert!(
        text.starts_with("::error file=sigmoid.onnx,title=secateur verify%3A different::"),
        "{text}"
    );
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");

    let call = "run clean.yaml dead.onnx -o o.onnx --format junit --report both.md --report both.html";
    let called = bench.call(call);
    done(&called);
    page(&bench, "both.html");
    assert!(
        bench.read("both.md").starts_with(b"# secateur"),
        "a report of each form"
    );
    let text = called.text();
    assert!(
        text.contains("classname=\"secateur.clean.yaml\"") && text.contains("time=\""),
        "{text}"
    );
    assert!(
        text.contains("testsuite name=\"dead.onnx\"") && text.contains("failures=\"0\""),
        "{text}"
    );

    let called = bench.call("verify relu.onnx sigmoid.onnx --format junit");
    assert_eq!(called.code, 1);
    assert!(called.text().contains("failures=\"2\""), "{}", called.text());

    let called = bench.call("verify relu.onnx relu.onnx --format markdown");
    done(&called);
    assert!(
        called
            .text()
            .starts_with("# secateur: relu.onnx against relu.onnx"),
        "{}",
        called.text()
    );

    let called = bench.call("verify relu.onnx relu.onnx --format json");
    assert_eq!(called.json()["verdict"], "equal");
    let called = bench.call("inspect relu.onnx --format github");
    assert_eq!(called.code, 2, "{}", called.text());
    assert!(
        called.stderr.contains("inspect has no answer as github"),
        "{}",
        called.stderr
    );
    let called = bench.call("verify relu.onnx nothing.onnx --format json");
    assert_eq!((called.code, called.error_code().is_empty()), (2, false));
}

#[test]
fn progress_is_a_document_a_line_where_a_program_asks_for_it() {
    let bench = Bench::new();
    let call = format!(
        "evaluate {} --data {} --progress json",
        fixture("digits_cnn.onnx"),
        fixture("data/digits_test.yaml")
    );
    let called = bench.call(&call);
    done(&called);
    let told: Vec<Value> = called
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(!told.is_empty());
    for document in &told {
        assert!(
            document["progress"].is_string() && document["seconds"].is_number(),
            "{document}"
        );
    }
    let quiet = bench.call(&format!("{call} -q"));
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_report_of_no_known_form_is_refused_before_anything_runs() {
    let bench = Bench::new();
    for call in [
        "run clean.yaml dead.onnx -o o.onnx --report r.txt",
        "verify relu.onnx relu.onnx --report r.txt",
        "evaluate relu.onnx --data nothing.npz --report r",
    ] {
        let called = bench.call(call);
        assert_eq!(called.code, 2, "{call}");
        assert!(
            called
                .stderr
                .contains("a report ends in .html, .json, .md or .xml"),
            "{}",
            called.stderr
        );
    }
    assert!(!bench.path("o.onnx").exists());
}

#[test]
fn a_baseline_holds_what_was_accepted() {
    let bench = Bench::new();
    done(&bench.call("run clean.yaml dead.onnx -o o.onnx --report dead.json"));
    let called = bench.call("ci dead.json --json");
    assert_eq!((called.code, called.error_code().as_str()), (2, "baseline"));
    done(&bench.call("ci dead.json --update"));
    done(&bench.call("ci dead.json"));

    let lock = String::from_utf8(bench.read("secateur.lock")).unwrap();
    assert!(
        lock.contains("dead:") && lock.contains("nodes: 1") && !lock.contains("latency ms"),
        "{lock}"
    );
    std::fs::write(
        bench.path("secateur.lock"),
        lock.replace("nodes: 1.0", "nodes: 0.5"),
    )
    .unwrap();
    let called = bench.call("ci dead.json --json");
    assert_eq!(called.code, 1);
    let found = called.json();
    assert_eq!(found["results"][0]["worse"][0]["figure"], "nodes");
    assert_eq!(found["results"][0]["worse"][0]["found"], 1.0);
    assert_eq!(bench.call("ci dead.json --allow nodes=1").code, 0);
    let called = bench.call("ci dead.json --allow noodles=1");
    assert_eq!(called.code, 2, "{}", called.text());

    std::fs::copy(bench.path("dead.json"), bench.path("new.json")).unwrap();
    let called = bench.call("ci new.json --format github");
    assert_eq!(called.code, 1);
    assert!(
        called.text().contains("the baseline has no result of this name"),
        "{}",
        called.text()
    );

    let text = String::from_utf8(bench.read("dead.json")).unwrap();
    std::fs::write(
        bench.path("new.json"),
        text.replace("\"accepted\": true", "\"accepted\": false"),
    )
    .unwrap();
    let before = bench.read("secateur.lock");
    let called = bench.call("ci new.json --update");
    assert_eq!(called.code, 1, "what was refused is not accepted by an update");
    assert_eq!(bench.read("secateur.lock"), before);
}
