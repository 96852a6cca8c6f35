//! One price of a bit for all weights, found for a number of bits.

use std::f64::consts::LN_2;

use rayon::prelude::*;

use super::{Case, NAME};
use crate::passes::{Change, Context, PassError, PassReport};
use crate::quantize::{QuantizeError, Trade, Traded};

/// Prices that are tried at most.
const TRIES: usize = 20;
/// How far below the wanted number of bits is near enough.
const NEAR: f64 = 0.004;
/// Steps that the search starts with, in deviations of the weights.
const FIRST: f64 = 0.4;
/// The farthest that a price moves at once, as a logarithm.
const FARTHEST: f64 = 6.0;

/// The trades of all weights.
pub(super) struct Search {
    trades: Vec<Trade>,
    weights: u64,
}

/// Codes of all weights at one price.
pub(super) struct Found {
    all: Vec<Traded>,
    bits: f64,
}

impl Search {
    /// Takes the weights out of the cases.
    pub(super) fn new(cases: &mut [Case], importance: Vec<Vec<f64>>) -> Self {
        let pairs: Vec<(&mut Case, Vec<f64>)> = cases.iter_mut().zip(importance).collect();
        let trades: Vec<Trade> = pairs
            .into_par_iter()
            .map(|(case, importance)| case.trade(importance))
            .collect();
        Self {
            weights: trades.iter().map(|trade| trade.weights.len() as u64).sum(),
            trades,
        }
    }

    /// How many weights there are.
    pub(super) fn weights(&self) -> u64 {
        self.weights
    }

    /// Each trade with its codes.
    pub(super) fn with<'a>(&'a self, found: &'a Found) -> impl Iterator<Item = (&'a Trade, &'a Traded)> {
        self.trades.iter().zip(&found.all)
    }

    /// The codes at a price.
    fn at(&self, price: f64) -> Result<Found, PassError> {
        let all: Result<Vec<Traded>, QuantizeError> = self
            .trades
            .par_iter()
            .map(|trade| trade.codes(price.exp()))
            .collect();
        let all = all.map_err(|error| PassError::resource(NAME, error.to_string()))?;
        let bits: f64 = all.iter().map(|one| one.bits).sum();
        Ok(Found {
            bits: bits / self.weights.max(1) as f64,
            all,
        })
    }

    /// The codes with the least loss that take at most `bits` a weight, nearly as many; `None` where no codes take so few.
    pub(super) fn at_most(&self, bits: f64, context: &Context<'_>) -> Result<Option<Found>, PassError> {
        let typical = self.trades.iter().filter_map(|trade| trade.typical(FIRST));
        let (sum, count) = typical.fold((0.0, 0.0), |(sum, count), (own, weights)| {
            (sum + own * weights, count + weights)
        });
        let mut price = if count > 0.0 { sum / count } else { 0.0 };
        // The highest price known to give too many bits, and the lowest that gives few enough.
        let mut cheap: Option<(f64, f64)> = None;
        let mut dear: Option<(f64, f64)> = None;
        let mut best: Option<Found> = None;
        let mut stride = 0.0f64;
        for tried in 0..TRIES {
            (context.progress)("searching", tried as u64, None);
            let found = self.at(price)?;
            let own = found.bits;
            // Codes reach no farther: a bit may be worth what it will.
            let stuck = cheap.is_none() && dear.is_some_and(|(_, before)| own <= before * 1.001);
            if own <= bits {
                dear = Some((price, own));
                let near = own >= bits * (1.0 - NEAR);
                if best.as_ref().is_none_or(|best| found.bits > best.bits) {
                    best = Some(found);
                }
                if near || stuck {
                    break;
                }
            } else {
                cheap = Some((price, own));
            }
            price = match (cheap, dear) {
                (Some((low, more)), Some((high, less))) => {
                    let share =
                        ((more - bits * (1.0 - NEAR / 2.0)) / (more - less).max(1e-9)).clamp(0.05, 0.95);
                    low + (high - low) * share
                }
                // A bit less: half the amplitude, a quarter of the price. Where most weights are zero it takes more, so that steps grow.
                (side, _) => {
                    stride = ((own - bits).abs() * 2.0 * LN_2 + 0.05)
                        .max(2.0 * stride)
                        .min(FARTHEST);
                    price + if side.is_some() { stride } else { -stride }
                }
            };
        }
        Ok(best)
    }
}

impl Found {
    /// Bits a weight.
    pub(super) fn bits(&self) -> f64 {
        self.bits
    }

    /// Says what became of each weight.
    pub(super) fn tell(&self, cases: &[Case], report: &mut PassReport) {
        let mut details: Vec<String> = cases
            .iter()
            .zip(&self.all)
            .map(|(case, one)| {
                let zeros = one.codes.iter().filter(|code| **code == 0).count();
                let count = one.codes.len().max(1) as f64;
                format!(
                    "{}: {:.2} bits a weight, {:.1} % zeros",
                    case.name,
                    one.bits / count,
                    100.0 * zeros as f64 / count
                )
            })
            .collect();
        let all = format!("{:.3} bits a weight once packed", self.bits);
        details.push(format!("all: {all}"));
        report.told.push(all);
        report.changes.push(Change {
            rule: "bits dealt out".to_owned(),
            count: self.all.len() as u64,
            details,
        });
    }
}
