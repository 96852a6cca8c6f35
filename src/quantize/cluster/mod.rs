//! Weight sharing: a tensor as few values, found by weighted k-means in one dimension (Han et al. 2015).
//!
//! In one dimension clusters are intervals, so that the least error follows from dynamic programming over sorted values: [`optimal`].
//! [`points`] holds the sorted values with their sums, [`lloyd`] lets centroids and intervals follow each other from any start.

mod lloyd;
mod optimal;
mod points;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::points::Points;
use super::parameters::QuantizeError;
use crate::ir::DType;

/// Clusters times cuts that the dynamic programming goes through.
const EXACT: usize = 1 << 21;

/// The same where errors of every number of clusters are wanted, for many tensors.
const ESTIMATE: usize = 1 << 20;

/// Most clusters: a code has 8 bits.
pub const MOST_CLUSTERS: usize = 256;

/// Where the search for centroids starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The least error that there is, by dynamic programming over the sorted values; where a tensor has very many different values, over
    /// intervals of them, from which k-means goes on over the values themselves.
    #[default]
    Exact,
    /// Evenly spaced from the lowest to the highest value, then k-means.
    Linear,
    /// At evenly spaced shares of the weights, then k-means: many centroids where there are many weights.
    Density,
    /// Drawn one after the other, by how far away values still are (Arthur and Vassilvitskii 2007), then k-means.
    #[serde(rename = "kmeans++")]
    KmeansPlusPlus,
}

/// How values are clustered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clustering {
    /// Most clusters, 2 to [`MOST_CLUSTERS`].
    pub count: usize,
    /// Where the search starts.
    pub start: Start,
    /// Zero is a centroid of its own where a value is zero, for zeros alone.
    pub keep_zeros: bool,
    /// Of what is drawn.
    pub seed: u64,
    /// The type that holds centroids: float32, float16 or bfloat16.
    pub dtype: DType,
}

/// Values as few.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// Different values of the type asked for, ascending.
    pub centroids: Vec<f64>,
    /// The index of the centroid of each value.
    pub codes: Vec<u8>,
    /// `Σ w (value - centroid)²`.
    pub error: f64,
    /// `Σ w value²`.
    pub power: f64,
}

/// Clusters with the least `Σ w (value - centroid)²` that the start leads to; `weights` are one for each value, all the same without.
///
/// # Errors
/// When a value is not finite.
pub fn cluster(values: &[f32], weights: Option<&[f64]>, how: &Clustering) -> Result<Clusters, QuantizeError> {
    check(values)?;
    let weights = weights.map(floored);
    let weights = weights.as_deref();
    let zeros = how.keep_zeros && values.contains(&0.0);
    let points = Points::of(values, weights, zeros);
    let most = how.count.clamp(2, MOST_CLUSTERS) - usize::from(zeros);
    let found = match points.len() <= most {
        true => points.values().to_vec(),
        false => match how.start {
            Start::Exact => {
                let cuts = points.cuts(EXACT / most);
                let bounds = optimal::bounds(&points, &cuts, most);
                lloyd::settle(&points, points.means(&bounds), most)
            }
            Start::Linear => lloyd::settle(&points, points.linear(most), most),
            Start::Density => lloyd::settle(&points, points.density(most), most),
            Start::KmeansPlusPlus => lloyd::settle(&points, points.drawn(most, how.seed), most),
        },
    };
    let mut centroids: Vec<f64> = found
        .into_iter()
        .map(|centroid| rounded(centroid, how.dtype))
        .collect();
    centroids.sort_by(f64::total_cmp);
    centroids.dedup();
    Ok(coded(values, weights, centroids, zeros))
}

/// The least errors with 2, 4, ... 2^`bits` clusters, closely: those of intervals of values where there are very many.
///
/// # Errors
/// When a value is not finite.
pub fn cluster_errors(
    values: &[f32],
    weights: Option<&[f64]>,
    keep_zeros: bool,
    bits: u32,
) -> Result<Vec<f64>, QuantizeError> {
    check(values)?;
    let weights = weights.map(floored);
    let zeros = keep_zeros && values.contains(&0.0);
    let points = Points::of(values, weights.as_deref(), zeros);
    let most = (1usize << bits.clamp(1, 8)) - usize::from(zeros);
    let errors = optimal::errors(&points, &points.cuts(ESTIMATE / most), most);
    let of = |bits: u32| {
        let count = (1usize << bits) - usize::from(zeros);
        errors.get(count - 1).or(errors.last()).copied().unwrap_or(0.0)
    };
    Ok((1..=bits.clamp(1, 8)).map(of).collect())
}

fn check(values: &[f32]) -> Result<(), QuantizeError> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(QuantizeError::Range {
            low: *value,
            high: *value,
        }),
        None => Ok(()),
    }
}

/// Weights of which none is so small that its value has no say; all the same where none is positive.
fn floored(weights: &[f64]) -> Vec<f64> {
    const SHARE: f64 = 1e-6;
    let known = |weight: f64| if weight.is_finite() { weight.max(0.0) } else { 0.0 };
    let mean = weights.iter().map(|weight| known(*weight)).sum::<f64>() / weights.len().max(1) as f64;
    match mean > 0.0 && mean.is_finite() {
        true => weights
            .iter()
            .map(|weight| known(*weight).max(SHARE * mean))
            .collect(),
        false => vec![1.0; weights.len()],
    }
}

/// The nearest value that the type holds.
fn rounded(value: f64, dtype: DType) -> f64 {
    let value = match dtype {
        DType::F16 => half::f16::from_f64(value).to_f64(),
        DType::BF16 => half::bf16::from_f64(value).to_f64(),
        _ => f64::from(value as f32),
    };
    // There is one zero.
    value + 0.0
}

/// The nearest centroid of each value; zeros have one of their own if `zeros`.
fn coded(values: &[f32], weights: Option<&[f64]>, found: Vec<f64>, zeros: bool) -> Clusters {
    let mut centroids = found.clone();
    let zero = match zeros {
        true => {
            let at = centroids.partition_point(|centroid| *centroid < 0.0);
            if centroids.get(at) != Some(&0.0) {
                centroids.insert(at, 0.0);
            }
            Some(at)
        }
        false => None,
    };
    let middles: Vec<f64> = found
        .windows(2)
        .filter_map(|pair| Some((pair.first()? + pair.get(1)?) / 2.0))
        .collect();
    // Where a centroid for the other values stands among all.
    let places: Vec<u8> = found
        .iter()
        .map(|own| centroids.partition_point(|centroid| centroid < own) as u8)
        .collect();
    let code = |value: f64| match zero {
        Some(zero) if value == 0.0 => zero as u8,
        _ => {
            let at = middles.partition_point(|middle| *middle < value);
            places.get(at).copied().unwrap_or(0)
        }
    };
    let codes: Vec<u8> = values.iter().map(|value| code(f64::from(*value))).collect();
    let (mut error, mut power) = (0.0, 0.0);
    for (at, (value, code)) in values.iter().zip(&codes).enumerate() {
        let weight = weights
            .and_then(|weights| weights.get(at))
            .copied()
            .unwrap_or(1.0);
        let value = f64::from(*value);
        let centroid = centroids.get(usize::from(*code)).copied().unwrap_or(0.0);
        error += weight * (value - centroid).powi(2);
        power += weight * value * value;
    }
    Clusters {
        centroids,
        codes,
        error,
        power,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(count: usize) -> Clustering {
        Clustering {
            count,
            start: Start::Exact,
            keep_zeros: true,
            seed: 1,
            dtype: DType::F32,
        }
    }

    const STARTS: [Start; 4] = [Start::Exact, Start::Linear, Start::Density, Start::KmeansPlusPlus];

    pub(super) fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f32 / (1u32 << 31) as f32 - 0.5
        };
        (0..count).map(|_| uniform() + uniform() * uniform()).collect()
    }

    /// The least error of any division of sorted values into intervals.
    fn brute(values: &[(f64, f64)], count: usize) -> f64 {
        if values.is_empty() || count == 0 {
            return if values.is_empty() { 0.0 } else { f64::INFINITY };
        }
        (1..=values.len())
            .map(|first| {
                let (own, rest) = values.split_at(first);
                let weight: f64 = own.iter().map(|one| one.1).sum();
                let mean = own.iter().map(|one| one.0 * one.1).sum::<f64>() / weight;
                let error: f64 = own.iter().map(|one| one.1 * (one.0 - mean).powi(2)).sum();
                error + brute(rest, count - 1)
            })
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_division_of_few_values_has_a_smaller_error() {
        for seed in 0..12 {
            let values = numbers(11, seed);
            let weights: Vec<f64> = numbers(11, seed + 100)
                .iter()
                .map(|weight| f64::from(weight.abs()) + 0.01)
                .collect();
            for count in 2..5 {
                for weights in [None, Some(weights.as_slice())] {
                    let mut sorted: Vec<(f64, f64)> = values
                        .iter()
                        .enumerate()
                        .map(|(at, value)| (f64::from(*value), weights.map_or(1.0, |weights| weights[at])))
                        .collect();
                    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
                    let least = brute(&sorted, count);
                    let found = cluster(&values, weights, &how(count)).unwrap();
                    assert!(
                        (found.error - least).abs() <= 1e-6 * least,
                        "{seed} {count}: {} and {least}",
                        found.error
                    );
                    for start in STARTS {
                        let other = cluster(&values, weights, &Clustering { start, ..how(count) }).unwrap();
                        assert!(other.error >= least * (1.0 - 1e-6), "{start:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_value_has_the_nearest_centroid_and_every_centroid_is_the_mean_of_its_values() {
        let values = numbers(3000, 5);
        let weights: Vec<f64> = numbers(3000, 6).iter().map(|one| f64::from(one * one)).collect();
        for start in STARTS {
            let found = cluster(&values, Some(&weights), &Clustering { start, ..how(16) }).unwrap();
            assert_eq!(found.centroids.len(), 16, "{start:?}");
            for (value, code) in values.iter().zip(&found.codes) {
                let own = (f64::from(*value) - found.centroids[usize::from(*code)]).abs();
                let least = found
                    .centroids
                    .iter()
                    .map(|one| (f64::from(*value) - one).abs())
                    .fold(f64::INFINITY, f64::min);
                assert!(own <= least + 1e-12);
            }
            for (code, centroid) in found.centroids.iter().enumerate() {
                let own = || (0..values.len()).filter(|at| usize::from(found.codes[*at]) == code);
                let weight: f64 = own().map(|at| weights[at]).sum();
                let mean = own().map(|at| weights[at] * f64::from(values[at])).sum::<f64>() / weight;
                assert!(
                    (mean - centroid).abs() < 1e-5,
                    "{start:?} {code}: {mean} {centroid}"
                );
            }
        }
    }

    #[test]
    fn intervals_of_values_lose_next_to_nothing_against_all_values() {
        let values = numbers(4000, 9);
        let points = Points::of(&values, None, false);
        let all: Vec<usize> = (0..=points.len()).collect();
        for count in [2, 7, 16, 64] {
            let least = optimal::errors(&points, &all, count)[count - 1];
            let coarse = optimal::bounds(&points, &points.cuts(500), count);
            let settled = lloyd::settle(&points, points.means(&coarse), count);
            let found = lloyd::error(&points, &settled);
            assert!(
                found >= least * (1.0 - 1e-9) && found < least * 1.01,
                "{count}: {found} {least}"
            );
        }
    }

    #[test]
    fn zeros_stay_zero_and_other_values_do_not_become_zero() {
        let mut values = numbers(500, 3);
        for at in (0..500).step_by(3) {
            values[at] = if at % 2 == 0 { 0.0 } else { -0.0 };
        }
        for (start, count) in STARTS.into_iter().zip([2, 3, 8, 16]) {
            let found = cluster(&values, None, &Clustering { start, ..how(count) }).unwrap();
            assert!(found.centroids.len() <= count && found.centroids.contains(&0.0));
            for (value, code) in values.iter().zip(&found.codes) {
                assert_eq!(
                    *value == 0.0,
                    found.centroids[usize::from(*code)] == 0.0,
                    "{start:?}"
                );
            }
        }
        let free = Clustering {
            keep_zeros: false,
            ..how(2)
        };
        assert!(!cluster(&values, None, &free).unwrap().centroids.contains(&0.0));
    }

    #[test]
    fn few_values_stay_as_they_are() {
        let few = [0.1f32, -3.0, 0.1, 7.5, 0.0, -3.0];
        for start in STARTS {
            let found = cluster(&few, None, &Clustering { start, ..how(4) }).unwrap();
            assert_eq!(found.error, 0.0);
            let back: Vec<f32> = found
                .codes
                .iter()
                .map(|code| found.centroids[usize::from(*code)] as f32)
                .collect();
            assert_eq!(back, few);
        }
        assert_eq!(cluster(&[], None, &how(4)).unwrap().centroids, [] as [f64; 0]);
        assert_eq!(cluster(&[2.0; 5], None, &how(2)).unwrap().centroids, [2.0]);
        assert!(cluster(&[1.0, f32::NAN], None, &how(2)).is_err());
        assert!(cluster_errors(&[1.0, f32::INFINITY], None, true, 8).is_err());
    }

    #[test]
    fn centroids_are_of_the_type_that_holds_them() {
        let values = numbers(400, 8);
        for dtype in [DType::F16, DType::BF16] {
            let found = cluster(&values, None, &Clustering { dtype, ..how(8) }).unwrap();
            assert!(found.centroids.iter().all(|one| rounded(*one, dtype) == *one));
            assert!(found.centroids.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn estimated_errors_are_those_of_the_clusters() {
        let mut values = numbers(800, 4);
        values[5] = 0.0;
        let errors = cluster_errors(&values, None, true, 6).unwrap();
        for (at, expected) in errors.iter().enumerate() {
            let found = cluster(&values, None, &how(2 << at)).unwrap().error;
            assert!(
                (found - expected).abs() <= 1e-6 * found,
                "{at}: {found} {expected}"
            );
        }
    }

    #[test]
    fn values_without_weight_have_next_to_no_say() {
        let mut values = numbers(200, 2);
        let mut weights = vec![1.0; 200];
        for at in 0..40 {
            values[at] += 10.0;
            weights[at] = 0.0;
        }
        let found = cluster(&values, Some(&weights), &how(4)).unwrap();
        let plain = cluster(&values, None, &how(4)).unwrap();
        assert!(found.centroids.iter().filter(|one| **one < 5.0).count() >= 3);
        let lost = |codes: &Clusters| -> f64 {
            let apart =
                |at: usize| (f64::from(values[at]) - codes.centroids[usize::from(codes.codes[at])]).powi(2);
            (40..200).map(apart).sum()
        };
        assert!(lost(&found) <= lost(&plain));
        assert_eq!(
            cluster(&values, Some(&[0.0; 200]), &how(4)).unwrap().codes,
            plain.codes
        );
    }
}
