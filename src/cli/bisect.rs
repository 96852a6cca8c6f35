//! `bisect MODEL`: the one rewrite that breaks a model.

use std::path::PathBuf;

use clap::Args;

use super::global::Global;
use super::options::Comparing;
use super::progress::Progress;
use super::{Answer, model, terminal};
use crate::api::{self, Error, Pipeline};
use crate::report::{sanitise, whole};

/// Find the first rewrite of a pipeline after which the outputs differ
///
/// Exit status 0: no rewrite breaks the model. 1: one does, and it is named.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model; `-` is stdin
    model: PathBuf,
    /// A pipeline file, or the name of a preset
    #[arg(long, default_value = "simplify")]
    pipeline: PathBuf,
    #[command(flatten)]
    comparing: Comparing,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let pipeline = Pipeline::find(&arguments.pipeline)?;
    global.limit_threads();
    let loaded = model::read(global, &arguments.model)?;
    let progress = Progress::new(global);
    let options = arguments
        .comparing
        .apply(global.options())
        .progress(progress.teller());
    let found = api::bisect(&pipeline, &loaded, &options)?;
    drop(progress);
    if global.json {
        terminal::json(&found);
    } else {
        match found.breaking {
            None => terminal::answer(&format!(
                "none of {} rewrites makes the outputs differ",
                found.rewrites
            )),
            Some(breaking) => {
                let step = found.step.as_deref().unwrap_or("?");
                terminal::answer(&format!(
                    "rewrite {breaking} of {} makes the outputs differ, in step {step}",
                    found.rewrites
                ));
                for change in &found.changes {
                    terminal::answer(&format!("  {}", change.rule));
                    change
                        .details
                        .iter()
                        .for_each(|detail| terminal::answer(&format!("    {}", sanitise(detail))));
                }
                if let Some(reason) = &found.reason {
                    terminal::answer(&sanitise(reason));
                }
                if let Some(divergence) = &found.divergence {
                    terminal::answer(&whole::describe(divergence));
                }
            }
        }
    }
    Ok(if found.breaking.is_some() {
        Answer::No
    } else {
        Answer::Done
    })
}
