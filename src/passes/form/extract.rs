//! The pass `extract`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::analysis;
use crate::ir::{Graph, Model, Name, ValueType};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};
use crate::transfer::region::{RegionError, extract};

const NAME: &str = "extract";

/// Keeps the part of the model between named values.
///
/// The result computes `outputs` from `inputs` and has them as its interface, in the given order; without `inputs` it starts
/// where the model does. What the outputs do not need is gone. Names, opset imports, functions and metadata stay, and
/// external data is written anew with what the part holds. A part that still reads a graph input is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Extract {
    /// Values that become the inputs.
    #[serde(deserialize_with = "names")]
    pub inputs: Vec<String>,
    /// Values that become the outputs.
    #[serde(deserialize_with = "names")]
    pub outputs: Vec<String>,
}

impl Pass for Extract {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).replacing()
    }

    fn run(&self, model: &mut Model, _: &Context<'_>) -> Result<PassReport, PassError> {
        let before = model.graph.operator_count();
        let mut part = extract(model, &self.inputs, &self.outputs).map_err(refusal)?;
        analysis::infer(&mut part);
        let after = part.graph.operator_count();
        *model = part;
        let mut report = PassReport::default();
        for name in without_rank(&model.graph) {
            report.notes.push(format!(
                "the rank of {name:?} is not known: it is written without a shape, which onnx.checker refuses and engines accept"
            ));
        }
        report.add("part", 1);
        report.add("operator left out", (before - after) as u64);
        Ok(report)
    }
}

/// Names of inputs and outputs that are tensors of unknown rank, or of unknown kind.
fn without_rank(graph: &Graph) -> Vec<&Name> {
    let open = |ty: &ValueType| match ty {
        ValueType::Tensor(tensor) => tensor.shape.is_none(),
        ValueType::Unknown => true,
        _ => false,
    };
    let inputs = graph
        .inputs()
        .iter()
        .filter_map(|id| graph.get(*id)?.outputs().first())
        .filter(|value| open(&value.ty))
        .map(|value| &value.name);
    let outputs = graph
        .outputs()
        .iter()
        .filter(|output| open(&output.ty))
        .map(|output| &output.name);
    inputs.chain(outputs).collect()
}

fn refusal(error: RegionError) -> PassError {
    let message = error.to_string();
    match error {
        RegionError::OpenInput { output, .. } => PassError::Model {
            pass: NAME,
            node: output,
            message,
        },
        _ => PassError::Option { pass: NAME, message },
    }
}

/// Names of values; exporters also use plain numbers, which YAML reads as such.
pub(in crate::passes) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Named {
        Text(String),
        Number(u64),
    }
    let names = Vec::<Named>::deserialize(deserializer)?;
    Ok(names
        .into_iter()
        .map(|name| match name {
            Named::Text(text) => text,
            Named::Number(number) => number.to_string(),
        })
        .collect())
}
