//! Rounding up or down by descent on a relaxation (AdaRound, Nagel et al. 2020), in closed form on second moments.
//!
//! Each weight is `s (⌊w / s⌋ + h)` with a soft choice `h` in [0, 1], a stretched and clipped sigmoid of a free variable. The error
//! of the layer's outputs is quadratic in `h`, so its gradient needs the Gram matrix and no samples: one product of matrices a step.
//! A penalty that sharpens with time drives each `h` to 0 or 1. The descent is in single precision; what it decides are whole codes.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::reconstruct::{Grid, damped};

/// Ends of the stretched sigmoid.
const STRETCH: (f32, f32) = (-0.1, 1.1);

/// Weight of the penalty beside the error in units of a half step's.
const PENALTY: f32 = 0.1;

/// The penalty's exponent at its start and at its end: it is flat in the middle first and pulls everywhere in the end.
const SHARPNESS: (f64, f64) = (20.0, 2.0);

/// Share of the steps without a penalty.
const WARM_UP: f64 = 0.2;

/// Step size and decays of Adam (Kingma and Ba 2015).
const RATE: f32 = 0.1;
const DECAYS: (f32, f32) = (0.9, 0.999);

/// Steps in a row in which no choice may move before the rest is left out.
const SETTLED: usize = 10;

/// Rows of weights that one task works on.
const ROWS: usize = 64;

/// Codes `[outputs, columns]` for `weights` `[outputs, columns]` with second moments `moment` `[columns, columns]`, each one of
/// the two next to the weight, after `steps` steps. `damping` is a share of the mean of the moments' diagonal.
pub fn adaround(
    weights: ArrayView2<'_, f64>,
    moment: ArrayView2<'_, f64>,
    grid: &Grid,
    damping: f64,
    steps: usize,
) -> Array2<i32> {
    let (outputs, columns) = weights.dim();
    let matrix = damped(moment, damping);
    let mean = matrix.diag().mean().filter(|mean| *mean > 0.0).unwrap_or(1.0);
    let matrix = (matrix / mean).mapv(|value| value as f32);
    let parts: Vec<(usize, Array2<i32>)> = (0..outputs.div_ceil(ROWS))
        .into_par_iter()
        .map(|chunk| {
            let first = chunk * ROWS;
            let rows = weights.slice(s![first..(first + ROWS).min(outputs), ..]);
            (first, part(rows, &matrix, grid, first, steps))
        })
        .collect();
    let mut codes = Array2::zeros((outputs, columns));
    for (first, part) in parts {
        codes.slice_mut(s![first..first + part.nrows(), ..]).assign(&part);
    }
    codes
}

/// One weight.
#[derive(Clone, Copy, Default)]
struct Choice {
    /// The free variable, and the means of its gradient and of the gradient's square.
    free: f32,
    mean: f32,
    square: f32,
    /// The soft choice and its slope.
    soft: f32,
    slope: f32,
    /// Where the weight is between the two codes next to it, 0 to 1, if it is in the type's range.
    place: f32,
    /// The step between the codes in units of the row's root mean squared step.
    step: f32,
}

impl Choice {
    fn new(place: f64, step: f64) -> Self {
        let (low, high) = (f64::from(STRETCH.0), f64::from(STRETCH.1));
        let sigmoid = (place.clamp(0.01, 0.99) - low) / (high - low);
        Self {
            free: (sigmoid / (1.0 - sigmoid)).ln() as f32,
            place: place as f32,
            step: step as f32,
            ..Self::default()
        }
    }

    /// Finds the soft choice. Answers what the output loses by it.
    fn choose(&mut self) -> f32 {
        let (low, high) = STRETCH;
        let sigmoid = 1.0 / (1.0 + (-self.free).exp());
        let stretched = sigmoid * (high - low) + low;
        self.soft = stretched.clamp(0.0, 1.0);
        let inside = stretched == self.soft;
        self.slope = if inside {
            sigmoid * (1.0 - sigmoid) * (high - low)
        } else {
            0.0
        };
        self.step * (self.soft - self.place)
    }

    /// Moves the free variable by one step of Adam.
    fn adapt(&mut self, pull: f32, step: &Step) {
        let mut gradient = 0.0;
        if self.slope > 0.0 {
            gradient = pull * self.step;
            if let Some(sharpness) = step.sharpness {
                let away = 2.0 * self.soft - 1.0;
                gradient -= 2.0 * PENALTY * sharpness * away.abs().powf(sharpness - 1.0) * away.signum();
            }
            gradient *= self.slope;
        }
        self.mean = DECAYS.0 * self.mean + (1.0 - DECAYS.0) * gradient;
        self.square = DECAYS.1 * self.square + (1.0 - DECAYS.1) * gradient * gradient;
        let size = (self.square * step.square_share).sqrt() + 1e-12;
        self.free -= RATE * self.mean * step.mean_share / size;
    }
}

/// What all weights have in common at one step.
struct Step {
    /// The penalty's exponent, once there is one.
    sharpness: Option<f32>,
    /// What undoes the start of Adam's means at zero.
    mean_share: f32,
    square_share: f32,
}

impl Step {
    fn new(step: usize, steps: usize) -> Self {
        let done = step as f64 / steps.max(1) as f64;
        let time = ((done - WARM_UP) / (1.0 - WARM_UP)).clamp(0.0, 1.0);
        let fall = 0.5 * (1.0 + (time * std::f64::consts::PI).cos());
        let sharpness = SHARPNESS.1 + (SHARPNESS.0 - SHARPNESS.1) * fall;
        let share = |decay: f32| (1.0 / (1.0 - f64::from(decay).powi(step as i32 + 1))) as f32;
        Self {
            sharpness: (done >= WARM_UP).then_some(sharpness as f32),
            mean_share: share(DECAYS.0),
            square_share: share(DECAYS.1),
        }
    }
}

fn part(
    weights: ArrayView2<'_, f64>,
    matrix: &Array2<f32>,
    grid: &Grid,
    first: usize,
    steps: usize,
) -> Array2<i32> {
    // The lower of the two codes next to each weight, within the type's limits.
    let lower = Array2::from_shape_fn(weights.dim(), |(row, column)| {
        let parameters = grid.at(first + row, column);
        let place = weights[[row, column]] / f64::from(parameters.scale) + f64::from(parameters.zero_point);
        let (lowest, highest) = grid.limits(first + row);
        place.floor().clamp(f64::from(lowest), f64::from(highest - 1)) as i32
    });
    let scales = Array2::from_shape_fn(weights.dim(), |(row, column)| {
        f64::from(grid.at(first + row, column).scale)
    });
    let units = scales.map_axis(Axis(1), |row| {
        let squares: f64 = row.iter().map(|scale| scale * scale).sum();
        (squares / row.len().max(1) as f64).sqrt().max(f64::MIN_POSITIVE)
    });
    let mut choices = Array2::from_shape_fn(weights.dim(), |(row, column)| {
        let at = [row, column];
        let below = weights[at] - grid.value(lower[at], first + row, column);
        Choice::new(below / scales[at], scales[at] / units[row])
    });
    let mut apart = Array2::<f32>::zeros(weights.dim());
    let mut pull = Array2::<f32>::zeros(weights.dim());
    let mut still = 0;
    for step in 0..steps {
        let step = Step::new(step, steps);
        let mut free = false;
        for (apart, choice) in apart.iter_mut().zip(&mut choices) {
            *apart = choice.choose();
            free |= choice.slope > 0.0;
        }
        still = if free { 0 } else { still + 1 };
        if still > SETTLED {
            break;
        }
        general_mat_mul(1.0, &apart, matrix, 0.0, &mut pull);
        for (choice, pull) in choices.iter_mut().zip(&pull) {
            choice.adapt(*pull, &step);
        }
    }
    Array2::from_shape_fn(weights.dim(), |at| {
        let mut choice = choices[at];
        choice.choose();
        lower[at] + i32::from(choice.soft >= 0.5)
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::quantize::{Kind, Scheme, nearest, output_error, search_scales};

    #[test]
    fn the_choice_keeps_the_output_better_than_nearest_codes_and_stays_next_to_the_weights() {
        let mut state = 3u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
        };
        for (outputs, columns, rows, share) in [(3, 25, 60, 0.8), (70, 30, 200, 0.5)] {
            let weights = Array2::from_shape_fn((outputs, columns), |_| uniform());
            let shared = Array1::from_shape_fn(rows, |_| uniform());
            let x = Array2::from_shape_fn((rows, columns), |(row, _)| uniform() + 2.0 * shared[row]);
            let moment = x.t().dot(&x);
            let scheme = Scheme::new(Kind::Int4, true);
            let found = weights
                .rows()
                .into_iter()
                .map(|row| search_scales(row, Array1::ones(columns).view(), &scheme).unwrap())
                .collect();
            let grid = Grid::per_output(Kind::Int4, found);
            let plain = nearest(weights.view(), &grid);
            let chosen = adaround(weights.view(), moment.view(), &grid, 0.01, 300);
            let error = |codes| output_error(weights.view(), moment.view(), &grid, codes);
            assert!(
                error(&chosen) < share * error(&plain),
                "{outputs} x {columns}: {} against {}",
                error(&chosen),
                error(&plain)
            );
            assert!(chosen.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 1));
        }
    }

    #[test]
    fn independent_inputs_leave_nearest_codes_as_they_are() {
        let weights = Array2::from_shape_fn((2, 9), |(row, column)| (row * 9 + column) as f64 / 17.3 - 0.5);
        let scheme = Scheme::new(Kind::Int4, true);
        let found = weights
            .rows()
            .into_iter()
            .map(|row| search_scales(row, Array1::ones(9).view(), &scheme).unwrap())
            .collect();
        let grid = Grid::per_output(Kind::Int4, found);
        let moment = Array2::eye(9);
        assert_eq!(
            adaround(weights.view(), moment.view(), &grid, 0.0, 400),
            nearest(weights.view(), &grid)
        );
    }
}
