//! What the steps of a run have left so far, and the models that the result is compared with.

use super::definition::{Pipeline, Step};
use super::gates::Weight;
use super::interfaces::Recalled;
use super::run::{RunError, RunOptions, StepReport};
use super::until::Searched;
use super::weigh::weigh;
use crate::ir::Model;
use crate::passes::{Aim, PassReport, ReportFile, Requirement, left_alone, unchanged};

/// What the steps left so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub(super) steps: Vec<StepReport>,
    pub(super) files: Vec<ReportFile>,
    pub(super) requirements: Vec<Requirement>,
    /// The model after each step that changed it, for the search for the one to blame.
    pub(super) snapshots: Vec<(usize, Model)>,
    /// Of steps that changed nothing and were asked to.
    pub(super) idle: Vec<String>,
    /// What steps warn of.
    pub(super) worse: Vec<String>,
    /// Of steps that changed something what they say of it, and what they left alone.
    pub(super) left: Vec<String>,
    /// What comes after a step that makes another model on purpose is compared with its result.
    pub(super) reference: Option<Model>,
    /// What steps did to the names of inputs and outputs before there was a model that stands for the input.
    pub(super) recalls: Vec<Recalled>,
    /// The model whose values those of the result stand for, where steps moved factors between layers.
    pub(super) evened: Option<Box<Model>>,
    /// What the model weighs.
    pub(super) last: Weight,
    pub(super) changed: bool,
}

impl Done {
    /// Says of steps what their searches found.
    pub(super) fn searched(&mut self, searched: Vec<(usize, Searched)>) {
        for (index, found) in searched {
            if let Some(step) = self.steps.get_mut(index) {
                step.until = Some(found);
            }
        }
    }

    /// Lets what came before be called as the model after a step is.
    fn recall(&mut self, change: Recalled) -> Result<(), RunError> {
        let earlier = self.snapshots.iter_mut().map(|(_, model)| model);
        for model in earlier.chain(self.evened.as_deref_mut()) {
            change.apply(model)?;
        }
        match &mut self.reference {
            Some(reference) => change.apply(reference)?,
            None => self.recalls.push(change),
        }
        Ok(())
    }

    /// Takes in what a step did, which left this model.
    pub(super) fn add(
        &mut self,
        (index, step): (usize, &Step),
        seconds: f64,
        mut report: PassReport,
        model: &Model,
        (pipeline, options): (&Pipeline, &RunOptions<'_>),
    ) -> Result<(), RunError> {
        let pass = step.pass.about().name;
        self.files.append(&mut report.files);
        let worse = report.warnings.drain(..);
        self.worse
            .extend(worse.map(|warning| format!("{pass}: {warning}")));
        self.evened = report.evened.take().or(self.evened.take());
        if report.rebased {
            self.reference = Some(model.clone());
            self.snapshots.clear();
        } else if let Some(interface) = report.interface.take() {
            self.recall(Recalled {
                index,
                pass,
                interface,
            })?;
        }
        let after = if report.changed {
            weigh(model, false)?
        } else {
            self.last
        };
        self.changed |= report.changed;
        if report.changed && options.engine.is_some() {
            self.snapshots.push((index, model.clone()));
        }
        let reasons = report.reasons();
        if step.pass.about().aim != Aim::Tidy {
            let place = if pipeline.steps.len() > 1 {
                format!("step {}: ", index + 1)
            } else {
                String::new()
            };
            if report.changed {
                let told = report.told.drain(..).map(|told| format!("{pass}: {told}"));
                let said = told.chain(left_alone(&step.name, &reasons));
                self.left.extend(said.map(|words| format!("{place}{words}")));
            } else {
                self.idle
                    .push(format!("{place}{}", unchanged(&step.name, &reasons)));
            }
        }
        report.notes.extend(report.left.iter().map(ToString::to_string));
        self.steps.push(StepReport {
            name: step.name.clone(),
            seconds,
            changed: report.changed,
            nodes_before: self.last.nodes,
            nodes_after: after.nodes,
            bytes_before: self.last.bytes,
            bytes_after: after.bytes,
            changes: report.changes,
            notes: report.notes,
            reasons,
            nodes: report.nodes,
            times: report.times,
            until: None,
            transfer: report.transfer,
            training: report.training,
        });
        self.requirements.append(&mut report.requirements);
        self.last = after;
        Ok(())
    }
}
