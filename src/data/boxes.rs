//! How boxes are read from a model's outputs, as data: a layout of `layouts/`, or one that a description spells out.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The layout of models that read their boxes themselves.
const BAKED: &str = "baked";

static LAYOUTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/layouts");

/// How boxes are read. What is left out comes from `layout`; without that, from the layout that the outputs fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BoxesSpec {
    /// The layout to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Which output holds which part, by name or by place from 0; several names are the scales of `strides`, in order.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<Part, Outputs>,
    /// Where parts stand in a row of an output that holds several: `[first, end]`, or `[first]` up to the last; negative from the end.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<Part, Vec<i64>>,
    /// Whether a prediction is a column of the outputs and not a row: `[4 + classes, predictions]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transposed: Option<bool>,
    /// What the numbers of a box mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<BoxCode>,
    /// What the numbers of a box count; codes that hold for a grid are in its cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Units>,
    /// Pixels of the input from one cell of a grid to the next, one a scale. Predictions stand scale after scale, each row by row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strides: Vec<u32>,
    /// Where in its cell a prediction's point stands: 0 the corner, 0.5 the centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<f64>,
    /// Centre x, centre y, width and height of the anchor of each prediction, in the units of the boxes, for `offsets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<[f64; 4]>,
    /// Factors on the offsets from an anchor: of the centre, and of the size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variances: Option<[f64; 2]>,
    /// What makes scores (and objectness) of the outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// How a score and an objectness become one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub combine: Option<Combine>,
    /// Which of the scores stands for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    /// Whether a prediction counts for its best class alone, or for every class above `score`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassesOf>,
    /// What the numbers of `class` are: classes of the model from 0, or categories as the labels have them, where these are their numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
    /// Numbers a keypoint: 2 for x and y, 3 with a visibility.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keypoint_values: Option<usize>,
    /// Whether keypoints are in cells of the grid from the prediction's corner, and not in the units of the boxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keypoint_cells: Option<bool>,
    /// Predictions below this score are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Intersection over union above which the lower of two boxes is suppressed; 1 suppresses nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nms: Option<f64>,
    /// Whether boxes of different classes suppress each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub across_classes: Option<bool>,
    /// The most boxes of an image, the best ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<usize>,
    /// The category of each class of the model; by default the categories of the labels in ascending order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<i64>,
    /// With `labels: reference`: what the reference finds at this score or above is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sure: Option<f64>,
    /// With `labels: reference`: intersection over union from which on a box is found again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<f64>,
    /// Where the squared distances of keypoints are forgiven: one number a keypoint; those of COCO's 17 by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sigmas: Vec<f64>,
    /// Shapes of the outputs that the layout is known by, without the batch: numbers; `A` predictions of the grids of `strides`, `3A` three
    /// a cell, `N` any number of predictions, `C` classes and sums of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<Vec<String>>,
    /// What exports the layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// How a description says how boxes are read: a layout's name, or fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Boxes {
    /// A layout as it is.
    Layout(String),
    /// Fields; those left out come from the layout, if one is named.
    Fields(Box<BoxesSpec>),
}

impl From<Boxes> for BoxesSpec {
    fn from(boxes: Boxes) -> Self {
        match boxes {
            Boxes::Fields(fields) => *fields,
            Boxes::Layout(name) => Self {
                layout: Some(name),
                ..Self::default()
            },
        }
    }
}

/// A part of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Four numbers, or four distributions.
    Box,
    /// One score a class, or one beside `class`.
    Scores,
    /// How likely there is anything.
    Objectness,
    /// The number of the class.
    Class,
    /// Two or three numbers a keypoint.
    Keypoints,
}

/// Outputs of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Outputs {
    /// By place, from 0.
    Place(usize),
    /// By name.
    Name(String),
    /// By place, one a scale.
    Places(Vec<usize>),
    /// By name, one a scale.
    Names(Vec<String>),
}

/// What the four numbers of a box are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BoxCode {
    /// Left, top, right, bottom.
    Corners,
    /// Top, left, bottom, right.
    CornersYx,
    /// Centre x, centre y, width, height.
    Centre,
    /// Left, top, width, height.
    CornerSize,
    /// Centre from the corner of the cell, in cells, and logarithms of width and height in cells.
    CellExp,
    /// Distances of the left, top, right and bottom edge from the prediction's point, in cells.
    Distances,
    /// The same, each as logits over the distances 0, 1, 2, ...
    Distribution,
    /// Offsets of the centre by the anchor's size and logarithms of the size by the anchor's (SSD).
    Offsets,
}

/// What coordinates count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// Pixels of the input.
    Pixels,
    /// Widths and heights of the input.
    Normalized,
    /// Pixels of the image file.
    Image,
}

/// From outputs to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// They are scores.
    None,
    /// The logistic function of each.
    Sigmoid,
    /// A softmax over the classes.
    Softmax,
}

/// A score from a class's score and an objectness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Their product.
    Product,
    /// The root of their product.
    GeometricMean,
}

/// A class that stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// There is none.
    None,
    /// The first one.
    First,
    /// The last one.
    Last,
}

/// Classes that a prediction counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassesOf {
    /// Every class above the score.
    All,
    /// The best one.
    Best,
}

/// What is wrong with how boxes are read.
#[derive(Debug, thiserror::Error)]
pub enum BoxesError {
    /// No fields of boxes.
    #[error(transparent)]
    Fields(#[from] serde_yaml::Error),
    /// A layout of the program's that is not one: a fault of the program.
    #[error("layout {name}: {source}")]
    Layout {
        /// The layout.
        name: String,
        /// What is wrong with it.
        source: serde_yaml::Error,
    },
    /// A layout that does not exist.
    #[error("there is no layout `{name}`; there are {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Those that do.
        known: Vec<String>,
    },
    /// A share beyond 0 to 1.
    #[error("{field} is {value}; 0 to 1 is possible")]
    Share {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// A grid without cells.
    #[error("boxes on a grid need `strides`")]
    NoStrides,
    /// Offsets from nothing.
    #[error("boxes as offsets need `anchors`")]
    NoAnchors,
    /// Cells without a size.
    #[error("a stride is at least 1")]
    ZeroStride,
    /// A part with columns that are no range.
    #[error("columns of {part} are [first] or [first, end]")]
    Columns {
        /// The part.
        part: String,
    },
    /// Keypoints with one value or more than three.
    #[error("a keypoint has 2 or 3 values")]
    KeypointValues,
}

/// What class numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Numbers {
    /// Classes of the model, from 0.
    Classes,
    /// Categories.
    Categories,
}

impl BoxesSpec {
    /// A layout's name, or fields in YAML.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BoxesError> {
        let spec = match text.trim_start().starts_with('{') {
            true => serde_yaml::from_str(text)?,
            false => Self {
                layout: Some(text.trim().to_owned()),
                ..Self::default()
            },
        };
        spec.resolved().map(|_| spec)
    }

    /// The layouts there are, by name.
    ///
    /// # Errors
    /// A layout that is not one, which is a fault of the program.
    pub fn layouts() -> Result<BTreeMap<String, Self>, BoxesError> {
        let mut found = BTreeMap::new();
        for file in LAYOUTS.files() {
            let name = file.path().file_stem().and_then(|stem| stem.to_str());
            let (Some(name), Some(text)) = (name, file.contents_utf8()) else {
                continue;
            };
            let layout: Self = serde_yaml::from_str(text).map_err(|source| BoxesError::Layout {
                name: name.to_owned(),
                source,
            })?;
            found.insert(name.to_owned(), layout);
        }
        Ok(found)
    }

    /// With what its layout adds, where it names one.
    ///
    /// # Errors
    /// A layout that does not exist, or fields that do not fit each other.
    pub fn resolved(&self) -> Result<Self, BoxesError> {
        let resolved = match &self.layout {
            None => self.clone(),
            Some(name) => {
                let mut layouts = Self::layouts()?;
                let layout = layouts.remove(name).ok_or_else(|| BoxesError::Unknown {
                    name: name.clone(),
                    known: layouts.keys().cloned().collect(),
                })?;
                self.over(layout)
            }
        };
        resolved.check()?;
        Ok(resolved)
    }

    /// These fields, and those of `layout` where they are left out.
    pub fn over(&self, layout: Self) -> Self {
        let own = self.clone();
        fn first<T>(own: Vec<T>, other: Vec<T>) -> Vec<T> {
            if own.is_empty() { other } else { own }
        }
        let mut outputs = layout.outputs;
        outputs.extend(own.outputs);
        let mut columns = layout.columns;
        columns.extend(own.columns);
        Self {
            layout: own.layout.or(layout.layout),
            outputs,
            columns,
            transposed: own.transposed.or(layout.transposed),
            code: own.code.or(layout.code),
            units: own.units.or(layout.units),
            strides: first(own.strides, layout.strides),
            point: own.point.or(layout.point),
            anchors: first(own.anchors, layout.anchors),
            variances: own.variances.or(layout.variances),
            activation: own.activation.or(layout.activation),
            combine: own.combine.or(layout.combine),
            background: own.background.or(layout.background),
            classes: own.classes.or(layout.classes),
            numbers: own.numbers.or(layout.numbers),
            keypoint_values: own.keypoint_values.or(layout.keypoint_values),
            keypoint_cells: own.keypoint_cells.or(layout.keypoint_cells),
            score: own.score.or(layout.score),
            nms: own.nms.or(layout.nms),
            across_classes: own.across_classes.or(layout.across_classes),
            most: own.most.or(layout.most),
            categories: first(own.categories, layout.categories),
            sure: own.sure.or(layout.sure),
            found: own.found.or(layout.found),
            sigmas: first(own.sigmas, layout.sigmas),
            shapes: first(own.shapes, layout.shapes),
            about: own.about.or(layout.about),
        }
    }

    /// Whether the numbers of `class` are categories.
    pub fn counts_categories(&self) -> bool {
        self.numbers != Some(Numbers::Classes)
    }

    /// The layout of models that have their own reading of boxes in them, where outputs of these names are of it: what is
    /// asked of the boxes stays, how they are read does not.
    ///
    /// # Errors
    /// A layout that is not one, which is a fault of the program.
    pub fn baked(&self, outputs: &[String]) -> Result<Option<Self>, BoxesError> {
        let has = |name: &str| outputs.iter().any(|output| output == name);
        let is_category = has("categories");
        if !has("boxes") || !has("scores") || is_category == has("classes") {
            return Ok(None);
        }
        let mut layout = Self {
            layout: Some(BAKED.to_owned()),
            sure: self.sure,
            found: self.found,
            sigmas: self.sigmas.clone(),
            ..Self::default()
        };
        if is_category {
            layout.numbers = Some(Numbers::Categories);
            layout
                .outputs
                .insert(Part::Class, Outputs::Name("categories".to_owned()));
        } else {
            layout.categories.clone_from(&self.categories);
        }
        layout.resolved().map(Some)
    }

    /// Whether predictions have this part.
    pub fn has(&self, part: Part) -> bool {
        self.outputs.contains_key(&part) || self.columns.contains_key(&part)
    }

    /// Whether predictions stand on a grid.
    pub fn is_grid(&self) -> bool {
        matches!(
            self.code,
            Some(BoxCode::CellExp | BoxCode::Distances | BoxCode::Distribution)
        )
    }

    fn check(&self) -> Result<(), BoxesError> {
        let share = |field: &'static str, value: Option<f64>| match value {
            Some(value) if !(0.0..=1.0).contains(&value) => Err(BoxesError::Share { field, value }),
            _ => Ok(()),
        };
        share("score", self.score)?;
        share("nms", self.nms)?;
        share("sure", self.sure)?;
        share("found", self.found)?;
        share("point", self.point)?;
        if self.is_grid() && self.strides.is_empty() {
            return Err(BoxesError::NoStrides);
        }
        if self.code == Some(BoxCode::Offsets) && self.anchors.is_empty() {
            return Err(BoxesError::NoAnchors);
        }
        if self.strides.contains(&0) {
            return Err(BoxesError::ZeroStride);
        }
        for (part, columns) in &self.columns {
            let (first, end) = (columns.first(), columns.get(1));
            if columns.is_empty()
                || columns.len() > 2
                || first.zip(end).is_some_and(|(a, b)| *a >= 0 && *b > 0 && a >= b)
            {
                let part = serde_json::to_string(part).unwrap_or_default();
                return Err(BoxesError::Columns { part });
            }
        }
        if !matches!(self.keypoint_values, None | Some(2 | 3)) {
            return Err(BoxesError::KeypointValues);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_is_whole() {
        let layouts = BoxesSpec::layouts().unwrap();
        assert!(layouts.len() >= 10, "{:?}", layouts.keys());
        for (name, layout) in &layouts {
            layout.check().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(layout.about.is_some() && layout.code.is_some(), "{name}");
            assert!(layout.layout.is_none(), "{name}");
            let parts: Vec<&Part> = layout.outputs.keys().chain(layout.columns.keys()).collect();
            assert!(
                parts.contains(&&Part::Box) && parts.contains(&&Part::Scores),
                "{name}"
            );
        }
    }

    #[test]
    fn own_fields_win_over_the_layout() {
        let spec: BoxesSpec = serde_yaml::from_str("{ layout: nanodet, nms: 0.5 }").unwrap();
        let resolved = spec.resolved().unwrap();
        assert_eq!(
            (resolved.nms, resolved.code),
            (Some(0.5), Some(BoxCode::Distribution))
        );
        let wrong: BoxesSpec = serde_yaml::from_str("{ layout: nanodett }").unwrap();
        assert!(wrong.resolved().unwrap_err().to_string().contains("nanodet-plus"));
        let wrong: BoxesSpec = serde_yaml::from_str("{ nms: 2 }").unwrap();
        assert!(wrong.resolved().is_err());
    }
}
