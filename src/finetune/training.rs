//! What training is told, and what it answers.

use std::collections::BTreeMap;
use std::path::Path;

use regex::RegexSet;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::teacher::Teacher;
use crate::statistics::Objective;

/// Which elements of parameters stay: true where they do. The others are zero from the start and stay zero.
pub type Masks = BTreeMap<String, Vec<bool>>;

/// Features to learn from a teacher.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mimic<'a> {
    /// Names of values, or of nodes that compute them; without patterns what the heads of the model read.
    pub wanted: Option<&'a RegexSet>,
}

/// How to train.
pub struct Training<'a> {
    /// The loss; labels come with the data.
    pub objective: &'a Objective,
    /// Whose outputs are the targets of the loss; without one they are the labels of the data.
    pub teacher: Option<Teacher<'a>>,
    /// How parameters move.
    pub optimizer: Optimizer,
    /// Which features of the teacher are the targets, in place of its output.
    pub mimic: Option<Mimic<'a>>,
    /// Of the first step; it falls to zero along a half cosine.
    pub learning_rate: f64,
    /// Share of the steps over which it rises from zero.
    pub warmup: f64,
    /// What of the moving averages of the parameters stays with each step; with 0 the model gets the parameters themselves.
    pub average: f64,
    /// Of stochastic gradient descent.
    pub momentum: f64,
    /// Share of a parameter that is taken off with each step, times the learning rate.
    pub weight_decay: f64,
    /// Passes over the data.
    pub epochs: u32,
    /// Samples a step.
    pub batch: u64,
    /// Share of the samples that are not trained on but say when to stop.
    pub validation: f64,
    /// Epochs without a lower validation loss before training stops.
    pub patience: u32,
    /// Seed of the split and of the order of samples.
    pub seed: u64,
    /// Whether zeros in parameters of two and more dimensions stay zero.
    pub hold_zeros: bool,
    /// Elements that are zero and stay zero, beside those.
    pub masks: &'a Masks,
    /// Parameters that stay as they are.
    pub frozen: &'a dyn Fn(&str) -> bool,
    /// A file that is written after each epoch, and that training goes on from where it is there.
    pub checkpoint: Option<&'a Path>,
    /// Threads; the result does not depend on it.
    pub jobs: usize,
}

/// Mean losses of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// On the samples trained on, each before its step.
    pub loss: f64,
    /// On those held out, after the epoch.
    pub validation: Option<f64>,
}

/// What training did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The mean loss on the samples held out, before the first step.
    pub before: Option<f64>,
    /// Each epoch.
    pub epochs: Vec<Epoch>,
    /// Parameters that were trained.
    pub parameters: Vec<String>,
    /// The features that were learnt.
    pub features: Vec<String>,
    /// The epoch whose parameters the model has, counted from 1; 0 if none was better than before.
    pub best: usize,
}
