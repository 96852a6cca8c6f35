//! What was measured on data, kept for passes that a search runs more than once on the same model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::data::Dataset;
use crate::ir::{Model, model_digest};
use crate::statistics::StatisticsError;
use crate::statistics::gram::{Grams, Layer};

/// Second moments by the model, the data and the layers that they are of, and squares of gradients by the model, the data and the output.
#[derive(Debug, Default)]
pub struct Kept {
    grams: Mutex<BTreeMap<String, Grams>>,
    squares: Mutex<BTreeMap<String, Squares>>,
}

/// Σ g² of each parameter by name, element by element.
pub(super) type Squares = Arc<BTreeMap<String, Vec<f64>>>;

impl Kept {
    /// The squares under this key, as `collect` found them the first time. What fails is not kept.
    pub(super) fn squares<E>(
        kept: Option<&Self>,
        key: impl FnOnce() -> String,
        collect: impl FnOnce() -> Result<Squares, E>,
    ) -> Result<Squares, E> {
        let Some(kept) = kept else { return collect() };
        let known = || kept.squares.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key();
        let found = known().get(&key).cloned();
        if let Some(found) = found {
            return Ok(found);
        }
        let found = collect()?;
        known().insert(key, found.clone());
        Ok(found)
    }

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
