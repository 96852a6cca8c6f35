//! What was measured on data, kept for passes that a search runs more than once on the same model.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::data::Dataset;
use crate::ir::{Model, model_digest};
use crate::statistics::StatisticsError;
use crate::statistics::gram::{Grams, Layer};

/// Second moments by the model, the data and the layers that they are of.
#[derive(Debug, Default)]
pub struct Kept {
    grams: Mutex<BTreeMap<String, Grams>>,
}

impl Kept {
    /// Second moments of these layers, as `collect` found them the first time. Without a place to keep them they are collected each time.
    pub(super) fn grams(
        kept: Option<&Self>,
        (model, layers): (&Model, &[Layer]),
        data: &Dataset,
        collect: impl FnOnce() -> Result<Grams, StatisticsError>,
    ) -> Result<Grams, StatisticsError> {
        let Some(kept) = kept else { return collect() };
        let known = || kept.grams.lock().unwrap_or_else(PoisonError::into_inner);
        let layers: Vec<String> = layers.iter().map(Layer::key).collect();
        let key = format!("{} {} {}", model_digest(model), data.digest(), layers.join(" "));
        if let Some(found) = known().get(&key) {
            return Ok(found.clone());
        }
        let found = collect()?;
        known().insert(key, found.clone());
        Ok(found)
    }
}
