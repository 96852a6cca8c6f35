//! Inputs with a default: what both models answer where a caller gives another value.

use rand_chacha::ChaCha8Rng;

use super::draw::unit;
use super::interface::Names;
use super::judge::{Attempt, Pair};
use super::kind::SampleKind;
use super::session;
use super::sizes::{self, Sizes};
use super::synthesize::{Synthesizer, generator};
use super::tally::Trial;
use super::uses::{self, Demand};
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Model, NodeId, NodeKind, Tensor};

/// Elements of all other values of a sample.
const MOST: u64 = 1 << 22;
/// Elements of a tensor whose order stays as it is: it may be the bounds of something.
const SMALL: u64 = 16;
/// Magnitudes from here on stand for infinity, and the next larger ones may be infinite.
const FAR: f64 = 1e4;
/// Inputs that a remark names.
const NAMED: usize = 3;
/// Kinds of samples, each with other values.
const KINDS: [SampleKind; 2] = [SampleKind::Normal, SampleKind::Uniform];

/// The inputs that have a default in both models.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// Those that get other values, and their defaults.
    given: Vec<(String, Tensor)>,
    /// Those that do not: sizes, axes, flags and large weights.
    kept: Vec<String>,
}

impl Defaults {
    /// The inputs with a default of a reference whose types are known.
    pub(super) fn of(reference: &Model, model: &Model, names: &Names) -> Self {
        let mut found = Self::default();
        let mut elements = 0u64;
        for id in reference.graph.inputs().iter().copied() {
            let Some((name, tensor)) = default_of(reference, id) else {
                continue;
            };
            let theirs = sizes::named_input(model, names.input(&name));
            let Some((_, theirs)) = theirs.and_then(|id| default_of(model, id)) else {
                continue;
            };
            let alike = theirs.dtype() == tensor.dtype() && theirs.dims() == tensor.dims();
            let sum = elements.saturating_add(tensor.elements());
            if alike && sum <= MOST && may_vary(reference, id, tensor) {
                elements = sum;
                found.given.push((name, tensor.clone()));
            } else {
                found.kept.push(name);
            }
        }
        found
    }

    /// Other values near the defaults, for sample number `index`.
    fn values(&self, seed: u64, index: u64) -> RunValues {
        let one = |(name, tensor): &(String, Tensor)| {
            let mut rng = generator(seed, index, name);
            let numbers = near(tensor, index.is_multiple_of(2), &mut rng)?;
            let tensor = Tensor::from_f64(tensor.dtype(), tensor.dims(), &numbers).ok()?;
            Some((name.clone(), RunValue::Tensor(tensor)))
        };
        self.given.iter().filter_map(one).collect()
    }
}

fn default_of(model: &Model, id: NodeId) -> Option<(String, &Tensor)> {
    let node = model.graph.get(id)?;
    let NodeKind::Input(input) = &node.kind else {
        return None;
    };
    let (tensor, _) = input.default.as_ref()?;
    Some((node.outputs().first()?.name.to_string(), tensor))
}

/// Whether other floats may stand in place of a default: it makes no size, axis, index or flag.
fn may_vary(model: &Model, id: NodeId, tensor: &Tensor) -> bool {
    let float = matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16);
    let any = |demand: &Demand| matches!(demand, Demand::Positive | Demand::Compared(_));
    float && tensor.elements() > 0 && uses::demands(model, id).iter().all(any)
}

/// Numbers near those of a tensor, of the same signs: larger or smaller ones in a small tensor, some of both in others.
fn near(tensor: &Tensor, larger: bool, rng: &mut ChaCha8Rng) -> Option<Vec<f64>> {
    let numbers = tensor.to_f64().ok()?;
    let finite = numbers.iter().filter(|number| number.is_finite());
    let scale = finite.map(|number| number.abs().min(FAR)).sum::<f64>() / numbers.len().max(1) as f64;
    let scale = if scale > 0.0 { scale } else { 0.1 };
    let small = tensor.elements() <= SMALL;
    let other = |number: f64| {
        let part = unit(rng);
        if number == 0.0 {
            return scale * (0.1 + 0.5 * part);
        }
        let factor = match (small, larger) {
            _ if number.abs() >= FAR => 0.75 + 0.02 * part,
            (true, true) => 1.25 + 0.02 * part,
            (true, false) => 0.75 + 0.02 * part,
            (false, _) => 0.75 + 0.5 * part,
        };
        number * factor
    };
    Some(numbers.into_iter().map(other).collect())
}

impl Pair<'_> {
    /// Runs samples in which inputs with a default hold other values, and notes which always held theirs.
    pub(super) fn at_other_defaults(&mut self, synthesizer: &Synthesizer, defaults: Defaults, sizes: &Sizes) {
        if self.broken.is_some() {
            return;
        }
        let varied = self.vary(synthesizer, &defaults, sizes);
        let Defaults { given, mut kept } = defaults;
        if !varied {
            kept.extend(given.into_iter().map(|(name, _)| name));
        }
        if self.broken.is_some() || kept.is_empty() {
            return;
        }
        let more = kept.len().saturating_sub(NAMED);
        kept.truncate(NAMED);
        let others = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        self.remarks.push(format!(
            "held at their default in every sample: {}{others}",
            kept.join(", ")
        ));
    }

    /// Whether the reference runs on other values; where it does, so must the model.
    fn vary(&mut self, synthesizer: &Synthesizer, defaults: &Defaults, sizes: &Sizes) -> bool {
        if defaults.given.is_empty() {
            return false;
        }
        if self.clock.over() {
            self.cut_short = true;
            return false;
        }
        let seed = self.options.seed;
        let sample = |(at, kind): (usize, &SampleKind)| {
            let index = (4 << 32) + at as u64;
            let mut inputs = synthesizer.sample(sizes, *kind, seed, index).ok()?;
            inputs.extend(defaults.values(seed, index));
            Some(Trial::of(*kind, inputs))
        };
        let drawn = KINDS.iter().enumerate().map(sample);
        let Some(samples) = drawn.collect::<Option<Vec<Trial>>>() else {
            return false;
        };
        let shapes = session::shapes_under(self.reference, sizes);
        let done = matches!(self.attempt(&shapes, &samples), Attempt::Done);
        self.forget_reference();
        if done {
            self.planned += samples.len() as u64;
        }
        done
    }
}
