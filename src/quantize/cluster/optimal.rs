//! The intervals with the least error, by dynamic programming.
//!
//! `D[c][j] = min over i of D[c - 1][i] + cost(i..j)`. The least `i` that gives the minimum does not fall as `j` grows, so that a half of
//! the columns says where the other half has to look: `O(c n log n)` for `c` clusters of `n` cuts.

use super::points::Points;

/// One row of the table: least errors by cut, from those with one cluster less.
struct Row<'a> {
    points: &'a Points,
    cuts: &'a [usize],
    before: &'a [f64],
    least: Vec<f64>,
    /// The cut where the last cluster begins.
    from: Vec<u32>,
}

impl Row<'_> {
    /// Fills columns `low..high`, whose last clusters begin at `first..=last`.
    fn fill(&mut self, (low, high): (usize, usize), (first, last): (usize, usize)) {
        if low >= high {
            return;
        }
        let column = low + (high - low) / 2;
        let end = self.cuts.get(column).copied().unwrap_or(0);
        let (mut least, mut from) = (f64::INFINITY, first);
        for at in first..=last.min(column) {
            let (Some(before), Some(begin)) = (self.before.get(at), self.cuts.get(at)) else {
                break;
            };
            let error = before + self.points.cost(*begin..end);
            if error < least {
                (least, from) = (error, at);
            }
        }
        if let (Some(own), Some(place)) = (self.least.get_mut(column), self.from.get_mut(column)) {
            *own = least;
            *place = from as u32;
        }
        self.fill((low, column), (first, from));
        self.fill((column + 1, high), (from, last));
    }
}

/// Rows for 1 to `count` clusters; each is given to `keep`, with where its last clusters begin.
fn rows(points: &Points, cuts: &[usize], count: usize, mut keep: impl FnMut(&[f64], Vec<u32>)) {
    let columns = cuts.len();
    let mut before: Vec<f64> = cuts.iter().map(|end| points.cost(0..*end)).collect();
    keep(&before, vec![0; columns]);
    for _ in 1..count {
        let mut row = Row {
            points,
            cuts,
            before: &before,
            least: vec![0.0; columns],
            from: vec![0; columns],
        };
        row.fill((0, columns), (0, columns.saturating_sub(1)));
        let Row { least, from, .. } = row;
        keep(&least, from);
        before = least;
    }
}

/// The least errors with 1 to `count` clusters.
pub(super) fn errors(points: &Points, cuts: &[usize], count: usize) -> Vec<f64> {
    let mut found = Vec::with_capacity(count);
    rows(points, cuts, count, |least, _| {
        found.push(least.last().copied().unwrap_or(0.0));
    });
    found
}

/// Where the `count` clusters with the least error begin and end, in points.
pub(super) fn bounds(points: &Points, cuts: &[usize], count: usize) -> Vec<usize> {
    let mut table: Vec<Vec<u32>> = Vec::with_capacity(count);
    rows(points, cuts, count, |_, from| table.push(from));
    let mut column = cuts.len().saturating_sub(1);
    let mut found = vec![points.len()];
    for row in table.iter().rev() {
        column = row.get(column).copied().unwrap_or(0) as usize;
        found.push(cuts.get(column).copied().unwrap_or(0));
    }
    found.reverse();
    found
}
