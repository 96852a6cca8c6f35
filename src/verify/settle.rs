//! What is left in question after all samples ran: errors that are small for an output and large for a slice of it.

use std::collections::BTreeMap;

use super::judge::Pair;
use super::session::{self, Shapes};
use super::tally::Trial;
use crate::analysis::infer;
use crate::engine::compare::{Moved, excuse, moved, moved_weights, nudged_weights};
use crate::engine::{EngineError, RunValues, Session};
use crate::ir::Model;

/// Samples on which the way is looked at: each takes some compilations.
const WAYS: usize = 4;

impl Pair<'_> {
    /// Finds out what rounding explains where the scale of a slice alone makes an output different: first of the inputs, then on the
    /// way.
    pub(super) fn settle(&mut self) {
        // Runs more or fewer would shift the numbers of a seeded generator.
        if self.random.seeded {
            return;
        }
        if !self.tally.in_question().is_empty() {
            self.settle_by_inputs();
        }
        if !self.tally.in_question().is_empty() {
            self.settle_on_the_way();
        }
    }

    fn compile_at(&self, model: &Model, shapes: &Shapes) -> Result<Box<dyn Session>, EngineError> {
        session::prepare(model, self.engine, shapes)?.compile(self.engine, Vec::new(), self.options.optimise)
    }

    fn excuse(&mut self, trial: &Trial, expected: &RunValues, runs: &[Moved]) {
        for (name, pool) in self.tally.in_question() {
            if pool == trial.pool
                && let Some(comparison) = self.tally.comparison_mut(&name, pool)
            {
                excuse(&name, expected, runs, comparison, &self.options.tolerances);
            }
        }
    }

    fn concerns(&self, trial: &Trial) -> bool {
        self.tally
            .in_question()
            .iter()
            .any(|(_, pool)| *pool == trial.pool)
    }

    fn settle_by_inputs(&mut self) {
        let mut compiled: BTreeMap<Shapes, Box<dyn Session>> = BTreeMap::new();
        let mut nudged: Option<Vec<Model>> = None;
        for trial in self.tally.kept() {
            if !self.concerns(&trial) {
                continue;
            }
            let shapes = session::shapes_of(&trial.inputs);
            if !compiled.contains_key(&shapes)
                && let Ok(session) = self.compile_at(self.reference, &shapes)
            {
                compiled.insert(shapes.clone(), session);
            }
            let Some(reference) = compiled.get(&shapes) else {
                continue;
            };
            let Ok(expected) = reference.run(&trial.inputs) else {
                continue;
            };
            let mut runs = moved(&**reference, &trial.inputs);
            if runs.is_empty() {
                // Without floats among the inputs, rounding begins at the weights.
                let models = nudged.get_or_insert_with(|| nudged_weights(self.reference));
                let sessions: Vec<_> = models
                    .iter()
                    .filter_map(|model| self.compile_at(model, &shapes).ok())
                    .collect();
                runs = moved_weights(&sessions, &trial.inputs);
            }
            self.excuse(&trial, &expected, &runs);
        }
    }

    fn settle_on_the_way(&mut self) {
        let mut model = self.reference.clone();
        infer(&mut model);
        for trial in self.tally.kept().into_iter().take(WAYS) {
            if !self.concerns(&trial) || self.clock.over() {
                continue;
            }
            let shapes = session::shapes_of(&trial.inputs);
            let expected = self
                .compile_at(self.reference, &shapes)
                .and_then(|session| session.run(&trial.inputs));
            let (Ok(expected), Ok(seen)) = (expected, self.survey(&model, &trial.inputs)) else {
                continue;
            };
            let runs: Vec<Moved> = self
                .rounded_elsewhere(&model, &seen, &trial.inputs)
                .map(Moved::by_a_unit)
                .collect();
            self.excuse(&trial, &expected, &runs);
        }
    }
}
