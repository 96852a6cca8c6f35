//! Codes that keep what a layer computes, rather than each weight: the squared error of the layer's outputs over the rows `x`
//! that reach it, `tr((W - Ŵ) H (W - Ŵ)ᵀ)` with `H = Σ x xᵀ`.
//!
//! [`gptq`] fixes the codes of one column after the other and moves what is still free so that it makes up for the error
//! (Frantar et al. 2022, after Optimal Brain Surgeon, Hassibi and Stork 1992); [`descend`] then changes single codes as long as
//! that lowers the error, which is exact on the quadratic; [`search_scales`] narrows ranges where clipping costs less than
//! coarse steps do.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::codes::quantize_within;
use super::kind::Kind;
use super::parameters::{Parameters, QuantizeError, Scheme, parameters};
use crate::linalg::{Cholesky, LinalgError};

/// Columns whose errors are spread at once to what follows.
const BLOCK: usize = 64;

/// Rows of weights that one task works on.
const ROWS: usize = 32;

/// Shares of the largest magnitude that [`search_scales`] tries beside the whole.
const SHRINKS: usize = 48;

/// The least share tried.
const LEAST_SHRINK: f64 = 0.4;

/// The parameters of each weight of a matrix `[outputs, columns]`: those of output `o` and column `c` stand at
/// `o * blocks + c / size`.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Type of the codes.
    pub kind: Kind,
    /// Parameters, row by row.
    pub parameters: Vec<Parameters>,
    /// Parameters of one output.
    pub blocks: usize,
    /// Columns that share parameters.
    pub size: usize,
    /// Lowest and highest code of each output; those of the type where there is none.
    pub limits: Vec<(i32, i32)>,
}

impl Grid {
    /// One set of parameters for each output.
    pub fn per_output(kind: Kind, parameters: Vec<Parameters>) -> Self {
        Self {
            kind,
            parameters,
            blocks: 1,
            size: usize::MAX,
            limits: Vec::new(),
        }
    }

    /// The parameters of one weight.
    pub fn at(&self, output: usize, column: usize) -> Parameters {
        let index = output * self.blocks + column / self.size.max(1);
        self.parameters.get(index).copied().unwrap_or(Parameters {
            scale: 1.0,
            zero_point: 0,
        })
    }

    /// What `weights` `[outputs, columns]` lose by these codes: weight minus the code's value.
    pub fn errors(&self, weights: ArrayView2<'_, f64>, codes: &Array2<i32>) -> Array2<f64> {
        errors(weights, self, codes)
    }

    pub(super) fn code(&self, value: f64, output: usize, column: usize) -> i32 {
        quantize_within(value as f32, self.at(output, column), self.limits(output))
    }

    pub(super) fn limits(&self, output: usize) -> (i32, i32) {
        self.limits
            .get(output)
            .copied()
            .unwrap_or_else(|| self.kind.limits())
    }

    pub(super) fn value(&self, code: i32, output: usize, column: usize) -> f64 {
        let found = self.at(output, column);
        f64::from(code - found.zero_point) * f64::from(found.scale)
    }
}

/// Codes `[outputs, columns]` of the nearest values.
pub fn nearest(weights: ArrayView2<'_, f64>, grid: &Grid) -> Array2<i32> {
    Array2::from_shape_fn(weights.dim(), |(output, column)| {
        grid.code(weights[[output, column]], output, column)
    })
}

/// `tr((W - Ŵ) H (W - Ŵ)ᵀ)` for `weights` `[outputs, columns]`, `moment` `H` `[columns, columns]` and codes.
pub fn output_error(
    weights: ArrayView2<'_, f64>,
    moment: ArrayView2<'_, f64>,
    grid: &Grid,
    codes: &Array2<i32>,
) -> f64 {
    let apart = errors(weights, grid, codes);
    (&apart.dot(&moment) * &apart).sum()
}

fn errors(weights: ArrayView2<'_, f64>, grid: &Grid, codes: &Array2<i32>) -> Array2<f64> {
    Array2::from_shape_fn(weights.dim(), |(output, column)| {
        weights[[output, column]] - grid.value(codes[[output, column]], output, column)
    })
}

/// `H` with `damping` times the mean of its diagonal added to the diagonal; columns that no row reaches get a one.
pub(crate) fn damped(moment: ArrayView2<'_, f64>, damping: f64) -> Array2<f64> {
    let mut matrix = moment.to_owned();
    let mean = matrix.diag().mean().unwrap_or(0.0);
    matrix
        .diag_mut()
        .mapv_inplace(|value| if value > 0.0 { value + damping * mean } else { 1.0 });
    matrix
}

/// The damping at which a matrix of second moments from `rows` rows, `moment`, is nearest in the mean to that of all rows there
/// could be: oracle approximating shrinkage toward a multiple of the identity (Chen et al. 2010), as a share of the mean of the
/// diagonal. Large where rows are fewer than columns.
pub fn shrinkage(moment: ArrayView2<'_, f64>, rows: u64) -> f64 {
    let (columns, rows) = (moment.nrows().max(1) as f64, rows.max(1) as f64);
    let trace = moment.diag().sum();
    let squared: f64 = moment.iter().map(|value| value * value).sum();
    let spread = squared - trace * trace / columns;
    if trace <= 0.0 || spread <= 0.0 {
        return 0.0;
    }
    let share = ((1.0 - 2.0 / columns) * squared + trace * trace) / ((rows + 1.0 - 2.0 / columns) * spread);
    let share = share.clamp(0.0, 0.99);
    share / (1.0 - share)
}

/// Codes `[outputs, columns]` for `weights` `[outputs, columns]`, column by column from the one with the greatest second moment
/// on, the error of each made up for by those that follow. `moment` is `H` `[columns, columns]`; `damping` is a share of
/// the mean of its diagonal (0.01 is usual).
///
/// # Errors
/// When the damped matrix is not positive definite.
pub fn gptq(
    weights: ArrayView2<'_, f64>,
    moment: ArrayView2<'_, f64>,
    grid: &Grid,
    damping: f64,
) -> Result<Array2<i32>, LinalgError> {
    let (outputs, columns) = weights.dim();
    let mut order: Vec<usize> = (0..columns).collect();
    let diagonal = moment.diag();
    order.sort_by(|a, b| diagonal[*b].total_cmp(&diagonal[*a]).then(a.cmp(b)));
    let sorted = damped(moment, damping)
        .select(Axis(0), &order)
        .select(Axis(1), &order);
    let inverse = Cholesky::new(sorted)?.inverse()?;
    let factor = Cholesky::new(inverse)?.lower().t().to_owned();
    let chunks: Vec<(usize, Array2<i32>)> = (0..outputs.div_ceil(ROWS))
        .into_par_iter()
        .map(|chunk| {
            let first = chunk * ROWS;
            let rows = weights.slice(s![first..(first + ROWS).min(outputs), ..]);
            (
                first,
                rounded(rows.select(Axis(1), &order), &factor, grid, first, &order),
            )
        })
        .collect();
    let mut codes = Array2::zeros((outputs, columns));
    for (first, part) in chunks {
        for (place, column) in order.iter().enumerate() {
            let mut target = codes.slice_mut(s![first..first + part.nrows(), *column]);
            target.assign(&part.column(place));
        }
    }
    Ok(codes)
}

/// Rounds rows whose columns are in `order`, with the upper factor of the inverse.
fn rounded(
    mut rows: Array2<f64>,
    factor: &Array2<f64>,
    grid: &Grid,
    first: usize,
    order: &[usize],
) -> Array2<i32> {
    let (count, columns) = rows.dim();
    let mut codes = Array2::zeros((count, columns));
    let mut begin = 0;
    while begin < columns {
        let end = (begin + BLOCK).min(columns);
        let mut spread = Array2::<f64>::zeros((count, end - begin));
        for row in 0..count {
            let mut values = rows.slice_mut(s![row, begin..end]);
            for place in 0..end - begin {
                let column = begin + place;
                let original = order.get(column).copied().unwrap_or(column);
                let value = values[place];
                let code = grid.code(value, first + row, original);
                codes[[row, column]] = code;
                let error = (value - grid.value(code, first + row, original)) / factor[[column, column]];
                spread[[row, place]] = error;
                values
                    .slice_mut(s![place + 1..])
                    .scaled_add(-error, &factor.slice(s![column, column + 1..end]));
            }
        }
        if end < columns {
            general_mat_mul(
                -1.0,
                &spread,
                &factor.slice(s![begin..end, end..]),
                1.0,
                &mut rows.slice_mut(s![.., end..]),
            );
        }
        begin = end;
    }
    codes
}

/// Changes single codes as long as that lowers the output error, at most `sweeps` times over all columns. Answers how many
/// codes were changed. `damping` keeps what few rows say from outweighing the weights themselves.
pub fn descend(
    weights: ArrayView2<'_, f64>,
    moment: ArrayView2<'_, f64>,
    grid: &Grid,
    codes: &mut Array2<i32>,
    damping: f64,
    sweeps: usize,
) -> usize {
    let matrix = damped(moment, damping);
    let apart = errors(weights, grid, codes);
    let start = codes.clone();
    let rows: Vec<(Array1<i32>, usize)> = (0..codes.nrows())
        .into_par_iter()
        .map(|output| {
            let (low, high) = grid.limits(output);
            let mut codes = start.row(output).to_owned();
            let mut gradient: Array1<f64> = matrix.dot(&apart.row(output));
            let mut changed = 0;
            for _ in 0..sweeps {
                let before = changed;
                for column in 0..codes.len() {
                    let scale = f64::from(grid.at(output, column).scale);
                    let curvature = matrix[[column, column]];
                    let wanted = gradient[column] / curvature / scale;
                    if wanted.abs() <= 0.5 {
                        continue;
                    }
                    let old = codes[column];
                    let new = (f64::from(old) + wanted.round()).clamp(f64::from(low), f64::from(high)) as i32;
                    let step = f64::from(new - old) * scale;
                    // Half a step's curvature bounds what the move gains: a clamped move is still downhill.
                    if new == old || step * (step * curvature - 2.0 * gradient[column]) >= 0.0 {
                        continue;
                    }
                    codes[column] = new;
                    gradient.scaled_add(-step, &matrix.row(column));
                    changed += 1;
                }
                if changed == before {
                    break;
                }
            }
            (codes, changed)
        })
        .collect();
    for (output, (row, _)) in rows.iter().enumerate() {
        codes.row_mut(output).assign(row);
    }
    rows.iter().map(|(_, changed)| changed).sum()
}

/// The parameters of one row of weights whose error, weighted by `importance` (the diagonal of `H`, or any saliency), is least
/// among ranges from 0.4 of the largest magnitude to the whole.
///
/// # Errors
/// When a weight is not finite.
pub fn search_scales(
    weights: ArrayView1<'_, f64>,
    importance: ArrayView1<'_, f64>,
    scheme: &Scheme,
) -> Result<Parameters, QuantizeError> {
    let (low, high) = weights.iter().fold((0f64, 0f64), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    if let Some(value) = weights.iter().find(|value| !value.is_finite()) {
        return Err(QuantizeError::Range {
            low: *value as f32,
            high: *value as f32,
        });
    }
    let mut best = parameters(low as f32, high as f32, scheme)?;
    let mut least = f64::INFINITY;
    for step in 0..=SHRINKS {
        let share = 1.0 - (1.0 - LEAST_SHRINK) * step as f64 / SHRINKS as f64;
        let found = parameters((low * share) as f32, (high * share) as f32, scheme)?;
        let error: f64 = weights
            .iter()
            .zip(importance)
            .map(|(value, weight)| {
                let code = quantize_within(*value as f32, found, scheme.limits());
                let apart = value - f64::from(code - found.zero_point) * f64::from(found.scale);
                weight * apart * apart
            })
            .sum();
        if error < least {
            (best, least) = (found, error);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;

    /// Weights, correlated rows' second moment, and a 4-bit grid.
    fn case(outputs: usize, columns: usize, rows: usize) -> (Array2<f64>, Array2<f64>, Grid) {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
        };
        let weights = Array2::from_shape_fn((outputs, columns), |_| uniform());
        let shared = Array1::from_shape_fn(rows, |_| uniform());
        let x = Array2::from_shape_fn((rows, columns), |(row, _)| uniform() + 2.0 * shared[row]);
        let scheme = Scheme::new(Kind::Int4, true);
        let found = weights
            .rows()
            .into_iter()
            .map(|row| search_scales(row, Array1::ones(columns).view(), &scheme).unwrap())
            .collect();
        (weights, x.t().dot(&x), Grid::per_output(Kind::Int4, found))
    }

    #[test]
    fn codes_of_correlated_inputs_keep_the_output_better_than_nearest_ones() {
        for (outputs, columns, rows) in [(3, 25, 60), (40, 70, 200), (2, 130, 60)] {
            let (weights, moment, grid) = case(outputs, columns, rows);
            let plain = output_error(
                weights.view(),
                moment.view(),
                &grid,
                &nearest(weights.view(), &grid),
            );
            let mut codes = gptq(weights.view(), moment.view(), &grid, 0.01).unwrap();
            let better = output_error(weights.view(), moment.view(), &grid, &codes);
            descend(weights.view(), moment.view(), &grid, &mut codes, 0.0, 20);
            let best = output_error(weights.view(), moment.view(), &grid, &codes);
            assert!(
                better < 0.7 * plain && best <= better,
                "{outputs} x {columns}: {plain} {better} {best}"
            );
            assert!(codes.iter().all(|code| (-8..=7).contains(code)));
        }
    }

    #[test]
    fn independent_inputs_leave_nearest_codes_as_they_are() {
        let (weights, _, grid) = case(4, 9, 20);
        let moment = Array2::eye(9);
        let plain = nearest(weights.view(), &grid);
        assert_eq!(gptq(weights.view(), moment.view(), &grid, 0.0).unwrap(), plain);
        let mut codes = plain.clone();
        assert_eq!(
            descend(weights.view(), moment.view(), &grid, &mut codes, 0.0, 5),
            0
        );
    }

    #[test]
    fn no_single_code_change_improves_what_descent_ends_with() {
        let (weights, moment, grid) = case(2, 6, 30);
        let mut codes = nearest(weights.view(), &grid);
        descend(weights.view(), moment.view(), &grid, &mut codes, 0.0, 100);
        let least = output_error(weights.view(), moment.view(), &grid, &codes);
        for output in 0..2 {
            for column in 0..6 {
                for change in [-1, 1] {
                    let mut other = codes.clone();
                    other[[output, column]] = (other[[output, column]] + change).clamp(-8, 7);
                    assert!(output_error(weights.view(), moment.view(), &grid, &other) >= least - 1e-9);
                }
            }
        }
    }

    #[test]
    fn columns_that_nothing_reaches_are_rounded_plainly() {
        let (weights, mut moment, grid) = case(3, 6, 40);
        moment.row_mut(2).fill(0.0);
        moment.column_mut(2).fill(0.0);
        let codes = gptq(weights.view(), moment.view(), &grid, 0.01).unwrap();
        assert_eq!(codes.column(2), nearest(weights.view(), &grid).column(2));
    }

    #[test]
    fn an_outlier_that_matters_little_is_clipped() {
        let weights = Array1::from(vec![0.1, -0.12, 0.09, 0.11, -0.08, 1.0]);
        let scheme = Scheme::new(Kind::Int4, true);
        let at = |weight: f64| {
            let importance = Array1::from(vec![1.0, 1.0, 1.0, 1.0, 1.0, weight]);
            search_scales(weights.view(), importance.view(), &scheme)
                .unwrap()
                .scale
        };
        assert!(at(1e-4) < 0.8 * at(1e4));
        assert!(
            search_scales(
                Array1::from(vec![f64::NAN]).view(),
                Array1::ones(1).view(),
                &scheme
            )
            .is_err()
        );
    }
}
