//! Preprocessing as operators: from images `uint8 [N, H, W, 3]` to a model's input.
//!
//! Sizes are computed in the graph from those of the image, in the arithmetic of [`Preprocess`]: doubles for a letterbox, whole numbers
//! for a shortest side. Each axis of the result is a list of places in the resized image ([`axis`]), so a crop costs nothing and a canvas
//! is a choice between pixels and its value; nothing of the result depends on the image but its numbers.

mod axis;
mod resample;

use super::fits::keeps_size;
use super::ops::Ops;
use crate::data::{Color, Extent, Layout, Letterbox, Place, Preprocess, Resize};
use crate::ir::{DType, Dim, Graph, Operator, TensorError, ValueId, ValueType};
use axis::{Axis, Lengths};

/// The denotation of a value that holds images.
pub(super) const IMAGE: &str = crate::data::IMAGE;

/// Names of what is known of an image beside the model's input, each `float [4]`, twice x and y: how the image became the input
/// (`input = image * scale + offset`), its own size, and that of the input.
pub(super) const FRAME: [&str; 4] = [
    "preprocess/scale",
    "preprocess/offset",
    "preprocess/image_size",
    "preprocess/input_size",
];

/// A graph from images to a model's input.
pub(super) struct Image {
    pub(super) graph: Graph,
    /// Height and width of the input, each where every image that runs has the same.
    pub(super) sizes: [Option<u32>; 2],
}

impl Image {
    /// Width and height of the input, where every image that runs has the same.
    pub(super) fn canvas(&self) -> Option<[u32; 2]> {
        let [height, width] = self.sizes;
        Some([width?, height?])
    }
}

/// What the images are and what the model takes.
pub(super) struct ImageInput<'a> {
    /// Name of the new input.
    pub(super) image: &'a str,
    /// Name of the preprocessed images.
    pub(super) result: &'a str,
    /// Images of a run.
    pub(super) batch: Dim,
    /// Element type of the model's input.
    pub(super) dtype: DType,
    /// Height and width that the model takes, each where it fixes it.
    pub(super) sizes: [Option<u32>; 2],
    /// Whether [`FRAME`] is asked for.
    pub(super) framed: bool,
}

/// The graph for preprocessing whose sizes are settled.
pub(super) fn image(preprocess: &Preprocess, target: &ImageInput<'_>) -> Result<Image, TensorError> {
    let mut ops = Ops::new("preprocess");
    let shape = [
        target.batch.clone(),
        Dim::symbol("height"),
        Dim::symbol("width"),
        Dim::Fixed(3),
    ];
    let ty = ValueType::tensor(DType::U8, Some(shape.into_iter().collect()));
    let input = ops.denoted_input(target.image, ty, IMAGE);
    let dims = ops.op("Shape", &[input]);
    let [height, width] = [1, 2].map(|at| {
        let at = ops.int(at);
        ops.gather(dims, at, 0)
    });
    let (rows, columns) = axes(&mut ops, preprocess, height, width);
    let mut planes = ops.transpose(input, &[0, 3, 1, 2]);
    if preprocess.color == Color::Bgr {
        let order = ops.ints(&[2, 1, 0]);
        planes = ops.gather(planes, order, 1);
    }
    let resized = resample::resample(&mut ops, preprocess, planes, [&rows, &columns]);
    let placed = canvas(&mut ops, preprocess, resized, [&rows, &columns]);
    let values = values(&mut ops, preprocess, placed)?;
    let cast = ops.cast(values, target.dtype);
    let mut result = match preprocess.layout {
        Layout::Nchw => cast,
        Layout::Nhwc => ops.transpose(cast, &[0, 2, 3, 1]),
    };
    let mut sizes = [rows.count, columns.count];
    if keeps_size(preprocess) {
        let first = match preprocess.layout {
            Layout::Nchw => 2,
            Layout::Nhwc => 1,
        };
        for (axis, size) in (first..).zip(target.sizes) {
            if let Some(size) = size {
                result = ops.exactly(result, axis, i64::from(size));
            }
        }
        sizes = target.sizes;
    }
    ops.output(target.result, result, ValueType::Unknown);
    if target.framed {
        frame(&mut ops, [&columns, &rows]);
    }
    Ok(Image {
        graph: ops.finish(),
        sizes,
    })
}

/// The rows and the columns of the result, as places in the resized image.
fn axes(ops: &mut Ops, preprocess: &Preprocess, height: ValueId, width: ValueId) -> (Axis, Axis) {
    if let Some(letterbox) = &preprocess.letterbox {
        return boxed(ops, letterbox, height, width);
    }
    let [new_height, new_width] = resized(ops, preprocess, height, width);
    let crop = preprocess.crop;
    let mut axis = |old: ValueId, new: ValueId, place: usize| {
        let size = crop.and_then(|size| size.get(place).copied());
        // Whether the cut is known to be inside of every resized image.
        let least = match preprocess.resize {
            Some(Resize::Exact(size)) => size.get(place).copied(),
            Some(Resize::Shortest(side)) => Some(side),
            _ => None,
        };
        match (size, preprocess.resize) {
            (Some(size), _) => Axis::cut(
                ops,
                Lengths { old, new },
                size,
                least.is_some_and(|least| least >= size),
            ),
            (None, Some(Resize::Exact(_))) => Axis::whole(ops, Lengths { old, new }, least),
            (None, _) => Axis::whole(ops, Lengths { old, new }, None),
        }
    };
    (axis(height, new_height, 0), axis(width, new_width, 1))
}

/// Height and width before a crop.
fn resized(ops: &mut Ops, preprocess: &Preprocess, height: ValueId, width: ValueId) -> [ValueId; 2] {
    let sizes = match preprocess.resize {
        None | Some(Resize::Input(_)) => return [height, width],
        Some(Resize::Exact(size)) => size.map(|side| ops.int(i64::from(side))),
        Some(Resize::Shortest(side)) => {
            let side = ops.int(i64::from(side));
            let one = ops.int(1);
            let shortest = ops.op("Min", &[height, width]);
            [height, width].map(|length| {
                let product = ops.op("Mul", &[length, side]);
                let scaled = ops.op("Div", &[product, shortest]);
                ops.op("Max", &[scaled, one])
            })
        }
    };
    let Some(crop) = preprocess.crop else { return sizes };
    // An image that has the size of the crop already is left as it is.
    let [rows, columns] = crop.map(|side| ops.int(i64::from(side)));
    let same_height = ops.op("Equal", &[height, rows]);
    let same_width = ops.op("Equal", &[width, columns]);
    let same = ops.op("And", &[same_height, same_width]);
    let [new_height, new_width] = sizes;
    [
        ops.op("Where", &[same, height, new_height]),
        ops.op("Where", &[same, width, new_width]),
    ]
}

/// The axes of a canvas with the whole image on it.
fn boxed(ops: &mut Ops, letterbox: &Letterbox, height: ValueId, width: ValueId) -> (Axis, Axis) {
    let [target_height, target_width] = match letterbox.extent {
        Extent::Square(side) => [side, side],
        Extent::Exact(size) => size,
        Extent::Input(_) => [0, 0],
    };
    let lengths = [(height, target_height), (width, target_width)];
    let [by_height, by_width] = lengths.map(|(length, target)| {
        let (target, length) = (ops.double(f64::from(target)), ops.cast(length, DType::F64));
        ops.op("Div", &[target, length])
    });
    let mut factor = ops.op("Min", &[by_width, by_height]);
    if !letterbox.upscale {
        let one = ops.double(1.0);
        factor = ops.op("Min", &[factor, one]);
    }
    let [rows, columns] = lengths.map(|(length, target)| {
        let exact = ops.cast(length, DType::F64);
        let exact = ops.op("Mul", &[exact, factor]);
        let rounded = resample::rounded(ops, exact, DType::F64);
        let (least, most) = (ops.double(1.0), ops.double(f64::from(target.max(1))));
        let bounded = ops.op("Max", &[rounded, least]);
        let bounded = ops.op("Min", &[bounded, most]);
        let new = ops.cast(bounded, DType::I64);
        let place = match letterbox.place {
            Place::TopLeft => None,
            Place::Center => {
                let (target, two) = (ops.int(i64::from(target)), ops.int(2));
                let rest = ops.op("Sub", &[target, new]);
                Some(ops.op("Div", &[rest, two]))
            }
        };
        Axis::boxed(ops, Lengths { old: length, new }, target, place)
    });
    (rows, columns)
}

/// The pixels, and the value of the canvas around them.
fn canvas(ops: &mut Ops, preprocess: &Preprocess, pixels: ValueId, [rows, columns]: [&Axis; 2]) -> ValueId {
    let (Some(letterbox), Some(down), Some(across)) = (&preprocess.letterbox, rows.inside, columns.inside)
    else {
        return pixels;
    };
    let down = ops.unsqueeze(down, 1);
    let inside = ops.op("And", &[down, across]);
    let pad = ops.double(f64::from(letterbox.pad));
    ops.op("Where", &[inside, pixels, pad])
}

/// Shares of red, green and blue in the luminance of sRGB's primaries, as images are decoded to grey.
const LUMINANCE: [f64; 3] = [0.212_639_0, 0.715_168_7, 0.072_192_3];

/// From pixels to values, in doubles as [`Preprocess::value`].
fn values(ops: &mut Ops, preprocess: &Preprocess, pixels: ValueId) -> Result<ValueId, TensorError> {
    let mut values = pixels;
    if preprocess.color == Color::Gray {
        let weights = ops.doubles(&[3, 1, 1], &LUMINANCE)?;
        let weighted = ops.op("Mul", &[values, weights]);
        let luminance = ops.sum(weighted, 1, true);
        values = resample::rounded(ops, luminance, DType::F64);
    }
    if preprocess.scale != 1.0 {
        let scale = ops.double(preprocess.scale);
        values = ops.op("Mul", &[values, scale]);
    }
    let neutral = |list: &[f64], value: f64| list.iter().all(|one| *one == value);
    for (op_type, list, nothing) in [("Sub", &preprocess.mean, 0.0), ("Div", &preprocess.std, 1.0)] {
        if !neutral(list, nothing) {
            let operand = ops.doubles(&[list.len() as u64, 1, 1], list)?;
            values = ops.op(op_type, &[values, operand]);
        }
    }
    Ok(values)
}

/// What [`FRAME`] names, as outputs.
fn frame(ops: &mut Ops, [columns, rows]: [&Axis; 2]) {
    let twice = |ops: &mut Ops, x: ValueId, y: ValueId| {
        let [x, y] = [x, y].map(|one| {
            let one = ops.cast(one, DType::F32);
            ops.reshape(one, &[1])
        });
        ops.concat(&[x, y, x, y], 0)
    };
    let scale = |ops: &mut Ops, axis: &Axis| {
        let [new, old] = [axis.lengths.new, axis.lengths.old].map(|length| ops.cast(length, DType::F64));
        ops.op("Div", &[new, old])
    };
    let across = scale(ops, columns);
    let down = scale(ops, rows);
    let [scale_name, offset_name, image_name, input_name] = FRAME;
    let found = [
        (scale_name, twice(ops, across, down)),
        (offset_name, twice(ops, columns.offset, rows.offset)),
        (image_name, twice(ops, columns.lengths.old, rows.lengths.old)),
        (input_name, twice(ops, columns.length, rows.length)),
    ];
    for (name, value) in found {
        ops.output(
            name,
            value,
            ValueType::tensor(DType::F32, Some([Dim::Fixed(4)].into_iter().collect())),
        );
    }
}

/// A range of places, as a list.
fn range(ops: &mut Ops, count: ValueId) -> ValueId {
    let (first, step) = (ops.int(0), ops.int(1));
    ops.apply(Operator::new("Range"), &[first, count, step])
}
