//! How a pass changes what callers see of a model that goes on computing the same. What came before is then called in the new way, so that
//! the comparison of both stays one of what they compute.

use std::collections::{BTreeMap, HashMap};

use super::distinct::distinct_names;
use crate::ir::{EditError, GraphPath, Model, Name, ValueId};

/// Other names of inputs and outputs, and outputs that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// What graph inputs are called now, by what they were called.
    pub inputs: BTreeMap<String, String>,
    /// The same of graph outputs.
    pub outputs: BTreeMap<String, String>,
    /// Graph outputs that are no more.
    pub dropped: Vec<String>,
}

impl Interface {
    /// Whether callers see no difference.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty() && self.dropped.is_empty()
    }

    /// Lets `model` be called in the new way. What it computes and how stays as it is; inner values whose names are in the way get
    /// others. An input or output that it does not have is passed over.
    ///
    /// # Errors
    ///
    /// An edit that was refused: a defect.
    pub fn apply(&self, model: &mut Model, origin: &'static str) -> Result<(), EditError> {
        for name in &self.dropped {
            let found = model
                .graph
                .outputs()
                .iter()
                .position(|output| output.name == *name.as_str());
            if let Some(at) = found {
                model.graph.edit(origin).remove_graph_output(at)?;
            }
        }
        let graph = &model.graph;
        let inputs = graph
            .inputs()
            .iter()
            .map(|id| (ValueId::new(*id, 0), &self.inputs));
        let outputs = graph
            .output_values()
            .into_iter()
            .flatten()
            .map(|value| (value, &self.outputs));
        let mut names: HashMap<ValueId, Name> = HashMap::new();
        for (value, new) in inputs.chain(outputs) {
            let name = graph.value(value).and_then(|value| new.get(value.name.as_str()));
            if let Some(name) = name {
                names.insert(value, Name::from(name.as_str()));
            }
        }
        model.rename_values(&HashMap::from([(GraphPath::MAIN, names)]));
        distinct_names(model, origin)
    }
}
