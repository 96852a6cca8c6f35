//! How many bits each weight gets.

use rayon::prelude::*;

use super::find::Case;
use super::importance::Known;
use super::{Cluster, Weighting};
use crate::passes::left::LeftAlone;
use crate::quantize::{QuantizeError, Unit, allocate, cluster_errors};

/// The least number of bits of a code, and the most.
const LEAST: u32 = 1;
const MOST: u32 = 8;

/// Share of the greatest mean sensitivity that each weight has at least: few samples show none of some layers.
const FLOOR: f64 = 1e-6;

impl Cluster {
    /// Bits for each weight; none for one whose elements are not finite.
    ///
    /// Where they are dealt the mean over all weights that no entry of `layers` is about is at most the bits asked for: they go where they
    /// lower the sum of the weights' relative errors most, with gradients that of the loss. A weight that the loss has no gradient of
    /// gets the whole part.
    pub(super) fn dealt(
        &self,
        cases: &[Case],
        known: &[Option<Known>],
        left: &mut LeftAlone,
    ) -> Vec<Option<u32>> {
        let whole = (self.bits as u32).clamp(LEAST, MOST);
        if self.uniform().is_some() {
            return cases
                .iter()
                .map(|case| Some(case.bits.unwrap_or(whole)))
                .collect();
        }
        let mut bits: Vec<Option<u32>> = cases.iter().map(|case| case.bits).collect();
        let is_dealt = |at: &usize| {
            let gradient = known
                .get(*at)
                .and_then(Option::as_ref)
                .and_then(|known| known.mean);
            let free = bits.get(*at).is_some_and(Option::is_none);
            free && (self.weighting != Weighting::Gradients || gradient.is_some())
        };
        let dealt: Vec<usize> = (0..cases.len()).filter(is_dealt).collect();
        let greatest = known
            .iter()
            .flatten()
            .filter_map(|known| known.mean)
            .fold(0.0, f64::max);
        let units: Vec<Result<Unit, QuantizeError>> = dealt
            .par_iter()
            .filter_map(|at| Some(self.unit(cases.get(*at)?, known.get(*at)?.as_ref(), greatest)))
            .collect();
        let mut total = 0u64;
        let (mut places, mut fit) = (Vec::new(), Vec::new());
        for (at, unit) in dealt.iter().zip(units) {
            match (unit, cases.get(*at)) {
                (Ok(unit), _) => {
                    total += unit.elements;
                    places.push(*at);
                    fit.push(unit);
                }
                (Err(error), Some(case)) => left.add(case.name.clone(), error.to_string(), ""),
                (Err(_), None) => {}
            }
        }
        let shares = allocate(&fit, LEAST, (self.bits * total as f64) as u64);
        for (at, share) in places.into_iter().zip(shares) {
            if let Some(bits) = bits.get_mut(at) {
                *bits = Some(share);
            }
        }
        // What no gradient is known of.
        for (at, bits) in bits.iter_mut().enumerate() {
            if bits.is_none() && !dealt.contains(&at) {
                *bits = Some(whole);
            }
        }
        bits
    }

    /// What each number of bits loses of one weight.
    fn unit(&self, case: &Case, known: Option<&Known>, greatest: f64) -> Result<Unit, QuantizeError> {
        let values = case.tensor.to_f32()?;
        let weights = known.map(|known| known.weights.as_slice());
        let errors = cluster_errors(&values, weights, self.keep_zeros, MOST)?;
        let scale = match known.and_then(|known| known.mean) {
            Some(mean) => mean.max(FLOOR * greatest).max(f64::MIN_POSITIVE),
            None => {
                let weight = |at: usize| {
                    weights
                        .and_then(|weights| weights.get(at))
                        .copied()
                        .unwrap_or(1.0)
                };
                let squares = values
                    .iter()
                    .enumerate()
                    .map(|(at, value)| weight(at) * f64::from(*value).powi(2));
                let power: f64 = squares.sum();
                if power > 0.0 { 1.0 / power } else { 1.0 }
            }
        };
        Ok(Unit {
            elements: case.tensor.elements(),
            errors: errors.into_iter().map(|error| error * scale).collect(),
        })
    }
}
