//! Another model whose outputs are what is trained for.

use super::error::FinetuneError;
use crate::analysis;
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session};
use crate::ir::{DType, Graph, Model, Tensor, ValueId};
use crate::lower;

/// A model that is run on each batch for its output.
pub struct Teacher<'a> {
    /// The model. It takes inputs of the same names as the one that is trained, or some of them.
    pub model: &'a Model,
    /// The output; the first without a name.
    pub output: Option<&'a str>,
}

/// A teacher that can be run.
pub(super) struct Teaching {
    session: Box<dyn Session>,
    inputs: Vec<String>,
    output: String,
    dtype: DType,
}

impl Teaching {
    /// Compiles `teacher` for a student with the graph `student`, whose loss takes targets of type `dtype`.
    pub(super) fn new(
        teacher: &Teacher<'_>,
        student: &Graph,
        dtype: DType,
        engine: &dyn Engine,
    ) -> Result<Self, FinetuneError> {
        let wrong = |reason: String| Err(FinetuneError::Teacher { reason });
        let mut model = teacher.model.clone();
        model.name_values();
        analysis::infer(&mut model);
        let names = |graph: &Graph| -> Vec<String> {
            let values = graph.inputs().iter().map(|id| ValueId::new(*id, 0));
            values
                .filter_map(|value| graph.value(value).map(|value| value.name.to_string()))
                .collect()
        };
        let (inputs, known) = (names(&model.graph), names(student));
        if let Some(other) = inputs.iter().find(|name| !known.contains(name)) {
            return wrong(format!(
                "it takes {other}, and the model that is trained takes {}",
                known.join(", ")
            ));
        }
        let outputs = model.graph.outputs();
        let found = match teacher.output {
            Some(name) => outputs.iter().find(|output| output.name == *name),
            None => outputs.first(),
        };
        let Some(output) = found.map(|output| output.name.to_string()) else {
            return wrong(format!("it has no output {}", teacher.output.unwrap_or_default()));
        };
        let options = CompileOptions::side_by_side();
        Ok(Self {
            session: engine.compile(
                &lower::for_engine(&model, engine).map_err(EngineError::from)?,
                &options,
            )?,
            inputs,
            output,
            dtype,
        })
    }

    /// What the teacher puts out for a batch.
    pub(super) fn targets(&self, inputs: &RunValues) -> Result<Tensor, FinetuneError> {
        let own: RunValues = inputs
            .iter()
            .filter(|(name, _)| self.inputs.contains(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        match self.session.run(&own)?.remove(&self.output) {
            Some(RunValue::Tensor(tensor)) if tensor.dtype() == self.dtype => Ok(tensor),
            Some(RunValue::Tensor(tensor)) => Err(FinetuneError::Teacher {
                reason: format!(
                    "its output {} holds {}, that of the model that is trained {}",
                    self.output,
                    tensor.dtype(),
                    self.dtype
                ),
            }),
            _ => Err(FinetuneError::Teacher {
                reason: format!("its output {} is no tensor", self.output),
            }),
        }
    }
}
