//! What is true of one sample beyond a class: boxes with their categories and keypoints, a mask, a text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a model is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// A class a sample: accuracy, precision, recall, F1.
    Classification,
    /// Float targets: squared and absolute errors, R², signal to noise.
    Regression,
    /// Boxes with categories: mean average precision.
    Detection,
    /// People or things with keypoints: average precision by object keypoint similarity.
    Keypoints,
    /// A class a pixel: mean intersection over union.
    Segmentation,
    /// A vector a sample: cosine, rank correlation, verification and retrieval.
    Embedding,
    /// Text by connectionist temporal classification: error rates of characters and words.
    Text,
    /// The next token at each position: perplexity.
    Tokens,
    /// A signal a sample, with float targets: signal to noise ratios.
    Signals,
}

/// One true object of an image, in pixels of the image file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrueBox {
    /// Its category: the `id` of a COCO file, the class number of a YOLO line, the place of a name among those that occur.
    pub category: i64,
    /// Left, top, width, height.
    pub rect: [f64; 4],
    /// Area that its size is judged by: of the object's outline where it is known.
    pub area: f64,
    /// A group that is not to be counted one by one: what is found in it is neither right nor wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crowd: bool,
    /// Left out of the judgement like a crowd, without taking more than one detection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore: bool,
    /// `x, y, visibility` for each keypoint: 0 not labelled, 1 hidden, 2 visible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keypoints: Vec<[f64; 3]>,
}

/// Classes of the pixels of an image, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// A class a pixel; pixels that do not count are [`Mask::IGNORED`].
    pub classes: Vec<u16>,
}

impl Mask {
    /// The class of pixels that do not count.
    pub const IGNORED: u16 = u16::MAX;
}

/// What is true of one sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// Objects; none is an answer, too.
    Boxes(Vec<TrueBox>),
    /// Classes of pixels.
    Mask(Mask),
    /// What is written.
    Text(String),
}

/// How an image became a model's input: `input = image * scale + offset`, in pixels of each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Width and height of the image.
    pub image: [u32; 2],
    /// Width and height of the input.
    pub input: [u32; 2],
    /// Factors along x and y.
    pub scale: [f64; 2],
    /// Pixels of the input left of and above the image; negative where it was cropped.
    pub offset: [f64; 2],
}

impl Frame {
    /// That of something that is taken as it is.
    pub fn identity(width: u32, height: u32) -> Self {
        Self {
            image: [width, height],
            input: [width, height],
            scale: [1.0; 2],
            offset: [0.0; 2],
        }
    }

    /// A point of the input as a point of the image.
    pub fn to_image(&self, x: f64, y: f64) -> (f64, f64) {
        (
            (x - self.offset[0]) / self.scale[0],
            (y - self.offset[1]) / self.scale[1],
        )
    }
}

/// What categories are called, by their numbers.
pub type Categories = BTreeMap<i64, String>;
