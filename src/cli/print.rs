//! `print MODEL`: the model in ONNX's textual syntax.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::{Answer, model, terminal};
use crate::api::Error;
use crate::report::sanitise;

/// Print a model in ONNX's textual syntax
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model; `-` is stdin
    model: PathBuf,
    /// The most elements of a tensor to print; `...` stands for the rest, and the text cannot be read back
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_elements: usize,
    /// Print every element
    #[arg(long, conflicts_with = "max_elements")]
    all: bool,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let loaded = model::read_to_show(global, &arguments.model)?;
    let text = loaded.print((!arguments.all).then_some(arguments.max_elements))?;
    if global.json {
        terminal::json(&json!({ "text": text }));
    } else {
        // The syntax has escapes of its own for what stands in quotes; what is left is made harmless line by line.
        let lines: Vec<String> = text.lines().map(sanitise).collect();
        terminal::answer(&lines.join("\n"));
    }
    Ok(Answer::Done)
}
