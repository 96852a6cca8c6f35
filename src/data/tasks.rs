//! How a model's answers are read and judged, by task, as a description of data says it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a class a pixel is read from an output, and from masks in image files.
///
/// Float outputs are scores `[C, H, W]` of which the highest counts, or one channel `[1, H, W]` or `[H, W]` of probabilities.
/// Integer outputs `[H, W]` or `[1, H, W]` are class numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SegmentationOptions {
    /// The output; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// An output of one channel is class 1 where it is above this, else 0.
    pub threshold: f64,
    /// Whether the channels are the last axis, `[H, W, C]`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub channels_last: bool,
    /// The value of mask pixels that do not count.
    pub ignore: u16,
    /// Value of a mask pixel: class, -1 where such pixels do not count. Values that are not named are an error; without a map a
    /// value is its class.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, i32>")]
    pub map: BTreeMap<u16, i32>,
    /// What the classes 0, 1, ... are called. With names, a class without one is an error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

impl Default for SegmentationOptions {
    fn default() -> Self {
        Self {
            output: None,
            threshold: 0.5,
            channels_last: false,
            ignore: 255,
            map: BTreeMap::new(),
            names: Vec::new(),
        }
    }
}

/// How a vector a sample is read and compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EmbeddingOptions {
    /// The output; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// A TSV or CSV file with a pair a line: two samples, by index from 0 or by image file, and 1 for the same or 0 for different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PathBuf>,
    /// Shares of different pairs that may be taken for the same. The first one is the figure `tar`, each other one `tar@SHARE`.
    pub far: Vec<f64>,
    /// How an output of several vectors a sample `[T, D]` becomes one; by default all of it is the vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
}

impl Default for EmbeddingOptions {
    fn default() -> Self {
        Self {
            output: None,
            pairs: None,
            far: vec![0.001],
            pool: None,
        }
    }
}

/// How the vectors of a sample become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Their mean, over every position.
    Mean,
    /// The first of them, as where a model has a class token.
    First,
}

/// Two samples whose vectors are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Global index of one sample.
    pub a: u64,
    /// Global index of the other.
    pub b: u64,
    /// Whether both are of the same thing, where the pair has a label.
    pub same: Option<bool>,
}

/// How a text is read from scores of characters by connectionist temporal classification, taking the best class at each step.
///
/// The output is `[T, V]`: steps and classes. An integer output `[T]` holds the best classes themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TextOptions {
    /// The output; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// A file with a character a line, in the order of the classes. The blank may have a line; it is left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charset: Option<PathBuf>,
    /// The characters themselves, in the order of the classes without the blank, where there is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<String>,
    /// Whether a space follows the characters as the last class.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub space: bool,
    /// The class that stands for no character.
    pub blank: u64,
    /// The axis of the classes, without the axis of the samples and axes of size 1: `-1` for `[T, V]`, `0` for `[V, T]`.
    pub axis: i64,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            output: None,
            charset: None,
            characters: None,
            space: false,
            blank: 0,
            axis: -1,
        }
    }
}

/// How next tokens are read: an output of scores `[T, V]` and labels `[T]`, of which negative ones do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TokensOptions {
    /// The output; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Whether the labels are the tokens of the input: what is true at a position is then the label at the next one, and the last
    /// position does not count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shift: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_users_write_them() {
        let options: SegmentationOptions = serde_yaml::from_str("{ignore: 0, map: {7: 0, 8: -1}}").unwrap();
        assert_eq!((options.ignore, options.threshold), (0, 0.5));
        assert_eq!(options.map, BTreeMap::from([(7, 0), (8, -1)]));
        let options: EmbeddingOptions = serde_yaml::from_str("{far: [0.01, 0.1], pool: mean}").unwrap();
        assert_eq!((options.far, options.pool), (vec![0.01, 0.1], Some(Pool::Mean)));
        assert!(serde_yaml::from_str::<TextOptions>("{blnk: 1}").is_err());
        let json = serde_json::to_value(TokensOptions::default()).unwrap();
        assert_eq!(json, serde_json::json!({}));
    }

    #[test]
    fn a_map_of_pixels_is_read_from_json_whose_keys_are_texts() {
        let json = serde_json::json!({"map": {"7": 3}});
        let options: SegmentationOptions = serde_json::from_value(json).unwrap();
        assert_eq!(options.map, BTreeMap::from([(7, 3)]));
    }
}
