//! `prune-channels MODEL --explain`: every class of units, what it would lose and free, or what pins it.

use std::path::Path;

use regex::RegexSet;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::global::Global;
use super::progress::Progress;
use super::run::Running;
use super::{Answer, engines, model, terminal};
use crate::api::{Error, adjust};
use crate::fold::TractEvaluator;
use crate::passes::prune_channels::{Plan, PruneChannels};
use crate::passes::{Context, Limits};
use crate::pipeline::{self, Pipeline, StepResources};
use crate::report::sanitise;
use crate::report::table::{self, Style};

/// Members of a class that are named; the rest are counted.
const NAMED: usize = 3;

/// Lists the classes of a model as the options would prune it.
pub(super) fn execute(
    global: &Global,
    path: Option<&Path>,
    running: &Running,
    options: Map<String, Value>,
) -> Result<Answer, Error> {
    // The step names the option at fault better than serde does.
    let step = pipeline::Step::new("prune-channels", options.clone())?;
    let mut described = Pipeline::of("prune-channels", vec![step]);
    adjust(&mut described, &running.options(global)?)?;
    let options = PruneChannels::deserialize(Value::Object(options))
        .map_err(|error| Error::new("option-value", error.to_string()))?;
    let path = path.ok_or_else(|| Error::usage("a model is needed"))?;
    let keep = RegexSet::new(&running.keep)
        .map_err(|error| Error::new("keep-pattern", format!("--keep: {error}")))?;
    let mut model = model::read(global, path)?.model;
    let needs_engine = described.steps.iter().any(|step| step.pass.about().needs.runs());
    let engine = needs_engine.then(|| engines::engine(global)).transpose()?;
    global.limit_threads();
    let resources = StepResources {
        engine: engine.as_deref(),
        data: &described.data,
        base: &described.base,
        original: None,
        jobs: global.threads(),
        strict: global.strict,
    };
    let progress = Progress::new(global);
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep,
        seed: global.seed,
        base: described.base.clone(),
        progress: &|what, done, total| progress.tell(what, done, total),
        resources: Some(&resources),
    };
    let plan = options
        .plan(&mut model, &context)
        .map_err(|source| pipeline::RunError::Pass { step: 1, source })
        .map_err(|error| Error::from(error).in_file(path))?;
    drop(progress);
    if global.json {
        terminal::json(&plan);
    } else {
        terminal::answer(&describe(&plan));
    }
    Ok(Answer::Done)
}

/// One table of what can go, one of what cannot.
fn describe(plan: &Plan) -> String {
    let (pinned, free): (Vec<_>, Vec<_>) = plan.classes.iter().partition(|class| class.pinned_by.is_some());
    let rows = free.iter().map(|class| {
        let (low, high) = class.scores.unwrap_or_default();
        vec![
            members(&class.members),
            class.units.to_string(),
            class.removed.to_string(),
            format!("{low:.4}"),
            format!("{high:.4}"),
            table::bytes(class.bytes_per_unit),
            table::count(class.macs_per_unit),
        ]
    });
    let heading = [
        "class",
        "units",
        "would go",
        "lowest score",
        "highest",
        "bytes/unit",
        "MACs/unit",
    ];
    let mut text = format!("{}\n", table::plain(Style::Terminal, &heading, rows));
    if !pinned.is_empty() || !plan.unreached.is_empty() {
        text.push_str("\nwhat stays:\n");
    }
    for class in pinned {
        text.push_str(&format!(
            "  {} ({} units): {}\n",
            sanitise(&members(&class.members)),
            class.units,
            sanitise(class.pinned_by.as_deref().unwrap_or_default())
        ));
    }
    for entry in &plan.unreached {
        text.push_str(&format!(
            "  {} ({} parameters): {}\n",
            sanitise(&entry.place),
            entry.parameters,
            sanitise(&entry.reason)
        ));
    }
    text
}

fn members(members: &[crate::passes::prune_channels::MemberReport]) -> String {
    let mut names: Vec<String> = members
        .iter()
        .take(NAMED)
        .map(|member| format!("{}[{}]", member.constant, member.axis))
        .collect();
    if members.len() > NAMED {
        names.push(format!("and {} more", members.len() - NAMED));
    }
    names.join(", ")
}
