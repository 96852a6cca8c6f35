//! `gradients MODEL --loss LOSS -o GRAD`: a model that computes a loss and its gradients.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::global::Global;
use super::options::size;
use super::{Answer, model, terminal};
use crate::api::{
    Destination, Error, GradientDocument, GradientOptions, InputIs, Loss, MODEL, Wrt, gradients, write,
};
use crate::report::sanitise;

/// Write a model that computes a loss and its gradients, out of plain ONNX operators
///
/// Its inputs are those of the model and `labels` (cross-entropy) or `targets`; its outputs are `loss`, the mean over the batch,
/// and `grad/NAME` for each wanted value. Any runtime runs it.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model; `-` is stdin
    model: PathBuf,
    /// The loss
    #[arg(long, value_enum)]
    loss: LossName,
    /// Where the gradient model goes; `-` is stdout
    #[arg(short, long, value_name = "GRAD")]
    output_file: PathBuf,
    /// The output that the loss sits on [default: the first]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// What that output holds
    #[arg(long, value_enum, default_value_t = Holds::Auto)]
    input_is: Holds,
    /// The class axis of cross-entropy and distillation [default: that of the Softmax at the end, else 1]
    #[arg(long, value_name = "AXIS", allow_hyphen_values = true)]
    axis: Option<i64>,
    /// The temperature of distillation
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// A value to differentiate with respect to; repeatable [default: the float initializers that the loss depends on]
    #[arg(long, value_name = "NAME")]
    wrt: Vec<String>,
    /// Fix a symbolic size of the inputs, by symbol or as input[axis]; repeatable
    #[arg(long, value_name = "NAME=SIZE", value_parser = size)]
    bind: Vec<(String, i64)>,
    /// Make the wanted initializers graph inputs: one model then serves every step of an optimisation
    #[arg(long)]
    weights_as_inputs: bool,
    /// Also return the differentiated output
    #[arg(long)]
    keep_output: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LossName {
    /// Of class scores against `labels`
    CrossEntropy,
    /// Mean of (y - targets)²
    MeanSquaredError,
    /// Of independent probabilities against `targets`
    BinaryCrossEntropy,
    /// Divergence from a teacher's outputs, `targets`
    Distillation,
    /// Σ y · targets: a vector-Jacobian product
    InnerProduct,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Holds {
    /// Probabilities where the graph ends in Softmax, LogSoftmax or Sigmoid, else logits
    Auto,
    /// Scores before Softmax or Sigmoid
    Logits,
    /// Probabilities
    Probabilities,
}

impl Arguments {
    fn loss(&self) -> Loss {
        let input = match self.input_is {
            Holds::Auto => InputIs::Auto,
            Holds::Logits => InputIs::Logits,
            Holds::Probabilities => InputIs::Probabilities,
        };
        match self.loss {
            LossName::CrossEntropy => Loss::CrossEntropy {
                input,
                axis: self.axis,
            },
            LossName::MeanSquaredError => Loss::MeanSquaredError,
            LossName::BinaryCrossEntropy => Loss::BinaryCrossEntropy { input },
            LossName::Distillation => Loss::Distillation {
                input,
                axis: self.axis,
                temperature: self.temperature,
            },
            LossName::InnerProduct => Loss::InnerProduct,
        }
    }
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let mut files = global.files();
    files.reads(MODEL, &arguments.model);
    let Some(output) = model::output(global, &arguments.model, Some(&arguments.output_file))? else {
        return Err(Error::usage("-o names the gradient model"));
    };
    files.output(&output, global.in_place);
    files.check()?;
    let loaded = model::read(global, &arguments.model)?;
    let wrt = match arguments.wrt.as_slice() {
        [] => Wrt::Parameters,
        names => Wrt::Named(names.to_vec()),
    };
    let options = GradientOptions {
        output: arguments.output.clone(),
        sizes: arguments.bind.iter().cloned().collect(),
        weights_as_inputs: arguments.weights_as_inputs,
        keep_output: arguments.keep_output,
        loss_only: false,
    };
    let made = gradients(&loaded, &arguments.loss(), &wrt, &options)
        .map_err(|error| error.in_file(&arguments.model))?;
    let written = write(&made, &output, &global.options())?;
    if global.quiet == 0 {
        for note in &written.notes {
            terminal::note(&format!("warning: {}", sanitise(note)));
        }
    }
    let document = GradientDocument::of(&made, &output, written);
    if global.json {
        terminal::json(&document);
    } else if global.quiet == 0 && output != Destination::Stdout {
        terminal::answer(&format!(
            "{}: {} nodes, gradients of {} values",
            sanitise(&document.files.join(", ")),
            document.nodes,
            document
                .outputs
                .iter()
                .filter(|name| name.starts_with("grad/"))
                .count()
        ));
    }
    Ok(Answer::Done)
}
