//! Eigenvalues of symmetric matrices: reduced to tridiagonal form by Householder's reflections, then iterated with implicitly shifted
//! QL steps (Golub and Van Loan, Matrix Computations, sections 8.3.1 and 8.3.3).

use ndarray::{Array1, Array2, ArrayView2, s};

/// The eigenvalues of a symmetric matrix in falling order, each with its vector of length 1.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// The values.
    pub values: Vec<f64>,
    /// `[N, N]`: the vectors as columns, in the order of the values. The largest element of each is positive.
    pub vectors: Array2<f64>,
}

/// Steps for one value before the iteration counts as endless; three are usual.
const STEPS: usize = 60;

/// The eigenvalues and vectors of a symmetric `matrix` [N, N], of which the lower triangle is read; `None` where it is not square, a
/// value is not finite, or the iteration does not end.
pub fn symmetric(matrix: ArrayView2<'_, f64>) -> Option<Eigen> {
    let size = matrix.nrows();
    if matrix.ncols() != size || matrix.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let at = |(row, column): (usize, usize)| matrix.get((row.max(column), row.min(column))).copied();
    let mut work = Array2::from_shape_fn((size, size), |place| at(place).unwrap_or(0.0));
    let (mut diagonal, mut beside, mut vectors) = tridiagonal(&mut work);
    iterate(&mut diagonal, &mut beside, &mut vectors)?;
    let mut order: Vec<usize> = (0..size).collect();
    let value = |at: &usize| diagonal.get(*at).copied().unwrap_or(0.0);
    order.sort_by(|a, b| value(b).total_cmp(&value(a)).then(a.cmp(b)));
    let mut sorted = Array2::zeros((size, size));
    for (from, mut column) in order.iter().zip(sorted.columns_mut()) {
        let vector = vectors.row(*from);
        let larger = |most: f64, x: &f64| if x.abs() > most.abs() { *x } else { most };
        let sign = vector.iter().fold(0.0, larger).signum();
        column.assign(&(&vector * sign));
    }
    Some(Eigen {
        values: order.iter().map(value).collect(),
        vectors: sorted,
    })
}

/// The diagonal and the elements beside it (of each but the first row) of a similar tridiagonal matrix, and the orthogonal matrix whose
/// rows go over into the eigenvectors.
fn tridiagonal(work: &mut Array2<f64>) -> (Array1<f64>, Array1<f64>, Array2<f64>) {
    let size = work.nrows();
    let mut beside = Array1::zeros(size);
    let mut rows = Array2::eye(size);
    // Each reflection clears a column below the element under the diagonal.
    for column in 0..size.saturating_sub(2) {
        let rest = column + 1;
        let mut normal: Array1<f64> = work.slice(s![rest.., column]).to_owned();
        let scale = normal.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let Some(first) = normal.first().copied().filter(|_| scale > 0.0) else {
            continue;
        };
        normal /= scale;
        let length = normal.dot(&normal).sqrt().copysign(first);
        if let Some(head) = normal.first_mut() {
            *head += length;
        }
        let half_square = normal.dot(&normal) / 2.0;
        if half_square == 0.0 {
            continue;
        }
        // A - u wᵀ - w uᵀ with w = p - (uᵀp / 2h) u, p = A u / h.
        let mut part = work.slice_mut(s![rest.., rest..]);
        let product = part.dot(&normal) / half_square;
        let share = normal.dot(&product) / (2.0 * half_square);
        let other = &product - &(&normal * share);
        for (row, (u, w)) in part.rows_mut().into_iter().zip(normal.iter().zip(&other)) {
            let (u, w) = (*u, *w);
            let pairs = normal.iter().zip(&other);
            row.into_iter()
                .zip(pairs)
                .for_each(|(a, (v, x))| *a -= u * x + w * v);
        }
        if let Some(under) = work.get_mut((rest, column)) {
            *under = -length * scale;
        }
        let mut below = rows.slice_mut(s![rest.., ..]);
        let along = normal.dot(&below) / half_square;
        for (mut row, u) in below.rows_mut().into_iter().zip(&normal) {
            row.scaled_add(-u, &along);
        }
    }
    for row in 1..size {
        if let (Some(put), Some(value)) = (beside.get_mut(row), work.get((row, row - 1))) {
            *put = *value;
        }
    }
    (work.diag().to_owned(), beside, rows)
}

/// Turns the tridiagonal matrix into a diagonal one; `vectors` has a row for each value and takes part in every rotation.
fn iterate(diagonal: &mut Array1<f64>, beside: &mut Array1<f64>, vectors: &mut Array2<f64>) -> Option<()> {
    let size = diagonal.len();
    let d = diagonal.as_slice_mut()?;
    let e = beside.as_slice_mut()?;
    // e[i] stands between i and i + 1.
    e.rotate_left(1.min(size));
    // What is below the rounding of the largest elements is nothing: beside values that are zero but for rounding nothing else would be.
    let norm = d
        .iter()
        .zip(&*e)
        .fold(0.0_f64, |most, (a, b)| most.max(a.abs() + b.abs()));
    for low in 0..size {
        let mut steps = 0;
        loop {
            let small = |at: &usize| match e.get(*at) {
                Some(between) => between.abs() <= f64::EPSILON * norm,
                None => true,
            };
            let high = (low..size - 1).find(small).unwrap_or(size - 1);
            if high == low {
                break;
            }
            steps += 1;
            if steps > STEPS {
                return None;
            }
            sweep((low, high), d, e, vectors)?;
        }
    }
    Some(())
}

/// One QL step on the block from `low` to `high`, with Wilkinson's shift.
fn sweep((low, high): (usize, usize), d: &mut [f64], e: &mut [f64], vectors: &mut Array2<f64>) -> Option<()> {
    let at = |values: &[f64], index: usize| values.get(index).copied();
    let between = at(e, low)?;
    let slope = (at(d, low + 1)? - at(d, low)?) / (2.0 * between);
    let root = slope.hypot(1.0).copysign(slope);
    let mut g = at(d, high)? - at(d, low)? + between / (slope + root);
    let (mut sine, mut cosine, mut drop) = (1.0, 1.0, 0.0);
    for index in (low..high).rev() {
        let (f, b) = (sine * at(e, index)?, cosine * at(e, index)?);
        let radius = f.hypot(g);
        *e.get_mut(index + 1)? = radius;
        if radius == 0.0 {
            // The block falls apart here.
            *d.get_mut(index + 1)? -= drop;
            *e.get_mut(high)? = 0.0;
            return Some(());
        }
        (sine, cosine) = (f / radius, g / radius);
        let base = at(d, index + 1)? - drop;
        let turn = (at(d, index)? - base) * sine + 2.0 * cosine * b;
        drop = sine * turn;
        *d.get_mut(index + 1)? = base + drop;
        g = cosine * turn - b;
        let (mut upper, mut lower) = vectors.multi_slice_mut((s![index, ..], s![index + 1, ..]));
        for (x, y) in upper.iter_mut().zip(lower.iter_mut()) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    }
    *d.get_mut(low)? -= drop;
    *e.get_mut(low)? = g;
    *e.get_mut(high)? = 0.0;
    Some(())
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, array};

    use super::symmetric;

    fn check(known: &Array2<f64>) -> Vec<f64> {
        let size = known.nrows();
        let found = symmetric(known.view()).unwrap();
        let diagonal = Array2::from_diag(&Array1::from(found.values.clone()));
        let rebuilt = found.vectors.dot(&diagonal).dot(&found.vectors.t());
        let most = known.iter().fold(1e-300_f64, |most, value| most.max(value.abs()));
        let worst = rebuilt
            .iter()
            .zip(known)
            .fold(0.0_f64, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= 1e-13 * most * size as f64, "{size}: {worst:e}");
        let square = found.vectors.t().dot(&found.vectors);
        let off = square
            .iter()
            .zip(Array2::<f64>::eye(size).iter())
            .fold(0.0_f64, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(off < 1e-13 * size as f64, "{size}: {off:e}");
        assert!(found.values.windows(2).all(|pair| pair[0] >= pair[1]));
        found.values
    }

    #[test]
    fn the_vectors_of_a_matrix_rebuild_it() {
        let values = check(&array![[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, -4.0]]);
        for (value, expected) in values.iter().zip([3.0, 1.0, -4.0]) {
            assert!((value - expected).abs() < 1e-14, "{values:?}");
        }
        for size in [1, 2, 5, 40, 97] {
            let factor = Array2::from_shape_fn((size, size), |(a, b)| {
                ((a * 7 + b * 13 + a * b) as f64 * 0.61).sin()
            });
            check(&(&factor + &factor.t()));
            // Positive, and of low rank: most values are one and the same.
            let thin = factor.slice(ndarray::s![.., ..size.div_ceil(3)]).to_owned();
            let values = check(&thin.dot(&thin.t()));
            assert!(
                values
                    .iter()
                    .skip(size.div_ceil(3))
                    .all(|value| value.abs() < 1e-11)
            );
        }
        // Fewer samples than outputs: most values are rounding and nothing else.
        let rows = Array2::from_shape_fn((300, 20), |(a, b)| {
            ((a * 31 + b * 57 + a * b * b) as f64 * 0.173).sin()
        });
        let values = check(&rows.dot(&rows.t()));
        assert!(values.iter().skip(20).all(|value| value.abs() < 1e-10));
        check(&Array2::zeros((4, 4)));
        check(&Array2::eye(6));
        check(&(Array2::eye(3) * 1e-200));
        check(&(array![[1.0, 2.0], [2.0, -3.0]] * 1e150));
    }

    #[test]
    fn what_has_no_answer_gets_none() {
        assert!(symmetric(array![[1.0, f64::NAN], [f64::NAN, 1.0]].view()).is_none());
        assert!(symmetric(array![[1.0, 2.0]].view()).is_none());
        assert!(symmetric(Array2::zeros((0, 0)).view()).unwrap().values.is_empty());
    }
}
