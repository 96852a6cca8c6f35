//! The pass `convert-opset`.
//!
//! [`steps`] says for each operator and each version that changed it what has to be done on the way up, [`down`] and [`back`] on
//! the way down; [`site`] is what an adapter works with, and the other modules hold the adapters. The pass goes one version at a
//! time, so an adapter only ever knows two neighbouring forms, and what it inserts is converted by later ones.

mod arguments;
mod back;
mod down;
mod images;
mod obstacle;
mod semantics;
mod site;
mod steps;
mod versions;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::{check, infer};
use crate::ir::{ConstantOrigin, Graph, Model, NodeId, NodeKind, Operator, ValueId, opset_version};
use crate::ops::{schema, schemas};
use crate::passes::scope::{self, Scope};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};
use obstacle::Obstacle;
use site::Site;
use steps::{Step, step};

const NAME: &str = "convert-opset";

/// The newest opset whose operators are released; the table also knows drafts.
const NEWEST: i64 = 26;

/// The opset to convert to when none is asked for.
const USUAL: i64 = 21;

/// Converts the model to another version of ONNX's own operators, newer or older.
///
/// Operators whose form changed on the way are rewritten: axes that became inputs or were attributes, bounds of Clip, Upsample that
/// became Resize, Softmax over flattened dimensions, and so on; bodies and functions too. An operator that has no equal in the
/// wanted version (BatchNormalization in training mode, say, or LayerNormalization below 17) stands in the way: the pass fails and
/// names it, and the model is as before.
///
/// The IR version goes up to what the opset came with, and down with an older opset as far as the model allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ConvertOpset {
    /// The opset to convert to, 21 if none is given; an older one than the model's has to be given.
    #[schemars(range(min = 1, max = NEWEST))]
    pub to: Option<i64>,
    /// The same as `to`.
    #[schemars(range(min = 1, max = NEWEST))]
    pub version: Option<i64>,
    /// Leave what is newer as it is.
    #[serde(skip)]
    #[schemars(skip)]
    raise_only: bool,
}

impl ConvertOpset {
    /// Converts to this opset, up or down.
    pub fn to(opset: i64) -> Self {
        Self {
            to: Some(opset),
            ..Self::default()
        }
    }

    /// Converts what is older than this opset.
    pub fn at_least(opset: i64) -> Self {
        Self {
            raise_only: true,
            ..Self::to(opset)
        }
    }

    /// The version to convert to, for a model and functions with these versions.
    fn target(&self, versions: &[i64]) -> Result<i64, PassError> {
        let option = |message: String| Err(PassError::Option { pass: NAME, message });
        let target = match (self.to, self.version) {
            (Some(to), Some(version)) if to != version => {
                return option(format!(
                    "to and version are the same option, and say {to} and {version}"
                ));
            }
            (Some(target), _) | (None, Some(target)) => target,
            (None, None) => match versions.iter().max() {
                Some(own) if *own > USUAL => {
                    return option(format!(
                        "the model has opset {own}, which is newer than {USUAL}; say which opset to convert to with --to N"
                    ));
                }
                _ => USUAL,
            },
        };
        if (1..=NEWEST).contains(&target) {
            Ok(target)
        } else {
            option(format!("to: {target} is not an opset; the newest is {NEWEST}"))
        }
    }
}

impl Pass for ConvertOpset {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let imports =
            std::iter::once(&model.opset_imports).chain(model.functions.iter().map(|f| &f.opset_imports));
        let versions: Vec<i64> = imports.filter_map(|imports| opset_version(imports, "")).collect();
        let target = self.target(&versions)?;
        let stays = |version: &i64| *version == target || self.raise_only && *version > target;
        if versions.iter().all(stays) {
            let reason = match versions.first() {
                Some(version) => format!("the model has opset {version} already"),
                None => "the model imports no opset of ONNX's own domain".to_owned(),
            };
            report.leave("", reason);
            return Ok(report);
        }
        let mut converted = model.clone();
        infer(&mut converted);
        scope::for_each_root(&mut converted, NAME, context, |graph, scope| {
            let from = scope.version("").unwrap_or(target);
            for version in from + 1..=target {
                convert(graph, scope, version, Way::Up, &mut report)?;
            }
            Ok(())
        })?;
        versions::set(&mut converted, |version| version.max(target));
        let newest = versions.iter().copied().max().unwrap_or(target);
        for version in (target + 1..=newest).rev().filter(|_| !self.raise_only) {
            // Adapters ask for ranks and types, of what the last step has inserted, too.
            infer(&mut converted);
            scope::for_each_root(&mut converted, NAME, context, |graph, scope| {
                if scope.version("") == Some(version) {
                    convert(graph, scope, version, Way::Down, &mut report)?;
                }
                Ok(())
            })?;
            versions::set(&mut converted, |own| own.min(version - 1));
        }
        versions::report(&versions, &converted, &mut report);
        let from = if self.raise_only { 0 } else { newest };
        versions::adapt_ir_version(&mut converted, from, target);
        infer(&mut converted);
        if let Some(error) = check(&converted)
            .err()
            .and_then(|errors| errors.into_iter().next())
        {
            return Err(PassError::Model {
                pass: NAME,
                node: error.node.clone().unwrap_or_else(|| "the model".to_owned()),
                message: format!("cannot be converted to opset {target}: {}", error.problem),
            });
        }
        *model = converted;
        Ok(report)
    }
}

/// To the next version, or to the one before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Converts every operator of a graph and its bodies: from `version - 1` to `version` on the way up, back on the way down.
fn convert(
    graph: &mut Graph,
    scope: &Scope<'_>,
    version: i64,
    way: Way,
    report: &mut PassReport,
) -> Result<(), PassError> {
    for id in graph.topological_order() {
        if way == Way::Down {
            constant(graph, id, version)?;
        }
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let bodies: Vec<_> = operator.bodies().map(|(at, _)| at).collect();
        if !scope.is_function(operator) {
            if operator.is_opaque() && operator.imported_domain().is_empty() {
                opaque(graph, id, version, way)?;
            } else if operator.domain().is_empty() {
                convert_operator(graph, id, version, way, report)?;
            }
        }
        for at in bodies {
            if let Some(body) = graph.body_mut(id, at) {
                convert(body, scope, version, way, report)?;
            }
        }
    }
    Ok(())
}

/// A `Constant` node in the form of the version before: tensors only below 12, dense ones below 11.
fn constant(graph: &mut Graph, id: NodeId, version: i64) -> Result<(), PassError> {
    let Some(NodeKind::Constant(constant)) = graph.get(id).map(|node| &node.kind) else {
        return Ok(());
    };
    let ConstantOrigin::Node { attribute, .. } = &constant.origin else {
        return Ok(());
    };
    match (version, &*attribute.name, &constant.tensor) {
        (11, "sparse_value", _) => Err(PassError::Model {
            pass: NAME,
            node: graph.label(id),
            message: "Constant cannot be converted from opset 11 to 10: it is sparse".to_owned(),
        }),
        (12, name, Some(tensor)) if name.starts_with("value_") => {
            let tensor = tensor.clone();
            let mut editor = graph.edit(NAME);
            let dense = editor.add_constant("", tensor);
            editor
                .replace(ValueId::new(id, 0), dense)
                .map_err(|source| PassError::Edit { pass: NAME, source })?;
            editor.remove_unused(id);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The message of an operator that stands in the way.
fn blocked(graph: &Graph, id: NodeId, op_type: &str, version: i64, way: Way, reason: &Obstacle) -> PassError {
    let (from, to) = match way {
        Way::Up => (version - 1, version),
        Way::Down => (version, version - 1),
    };
    PassError::Model {
        pass: NAME,
        node: graph.label(id),
        message: format!("{op_type} cannot be converted from opset {from} to {to}: {reason}"),
    }
}

/// An operator that the version lacks is carried on, until a version has one of its name: then what it means has to be known.
fn opaque(graph: &mut Graph, id: NodeId, version: i64, way: Way) -> Result<(), PassError> {
    /// Operators that ONNX Runtime has in ONNX's own domain before the version that introduces them, as the same.
    const EARLY: [(&str, i64); 1] = [("LayerNormalization", 17)];
    let Some(op_type) = graph.operator(id).map(|operator| operator.op_type.to_string()) else {
        return Ok(());
    };
    let to = match way {
        Way::Up => version,
        Way::Down => version - 1,
    };
    let Some(form) = schema("", &op_type, to).filter(|form| !form.deprecated) else {
        return Ok(());
    };
    let withdrawn = way == Way::Down && schema("", &op_type, version).is_some_and(|form| form.deprecated);
    if EARLY.contains(&(&*op_type, form.since)) || withdrawn {
        graph.set_opaque(id, false);
        return Ok(());
    }
    let reason =
        format!("opset {to} has an operator of this name, and what this one means is not known").into();
    Err(blocked(graph, id, &op_type, version, way, &reason))
}

fn convert_operator(
    graph: &mut Graph,
    id: NodeId,
    version: i64,
    way: Way,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let Some(op_type) = graph.operator(id).map(|operator| operator.op_type.to_string()) else {
        return Ok(());
    };
    let Some(new) = schema("", &op_type, version) else {
        return Ok(());
    };
    let old = schema("", &op_type, version - 1);
    let adapted = match (way, old) {
        (Way::Up, None) => match schemas("", &op_type).first() {
            // An operator that the file's opset does not have: what it means is not known.
            Some(first) if first.since == version => Err(Obstacle::Introduced { opset: version }),
            _ => Ok(false),
        },
        (Way::Down, None) => match back::before(&op_type, version) {
            Some(adapter) => adapter(&mut Site::new(graph, id)).map(|()| true),
            None => Err(Obstacle::Introduced { opset: version }),
        },
        (_, Some(old)) if old.since == new.since => Ok(false),
        (Way::Down, Some(old)) => {
            let before = graph.operator(id).map(form_of);
            down::lower(&mut Site::new(graph, id), new, old)
                .map(|()| graph.operator(id).map(form_of) != before)
        }
        (Way::Up, Some(old)) => match step(old, new) {
            Step::Same => Ok(false),
            Step::Adapt(adapter) => adapter(&mut Site::new(graph, id)).map(|()| true),
            Step::Unknown => Err(Obstacle::NoAdapter),
        },
    };
    match adapted {
        Ok(true) => {
            let from = match way {
                Way::Up => old.map_or(version - 1, |old| old.since),
                Way::Down => new.since,
            };
            report.add(&format!("{op_type} of opset {from}"), 1);
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(Obstacle::Edit(source)) => Err(PassError::Edit { pass: NAME, source }),
        Err(reason) => Err(blocked(graph, id, &op_type, version, way, &reason)),
    }
}

/// What a step may change of an operator.
fn form_of(operator: &Operator) -> (String, usize, Vec<String>) {
    (
        operator.op_type.to_string(),
        operator.input_count(),
        operator
            .attributes()
            .iter()
            .map(|attribute| attribute.name.to_string())
            .collect(),
    )
}
