//! The embedded rules: every example is a test.

use secateur::engine::TractEngine;
use secateur::fold::TractEvaluator;
use secateur::lower::Lowering;
use secateur::rewrite::RuleSet;
use secateur::rewrite::prove::{INSTANCES, ProofVerdict, prove};

/// Rules with an example that the built-in engine does not run. Those of recurrent layers have one with lengths of sequences; ONNX
/// Runtime runs these, `attention`, `dequantize-quantize` and `sequence-at` (`tests/cross/rules.py`). Nothing runs `swish-with-factor`,
/// which is applied on request only.
const NOT_RUN_BY_TRACT: &[&str] = &[
    "attention",
    "dequantize-quantize",
    "lstm-zero-state",
    "lstm-zero-state-with-both",
    "lstm-zero-state-with-last",
    "recurrent-zero-state",
    "recurrent-zero-state-with-last",
    "sequence-at",
    "swish-with-factor",
];

#[test]
fn every_embedded_rule_is_proven_by_its_examples() {
    let folder = std::env::var("SECATEUR_RULES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/passes/rules").to_owned());
    let rules = &RuleSet::load_dir(std::path::Path::new(&folder))
        .unwrap_or_else(|_| panic!("{}", every_error(&folder)));
    let only = std::env::var("SECATEUR_RULE").ok();
    let mut failed = Vec::new();
    let (mut proven, mut unchecked, mut drawn) = (0usize, 0usize, 0usize);
    for rule in rules.rules() {
        if only.as_ref().is_some_and(|name| *name != rule.name) {
            continue;
        }
        let proofs = prove(rule, &Lowering(&TractEngine), &TractEvaluator);
        let instances = proofs.iter().filter(|proof| proof.is_instance()).count();
        let runs = proofs
            .iter()
            .any(|p| matches!(p.verdict, ProofVerdict::Equal | ProofVerdict::Within(_)));
        let wrong = proofs.iter().any(|proof| proof.verdict.is_failed());
        if instances < INSTANCES && runs && !wrong {
            failed.push(format!("{}: {instances} random instances are proven", rule.name));
        }
        drawn += instances;
        for example in 0..rule.examples().len() {
            let own: Vec<_> = proofs.iter().filter(|proof| proof.example == example).collect();
            let done = own.iter().filter(|proof| proof.verdict.is_proven()).count();
            let wrong: Vec<String> = own
                .iter()
                .filter(|p| p.verdict.is_failed())
                .map(|p| p.to_string())
                .collect();
            let open: Vec<String> = own
                .iter()
                .filter(|p| !p.verdict.is_proven())
                .map(|p| p.to_string())
                .collect();
            proven += done;
            unchecked += own
                .iter()
                .filter(|p| matches!(p.verdict, ProofVerdict::NotChecked(_)))
                .count();
            if !wrong.is_empty() {
                failed.push(wrong.into_iter().take(4).collect::<Vec<_>>().join("\n"));
            } else if done == 0 && NOT_RUN_BY_TRACT.contains(&rule.name.as_str()) {
                println!("skipped: {}", open.first().map_or("", String::as_str));
            } else if done == 0 {
                let reasons = open.into_iter().take(4).collect::<Vec<_>>().join("\n  ");
                failed.push(format!(
                    "{} example {} proves nothing:\n  {reasons}",
                    rule.name,
                    example + 1
                ));
            } else if only.is_some() {
                println!(
                    "{}",
                    own.iter().map(|p| p.to_string()).collect::<Vec<_>>().join("\n")
                );
            }
        }
    }
    println!(
        "{} rules, {proven} cases proven, {drawn} of them random instances, {unchecked} not checked",
        rules.rules().len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What is wrong with each file of a folder by itself.
fn every_error(folder: &str) -> String {
    let mut errors = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = vec![(
                path.display().to_string(),
                std::fs::read_to_string(&path).unwrap(),
            )];
            errors.extend(RuleSet::from_files(file).err().map(|error| error.to_string()));
        }
    }

    errors.sort();
    errors.join("\n")
}

#[test]
fn embedded_rules_are_those_of_the_folder() {
    let folder = RuleSet::load_dir(std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/passes/rules"
    )))
    .unwrap();
    let names = |set: &RuleSet| {
        set.rules()
            .iter()
            .map(|rule| rule.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(RuleSet::embedded().unwrap()), names(&folder));
}

#[test]
fn the_documentation_lists_every_helper() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rules.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (head, _) = text
        .split_once("UPDATE=1 renews it -->\n")
        .expect("the mark of the generated part");
    let wanted = format!(
        "{head}UPDATE=1 renews it -->\n\n{}",
        secateur::rewrite::reference()
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == wanted,
        "docs/rules.md is stale; run with UPDATE=1"
    );
}
