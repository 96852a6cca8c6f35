//! What a model loses without a block.

use regex::RegexSet;

use super::options::{BlockCriterion, PruneBlocks};
use crate::autodiff::Loss;
use crate::finetune::{self, FEATURES, Masks, Mimic, Optimizer, Teacher, Training};
use crate::ir::Model;
use crate::passes::{Context, PassError, ResourceError, Resources};
use crate::statistics::Objective;

/// Judges models without a block by samples.
pub(super) struct Judge<'a> {
    pub(super) options: &'a PruneBlocks,
    pub(super) context: &'a Context<'a>,
    pub(super) resources: &'a dyn Resources,
    /// The model with all blocks.
    pub(super) whole: &'a Model,
    pub(super) features: &'a RegexSet,
    pub(super) pass: &'static str,
}

impl Judge<'_> {
    /// How far the features of a model are from those of the whole one, after training where the criterion asks for that.
    pub(super) fn loss(&self, cut: &Model) -> Result<f64, PassError> {
        self.of(cut)
            .map_err(|error| PassError::resource(self.pass, error))
    }

    fn of(&self, cut: &Model) -> Result<f64, ResourceError> {
        let data = self.resources.data(&self.options.data, &cut.graph)?;
        let data = data.first(self.options.samples);
        let engine = self.resources.engine()?;
        let mimic = Mimic {
            wanted: Some(self.features).filter(|patterns| !patterns.is_empty()),
        };
        let mut trained = cut.clone();
        if self.options.criterion == BlockCriterion::Recoverability {
            let (recover, none) = (&self.options.recover, Masks::new());
            let objective = Objective {
                loss: Loss::MeanSquaredError,
                output: Some(FEATURES.to_owned()),
            };
            let training = Training {
                objective: &objective,
                teacher: Some(Teacher {
                    model: self.whole,
                    output: None,
                }),
                mimic: Some(mimic),
                optimizer: Optimizer::Adam,
                learning_rate: recover.learning_rate,
                warmup: 0.1,
                average: 0.0,
                momentum: 0.0,
                weight_decay: 0.0,
                epochs: recover.epochs,
                batch: recover.batch,
                validation: 0.0,
                patience: 1,
                seed: self.context.seed,
                hold_zeros: true,
                masks: &none,
                frozen: &|name| self.context.keeps(name),
                checkpoint: None,
                jobs: self.resources.jobs(),
            };
            finetune::finetune(&mut trained, &data, engine, &training, &|_, _| {})?;
        }
        Ok(finetune::distance(
            &trained,
            self.whole,
            mimic,
            &data,
            (engine, self.resources.jobs()),
        )?)
    }
}
