//! Cholesky factorisation of symmetric positive definite matrices, by blocks.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

/// Columns that are factorised by scalar code at a time; everything else is matrix products.
const BLOCK: usize = 48;

/// Why a matrix has no Cholesky factor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LinalgError {
    /// Rows and columns differ.
    #[error("a matrix of {rows} x {columns} is not square")]
    NotSquare {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
    },
    /// A pivot is not above zero: the matrix is singular, indefinite or holds a value that is not finite.
    #[error("the matrix is not positive definite: pivot {index} is {pivot:e}")]
    NotPositiveDefinite {
        /// Row of the pivot.
        index: usize,
        /// What is left of the diagonal element there.
        pivot: f64,
    },
    /// The right-hand side has another number of rows than the matrix.
    #[error("the right-hand side has {found} rows, the matrix {expected}")]
    Rows {
        /// Rows of the matrix.
        expected: usize,
        /// Rows of the right-hand side.
        found: usize,
    },
}

/// The lower triangular `L` of `A = L·Lᵀ`, with the inverses of its diagonal blocks for solving.
#[derive(Debug, Clone)]
pub struct Cholesky {
    lower: Array2<f64>,
    diagonal: Vec<Array2<f64>>,
}

impl Cholesky {
    /// Factorises the symmetric positive definite `matrix` [N, N]; only its lower triangle is read.
    ///
    /// # Errors
    /// When the matrix is not square or a pivot is not above zero.
    pub fn new(matrix: Array2<f64>) -> Result<Self, LinalgError> {
        let size = matrix.nrows();
        if matrix.ncols() != size {
            return Err(LinalgError::NotSquare {
                rows: size,
                columns: matrix.ncols(),
            });
        }
        let mut lower = matrix;
        let mut diagonal = Vec::with_capacity(size.div_ceil(BLOCK));
        let mut begin = 0;
        while begin < size {
            let end = (begin + BLOCK).min(size);
            factorise(lower.slice_mut(s![begin..end, begin..end]), begin)?;
            let inverse = invert_lower(lower.slice(s![begin..end, begin..end]));
            if end < size {
                let panel = lower.slice(s![end.., begin..end]).dot(&inverse.t());
                lower.slice_mut(s![end.., begin..end]).assign(&panel);
                let mut column = end;
                while column < size {
                    let last = (column + 4 * BLOCK).min(size);
                    let right = panel.slice(s![column - end..last - end, ..]);
                    general_mat_mul(
                        -1.0,
                        &panel.slice(s![column - end.., ..]),
                        &right.t(),
                        1.0,
                        &mut lower.slice_mut(s![column.., column..last]),
                    );
                    column = last;
                }
            }
            diagonal.push(inverse);
            begin = end;
        }
        for (row, mut values) in lower.outer_iter_mut().enumerate() {
            values.slice_mut(s![row + 1..]).fill(0.0);
        }
        Ok(Self { lower, diagonal })
    }

    /// Factorises `matrix + damping · mean(diagonal) · I`: the usual ridge, in units of the matrix.
    ///
    /// # Errors
    /// As [`Cholesky::new`].
    pub fn damped(mut matrix: Array2<f64>, damping: f64) -> Result<Self, LinalgError> {
        let size = matrix.nrows().min(matrix.ncols()).max(1);
        let ridge = damping * matrix.diag().sum() / size as f64;
        matrix.diag_mut().mapv_inplace(|value| value + ridge);
        Self::new(matrix)
    }

    /// The factor `L` [N, N]; zero above the diagonal.
    pub fn lower(&self) -> ArrayView2<'_, f64> {
        self.lower.view()
    }

    /// `X` [N, K] of `A·X = B`.
    ///
    /// # Errors
    /// When `right` has another number of rows than the matrix.
    pub fn solve(&self, right: ArrayView2<'_, f64>) -> Result<Array2<f64>, LinalgError> {
        let size = self.lower.nrows();
        if right.nrows() != size {
            return Err(LinalgError::Rows {
                expected: size,
                found: right.nrows(),
            });
        }
        let mut solution = right.to_owned();
        for (block, inverse) in self.diagonal.iter().enumerate() {
            let begin = block * BLOCK;
            let end = begin + inverse.nrows();
            let part = inverse.dot(&solution.slice(s![begin..end, ..]));
            general_mat_mul(
                -1.0,
                &self.lower.slice(s![end.., begin..end]),
                &part,
                1.0,
                &mut solution.slice_mut(s![end.., ..]),
            );
            solution.slice_mut(s![begin..end, ..]).assign(&part);
        }
        for (block, inverse) in self.diagonal.iter().enumerate().rev() {
            let begin = block * BLOCK;
            let end = begin + inverse.nrows();
            let part = inverse.t().dot(&solution.slice(s![begin..end, ..]));
            general_mat_mul(
                -1.0,
                &self.lower.slice(s![begin..end, ..begin]).t(),
                &part,
                1.0,
                &mut solution.slice_mut(s![..begin, ..]),
            );
            solution.slice_mut(s![begin..end, ..]).assign(&part);
        }
        Ok(solution)
    }

    /// The inverse of the matrix, symmetric to the bit.
    ///
    /// # Errors
    /// None in practice: the right-hand side has the matrix's size.
    pub fn inverse(&self) -> Result<Array2<f64>, LinalgError> {
        let size = self.lower.nrows();
        let mut inverse = self.solve(Array2::eye(size).view())?;
        for row in 0..size {
            for column in 0..row {
                let mean = 0.5 * (inverse[[row, column]] + inverse[[column, row]]);
                inverse[[row, column]] = mean;
                inverse[[column, row]] = mean;
            }
        }
        Ok(inverse)
    }
}

fn factorise(mut block: ArrayViewMut2<'_, f64>, offset: usize) -> Result<(), LinalgError> {
    let size = block.nrows();
    for column in 0..size {
        let mut pivot = block[[column, column]];
        for k in 0..column {
            pivot -= block[[column, k]] * block[[column, k]];
        }
        // Written so that a pivot that is not a number is refused, too.
        if !(pivot > 0.0 && pivot.is_finite()) {
            return Err(LinalgError::NotPositiveDefinite {
                index: offset + column,
                pivot,
            });
        }
        let root = pivot.sqrt();
        block[[column, column]] = root;
        for row in column + 1..size {
            let mut value = block[[row, column]];
            for k in 0..column {
                value -= block[[row, k]] * block[[column, k]];
            }
            block[[row, column]] = value / root;
        }
    }
    Ok(())
}

fn invert_lower(block: ArrayView2<'_, f64>) -> Array2<f64> {
    let size = block.nrows();
    let mut inverse = Array2::zeros((size, size));
    for column in 0..size {
        inverse[[column, column]] = 1.0 / block[[column, column]];
        for row in column + 1..size {
            let mut sum = 0.0;
            for k in column..row {
                sum += block[[row, k]] * inverse[[k, column]];
            }
            inverse[[row, column]] = -sum / block[[row, row]];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::{Cholesky, LinalgError};

    /// A well-conditioned symmetric matrix of any size.
    fn positive(size: usize) -> Array2<f64> {
        let rows = Array2::from_shape_fn((size, size + 3), |(row, column)| {
            ((row * 31 + column * 17) % 23) as f64 / 23.0 - 0.5
        });
        rows.dot(&rows.t()) + Array2::<f64>::eye(size) * 0.1
    }

    fn largest(matrix: &Array2<f64>) -> f64 {
        matrix.iter().fold(0.0, |most, value| value.abs().max(most))
    }

    #[test]
    fn factor_solution_and_inverse_reproduce_the_matrix() {
        for size in [1, 2, 47, 48, 49, 96, 250] {
            let matrix = positive(size);
            let factor = Cholesky::new(matrix.clone()).expect("positive definite");
            let product = factor.lower().dot(&factor.lower().t());
            assert!(largest(&(&product - &matrix)) < 1e-11, "factor of size {size}");
            let right =
                Array2::from_shape_fn((size, 3), |(row, column)| (row + 2 * column) as f64 / size as f64);
            let solution = factor.solve(right.view()).expect("rows agree");
            assert!(
                largest(&(matrix.dot(&solution) - &right)) < 1e-8,
                "solution of size {size}"
            );
            let inverse = factor.inverse().expect("square");
            assert!(
                largest(&(matrix.dot(&inverse) - Array2::<f64>::eye(size))) < 1e-8,
                "inverse of size {size}"
            );
            assert_eq!(inverse, inverse.t(), "size {size}");
        }
    }

    #[test]
    fn the_upper_triangle_is_not_read() {
        let factor = Cholesky::new(array![[4.0, f64::NAN], [2.0, 5.0]]).expect("positive definite");
        assert_eq!(factor.lower(), array![[2.0, 0.0], [1.0, 2.0]]);
    }

    #[test]
    fn what_has_no_factor_is_refused() {
        let refused = |matrix: Array2<f64>| Cholesky::new(matrix).expect_err("no factor");
        assert_eq!(
            refused(Array2::zeros((2, 3))),
            LinalgError::NotSquare { rows: 2, columns: 3 }
        );
        assert!(matches!(
            refused(array![[1.0, 2.0], [2.0, 1.0]]),
            LinalgError::NotPositiveDefinite { index: 1, .. }
        ));
        assert!(matches!(
            refused(array![[f64::NAN]]),
            LinalgError::NotPositiveDefinite { index: 0, .. }
        ));
        assert!(matches!(
            refused(Array2::zeros((60, 60))),
            LinalgError::NotPositiveDefinite { index: 0, .. }
        ));
        let factor = Cholesky::new(positive(4)).expect("positive definite");
        assert_eq!(
            factor
                .solve(Array2::zeros((3, 1)).view())
                .expect_err("rows differ"),
            LinalgError::Rows {
                expected: 4,
                found: 3
            }
        );
    }

    #[test]
    fn damping_makes_a_singular_matrix_solvable() {
        let factor = Cholesky::damped(array![[1.0, 1.0], [1.0, 1.0]], 0.5).expect("damped");
        let solution = factor.solve(array![[1.0], [1.0]].view()).expect("rows agree");
        assert!((solution[[0, 0]] - 0.4).abs() < 1e-12 && (solution[[1, 0]] - 0.4).abs() < 1e-12);
    }
}
