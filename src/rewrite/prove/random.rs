//! Random instances of examples: other sizes of the same ranks, other values.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::analysis::infer;
use crate::engine::Engine;

use super::super::driver::apply;
use super::super::evaluator::Evaluator;
use super::super::rule::Rule;
use super::super::set::RuleSet;
use super::build::{self, Form};
use super::{Pair, Proof, ProofVerdict, at, options, seed, variant};

/// Random instances that each rule is proven on, where its examples give a model that the engine runs.
pub const INSTANCES: usize = 20;
/// Instances that are tried to find as many, and sizes that are tried for one before it takes those of the example.
const MOST_TRIED: usize = 2 * INSTANCES;
const MOST_SIZES: u32 = 4;

/// An example, a variant of the rule and an opset at which the rule fires.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) example: usize,
    pub(super) instance: usize,
    pub(super) opset: i64,
}

/// Other sizes: every number becomes another one. Products stay products, so that what is reshaped still fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// What stands for each prime number; for the larger ones they themselves.
    factors: [(i64, i64); 4],
}

impl Scale {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let mut one_of = |choices: [i64; 4]| {
            let at = random.next_u32() as usize % choices.len();
            choices.get(at).copied().unwrap_or(1)
        };
        Self {
            factors: [
                (2, one_of([1, 2, 2, 3])),
                (3, one_of([2, 3, 4, 5])),
                (5, one_of([2, 3, 5, 7])),
                (7, one_of([2, 3, 5, 7])),
            ],
        }
    }

    /// The size that stands for this one; numbers below 2 are none, or stay.
    pub(super) fn of(&self, size: i64) -> i64 {
        let (mut left, mut product) = (size, 1);
        for (prime, factor) in self.factors {
            while left > 1 && left % prime == 0 {
                left /= prime;
                product *= factor;
            }
        }
        left * product
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sizes")?;
        for (prime, factor) in self.factors {
            write!(f, " {prime} -> {factor}")?;
        }
        Ok(())
    }
}

/// Tries random instances of the examples at these places in turn, until enough are proven or one fails. The same rule gives the same
/// instances.
pub(super) fn instances(
    rule: &Rule,
    places: &[Place],
    (engine, judges): (&dyn Engine, bool),
    evaluator: &dyn Evaluator,
) -> Vec<Proof> {
    let turns = turns(places);
    let mut found: Vec<Proof> = Vec::new();
    if turns.is_empty() {
        return found;
    }
    let mut proven = 0;
    for number in 1..=MOST_TRIED {
        let round = (number - 1) / turns.len();
        let Some(place) = turns
            .get((number - 1) % turns.len())
            .and_then(|turn| turn.get(round % turn.len().max(1)))
        else {
            break;
        };
        let Some(verdict) = instance(rule, place, number, (engine, judges), evaluator) else {
            continue;
        };
        let failed = verdict.is_failed();
        proven += usize::from(verdict.has_fired());
        found.push(Proof {
            rule: rule.name.clone(),
            example: place.example,
            variant: rule
                .instances
                .get(place.instance)
                .map_or_else(String::new, |instance| variant(rule, instance)),
            opset: place.opset,
            instance: number,
            verdict,
        });
        if failed || proven == INSTANCES {
            break;
        }
    }
    found
}

/// The places of each example and variant, which differ in their opsets.
fn turns(places: &[Place]) -> Vec<Vec<Place>> {
    let mut turns: Vec<Vec<Place>> = Vec::new();
    for place in places {
        let same = |turn: &&mut Vec<Place>| {
            turn.first()
                .is_some_and(|first| (first.example, first.instance) == (place.example, place.instance))
        };
        match turns.iter_mut().find(same) {
            Some(turn) => turn.push(*place),
            None => turns.push(vec![*place]),
        }
    }
    turns
}

/// One instance: of other sizes if the rule fires and the pattern runs at some of those that are tried, else of the example's.
fn instance(
    rule: &Rule,
    place: &Place,
    number: usize,
    (engine, judges): (&dyn Engine, bool),
    evaluator: &dyn Evaluator,
) -> Option<ProofVerdict> {
    for attempt in 0..=MOST_SIZES {
        let number = number * (MOST_SIZES as usize + 1) + attempt as usize;
        let seed = seed(&rule.name, place.example, usize::MAX - number);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let scale = Scale::draw(&mut random);
        let form = match attempt {
            MOST_SIZES => Form::Written,
            _ => Form::Scaled(&scale),
        };
        match at_sizes(rule, place, form, &mut random, (engine, judges), evaluator) {
            None | Some(ProofVerdict::NotChecked(_)) => {}
            Some(verdict) if matches!(form, Form::Scaled(_)) => return Some(at(verdict, &scale.to_string())),
            Some(verdict) => return Some(verdict),
        }
    }
    None
}

/// Nothing where the rule does not fire: the sizes do not fit each other, or a condition of the rule does not hold.
fn at_sizes(
    rule: &Rule,
    place: &Place,
    form: Form<'_>,
    random: &mut ChaCha8Rng,
    (engine, judges): (&dyn Engine, bool),
    evaluator: &dyn Evaluator,
) -> Option<ProofVerdict> {
    let example = rule.examples().get(place.example)?;
    let instance = rule.instances.get(place.instance)?;
    let built = match example.fields.get("graph").and_then(serde_json::Value::as_str) {
        Some(text) => build::from_text(example, text, form, random),
        None => build::build(rule, instance, example, place.opset, form, random),
    };
    let mut built = built.ok()?;
    infer(&mut built.model);
    let mut after = built.model.clone();
    let report = match apply(&mut after, &RuleSet::only(rule), &options(evaluator)) {
        Ok(report) => report,
        Err(error) => return Some(ProofVerdict::Failed(error.to_string())),
    };
    if report.fired.is_empty() {
        return None;
    }
    let verdict = Pair::new(rule, engine, built.model.clone(), after)
        .and_then(|pair| pair.on_all_kinds(&built, judges, random));
    Some(match verdict {
        Ok(verdict) | Err(verdict) => verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sizes_keep_products() {
        for seed in 0..50 {
            let scale = Scale::draw(&mut ChaCha8Rng::seed_from_u64(seed));
            assert_eq!((scale.of(-1), scale.of(0), scale.of(1)), (-1, 0, 1));
            for (a, b) in [(2, 3), (4, 6), (5, 7), (8, 11), (9, 22)] {
                assert_eq!(scale.of(a) * scale.of(b), scale.of(a * b), "{scale}");
            }
        }
    }
}
