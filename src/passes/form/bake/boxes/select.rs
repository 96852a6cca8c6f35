//! Which predictions stay: those with a score, without those that overlap a better one, the best first.

use super::built;
use crate::data::{BoxesSpec, ClassesOf};
use crate::ir::{DType, Operator, ValueId};
use crate::passes::PassError;
use crate::passes::form::bake::ops::Ops;
use crate::passes::form::bake::option;

/// Every prediction.
pub(super) struct Candidates {
    /// `float [rows, 4]`.
    pub(super) corners: ValueId,
    /// `float [rows, classes]`.
    pub(super) scores: ValueId,
    /// Class numbers that the model gives, `float [rows, 1]`.
    pub(super) numbers: Option<ValueId>,
    /// Scores a row.
    pub(super) classes: u64,
    /// Rows, where their number is known.
    pub(super) rows: Option<u64>,
}

/// The predictions that stay, `[detections, 4]` and `[detections]`.
pub(super) struct Best {
    pub(super) corners: ValueId,
    pub(super) scores: ValueId,
    /// `int64`.
    pub(super) classes: ValueId,
}

/// A score that no least score lets through.
const NEVER: f32 = -1.0;

/// The most boxes where a layout says nothing, as the evaluator has it.
const MOST: usize = 300;

/// Rows, classes and scores that stay, in any order.
struct Kept {
    rows: ValueId,
    classes: ValueId,
    scores: ValueId,
}

pub(super) fn select(ops: &mut Ops, layout: &BoxesSpec, all: &Candidates) -> Result<Best, PassError> {
    let least = layout.score.unwrap_or(0.0);
    let limit = layout.nms.unwrap_or(1.0);
    let wanted = layout.most.unwrap_or(MOST) as u64;
    let most = all
        .rows
        .map_or(wanted, |rows| wanted.min(rows.saturating_mul(all.classes)));
    let across = layout.across_classes.unwrap_or(false);
    // With one score a row there is nothing to choose.
    let best_only = layout.classes == Some(ClassesOf::Best) && all.numbers.is_none() && all.classes > 1;
    let suppression = Suppression { least, limit, most };
    let kept = match (limit < 1.0, all.numbers) {
        (true, Some(_)) if !across => {
            return Err(option(format!(
                "boxes: nms: {limit} by class is not possible where the model gives class numbers: NonMaxSuppression takes a score a class; say across-classes: true, or nms: 1"
            )));
        }
        (false, _) => above(ops, all, least, best_only),
        (true, Some(numbers)) => {
            let scores = numbered_scores(ops, all.scores, numbers);
            let (rows, _, scores) = suppression.apply(ops, all.corners, scores, 1);
            Kept {
                rows,
                classes: class_of(ops, numbers, rows),
                scores,
            }
        }
        (true, None) if !across || all.classes == 1 => {
            let scores = if best_only {
                only_best(ops, all)
            } else {
                all.scores
            };
            let (rows, classes, scores) = suppression.apply(ops, all.corners, scores, all.classes);
            Kept {
                rows,
                classes,
                scores,
            }
        }
        (true, None) if best_only => {
            let classes = best_class(ops, all.scores, false);
            let scores = best_score(ops, all.scores);
            let (rows, _, scores) = suppression.apply(ops, all.corners, scores, 1);
            Kept {
                rows,
                classes: ops.gather(classes, rows, 0),
                scores,
            }
        }
        (true, None) => each_class_a_row(ops, all, &suppression),
    };
    ranked(ops, all.corners, kept, most)
}

/// The best `most`, the highest score first. Rows of no score fill the list up, so that TopK takes a number that is known before it runs,
/// as engines want it.
fn ranked(ops: &mut Ops, corners: ValueId, kept: Kept, most: u64) -> Result<Best, PassError> {
    let fill = built(ops.floats(&[most], &vec![f32::MIN; most as usize]))?;
    let zeros = ops.ints(&vec![0; most as usize]);
    let scores = ops.concat(&[kept.scores, fill], 0);
    let rows = ops.concat(&[kept.rows, zeros], 0);
    let classes = ops.concat(&[kept.classes, zeros], 0);
    let count = ops.ints(&[i64::try_from(most).unwrap_or(i64::MAX)]);
    let operator = Operator::new("TopK")
        .with("axis", 0)
        .with("largest", 1)
        .with("sorted", 1);
    let (scores, order) = ops.pair(operator, &[scores, count]);
    let nothing = ops.float(f32::MIN);
    let is_kept = ops.op("Greater", &[scores, nothing]);
    let places = ops.op("NonZero", &[is_kept]);
    let places = ops.reshape(places, &[-1]);
    let order = ops.gather(order, places, 0);
    let rows = ops.gather(rows, order, 0);
    Ok(Best {
        corners: ops.gather(corners, rows, 0),
        scores: ops.gather(scores, places, 0),
        classes: ops.gather(classes, order, 0),
    })
}

/// Every pair of a row and a class at the least score or above.
fn above(ops: &mut Ops, all: &Candidates, least: f64, best_only: bool) -> Kept {
    let bound = ops.float(at_least(least));
    let scores = match (best_only, all.numbers) {
        (true, _) => best_score(ops, all.scores),
        (false, _) => all.scores,
    };
    let mut enough = ops.op("GreaterOrEqual", &[scores, bound]);
    if let Some(numbers) = all.numbers {
        let zero = ops.float(0.0);
        let filled = ops.op("GreaterOrEqual", &[numbers, zero]);
        enough = ops.op("And", &[enough, filled]);
    }
    let width = if best_only { 1 } else { all.classes };
    let flat = ops.reshape(enough, &[-1]);
    let places = ops.op("NonZero", &[flat]);
    let places = ops.reshape(places, &[-1]);
    let scores = ops.reshape(scores, &[-1]);
    let scores = ops.gather(scores, places, 0);
    let (rows, column) = rows_and_columns(ops, places, width);
    let classes = match all.numbers {
        Some(numbers) => class_of(ops, numbers, rows),
        None if best_only => {
            let classes = best_class(ops, all.scores, false);
            ops.gather(classes, rows, 0)
        }
        None => column,
    };
    Kept {
        rows,
        classes,
        scores,
    }
}

/// The rows and columns of places in a table that many wide.
fn rows_and_columns(ops: &mut Ops, places: ValueId, width: u64) -> (ValueId, ValueId) {
    let width = ops.int(i64::try_from(width).unwrap_or(i64::MAX));
    let rows = ops.op("Div", &[places, width]);
    let before = ops.op("Mul", &[rows, width]);
    (rows, ops.op("Sub", &[places, before]))
}

/// Each pair of a row and a class is a row of its own, as all suppress each other.
fn each_class_a_row(ops: &mut Ops, all: &Candidates, suppression: &Suppression) -> Kept {
    let count = ops.apply(Operator::new("Size"), &[all.scores]);
    let (first, step) = (ops.int(0), ops.int(1));
    let places = ops.op("Range", &[first, count, step]);
    let (rows, _) = rows_and_columns(ops, places, all.classes);
    let corners = ops.gather(all.corners, rows, 0);
    let scores = ops.reshape(all.scores, &[-1, 1]);
    let (places, _, scores) = suppression.apply(ops, corners, scores, 1);
    let (rows, classes) = rows_and_columns(ops, places, all.classes);
    Kept {
        rows,
        classes,
        scores,
    }
}

/// Class numbers of rows, `int64 [detections]`.
fn class_of(ops: &mut Ops, numbers: ValueId, rows: ValueId) -> ValueId {
    let numbers = ops.gather(numbers, rows, 0);
    let numbers = ops.reshape(numbers, &[-1]);
    ops.cast(numbers, DType::I64)
}

/// Scores of rows with class numbers; a negative number stands for a row that is not filled.
fn numbered_scores(ops: &mut Ops, scores: ValueId, numbers: ValueId) -> ValueId {
    let (zero, never) = (ops.float(0.0), ops.float(NEVER));
    let empty = ops.op("Less", &[numbers, zero]);
    ops.op("Where", &[empty, never, scores])
}

fn best_class(ops: &mut Ops, scores: ValueId, keep: bool) -> ValueId {
    let operator = Operator::new("ArgMax")
        .with("axis", 1)
        .with("keepdims", i64::from(keep));
    ops.apply(operator, &[scores])
}

/// The best score of each row, `[rows, 1]`.
fn best_score(ops: &mut Ops, scores: ValueId) -> ValueId {
    let operator = Operator::new("TopK").with("axis", 1);
    let one = ops.ints(&[1]);
    ops.pair(operator, &[scores, one]).0
}

/// Scores with all but the first best one of each row put away.
fn only_best(ops: &mut Ops, all: &Candidates) -> ValueId {
    let best = best_class(ops, all.scores, true);
    let count = i64::try_from(all.classes).unwrap_or(i64::MAX);
    let classes = ops.ints(&(0..count).collect::<Vec<_>>());
    let is_best = ops.op("Equal", &[classes, best]);
    let never = ops.float(NEVER);
    ops.op("Where", &[is_best, all.scores, never])
}

struct Suppression {
    least: f64,
    limit: f64,
    most: u64,
}

impl Suppression {
    /// Rows, classes and scores that stay of `scores [rows, classes]`.
    fn apply(
        &self,
        ops: &mut Ops,
        corners: ValueId,
        scores: ValueId,
        classes: u64,
    ) -> (ValueId, ValueId, ValueId) {
        // NonMaxSuppression takes corners in any order; a box that ends before it begins is empty and suppresses nothing.
        let (first, end) = (ops.slice(corners, 1, 0, 2), ops.slice(corners, 1, 2, 4));
        let end = ops.op("Max", &[first, end]);
        let whole = ops.concat(&[first, end], 1);
        let boxes = ops.unsqueeze(whole, 0);
        let by_class = ops.transpose(scores, &[1, 0]);
        let by_class = ops.unsqueeze(by_class, 0);
        let most = ops.ints(&[i64::try_from(self.most).unwrap_or(i64::MAX)]);
        let [limit, least] = [self.limit as f32, below(at_least(self.least))].map(|value| {
            let value = ops.float(value);
            ops.reshape(value, &[1])
        });
        let kept = ops.op("NonMaxSuppression", &[boxes, by_class, most, limit, least]);
        let [class, row] = [1, 2].map(|column| {
            let column = ops.int(column);
            ops.gather(kept, column, 1)
        });
        let width = ops.int(i64::try_from(classes).unwrap_or(i64::MAX));
        let place = ops.op("Mul", &[row, width]);
        let place = ops.op("Add", &[place, class]);
        let flat = ops.reshape(scores, &[-1]);
        (row, class, ops.gather(flat, place, 0))
    }
}

/// The lowest `float` that is not below a score.
fn at_least(score: f64) -> f32 {
    let near = score as f32;
    if f64::from(near) < score {
        near.next_up()
    } else {
        near
    }
}

/// What is less than a score, and nothing that is: NonMaxSuppression keeps what is more.
fn below(score: f32) -> f32 {
    // The next number below zero is one that engines may take for zero.
    let tiny = score.abs() < f32::MIN_POSITIVE;
    if tiny {
        -f32::MIN_POSITIVE
    } else {
        score.next_down()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_lets_through_what_is_at_it() {
        for score in [0.05, 0.3, 0.001, 0.0, 1.0, -0.5] {
            let bound = at_least(score);
            assert!(
                f64::from(bound) >= score && f64::from(bound.next_down()) < score,
                "{score}"
            );
            let open = below(bound);
            assert!(open < bound && f64::from(open) < score, "{score}");
        }
    }
}
