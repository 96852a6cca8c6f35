//! Every rule of the table against finite differences, 30 seeded random cases each.

use std::collections::BTreeMap;

use secateur::autodiff::coverage;
use secateur::ir::DType;

use super::cases::{self, Generator};
use super::check::{Case, Outcome, compare, write};
use super::random::Random;

const CASES: u64 = 30;

/// Operators of which tract 0.23.9 lacks some forms or all, with the fewest cases that it runs. `tests/cross/gradients.py`
/// compares all forms through other runtimes.
const PARTLY_IN_TRACT: &[(&str, usize)] = &[
    ("LpPool", 0),
    ("MatMul", 20),
    ("Resize", 20),
    ("ReverseSequence", 0),
    ("Squeeze", 20),
    ("Upsample", 0),
];

/// Operators and forms that tract 0.23.9 computes wrongly, by the specification: compared through other runtimes only.
fn wrong_in_tract(case: &Case) -> bool {
    match &*case.operator.op_type {
        // It takes a mean where the sum belongs, and no magnitude.
        "GlobalLpPool" => true,
        // With `fmod` it is off where an operand is broadcast.
        "Mod" => true,
        // It takes another element than the specification's floor.
        "Resize" => case.opset == 10,
        _ => false,
    }
}

/// Operators that tract computes in f32 inside, also on f64 input.
const SINGLE: &[&str] = &[
    "Cast",
    "GlobalLpPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
    // Its own constants have five digits.
    "Selu",
    "Resize",
    "Upsample",
];

fn run(generators: &[(&str, Generator)]) {
    let only = std::env::var("SECATEUR_OPERATOR").ok();
    for (operator, generate) in generators {
        if only.as_deref().is_some_and(|only| only != *operator) {
            continue;
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for case in 0..CASES {
            let r = Random::new(operator, case);
            let made = generate(&r);
            write(&made, &format!("{operator}-{case}"), &r);
            if wrong_in_tract(&made) {
                *seen.entry("not run".to_owned()).or_default() += 1;
                continue;
            }
            let key = match compare(&made, &r, SINGLE.contains(operator)) {
                Outcome::Compared(DType::F64) => "in f64".to_owned(),
                Outcome::Compared(_) => "in f32".to_owned(),
                Outcome::NotRun(reason) => {
                    let partly = PARTLY_IN_TRACT.iter().any(|(name, _)| name == operator);
                    assert!(partly, "{}: {reason}", made.describe());
                    "not run".to_owned()
                }
            };
            *seen.entry(key).or_default() += 1;
        }
        println!("{operator}: {seen:?}");
        let fewest = PARTLY_IN_TRACT
            .iter()
            .find(|(name, _)| name == operator)
            .map_or(0, |(_, fewest)| *fewest);
        let run = CASES as usize - seen.get("not run").copied().unwrap_or(0);
        assert!(run >= fewest, "tract runs {run} cases of {operator}");
    }
}

macro_rules! families {
    ($($test:ident => $table:ident;)*) => {
        $(#[test]
        fn $test() {
            run(cases::$table);
        })*

        const ALL: &[&[(&str, Generator)]] = &[$(cases::$table),*];
    };
}

families! {
    elementwise_rules_agree_with_finite_differences => ELEMENTWISE;
    activation_rules_agree_with_finite_differences => ACTIVATIONS;
    arithmetic_rules_agree_with_finite_differences => ARITHMETIC;
    matrix_rules_agree_with_finite_differences => MATRICES;
    convolution_rules_agree_with_finite_differences => CONVOLUTION;
    pooling_rules_agree_with_finite_differences => POOLING;
    normalisation_rules_agree_with_finite_differences => NORMALISATION;
    shape_rules_agree_with_finite_differences => SHAPES;
    picking_rules_agree_with_finite_differences => PICKING;
    reduction_rules_agree_with_finite_differences => REDUCTIONS;
    resizing_rules_agree_with_finite_differences => RESIZING;
    written_out_rules_agree_with_finite_differences => WRITTEN_OUT;
}

#[test]
fn every_rule_has_cases() {
    let tested: Vec<&str> = ALL
        .iter()
        .flat_map(|table| table.iter().map(|(operator, _)| *operator))
        .collect();
    for row in coverage() {
        if !row.inputs.is_empty() {
            assert!(tested.contains(&row.operator), "no cases for {}", row.operator);
        }
    }
}
