//! Centroids and intervals that follow each other: values go to the nearest centroid, centroids to the mean of their values. Neither step
//! raises the error.

use super::points::Points;

/// Rounds; almost all tensors settle in fewer.
const ROUNDS: usize = 500;

/// Where the points of each of some sorted centroids begin and end.
fn bounds(points: &Points, centroids: &[f64]) -> Vec<usize> {
    let mut found = vec![0];
    for pair in centroids.windows(2) {
        let &[low, high] = pair else { continue };
        let middle = (low + high) / 2.0;
        found.push(points.values().partition_point(|value| *value <= middle));
    }
    found.push(points.len());
    found
}

/// The error of the points at the nearest of some sorted centroids.
#[cfg(test)]
pub(super) fn error(points: &Points, centroids: &[f64]) -> f64 {
    let bounds = bounds(points, centroids);
    let ranges = bounds.windows(2).zip(centroids);
    ranges
        .map(|(pair, centroid)| points.cost_at(pair[0]..pair[1], *centroid))
        .sum()
}

/// One round.
fn step(points: &Points, centroids: &[f64]) -> Vec<f64> {
    points.means(&bounds(points, centroids))
}

/// Centroids that no round moves any more, from these; `count` of them where there are as many points: a centroid that has lost its points
/// goes on in the cluster with the greatest error.
pub(super) fn settle(points: &Points, start: Vec<f64>, count: usize) -> Vec<f64> {
    let mut centroids = start;
    centroids.sort_by(f64::total_cmp);
    centroids.dedup();
    for _ in 0..ROUNDS {
        let mut moved = step(points, &centroids);
        while moved.len() < count.min(points.len()) {
            let Some(more) = split(points, &moved) else {
                break;
            };
            moved = more;
        }
        if moved == centroids {
            break;
        }
        centroids = moved;
    }
    centroids
}

/// One centroid more: the cluster with the greatest error becomes two with the least.
fn split(points: &Points, centroids: &[f64]) -> Option<Vec<f64>> {
    let bounds = bounds(points, centroids);
    let ranges = bounds
        .windows(2)
        .filter_map(|pair| Some(*pair.first()?..*pair.get(1)?));
    let worst = ranges
        .filter(|range| range.len() >= 2)
        .max_by(|a, b| points.cost(a.clone()).total_cmp(&points.cost(b.clone())))?;
    let error = |cut: usize| points.cost(worst.start..cut) + points.cost(cut..worst.end);
    let cut = (worst.start + 1..worst.end).min_by(|a, b| error(*a).total_cmp(&error(*b)))?;
    let mut all = bounds.clone();
    let at = all.partition_point(|bound| *bound <= worst.start);
    all.insert(at, cut);
    Some(points.means(&all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::cluster::tests::numbers;

    #[test]
    fn no_round_raises_the_error() {
        let values = numbers(2000, 7);
        let weights: Vec<f64> = numbers(2000, 8).iter().map(|one| f64::from(one.abs())).collect();
        let points = Points::of(&values, Some(&weights), false);
        for start in [points.linear(24), points.density(24), points.drawn(24, 3)] {
            let mut centroids = start;
            centroids.sort_by(f64::total_cmp);
            let mut last = error(&points, &centroids);
            let mut fell = 0;
            for _ in 0..60 {
                centroids = step(&points, &centroids);
                let now = error(&points, &centroids);
                assert!(now <= last * (1.0 + 1e-12), "{now} after {last}");
                fell += usize::from(now < last);
                last = now;
            }
            assert!(fell > 3);
        }
    }

    #[test]
    fn a_centroid_without_points_goes_where_it_lowers_the_error() {
        let points = Points::of(&[0.0, 0.1, 0.2, 5.0, 5.1, 9.0], None, false);
        let settled = settle(&points, vec![-70.0, -60.0, 4.0], 3);
        assert_eq!(settled.len(), 3);
        assert!(error(&points, &settled) < 0.03, "{settled:?}");
        let few = settle(&points, vec![1.0], 20);
        assert_eq!(few, points.values());
    }
}
