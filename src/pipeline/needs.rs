//! What a pipeline lacks, said before its first step runs: steps and gates without the data that they read.

use std::collections::BTreeSet;

use super::definition::{Pipeline, ROLES, Step};
use super::gates::Gate;
use super::resources::open_data;
use crate::data::DataError;
use crate::ir::Graph;
use crate::passes::Aim;
use crate::yaml::{ConfigError, Location};

/// Why a pipeline cannot run as it is.
#[derive(Debug, thiserror::Error)]
pub enum LackError {
    /// A step or gate reads data that nothing describes, at a place of the pipeline's text.
    #[error(transparent)]
    At(#[from] Box<ConfigError>),
    /// The same without a text.
    #[error("{message}")]
    Missing {
        /// What reads which data.
        message: String,
        /// How to give them.
        hint: String,
    },
    /// Data that are described cannot be opened.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// The code of what is missing.
const MISSING: &str = "data-missing";

/// How to give labels.
const LABELS: &str =
    "name the array or table of labels under `labels` in the description; `secateur explain data` shows how";

impl Pipeline {
    /// Checks that all data that steps and gates read are there and fit the inputs of `graph`. Where a step changes the inputs,
    /// the data are opened by what reads them.
    ///
    /// # Errors
    ///
    /// The first thing that is missing, with the flag that gives it; or what is wrong with the data.
    pub fn check_data(&self, graph: &Graph) -> Result<(), LackError> {
        for step in &self.steps {
            for role in step.data_roles() {
                if !self.data.contains_key(&role) {
                    let what = format!("step `{}` reads {role} data, and there are none", step.name);
                    return Err(missing(what, &role, step.spot.as_ref()));
                }
            }
        }
        for (index, gate) in self.gates.iter().enumerate() {
            if gate.needs_evaluation() && !self.data.contains_key("evaluation") {
                let spot = self.gate_places.get(index);
                let what = format!(
                    "gate `{}` is judged on evaluation data, and there are none",
                    gate.name()
                );
                return Err(missing(what, "evaluation", spot));
            }
        }
        let keeps_inputs = |step: &Step| step.name != "bind" && step.pass.about().aim != Aim::Replace;
        if !self.steps.iter().all(keeps_inputs) {
            return Ok(());
        }
        let mut roles: BTreeSet<String> = self.steps.iter().flat_map(Step::read_roles).collect();
        roles.insert("evaluation".to_owned());
        for (role, described) in self.data.iter().filter(|(role, _)| roles.contains(*role)) {
            let data = open_data(described, &self.base, graph)?;
            if role != "evaluation" || data.has_labels() {
                continue;
            }
            if let Some(index) = self.gates.iter().position(Gate::needs_labels) {
                return Err(self.unlabelled(index));
            }
            let judged = |step: &&Step| step.until.iter().any(Gate::needs_labels);
            if let Some(step) = self.steps.iter().find(judged) {
                let gate = step.until.iter().find(|gate| gate.needs_labels());
                let name = gate.map_or("", Gate::name);
                let what = format!(
                    "`until` of step `{}` is on {name}, which needs labels, and the evaluation data have none",
                    step.name
                );
                return Err(at(what, LABELS.to_owned(), step.spot.as_ref()));
            }
        }
        Ok(())
    }

    fn unlabelled(&self, index: usize) -> LackError {
        let name = self.gates.get(index).map_or("", Gate::name);
        let message = format!("gate `{name}` needs labels, and the evaluation data have none");
        at(message, LABELS.to_owned(), self.gate_places.get(index))
    }
}

fn missing(what: String, role: &str, place: Option<&Location>) -> LackError {
    let hint = if ROLES.contains(&role) {
        format!("describe them under `data: {role}:` in the pipeline, or give --data {role}=DATA")
    } else {
        format!("roles of data are {}", ROLES.join(", "))
    };
    at(what, hint, place)
}

fn at(message: String, hint: String, place: Option<&Location>) -> LackError {
    match place {
        Some(place) => LackError::At(Box::new(place.error(MISSING, message, Some(hint)))),
        None => LackError::Missing { message, hint },
    }
}
