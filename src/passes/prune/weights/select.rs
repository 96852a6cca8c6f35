//! Which weights go.

use super::layers::Layer;
use super::options::{Pattern, Scope};

/// How many weights go, and where.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// This share of each scope.
    Share(f64, Scope),
    /// All below a score.
    Below(f64),
    /// All but N of each M along the summed axis.
    Pattern(Pattern),
}

impl Rule {
    /// Whether no weight that is not zero already can go.
    pub(super) fn asks_for_nothing(self) -> bool {
        match self {
            Self::Share(share, _) => share == 0.0,
            Self::Below(threshold) => threshold == 0.0,
            Self::Pattern(_) => false,
        }
    }
}

/// For each weight of each layer whether it goes. `scores` are as long as the layers; equal scores go in order of position.
pub(super) fn select(
    layers: &[Layer],
    scores: &mut [Vec<f32>],
    rule: Rule,
    max_sparsity: f64,
) -> Vec<Vec<bool>> {
    let mut gone: Vec<Vec<bool>> = scores.iter().map(|scores| vec![false; scores.len()]).collect();
    match rule {
        Rule::Pattern(pattern) => {
            for ((layer, scores), gone) in layers.iter().zip(scores.iter()).zip(&mut gone) {
                by_pattern(layer, scores, pattern, gone);
            }
        }
        Rule::Share(share, Scope::Global) => {
            protect(scores, max_sparsity);
            let total: usize = scores.iter().map(Vec::len).sum();
            let mut all: Vec<f32> = scores.iter().flatten().copied().collect();
            let count = (total as f64 * share).round() as usize;
            let (below, mut ties) = cut(&mut all, count);
            for (scores, gone) in scores.iter().zip(&mut gone) {
                mark(scores.iter().copied().enumerate(), below, &mut ties, gone);
            }
        }
        Rule::Share(share, Scope::Layer) => {
            protect(scores, max_sparsity);
            for (scores, gone) in scores.iter().zip(&mut gone) {
                let count = (scores.len() as f64 * share).round() as usize;
                let (below, mut ties) = cut(&mut scores.clone(), count);
                mark(scores.iter().copied().enumerate(), below, &mut ties, gone);
            }
        }
        Rule::Share(share, Scope::Output) => {
            protect(scores, max_sparsity);
            for ((layer, scores), gone) in layers.iter().zip(scores.iter()).zip(&mut gone) {
                let output = layer.along(layer.output_axis);
                let outputs = layer.dims.get(layer.output_axis).copied().unwrap_or(1);
                let mut rows: Vec<Vec<(usize, f32)>> = vec![Vec::new(); outputs];
                for (at, score) in scores.iter().enumerate() {
                    if let Some(row) = rows.get_mut(output(at)) {
                        row.push((at, *score));
                    }
                }
                for row in rows {
                    let count = (row.len() as f64 * share).round() as usize;
                    let mut values: Vec<f32> = row.iter().map(|(_, score)| *score).collect();
                    let (below, mut ties) = cut(&mut values, count);
                    mark(row.into_iter(), below, &mut ties, gone);
                }
            }
        }
        Rule::Below(threshold) => {
            protect(scores, max_sparsity);
            for (scores, gone) in scores.iter().zip(&mut gone) {
                for (score, gone) in scores.iter().zip(gone) {
                    *gone = f64::from(*score) < threshold;
                }
            }
        }
    }
    gone
}

/// Makes the highest scores of each layer too high to go, so that at most `max_sparsity` of it does.
fn protect(scores: &mut [Vec<f32>], max_sparsity: f64) {
    for scores in scores {
        let count = (scores.len() as f64 * max_sparsity).floor() as usize;
        if count >= scores.len() {
            continue;
        }
        let (below, mut ties) = cut(&mut scores.clone(), count);
        let mut free = vec![false; scores.len()];
        mark(scores.iter().copied().enumerate(), below, &mut ties, &mut free);
        for (score, free) in scores.iter_mut().zip(free) {
            if !free {
                *score = f32::INFINITY;
            }
        }
    }
}

/// The score below which the `count` lowest lie, and how many that are equal to it go with them.
fn cut(scores: &mut [f32], count: usize) -> (f32, usize) {
    if count == 0 {
        return (f32::NEG_INFINITY, 0);
    }
    let at = count.min(scores.len()) - 1;
    let (lower, middle, _) = scores.select_nth_unstable_by(at, f32::total_cmp);
    let middle = *middle;
    let below = lower
        .iter()
        .filter(|score| score.total_cmp(&middle).is_lt())
        .count();
    (middle, count - below)
}

fn mark(scores: impl Iterator<Item = (usize, f32)>, below: f32, ties: &mut usize, gone: &mut [bool]) {
    for (at, score) in scores {
        let goes = match score.total_cmp(&below) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal if *ties > 0 && score != f32::INFINITY => {
                *ties -= 1;
                true
            }
            _ => false,
        };
        if let Some(slot) = gone.get_mut(at).filter(|_| goes) {
            *slot = true;
        }
    }
}

fn by_pattern(layer: &Layer, scores: &[f32], pattern: Pattern, gone: &mut [bool]) {
    let size = layer.dims.get(layer.sum_axis).copied().unwrap_or(1).max(1);
    let inner = layer
        .dims
        .iter()
        .skip(layer.sum_axis + 1)
        .product::<usize>()
        .max(1);
    for outer in 0..scores.len() / (size * inner) {
        for lane in 0..inner {
            for block in 0..size / pattern.of {
                let position = |at: usize| (outer * size + block * pattern.of + at) * inner + lane;
                let mut order: Vec<usize> = (0..pattern.of).map(position).collect();
                let score = |at: usize| scores.get(at).copied().unwrap_or(0.0);
                // Stable: of equal scores the first ones stay.
                order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
                for at in order.into_iter().skip(pattern.kept) {
                    if let Some(slot) = gone.get_mut(at) {
                        *slot = true;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{GraphPath, NodeId, ValueId};

    fn layer(dims: &[usize]) -> Layer {
        Layer {
            path: GraphPath::MAIN,
            value: ValueId::new(NodeId::default(), 0),
            name: String::new(),
            reader: String::new(),
            dims: dims.to_vec(),
            output_axis: 0,
            sum_axis: 1,
            groups: 1,
            input: None,
        }
    }

    fn chosen(layers: &[Layer], scores: &[&[f32]], rule: Rule, max: f64) -> Vec<Vec<usize>> {
        let mut scores: Vec<Vec<f32>> = scores.iter().map(|scores| scores.to_vec()).collect();
        let gone = select(layers, &mut scores, rule, max);
        let places = |gone: &Vec<bool>| (0..gone.len()).filter(|at| gone[*at]).collect();
        gone.iter().map(places).collect()
    }

    #[test]
    fn each_scope_takes_its_own_lowest() {
        let layers = [layer(&[2, 2]), layer(&[1, 4])];
        let scores: [&[f32]; 2] = [&[1.0, 2.0, 3.0, 4.0], &[9.0, 8.0, 7.0, 6.0]];
        for (scope, expected) in [
            (Scope::Layer, [vec![0, 1], vec![2, 3]]),
            (Scope::Output, [vec![0, 2], vec![2, 3]]),
            (Scope::Global, [vec![0, 1, 2, 3], vec![]]),
        ] {
            assert_eq!(
                chosen(&layers, &scores, Rule::Share(0.5, scope), 1.0),
                expected,
                "{scope:?}"
            );
        }
        // No layer may lose more than three quarters, so the other one gives the fourth.
        let found = chosen(&layers, &scores, Rule::Share(0.5, Scope::Global), 0.75);
        assert_eq!(found, [vec![0, 1, 2], vec![3]]);
        assert_eq!(
            chosen(&layers, &scores, Rule::Below(2.5), 1.0),
            [vec![0, 1], vec![]]
        );
        assert_eq!(
            chosen(&layers, &scores, Rule::Below(99.0), 0.5),
            [vec![0, 1], vec![2, 3]]
        );
    }

    #[test]
    fn equal_scores_go_in_order_and_exactly_as_many_as_asked_for() {
        let scores: [&[f32]; 1] = [&[1.0; 4]];
        for (share, expected) in [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)] {
            let found = chosen(&[layer(&[1, 4])], &scores, Rule::Share(share, Scope::Layer), 1.0);
            assert_eq!(found, [(0..expected).collect::<Vec<_>>()], "{share}");
        }
    }

    #[test]
    fn a_pattern_keeps_the_highest_of_each_block_along_the_summed_axis() {
        let pattern = Rule::Pattern(Pattern::parse("1:2").unwrap());
        let scores: [&[f32]; 1] = [&[1.0, 5.0, 2.0, 4.0, 3.0, 6.0, 7.0, 0.0]];
        // [1, 4, 2]: blocks (0, 2), (4, 6) and (1, 3), (5, 7).
        assert_eq!(
            chosen(&[layer(&[1, 4, 2])], &scores, pattern, 1.0),
            [vec![0, 3, 4, 7]]
        );
        for wrong in ["2:2", "0:4", "4", "a:b", "3:2"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong}");
        }
    }
}
