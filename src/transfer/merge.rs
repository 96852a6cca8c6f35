//! Weights of several models made into one.
//!
//! Sources: Wortsman et al., Model soups (2022), for the mean; Shoemake, Animating rotation with quaternion curves (1985), for slerp;
//! Ilharco et al., Editing models with task arithmetic (2023); Yadav et al., TIES-Merging (2023).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How weights are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MergeMethod {
    /// The weighted mean.
    #[default]
    Linear,
    /// Along the arc between two models, each tensor as a vector.
    Slerp,
    /// The base and the weighted sum of what each model differs from it.
    TaskArithmetic,
    /// As `task-arithmetic`, of the largest differences of each model only, and of those with the sign that weighs more.
    Ties,
}

/// The weighted mean of `models` (elements of one tensor in each).
pub fn linear(models: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    combine(models, |values| {
        values
            .iter()
            .zip(weights)
            .map(|(value, weight)| value * weight)
            .sum::<f64>()
            / total
    })
}

/// The point at share `t` of the arc from `a` to `b`; on a line where they point the same way, or one has no direction.
pub fn slerp(a: &[f64], b: &[f64], t: f64) -> Vec<f64> {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    let angle = if norms > 0.0 {
        (dot(a, b) / norms).clamp(-1.0, 1.0).acos()
    } else {
        0.0
    };
    let sine = angle.sin();
    let (left, right) = match sine > 1e-6 {
        true => (((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine),
        false => (1.0 - t, t),
    };
    a.iter().zip(b).map(|(a, b)| left * a + right * b).collect()
}

/// `base + scale · Σ weight · (model - base)`.
pub fn task_arithmetic(base: &[f64], models: &[Vec<f64>], weights: &[f64], scale: f64) -> Vec<f64> {
    let mut result = base.to_vec();
    for (model, weight) in models.iter().zip(weights) {
        for ((result, value), base) in result.iter_mut().zip(model).zip(base) {
            *result += scale * weight * (value - base);
        }
    }
    result
}

/// `base + scale · d`, where `d` is the weighted mean of those differences that are at least as large as their model's threshold and
/// have the sign of the weighted sum of all that are.
pub fn ties(base: &[f64], models: &[Vec<f64>], weights: &[f64], thresholds: &[f64], scale: f64) -> Vec<f64> {
    let mut result = Vec::with_capacity(base.len());
    let mut kept: Vec<(f64, f64)> = Vec::with_capacity(models.len());
    for (at, base) in base.iter().enumerate() {
        kept.clear();
        for ((model, weight), threshold) in models.iter().zip(weights).zip(thresholds) {
            let difference = model.get(at).copied().unwrap_or(*base) - base;
            if difference != 0.0 && difference.abs() >= *threshold {
                kept.push((difference, *weight));
            }
        }
        let sum: f64 = kept.iter().map(|(difference, weight)| difference * weight).sum();
        let agrees = |difference: f64, weight: f64| difference * weight * sum > 0.0;
        let (mut total, mut share) = (0.0, 0.0);
        for (difference, weight) in kept
            .iter()
            .filter(|(difference, weight)| agrees(*difference, *weight))
        {
            total += difference * weight;
            share += weight.abs();
        }
        result.push(if share > 0.0 {
            base + scale * total / share
        } else {
            *base
        });
    }
    result
}

/// The size of the smallest of the `density` share of largest differences. `sizes` are absolute differences of a whole model; their order
/// is lost.
pub fn threshold(sizes: &mut [f32], density: f64) -> f64 {
    let keep = (density * sizes.len() as f64).round() as usize;
    if keep == 0 {
        return f64::INFINITY;
    }
    if keep >= sizes.len() {
        return 0.0;
    }
    let at = sizes.len() - keep;
    let (_, value, _) = sizes.select_nth_unstable_by(at, f32::total_cmp);
    f64::from(*value)
}

fn combine(models: &[Vec<f64>], merge: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let count = models.first().map_or(0, Vec::len);
    let mut values = Vec::with_capacity(models.len());
    (0..count)
        .map(|at| {
            values.clear();
            values.extend(models.iter().map(|model| model.get(at).copied().unwrap_or(0.0)));
            merge(&values)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_does_what_its_paper_says() {
        let (a, b) = (vec![1.0, 0.0, 4.0], vec![0.0, 1.0, 2.0]);
        assert_eq!(linear(&[a.clone(), b.clone()], &[1.0, 3.0]), [0.25, 0.75, 2.5]);
        let root = 0.5f64.sqrt();
        let half = slerp(&[1.0, 0.0], &[0.0, 1.0], 0.5);
        assert!(half.iter().all(|value| (value - root).abs() < 1e-12), "{half:?}");
        assert_eq!(slerp(&[1.0, 2.0], &[2.0, 4.0], 0.25), [1.25, 2.5]);
        assert_eq!(slerp(&[0.0, 0.0], &[2.0, 4.0], 0.5), [1.0, 2.0]);
        let base = [1.0, 1.0, 1.0];
        assert_eq!(
            task_arithmetic(&base, &[a.clone(), b.clone()], &[1.0, 1.0], 0.5),
            [0.5, 0.5, 3.0]
        );
        // Differences 0, -1, 3 and -1, 0, 1.
        assert_eq!(
            ties(&base, &[a.clone(), b.clone()], &[1.0, 1.0], &[0.0, 0.0], 1.0),
            [0.0, 0.0, 3.0]
        );
        assert_eq!(
            ties(&base, &[a, b], &[1.0, 1.0], &[2.0, 2.0], 1.0),
            [1.0, 1.0, 4.0]
        );
        // The sign that weighs more wins, and only what has it counts.
        assert_eq!(
            ties(
                &[0.0],
                &[vec![3.0], vec![-1.0], vec![-1.0]],
                &[1.0; 3],
                &[0.0; 3],
                1.0
            ),
            [3.0]
        );
    }

    #[test]
    fn a_threshold_keeps_the_share_of_largest() {
        let mut sizes = [0.5, 3.0, 1.0, 2.0];
        assert_eq!(threshold(&mut sizes, 0.5), 2.0);
        assert_eq!(threshold(&mut sizes, 1.0), 0.0);
        assert_eq!(threshold(&mut sizes, 0.0), f64::INFINITY);
        assert_eq!(threshold(&mut [], 0.5), f64::INFINITY);
    }
}
