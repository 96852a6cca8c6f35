//! Where the samples of a batch lie in each value of a model, found once for each set of sizes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Batch, samples_first};
use crate::analysis::batch::{Placement, placements};
use crate::engine::RunValue;
use crate::ir::{Model, Tensor};

/// Where samples lie, by the name of the value. A value that is not there belongs to the run as a whole.
pub type Placements = Arc<HashMap<String, Placement>>;

/// A model, and where samples lie in its values.
pub struct Places<'m> {
    model: &'m Model,
    /// By the dimensions of the inputs and the samples that ran.
    known: Mutex<BTreeMap<Vec<Vec<u64>>, Placements>>,
}

impl<'m> Places<'m> {
    /// Those of `model`.
    pub fn of(model: &'m Model) -> Self {
        Self {
            model,
            known: Mutex::default(),
        }
    }

    /// Where the samples of a batch lie in each value.
    pub fn of_batch(&self, batch: &Batch) -> Placements {
        if !batch.stacked {
            return Placements::default();
        }
        let dims = |value: &RunValue| match value {
            RunValue::Tensor(tensor) => tensor.dims().to_vec(),
            _ => Vec::new(),
        };
        let sizes: BTreeMap<String, Vec<u64>> = batch
            .inputs
            .iter()
            .map(|(name, value)| (name.clone(), dims(value)))
            .filter(|(_, dims)| !dims.is_empty())
            .collect();
        let key: Vec<Vec<u64>> = sizes.values().cloned().collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known
            .entry(key)
            .or_insert_with(|| Arc::new(placements(self.model, &sizes, batch.ran as u64)));
        Arc::clone(found)
    }

    /// A value of a run with the samples as its first axis: see [`samples_first`]. Where nothing is known of the value, its first axis
    /// is taken for the batch if it has that many entries.
    pub fn samples_first<'t>(
        &self,
        name: &str,
        tensor: &'t Tensor,
        batch: &Batch,
    ) -> Option<Cow<'t, Tensor>> {
        let known = match batch.stacked {
            true => self.of_batch(batch).get(name).copied(),
            false => None,
        };
        let plain = batch.stacked && tensor.dims().first() == Some(&(batch.ran as u64));
        samples_first(tensor, batch, known.or(plain.then_some(Placement::FIRST)))
    }

    /// Names of the graph outputs, in order.
    pub fn outputs(&self) -> Vec<String> {
        let outputs = self.model.graph.outputs().iter();
        outputs.map(|output| output.name.to_string()).collect()
    }
}
