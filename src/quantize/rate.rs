//! Codes by rate and distortion: of the codes near each weight the one that is least in what the outputs lose by it plus what it takes
//! once it is packed, as the coder's adaptive probabilities stand at that weight.
//!
//! The loss is `s · tr((W - Ŵ) H (W - Ŵ)ᵀ)`, row by row, where `H` are second moments of what the layer reads and `s` says how much
//! the model's outputs depend on the row's. As in [`super::gptq`] what one weight loses is made up for by those behind it in its row.
//! Steps follow from the trade: where codes are many, `λ = s h Δ² ln 2 / 6` is what a bit is worth.

use ndarray::{Array2, ArrayView1, s};

use super::parameters::QuantizeError;
use crate::coding::{BIT, Meter};

/// Largest distance of a code from zero: those of int8 on both sides.
const FARTHEST: i32 = 127;

/// Where the elements of a tensor stand as a matrix of output channels by all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Output channels.
    pub channels: usize,
    /// Elements behind the channel axis.
    pub inner: usize,
}

impl Order {
    /// For a tensor of these dimensions whose output channels lie on `axis`.
    pub fn of(dims: &[u64], axis: usize) -> Self {
        let size = |dim: &u64| usize::try_from(*dim).unwrap_or(usize::MAX);
        Self {
            channels: dims.get(axis).map_or(1, size),
            inner: dims.iter().skip(axis + 1).map(size).product(),
        }
    }

    /// Row and column of an element.
    pub fn place(self, at: usize) -> (usize, usize) {
        let block = self.channels * self.inner;
        let (outer, within) = (at / block, at % block);
        (within / self.inner, outer * self.inner + within % self.inner)
    }
}

/// One weight, with what is known of what it does.
#[derive(Debug)]
pub struct Trade {
    /// `[rows, columns]`: output channels by what they read.
    pub weights: Array2<f32>,
    /// Upper factors of the inverses of `H`, each `[columns, columns]` in rows and for as many rows; none where `H` is the identity.
    pub factors: Vec<Array2<f32>>,
    /// `s` of each row.
    pub importance: Vec<f64>,
    /// How the coded tensor lies.
    pub order: Order,
    /// Its dimensions.
    pub dims: Vec<u64>,
    /// One step for each row; else one for all.
    pub per_row: bool,
    /// Steps of an octave that ratios of scales are rounded to, so that their values repeat and take few bits themselves.
    pub grid: f64,
    /// The nearest step that the type of the scales holds.
    pub held: fn(f32) -> f32,
    /// Weights that are zero stay zero.
    pub hold_zeros: bool,
}

/// Codes of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Traded {
    /// In the order of the coded tensor.
    pub codes: Vec<i8>,
    /// Of each row, or one.
    pub steps: Vec<f32>,
    /// What codes and steps take once they are packed.
    pub bits: f64,
    /// The loss.
    pub distortion: f64,
}

impl Trade {
    /// `1 / h` of a column: the square of what a weight's error is divided by.
    fn slack(&self, group: Option<&Array2<f32>>, column: usize) -> f64 {
        group
            .and_then(|factor| factor.get([column, column]))
            .map_or(1.0, |value| f64::from(*value) * f64::from(*value))
    }

    fn factor(&self, row: usize) -> Option<&Array2<f32>> {
        let rows = self.weights.nrows().max(1);
        let per_group = rows.div_ceil(self.factors.len().max(1));
        self.factors.get(row / per_group)
    }

    /// The logarithm of the trade at which a typical row has steps of `share` of its weights' deviation, and how many weights say so.
    pub fn typical(&self, share: f64) -> Option<(f64, f64)> {
        let mut sum = 0.0;
        let mut count = 0.0;
        for (row, weights) in self.weights.rows().into_iter().enumerate() {
            let power = power(weights);
            if power > 0.0 {
                let step = share * power.sqrt();
                let own = (step * step * self.sharpness(row) * std::f64::consts::LN_2 / 6.0).ln();
                sum += own * weights.len() as f64;
                count += weights.len() as f64;
            }
        }
        (count > 0.0).then(|| (sum / count, count))
    }

    /// `s` times the geometric mean of `h` over the columns.
    fn sharpness(&self, row: usize) -> f64 {
        let factor = self.factor(row);
        let columns = self.weights.ncols().max(1);
        let mean: f64 = (0..columns)
            .map(|column| -self.slack(factor, column).max(f64::MIN_POSITIVE).ln())
            .sum();
        let importance = self.importance.get(row).copied().unwrap_or(1.0);
        importance * (mean / columns as f64).exp()
    }

    /// The step of each row at this trade.
    fn steps(&self, lambda: f64) -> Vec<f32> {
        let rows = self.weights.nrows();
        let ideal: Vec<f64> = (0..rows)
            .map(|row| (6.0 * lambda / (std::f64::consts::LN_2 * self.sharpness(row))).sqrt())
            .collect();
        let farthest = |row: usize| {
            let weights = self.weights.row(row);
            weights.iter().fold(0f32, |most, value| most.max(value.abs()))
        };
        let rows = rows.max(1) as f64;
        let mean = ideal.iter().map(|step| step.max(1e-30).ln()).sum::<f64>() / rows;
        // Ratios to the mean come from a grid, so that few values occur, and the mean itself may be anything.
        let base = mean.exp();
        let on_grid = |ratio: f64, up: bool| {
            let steps = ratio.max(1e-30).log2() * self.grid;
            let steps = if up { steps.ceil() } else { steps.round() };
            base * (steps / self.grid).exp2()
        };
        let rounded = |step: f64, most: f32| {
            // Codes have to reach the largest weight, with room for what is made up for in it.
            let least = f64::from(most) * 1.1 / f64::from(FARTHEST);
            let near = on_grid(step / base, false);
            let step = if near < least {
                on_grid(least / base, true)
            } else {
                near
            };
            (self.held)(step as f32)
        };
        if self.per_row {
            let each = ideal.iter().enumerate();
            return each.map(|(row, step)| rounded(*step, farthest(row))).collect();
        }
        let most = (0..self.weights.nrows()).map(farthest).fold(0f32, f32::max);
        vec![rounded(base, most)]
    }

    /// The step of a row among those of [`Traded`].
    pub fn step(traded: &Traded, row: usize) -> f32 {
        let steps = &traded.steps;
        steps.get(row).or(steps.first()).copied().unwrap_or(1.0)
    }

    /// The codes at which a bit is worth `lambda` of the loss.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn codes(&self, lambda: f64) -> Result<Traded, QuantizeError> {
        if let Some(value) = self.weights.iter().find(|value| !value.is_finite()) {
            return Err(QuantizeError::Range {
                low: *value,
                high: *value,
            });
        }
        let steps = self.steps(lambda);
        let step_of = |row: usize| steps.get(row).or(steps.first()).copied().unwrap_or(1.0);
        let mut rest = self.weights.clone();
        let mut meter = Meter::new(&self.dims, self.largest(&step_of));
        let mut codes = Vec::with_capacity(rest.len());
        let mut distortion = 0.0;
        for at in 0..rest.len() {
            let (row, column) = self.order.place(at);
            let step = step_of(row);
            let factor = self.factor(row);
            let value = rest[[row, column]];
            let held = self.hold_zeros && self.weights[[row, column]] == 0.0;
            let slack = self.slack(factor, column);
            let weight = self.importance.get(row).copied().unwrap_or(1.0) / slack;
            let code = match held {
                true => 0,
                false => choose(&meter, value / step, (step, weight), lambda),
            };
            meter.take(code);
            // `choose` keeps within the type.
            codes.push(code as i8);
            let apart = value - code as f32 * step;
            distortion += weight * f64::from(apart) * f64::from(apart);
            if let Some(factor) = factor
                && column + 1 < factor.ncols()
                && apart != 0.0
            {
                let error = apart / factor[[column, column]];
                let (mut behind, factor) = (
                    rest.slice_mut(s![row, column + 1..]),
                    factor.slice(s![column, column + 1..]),
                );
                // Where rows lie in one piece, as they do, plain slices are what compilers make vectors of.
                match (behind.as_slice_mut(), factor.as_slice()) {
                    (Some(behind), Some(factor)) => {
                        let pairs = behind.iter_mut().zip(factor);
                        pairs.for_each(|(value, factor)| *value -= error * factor);
                    }
                    _ => behind.scaled_add(-error, &factor),
                }
            }
        }
        let bits = meter.bits() + bits_of_steps(&steps);
        Ok(Traded {
            codes,
            steps,
            bits,
            distortion,
        })
    }

    /// How far codes will be from zero.
    fn largest(&self, step_of: &impl Fn(usize) -> f32) -> u32 {
        let rows = self.weights.rows().into_iter().enumerate();
        let most = rows.map(|(row, weights)| {
            let most = weights.iter().fold(0f32, |most, value| most.max(value.abs()));
            (most / step_of(row)).round()
        });
        (most.fold(0f32, f32::max) as u32).min(FARTHEST as u32)
    }
}

/// Mean square.
fn power(weights: ArrayView1<'_, f32>) -> f64 {
    let sum: f64 = weights
        .iter()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum();
    sum / weights.len().max(1) as f64
}

/// The code of `value`, in steps, that costs least: the nearest, the next one towards zero, or zero.
#[inline]
fn choose(meter: &Meter, value: f32, (step, weight): (f32, f64), lambda: f64) -> i32 {
    let nearest = (value.round() as i32).clamp(-FARTHEST, FARTHEST);
    if nearest == 0 {
        return 0;
    }
    let here = meter.here();
    let square = weight * f64::from(step) * f64::from(step);
    let cost = |code: i32| {
        let apart = f64::from(value - code as f32);
        square * apart * apart + lambda * f64::from(meter.price(&here, code)) / f64::from(BIT)
    };
    let mut best = (nearest, cost(nearest));
    let nearer = nearest - nearest.signum();
    let mut candidates = [nearer, 0].into_iter();
    for code in candidates.by_ref().take(if nearer == 0 { 1 } else { 2 }) {
        let own = cost(code);
        if own < best.1 {
            best = (code, own);
        }
    }
    best.0
}

/// What steps take: a table of those that differ, and places in it.
fn bits_of_steps(steps: &[f32]) -> f64 {
    let mut sorted: Vec<u32> = steps.iter().map(|step| step.to_bits()).collect();
    sorted.sort_unstable();
    let total = sorted.len() as f64;
    let runs = sorted.chunk_by(|a, b| a == b);
    runs.map(|run| {
        let count = run.len() as f64;
        32.0 + count * (total / count).log2()
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::Cholesky;

    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
        }
    }

    /// A weight whose inputs are correlated, and their second moments.
    fn case(rows: usize, columns: usize) -> (Trade, Array2<f64>) {
        let mut next = noise(5);
        let weights = Array2::from_shape_fn((rows, columns), |_| (next() + next() + next()) as f32);
        let samples = Array2::from_shape_fn((4 * columns, columns), |_| next());
        let mix = Array2::from_shape_fn((columns, columns), |_| next());
        let samples = samples.dot(&mix);
        let moment = samples.t().dot(&samples) / samples.nrows() as f64;
        let inverse = Cholesky::damped(moment.clone(), 0.01).unwrap().inverse().unwrap();
        let factor = Cholesky::new(inverse)
            .unwrap()
            .lower()
            .t()
            .mapv(|value| value as f32);
        let trade = Trade {
            weights,
            factors: vec![factor],
            importance: vec![1.0; rows],
            order: Order::of(&[rows as u64, columns as u64], 0),
            dims: vec![rows as u64, columns as u64],
            per_row: true,
            grid: 2.0,
            held: |step| step,
            hold_zeros: true,
        };
        (trade, moment)
    }

    fn loss(trade: &Trade, moment: &Array2<f64>, traded: &Traded) -> f64 {
        let (rows, columns) = trade.weights.dim();
        let mut apart = trade.weights.mapv(f64::from);
        for (at, code) in traded.codes.iter().enumerate() {
            let (row, column) = trade.order.place(at);
            apart[[row, column]] -= f64::from(*code) * f64::from(traded.steps[row]);
        }
        assert_eq!(traded.codes.len(), rows * columns);
        (&apart.dot(moment) * &apart).sum()
    }

    #[test]
    fn places_of_any_axis() {
        let dims = [2u64, 3, 4];
        let at = |axis, at| Order::of(&dims, axis).place(at);
        assert_eq!((at(0, 0), at(0, 23)), ((0, 0), (1, 11)));
        // Element [1, 2, 3] is 1 * 12 + 2 * 4 + 3.
        assert_eq!((at(1, 23), at(1, 4)), ((2, 7), (1, 0)));
        assert_eq!((at(2, 23), at(2, 4)), ((3, 5), (0, 1)));
    }

    #[test]
    fn a_dearer_bit_makes_fewer_bits_and_more_loss() {
        let (trade, moment) = case(24, 48);
        let (start, _) = trade.typical(0.4).unwrap();
        let mut before: Option<(f64, f64)> = None;
        for step in 0..6 {
            let traded = trade.codes((start + f64::from(step)).exp()).unwrap();
            let now = (traded.bits, loss(&trade, &moment, &traded));
            if let Some((bits, lost)) = before {
                assert!(now.0 < bits && now.1 > lost, "{now:?} after {bits} {lost}");
            }
            before = Some(now);
        }
    }

    #[test]
    fn the_trade_beats_rounding_of_as_many_bits() {
        let (trade, moment) = case(32, 64);
        let (start, _) = trade.typical(0.5).unwrap();
        let traded = trade.codes(start.exp()).unwrap();
        let plain = Trade {
            factors: Vec::new(),
            weights: trade.weights.clone(),
            importance: trade.importance.clone(),
            dims: trade.dims.clone(),
            ..trade
        };
        // Rounding: bits cost nothing, and steps are as before. Coarser steps until it takes as many bits.
        let mut share = 0.3;
        let rounded = loop {
            let (start, _) = plain.typical(share).unwrap();
            let steps = plain.steps(start.exp());
            let mut meter = Meter::new(&plain.dims, 40);
            let codes: Vec<i32> = (0..plain.weights.len())
                .map(|at| {
                    let (row, column) = plain.order.place(at);
                    (plain.weights[[row, column]] / steps[row]).round() as i32
                })
                .collect();
            codes.iter().for_each(|code| meter.take(*code));
            let bits = meter.bits() + bits_of_steps(&steps);
            if bits <= traded.bits {
                break Traded {
                    codes: codes.iter().map(|code| *code as i8).collect(),
                    steps,
                    bits,
                    distortion: 0.0,
                };
            }
            share *= 1.02;
        };
        let (ours, theirs) = (loss(&trade, &moment, &traded), loss(&plain, &moment, &rounded));
        assert!(ours < 0.75 * theirs, "{ours} {theirs}");
    }

    #[test]
    fn zeros_are_held_and_codes_stay_in_range() {
        let (mut trade, _) = case(8, 32);
        trade.weights.iter_mut().step_by(3).for_each(|value| *value = 0.0);
        let (start, _) = trade.typical(1e-4).unwrap();
        let traded = trade.codes(start.exp()).unwrap();
        for (at, code) in traded.codes.iter().enumerate() {
            let (row, column) = trade.order.place(at);
            assert!(trade.weights[[row, column]] != 0.0 || *code == 0);
            assert!(i32::from(*code).abs() <= FARTHEST);
        }
        assert!(traded.codes.iter().any(|code| code.unsigned_abs() > 60));
        trade.weights[[0, 1]] = f32::NAN;
        assert!(matches!(trade.codes(1.0), Err(QuantizeError::Range { .. })));
    }
}
