//! `prune-channels MODEL --explain`: every class of units, what it would lose and free, or what pins it.

use std::path::Path;

use serde_json::{Map, Value};

use super::global::Global;
use super::progress::Progress;
use super::run::Running;
use super::{Answer, model, terminal};
use crate::api::{ClassPlan, Error, MemberReport, Pruning};
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
    let mut asked = running.options(global)?;
    let pruning = Pruning::new(options, &asked)?;
    let path = path.ok_or_else(|| Error::usage("a model is needed"))?;
    let model = model::read(global, path)?;
    global.limit_threads();
    let progress = Progress::new(global);
    asked = asked.progress(progress.teller());
    let plan = pruning
        .plan(&model, &asked)
        .map_err(|error| error.in_file(path))?;
    drop(progress);
    if global.json {
        terminal::json(&plan);
    } else {
        terminal::answer(&describe(&plan));
    }
    Ok(Answer::Done)
}

/// One table of what can go, one of what cannot.
fn describe(plan: &ClassPlan) -> String {
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

fn members(members: &[MemberReport]) -> String {
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
