//! The pass `bind-defaults`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::infer;
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{EditError, Model, NodeId, NodeKind};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety, readable_bytes};
use crate::schema::nearest;

const NAME: &str = "bind-defaults";

/// Makes constants of graph inputs that have a default, so that no caller can give them another value.
///
/// From IR version 4 on, an initializer that is also a graph input is a default: a caller may replace it, so no rewrite may count
/// on it, and weights of this kind are neither folded nor quantized nor pruned. Old exporters list all weights this way without
/// meaning it. The inputs are gone afterwards; whoever gives no value for them sees no difference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BindDefaults {
    /// The inputs, by name; all that have a default if none is named.
    pub inputs: Vec<String>,
}

impl Pass for BindDefaults {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact).tidying()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let found = defaults(model);
        for name in &self.inputs {
            if !found.iter().any(|(_, known)| known == name) {
                let known = found.iter().map(|(_, name)| name.as_str());
                let meant =
                    nearest(name, known).map_or(String::new(), |name| format!("; did you mean {name}?"));
                return Err(PassError::Option {
                    pass: NAME,
                    message: format!("inputs: there is no input {name:?} with a default{meant}"),
                });
            }
        }
        let changes: Vec<Reshape> = found
            .into_iter()
            .filter(|(_, name)| self.inputs.is_empty() || self.inputs.contains(name))
            .filter(|(_, name)| !context.keeps(name))
            .map(|(id, _)| Reshape::Fix(id))
            .collect();
        let count = changes.len() as u64;
        if count == 0 {
            report.notes.push("no graph input has a default".to_owned());
            return Ok(report);
        }
        reshape::<EditError>(model, NAME, changes, |model| {
            infer(model);
            Ok(())
        })
        .map_err(|source| PassError::Edit { pass: NAME, source })?;
        report.add("input with a default", count);
        Ok(report)
    }
}

/// The graph inputs that a caller may leave out, with their names.
fn defaults(model: &Model) -> Vec<(NodeId, String)> {
    let graph = &model.graph;
    graph
        .inputs()
        .iter()
        .filter(|id| {
            graph
                .get(**id)
                .is_some_and(|node| matches!(&node.kind, NodeKind::Input(input) if input.default.is_some()))
        })
        .map(|id| (*id, graph.label(*id)))
        .collect()
}

/// What to say of a model that has weights which a caller may replace, and how much that is; `None` for one that has none.
pub fn overridable(model: &Model) -> Option<String> {
    let found = defaults(model);
    let (_, first) = found.first()?;
    let bytes = |id: &NodeId| match &model.graph.get(*id)?.kind {
        NodeKind::Input(input) => input.default.as_ref().map(|(tensor, _)| tensor.byte_len()),
        _ => None,
    };
    let size = readable_bytes(found.iter().filter_map(|(id, _)| bytes(id)).sum());
    Some(match found.len() {
        1 => format!(
            "1 initializer ({size}) is also a graph input ({first}), so a caller may override it and it stays as it is: {CURE} such inputs"
        ),
        count => format!(
            "{count} initializers ({size}) are also graph inputs ({first} ...), so callers may override them and they stay as they are: \
             {CURE} such inputs"
        ),
    })
}

/// What makes constants of defaults, before other steps or alone.
const CURE: &str = "--constant-inputs, or the verb bind-defaults, makes constants of";
