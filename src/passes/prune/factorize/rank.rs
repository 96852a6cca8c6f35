//! The choice of ranks.

/// A rank that a layer may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    /// The rank.
    pub(super) rank: usize,
    /// What goes with it: multiply-accumulates, or bytes.
    pub(super) freed: f64,
    /// The share of the variance of the outputs that is lost.
    pub(super) lost: f64,
}

/// The ranks of all layers with which at least `target` goes and the least is lost, as far as steps along the convex hulls of the layers
/// come; `None` where a layer stays whole. `layers` are choices by falling rank. Answers everything where nothing reaches the target.
///
/// On a hull the loss for each unit that goes only rises, so that taking the cheapest step of any layer first is the best for every
/// target that is met exactly. The last step is shortened to the highest rank that meets the target.
pub(super) fn choose(layers: &[Vec<Choice>], target: f64) -> Vec<Option<Choice>> {
    let hulls: Vec<Vec<Choice>> = layers.iter().map(|choices| hull(choices)).collect();
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    for (layer, hull) in hulls.iter().enumerate() {
        let mut before = (0.0, 0.0);
        for (at, choice) in hull.iter().enumerate() {
            steps.push((slope(before, choice), layer, at));
            before = (choice.freed, choice.lost);
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut taken: Vec<Option<Choice>> = vec![None; layers.len()];
    let mut freed = 0.0;
    for (_, layer, at) in steps {
        if freed >= target {
            break;
        }
        let (Some(place), Some(choice)) = (
            taken.get_mut(layer),
            hulls.get(layer).and_then(|hull| hull.get(at)),
        ) else {
            continue;
        };
        let had = place.map_or(0.0, |choice| choice.freed);
        let others = freed - had;
        let enough = |choice: &&Choice| choice.freed > had && others + choice.freed >= target;
        let shortened = layers.get(layer).and_then(|choices| choices.iter().find(enough));
        let choice = match others + choice.freed >= target {
            true => shortened.unwrap_or(choice),
            false => choice,
        };
        freed = others + choice.freed;
        *place = Some(*choice);
    }
    taken
}

/// The lowest rank that loses at most `most`.
pub(super) fn lowest(choices: &[Choice], most: f64) -> Option<Choice> {
    choices.iter().rev().find(|choice| choice.lost <= most).copied()
}

fn slope(before: (f64, f64), choice: &Choice) -> f64 {
    (choice.lost - before.1) / (choice.freed - before.0)
}

/// The choices on the lower hull of what is lost over what goes, beginning at nothing for nothing.
fn hull(choices: &[Choice]) -> Vec<Choice> {
    let mut hull: Vec<Choice> = Vec::new();
    for choice in choices {
        loop {
            let (last, before) = (hull.last(), hull.len().checked_sub(2).and_then(|at| hull.get(at)));
            let from = before.map_or((0.0, 0.0), |choice| (choice.freed, choice.lost));
            match last {
                Some(last) if slope((last.freed, last.lost), choice) <= slope(from, last) => {
                    hull.pop();
                }
                _ => break,
            }
        }
        hull.push(*choice);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(pairs: &[(f64, f64)]) -> Vec<Choice> {
        let count = pairs.len();
        let choice = |(at, (freed, lost)): (usize, &(f64, f64))| Choice {
            rank: count - at,
            freed: *freed,
            lost: *lost,
        };
        pairs.iter().enumerate().map(choice).collect()
    }

    fn loss(taken: &[Option<Choice>]) -> (f64, f64) {
        let all = taken.iter().flatten();
        all.fold((0.0, 0.0), |sum, choice| {
            (sum.0 + choice.freed, sum.1 + choice.lost)
        })
    }

    #[test]
    fn the_cheapest_ranks_of_all_layers_go_first() {
        let steep = choices(&[(1.0, 1.0), (2.0, 3.0)]);
        let flat = choices(&[(1.0, 0.1), (2.0, 0.3), (3.0, 2.0)]);
        let layers = [steep, flat];
        let ranks = |target| -> Vec<Option<usize>> {
            let taken = choose(&layers, target);
            taken
                .iter()
                .map(|choice| choice.map(|choice| choice.rank))
                .collect()
        };
        assert_eq!(ranks(0.0), [None, None]);
        assert_eq!(ranks(1.0), [None, Some(3)]);
        assert_eq!(ranks(1.5), [None, Some(2)]);
        assert_eq!(ranks(3.0), [Some(2), Some(2)]);
        assert_eq!(ranks(99.0), [Some(1), Some(1)]);
    }

    #[test]
    fn what_is_above_the_hull_is_only_taken_to_meet_a_target() {
        // The second choice is a worse deal than the way from the first to the third.
        let layers = [choices(&[(1.0, 0.1), (2.0, 1.0), (4.0, 1.1)])];
        assert_eq!(hull(&layers[0]).len(), 2);
        assert_eq!(loss(&choose(&layers, 1.5)), (2.0, 1.0));
        assert_eq!(loss(&choose(&layers, 2.5)), (4.0, 1.1));
    }

    #[test]
    fn no_other_choice_of_ranks_frees_as_much_and_loses_less_at_the_hull() {
        let layers = [
            choices(&[(3.0, 0.01), (5.0, 0.05), (8.0, 0.4)]),
            choices(&[(2.0, 0.02), (6.0, 0.3)]),
            choices(&[(1.0, 0.2), (9.0, 0.25)]),
        ];
        let mut corners = 0;
        for target in 1..24 {
            let taken = choose(&layers, f64::from(target));
            let found = loss(&taken);
            assert!(found.0 >= f64::from(target).min(23.0), "{target}: {found:?}");
            let on_hull = |(choice, layer): (&Option<Choice>, &Vec<Choice>)| {
                choice.is_none_or(|choice| hull(layer).contains(&choice))
            };
            if !taken.iter().zip(&layers).all(on_hull) {
                continue;
            }
            corners += 1;
            let at = |layer: &Vec<Choice>, at: usize| at.checked_sub(1).map(|at| layer[at]);
            let mut best = f64::INFINITY;
            for a in 0..=layers[0].len() {
                for b in 0..=layers[1].len() {
                    for c in 0..=layers[2].len() {
                        let (freed, lost) = loss(&[at(&layers[0], a), at(&layers[1], b), at(&layers[2], c)]);
                        if freed >= found.0 {
                            best = best.min(lost);
                        }
                    }
                }
            }
            assert!(found.1 <= best + 1e-12, "{target}: {found:?} against {best}");
        }
        assert!(corners > 4, "{corners}");
    }

    #[test]
    fn the_lowest_rank_within_a_bound() {
        let layer = choices(&[(1.0, 0.1), (2.0, 0.2), (3.0, 0.6)]);
        assert_eq!(lowest(&layer, 0.25).unwrap().rank, 2);
        assert!(lowest(&layer, 0.05).is_none());
    }
}
