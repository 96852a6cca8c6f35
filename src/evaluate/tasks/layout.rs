//! Boxes from a model's outputs, as a layout says.

use std::collections::BTreeMap;

use super::guess::guessed;
use super::{Answer, Output};
use crate::data::{
    Activation, Background, BoxCode, BoxesSpec, ClassesOf, Combine, Frame, Outputs, Part, Units,
};
use crate::evaluate::EvaluateError;

/// One prediction in pixels of the image file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prediction {
    /// Place among the model's classes, the background not counted.
    pub(super) class: usize,
    pub(super) score: f64,
    /// Left, top, right, bottom.
    pub(super) corners: [f64; 4],
    pub(super) keypoints: Vec<[f64; 3]>,
}

/// One part of the predictions: rows of numbers out of one output.
struct Table<'a> {
    output: &'a Output,
    rows: usize,
    /// Numbers of an output that belong to one prediction.
    width: usize,
    transposed: bool,
    /// Which of them are of the part.
    columns: (usize, usize),
}

impl Table<'_> {
    fn count(&self) -> usize {
        self.columns.1 - self.columns.0
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let column = self.columns.0 + column;
        let place = match self.transposed {
            true => column * self.rows + row,
            false => row * self.width + column,
        };
        self.output.values.get(place).copied().unwrap_or(f64::NAN)
    }
}

/// A grid that predictions stand on, row by row.
#[derive(Clone, Copy)]
struct Grid {
    stride: f64,
    columns: usize,
    cells: usize,
}

impl Grid {
    fn of(stride: u32, [width, height]: [u32; 2]) -> Self {
        let columns = width.div_ceil(stride) as usize;
        Self {
            stride: f64::from(stride),
            columns,
            cells: columns * height.div_ceil(stride) as usize,
        }
    }

    fn corner(&self, cell: usize) -> [f64; 2] {
        let columns = self.columns.max(1);
        [(cell % columns) as f64, (cell / columns) as f64]
    }
}

fn wrong(output: &Output, problem: impl Into<String>) -> EvaluateError {
    EvaluateError::Output {
        output: output.name.clone(),
        problem: problem.into(),
    }
}

/// Dimensions without leading ones, down to two.
fn squeezed(dims: &[usize]) -> &[usize] {
    let mut dims = dims;
    while let [1, rest @ ..] = dims
        && rest.len() >= 2
    {
        dims = rest;
    }
    dims
}

/// Rows, numbers a row and whether rows are columns, of an output.
fn shape(output: &Output, layout: &BoxesSpec) -> Result<(usize, usize, bool), EvaluateError> {
    let transposed = layout.transposed.unwrap_or(false);
    match (squeezed(&output.dims), transposed) {
        // One number a prediction, or all parts of a single one.
        ([rows], _) if layout.columns.is_empty() => Ok((*rows, 1, false)),
        ([width], _) => Ok((1, *width, false)),
        ([rows, width], false) => Ok((*rows, *width, false)),
        ([width, rows], true) => Ok((*rows, *width, true)),
        ([height, columns, width], false) => Ok((height * columns, *width, false)),
        ([width, height, columns], true) => Ok((height * columns, *width, true)),
        (dims, _) => Err(wrong(
            output,
            format!("has shape {dims:?} for one image, which holds no rows of predictions"),
        )),
    }
}

/// The first and last but one column of a part.
fn columns(spec: Option<&Vec<i64>>, width: usize, output: &Output) -> Result<(usize, usize), EvaluateError> {
    let Some(spec) = spec else { return Ok((0, width)) };
    let absolute = |at: i64| match usize::try_from(at) {
        Ok(at) => Some(at),
        Err(_) => width.checked_sub(at.unsigned_abs() as usize),
    };
    let first = spec.first().copied().and_then(absolute);
    let end = spec.get(1).map_or(Some(width), |end| absolute(*end));
    match first.zip(end).filter(|(first, end)| first < end && *end <= width) {
        Some(found) => Ok(found),
        None => Err(wrong(
            output,
            format!("has {width} numbers a prediction, the layout takes columns {spec:?}"),
        )),
    }
}

/// The outputs of a part, one a scale.
fn chosen<'a>(answer: &'a Answer, outputs: Option<&Outputs>) -> Result<Vec<&'a Output>, EvaluateError> {
    let named = |name: &String| answer.output(Some(name));
    let placed = |place: &usize| {
        answer.outputs.get(*place).ok_or_else(|| EvaluateError::Output {
            output: format!("{place}"),
            problem: format!("does not exist; the model has {} outputs", answer.outputs.len()),
        })
    };
    match outputs {
        None => Ok(vec![answer.output(None)?]),
        Some(Outputs::Name(name)) => Ok(vec![named(name)?]),
        Some(Outputs::Place(place)) => Ok(vec![placed(place)?]),
        Some(Outputs::Names(names)) => names.iter().map(named).collect(),
        Some(Outputs::Places(places)) => places.iter().map(placed).collect(),
    }
}

/// The parts of the predictions, scale by scale.
struct Parts<'a> {
    scales: Vec<BTreeMap<Part, Table<'a>>>,
}

impl<'a> Parts<'a> {
    fn of(layout: &BoxesSpec, answer: &'a Answer) -> Result<Self, EvaluateError> {
        let mut scales: Vec<BTreeMap<Part, Table<'a>>> = Vec::new();
        let named = [
            Part::Box,
            Part::Scores,
            Part::Objectness,
            Part::Class,
            Part::Keypoints,
        ];
        for part in named {
            let (outputs, spec) = (layout.outputs.get(&part), layout.columns.get(&part));
            if outputs.is_none() && spec.is_none() {
                continue;
            }
            let found = chosen(answer, outputs)?;
            if !scales.is_empty() && scales.len() != found.len() {
                return Err(EvaluateError::Output {
                    output: found
                        .first()
                        .map(|output| output.name.clone())
                        .unwrap_or_default(),
                    problem: format!(
                        "is one of {} scales where other parts have {}",
                        found.len(),
                        scales.len()
                    ),
                });
            }
            scales.resize_with(found.len(), BTreeMap::new);
            for (scale, output) in scales.iter_mut().zip(found) {
                let (rows, width, transposed) = shape(output, layout)?;
                if output.values.len() < rows * width {
                    return Err(wrong(output, "has fewer elements than its shape says"));
                }
                let columns = columns(spec, width, output)?;
                let table = Table {
                    output,
                    rows,
                    width,
                    transposed,
                    columns,
                };
                if let Some(other) = scale.values().next()
                    && other.rows != rows
                {
                    let problem = format!(
                        "has {rows} predictions where {} has {}",
                        other.output.name, other.rows
                    );
                    return Err(wrong(output, problem));
                }
                scale.insert(part, table);
            }
        }
        Ok(Self { scales })
    }
}

/// What an output holds as a score.
fn activated(activation: Activation, values: &mut [f64]) {
    match activation {
        Activation::None => {}
        Activation::Sigmoid => values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
        Activation::Softmax => {
            let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            values.iter_mut().for_each(|v| *v = (*v - top).exp());
            let sum: f64 = values.iter().sum();
            values.iter_mut().for_each(|v| *v /= sum);
        }
    }
}

/// The distance that a distribution over 0, 1, 2, ... expects.
fn expected(logits: &[f64]) -> f64 {
    let mut shares = logits.to_vec();
    activated(Activation::Softmax, &mut shares);
    shares
        .iter()
        .enumerate()
        .map(|(at, share)| at as f64 * share)
        .sum()
}

/// A layout ready for the images of one model.
pub(in crate::evaluate) struct BoxReader {
    pub(super) layout: BoxesSpec,
    /// What is worth saying of a layout that nobody named.
    pub(super) guessed: Option<String>,
}

impl BoxReader {
    /// For a model that answered this to a first image: with the layout that the description names or spells out, else with the one
    /// that the outputs fit.
    pub(super) fn of(
        spec: &BoxesSpec,
        keypoints: bool,
        answer: &Answer,
        frame: Option<&Frame>,
    ) -> Result<Self, EvaluateError> {
        if spec.layout.is_some() || spec.code.is_some() {
            return Ok(Self {
                layout: spec.clone(),
                guessed: None,
            });
        }
        let (name, layout) = guessed(answer, frame, keypoints)?;
        let about = layout.about.clone().unwrap_or_default();
        let reader = Self {
            layout: spec.over(layout),
            guessed: Some(format!(
                "the outputs are read as boxes of layout {name} ({about})"
            )),
        };
        match reader.is_plausible(answer, frame)? {
            true => Ok(reader),
            false => Err(EvaluateError::Task {
                problem: format!(
                    "the outputs have the shapes of layout {name} ({about}), but most of the boxes that it reads have no area: say how they are read with boxes: {{ layout: NAME }}, or spell it out (`secateur explain data`)"
                ),
            }),
        }
    }

    /// Whether most predictions, whatever their score, have an area: shapes alone do not tell offsets from corners.
    fn is_plausible(&self, answer: &Answer, frame: Option<&Frame>) -> Result<bool, EvaluateError> {
        let all = Self {
            layout: BoxesSpec {
                score: Some(f64::NEG_INFINITY),
                classes: Some(ClassesOf::Best),
                ..self.layout.clone()
            },
            guessed: None,
        };
        let found = all.read(answer, frame)?;
        let with_area = found.iter().filter(|prediction| {
            let [left, top, right, bottom] = prediction.corners;
            right > left && bottom > top
        });
        Ok(2 * with_area.count() >= found.len())
    }

    /// Every prediction of an image at the layout's score or above, in the order of the outputs.
    pub(super) fn read(
        &self,
        answer: &Answer,
        frame: Option<&Frame>,
    ) -> Result<Vec<Prediction>, EvaluateError> {
        let layout = &self.layout;
        let parts = Parts::of(layout, answer)?;
        let mut found = Vec::new();
        let mut behind = 0;
        for (scale, tables) in parts.scales.iter().enumerate() {
            let (Some(boxes), Some(scores)) = (tables.get(&Part::Box), tables.get(&Part::Scores)) else {
                return Err(EvaluateError::Output {
                    output: String::new(),
                    problem: "the layout has no box or no scores".to_owned(),
                });
            };
            let grids = self.grids(frame, parts.scales.len(), scale, boxes)?;
            let mut grid = grids.iter();
            let mut now = grid.next();
            let mut before = 0;
            for row in 0..boxes.rows {
                while now.is_some_and(|grid| row - before >= grid.cells) {
                    before += now.map_or(0, |grid| grid.cells);
                    now = grid.next();
                }
                let classes = self.classes(tables, scores, row);
                if classes.is_empty() {
                    continue;
                }
                let cell = now.map(|grid| (*grid, row - before));
                let corners = self.corners(boxes, row, cell, behind + row, frame)?;
                let keypoints = tables
                    .get(&Part::Keypoints)
                    .map(|table| self.keypoints(table, row, cell, frame))
                    .unwrap_or_default();
                found.extend(classes.into_iter().map(|(class, score)| Prediction {
                    class,
                    score,
                    corners,
                    keypoints: keypoints.clone(),
                }));
            }
            behind += boxes.rows;
        }
        Ok(found)
    }

    /// The grids that the rows of one scale's outputs stand on.
    fn grids(
        &self,
        frame: Option<&Frame>,
        scales: usize,
        scale: usize,
        boxes: &Table<'_>,
    ) -> Result<Vec<Grid>, EvaluateError> {
        if !self.layout.is_grid() {
            return Ok(Vec::new());
        }
        let frame = frame.ok_or_else(|| {
            wrong(
                boxes.output,
                "holds boxes on a grid, and the size of the input is not known",
            )
        })?;
        let strides = &self.layout.strides;
        let own: Vec<u32> = match scales {
            1 => strides.clone(),
            _ if scales == strides.len() => strides.get(scale).copied().into_iter().collect(),
            _ => {
                return Err(wrong(
                    boxes.output,
                    format!(
                        "is one of {scales} scales, the layout has {} strides",
                        strides.len()
                    ),
                ));
            }
        };
        let grids: Vec<Grid> = own.iter().map(|stride| Grid::of(*stride, frame.input)).collect();
        let cells: usize = grids.iter().map(|grid| grid.cells).sum();
        if cells != boxes.rows {
            let [width, height] = frame.input;
            let problem = format!(
                "has {} predictions, strides {own:?} make {cells} of an input of {width}x{height}",
                boxes.rows
            );
            return Err(wrong(boxes.output, problem));
        }
        Ok(grids)
    }

    /// The classes that a prediction counts for, with their scores.
    fn classes(
        &self,
        tables: &BTreeMap<Part, Table<'_>>,
        scores: &Table<'_>,
        row: usize,
    ) -> Vec<(usize, f64)> {
        let layout = &self.layout;
        let activation = layout.activation.unwrap_or(Activation::None);
        let mut values: Vec<f64> = (0..scores.count()).map(|class| scores.at(row, class)).collect();
        activated(activation, &mut values);
        match layout.background.unwrap_or(Background::None) {
            Background::First => drop(values.drain(..1.min(values.len()))),
            Background::Last => drop(values.pop()),
            Background::None => {}
        }
        if let Some(table) = tables.get(&Part::Objectness) {
            let mut there = [table.at(row, 0)];
            // A softmax of one number says nothing.
            if activation == Activation::Sigmoid {
                activated(activation, &mut there);
            }
            for value in &mut values {
                *value = match layout.combine.unwrap_or(Combine::Product) {
                    Combine::Product => *value * there[0],
                    Combine::GeometricMean => (*value * there[0]).max(0.0).sqrt(),
                };
            }
        }
        let least = layout.score.unwrap_or(0.0);
        let counts = |(_, score): &(usize, f64)| *score >= least;
        if let Some(table) = tables.get(&Part::Class) {
            let class = table.at(row, 0);
            // A negative class or score stands for a row that is not filled.
            let class = (class >= 0.0).then_some(class as usize);
            return class
                .zip(values.first().copied())
                .filter(counts)
                .into_iter()
                .collect();
        }
        let all = values.into_iter().enumerate();
        match layout.classes.unwrap_or(ClassesOf::All) {
            ClassesOf::All => all.filter(counts).collect(),
            ClassesOf::Best => {
                let best = all.reduce(|best, next| if next.1 > best.1 { next } else { best });
                best.filter(counts).into_iter().collect()
            }
        }
    }

    fn four(boxes: &Table<'_>, row: usize, code: BoxCode) -> Result<[f64; 4], EvaluateError> {
        let count = boxes.count();
        if code == BoxCode::Distribution {
            if !count.is_multiple_of(4) || count < 8 {
                return Err(wrong(
                    boxes.output,
                    format!("has {count} numbers a box, which are no four distributions"),
                ));
            }
            let bins = count / 4;
            let side = |at: usize| {
                let logits: Vec<f64> = (0..bins).map(|bin| boxes.at(row, at * bins + bin)).collect();
                expected(&logits)
            };
            return Ok([side(0), side(1), side(2), side(3)]);
        }
        if count != 4 {
            return Err(wrong(
                boxes.output,
                format!("has {count} numbers a box where four make one"),
            ));
        }
        Ok([0, 1, 2, 3].map(|at| boxes.at(row, at)))
    }

    /// Left, top, right and bottom of a prediction, in pixels of the image.
    fn corners(
        &self,
        boxes: &Table<'_>,
        row: usize,
        cell: Option<(Grid, usize)>,
        place: usize,
        frame: Option<&Frame>,
    ) -> Result<[f64; 4], EvaluateError> {
        let layout = &self.layout;
        let code = layout.code.unwrap_or(BoxCode::Corners);
        let [a, b, c, d] = Self::four(boxes, row, code)?;
        let around = |x: f64, y: f64, w: f64, h: f64| [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
        let (corners, units) = match (code, cell) {
            (BoxCode::Corners, _) => ([a, b, c, d], layout.units),
            (BoxCode::CornersYx, _) => ([b, a, d, c], layout.units),
            (BoxCode::Centre, _) => (around(a, b, c, d), layout.units),
            (BoxCode::CornerSize, _) => ([a, b, a + c, b + d], layout.units),
            (BoxCode::CellExp, Some((grid, cell))) => {
                let ([x, y], s) = (grid.corner(cell), grid.stride);
                (
                    around((x + a) * s, (y + b) * s, c.exp() * s, d.exp() * s),
                    Some(Units::Pixels),
                )
            }
            (BoxCode::Distances | BoxCode::Distribution, Some((grid, cell))) => {
                let point = layout.point.unwrap_or(0.5);
                let ([x, y], s) = (grid.corner(cell).map(|v| v + point), grid.stride);
                (
                    [(x - a) * s, (y - b) * s, (x + c) * s, (y + d) * s],
                    Some(Units::Pixels),
                )
            }
            (BoxCode::Offsets, _) => {
                let anchor = layout.anchors.get(place).ok_or_else(|| {
                    wrong(
                        boxes.output,
                        format!("has more predictions than the {} anchors", layout.anchors.len()),
                    )
                })?;
                let [x, y, w, h] = *anchor;
                let [centre, size] = layout.variances.unwrap_or([0.1, 0.2]);
                let (w2, h2) = (w * (c * size).exp(), h * (d * size).exp());
                (
                    around(x + a * centre * w, y + b * centre * h, w2, h2),
                    layout.units,
                )
            }
            (_, None) => return Err(wrong(boxes.output, "holds boxes on a grid, and there is none")),
        };
        let [left, top, right, bottom] = corners;
        let units = units.unwrap_or(Units::Pixels);
        let ((left, top), (right, bottom)) = (
            self.point(left, top, units, frame, boxes.output)?,
            self.point(right, bottom, units, frame, boxes.output)?,
        );
        // What reaches over the image's edge is cut, as nothing true is there.
        Ok(match frame.filter(|_| units != Units::Image) {
            Some(Frame { image: [w, h], .. }) => {
                let (w, h) = (f64::from(*w), f64::from(*h));
                [
                    left.clamp(0.0, w),
                    top.clamp(0.0, h),
                    right.clamp(0.0, w),
                    bottom.clamp(0.0, h),
                ]
            }
            None => [left, top, right, bottom],
        })
    }

    /// A point in pixels of the image.
    fn point(
        &self,
        x: f64,
        y: f64,
        units: Units,
        frame: Option<&Frame>,
        output: &Output,
    ) -> Result<(f64, f64), EvaluateError> {
        match (units, frame) {
            (Units::Image, _) | (Units::Pixels, None) => Ok((x, y)),
            (Units::Pixels, Some(frame)) => Ok(frame.to_image(x, y)),
            (Units::Normalized, Some(frame)) => {
                let [width, height] = frame.input.map(f64::from);
                Ok(frame.to_image(x * width, y * height))
            }
            (Units::Normalized, None) => Err(wrong(
                output,
                "holds normalised boxes, and the size of the image is not known",
            )),
        }
    }

    fn keypoints(
        &self,
        table: &Table<'_>,
        row: usize,
        cell: Option<(Grid, usize)>,
        frame: Option<&Frame>,
    ) -> Vec<[f64; 3]> {
        let values = self.layout.keypoint_values.unwrap_or(3).max(2);
        let cells = self.layout.keypoint_cells.unwrap_or(false);
        (0..table.count() / values)
            .map(|at| {
                let (mut x, mut y) = (table.at(row, at * values), table.at(row, at * values + 1));
                if let Some((grid, cell)) = cell.filter(|_| cells) {
                    let [column, line] = grid.corner(cell);
                    (x, y) = ((x + column) * grid.stride, (y + line) * grid.stride);
                }
                let units = match cells {
                    true => Units::Pixels,
                    false => self.layout.units.unwrap_or(Units::Pixels),
                };
                let (x, y) = self.point(x, y, units, frame, table.output).unwrap_or((x, y));
                let seen = if values == 3 {
                    table.at(row, at * values + 2)
                } else {
                    1.0
                };
                [x, y, seen]
            })
            .collect()
    }
}
