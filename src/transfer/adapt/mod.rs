//! Weights of one unit in the form of another one.
//!
//! [`adapt`] answers what every weight of the target's unit has to be so that it computes what the source's does. What it does
//! beyond copying is an [`Adaptation`], and each kind needs its [`Adapter`] to be allowed. [`linear`] holds the arithmetic of
//! convolutions and matrix products with their batch normalisations, [`positions`] resizes position embeddings.

mod linear;
mod positions;

use std::collections::BTreeSet;
use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Kind, Part, Role, Unit, squeezed};
use crate::ir::{DType, Tensor, TensorError};

/// A kind of change that weights may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Adapter {
    /// Transposing, reshaping, factors of Gemm, and a bias of zeros: the same numbers in another place.
    Layout,
    /// BatchNormalization folded into the weights before it, or an identity made of one.
    BatchNorm,
    /// Another element type.
    Dtype,
    /// Another number of channels of the input: summed for one, repeated and scaled for others.
    InputChannels,
    /// Position embeddings of another number of positions: resized as images.
    Positions,
    /// A last layer with another number of classes.
    Head,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Adapter::Layout => "layout",
            Adapter::BatchNorm => "batch-norm",
            Adapter::Dtype => "dtype",
            Adapter::InputChannels => "input-channels",
            Adapter::Positions => "positions",
            Adapter::Head => "head",
        })
    }
}

/// What becomes of a last layer with another number of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// New random weights, uniform within one over the root of the fan-in.
    #[default]
    Initialise,
    /// The source's classes from an offset on, as many as the target has.
    Slice,
}

/// What may be done to weights.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Allowed kinds of change.
    pub allowed: BTreeSet<Adapter>,
    /// What becomes of a head with other classes.
    pub head: Head,
    /// The first class of a sliced head.
    pub offset: u64,
    /// Seed of new random weights.
    pub seed: u64,
}

impl Rules {
    /// Changes that leave the function what it is.
    pub const EXACT: [Adapter; 3] = [Adapter::Layout, Adapter::BatchNorm, Adapter::Dtype];

    /// Rules that allow such changes alone.
    pub fn exact(seed: u64) -> Self {
        Self {
            allowed: Self::EXACT.into_iter().collect(),
            head: Head::default(),
            offset: 0,
            seed,
        }
    }
}

/// A change that weights went through.
#[derive(Clone, Debug, PartialEq)]
pub enum Adaptation {
    /// Stored in another form.
    Layout {
        /// Shape in the source.
        from: Vec<u64>,
        /// Shape in the target.
        to: Vec<u64>,
    },
    /// The source has no bias and the target gets zeros.
    ZeroBias,
    /// The target had no bias and gets an input for it.
    AddedBias,
    /// The source's batch normalisation is folded in.
    Folded,
    /// The target's batch normalisation becomes an identity with the source's bias.
    Unfolded,
    /// The variance makes up for another epsilon.
    Epsilon,
    /// Another number of input channels.
    InputChannels {
        /// Channels in the source.
        from: u64,
        /// Channels in the target.
        to: u64,
    },
    /// Another number of positions.
    Positions {
        /// Positions in the source.
        from: u64,
        /// Positions in the target.
        to: u64,
    },
    /// A head with new random weights.
    Initialised {
        /// Classes in the source.
        from: u64,
        /// Classes in the target.
        to: u64,
    },
    /// A head with some of the source's classes.
    Sliced {
        /// The first class.
        offset: u64,
        /// Classes in the source.
        from: u64,
        /// Classes in the target.
        to: u64,
    },
    /// Another element type.
    Dtype {
        /// In the source.
        from: DType,
        /// In the target.
        to: DType,
    },
}

impl Adaptation {
    /// The kind.
    pub fn adapter(&self) -> Adapter {
        match self {
            Adaptation::Layout { .. } | Adaptation::ZeroBias | Adaptation::AddedBias => Adapter::Layout,
            Adaptation::Folded | Adaptation::Unfolded | Adaptation::Epsilon => Adapter::BatchNorm,
            Adaptation::InputChannels { .. } => Adapter::InputChannels,
            Adaptation::Positions { .. } => Adapter::Positions,
            Adaptation::Initialised { .. } | Adaptation::Sliced { .. } => Adapter::Head,
            Adaptation::Dtype { .. } => Adapter::Dtype,
        }
    }
}

impl fmt::Display for Adaptation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.adapter())?;
        match self {
            Adaptation::Layout { from, to } => write!(f, "{from:?} stored as {to:?}"),
            Adaptation::ZeroBias => write!(f, "the source has no bias, so it is zero"),
            Adaptation::AddedBias => write!(f, "the target had no bias and reads one now"),
            Adaptation::Folded => write!(f, "BatchNormalization folded in"),
            Adaptation::Unfolded => write!(
                f,
                "the target's BatchNormalization made an identity with the bias"
            ),
            Adaptation::Epsilon => write!(f, "variance shifted, as epsilon differs"),
            Adaptation::InputChannels { from, to: 1 } => write!(f, "{from} summed to 1"),
            Adaptation::InputChannels { from, to } => {
                write!(f, "{from} repeated to {to}, scaled by {from}/{to}")
            }
            Adaptation::Positions { from, to } => write!(f, "{from} resized to {to}, bicubic"),
            Adaptation::Initialised { from, to } => {
                write!(f, "new random weights, as the classes are {to} and not {from}")
            }
            Adaptation::Sliced { offset, from, to } => {
                write!(f, "classes {offset} to {} of {from}", offset + to)
            }
            Adaptation::Dtype { from, to } => write!(f, "{from} to {to}"),
        }
    }
}

/// Why weights cannot be had from a unit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The shapes do not fit, and there is no way from one to the other.
    #[error("{from:?} in the source is {to:?} here")]
    Shape {
        /// In the source.
        from: Vec<u64>,
        /// In the target.
        to: Vec<u64>,
    },
    /// A change is needed that is not allowed.
    #[error("needs the adapter {} ({})", .0.adapter(), .0)]
    NotAllowed(Adaptation),
    /// The groups of channels differ.
    #[error("{from} groups in the source are {to} here")]
    Groups {
        /// In the source.
        from: u64,
        /// In the target.
        to: u64,
    },
    /// The source has a bias that the target has no place for.
    #[error("the source has a bias, and the target has no place for one")]
    NoPlaceForBias,
    /// The source's unit has no such weight.
    #[error("the source has no {0:?} for it")]
    Missing(Role),
    /// The stored numbers are multiplied by zero.
    #[error("the target multiplies them by zero")]
    Factor,
    /// The offset and the number of classes do not fit the source.
    #[error("classes {offset} to {end} are not among the source's {classes}")]
    Offset {
        /// The first class.
        offset: u64,
        /// The class behind the last.
        end: u64,
        /// Classes in the source.
        classes: u64,
    },
    /// The elements cannot be read or written.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Where the target's unit is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The first unit behind the inputs.
    pub stem: bool,
    /// The last unit before the outputs.
    pub head: bool,
}

/// What the weights of a unit have to be.
#[derive(Clone, Debug, Default)]
pub struct Adapted {
    /// By index of the target's part.
    pub tensors: Vec<(usize, Tensor)>,
    /// A bias for a convolution or Gemm without one.
    pub bias: Option<Tensor>,
    /// What was done.
    pub how: Vec<Adaptation>,
    /// Whether the numbers are new and not the source's.
    pub initialised: bool,
}

impl Adapted {
    fn note(&mut self, adaptation: Adaptation) {
        if !self.how.contains(&adaptation) {
            self.how.push(adaptation);
        }
    }
}

/// The weights of `target` that make it compute what `source` does.
pub fn adapt(source: &Unit, target: &Unit, place: Place, rules: &Rules) -> Result<Adapted, Refusal> {
    let adapted = if let Some(tensors) = copied(source, target) {
        Adapted {
            tensors,
            ..Adapted::default()
        }
    } else if matches!(target.kind, Kind::Linear | Kind::Transposed) {
        linear::adapt(source, target, place, rules)?
    } else {
        by_role(source, target)?
    };
    match adapted
        .how
        .iter()
        .find(|change| !rules.allowed.contains(&change.adapter()))
    {
        Some(change) => Err(Refusal::NotAllowed(change.clone())),
        None => Ok(adapted),
    }
}

/// The source's tensors themselves, where all is stored alike.
fn copied(source: &Unit, target: &Unit) -> Option<Vec<(usize, Tensor)>> {
    if source.parts.len() != target.parts.len()
        || source.epsilon != target.epsilon
        || source.group != target.group
    {
        return None;
    }
    let own = |part: &Part| {
        source.part(part.role).filter(|own| {
            own.layout == part.layout
                && own.tensor.dtype() == part.tensor.dtype()
                && own.tensor.dims() == part.tensor.dims()
        })
    };
    target
        .parts
        .iter()
        .enumerate()
        .map(|(at, part)| Some((at, plain(&own(part)?.tensor).ok()?)))
        .collect()
}

/// The elements without name, documentation and place in a file.
fn plain(tensor: &Tensor) -> Result<Tensor, TensorError> {
    tensor.reshaped(tensor.dims())
}

/// Units whose weights have one form but for dimensions of size one: by role.
fn by_role(source: &Unit, target: &Unit) -> Result<Adapted, Refusal> {
    let mut adapted = Adapted::default();
    for (at, part) in target.parts.iter().enumerate() {
        let Some(own) = source.part(part.role) else {
            match part.role {
                Role::Offset | Role::Bias | Role::Peephole => {
                    adapted.note(Adaptation::ZeroBias);
                    let zeros = vec![0.0; part.tensor.elements() as usize];
                    let tensor = Tensor::from_f64(part.tensor.dtype(), part.tensor.dims(), &zeros)?;
                    adapted.tensors.push((at, tensor));
                    continue;
                }
                _ => return Err(Refusal::Missing(part.role)),
            }
        };
        let tensor = match target.kind {
            Kind::Constant(_) if squeezed(own.tensor.dims()) != squeezed(part.tensor.dims()) => {
                let (values, from, to) = positions::resize(own, part)?;
                adapted.note(Adaptation::Positions { from, to });
                written(values, own.tensor.dtype(), part, &mut adapted)?
            }
            _ => reshaped(own, part, &mut adapted)?,
        };
        adapted.tensors.push((at, tensor));
    }
    let unplaced = |own: &Part| {
        matches!(own.role, Role::Offset | Role::Bias | Role::Peephole) && target.part(own.role).is_none()
    };
    if let Some(own) = source.parts.iter().find(|own| unplaced(own))
        && own.tensor.to_f64()?.iter().any(|value| *value != 0.0)
    {
        return Err(Refusal::NoPlaceForBias);
    }
    if let (Some(own), Some(other)) = (source.epsilon, target.epsilon)
        && own != other
        && let Some((at, part)) = target
            .parts
            .iter()
            .enumerate()
            .find(|(_, part)| part.role == Role::Variance)
        && let Some((_, tensor)) = adapted.tensors.iter_mut().find(|(of, _)| *of == at)
    {
        let shifted: Vec<f64> = tensor.to_f64()?.iter().map(|value| value + own - other).collect();
        *tensor = Tensor::from_f64(part.tensor.dtype(), part.tensor.dims(), &shifted)?;
        adapted.note(Adaptation::Epsilon);
    }
    Ok(adapted)
}

fn reshaped(own: &Part, part: &Part, adapted: &mut Adapted) -> Result<Tensor, Refusal> {
    let (from, to) = (own.tensor.dims(), part.tensor.dims());
    if squeezed(from) != squeezed(to) {
        return Err(Refusal::Shape {
            from: from.to_vec(),
            to: to.to_vec(),
        });
    }
    if from != to {
        adapted.note(Adaptation::Layout {
            from: from.to_vec(),
            to: to.to_vec(),
        });
    }
    if own.tensor.dtype() == part.tensor.dtype() {
        return Ok(own.tensor.reshaped(to)?);
    }
    written(own.tensor.to_f64()?, own.tensor.dtype(), part, adapted)
}

/// Numbers in the form of a part.
fn written(values: Vec<f64>, from: DType, part: &Part, adapted: &mut Adapted) -> Result<Tensor, Refusal> {
    let to = part.tensor.dtype();
    if from != to {
        adapted.note(Adaptation::Dtype { from, to });
    }
    Ok(Tensor::from_f64(to, part.tensor.dims(), &values)?)
}

/// Uniform numbers from minus to plus `bound`.
pub fn uniform(seed: u64, stream: u64, bound: f64, count: usize) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    (0..count)
        .map(|_| ((random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * bound)
        .collect()
}
