//! How near a model's vectors are to the reference's.
//!
//! Neighbours and, where no pairs are given, rank correlation are over at most [`CHOSEN`] samples, evenly spread over all by index.

use rayon::prelude::*;

use super::similarity::{dot, similarities};

/// Samples whose similarities are all computed.
pub(super) const CHOSEN: usize = 2_000;

/// Neighbours that a model should share with its reference.
pub(super) const NEAREST: [usize; 2] = [1, 5];

/// How near a model is to its reference.
pub(super) struct Agreement {
    /// Cosine of the two vectors, by sample.
    pub(super) cosines: Vec<f64>,
    pub(super) spearman: Option<f64>,
    /// Share of the reference's nearest neighbours that are the model's, for each of [`NEAREST`].
    pub(super) recalls: [Option<f64>; NEAREST.len()],
    /// Samples whose nearest neighbour is another, of how many.
    pub(super) moved: Option<(u64, u64)>,
}

impl Agreement {
    pub(super) fn of(
        model: &[Vec<f64>],
        reference: &[Vec<f64>],
        pairs: &[(usize, usize, Option<bool>)],
    ) -> Self {
        let cosines: Vec<f64> = model.iter().zip(reference).map(|(a, b)| dot(a, b)).collect();
        let chosen = chosen(model.len());
        let (own, other) = (table(model, &chosen), table(reference, &chosen));
        let spearman = match pairs.is_empty() {
            true => spearman(&above_diagonal(&own), &above_diagonal(&other)),
            false => {
                let places = || pairs.iter().map(|(a, b, _)| (*a, *b));
                spearman(&similarities(model, places()), &similarities(reference, places()))
            }
        };
        let shared = |k: usize| -> Option<u64> {
            // Where all others are neighbours there is nothing to find.
            if chosen.len() <= k + 1 {
                return None;
            }
            let count = own
                .par_iter()
                .zip(&other)
                .enumerate()
                .map(|(at, (own, other))| {
                    let (own, other) = (nearest(own, at, k), nearest(other, at, k));
                    other.iter().filter(|place| own.contains(place)).count() as u64
                })
                .sum();
            Some(count)
        };
        let counts = NEAREST.map(shared);
        let mut recalls = [None; NEAREST.len()];
        for ((recall, count), k) in recalls.iter_mut().zip(counts).zip(NEAREST) {
            *recall = count.map(|count| count as f64 / (k * chosen.len()) as f64);
        }
        let all = chosen.len() as u64;
        let [first, ..] = counts;
        Self {
            cosines,
            spearman,
            recalls,
            moved: first.map(|shared| (all - shared, all)),
        }
    }

    /// What the reference has in common with itself.
    pub(super) fn itself(&self) -> Self {
        Self {
            cosines: vec![1.0; self.cosines.len()],
            spearman: self.spearman.map(|_| 1.0),
            recalls: self.recalls.map(|recall| recall.map(|_| 1.0)),
            moved: None,
        }
    }
}

/// At most [`CHOSEN`] of so many samples, evenly spread.
fn chosen(samples: usize) -> Vec<usize> {
    let count = samples.min(CHOSEN);
    (0..count).map(|at| at * samples / count.max(1)).collect()
}

/// Similarities of all chosen samples, a row each.
fn table(units: &[Vec<f64>], chosen: &[usize]) -> Vec<Vec<f64>> {
    chosen
        .par_iter()
        .map(|a| similarities(units, chosen.iter().map(|b| (*a, *b))))
        .collect()
}

fn above_diagonal(table: &[Vec<f64>]) -> Vec<f64> {
    table
        .iter()
        .enumerate()
        .flat_map(|(at, row)| row.iter().skip(at + 1).copied())
        .collect()
}

/// The `k` places of the highest similarities but the own place; the lower place of equal ones.
fn nearest(row: &[f64], own: usize, k: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..row.len()).filter(|at| *at != own).collect();
    let value = |at: usize| row.get(at).copied().unwrap_or(f64::NEG_INFINITY);
    let order = |a: &usize, b: &usize| value(*b).total_cmp(&value(*a)).then(a.cmp(b));
    if k < places.len() {
        places.select_nth_unstable_by(k, order);
        places.truncate(k);
    }
    places
}

/// Ranks from 1, equal values having the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values.iter().copied().zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0usize;
    for group in order.chunk_by(|a, b| a.0 == b.0) {
        let rank = before as f64 + (group.len() as f64 + 1.0) / 2.0;
        for (_, at) in group {
            if let Some(place) = ranks.get_mut(*at) {
                *place = rank;
            }
        }
        before += group.len();
    }
    ranks
}

/// Spearman's rank correlation; none where one side has a single value.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let centre = (a.len() as f64 + 1.0) / 2.0;
    let centred = |values: &[f64]| -> Vec<f64> { ranks(values).iter().map(|rank| rank - centre).collect() };
    let (a, b) = (centred(a), centred(b));
    let spread = (dot(&a, &a) * dot(&b, &b)).sqrt();
    (spread > 0.0).then(|| (dot(&a, &b) / spread).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_equal_values_are_their_mean() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.0, 0.0]), [4.5, 3.0, 4.5, 1.5, 1.5]);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[6.0, 5.0, 4.0]), Some(-1.0));
    }

    #[test]
    fn large_sets_are_thinned_evenly() {
        assert_eq!(chosen(3), [0, 1, 2]);
        let some = chosen(CHOSEN * 2 + 1);
        assert_eq!(
            (some.len(), some[0], some[1], some[CHOSEN - 1]),
            (CHOSEN, 0, 2, 3998)
        );
    }
}
