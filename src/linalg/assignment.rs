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
        let value = cost.get([row, column]).copied().unwrap_or(0.0);
        if value.is_finite() { value } else { 0.0 }
    };
    for row in 0..size {
        let mut least = vec![f64::INFINITY; size];
        let mut before = vec![size; size];
        let mut done = vec![false; size + 1];
        let mut at = size;
        set(&mut row_of, size, row);
        loop {
            set(&mut done, at, true);
            let here = get(&row_of, at, NONE);
            let (mut step, mut next) = (f64::INFINITY, NONE);
            let level = get(&rows, here, 0.0);
            for column in 0..size {
                if get(&done, column, true) {
                    continue;
                }
                let reduced = entry(here, column) - level - get(&columns, column, 0.0);
                if reduced < get(&least, column, 0.0) {
                    set(&mut least, column, reduced);
                    set(&mut before, column, at);
                }
                if get(&least, column, f64::INFINITY) < step {
                    step = get(&least, column, f64::INFINITY);
                    next = column;
                }
            }
            if next == NONE {
                break;
            }
            for column in 0..=size {
                if get(&done, column, false) {
                    let owner = get(&row_of, column, NONE);
                    add(&mut rows, owner, step);
                    add(&mut columns, column, -step);
                } else {
                    add(&mut least, column, -step);
                }
            }
            at = next;
            if get(&row_of, at, NONE) == NONE {
                break;
            }
        }
        while at != size {
            let previous = get(&before, at, size);
            let moved = get(&row_of, previous, NONE);
            set(&mut row_of, at, moved);
            at = previous;
        }
    }
    let mut assigned = vec![0; size];
    for (column, row) in row_of.iter().take(size).enumerate() {
        set(&mut assigned, *row, column);
    }
    assigned
}

fn get<T: Copy>(list: &[T], at: usize, otherwise: T) -> T {
    list.get(at).copied().unwrap_or(otherwise)
}

fn set<T>(list: &mut [T], at: usize, value: T) {
    if let Some(slot) = list.get_mut(at) {
        *slot = value;
    }
}

fn add(list: &mut [f64], at: usize, value: f64) {
    if let Some(slot) = list.get_mut(at) {
        *slot += value;
    }
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
