//! The search for a smaller structure of a model: a sweep that is made for it.

use std::path::Path;

use serde_json::{Value, json};

use super::error::Error;
use super::model::Model;
use super::save::write_file;
use super::sweep::Sweep;
use crate::analysis::infer;
use crate::passes::prune::blocks::find;
use crate::schema::flow;

/// How a smaller structure of a model is searched for: how many residual blocks go, how narrow what is left becomes, and in which type it
/// computes.
///
/// Every structure is made by the preset `prune-recover`, trained a little on the features of the model, and measured; the better ones are
/// trained longer (successive halving). The answer is a [`Sweep`], whose front has the structures that no other beats, each with the
/// pipeline that makes it again.
///
/// # Examples
///
/// ```
/// use secateur::{Model, StructureSearch};
/// let search = StructureSearch {
///     macs: vec![0.8, 0.6],
///     ..StructureSearch::default()
/// };
/// let sweep = search.sweep("fixtures/digits_vit.onnx")?;
/// assert!(search.written("fixtures/digits_vit.onnx")?.contains("prune-recover"));
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct StructureSearch {
    /// Shares of the multiply-accumulates that may remain, blocks and channels together.
    pub macs: Vec<f64>,
    /// Numbers of residual blocks that go; by default none, an eighth and a quarter of those that the model has.
    pub blocks: Option<Vec<u32>>,
    /// Types that the result computes in: `float`, `int8`.
    pub precision: Vec<String>,
    /// Epochs of the last rung; the rungs before take a third of those of the next.
    pub epochs: u32,
}

/// Rungs of the search, and one of how many structures goes on.
const RUNGS: u32 = 3;
const ETA: u32 = 3;

impl Default for StructureSearch {
    fn default() -> Self {
        Self {
            macs: vec![0.6, 0.5, 0.4, 0.3],
            blocks: None,
            precision: vec!["float".to_owned(), "int8".to_owned()],
            epochs: 12,
        }
    }
}

impl StructureSearch {
    /// The sweep for a model; calibration and evaluation data come with the options that it is run with.
    ///
    /// # Errors
    ///
    /// A model that cannot be read; `usage` for values that are none.
    ///
    /// # Examples
    ///
    /// See [`StructureSearch`].
    pub fn sweep(&self, model: impl AsRef<Path>) -> Result<Sweep, Error> {
        Sweep::parse(&self.written(model)?)
    }

    /// The same as text, for `secateur sweep` on other machines.
    ///
    /// # Errors
    ///
    /// As [`StructureSearch::sweep`].
    ///
    /// # Examples
    ///
    /// See [`StructureSearch`].
    pub fn written(&self, model: impl AsRef<Path>) -> Result<String, Error> {
        let path = model.as_ref();
        let model = Model::open(path)?;
        let blocks = match &self.blocks {
            Some(blocks) => blocks.clone(),
            None => usual(blocks_of(&model)),
        };
        self.check(&blocks)?;
        let mut epochs: Vec<u32> = (0..RUNGS)
            .map(|rung| (self.epochs / ETA.pow(rung)).max(1))
            .collect();
        epochs.reverse();
        epochs.dedup();
        let search = match epochs.as_slice() {
            [_] => json!("grid"),
            rungs => {
                let rungs: Vec<Value> = rungs.iter().map(|epochs| json!({ "epochs": epochs })).collect();
                json!({ "halving": { "rungs": rungs, "eta": ETA } })
            }
        };
        let mut vars = json!({ "macs": self.macs, "blocks": blocks, "precision": self.precision });
        if let ([only], Some(vars)) = (epochs.as_slice(), vars.as_object_mut()) {
            vars.insert("epochs".to_owned(), json!([only]));
        }
        let lines = [
            ("model", json!(path.display().to_string())),
            ("pipeline", json!("prune-recover")),
            ("vars", vars),
            ("search", search),
        ];
        let lines = lines
            .iter()
            .map(|(key, value)| format!("{key}: {}\n", flow(value)));
        Ok(lines.collect())
    }

    /// Writes it to a file, with the path of the model from the root.
    pub(crate) fn write(&self, model: &Path, path: &Path, force: bool) -> Result<(), Error> {
        let whole = std::path::absolute(model).unwrap_or_else(|_| model.to_owned());
        write_file(path, self.written(whole)?.as_bytes(), force)
    }

    fn check(&self, blocks: &[u32]) -> Result<(), Error> {
        if let Some(share) = self.macs.iter().find(|share| !(**share > 0.0 && **share <= 1.0)) {
            return Err(Error::usage(&format!("macs: {share} is no share above 0")));
        }
        let known = ["float", "int8"];
        if let Some(word) = self.precision.iter().find(|word| !known.contains(&word.as_str())) {
            return Err(Error::usage(&format!(
                "precision: `{word}` is not one of {}",
                known.join(", ")
            )));
        }
        if self.macs.is_empty() || blocks.is_empty() || self.precision.is_empty() || self.epochs == 0 {
            return Err(Error::usage(
                "a search needs shares, numbers of blocks, types and an epoch",
            ));
        }
        Ok(())
    }
}

/// Residual blocks of a model.
fn blocks_of(model: &Model) -> u32 {
    let mut inferred = model.model.clone();
    infer(&mut inferred);
    find(&inferred.graph).blocks.len() as u32
}

/// Numbers of blocks to try for a model that has so many.
fn usual(blocks: u32) -> Vec<u32> {
    let mut numbers = vec![0, blocks.div_ceil(8), blocks.div_ceil(4)];
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_a_sweep_with_rungs_of_epochs() {
        let search = StructureSearch::default();
        let text = search.written("fixtures/digits_vit.onnx").unwrap();
        assert!(text.contains("{epochs: 1}, {epochs: 4}, {epochs: 12}"), "{text}");
        assert!(text.contains("precision: [float, int8]"), "{text}");
        let definition = search.sweep("fixtures/digits_vit.onnx").unwrap().definition;
        let blocks = blocks_of(&Model::open("fixtures/digits_vit.onnx").unwrap());
        assert!(blocks > 0);
        assert_eq!(definition.settings().unwrap().len(), 4 * 2 * usual(blocks).len());
        let short = StructureSearch { epochs: 1, ..search };
        let text = short.written("fixtures/digits_vit.onnx").unwrap();
        assert!(
            text.contains("epochs: [1]") && text.contains("search: grid"),
            "{text}"
        );
    }

    #[test]
    fn numbers_of_blocks_and_values_that_are_none() {
        assert_eq!(
            (usual(0), usual(3), usual(10)),
            (vec![0], vec![0, 1], vec![0, 2, 3])
        );
        let wrong = |search: StructureSearch| search.sweep("fixtures/digits_vit.onnx").unwrap_err();
        let shares = StructureSearch {
            macs: vec![0.0],
            ..StructureSearch::default()
        };
        assert_eq!(wrong(shares).code(), "usage");
        let types = StructureSearch {
            precision: vec!["int3".to_owned()],
            ..StructureSearch::default()
        };
        assert!(wrong(types).message().contains("int3"));
    }
}
