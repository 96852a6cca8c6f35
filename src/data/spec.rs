//! The description of a data set: in a pipeline's `data:`, in a file of its own, or as plain flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::augment::Augment;
use super::boxes::Boxes;
use super::error::SpecError;
use super::memory::Arrays;
use super::preprocess::PreprocessSpec;
use super::tasks::{EmbeddingOptions, SegmentationOptions, TextOptions, TokensOptions};
use super::truth::TaskKind;

/// Describes samples and how they become a model's inputs. Exactly one source is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Spec {
    /// A `.npz` file, or a single `.npy` array. An array whose rank equals the input's has its samples along axis 0; with one
    /// axis more, each entry is one whole input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub npz: Option<PathBuf>,
    /// A folder of JPEG, PNG or WebP images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageSpec>,
    /// A folder with ONNX `test_data_set_*` folders; each is one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx: Option<PathBuf>,
    /// Random values made from the model's input types; they say nothing about accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<SyntheticSpec>,
    /// Arrays that a program hands over; a text cannot hold them.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub arrays: Option<Arrays>,
    /// Model input: array in the file. May be left out when names agree or there is one of each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// What the model is judged by; classes or values by default, else what the labels and the fields of a task say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKind>,
    /// The array that holds the labels: integers are classes, floats are targets. For images, the table of labels. For other tasks the
    /// annotations: a COCO file, a folder of YOLO or Pascal VOC files or of masks, a table of texts. `reference`: what the reference model
    /// answers is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// How boxes are read from the outputs, for detection and keypoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<Boxes>,
    /// A file with the names of the categories of YOLO or Pascal VOC labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<PathBuf>,
    /// How classes of pixels are read, for segmentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<SegmentationOptions>,
    /// How vectors are read and compared, for embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<EmbeddingOptions>,
    /// How texts are read, for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextOptions>,
    /// How next tokens are read, for tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensOptions>,
    /// How pixels become input values, for image folders and for arrays of pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessSpec>,
    /// How images are varied in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Use this many samples: the first ones, or with `seed` a random choice of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Seed of the choice of samples and of synthetic values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Use part I of N of the batches, as `I/N`, I counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Samples a run, where the model leaves it open; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
}

/// A folder of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ImageSpec {
    /// The folder. Without a table of labels, its sub-folders in alphabetical order are the classes 0, 1, ...
    pub folder: PathBuf,
    /// A CSV or TSV file with a file name and an integer label a line; a heading line is skipped. Relative to the folder, or else
    /// to the description. `labels.tsv` or `labels.csv` in the folder is found without being named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// How pixels become input values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessSpec>,
}

/// Random inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SyntheticSpec {
    /// Lowest and highest value of float inputs; `[-1, 1]` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Values of integer inputs are below this; 2 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<i64>,
    /// Sizes for symbolic dimensions that are not the batch; 1 by default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, i64>,
}

/// Part `index` of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Shard {
    /// Which part, from 0.
    pub index: u64,
    /// How many parts there are.
    pub count: u64,
}

/// The source a [`Spec`] names.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum SourceSpec<'a> {
    Npz(&'a Path),
    Arrays(&'a Arrays),
    Images(&'a ImageSpec),
    Onnx(&'a Path),
    Synthetic(&'a SyntheticSpec),
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a shard; write I/N with I below N, for example 0/4");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let index = index.trim().parse().map_err(|_| wrong())?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        if index < count {
            Ok(Self { index, count })
        } else {
            Err(wrong())
        }
    }
}

impl Serialize for Shard {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.index, self.count))
    }
}

impl<'de> Deserialize<'de> for Shard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Spec {
    /// The one source; an error when there is none or more than one.
    pub fn source(&self) -> Result<SourceSpec<'_>, SpecError> {
        let sources = [
            self.npz.as_deref().map(SourceSpec::Npz),
            self.arrays.as_ref().map(SourceSpec::Arrays),
            self.images.as_ref().map(SourceSpec::Images),
            self.onnx.as_deref().map(SourceSpec::Onnx),
            self.synthetic.as_ref().map(SourceSpec::Synthetic),
        ];
        let mut given = sources.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(source), None) => Ok(source),
            _ => Err(SpecError::Sources),
        }
    }

    /// The preprocessing, wherever it stands.
    pub fn preprocessing(&self) -> Option<&PreprocessSpec> {
        self.preprocess
            .as_ref()
            .or_else(|| self.images.as_ref()?.preprocess.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_index_of_count() {
        assert_eq!("1/4".parse(), Ok(Shard { index: 1, count: 4 }));
        for wrong in ["4/4", "1", "a/2", "-1/2", "0/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_source_is_needed() {
        let spec: Spec = serde_yaml::from_str("npz: a.npz\nlabels: y\nshard: 0/2\n").unwrap();
        assert!(matches!(spec.source(), Ok(SourceSpec::Npz(_))));
        assert!(matches!(Spec::default().source(), Err(SpecError::Sources)));
        let two: Spec = serde_yaml::from_str("npz: a.npz\nonnx: b\n").unwrap();
        assert!(two.source().is_err());
    }
}
