//! Which rewrite of a pipeline breaks a model.

use schemars::JsonSchema;
use serde::Serialize;

use super::definition::Pipeline;
use super::run::{RunError, RunOptions, Runner};
use crate::engine::Engine;
use crate::ir::Model;
use crate::passes::{Change, Limits, PassReport};
use crate::verify::{Divergence, Verdict, localize, smallest_breaking, verify};

/// The rewrite that breaks a model: how many there are, the first after which the outputs differ, and what it was.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Bisection {
    /// Rewrites of the whole run.
    pub rewrites: u64,
    /// The number of the first rewrite after which outputs differ; `null` if they do not.
    pub breaking: Option<u64>,
    /// What that rewrite changed.
    pub changes: Vec<Change>,
    /// The step it is in.
    pub step: Option<String>,
    /// The first node that differs.
    pub divergence: Option<Divergence>,
    /// What is different beside figures: the model does not run any more, or cannot be called as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Finds the smallest number of rewrites after which the result differs from `input`.
pub fn bisect(
    pipeline: &Pipeline,
    input: &Model,
    engine: &dyn Engine,
    options: &RunOptions<'_>,
) -> Result<Bisection, RunError> {
    let with_fuel = |fuel: u64| -> Result<(Model, Vec<(String, PassReport)>), RunError> {
        let limits = Limits {
            fuel: Some(fuel),
            ..options.limits.clone()
        };
        let options = RunOptions {
            limits,
            verify: options.verify.clone(),
            keep: options.keep.clone(),
            ..*options
        };
        let mut runner = Runner::new(pipeline, &options)?;
        let mut model = input.clone();
        let mut reports = Vec::new();
        for (index, step) in pipeline.steps.iter().enumerate() {
            reports.push((step.name.clone(), runner.step(index, step, &mut model)?.1));
        }
        Ok((model, reports))
    };
    let count = |reports: &[(String, PassReport)]| -> u64 {
        reports
            .iter()
            .flat_map(|(_, report)| &report.changes)
            .map(|change| change.count)
            .sum()
    };
    let rewrites = count(&with_fuel(options.limits.fuel.unwrap_or(u64::MAX))?.1);
    let breaking = smallest_breaking(rewrites, |fuel| {
        let (model, _) = with_fuel(fuel)?;
        Ok::<bool, RunError>(verify(input, &model, engine, &options.verify).verdict == Verdict::Different)
    })?;
    let mut found = Bisection {
        rewrites,
        breaking,
        changes: Vec::new(),
        step: None,
        divergence: None,
        reason: None,
    };
    let Some(breaking) = breaking else {
        return Ok(found);
    };
    let (sound, fewer) = with_fuel(breaking - 1)?;
    let (broken, more) = with_fuel(breaking)?;
    for ((name, more), (_, fewer)) in more.iter().zip(&fewer) {
        for change in &more.changes {
            let known = fewer
                .changes
                .iter()
                .find(|known| known.rule == change.rule)
                .map_or(0, |known| known.count);
            if change.count > known {
                found.step.get_or_insert_with(|| name.clone());
                found.changes.push(Change {
                    count: change.count - known,
                    ..change.clone()
                });
            }
        }
    }
    let judged = verify(input, &broken, engine, &options.verify);
    found.reason = judged.reason;
    if let Some(sample) = judged.worst {
        found.divergence = localize(&sound, &broken, engine, &sample, &options.verify)
            .ok()
            .flatten();
    }
    Ok(found)
}
