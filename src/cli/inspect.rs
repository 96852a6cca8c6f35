//! `inspect MODEL`: what is in a model.

use std::path::PathBuf;

use clap::Args;

use super::global::Global;
use super::{Answer, model, options, terminal};
use crate::api::Error;
use crate::report::facts::Listed;
use crate::report::table::{self, Style};

/// Show what is in a model: nodes, parameters, size, operations, interface, operators
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model; `-` is stdin
    model: PathBuf,
    /// List every value of the main graph with its inferred type
    #[arg(long)]
    values: bool,
    /// List every operator of the main graph that has parameters or multiplies, with what it costs
    #[arg(long)]
    layers: bool,
    /// Size of a free dimension when operations are counted, by symbol or as input[axis], or all of an input's (x=1,3,224,224)
    #[arg(long = "size", value_name = "NAME=SIZE", value_parser = options::binding)]
    sizes: Vec<options::Binding>,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let model = model::read_to_show(global, &arguments.model)?;
    let listed = Listed {
        values: arguments.values,
        layers: arguments.layers,
    };
    let facts = model.facts_at(&options::sizes_of(&arguments.sizes), listed)?;
    if global.json {
        terminal::json(&facts);
    } else {
        terminal::answer(&table::facts(Style::Terminal, &facts));
    }
    Ok(Answer::Done)
}
