//! The parts of predictions, taken out of a detector's outputs: rows of numbers.

use std::collections::BTreeMap;

use super::{Answer, word, wrong};
use crate::data::{BoxesSpec, Outputs, Part};
use crate::ir::{DType, ValueId, ValueType};
use crate::passes::PassError;
use crate::passes::form::bake::ops::Ops;
use crate::passes::form::bake::option;

/// One part of one scale: `float [rows, width]`, and which columns are the part.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) output: String,
    pub(super) rows: Option<u64>,
    rows_of_all: ValueId,
    width: u64,
    first: u64,
    /// Columns of the part.
    pub(super) count: u64,
}

impl Table {
    /// `float [rows, count]`.
    pub(super) fn value(&self, ops: &mut Ops) -> ValueId {
        match (self.first, self.count) {
            (0, count) if count == self.width => self.rows_of_all,
            (first, count) => ops.slice(self.rows_of_all, 1, first as i64, (first + count) as i64),
        }
    }

    /// One of its columns, `float [rows, 1]`.
    pub(super) fn column(&self, ops: &mut Ops, at: u64) -> ValueId {
        let first = (self.first + at) as i64;
        match self.width {
            1 => self.rows_of_all,
            _ => ops.slice(self.rows_of_all, 1, first, first + 1),
        }
    }
}

/// The parts of one scale.
pub(super) struct Scale {
    pub(super) boxes: Table,
    pub(super) scores: Table,
    pub(super) objectness: Option<Table>,
    pub(super) class: Option<Table>,
}

/// Takes parts out of outputs.
pub(super) struct Parts<'a> {
    layout: &'a BoxesSpec,
    answers: &'a [Answer],
    ops: &'a mut Ops,
    /// Outputs as rows, by place.
    rows: BTreeMap<usize, Rows>,
    /// Outputs that are read, with the names of the inputs that stand for them.
    pub(super) links: Vec<(String, String)>,
}

#[derive(Clone, Copy)]
struct Rows {
    value: ValueId,
    rows: Option<u64>,
    width: u64,
}

impl<'a> Parts<'a> {
    pub(super) fn new(layout: &'a BoxesSpec, answers: &'a [Answer], ops: &'a mut Ops) -> Self {
        Self {
            layout,
            answers,
            ops,
            rows: BTreeMap::new(),
            links: Vec::new(),
        }
    }

    /// The parts, scale by scale.
    pub(super) fn scales(&mut self) -> Result<Vec<Scale>, PassError> {
        let mut scales: Vec<BTreeMap<Part, Table>> = Vec::new();
        for part in [Part::Box, Part::Scores, Part::Objectness, Part::Class] {
            let (outputs, columns) = (self.layout.outputs.get(&part), self.layout.columns.get(&part));
            if outputs.is_none() && columns.is_none() {
                continue;
            }
            let found = self.chosen(outputs)?;
            if !scales.is_empty() && scales.len() != found.len() {
                return Err(option(format!(
                    "boxes: {} has {} outputs where other parts have {}",
                    word(part),
                    found.len(),
                    scales.len()
                )));
            }
            scales.resize_with(found.len(), BTreeMap::new);
            for (scale, place) in scales.iter_mut().zip(found) {
                let table = self.table(place, columns)?;
                if let Some(other) = scale.values().next()
                    && let (Some(own), Some(rows)) = (table.rows, other.rows)
                    && own != rows
                {
                    let message = format!("has {own} predictions where {} has {rows}", other.output);
                    return Err(wrong(&table.output, message));
                }
                scale.insert(part, table);
            }
        }
        scales
            .into_iter()
            .map(|mut parts| {
                let (Some(boxes), Some(scores)) = (parts.remove(&Part::Box), parts.remove(&Part::Scores))
                else {
                    return Err(option("boxes: the layout has no box or no scores"));
                };
                Ok(Scale {
                    boxes,
                    scores,
                    objectness: parts.remove(&Part::Objectness),
                    class: parts.remove(&Part::Class),
                })
            })
            .collect()
    }

    /// Places of the outputs of a part, one a scale.
    fn chosen(&self, outputs: Option<&Outputs>) -> Result<Vec<usize>, PassError> {
        let names = || {
            let names: Vec<&str> = self.answers.iter().map(|answer| answer.name.as_str()).collect();
            names.join(", ")
        };
        let named = |name: &String| {
            let place = self.answers.iter().position(|answer| answer.name == *name);
            place.ok_or_else(|| {
                option(format!(
                    "boxes: there is no output {name}; the model has {}",
                    names()
                ))
            })
        };
        let placed = |place: &usize| match self.answers.get(*place) {
            Some(_) => Ok(*place),
            None => Err(option(format!(
                "boxes: there is no output {place}; the model has {}: {}",
                self.answers.len(),
                names()
            ))),
        };
        match outputs {
            None => Ok(vec![placed(&0)?]),
            Some(Outputs::Name(name)) => Ok(vec![named(name)?]),
            Some(Outputs::Place(place)) => Ok(vec![placed(place)?]),
            Some(Outputs::Names(names)) => names.iter().map(named).collect(),
            Some(Outputs::Places(places)) => places.iter().map(placed).collect(),
        }
    }

    fn table(&mut self, place: usize, columns: Option<&Vec<i64>>) -> Result<Table, PassError> {
        let all = self.as_rows(place)?;
        let output = self
            .answers
            .get(place)
            .map(|answer| answer.name.clone())
            .unwrap_or_default();
        let absolute = |at: i64| match u64::try_from(at) {
            Ok(at) => Some(at),
            Err(_) => all.width.checked_sub(at.unsigned_abs()),
        };
        let (first, end) = match columns {
            None => (Some(0), Some(all.width)),
            Some(columns) => (
                columns.first().copied().and_then(absolute),
                columns.get(1).map_or(Some(all.width), |end| absolute(*end)),
            ),
        };
        match first
            .zip(end)
            .filter(|(first, end)| first < end && *end <= all.width)
        {
            Some((first, end)) => Ok(Table {
                output,
                rows: all.rows,
                rows_of_all: all.value,
                width: all.width,
                first,
                count: end - first,
            }),
            None => Err(wrong(
                &output,
                format!(
                    "has {} numbers a prediction, boxes takes columns {columns:?}",
                    all.width
                ),
            )),
        }
    }

    /// An output as `float [rows, width]`.
    fn as_rows(&mut self, place: usize) -> Result<Rows, PassError> {
        if let Some(known) = self.rows.get(&place) {
            return Ok(*known);
        }
        let Some(answer) = self.answers.get(place) else {
            return Err(option(format!("boxes: there is no output {place}")));
        };
        let transposed = self.layout.transposed.unwrap_or(false);
        let mut dims = answer.dims.as_slice();
        while let [Some(1), rest @ ..] = dims
            && rest.len() >= 2
        {
            dims = rest;
        }
        let product = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a * b);
        let one_number = self.layout.columns.is_empty();
        let (rows, width, transposed) = match (dims, transposed) {
            ([rows], _) if one_number => (*rows, Some(1), false),
            ([width], _) => (Some(1), *width, false),
            ([rows, width], false) => (*rows, *width, false),
            ([width, rows], true) => (*rows, *width, true),
            ([height, columns, width], false) => (product(*height, *columns), *width, false),
            ([width, height, columns], true) => (product(*height, *columns), *width, true),
            _ => {
                let message = format!(
                    "has shape {} for one image, which holds no rows of predictions",
                    shown(dims)
                );
                return Err(wrong(&answer.name, message));
            }
        };
        let Some(width) = width else {
            let message = format!(
                "has shape {} for one image: how many numbers a prediction has is not known before it runs",
                shown(dims)
            );
            return Err(wrong(&answer.name, message));
        };
        let name = format!("boxes/output_{place}");
        let input = self.ops.input(&name, ValueType::tensor(answer.dtype, None));
        self.links.push((answer.name.clone(), name));
        let float = match answer.dtype {
            DType::F32 => input,
            _ => self.ops.cast(input, DType::F32),
        };
        let width_now = i64::try_from(width).unwrap_or(i64::MAX);
        let value = match transposed {
            false => self.ops.reshape(float, &[-1, width_now]),
            true => {
                let columns = self.ops.reshape(float, &[width_now, -1]);
                self.ops.transpose(columns, &[1, 0])
            }
        };
        let found = Rows { value, rows, width };
        self.rows.insert(place, found);
        Ok(found)
    }
}

/// Dimensions as messages show them.
fn shown(dims: &[Option<u64>]) -> String {
    let sizes: Vec<String> = dims
        .iter()
        .map(|size| size.map_or("?".to_owned(), |size| size.to_string()))
        .collect();
    format!("[{}]", sizes.join(", "))
}
