//! Boxes as operators: from a detector's outputs, as a layout says, to boxes in pixels of the image, scores and classes.
//!
//! [`parts`] takes the parts of predictions out of the outputs, [`corners`] makes corners of them, [`select`] keeps the best ones. All of it
//! follows what the evaluator does with the same layout, in `float`.

mod corners;
mod parts;
mod select;

use super::image::FRAME;
use super::ops::Ops;
use super::{NAME, fault, option};
use crate::data::{Activation, Background, BoxesSpec, Combine, Part};
use crate::ir::{DType, Dim, Graph, Operator, ValueId, ValueType};
use crate::passes::PassError;
use parts::{Parts, Scale};

/// An output of the detector.
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) dtype: DType,
    /// Dimensions of one image's part of it; `None` where a size is not known.
    pub(super) dims: Vec<Option<u64>>,
}

/// The graph behind a detector.
pub(super) struct Boxes {
    pub(super) graph: Graph,
    /// Values that its inputs read, with the names of these.
    pub(super) links: Vec<(String, String)>,
    /// Whether what it says of classes are categories.
    pub(super) categories: bool,
}

/// What the image gave, twice x and y each.
#[derive(Clone, Copy)]
struct Framed {
    scale: ValueId,
    offset: ValueId,
    image: ValueId,
    input: ValueId,
}

/// The graph for a layout with everything that it says. `canvas`: width and height of the input, where they are known.
pub(super) fn boxes(
    layout: &BoxesSpec,
    answers: &[Answer],
    canvas: Option<[u32; 2]>,
) -> Result<Boxes, PassError> {
    let mut ops = Ops::new("boxes");
    let mut links = Vec::new();
    let four = || ValueType::tensor(DType::F32, Some([Dim::Fixed(4)].into_iter().collect()));
    let [scale, offset, image, input] = FRAME.map(|name| {
        let own = name.replace("preprocess/", "boxes/");
        links.push((name.to_owned(), own.clone()));
        ops.input(&own, four())
    });
    let framed = Framed {
        scale,
        offset,
        image,
        input,
    };
    let mut parts = Parts::new(layout, answers, &mut ops);
    let scales = parts.scales()?;
    links.append(&mut parts.links);
    let count = scales.len();
    let mut found: [Vec<ValueId>; 3] = Default::default();
    let mut rows = Some(0);
    for (at, scale) in scales.iter().enumerate() {
        let place = corners::Place {
            layout,
            canvas,
            framed,
            scale: (at, count),
            before: rows.unwrap_or(0),
        };
        found[0].push(place.corners(&mut ops, scale)?);
        found[1].push(scores(&mut ops, layout, scale)?);
        if let Some(class) = &scale.class {
            let number = class.column(&mut ops, 0);
            found[2].push(number);
        }
        rows = rows.zip(scale.boxes.rows).map(|(sum, more)| sum + more);
    }
    let [corners, scores, classes] = found.map(|values| match values.is_empty() {
        true => None,
        false => Some(ops.concat(&values, 0)),
    });
    let (Some(corners), Some(scores)) = (corners, scores) else {
        return Err(option("boxes: the layout has no box or no scores"));
    };
    let class_count = scales.first().and_then(|scale| class_count(layout, scale));
    let candidates = select::Candidates {
        corners,
        scores,
        numbers: classes,
        classes: class_count.ok_or_else(|| option("boxes: the layout leaves no class"))?,
        rows,
    };
    let best = select::select(&mut ops, layout, &candidates)?;
    let categories = write(&mut ops, layout, best, classes.is_some())?;
    Ok(Boxes {
        graph: ops.finish(),
        links,
        categories,
    })
}

/// The outputs; answers whether the classes are categories.
fn write(ops: &mut Ops, layout: &BoxesSpec, best: select::Best, numbered: bool) -> Result<bool, PassError> {
    let count = || Dim::symbol("detections");
    let ty = |dtype: DType, dims: &[Dim]| ValueType::tensor(dtype, Some(dims.iter().cloned().collect()));
    let is_mapped = !layout.categories.is_empty();
    let is_category = is_mapped || numbered && layout.counts_categories();
    let mut classes = best.classes;
    if is_mapped {
        let categories = ops.ints(&layout.categories);
        classes = ops.gather(categories, classes, 0);
    }
    ops.output("boxes", best.corners, ty(DType::F32, &[count(), Dim::Fixed(4)]));
    ops.output("scores", best.scores, ty(DType::F32, &[count()]));
    let name = if is_category { "categories" } else { "classes" };
    ops.output(name, classes, ty(DType::I64, &[count()]));
    Ok(is_category)
}

/// Classes that scores are left for.
fn class_count(layout: &BoxesSpec, scale: &Scale) -> Option<u64> {
    let all = scale.scores.count;
    let background = layout.background.unwrap_or(Background::None) != Background::None;
    all.checked_sub(u64::from(background)).filter(|count| *count > 0)
}

/// Scores of each prediction's classes, `[rows, classes]`.
fn scores(ops: &mut Ops, layout: &BoxesSpec, scale: &Scale) -> Result<ValueId, PassError> {
    let activation = layout.activation.unwrap_or(Activation::None);
    let count = i64::try_from(scale.scores.count).unwrap_or(i64::MAX);
    let mut scores = scale.scores.value(ops);
    match activation {
        Activation::None => {}
        Activation::Sigmoid => scores = ops.op("Sigmoid", &[scores]),
        Activation::Softmax => scores = ops.apply(Operator::new("Softmax").with("axis", 1), &[scores]),
    }
    match layout.background.unwrap_or(Background::None) {
        Background::None => {}
        Background::First => scores = ops.slice(scores, 1, 1, count),
        Background::Last => scores = ops.slice(scores, 1, 0, count - 1),
    }
    if let Some(objectness) = &scale.objectness {
        let mut there = objectness.column(ops, 0);
        if activation == Activation::Sigmoid {
            there = ops.op("Sigmoid", &[there]);
        }
        let product = ops.op("Mul", &[scores, there]);
        scores = match layout.combine.unwrap_or(Combine::Product) {
            Combine::Product => product,
            Combine::GeometricMean => {
                let zero = ops.float(0.0);
                let positive = ops.op("Max", &[product, zero]);
                ops.op("Sqrt", &[positive])
            }
        };
    }
    // A row with a class number has one score.
    if scale.class.is_some() {
        scores = ops.slice(scores, 1, 0, 1);
    }
    Ok(scores)
}

fn wrong(output: &str, message: impl Into<String>) -> PassError {
    PassError::Model {
        pass: NAME,
        node: output.to_owned(),
        message: message.into(),
    }
}

/// A word of the description for a part.
fn word(part: Part) -> String {
    serde_yaml::to_string(&part).map_or_else(|_| String::new(), |text| text.trim().to_owned())
}

/// The faults of tensors that this code writes down itself.
fn built<T>(result: Result<T, crate::ir::TensorError>) -> Result<T, PassError> {
    result.map_err(fault)
}
