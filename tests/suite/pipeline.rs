//! What a pipeline does with a step that breaks a model, which no step of secateur should be.

use secateur::engine::TractEngine;
use secateur::fold::TractEvaluator;
use secateur::format::{self, Origin};
use secateur::ir::{Model, Name};
use secateur::passes::{About, Context, Limits, Pass, PassError, PassReport, Safety};
use secateur::pipeline::{Pipeline, RunOptions, Step, Unchanged, bisect, run};
use secateur::verify::{Verdict, VerifyOptions};

/// Turns operators of one type into another, one after the other; the fuel is how many.
struct Swap {
    from: &'static str,
    to: &'static str,
    safety: Safety,
}

impl Pass for Swap {
    fn about(&self) -> About {
        About::new("swap", self.safety)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let fuel = context.limits.fuel.unwrap_or(u64::MAX);
        for id in model.graph.topological_order() {
            if report.changes.iter().map(|change| change.count).sum::<u64>() == fuel {
                break;
            }
            if model
                .graph
                .operator(id)
                .is_some_and(|operator| operator.is(self.from))
            {
                let edit = model
                    .graph
                    .edit("swap")
                    .set_operator_type(id, None, Name::new(self.to));
                edit.map_err(|source| PassError::Edit { pass: "swap", source })?;
                report.add("swapped", 1);
            }
        }
        Ok(report)
    }
}

fn step(from: &'static str, to: &'static str, safety: Safety) -> Step {
    Step {
        name: format!("{from}-to-{to}"),
        options: Default::default(),
        pass: Box::new(Swap { from, to, safety }),
        until: Vec::new(),
        spot: None,
    }
}

fn model(nodes: &str) -> Model {
    let text =
        format!("<ir_version: 8, opset_import: [\"\" : 17]> g (float[4] x) => (float[4] y) {{ {nodes} }}");
    let message = format::text::parse_model(&text).unwrap();
    format::lift(message, &Default::default()).unwrap()
}

fn options() -> RunOptions<'static> {
    RunOptions {
        evaluator: &TractEvaluator,
        engine: Some(&TractEngine),
        verify: VerifyOptions::default(),
        limits: Limits::default(),
        keep: Vec::new(),
        seed: 0,
        provenance: false,
        macs: true,
        resources: None,
        progress: &|_, _, _| {},
        unchanged: Unchanged::Allowed,
        node_errors: false,
        cancel: None,
        reuse: None,
    }
}

#[test]
fn different_outputs_are_refused_and_blamed_on_the_step_and_the_node() {
    let input = model("a = Relu(x) b = Neg(a) c = Abs(b) y = Identity(c)");
    let steps = vec![
        step("Identity", "Identity", Safety::Exact),
        step("Neg", "Abs", Safety::Exact),
        step("Abs", "Exp", Safety::Rounding),
    ];
    // The second step breaks `b` but not the output, for Abs follows; the third one breaks the output.
    let outcome = run(
        &Pipeline::of("test", steps),
        &input,
        &Origin::default(),
        &options(),
    )
    .unwrap();
    let report = outcome.report;
    assert!(!report.accepted);
    assert_eq!(report.verdict, Verdict::Different);
    let culprit = report.culprit.unwrap();
    assert_eq!((culprit.step, culprit.name.as_str()), (3, "Abs-to-Exp"));
    let divergence = culprit.divergence.unwrap();
    assert_eq!(
        (divergence.value.as_str(), divergence.model_operator.as_str()),
        ("b", "Exp")
    );
    assert_eq!(divergence.origins, ["swap"]);
}

#[test]
fn approximate_steps_are_left_to_the_gates() {
    let input = model("y = Abs(x)");
    let pipeline = Pipeline::of("test", vec![step("Abs", "Exp", Safety::Approximate)]);
    let outcome = run(&pipeline, &input, &Origin::default(), &options()).unwrap();
    assert_eq!(
        (outcome.report.verdict, outcome.report.accepted),
        (Verdict::Different, true)
    );
}

#[test]
fn bisect_names_the_first_rewrite_that_shows() {
    // Relu after Abs does nothing, so only the third swap, of the Relu that sees negative numbers, shows.
    let input = model("a = Abs(x) b = Relu(a) c = Relu(b) d = Neg(c) e = Relu(d) y = Identity(e)");
    let pipeline = Pipeline::of("test", vec![step("Relu", "Identity", Safety::Exact)]);
    let found = bisect(&pipeline, &input, &TractEngine, &options()).unwrap();
    assert_eq!((found.rewrites, found.breaking), (3, Some(3)));
    assert_eq!(found.step.as_deref(), Some("Relu-to-Identity"));
    assert_eq!(found.divergence.unwrap().value, "e");
    let sound = Pipeline::of("test", vec![step("Relu", "Relu", Safety::Exact)]);
    assert_eq!(
        bisect(&sound, &input, &TractEngine, &options()).unwrap().breaking,
        None
    );
}

#[test]
fn steps_that_change_nothing_warn_and_are_refused_as_far_as_the_caller_asks() {
    let input = model("a = Relu(x) y = Neg(a)");
    let idle = || step("Exp", "Log", Safety::Approximate);
    let busy = || step("Relu", "Abs", Safety::Approximate);
    for (steps, unchanged, accepted, warnings) in [
        (vec![idle()], Unchanged::Allowed, true, 1),
        (vec![idle()], Unchanged::RefusedAltogether, false, 1),
        (vec![idle()], Unchanged::Refused, false, 1),
        (vec![busy(), idle()], Unchanged::RefusedAltogether, true, 1),
        (vec![busy(), idle()], Unchanged::Refused, false, 1),
        (vec![busy()], Unchanged::Refused, true, 0),
        (vec![], Unchanged::Refused, true, 0),
    ] {
        let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        let options = RunOptions {
            engine: None,
            unchanged,
            ..options()
        };
        let report = run(&Pipeline::of("test", steps), &input, &Origin::default(), &options)
            .unwrap()
            .report;
        assert_eq!(
            (report.accepted, report.unchanged, report.warnings.len()),
            (accepted, !accepted, warnings),
            "{names:?} {unchanged:?}: {:?}",
            report.warnings
        );
        for warning in &report.warnings {
            assert!(warning.contains("Exp-to-Log changed nothing"), "{warning}");
        }
    }
}

#[test]
fn a_run_goes_on_from_where_its_steps_and_those_of_the_last_part() {
    use secateur::pipeline::{Reached, Reuse};
    use std::sync::{Arc, Mutex};

    let input = model("a = Relu(x) b = Neg(a) y = Abs(b)");
    let begun = Mutex::new(Vec::new());
    let tell = |what: &str, _: u64, _: Option<u64>| begun.lock().unwrap().push(what.to_owned());
    let reached = Arc::<Reached>::default();
    let steps = |last: &'static str| {
        vec![
            step("Relu", "Elu", Safety::Approximate),
            step("Neg", "Exp", Safety::Approximate),
            step("Abs", last, Safety::Approximate),
        ]
    };
    let of_steps = |begun: &Mutex<Vec<String>>| {
        let all = std::mem::take(&mut *begun.lock().unwrap());
        all.into_iter()
            .filter(|what| what.contains("-to-"))
            .collect::<Vec<_>>()
    };
    for (scope, last, expected) in [
        ("one", "Neg", 3),
        ("one", "Cos", 1),
        ("other", "Cos", 3),
        ("other", "Cos", 1),
        ("one", "Neg", 3),
    ] {
        let reuse = Reuse {
            reached: Arc::clone(&reached),
            scope: scope.to_owned(),
        };
        let pipeline = Pipeline::of("test", steps(last));
        let shared = RunOptions {
            progress: &tell,
            reuse: Some(&reuse),
            ..options()
        };
        let made = run(&pipeline, &input, &Origin::default(), &shared).unwrap();
        assert_eq!(of_steps(&begun).len(), expected, "{scope} {last}");
        let alone = run(&pipeline, &input, &Origin::default(), &options()).unwrap();
        let plain = |report: &secateur::pipeline::RunReport| {
            let steps = report.steps.iter();
            steps
                .map(|step| {
                    (
                        step.name.clone(),
                        step.changed,
                        step.nodes_after,
                        step.bytes_after,
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(&made.report), plain(&alone.report));
        assert_eq!(made.report.verdict, alone.report.verdict);
        let bytes = |model: &Model| {
            format::encode_to_bytes(&format::model_to_proto(model, &Default::default()).unwrap())
        };
        assert_eq!(bytes(&made.model), bytes(&alone.model), "{scope} {last}");
    }
}
