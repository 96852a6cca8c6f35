//! Running checks on a model.

use rayon::prelude::*;

use super::check::{Check, Finding, Found};
use super::checks::checks;
use super::subject::{FileFacts, Subject};
use super::targets::Target;
use super::weights::Weights;
use crate::analysis;
use crate::ir::Model;

/// Which checks run, and for which runtimes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The runtimes; without any the usual ones, whose findings are notes.
    pub targets: Vec<Target>,
    /// Codes of the checks that run; all, if empty.
    pub only: Vec<String>,
    /// Codes of checks that do not run.
    pub skip: Vec<String>,
}

impl Selection {
    /// Whether a check runs.
    fn takes(&self, check: &Check) -> bool {
        let names = |list: &[String]| list.iter().any(|code| code == check.code);
        (self.only.is_empty() || names(&self.only)) && !names(&self.skip)
    }
}

/// Everything that the checks find: errors first, then by code, and in the order of the model.
pub fn run(model: &Model, file: Option<FileFacts>, selection: &Selection) -> Vec<Finding> {
    let mut inferred = model.clone();
    let report = analysis::infer(&mut inferred);
    let graphs = Subject::views(&inferred);
    let subject = Subject {
        functions: inferred.function_index(),
        weights: Weights::of(&graphs),
        graphs,
        model: &inferred,
        contradictions: report.contradictions,
        conflicts: analysis::conflicts(model),
        file,
    };
    let defaults = Target::defaults();
    let targets = match selection.targets.as_slice() {
        [] => defaults.as_slice(),
        asked => asked,
    };
    let mut findings: Vec<Finding> = checks()
        .par_iter()
        .filter(|check| selection.takes(check))
        .flat_map(|check| {
            let mut found = Found::new(check, targets);
            (check.run)(&subject, &mut found);
            found.findings
        })
        .collect();
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.code.cmp(&b.code)));
    findings
}
