//! From the numbers of a box to its corners in pixels of the image, `float [rows, 4]`.

use super::parts::{Scale, Table};
use super::{Framed, built, wrong};
use crate::data::{BoxCode, BoxesSpec, Units};
use crate::ir::{Operator, ValueId};
use crate::passes::PassError;
use crate::passes::form::bake::ops::Ops;

/// What the boxes of one scale are read with.
pub(super) struct Place<'a> {
    pub(super) layout: &'a BoxesSpec,
    /// Width and height of the input.
    pub(super) canvas: Option<[u32; 2]>,
    pub(super) framed: Framed,
    /// Which scale of how many.
    pub(super) scale: (usize, usize),
    /// Predictions of the scales before.
    pub(super) before: u64,
}

/// A grid's cells: their corners and their strides, in rows of two and one.
struct Cells {
    corners: Vec<[f32; 2]>,
    strides: Vec<f32>,
}

impl Place<'_> {
    pub(super) fn corners(&self, ops: &mut Ops, scale: &Scale) -> Result<ValueId, PassError> {
        let code = self.layout.code.unwrap_or(BoxCode::Corners);
        let four = self.four(ops, &scale.boxes, code)?;
        let (corners, units) = match code {
            BoxCode::Corners => (four, self.layout.units),
            BoxCode::CornersYx => {
                let order = ops.ints(&[1, 0, 3, 2]);
                (ops.gather(four, order, 1), self.layout.units)
            }
            BoxCode::Centre => {
                let (centre, size) = halves(ops, four);
                (around(ops, centre, size), self.layout.units)
            }
            BoxCode::CornerSize => {
                let (corner, size) = halves(ops, four);
                let end = ops.op("Add", &[corner, size]);
                (ops.concat(&[corner, end], 1), self.layout.units)
            }
            BoxCode::CellExp => (self.in_cells(ops, four, &scale.boxes)?, Some(Units::Pixels)),
            BoxCode::Distances | BoxCode::Distribution => {
                (self.around_points(ops, four, &scale.boxes)?, Some(Units::Pixels))
            }
            BoxCode::Offsets => (self.at_anchors(ops, four, &scale.boxes)?, self.layout.units),
        };
        Ok(self.in_image(ops, corners, units.unwrap_or(Units::Pixels)))
    }

    /// Pixels of the image, cut at its edges.
    fn in_image(&self, ops: &mut Ops, corners: ValueId, units: Units) -> ValueId {
        let framed = self.framed;
        let pixels = match units {
            Units::Image => return corners,
            Units::Pixels => corners,
            Units::Normalized => ops.op("Mul", &[corners, framed.input]),
        };
        let moved = ops.op("Sub", &[pixels, framed.offset]);
        let scaled = ops.op("Div", &[moved, framed.scale]);
        let zero = ops.float(0.0);
        let bounded = ops.op("Max", &[scaled, zero]);
        ops.op("Min", &[bounded, framed.image])
    }

    /// Four numbers a box; a distribution's are what it expects.
    fn four(&self, ops: &mut Ops, boxes: &Table, code: BoxCode) -> Result<ValueId, PassError> {
        let count = boxes.count;
        if code != BoxCode::Distribution {
            if count != 4 {
                let message = format!("has {count} numbers a box where four make one");
                return Err(wrong(&boxes.output, message));
            }
            return Ok(boxes.value(ops));
        }
        if !count.is_multiple_of(4) || count < 8 {
            let message = format!("has {count} numbers a box, which are no four distributions");
            return Err(wrong(&boxes.output, message));
        }
        let bins = count / 4;
        let rows = boxes.value(ops);
        let logits = ops.reshape(rows, &[-1, 4, i64::try_from(bins).unwrap_or(i64::MAX)]);
        let shares = ops.apply(Operator::new("Softmax").with("axis", 2), &[logits]);
        let distances: Vec<f32> = (0..bins).map(|bin| bin as f32).collect();
        let distances = built(ops.floats(&[bins], &distances))?;
        let parts = ops.op("Mul", &[shares, distances]);
        Ok(ops.sum(parts, 2, false))
    }

    /// Centres in cells from the corner of each cell, and logarithms of sizes.
    fn in_cells(&self, ops: &mut Ops, four: ValueId, boxes: &Table) -> Result<ValueId, PassError> {
        let cells = self.cells(boxes)?;
        let (corner, stride) = self.constants(ops, &cells, 0.0)?;
        let (centre, size) = halves(ops, four);
        let centre = ops.op("Add", &[corner, centre]);
        let centre = ops.op("Mul", &[centre, stride]);
        let size = ops.op("Exp", &[size]);
        let size = ops.op("Mul", &[size, stride]);
        Ok(around(ops, centre, size))
    }

    /// Distances of the edges from a point of each cell.
    fn around_points(&self, ops: &mut Ops, four: ValueId, boxes: &Table) -> Result<ValueId, PassError> {
        let cells = self.cells(boxes)?;
        let point = self.layout.point.unwrap_or(0.5);
        let (point, stride) = self.constants(ops, &cells, point as f32)?;
        let (before, behind) = halves(ops, four);
        let first = ops.op("Sub", &[point, before]);
        let end = ops.op("Add", &[point, behind]);
        let corners = ops.concat(&[first, end], 1);
        Ok(ops.op("Mul", &[corners, stride]))
    }

    fn constants(&self, ops: &mut Ops, cells: &Cells, shift: f32) -> Result<(ValueId, ValueId), PassError> {
        let rows = cells.strides.len() as u64;
        let places: Vec<f32> = cells
            .corners
            .iter()
            .flatten()
            .map(|place| place + shift)
            .collect();
        Ok((
            built(ops.floats(&[rows, 2], &places))?,
            built(ops.floats(&[rows, 1], &cells.strides))?,
        ))
    }

    /// Offsets from anchors, by their variances.
    fn at_anchors(&self, ops: &mut Ops, four: ValueId, boxes: &Table) -> Result<ValueId, PassError> {
        let anchors = &self.layout.anchors;
        let rows = boxes.rows.ok_or_else(|| {
            wrong(
                &boxes.output,
                "has a number of predictions that is not known before it runs",
            )
        })?;
        let first = usize::try_from(self.before).unwrap_or(usize::MAX);
        let end = first.saturating_add(usize::try_from(rows).unwrap_or(usize::MAX));
        let own = anchors.get(first..end).ok_or_else(|| {
            let message = format!("has more predictions than the {} anchors", anchors.len());
            wrong(&boxes.output, message)
        })?;
        let [of_centre, of_size] = self.layout.variances.unwrap_or([0.1, 0.2]);
        let pairs = |from: usize| -> Vec<f32> {
            let pair = own.iter().flat_map(|anchor| anchor.iter().skip(from).take(2));
            pair.map(|value| *value as f32).collect()
        };
        let anchor_centre = built(ops.floats(&[rows, 2], &pairs(0)))?;
        let anchor_size = built(ops.floats(&[rows, 2], &pairs(2)))?;
        let (centre, size) = halves(ops, four);
        let (of_centre, of_size) = (ops.float(of_centre as f32), ops.float(of_size as f32));
        let centre = ops.op("Mul", &[centre, of_centre]);
        let centre = ops.op("Mul", &[centre, anchor_size]);
        let centre = ops.op("Add", &[anchor_centre, centre]);
        let size = ops.op("Mul", &[size, of_size]);
        let size = ops.op("Exp", &[size]);
        let size = ops.op("Mul", &[anchor_size, size]);
        Ok(around(ops, centre, size))
    }

    /// The cells that the rows of this scale stand on.
    fn cells(&self, boxes: &Table) -> Result<Cells, PassError> {
        let Some([width, height]) = self.canvas else {
            let message = "holds boxes on a grid, and the input has another size for each image: a letterbox, a resize or a crop gives all the same";
            return Err(wrong(&boxes.output, message));
        };
        let strides = &self.layout.strides;
        let own: Vec<u32> = match self.scale {
            (_, 1) => strides.clone(),
            (at, scales) if scales == strides.len() => strides.get(at).copied().into_iter().collect(),
            (_, scales) => {
                let message = format!(
                    "is one of {scales} scales, the layout has {} strides",
                    strides.len()
                );
                return Err(wrong(&boxes.output, message));
            }
        };
        let mut cells = Cells {
            corners: Vec::new(),
            strides: Vec::new(),
        };
        for stride in own.iter().copied().filter(|stride| *stride > 0) {
            for line in 0..height.div_ceil(stride) {
                for column in 0..width.div_ceil(stride) {
                    cells.corners.push([column as f32, line as f32]);
                    cells.strides.push(stride as f32);
                }
            }
        }
        let count = cells.strides.len() as u64;
        match boxes.rows {
            Some(rows) if rows != count => {
                let message = format!(
                    "has {rows} predictions, strides {own:?} make {count} of an input of {width}x{height}"
                );
                Err(wrong(&boxes.output, message))
            }
            _ => Ok(cells),
        }
    }
}

/// The first two of four columns, and the others.
fn halves(ops: &mut Ops, four: ValueId) -> (ValueId, ValueId) {
    (ops.slice(four, 1, 0, 2), ops.slice(four, 1, 2, 4))
}

/// Corners around centres.
fn around(ops: &mut Ops, centre: ValueId, size: ValueId) -> ValueId {
    let half = ops.float(0.5);
    let half = ops.op("Mul", &[size, half]);
    let first = ops.op("Sub", &[centre, half]);
    let end = ops.op("Add", &[centre, half]);
    ops.concat(&[first, end], 1)
}
