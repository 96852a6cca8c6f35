//! Bringing two models to one opset and one IR version before one becomes part of the other.

use super::ConvertOpset;
use crate::ir::{Model, opset_version};
use crate::passes::{Context, Pass, PassError, PassReport};
use crate::transfer::splice::unlist_initializers;

/// The highest version of ONNX's own operators in a model and its functions.
fn highest(model: &Model) -> Option<i64> {
    std::iter::once(&model.opset_imports)
        .chain(model.functions.iter().map(|function| &function.opset_imports))
        .filter_map(|imports| opset_version(imports, ""))
        .max()
}

/// Converts the model with the older opset to that of the other, and raises both to the newer IR version. An operator that
/// cannot be converted stands in the way: the error names it and says in which of the models it is.
///
/// Changes are added to `report`.
pub fn align(
    pass: &'static str,
    target: &mut Model,
    part: &mut Model,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    if let (Some(own), Some(other)) = (highest(target), highest(part)) {
        let version = own.max(other);
        for (model, which) in [(&mut *target, "target"), (&mut *part, "source")] {
            if opset_version(&model.opset_imports, "").is_none_or(|opset| opset == version)
                && highest(model) == Some(version)
            {
                continue;
            }
            let converted =
                ConvertOpset::at_least(version)
                    .run(model, context)
                    .map_err(|error| match error {
                        PassError::Model { node, message, .. } => PassError::Model {
                            pass,
                            node,
                            message: format!("the {which} model: {message}"),
                        },
                        other => other,
                    })?;
            if converted.changed {
                report.add(&format!("{which} converted to opset {version}"), 1);
            }
        }
    }
    let ir = target.ir_version().max(part.ir_version());
    for model in [target, part] {
        if model.ir_version() < ir {
            model.header.ir_version = Some(ir);
            unlist_initializers(model).map_err(|source| PassError::Edit { pass, source })?;
        }
    }
    Ok(())
}
