//! Steps of gradient descent over plain slices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How parameters move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (Kingma and Ba 2015, Loshchilov and Hutter 2019), β 0.9 and 0.999, ε 1e-8.
    Adam,
}

/// What an optimizer remembers of one parameter.
pub(super) struct State {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// Numbers of one step.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    pub(super) learning_rate: f32,
    pub(super) momentum: f32,
    pub(super) weight_decay: f32,
    /// Steps so far, this one included.
    pub(super) step: i32,
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

impl State {
    pub(super) fn new(optimizer: Optimizer, count: usize) -> Self {
        let second = match optimizer {
            Optimizer::Sgd => 0,
            Optimizer::Adam => count,
        };
        Self {
            first: vec![0.0; count],
            second: vec![0.0; second],
        }
    }

    /// What was remembered before.
    pub(super) fn of(first: Vec<f32>, second: Vec<f32>) -> Self {
        Self { first, second }
    }

    pub(super) fn first(&self) -> &[f32] {
        &self.first
    }

    /// Empty for [`Optimizer::Sgd`].
    pub(super) fn second(&self) -> &[f32] {
        &self.second
    }

    /// Moves `parameters` against `gradient`. Where `kept` is 0 they stay zero; it holds 0 and 1.
    pub(super) fn step(
        &mut self,
        optimizer: Optimizer,
        rates: Rates,
        parameters: &mut [f32],
        gradient: &[f32],
        kept: Option<&[f32]>,
    ) {
        let Rates {
            learning_rate,
            momentum,
            weight_decay,
            step,
        } = rates;
        match optimizer {
            Optimizer::Sgd => {
                for ((p, v), g) in parameters.iter_mut().zip(&mut self.first).zip(gradient) {
                    *v = momentum * *v + (*g + weight_decay * *p);
                    *p -= learning_rate * *v;
                }
            }
            Optimizer::Adam => {
                let (c1, c2) = (1.0 - BETA1.powi(step), 1.0 - BETA2.powi(step));
                let moments = self.first.iter_mut().zip(&mut self.second);
                for ((p, (m, s)), g) in parameters.iter_mut().zip(moments).zip(gradient) {
                    *m = BETA1 * *m + (1.0 - BETA1) * *g;
                    *s = BETA2 * *s + (1.0 - BETA2) * *g * *g;
                    *p -= learning_rate * ((*m / c1) / ((*s / c2).sqrt() + EPSILON) + weight_decay * *p);
                }
            }
        }
        if let Some(kept) = kept {
            parameters.iter_mut().zip(kept).for_each(|(p, kept)| *p *= kept);
        }
    }
}
