//! The linear assignment problem: each row gets a column of its own so that the sum of costs is least.

use ndarray::ArrayView2;

/// The column of each row of `cost` `[N, N]` that makes the sum of costs least, by shortest augmenting paths with potentials (Kuhn 1955;
/// Jonker and Volgenant 1987), in N³ steps. Costs that are not finite count as 0. Of several best assignments always the same one.
pub fn assign(cost: ArrayView2<'_, f64>) -> Vec<usize> {
    let size = cost.nrows().min(cost.ncols());
    const NONE: usize = usize::MAX;
    // Rows by column, and potentials; the last entry of a column list stands for the row that is being placed.
    let mut row_of = vec![NONE; size + 1];
    let mut rows = vec![0.0f64; size];
    let mut columns = vec![0.0f64; size + 1];
    let entry = |row: usize, column: usize| {
        let value = cost[[row, column]];
        if value.is_finite() { value } else { 0.0 }
    };
    for row in 0..size {
        let mut least = vec![f64::INFINITY; size];
        let mut before = vec![size; size];
        let mut done = vec![false; size + 1];
        let mut at = size;
        row_of[size] = row;
        loop {
            done[at] = true;
            let here = row_of[at];
            let (mut step, mut next) = (f64::INFINITY, NONE);
            for column in (0..size).filter(|column| !done[*column]) {
                let reduced = entry(here, column) - rows[here] - columns[column];
                if reduced < least[column] {
                    least[column] = reduced;
                    before[column] = at;
                }
                if least[column] < step {
                    step = least[column];
                    next = column;
                }
            }
            if next == NONE {
                break;
            }
            for column in 0..=size {
                if done[column] {
                    rows[row_of[column]] += step;
                    columns[column] -= step;
                } else {
                    least[column] -= step;
                }
            }
            at = next;
            if row_of[at] == NONE {
                break;
            }
        }
        while at != size {
            let previous = before[at];
            row_of[at] = row_of[previous];
            at = previous;
        }
    }
    let mut assigned = vec![0; size];
    for (column, row) in row_of.iter().take(size).enumerate() {
        // A row stays without a column where costs add up beyond the largest number.
        if *row != NONE {
            assigned[*row] = column;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::assign;

    fn total(cost: &Array2<f64>, columns: &[usize]) -> f64 {
        columns
            .iter()
            .enumerate()
            .map(|(row, column)| cost[[row, *column]])
            .sum()
    }

    /// The least sum over all permutations.
    fn least(cost: &Array2<f64>, row: usize, free: &mut Vec<usize>) -> f64 {
        if free.is_empty() {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        for at in 0..free.len() {
            let column = free.swap_remove(at);
            best = best.min(cost[[row, column]] + least(cost, row + 1, free));
            free.push(column);
            let last = free.len() - 1;
            free.swap(at, last);
        }
        best
    }

    #[test]
    fn small_problems_are_solved_as_by_trying_everything() {
        let mut state = 7u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        };
        for size in 1..=6 {
            for round in 0..20 {
                let coarse = round % 2 == 0;
                let cost = Array2::from_shape_fn((size, size), |_| {
                    let value = random();
                    if coarse { (value * 4.0).round() } else { value }
                });
                let found = assign(cost.view());
                let mut seen = found.clone();
                seen.sort_unstable();
                assert_eq!(seen, (0..size).collect::<Vec<_>>());
                let best = least(&cost, 0, &mut (0..size).collect());
                assert!((total(&cost, &found) - best).abs() < 1e-12, "{cost} {found:?}");
            }
        }
        assert!(assign(Array2::zeros((0, 0)).view()).is_empty());
        assert_eq!(assign(array![[1.0, 0.0], [0.0, 1.0]].view()), [1, 0]);
    }

    #[test]
    fn a_hidden_permutation_is_found() {
        let size = 120;
        let hidden: Vec<usize> = (0..size).map(|row| (row * 37 + 11) % size).collect();
        let cost = Array2::from_shape_fn((size, size), |(row, column)| {
            ((row * 31 + column * 17) % 97) as f64 - if hidden[row] == column { 200.0 } else { 0.0 }
        });
        assert_eq!(assign(cost.view()), hidden);
    }
}
