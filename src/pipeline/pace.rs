//! Whether a result is faster than the input, which is what most lossy steps are run for.

use std::time::Duration;

use super::definition::Pipeline;
use super::gates::Gate;
use super::run::RunReport;
use crate::evaluate::{NO_INTEGERS, is_quantized};
use crate::ir::Model;
use crate::passes::{Runs, Safety};
use crate::verify::VerifyOptions;

/// The longest and the shortest time that timing both models takes by itself.
const MOST: Duration = Duration::from_secs(2);
const LEAST: Duration = Duration::from_millis(100);

/// A longer time of a run is worth a warning from this share on: below, machines say one thing today and another one tomorrow.
const SLOWER: f64 = 1.05;

/// For how long the models are timed: about as long as the steps took. Not where a gate does it, nor after steps that keep what the model
/// computes.
pub(super) fn time(pipeline: &Pipeline, work: Duration, options: &VerifyOptions) -> Option<Duration> {
    let gated = pipeline.gates.iter().any(|gate| matches!(gate, Gate::Latency(_)));
    let wanted = !gated && pipeline.safety() == Safety::Approximate;
    let most = options.bounds.time.unwrap_or(MOST).clamp(LEAST, MOST);
    wanted.then(|| work.clamp(LEAST, most))
}

/// What to say of a result that is slower than the input, with the reason where it is known.
pub(super) fn slower(report: &RunReport, engine: &str, model: &Model) -> Option<String> {
    let pace = report.verify.as_ref()?.latency?;
    let share = pace.share();
    if share < SLOWER {
        return None;
    }
    let mut text = format!(
        "the result is slower than the input in the engine that ran both ({engine}, one thread): {:.3} ms in place of {:.3} ms",
        pace.model.p50, pace.reference.p50
    );
    if engine == "tract" && is_quantized(model) {
        text.push_str(&format!("; {NO_INTEGERS}"));
    } else if let Some(reason) = of_plan(report) {
        text.push_str(&format!("; {reason}"));
    }
    Some(text)
}

/// What a plan for integers left in float.
fn of_plan(report: &RunReport) -> Option<String> {
    let nodes = &report.steps.iter().rfind(|step| !step.nodes.is_empty())?.nodes;
    let mut float = nodes.iter().filter(|node| node.runs == Runs::Float);
    let first = float.next()?;
    Some(format!(
        "{} of {} operators stay float, with conversions between them and those on codes; the first is {} ({}): {}",
        1 + float.count(),
        nodes.len(),
        first.node,
        first.operator,
        first.why
    ))
}
