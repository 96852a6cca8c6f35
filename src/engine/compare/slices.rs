//! The scale around an element: magnitudes and errors by index along each axis.
//!
//! An element lies in one slice along each axis: all elements with its index there, over all samples. An error is judged by the
//! smallest of the largest magnitudes of these slices. As the smallest decides, an element is off exactly where the largest error of
//! one of its slices is above what that slice's own largest magnitude allows; so two numbers a slice are enough, and they
//! merge in any order.

use schemars::JsonSchema;
use serde::Serialize;

/// Elements that a slice has at least, over all samples, to be a scale of its own: a single logit may be near zero.
const LEAST: u64 = 64;
/// Axes longer than this are not sliced.
const LONGEST: usize = 1 << 16;
/// Parts that a report names.
const NAMED: usize = 16;

/// A range of indices along one axis where a model is off.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Part {
    /// The axis, counted from 0.
    pub axis: usize,
    /// The first index.
    pub from: u64,
    /// The last index.
    pub to: u64,
    /// The largest absolute error there; `null` where a number is not finite.
    pub max_abs: Option<f64>,
    /// The largest magnitude of the reference there.
    pub largest: f64,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "axis {}, ", self.axis)?;
        if self.from == self.to {
            write!(f, "index {}", self.from)?;
        } else {
            write!(f, "indices {} to {}", self.from, self.to)?;
        }
        match self.max_abs {
            Some(error) => write!(f, ": off by up to {error:.3e}")?,
            None => f.write_str(": not finite")?,
        }
        write!(f, ", largest magnitude {:.3e}", self.largest)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Slice {
    elements: u64,
    /// Largest magnitude of the reference.
    largest: f64,
    error: f64,
    /// What rounding of the inputs moves the reference by.
    noise: f64,
}

impl Slice {
    fn merge(&mut self, other: &Slice) {
        self.elements += other.elements;
        self.largest = self.largest.max(other.largest);
        self.error = self.error.max(other.error);
        self.noise = self.noise.max(other.noise);
    }

    /// Whether the error is above what `scale` and rounding allow.
    fn is_off(&self, tolerance: f64, scale: f64) -> bool {
        self.error > (tolerance * scale).max(self.noise)
    }

    fn counts(&self) -> bool {
        self.elements >= LEAST
    }
}

/// The slices of one output along every axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slices {
    /// One entry an axis; an axis that is too long has none. `None` before the first tensor and after tensors of two ranks.
    axes: Option<Vec<Vec<Slice>>>,
    mixed: bool,
    largest: f64,
}

impl Slices {
    /// The slices of one tensor: magnitudes of the reference and errors in row-major order, 0 and infinity where they are not
    /// finite.
    pub(super) fn of(dims: &[usize], magnitudes: &[f64], errors: &[f64]) -> Self {
        let count = magnitudes.len();
        let mut axes = Vec::with_capacity(dims.len());
        for (axis, size) in dims.iter().copied().enumerate() {
            if size > LONGEST || count == 0 {
                axes.push(Vec::new());
                continue;
            }
            let inner = dims.iter().skip(axis + 1).product::<usize>().max(1);
            let mut slices = vec![Slice::default(); size];
            let runs = magnitudes.chunks(inner).zip(errors.chunks(inner));
            for (run, (magnitudes, errors)) in runs.enumerate() {
                let Some(slice) = slices.get_mut(run % size.max(1)) else {
                    continue;
                };
                slice.elements += magnitudes.len() as u64;
                slice.largest = magnitudes.iter().fold(slice.largest, |most, v| most.max(*v));
                slice.error = errors.iter().fold(slice.error, |most, v| most.max(*v));
            }
            axes.push(slices);
        }
        Self {
            axes: Some(axes),
            mixed: false,
            largest: magnitudes.iter().fold(0.0, |most, v| most.max(*v)),
        }
    }

    /// Adds the slices of another sample, index by index.
    pub(super) fn add(&mut self, other: &Slices) {
        self.largest = self.largest.max(other.largest);
        self.mixed |= other.mixed;
        if let Some(theirs) = &other.axes {
            match &mut self.axes {
                None => self.axes = Some(theirs.clone()),
                Some(axes) if axes.len() == theirs.len() => {
                    for (axis, theirs) in axes.iter_mut().zip(theirs) {
                        if axis.len() < theirs.len() {
                            axis.resize(theirs.len(), Slice::default());
                        }
                        axis.iter_mut().zip(theirs).for_each(|(a, b)| a.merge(b));
                    }
                }
                Some(_) => self.mixed = true,
            }
        }
        if self.mixed {
            self.axes = None;
        }
    }

    /// The largest magnitude of all.
    pub(super) fn largest(&self) -> f64 {
        self.largest
    }

    /// Notes the errors of `moved`, times `factor`, as what rounding explains.
    pub(super) fn excuse(&mut self, moved: &Slices, factor: f64) {
        let (Some(axes), Some(moved)) = (&mut self.axes, &moved.axes) else {
            return;
        };
        if axes.len() != moved.len() {
            return;
        }
        // Axis by axis: other samples may be longer along one of them.
        for (slices, moved) in axes.iter_mut().zip(moved) {
            for (slice, moved) in slices.iter_mut().zip(moved) {
                slice.noise = slice.noise.max(factor * moved.error);
            }
        }
    }

    /// Whether a slice that is large enough to be a scale is off.
    pub(super) fn are_off(&self, tolerance: f64) -> bool {
        self.all()
            .any(|slice| slice.counts() && slice.is_off(tolerance, slice.largest))
    }

    /// The largest share of what a slice's own scale allows that its error takes, whatever the slice's size; 0 without an error.
    pub(super) fn strain(&self, tolerance: f64) -> f64 {
        self.all()
            .filter(|slice| slice.error > 0.0)
            .map(|slice| slice.error / (tolerance * slice.largest))
            .fold(0.0, f64::max)
    }

    fn all(&self) -> impl Iterator<Item = &Slice> {
        self.axes.iter().flatten().flatten()
    }

    /// Where the output is off: ranges along the axis that sets them apart best. Empty where no axis does.
    pub(super) fn parts(&self, tolerance: f64) -> Vec<Part> {
        let scale = |slice: &Slice| {
            if slice.counts() {
                slice.largest
            } else {
                self.largest
            }
        };
        let mut best: Option<(f64, usize, Vec<usize>)> = None;
        for (axis, slices) in self.axes.iter().flatten().enumerate() {
            let off: Vec<usize> = slices
                .iter()
                .enumerate()
                .filter(|(_, slice)| slice.is_off(tolerance, scale(slice)))
                .map(|(index, _)| index)
                .collect();
            let share = off.len() as f64 / slices.len().max(1) as f64;
            let better = best.as_ref().is_none_or(|(least, _, _)| share < *least);
            if !off.is_empty() && off.len() < slices.len() && better {
                best = Some((share, axis, off));
            }
        }
        let Some((_, axis, off)) = best else {
            return Vec::new();
        };
        let Some(slices) = self.axes.as_ref().and_then(|axes| axes.get(axis)) else {
            return Vec::new();
        };
        off.chunk_by(|a, b| a + 1 == *b)
            .filter_map(|range| {
                let (from, to) = (*range.first()?, *range.last()?);
                let part = slices.get(from..=to)?;
                let most = |of: fn(&Slice) -> f64| part.iter().map(of).fold(0.0, f64::max);
                Some(Part {
                    axis,
                    from: from as u64,
                    to: to as u64,
                    max_abs: Some(most(|slice| slice.error)).filter(|error| error.is_finite()),
                    largest: most(|slice| slice.largest),
                })
            })
            .take(NAMED)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Boxes of magnitude 600 in the first 4 of 84 rows, scores of magnitude 0.5 below, 100 columns.
    fn detector(score_error: f64) -> Slices {
        let boxes = |at: usize| at / 100 < 4;
        let magnitudes: Vec<f64> = (0..8400).map(|at| if boxes(at) { 600.0 } else { 0.5 }).collect();
        let errors: Vec<f64> = (0..8400)
            .map(|at| if boxes(at) { 0.0 } else { score_error })
            .collect();
        Slices::of(&[1, 84, 100], &magnitudes, &errors)
    }

    #[test]
    fn scores_keep_their_scale_beside_boxes() {
        assert!(!detector(4e-5).are_off(1e-4));
        let off = detector(0.04);
        assert!(off.are_off(1e-4));
        let [part] = off.parts(1e-4).try_into().unwrap();
        assert_eq!((part.axis, part.from, part.to), (1, 4, 83));
        assert_eq!((part.max_abs, part.largest), (Some(0.04), 0.5));
    }

    #[test]
    fn small_slices_are_no_scale_until_samples_make_them_large() {
        let logits = || Slices::of(&[1, 3], &[10.0, 1e-6, 1.0], &[0.0, 1e-8, 0.0]);
        let mut sum = logits();
        assert!(!sum.are_off(1e-4) && sum.strain(1e-4) > 1.0);
        (1..63).for_each(|_| sum.add(&logits()));
        assert!(!sum.are_off(1e-4));
        sum.add(&logits());
        assert!(sum.are_off(1e-4));
        // What rounding explains is no error.
        let noise = Slices::of(&[1, 3], &[0.0; 3], &[0.0, 1e-8, 0.0]);
        let mut longer = sum.clone();
        sum.excuse(&noise, 1.0);
        assert!(!sum.are_off(1e-4));
        // Noise stays in its slice where another sample was longer along an axis before it.
        longer.add(&Slices::of(
            &[2, 3],
            &[10.0, 1e-6, 1.0, 10.0, 1e-6, 1.0],
            &[0.0; 6],
        ));
        longer.excuse(&Slices::of(&[1, 3], &[0.0; 3], &[1e-8, 0.0, 0.0]), 1.0);
        assert!(longer.are_off(1e-4), "noise elsewhere explains nothing");
        longer.excuse(&noise, 1.0);
        assert!(!longer.are_off(1e-4));
    }

    #[test]
    fn samples_of_other_sizes_add_up_and_other_ranks_have_no_slices() {
        let mut sum = Slices::of(&[2, 2], &[1.0; 4], &[0.0; 4]);
        sum.add(&Slices::of(&[3, 2], &[1.0; 6], &[0.0, 0.0, 0.0, 0.0, 0.5, 0.0]));
        assert_eq!(sum.axes.as_ref().unwrap()[0].len(), 3);
        assert_eq!(sum.axes.as_ref().unwrap()[0][2].elements, 2);
        sum.add(&Slices::of(&[4], &[1.0; 4], &[1.0; 4]));
        assert!(sum.axes.is_none() && !sum.are_off(1e-4));
        sum.add(&Slices::of(&[3, 2], &[1.0; 6], &[9.0; 6]));
        assert!(!sum.are_off(1e-4), "ranks stay mixed");
        // A scalar has no axis, an empty tensor no element.
        assert!(!Slices::of(&[], &[1.0], &[1.0]).are_off(1e-4));
        assert!(Slices::of(&[0, 3], &[], &[]).parts(1e-4).is_empty());
    }
}
