//! Rounding up or down by descent on a relaxation (AdaRound, Nagel et al. 2020), in closed form on second moments.
//!
//! Each weight is `s (⌊w / s⌋ + h)` with a soft choice `h` in [0, 1], a stretched and clipped sigmoid of a free variable. The error
//! of the layer's outputs is quadratic in `h`, so its gradient needs the Gram matrix and no samples. A penalty that sharpens with
//! time drives each `h` to 0 or 1.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Zip, s};
use rayon::prelude::*;

use super::reconstruct::{Grid, damped};

/// Ends of the stretched sigmoid.
const STRETCH: (f64, f64) = (-0.1, 1.1);

/// Weight of the penalty beside the error in units of a half step's.
const PENALTY: f64 = 0.1;

/// The penalty's exponent at its start and at its end: it is flat in the middle first and pulls everywhere in the end.
const SHARPNESS: (f64, f64) = (20.0, 2.0);

/// Share of the steps without a penalty.
const WARM_UP: f64 = 0.2;

/// Step size and decays of Adam (Kingma and Ba 2015).
const RATE: f64 = 0.1;
const DECAYS: (f64, f64) = (0.9, 0.999);

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
    let mut matrix = damped(moment, damping);
    let mean = matrix.diag().mean().filter(|mean| *mean > 0.0).unwrap_or(1.0);
    matrix /= mean;
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

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// The soft choice and its slope.
fn soft(value: f64) -> (f64, f64) {
    let (low, high) = STRETCH;
    let sigmoid = sigmoid(value);
    let stretched = sigmoid * (high - low) + low;
    let inside = (0.0..=1.0).contains(&stretched);
    let slope = if inside {
        sigmoid * (1.0 - sigmoid) * (high - low)
    } else {
        0.0
    };
    (stretched.clamp(0.0, 1.0), slope)
}

fn part(
    weights: ArrayView2<'_, f64>,
    matrix: &Array2<f64>,
    grid: &Grid,
    first: usize,
    steps: usize,
) -> Array2<i32> {
    let scales = Array2::from_shape_fn(weights.dim(), |(row, column)| {
        f64::from(grid.at(first + row, column).scale)
    });
    // The lower of the two codes next to each weight, within the type's limits.
    let lower = Array2::from_shape_fn(weights.dim(), |(row, column)| {
        let parameters = grid.at(first + row, column);
        let place = weights[[row, column]] / f64::from(parameters.scale) + f64::from(parameters.zero_point);
        let (lowest, highest) = grid.limits(first + row);
        place.floor().clamp(f64::from(lowest), f64::from(highest - 1)) as i32
    });
    let below = Array2::from_shape_fn(weights.dim(), |(row, column)| {
        weights[[row, column]] - grid.value(lower[[row, column]], first + row, column)
    });
    // Errors count in units of each row's mean squared step.
    let units = scales.map_axis(ndarray::Axis(1), |row| {
        row.iter().map(|scale| scale * scale).sum::<f64>() / row.len().max(1) as f64
    });
    let (low, high) = STRETCH;
    let mut free = Array2::from_shape_fn(weights.dim(), |(row, column)| {
        let share = (below[[row, column]] / scales[[row, column]]).clamp(0.01, 0.99);
        let sigmoid = (share - low) / (high - low);
        (sigmoid / (1.0 - sigmoid)).ln()
    });
    let (mut mean, mut square) = (Array2::<f64>::zeros(free.dim()), Array2::<f64>::zeros(free.dim()));
    let mut apart = Array2::<f64>::zeros(free.dim());
    let mut pull = Array2::<f64>::zeros(free.dim());
    let (mut mean_decay, mut square_decay) = (1.0, 1.0);
    for step in 0..steps {
        let done = step as f64 / steps.max(1) as f64;
        let penalised = done >= WARM_UP;
        let time = ((done - WARM_UP) / (1.0 - WARM_UP)).clamp(0.0, 1.0);
        let sharpness =
            SHARPNESS.1 + (SHARPNESS.0 - SHARPNESS.1) * 0.5 * (1.0 + (time * std::f64::consts::PI).cos());
        Zip::from(&mut apart)
            .and(&free)
            .and(&scales)
            .and(&below)
            .for_each(|apart, free, scale, below| *apart = scale * soft(*free).0 - below);
        general_mat_mul(1.0, &apart, matrix, 0.0, &mut pull);
        mean_decay *= DECAYS.0;
        square_decay *= DECAYS.1;
        for row in 0..free.nrows() {
            let unit = units[row].max(f64::MIN_POSITIVE);
            for column in 0..free.ncols() {
                let at = [row, column];
                let (choice, slope) = soft(free[at]);
                let mut gradient = pull[at] * scales[at] / unit;
                if penalised {
                    let away = 2.0 * choice - 1.0;
                    gradient -= 2.0 * PENALTY * sharpness * away.abs().powf(sharpness - 1.0) * away.signum();
                }
                let gradient = gradient * slope;
                mean[at] = DECAYS.0 * mean[at] + (1.0 - DECAYS.0) * gradient;
                square[at] = DECAYS.1 * square[at] + (1.0 - DECAYS.1) * gradient * gradient;
                let size = (square[at] / (1.0 - square_decay)).sqrt() + 1e-12;
                free[at] -= RATE * mean[at] / (1.0 - mean_decay) / size;
            }
        }
    }
    Array2::from_shape_fn(weights.dim(), |at| lower[at] + i32::from(soft(free[at]).0 >= 0.5))
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
