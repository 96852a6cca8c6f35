//! Training on its way: steps, moving averages, the rate.

use super::error::FinetuneError;
use super::feed::{Feed, parts};
use super::optimizer::{Optimizer, Rates, State};
use super::training::Training;
use crate::engine::{FloatOutputs, HeldSession, Session};
use crate::ir::Tensor;

/// Training on its way: the parameters as the engine holds them, and what the optimizer knows of each.
pub(super) struct Course<'a, 's> {
    training: &'a Training<'a>,
    pub(super) feed: Feed<'a>,
    step: Box<dyn HeldSession + 's>,
    /// The parameters with their values before the first step.
    pub(super) held: Vec<(String, Tensor)>,
    /// Names of the gradients.
    outputs: Vec<String>,
    states: Vec<State>,
    /// Room for gradients that several runs add up to.
    sums: Vec<Vec<f32>>,
    kept: Vec<Kept>,
    /// Moving averages of the parameters, where they are wanted.
    average: Option<Vec<Vec<f32>>>,
    cut: Cut,
    done: u64,
    total: u64,
}

/// One slice a parameter, of each thing that the next step depends on.
pub(super) type Slices<'a> = Vec<(&'static str, Vec<&'a [f32]>)>;

/// What [`Course::parts`] answered under a name.
pub(super) type Read<'a> = dyn Fn(&str) -> Result<Vec<Vec<f32>>, FinetuneError> + 'a;

/// One where an element of a parameter may move and zero where it stays zero; nothing where all may move.
pub(super) type Kept = Option<Vec<f32>>;

/// The step that is run again and again, the parameters with their values, and what of each may move.
pub(super) type Start<'s> = (Box<dyn HeldSession + 's>, Vec<(String, Tensor)>, Vec<Kept>);

/// How samples become steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Samples a step.
    pub(super) batch: u64,
    /// The batch size that the model fixes.
    pub(super) fixed: Option<u64>,
    /// Whether a step runs in two halves.
    pub(super) halves: bool,
}

impl<'a, 's> Course<'a, 's> {
    /// Before the first of so many steps; `kept` says of each parameter which elements may move.
    pub(super) fn new(
        training: &'a Training<'a>,
        feed: Feed<'a>,
        (step, held, kept): Start<'s>,
        cut: Cut,
        total: u64,
    ) -> Result<Self, FinetuneError> {
        let zeros = |(_, tensor): &(String, Tensor)| vec![0.0; tensor.elements() as usize];
        let state =
            |(_, tensor): &(String, Tensor)| State::new(training.optimizer, tensor.elements() as usize);
        let mut course = Self {
            outputs: held.iter().map(|(name, _)| format!("grad/{name}")).collect(),
            states: held.iter().map(state).collect(),
            sums: held.iter().map(zeros).collect(),
            kept,
            training,
            feed,
            step,
            held,
            average: None,
            cut,
            done: 0,
            total,
        };
        if training.average > 0.0 {
            course.average = Some(course.current()?);
        }
        Ok(course)
    }

    /// How it is trained.
    pub(super) fn training(&self) -> &'a Training<'a> {
        self.training
    }

    /// A step for each batch of samples, in this order. Answers the mean loss.
    pub(super) fn epoch(
        &mut self,
        order: &[u64],
        epoch: usize,
        progress: &dyn Fn(u64, u64),
    ) -> Result<f64, FinetuneError> {
        let (mut loss_sum, mut seen) = (0.0, 0usize);
        for (index, rows) in order.chunks(self.cut.batch as usize).enumerate() {
            self.done += 1;
            let parts = parts(rows, self.cut.fixed, self.cut.halves);
            let count: usize = parts.iter().map(|part| part.len()).sum();
            if count == 0 {
                continue;
            }
            let results = self.feed.run(&*self.step, &parts, Some(epoch))?;
            let mut loss = 0.0;
            for (part, result) in parts.iter().zip(&results) {
                let value = result.get("loss")?.first().copied().unwrap_or(f32::NAN);
                loss += f64::from(value) * part.len() as f64;
            }
            if !loss.is_finite() {
                return Err(FinetuneError::Diverged {
                    epoch,
                    step: index + 1,
                });
            }
            (loss_sum, seen) = (loss_sum + loss, seen + count);
            self.advance(&parts, &results, count)?;
            progress(self.done, self.total);
        }
        Ok(loss_sum / seen.max(1) as f64)
    }

    /// Moves every parameter along the mean gradient of the runs of a step.
    fn advance(
        &mut self,
        parts: &[&[u64]],
        results: &[Box<dyn FloatOutputs>],
        count: usize,
    ) -> Result<(), FinetuneError> {
        let training = self.training;
        let rates = Rates {
            learning_rate: (training.learning_rate * share_of_rate(self.done, self.total, training.warmup))
                as f32,
            momentum: training.momentum as f32,
            weight_decay: training.weight_decay as f32,
            step: i32::try_from(self.done).unwrap_or(i32::MAX),
        };
        for (at, (output, state)) in self.outputs.iter().zip(&mut self.states).enumerate() {
            let gradient: &[f32] = match (results, self.sums.get_mut(at)) {
                ([one], _) => one.get(output)?,
                (_, Some(sum)) => {
                    sum.fill(0.0);
                    for (part, result) in parts.iter().zip(results) {
                        let share = part.len() as f32 / count as f32;
                        sum.iter_mut()
                            .zip(result.get(output)?)
                            .for_each(|(sum, g)| *sum += share * g);
                    }
                    sum
                }
                _ => continue,
            };
            let kept = self.kept.get(at).and_then(Option::as_deref);
            let parameters = self.step.held_mut(at)?;
            state.step(training.optimizer, rates, parameters, gradient, kept);
            if let Some(average) = self.average.as_mut().and_then(|all| all.get_mut(at)) {
                let share = 1.0 - training.average as f32;
                let pairs = average.iter_mut().zip(&*parameters);
                pairs.for_each(|(average, now)| *average += share * (*now - *average));
            }
        }
        Ok(())
    }

    /// The mean loss over samples with the parameters that the model would get now.
    pub(super) fn loss(&self, session: &dyn Session, rows: &[u64]) -> Result<f64, FinetuneError> {
        let tensor = |((name, before), values): (&(String, Tensor), Vec<f32>)| {
            Ok((name.clone(), Tensor::from_slice(before.dims(), &values)?))
        };
        let now = self.held.iter().zip(self.snapshot()?).map(tensor);
        let now: Vec<(String, Tensor)> = now.collect::<Result<_, FinetuneError>>()?;
        self.feed.loss(session, &now, rows, self.cut.batch)
    }

    /// Steps so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// What the next step depends on, by what it is: a slice a parameter.
    pub(super) fn parts(&self) -> Result<Slices<'_>, FinetuneError> {
        let now = (0..self.outputs.len()).map(|at| self.step.held(at));
        let mut parts = vec![("now", now.collect::<Result<_, _>>()?)];
        parts.push(("first", self.states.iter().map(State::first).collect()));
        if self.training.optimizer == Optimizer::Adam {
            parts.push(("second", self.states.iter().map(State::second).collect()));
        }
        if let Some(average) = &self.average {
            parts.push(("average", average.iter().map(Vec::as_slice).collect()));
        }
        Ok(parts)
    }

    /// Goes on after `done` steps from what [`Course::parts`] answered then.
    pub(super) fn resume(&mut self, done: u64, part: &Read<'_>) -> Result<(), FinetuneError> {
        for (at, values) in part("now")?.into_iter().enumerate() {
            self.step.held_mut(at)?.copy_from_slice(&values);
        }
        let second = match self.training.optimizer {
            Optimizer::Adam => part("second")?,
            Optimizer::Sgd => vec![Vec::new(); self.states.len()],
        };
        let moments = part("first")?.into_iter().zip(second);
        self.states = moments.map(|(first, second)| State::of(first, second)).collect();
        if self.average.is_some() {
            self.average = Some(part("average")?);
        }
        self.done = done;
        Ok(())
    }

    /// The parameters that the model would get now.
    pub(super) fn snapshot(&self) -> Result<Vec<Vec<f32>>, FinetuneError> {
        match &self.average {
            Some(average) => Ok(average.clone()),
            None => self.current(),
        }
    }

    /// The parameters as the last step left them.
    fn current(&self) -> Result<Vec<Vec<f32>>, FinetuneError> {
        (0..self.outputs.len())
            .map(|at| Ok(self.step.held(at)?.to_vec()))
            .collect()
    }
}

/// Which share of the learning rate step `done` of `total` takes, from 1: it rises over the share `warmup` of the steps in a line, and
/// all the way falls to zero along a half cosine.
fn share_of_rate(done: u64, total: u64, warmup: f64) -> f64 {
    let way = (done - 1) as f64 / total.max(1) as f64;
    let rise = (warmup * total as f64).max(1.0);
    (done as f64 / rise).min(1.0) * 0.5 * (1.0 + (std::f64::consts::PI * way).cos())
}

#[cfg(test)]
mod tests {
    use super::share_of_rate;

    #[test]
    fn rates_rise_in_a_line_and_fall_along_a_cosine() {
        assert_eq!(share_of_rate(1, 10, 0.0), 1.0);
        assert!((share_of_rate(6, 10, 0.0) - 0.5).abs() < 1e-15);
        let rates: Vec<f64> = (1..=20).map(|step| share_of_rate(step, 20, 0.2)).collect();
        assert!((rates[0] - 0.25).abs() < 1e-12);
        assert!(rates[..4].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[4..].windows(2).all(|pair| pair[0] > pair[1]));
    }
}
