//! Telling pairs of the same from pairs of different things by a threshold on their similarity: the receiver operating
//! characteristic, with a point for each similarity that occurs, as scikit-learn's `roc_curve` without dropped points.

use super::similarity::similarity;

/// Pairs with a label by descending similarity.
pub(super) struct Verification {
    pairs: Vec<LabelledPair>,
}

#[derive(Clone, Copy)]
struct LabelledPair {
    similarity: f64,
    same: bool,
    a: usize,
    b: usize,
}

/// Points of the receiver operating characteristic: false and true acceptances at each threshold, with their totals last.
pub(super) struct Curve(Vec<(u64, u64)>);

impl Verification {
    /// `None` without labelled pairs.
    pub(super) fn of(units: &[Vec<f64>], pairs: &[(usize, usize, Option<bool>)]) -> Option<Self> {
        let mut labelled: Vec<LabelledPair> = pairs
            .iter()
            .filter_map(|(a, b, same)| {
                Some(LabelledPair {
                    similarity: similarity(units, *a, *b)?,
                    same: (*same)?,
                    a: *a,
                    b: *b,
                })
            })
            .collect();
        labelled.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        (!labelled.is_empty()).then_some(Self { pairs: labelled })
    }

    /// A pair counts as often as both of its samples together.
    pub(super) fn curve(&self, weight: impl Fn(usize) -> u64) -> Curve {
        let mut points = vec![(0, 0)];
        let (mut wrong, mut right) = (0, 0);
        for group in self.pairs.chunk_by(|a, b| a.similarity == b.similarity) {
            for pair in group {
                let count = weight(pair.a) * weight(pair.b);
                if pair.same {
                    right += count;
                } else {
                    wrong += count;
                }
            }
            points.push((wrong, right));
        }
        Curve(points)
    }
}

impl Curve {
    /// All different and all same pairs, where there are some of both.
    fn totals(&self) -> Option<(f64, f64)> {
        let (wrong, right) = self.0.last().copied()?;
        (wrong > 0 && right > 0).then_some((wrong as f64, right as f64))
    }

    /// The highest share of same pairs accepted while at most `far` of the different ones are.
    pub(super) fn true_acceptance(&self, far: f64) -> Option<f64> {
        let (wrong, right) = self.totals()?;
        let allowed = self.0.iter().take_while(|point| point.0 as f64 / wrong <= far);
        allowed.last().map(|point| point.1 as f64 / right)
    }

    /// The area under the curve.
    pub(super) fn area(&self) -> Option<f64> {
        let (wrong, right) = self.totals()?;
        // Twice the area in pairs, exact in integers.
        let twice: u128 = self
            .0
            .windows(2)
            .filter_map(|ends| match ends {
                [a, b] => Some(u128::from(b.0 - a.0) * u128::from(a.1 + b.1)),
                _ => None,
            })
            .sum();
        Some(twice as f64 / 2.0 / wrong / right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_counts_twice_has_its_pairs_twice() {
        let units = vec![vec![1.0, 0.0], vec![0.8, 0.6], vec![0.0, 1.0], vec![0.6, 0.8]];
        let pairs = [
            (0, 1, Some(true)),
            (0, 2, Some(false)),
            (1, 3, Some(false)),
            (2, 3, Some(true)),
            (1, 2, None),
        ];
        let repeated: Vec<_> = [0, 0, 1, 2, 2, 2, 2, 3, 3].iter().map(|at| pairs[*at]).collect();
        let weights = [1, 2, 1, 2];
        let one = Verification::of(&units, &pairs).unwrap().curve(|at| weights[at]);
        let other = Verification::of(&units, &repeated).unwrap().curve(|_| 1);
        assert_eq!(one.0, other.0);
        assert!(Verification::of(&units, &pairs[4..]).is_none());
    }

    #[test]
    fn equal_similarities_are_one_point() {
        let curve = Curve(vec![(0, 0), (0, 1), (1, 3), (2, 4)]);
        assert_eq!(curve.true_acceptance(0.4), Some(0.25));
        assert_eq!(curve.true_acceptance(0.5), Some(0.75));
        assert_eq!(curve.area(), Some((4.0 + 7.0) / 2.0 / 8.0));
    }
}
