//! Which settings are tried: all of them, some at random, or all on few samples and the better ones on more.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value};

use super::front::{Measure, layers};
use super::values::Axis;
use crate::pipeline::{MODEL, Values, matches};

/// How settings are chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Search {
    /// All of them.
    Grid,
    /// As many as this, drawn with this seed.
    Random {
        /// Settings for each model.
        samples: usize,
        /// The seed.
        seed: u64,
    },
    /// All, or some at random, on few samples; those that do best on more.
    Halving(Halving),
}

/// Successive halving.
#[derive(Clone, Debug, PartialEq)]
pub struct Halving {
    /// What each rung spends on a setting, growing.
    pub rungs: Vec<Budget>,
    /// One of so many goes on.
    pub eta: f64,
    /// Settings drawn at random, with a seed; all of them where nobody says it.
    pub random: Option<(usize, u64)>,
}

/// What a rung spends on each setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Evaluation samples; `None` for all there are.
    pub samples: Option<u64>,
    /// Values of variables that the rung sets, such as epochs.
    pub values: Values,
}

/// One setting: a model by its number, and values of all variables.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The model, counted from 0.
    pub model: usize,
    /// The values.
    pub values: Values,
}

/// The most settings of a sweep.
const MOST: usize = 1_000_000;
/// How often a draw is repeated that was drawn before or is left out, before the search is taken for exhausted.
const PATIENCE: usize = 1_000;

/// Why a search has no settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SearchError {
    /// A grid over what has no list of values.
    #[error("`{name}` is a range without a step or count, which only a random search can draw from")]
    Range {
        /// The variable.
        name: String,
    },
    /// More combinations than a sweep may have.
    #[error("there are more than {MOST} combinations")]
    TooMany,
    /// No combination passes.
    #[error("every combination is left out")]
    Nothing,
}

/// The settings of a search, by model and in the order of the values; drawn ones in the order in which they were drawn.
///
/// # Errors
///
/// Too many settings, or none; a range in a grid.
pub fn settings(
    search: &Search,
    axes: &[(String, Axis)],
    models: &[String],
    taken: &dyn Fn(&Values) -> bool,
) -> Result<Vec<Setting>, SearchError> {
    let drawn = match search {
        Search::Grid => None,
        Search::Random { samples, seed } => Some((*samples, *seed)),
        Search::Halving(halving) => halving.random,
    };
    let of_model = |model: usize, values: &Values| {
        let mut all = values.clone();
        all.insert(
            MODEL.to_owned(),
            models.get(model).cloned().unwrap_or_default().into(),
        );
        taken(&all)
    };
    let any = |values: &Values| (0..models.len()).any(|model| of_model(model, values));
    let chosen = match drawn {
        None => grid(axes)?.into_iter().filter(|values| any(values)).collect(),
        Some((samples, seed)) => draw(axes, samples, seed, &any)?,
    };
    let found: Vec<Setting> = (0..models.len())
        .flat_map(|model| {
            let own = chosen.iter().filter(move |values| of_model(model, values));
            own.map(move |values| Setting {
                model,
                values: values.clone(),
            })
        })
        .collect();
    if found.is_empty() {
        return Err(SearchError::Nothing);
    }
    Ok(found)
}

fn size(axes: &[(String, Axis)]) -> Result<usize, SearchError> {
    let mut count = 1_usize;
    for (name, axis) in axes {
        let Axis::List(values) = axis else {
            return Err(SearchError::Range { name: name.clone() });
        };
        count = count
            .checked_mul(values.len())
            .filter(|count| *count <= MOST)
            .ok_or(SearchError::TooMany)?;
    }
    Ok(count)
}

/// The combination with this number; the last variable changes fastest.
fn combination(axes: &[(String, Axis)], mut number: usize) -> Values {
    let mut values: Vec<(String, Value)> = Vec::new();
    for (name, axis) in axes.iter().rev() {
        if let Axis::List(list) = axis {
            let value = list.get(number % list.len().max(1)).cloned();
            values.push((name.clone(), value.unwrap_or_default()));
            number /= list.len().max(1);
        }
    }
    values.into_iter().rev().collect()
}

fn grid(axes: &[(String, Axis)]) -> Result<Vec<Values>, SearchError> {
    Ok((0..size(axes)?).map(|number| combination(axes, number)).collect())
}

/// A number below `bound`, each as likely.
fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// A share of the way, at least 0 and below 1.
fn share(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn draw(
    axes: &[(String, Axis)],
    samples: usize,
    seed: u64,
    taken: &dyn Fn(&Values) -> bool,
) -> Result<Vec<Values>, SearchError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let listed = axes.iter().all(|(_, axis)| matches!(axis, Axis::List(_)));
    if listed && size(axes).is_ok() {
        // Without ranges there are only so many: they are shuffled, and nothing is drawn twice.
        let mut all: Vec<Values> = grid(axes)?.into_iter().filter(|values| taken(values)).collect();
        for at in (1..all.len()).rev() {
            all.swap(at, below(&mut rng, at + 1));
        }
        all.truncate(samples);
        return Ok(all);
    }
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    while found.len() < samples {
        let mut tries = 0..PATIENCE;
        let fresh = tries.find_map(|_| {
            let one = |(name, axis): &(String, Axis)| {
                let value = match axis {
                    Axis::List(list) => list.get(below(&mut rng, list.len())).cloned().unwrap_or_default(),
                    Axis::Range(range) => range.at(share(&mut rng)).into(),
                };
                (name.clone(), value)
            };
            let values: Values = axes.iter().map(one).collect();
            let word = serde_json::to_string(&values).unwrap_or_default();
            (taken(&values) && known.insert(word)).then_some(values)
        });
        match fresh {
            Some(values) => found.push(values),
            None => break,
        }
    }
    Ok(found)
}

/// Which settings pass `only` and `exclude`.
pub(super) fn passes(values: &Values, only: &[Map<String, Value>], exclude: &[Map<String, Value>]) -> bool {
    (only.is_empty() || only.iter().any(|pattern| matches(pattern, values)))
        && !exclude.iter().any(|pattern| matches(pattern, values))
}

/// Who goes on to the next rung: a share of all that began the rung, by layers of the front and in a layer by the first measure. `found` has
/// the figures of each, `None` for what failed or was refused, which never goes on. Times are no measure here, so that the choice does not
/// depend on the machine.
pub fn survivors(
    found: &[Option<&indexmap::IndexMap<String, f64>>],
    measures: &[Measure],
    eta: f64,
) -> Vec<usize> {
    let steady: Vec<Measure> = measures
        .iter()
        .filter(|measure| !measure.timed)
        .cloned()
        .collect();
    let known: Vec<usize> = (0..found.len())
        .filter(|at| found.get(*at).is_some_and(Option::is_some))
        .collect();
    let figures: Vec<_> = known
        .iter()
        .filter_map(|at| found.get(*at).copied().flatten())
        .collect();
    let ranks = layers(&figures, &steady);
    let first = |at: usize| {
        let measure = steady.first();
        let value = measure.and_then(|measure| Some(measure.sign() * *figures.get(at)?.get(&measure.name)?));
        value.unwrap_or(f64::NEG_INFINITY)
    };
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by(|a, b| {
        let rank = |at: usize| ranks.get(at).copied().unwrap_or(usize::MAX);
        rank(*a)
            .cmp(&rank(*b))
            .then(first(*b).total_cmp(&first(*a)))
            .then(a.cmp(b))
    });
    let count = (found.len() as f64 / eta).ceil() as usize;
    let mut kept: Vec<usize> = order
        .into_iter()
        .take(count.max(1))
        .filter_map(|at| known.get(at).copied())
        .collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use serde_json::json;

    use super::super::values::Range;
    use super::*;

    fn axes() -> Vec<(String, Axis)> {
        let list = |values: &[i64]| Axis::List(values.iter().map(|value| json!(value)).collect());
        vec![
            ("a".to_owned(), list(&[1, 2])),
            ("b".to_owned(), list(&[1, 2, 3])),
        ]
    }

    fn words(found: &[Setting]) -> Vec<String> {
        found
            .iter()
            .map(|setting| {
                let values: Vec<String> = setting.values.values().map(Value::to_string).collect();
                format!("{}:{}", setting.model, values.join(","))
            })
            .collect()
    }

    fn found(search: &Search, axes: &[(String, Axis)], exclude: Value) -> Result<Vec<String>, SearchError> {
        let exclude: Vec<Map<String, Value>> = serde_json::from_value(exclude).unwrap();
        let models = ["m".to_owned(), "n".to_owned()];
        let settings = settings(search, axes, &models, &|values| passes(values, &[], &exclude))?;
        Ok(words(&settings))
    }

    #[test]
    fn a_grid_has_every_combination_of_every_model_in_order() {
        let all = found(&Search::Grid, &axes(), json!([])).unwrap();
        assert_eq!(all.len(), 12);
        assert_eq!(&all[..4], ["0:1,1", "0:1,2", "0:1,3", "0:2,1"]);
        let fewer = found(
            &Search::Grid,
            &axes(),
            json!([{ "a": 1, "b": [1, 2] }, { "model": "n" }]),
        )
        .unwrap();
        assert_eq!(fewer, ["0:1,3", "0:2,1", "0:2,2", "0:2,3"]);
        assert!(found(&Search::Grid, &axes(), json!([{ "a": [1, 2] }])).is_err());
        assert_eq!(found(&Search::Grid, &[], json!([])).unwrap(), ["0:", "1:"]);
    }

    #[test]
    fn a_random_search_draws_the_same_again_and_nothing_twice() {
        let search = |samples, seed| Search::Random { samples, seed };
        let first = found(&search(4, 1), &axes(), json!([])).unwrap();
        assert_eq!(first.len(), 8);
        assert_eq!(first, found(&search(4, 1), &axes(), json!([])).unwrap());
        assert_ne!(first, found(&search(4, 2), &axes(), json!([])).unwrap());
        let mut all = found(&search(99, 1), &axes(), json!([])).unwrap();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 12);
        let mut mixed = axes();
        let range = Range {
            from: 0.001,
            to: 1.0,
            log: true,
        };
        mixed.push(("c".to_owned(), Axis::Range(range)));
        let drawn = found(&search(50, 3), &mixed, json!([{ "a": 1 }])).unwrap();
        assert_eq!(drawn.len(), 100);
        let shares: Vec<f64> = drawn
            .iter()
            .map(|word| word.rsplit(',').next().unwrap().parse().unwrap())
            .collect();
        assert!(shares.iter().all(|share| (0.001..=1.0).contains(share)));
        let small = shares.iter().filter(|share| **share < 0.03).count();
        assert!((20..80).contains(&small), "{small}");
        assert!(drawn.iter().all(|word| word.contains(":2,")));
        assert_eq!(
            found(&Search::Grid, &mixed, json!([])),
            Err(SearchError::Range { name: "c".to_owned() })
        );
        let hopeless = found(&search(5, 1), &mixed, json!([{ "a": [1, 2] }]));
        assert_eq!(hopeless, Err(SearchError::Nothing));
    }

    #[test]
    fn the_better_ones_go_on_and_what_failed_does_not() {
        let point = |accuracy: f64, bytes: f64| {
            IndexMap::from([("accuracy".to_owned(), accuracy), ("bytes".to_owned(), bytes)])
        };
        let measures = [
            Measure::new("accuracy", false),
            Measure::new("bytes", true),
            Measure::timed("latency ms"),
        ];
        let points = [
            point(0.9, 100.0),
            point(0.8, 50.0),
            point(0.7, 60.0),
            point(0.95, 200.0),
            point(0.6, 55.0),
        ];
        let mut found: Vec<_> = points.iter().map(Some).collect();
        found.push(None);
        assert_eq!(survivors(&found, &measures, 2.0), [0, 1, 3]);
        assert_eq!(survivors(&found, &measures, 6.0), [3]);
        assert_eq!(survivors(&found, &measures, 1.5), [0, 1, 2, 3]);
        assert!(survivors(&[None, None], &measures, 2.0).is_empty());
    }
}
