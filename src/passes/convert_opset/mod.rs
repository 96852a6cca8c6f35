//! The pass `convert-opset`.
//!
//! [`steps`] says for each operator and each version that changed it what has to be done; [`site`] is what an adapter works
//! with, and the other modules hold the adapters. The pass goes up one version at a time, so an adapter only ever knows two
//! neighbouring forms, and what it inserts is converted by later ones.

mod arguments;
mod images;
mod semantics;
mod site;
mod steps;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scope::{self, Scope};
use super::{About, Context, Pass, PassError, PassReport, Safety};
use crate::analysis::infer;
use crate::ir::{Graph, Model, NodeId, OpsetImport, opset_version};
use crate::ops::{schema, schemas};
use site::Site;
use steps::{Step, step};

const NAME: &str = "convert-opset";

/// The newest opset whose operators are released; the table also knows drafts.
const NEWEST: i64 = 26;

/// Converts the model to a newer version of ONNX's own operators.
///
/// Operators whose form changed on the way are rewritten: axes that became inputs, bounds of Clip, Upsample that became Resize,
/// Softmax over flattened dimensions, and so on; bodies and functions too. An operator that has no equal in the newer version
/// (BatchNormalization in training mode, say) stands in the way: the pass fails and names it, and the model is as before.
/// A model that already has the version, or a newer one, is left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ConvertOpset {
    /// The version to convert to.
    pub version: i64,
}

impl Default for ConvertOpset {
    fn default() -> Self {
        Self { version: 21 }
    }
}

impl Pass for ConvertOpset {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        if !(1..=NEWEST).contains(&self.version) {
            let message = format!(
                "version: {} is not an opset; the newest is {NEWEST}",
                self.version
            );
            return Err(PassError::Option { pass: NAME, message });
        }
        let target = self.version;
        let imports =
            std::iter::once(&model.opset_imports).chain(model.functions.iter().map(|f| &f.opset_imports));
        if imports
            .filter_map(|imports| opset_version(imports, ""))
            .all(|version| version >= target)
        {
            let own = model.opset().unwrap_or_default();
            report.leave(
                "",
                format!("the model has opset {own}, which is not older than {target}"),
            );
            return Ok(report);
        }
        let mut converted = model.clone();
        infer(&mut converted);
        scope::for_each_root(&mut converted, NAME, context, |graph, scope| {
            let Some(from) = scope.version("") else {
                return Ok(());
            };
            for version in from + 1..=target {
                convert(graph, scope, version, &mut report)?;
            }
            Ok(())
        })?;
        report.add("opset import", set_version(&mut converted.opset_imports, target));
        for function in &mut converted.functions {
            report.add("opset import", set_version(&mut function.opset_imports, target));
        }
        raise_ir_version(&mut converted, target);
        infer(&mut converted);
        *model = converted;
        Ok(report)
    }
}

/// Sets the version of ONNX's own domain, where it is lower.
fn set_version(imports: &mut [OpsetImport], target: i64) -> u64 {
    let mut changed = 0;
    for import in imports
        .iter_mut()
        .filter(|import| import.domain().is_empty() && import.version < Some(target))
    {
        import.version = Some(target);
        changed += 1;
    }
    changed
}

/// The IR version that the opset came with: readers may refuse a newer opset in an older IR version.
fn raise_ir_version(model: &mut Model, target: i64) {
    /// First opset of each IR version, from the version table of the specification.
    const FIRST_OPSET: [(i64, i64); 11] = [
        (1, 3),
        (9, 4),
        (10, 5),
        (11, 6),
        (12, 7),
        (15, 8),
        (19, 9),
        (21, 10),
        (23, 11),
        (24, 12),
        (25, 13),
    ];
    let needed = FIRST_OPSET
        .iter()
        .rev()
        .find(|(opset, _)| *opset <= target)
        .map_or(3, |(_, ir)| *ir);
    // From IR version 4 on, an initializer that is listed as an input may be overridden; an older file lists all of them.
    if model.ir_version() >= 4 && model.ir_version() < needed {
        model.header.ir_version = Some(needed);
    }
}

/// Converts every operator of a graph and its bodies from `version - 1` to `version`.
fn convert(
    graph: &mut Graph,
    scope: &Scope<'_>,
    version: i64,
    report: &mut PassReport,
) -> Result<(), PassError> {
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let bodies: Vec<_> = operator.bodies().map(|(at, _)| at).collect();
        if !scope.is_function(operator) && operator.domain().is_empty() {
            convert_operator(graph, id, version, report)?;
        }
        for at in bodies {
            if let Some(body) = graph.body_mut(id, at) {
                convert(body, scope, version, report)?;
            }
        }
    }
    Ok(())
}

fn convert_operator(
    graph: &mut Graph,
    id: NodeId,
    version: i64,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let Some(operator) = graph.operator(id) else {
        return Ok(());
    };
    let op_type = operator.op_type.to_string();
    let blocked = |graph: &Graph, reason: String| PassError::Model {
        pass: NAME,
        node: graph.label(id),
        message: format!(
            "{op_type} cannot be converted from opset {} to {version}: {reason}",
            version - 1
        ),
    };
    let Some(old) = schema("", &op_type, version - 1) else {
        // An operator that the file's opset does not have: what it means is not known.
        return match schemas("", &op_type).first() {
            Some(first) if first.since == version => {
                Err(blocked(graph, format!("opset {version} introduces it")))
            }
            _ => Ok(()),
        };
    };
    let Some(new) = schema("", &op_type, version).filter(|new| new.since == version) else {
        return Ok(());
    };
    match step(old, new) {
        Step::Same => Ok(()),
        Step::Adapt(adapter) => {
            let mut site = Site::new(graph, id);
            match adapter(&mut site) {
                Ok(()) => {
                    report.add(&format!("{op_type} of opset {}", old.since), 1);
                    Ok(())
                }
                Err(reason) => Err(blocked(graph, reason)),
            }
        }
        Step::Unknown => Err(blocked(
            graph,
            "its form changed, and there is no adapter".to_owned(),
        )),
    }
}
