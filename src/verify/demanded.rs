//! Elements that satisfy what the uses of an input demand.

use rand_chacha::ChaCha8Rng;

use super::draw::{below, unit};
use super::kind::SampleKind;
use super::sizes::Sizes;
use super::uses::Demand;
use crate::ir::{DType, Dim, Shape, ValueType};

/// A tensor that is to be filled.
pub(super) struct Demanded<'a> {
    pub(super) demands: &'a [Demand],
    pub(super) count: usize,
    pub(super) dims: &'a [u64],
    pub(super) sizes: &'a Sizes,
    pub(super) dtype: DType,
    pub(super) kind: SampleKind,
}

/// What several demands say together.
struct Together {
    index: bool,
    bound: Option<i64>,
    /// Half of the indices count from the end.
    either_end: bool,
    compared: Vec<f64>,
    flag: bool,
}

impl Demanded<'_> {
    /// The elements; `None` where nothing is demanded.
    pub(super) fn elements(&self, rng: &mut ChaCha8Rng) -> Option<Vec<f64>> {
        if let Some(decided) = self.demands.iter().find_map(|demand| self.decided(demand, rng)) {
            return decided;
        }
        let together = self.together();
        if together.index {
            return Some(self.indices(&together, rng));
        }
        let compared = &together.compared;
        if together.flag || !compared.is_empty() && compared.iter().all(|v| *v == 0.0 || *v == 1.0) {
            return Some(self.flags(rng));
        }
        if compared.is_empty() || self.dtype.is_float() {
            return None;
        }
        let one = |_| compared.get(below(rng, compared.len() as u64) as usize).copied();
        Some((0..self.count).filter_map(one).collect())
    }

    fn evaluate(&self, dim: &Dim) -> Option<i64> {
        dim.evaluate(&|symbol| self.sizes.get(symbol.trim_start_matches('?')).copied())
            .filter(|size| *size > 0)
    }

    /// The elements where this demand alone decides; `Some(None)` where it cannot be met.
    fn decided(&self, demand: &Demand, rng: &mut ChaCha8Rng) -> Option<Option<Vec<f64>>> {
        let count = self.count;
        let evaluate = |dim: &Dim| self.evaluate(dim);
        Some(match demand {
            Demand::Fill(value) => Some(vec![*value; count]),
            Demand::Count => Some((0..count).map(|_| 1.0 + below(rng, 3) as f64).collect()),
            Demand::Positive => {
                let float = self.dtype.is_float();
                // The halves that other inputs hold in such a sample, so that two inputs meet.
                let halves = self.kind == SampleKind::Ties;
                let positive = |_| match float {
                    true if halves => 0.5 + below(rng, 4) as f64 / 2.0,
                    true => 0.1 + unit(rng),
                    false => 1.0 + below(rng, 5) as f64,
                };
                Some((0..count).map(positive).collect())
            }
            Demand::Length(size) => {
                let most = evaluate(size).unwrap_or(1).max(1) as u64;
                Some((0..count).map(|_| 1.0 + below(rng, most) as f64).collect())
            }
            Demand::Axes { of, free } => Some(axes(of, *free, count)),
            Demand::Sizes(shape) => Some(target_sizes(shape.as_ref(), count, &evaluate)),
            Demand::Parts(size) => Some(parts(evaluate(size), count)),
            Demand::FullRange => self.dtype.integer_range().map(|(low, high)| {
                let width = (high - low + 1).min(1 << 32) as u64;
                (0..count)
                    .map(|_| low as f64 + below(rng, width) as f64)
                    .collect()
            }),
            Demand::Below(_) | Demand::Place(_) | Demand::Compared(_) | Demand::Flag | Demand::Words(_) => {
                return None;
            }
        })
    }

    fn together(&self) -> Together {
        let mut found = Together {
            index: false,
            bound: None,
            either_end: self.kind == SampleKind::Mixed,
            compared: Vec::new(),
            flag: false,
        };
        for demand in self.demands {
            match demand {
                Demand::Below(limits) | Demand::Place(limits) => {
                    found.index = true;
                    // From the end of a table only of one size, and that known.
                    let one = matches!(demand, Demand::Place(_)) && limits.len() == 1;
                    found.either_end &= one && found.bound.is_none();
                    found.either_end &= limits.iter().all(|limit| self.evaluate(limit).is_some());
                    found.either_end &= self.dtype.is_signed_integer();
                    let known = limits.iter().filter_map(|limit| self.evaluate(limit));
                    found.bound = known.chain(found.bound).min();
                }
                Demand::Compared(values) => found.compared.extend(values),
                Demand::Flag => found.flag = true,
                _ => {}
            }
        }
        found
    }

    fn indices(&self, together: &Together, rng: &mut ChaCha8Rng) -> Vec<f64> {
        // Without a bound the table is taken to have a few rows at least.
        let bound = together.bound.unwrap_or(2) as u64;
        let turned = |at: usize| match together.either_end && at.is_multiple_of(2) {
            true => bound as f64,
            false => 0.0,
        };
        (0..self.count)
            .map(|at| below(rng, bound) as f64 - turned(at))
            .collect()
    }

    /// The first element of each row is set, so that no row is masked as a whole.
    fn flags(&self, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let row = self.dims.last().copied().unwrap_or(1).max(1) as usize;
        (0..self.count)
            .map(|at| f64::from(u8::from(at % row == 0 || below(rng, 4) > 0)))
            .collect()
    }
}

/// The first axes (of size 1, where `free`) of a tensor.
fn axes(of: &ValueType, free: bool, count: usize) -> Vec<f64> {
    let candidates: Vec<usize> = match of.shape() {
        Some(shape) if free => (0..shape.len())
            .filter(|axis| shape.get(*axis).is_some_and(|dim| dim.fixed() == Some(1)))
            .collect(),
        Some(shape) => (0..shape.len()).collect(),
        None => (0..count).collect(),
    };
    (0..count)
        .map(|at| candidates.get(at).copied().unwrap_or(at) as f64)
        .collect()
}

/// Target sizes of Reshape, Expand, Resize ...: those of the declared output, or as few elements as possible and the rest in
/// one dimension.
fn target_sizes(shape: Option<&Shape>, count: usize, evaluate: &dyn Fn(&Dim) -> Option<i64>) -> Vec<f64> {
    let known = shape
        .filter(|shape| shape.len() == count)
        .and_then(|shape| shape.iter().map(evaluate).collect::<Option<Vec<_>>>());
    match known {
        Some(sizes) => sizes.into_iter().map(|size| size as f64).collect(),
        None => (0..count)
            .map(|at| if at + 1 == count { -1.0 } else { 1.0 })
            .collect(),
    }
}

fn parts(size: Option<i64>, count: usize) -> Vec<f64> {
    let (size, parts) = (size.unwrap_or(count as i64).max(0), count.max(1) as i64);
    (0..parts)
        .map(|at| (size / parts + i64::from(at < size % parts)) as f64)
        .take(count)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_parts_fit_what_they_are_for() {
        let evaluate = |dim: &Dim| dim.fixed();
        let shape: Shape = [2i64, 3].map(Dim::Fixed).into_iter().collect();
        assert_eq!(target_sizes(Some(&shape), 2, &evaluate), [2.0, 3.0]);
        assert_eq!(target_sizes(None, 2, &evaluate), [1.0, -1.0]);
        assert_eq!(parts(Some(7), 3), [3.0, 2.0, 2.0]);
    }
}
