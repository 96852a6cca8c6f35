//! Sums over rows.

use std::collections::BTreeMap;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::Layer;
use crate::linalg::Sums;

/// Second and first moments of rows with `D` columns, not yet divided by their number.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    /// Sum of `x xᵀ`, `[D, D]`.
    pub matrix: Array2<f64>,
    /// Sum of the rows, `[D]`.
    pub sum: Array1<f64>,
    /// Number of rows.
    pub rows: u64,
}

impl Gram {
    /// No rows yet.
    pub fn new(columns: usize) -> Self {
        Self {
            matrix: Array2::zeros((columns, columns)),
            sum: Array1::zeros(columns),
            rows: 0,
        }
    }

    /// Columns of the rows.
    pub fn columns(&self) -> usize {
        self.sum.len()
    }

    /// Adds rows `[R, D]`.
    pub fn add(&mut self, rows: ArrayView2<'_, f64>) {
        general_mat_mul(1.0, &rows.t(), &rows, 1.0, &mut self.matrix);
        self.sum += &rows.sum_axis(Axis(0));
        self.rows += rows.nrows() as u64;
    }

    /// The mean row; zeros when there are none.
    pub fn mean(&self) -> Array1<f64> {
        &self.sum / self.rows.max(1) as f64
    }

    /// Mean of `x xᵀ`.
    pub fn second_moment(&self) -> Array2<f64> {
        &self.matrix / self.rows.max(1) as f64
    }

    /// Mean of `(x - mean) (x - mean)ᵀ`.
    pub fn covariance(&self) -> Array2<f64> {
        let mean = self.mean().insert_axis(Axis(1));
        let mut covariance = self.second_moment();
        general_mat_mul(-1.0, &mean, &mean.t(), 1.0, &mut covariance);
        covariance
    }
}

/// The same sums while they grow: the same bits in whatever order chunks of rows are added, and however they are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GramSums {
    columns: usize,
    /// The upper triangle of the sum of `x xᵀ`, row by row.
    pub(super) triangle: Sums<2>,
    /// Sum of the rows.
    pub(super) sum: Sums<2>,
    /// Number of rows.
    pub(super) rows: u64,
}

/// Sums over the rows of layers by [`Layer::key`], one for each group.
pub type SumsByKey = BTreeMap<String, Vec<GramSums>>;

impl GramSums {
    /// No rows yet.
    pub fn new(columns: usize) -> Self {
        Self {
            columns,
            triangle: Sums::new(columns * (columns + 1) / 2),
            sum: Sums::new(columns),
            rows: 0,
        }
    }

    /// Sums that were stored.
    pub(super) fn stored(triangle: Sums<2>, sum: Sums<2>, rows: u64) -> Option<Self> {
        let columns = sum.len();
        (triangle.len() == columns * (columns + 1) / 2).then_some(Self {
            columns,
            triangle,
            sum,
            rows,
        })
    }

    /// Columns of the rows.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Adds a chunk of rows `[R, D]`.
    pub fn add(&mut self, rows: ArrayView2<'_, f64>) {
        let mut chunk = Gram::new(self.columns);
        chunk.add(rows);
        let mut at = 0;
        for (index, row) in chunk.matrix.outer_iter().enumerate() {
            for value in row.iter().skip(index) {
                self.triangle.add(at, *value);
                at += 1;
            }
        }
        for (at, value) in chunk.sum.iter().enumerate() {
            self.sum.add(at, *value);
        }
        self.rows += chunk.rows;
    }

    /// Adds other rows of the same columns.
    pub fn merge(&mut self, other: &Self) {
        self.triangle.merge(&other.triangle);
        self.sum.merge(&other.sum);
        self.rows += other.rows;
    }

    /// The moments, rounded.
    pub fn rounded(&self) -> Gram {
        let mut gram = Gram::new(self.columns);
        let mut at = 0;
        for row in 0..self.columns {
            for column in row..self.columns {
                let value = self.triangle.value(at);
                gram.matrix[(row, column)] = value;
                gram.matrix[(column, row)] = value;
                at += 1;
            }
        }
        gram.sum = Array1::from_vec(self.sum.values());
        gram.rows = self.rows;
        gram
    }
}

/// Moments of pairs of rows that belong together: `x` of one model, `y` of another at the same place of the same sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Cross {
    /// Moments of `y`.
    pub own: Gram,
    /// Sum of `x yᵀ`.
    pub matrix: Array2<f64>,
    /// Sum of `x`.
    pub sum: Array1<f64>,
}

impl Cross {
    /// No rows yet.
    pub fn new(columns: usize, own: usize) -> Self {
        Self {
            own: Gram::new(own),
            matrix: Array2::zeros((columns, own)),
            sum: Array1::zeros(columns),
        }
    }

    /// Adds pairs of rows.
    pub fn add(&mut self, rows: ArrayView2<'_, f64>, own: ArrayView2<'_, f64>) {
        general_mat_mul(1.0, &rows.t(), &own, 1.0, &mut self.matrix);
        self.sum += &rows.sum_axis(Axis(0));
        self.own.add(own);
    }

    /// Mean of `x`.
    pub fn mean(&self) -> Array1<f64> {
        &self.sum / self.own.rows.max(1) as f64
    }

    /// Mean of `x yᵀ`.
    pub fn second_moment(&self) -> Array2<f64> {
        &self.matrix / self.own.rows.max(1) as f64
    }

    /// Mean of `(x - mean x) (y - mean y)ᵀ`.
    pub fn covariance(&self) -> Array2<f64> {
        let (mean, own) = (
            self.mean().insert_axis(Axis(1)),
            self.own.mean().insert_axis(Axis(1)),
        );
        let mut covariance = self.second_moment();
        general_mat_mul(-1.0, &mean, &own.t(), 1.0, &mut covariance);
        covariance
    }
}

/// Gram matrices by [`Layer::key`], one for each group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grams {
    /// By key.
    pub by_key: BTreeMap<String, Vec<Gram>>,
    /// The same before rounding, where samples of other parts are to be added.
    pub sums: BTreeMap<String, Vec<GramSums>>,
}

impl Grams {
    /// Moments of sums that are complete, or of a part, which keeps them.
    pub fn of_sums(sums: BTreeMap<String, Vec<GramSums>>, complete: bool) -> Self {
        let rounded = |(key, groups): (&String, &Vec<GramSums>)| {
            (key.clone(), groups.iter().map(GramSums::rounded).collect())
        };
        Self {
            by_key: sums.iter().map(rounded).collect(),
            sums: if complete { BTreeMap::new() } else { sums },
        }
    }

    /// The matrices of a layer's groups; `None` if they were not collected or do not fit the layer.
    pub fn of(&self, layer: &Layer) -> Option<&[Gram]> {
        let found = self.by_key.get(&layer.key())?;
        let fits = found.len() == layer.groups
            && found
                .iter()
                .all(|gram| gram.columns() == layer.columns && gram.rows > 0);
        fits.then_some(found.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn moments_of_rows_in_parts_are_those_of_the_whole() {
        let rows = array![[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]];
        let mut whole = Gram::new(2);
        whole.add(rows.view());
        assert_eq!(whole.matrix, array![[10.25, 1.0], [1.0, 21.0]]);
        assert_eq!((whole.sum.to_vec(), whole.rows), (vec![4.5, 5.0], 3));
        let (mut a, mut b) = (GramSums::new(2), GramSums::new(2));
        a.add(rows.slice(ndarray::s![..1, ..]));
        b.add(rows.slice(ndarray::s![1.., ..]));
        a.merge(&b);
        assert_eq!(a.rounded(), whole);
        let covariance = whole.covariance();
        let mean = whole.mean();
        let mut expected = Array2::<f64>::zeros((2, 2));
        for row in rows.rows() {
            let apart = (&row - &mean).insert_axis(Axis(1));
            expected += &(apart.dot(&apart.t()) / 3.0);
        }
        assert!((covariance - expected).iter().all(|apart| apart.abs() < 1e-12));
    }

    #[test]
    fn a_cross_moment_of_equal_rows_is_their_covariance() {
        let rows = array![[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]];
        let mut cross = Cross::new(2, 2);
        cross.add(rows.view(), rows.view());
        assert_eq!(cross.covariance(), cross.own.covariance());
    }
}
