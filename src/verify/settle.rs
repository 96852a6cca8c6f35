//! What is left in question after all samples ran: errors that are small for an output and large for a slice of it.

use std::collections::BTreeMap;

use super::judge::Pair;
use super::session::{self, Shapes};
use crate::engine::Session;
use crate::engine::compare::{excuse, moved, moved_weights, nudged_weights};
use crate::ir::Model;

impl Pair<'_> {
    /// Finds out what rounding of the inputs explains where the scale of a slice alone makes an output different.
    pub(super) fn settle(&mut self) {
        let open = self.tally.in_question();
        // Runs more or fewer would shift the numbers of a seeded generator.
        if open.is_empty() || self.random.seeded {
            return;
        }
        let (engine, optimise) = (self.engine, self.options.optimise);
        let compile = |model: &Model, shapes: &Shapes| {
            session::prepare(model, engine, shapes)?.compile(engine, Vec::new(), optimise)
        };
        let mut compiled: BTreeMap<Shapes, Box<dyn Session>> = BTreeMap::new();
        let mut nudged: Option<Vec<Model>> = None;
        for trial in self.tally.kept() {
            let concerned: Vec<&String> = open
                .iter()
                .filter(|(_, pool)| *pool == trial.pool)
                .map(|(name, _)| name)
                .collect();
            let shapes = session::shapes_of(&trial.inputs);
            if concerned.is_empty() {
                continue;
            }
            if !compiled.contains_key(&shapes)
                && let Ok(session) = compile(self.reference, &shapes)
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
                    .filter_map(|model| compile(model, &shapes).ok())
                    .collect();
                runs = moved_weights(&sessions, &trial.inputs);
            }
            for name in concerned {
                if let Some(comparison) = self.tally.comparison_mut(name, trial.pool) {
                    excuse(name, &expected, &runs, comparison, &self.options.tolerances);
                }
            }
        }
    }
}
