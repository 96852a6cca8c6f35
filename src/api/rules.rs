//! The rewrite rules there are, and whether their examples prove them.

use std::path::Path;

use super::error::Error;
use super::options::Options;
use crate::fold::TractEvaluator;
use crate::lower::Lowering;
use crate::rewrite::RuleSet;
use crate::rewrite::prove::{Proof, prove};

/// The rules that come with secateur and those of [`Options::rules`].
pub(crate) fn rules(options: &Options) -> Result<RuleSet, Error> {
    let mut set = RuleSet::embedded()?.clone();
    for folder in &options.rules {
        set = set.with(&RuleSet::load_dir(folder)?)?;
    }
    Ok(set)
}

/// The rules of one folder.
pub(crate) fn rules_in(folder: &Path) -> Result<RuleSet, Error> {
    Ok(RuleSet::load_dir(folder)?)
}

/// Tries the examples of the rules of these names one rule after the other, and hands over what came out.
pub(crate) fn prove_rules(
    set: &RuleSet,
    chosen: impl Fn(&str) -> bool,
    options: &Options,
    mut tried: impl FnMut(&str, Vec<Proof>),
) -> Result<usize, Error> {
    let engine = options.make_engine()?;
    let rules: Vec<_> = set.rules().iter().filter(|rule| chosen(&rule.name)).collect();
    for (index, rule) in rules.iter().enumerate() {
        options.tell(&rule.name, index as u64, Some(rules.len() as u64));
        tried(&rule.name, prove(rule, &Lowering(&*engine), &TractEvaluator));
    }
    Ok(rules.len())
}
