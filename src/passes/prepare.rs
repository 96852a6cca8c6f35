//! Making a model ready for a pass. What it computes stays the same, and every value has a name and, where inference finds one, a
//! type. Names are given where these functions say so and nowhere in between: what a pass inserts is named after what was there.

use super::simplify::{FoldConstants, Simplify};
use super::{Context, Pass as _, PassError, PassReport};
use crate::analysis::infer;
use crate::ir::Model;

/// How often folding and inference take turns.
const FOLD_ROUNDS: usize = 8;

/// Names every value and infers its type.
pub(super) fn name(model: &mut Model) {
    model.name_values();
    infer(model);
}

/// Simplifies, where the options of a pass want that. Answers what was done, without what was left alone.
pub(super) fn simplify(
    model: &mut Model,
    wanted: bool,
    context: &Context<'_>,
) -> Result<PassReport, PassError> {
    if !wanted {
        return Ok(PassReport::default());
    }
    let done = Simplify::default().run(model, context)?;
    Ok(PassReport {
        changed: done.changed,
        changes: done.changes,
        ..PassReport::default()
    })
}

/// Folds the shape arithmetic of a model and names its values: folding shows more shapes to inference, which shows more constants.
pub(super) fn fold(model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
    let mut report = PassReport::default();
    infer(model);
    for _ in 0..FOLD_ROUNDS {
        let folded = FoldConstants::default().run_inferred(model, context)?;
        let changed = folded.changed;
        report.merge(folded);
        if !changed {
            break;
        }
        infer(model);
    }
    model.name_values();
    Ok(report)
}

/// Folds what hides weights: constants in the place of what is computed from them, with control flow as it is.
pub(super) fn fold_weights(model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
    let fold = FoldConstants {
        keep_control_flow: true,
        ..FoldConstants::default()
    };
    let report = fold.run(model, context)?;
    name(model);
    Ok(report)
}
