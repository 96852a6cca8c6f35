//! The pass `drop-outputs`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::names;
use crate::ir::{Graph, Model, NodeKind};
use crate::passes::{About, Context, EliminateDeadCode, Interface, Pass, PassError, PassReport, Safety};
use crate::schema::{self, nearest};

const NAME: &str = "drop-outputs";

/// Removes outputs of the graph, and everything that no other output needs.
///
/// Inputs stay, also those that nothing reads any more, and so do the other outputs with their order and their bits: the result is
/// compared with the model without these outputs. A name that no output has is refused, and so is a request for all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DropOutputs {
    /// The outputs, by name; what begins with `^` is a regular expression.
    #[serde(deserialize_with = "names")]
    pub outputs: Vec<String>,
}

impl Pass for DropOutputs {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let places = self.places(&model.graph, context)?;
        let outputs = model.graph.outputs();
        if places.len() == outputs.len() {
            return Err(option("these are all outputs of the graph, and one has to stay"));
        }
        let mut report = PassReport::default();
        if places.is_empty() {
            report.leave("the outputs", "`keep` protects each that is matched");
            return Ok(report);
        }
        let dropped: Vec<String> = places
            .iter()
            .filter_map(|at| Some(outputs.get(*at)?.name.to_string()))
            .collect();
        let idle_before: BTreeSet<String> = idle_inputs(&model.graph);
        report.add("output", places.len() as u64);
        // From the last to the first, so that places stay what they are.
        for at in places.iter().rev() {
            model
                .graph
                .edit(NAME)
                .remove_graph_output(*at)
                .map_err(|source| PassError::Edit { pass: NAME, source })?;
        }
        report.merge(EliminateDeadCode::default().run(model, context)?);
        for name in idle_inputs(&model.graph).difference(&idle_before) {
            report.warnings.push(format!(
                "nothing reads the input {name:?} any more; callers still have to give it"
            ));
        }
        report.interface = Some(Interface {
            dropped,
            ..Interface::default()
        });
        Ok(report)
    }
}

fn option(message: impl Into<String>) -> PassError {
    PassError::Option {
        pass: NAME,
        message: message.into(),
    }
}

/// The graph inputs without a default that nothing reads.
fn idle_inputs(graph: &Graph) -> BTreeSet<String> {
    let idle = graph.inputs().iter().filter(|id| !graph.is_used(**id));
    let required = idle.filter(|id| {
        let kind = graph.get(**id).map(|node| &node.kind);
        matches!(kind, Some(NodeKind::Input(input)) if input.default.is_none())
    });
    required.map(|id| graph.label(*id)).collect()
}

impl DropOutputs {
    /// The indices of the outputs that go.
    fn places(&self, graph: &Graph, context: &Context<'_>) -> Result<BTreeSet<usize>, PassError> {
        if self.outputs.is_empty() {
            return Err(option("say which outputs go, under outputs"));
        }
        let known: Vec<&str> = graph
            .outputs()
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        let mut places = BTreeSet::new();
        for wanted in &self.outputs {
            let pattern = match wanted.starts_with('^') {
                true => Some(schema::pattern(wanted).map_err(|error| option(format!("outputs: {error}")))?),
                false => None,
            };
            let meant = |name: &str| match &pattern {
                Some(regex) => regex.is_match(name),
                None => name == wanted,
            };
            let mut found = false;
            for (at, name) in known.iter().enumerate().filter(|(_, name)| meant(name)) {
                found = true;
                if !context.keeps(name) {
                    places.insert(at);
                } else if pattern.is_none() {
                    return Err(option(format!("outputs: `keep` says that {name:?} stays")));
                }
            }
            if !found {
                let near = nearest(wanted.trim_matches(['^', '$']), known.iter().copied());
                let hint = match near {
                    Some(name) => format!("did you mean {name:?}?"),
                    None => format!("the outputs are {}", known.join(", ")),
                };
                return Err(option(format!(
                    "outputs: the graph has no output {wanted:?}; {hint}"
                )));
            }
        }
        Ok(places)
    }
}
