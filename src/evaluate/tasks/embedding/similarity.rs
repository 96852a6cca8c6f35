//! Cosines of vectors, and how they are ordered.

/// Similarities are ordered in steps of one part of this.
const DECIMALS: f64 = 1e12;

/// A vector of length 1 in the same direction; zeros stay zeros. The highest element is divided out first, so that nothing
/// overflows.
pub(super) fn unit(vector: &[f64]) -> Vec<f64> {
    let highest = vector
        .iter()
        .fold(0.0, |highest: f64, value| highest.max(value.abs()));
    if highest == 0.0 {
        return vector.to_vec();
    }
    let scaled: Vec<f64> = vector.iter().map(|value| value / highest).collect();
    let length = dot(&scaled, &scaled).sqrt();
    scaled.into_iter().map(|value| value / length).collect()
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The similarity of two of the vectors, as it is ordered: rounded, and both zeros one value.
pub(super) fn similarity(units: &[Vec<f64>], a: usize, b: usize) -> Option<f64> {
    let cosine = dot(units.get(a)?, units.get(b)?);
    Some((cosine * DECIMALS).round() / DECIMALS + 0.0)
}

pub(super) fn similarities(units: &[Vec<f64>], pairs: impl Iterator<Item = (usize, usize)>) -> Vec<f64> {
    pairs.filter_map(|(a, b)| similarity(units, a, b)).collect()
}
