//! Inputs that a model can run on, made from nothing but the model and a seed.
//!
//! Floats come as normal numbers and as the cases that rewrites get wrong: zeros, negatives, large and denormal numbers.
//! Everything else follows from how the model uses it ([`super::uses`]). The same seed gives the same bytes; one input's
//! numbers do not depend on the other inputs.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::demanded::Demanded;
use super::draw::{Draw, below, floats, integers};
use super::encode::encode;
use super::kind::SampleKind;
use super::landmarks::{self, Landmarks};
use super::sizes::{self, InputDim, Sizes};
use super::uses::{self, Demand};
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Model, Tensor, TensorError, ValueType};

/// An input for which no value can be made.
#[derive(Debug, thiserror::Error)]
pub enum SynthesisError {
    /// The file does not say what the input is, or it is of a type without values of its own.
    #[error("input {name} is {ty}, for which no values can be made")]
    Type {
        /// Input name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// The sizes make too large a tensor.
    #[error("input {name} would have more than {limit} elements")]
    TooLarge {
        /// Input name.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// The values do not fit the tensor: a defect of secateur.
    #[error("input {name}: {source}")]
    Tensor {
        /// Input name.
        name: String,
        /// What does not fit.
        source: TensorError,
    },
}

/// Elements one input may have.
const LARGEST: u64 = 1 << 28;

/// Makes samples for one model.
#[derive(Debug)]
pub(super) struct Synthesizer {
    pub(super) inputs: Vec<InputPlan>,
    landmarks: Landmarks,
}

/// What one input must be.
#[derive(Debug)]
pub(super) struct InputPlan {
    pub(super) name: String,
    pub(super) ty: ValueType,
    pub(super) dims: Vec<InputDim>,
    pub(super) demands: Vec<Demand>,
    /// Whether an integer may be any number of its type.
    any_number: bool,
    /// Strings that every sample may hold.
    pub(super) words: Vec<Bytes>,
    /// Strings of the models that what looks the input up does not know: it may refuse them.
    pub(super) strange: Vec<Bytes>,
}

impl Synthesizer {
    /// Reads off `model` what its inputs must be.
    pub(super) fn new(model: &Model) -> Self {
        let inputs = sizes::required_inputs(model)
            .filter_map(|id| {
                let value = model.graph.get(id)?.outputs().first()?;
                let mut plan = InputPlan {
                    name: value.name.to_string(),
                    ty: value.ty.clone(),
                    dims: sizes::input_dims(model, id).unwrap_or_default(),
                    demands: uses::demands(model, id),
                    any_number: landmarks::takes_any_number(model, id),
                    words: Vec::new(),
                    strange: Vec::new(),
                };
                plan.learn(&[]);
                Some(plan)
            })
            .collect();
        Self {
            inputs,
            landmarks: Landmarks::default(),
        }
    }

    /// The same with numbers around which to sample, and strings.
    pub(super) fn around(mut self, landmarks: Landmarks) -> Self {
        for plan in &mut self.inputs {
            plan.learn(&landmarks.words);
        }
        self.landmarks = landmarks;
        self
    }

    /// Whether the kind of a sample makes a difference.
    pub(super) fn has_floats(&self) -> bool {
        self.inputs.iter().any(|plan| {
            sizes::element_type(&plan.ty)
                .and_then(ValueType::dtype)
                .is_some_and(DType::is_float)
        })
    }

    /// Whether there is any input at all.
    pub(super) fn has_inputs(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// Sample number `index`.
    pub(super) fn sample(
        &self,
        sizes: &Sizes,
        kind: SampleKind,
        seed: u64,
        index: u64,
    ) -> Result<RunValues, SynthesisError> {
        self.inputs
            .iter()
            .map(|plan| {
                let mut rng = generator(seed, index, &plan.name);
                Ok((
                    plan.name.clone(),
                    plan.value(
                        &plan.ty,
                        sizes,
                        &Draw {
                            kind,
                            landmarks: &self.landmarks.numbers,
                        },
                        &mut rng,
                    )?,
                ))
            })
            .collect()
    }
}

pub(super) fn generator(seed: u64, index: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .update(&index.to_le_bytes())
        .update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

impl InputPlan {
    /// Sorts strings of the models into those that every sample may hold and those that only some hold.
    fn learn(&mut self, words: &[Bytes]) {
        let known = self.demands.iter().find_map(|demand| match demand {
            Demand::Words(words) if !words.is_empty() => Some(words),
            _ => None,
        });
        let unknown = known.is_none();
        let common: Vec<Bytes> = match known {
            Some(known) => known.iter().map(|word| Bytes::from(word.clone())).collect(),
            None => WORDS
                .into_iter()
                .map(|word| Bytes::from_static(word.as_bytes()))
                .collect(),
        };
        let mut seen: BTreeSet<Bytes> = BTreeSet::new();
        self.words = common
            .into_iter()
            .filter(|word| seen.insert(word.clone()))
            .collect();
        let new = words.iter().filter(|word| seen.insert((*word).clone())).cloned();
        if unknown {
            self.words.extend(new);
            self.strange.clear();
        } else {
            self.strange = new.collect();
        }
    }

    fn value(
        &self,
        ty: &ValueType,
        sizes: &Sizes,
        draw: &Draw<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Result<RunValue, SynthesisError> {
        let unknown = || SynthesisError::Type {
            name: self.name.clone(),
            ty: self.ty.to_string(),
        };
        Ok(match ty {
            ValueType::Tensor(tensor) => {
                RunValue::Tensor(self.tensor(tensor.dtype.ok_or_else(unknown)?, sizes, draw, rng)?)
            }
            ValueType::Sequence(element) => RunValue::Sequence(
                (0..2)
                    .map(|_| self.value(element, sizes, draw, rng))
                    .collect::<Result<_, _>>()?,
            ),
            ValueType::Optional(element) => {
                RunValue::Optional(Some(Box::new(self.value(element, sizes, draw, rng)?)))
            }
            ValueType::Map(key, element) => self.map(*key, element, draw, rng)?,
            ValueType::Unknown | ValueType::Sparse(_) | ValueType::Opaque => return Err(unknown()),
        })
    }

    fn tensor(
        &self,
        dtype: DType,
        sizes: &Sizes,
        draw: &Draw<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Result<Tensor, SynthesisError> {
        let dims: Vec<u64> = self
            .dims
            .iter()
            .map(|dim| dim.size(sizes).max(0) as u64)
            .collect();
        let count = dims
            .iter()
            .try_fold(1u64, |product, dim| product.checked_mul(*dim))
            .filter(|count| *count <= LARGEST);
        let count = count.ok_or_else(|| SynthesisError::TooLarge {
            name: self.name.clone(),
            limit: LARGEST,
        })? as usize;
        let failed = |source| SynthesisError::Tensor {
            name: self.name.clone(),
            source,
        };
        if dtype == DType::String {
            return Tensor::from_strings(&dims, self.drawn_words(count, draw.kind, rng)).map_err(failed);
        }
        let demanded = Demanded {
            demands: &self.demands,
            count,
            dims: &dims,
            sizes,
            dtype,
            kind: draw.kind,
        };
        let values = demanded.elements(rng);
        let values = values.unwrap_or_else(|| self.free(dtype, count, dims.len(), draw, rng));
        encode(dtype, &dims, &values, rng).map_err(failed)
    }

    fn map(
        &self,
        key: DType,
        element: &ValueType,
        draw: &Draw<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Result<RunValue, SynthesisError> {
        let failed = |source| SynthesisError::Tensor {
            name: self.name.clone(),
            source,
        };
        let dtype = element.dtype().unwrap_or(DType::F32);
        let words = self.demands.iter().find_map(|demand| match demand {
            Demand::Words(words) => Some(words.clone()),
            _ => None,
        });
        let keys = match key {
            DType::String => {
                let words = words.unwrap_or_else(|| WORDS.map(str::to_owned).to_vec());
                Tensor::from_strings(&[words.len() as u64], words.into_iter().map(Bytes::from))
                    .map_err(failed)?
            }
            _ => encode(key, &[4], &[0.0, 1.0, 2.0, 3.0], rng).map_err(failed)?,
        };
        let count = keys.elements();
        let values = if dtype == DType::String {
            Tensor::from_strings(&[count], self.drawn_words(count as usize, draw.kind, rng))
                .map_err(failed)?
        } else {
            encode(
                dtype,
                &[count],
                &self.free(dtype, count as usize, 1, draw, rng),
                rng,
            )
            .map_err(failed)?
        };
        Ok(RunValue::Map(keys, Box::new(RunValue::Tensor(values))))
    }

    fn drawn_words(&self, count: usize, kind: SampleKind, rng: &mut ChaCha8Rng) -> Vec<Bytes> {
        // A word that the model does not know takes its default branch.
        let others = [Bytes::from_static(b"another word"), Bytes::new()];
        let strange: &[Bytes] = match kind {
            SampleKind::Mixed | SampleKind::Landmarks => &self.strange,
            _ => &[],
        };
        let unknown: &[Bytes] = if kind == SampleKind::Mixed { &others } else { &[] };
        let words: Vec<&Bytes> = self.words.iter().chain(strange).chain(unknown).collect();
        (0..count)
            .filter_map(|_| words.get(below(rng, words.len() as u64) as usize))
            .map(|word| (*word).clone())
            .collect()
    }

    fn free(
        &self,
        dtype: DType,
        count: usize,
        rank: usize,
        draw: &Draw<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Vec<f64> {
        if dtype == DType::Bool {
            return (0..count)
                .map(|_| match draw.kind {
                    SampleKind::Zeros => 0.0,
                    SampleKind::Negative => 1.0,
                    _ => below(rng, 2) as f64,
                })
                .collect();
        }
        if let Some(range) = dtype.integer_range() {
            let wide = self.any_number && draw.kind.is_wide();
            return integers(dtype, range, wide, count, rank, draw, rng);
        }
        floats(dtype, count, draw, rng)
    }
}

const WORDS: [&str; 5] = ["a", "b", "word", "secateur", "Word"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Dim, GraphBuilder, GraphOutput, Operator, Shape, Value};

    fn model(build: impl FnOnce(&mut GraphBuilder)) -> Model {
        let mut graph = GraphBuilder::new();
        build(&mut graph);
        Model {
            header: Box::default(),
            opset_imports: crate::ir::Imports::default(),
            metadata: Vec::new(),
            graph: graph.finish(),
            functions: Vec::new(),
        }
    }

    fn input(graph: &mut GraphBuilder, name: &str, dtype: DType, dims: &[i64]) -> crate::ir::ValueId {
        let shape: Shape = dims.iter().map(|d| Dim::Fixed(*d)).collect();
        graph.input(
            Value::typed(name, ValueType::tensor(dtype, shape)),
            crate::ir::Input::default(),
        )
    }

    fn tensor<'a>(sample: &'a RunValues, name: &str) -> &'a Tensor {
        match &sample[name] {
            RunValue::Tensor(tensor) => tensor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn indices_stay_below_the_table_they_pick_from_also_behind_casts() {
        let model = model(|graph| {
            let ids = input(graph, "ids", DType::I32, &[2, 50]);
            let table = graph.initializer("table", Tensor::from_slice(&[7, 1], &[0f32; 7]).unwrap());
            let cast = graph.node(
                Operator::new("Cast").with("to", 7),
                &[Some(ids)],
                vec![Value::named("c")],
            );
            let cast = crate::ir::ValueId::new(cast, 0);
            let y = graph.node(
                Operator::new("Gather"),
                &[Some(table), Some(cast)],
                vec![Value::named("y")],
            );
            graph.output(GraphOutput::default(), Some(crate::ir::ValueId::new(y, 0)));
        });
        let synthesizer = Synthesizer::new(&model);
        for kind in SampleKind::ALL {
            let sample = synthesizer.sample(&Sizes::new(), kind, 1, 0).unwrap();
            let ids = tensor(&sample, "ids").to_i64().unwrap();
            // Gather takes indices from the end as well.
            let lowest = if kind == SampleKind::Mixed { -7 } else { 0 };
            assert!(ids.iter().all(|id| (lowest..7).contains(id)), "{ids:?}");
            assert!(ids.iter().any(|id| *id != ids[0]));
        }
    }

    #[test]
    fn ties_meet_what_has_to_be_above_zero() {
        let model = model(|graph| {
            let (x, y) = (
                input(graph, "x", DType::F32, &[64]),
                input(graph, "y", DType::F32, &[64]),
            );
            let operator = Operator::new("Mod").with("fmod", 1);
            let z = graph.node(operator, &[Some(x), Some(y)], vec![Value::named("z")]);
            graph.output(GraphOutput::default(), Some(crate::ir::ValueId::new(z, 0)));
        });
        let sample = Synthesizer::new(&model)
            .sample(&Sizes::new(), SampleKind::Ties, 1, 0)
            .unwrap();
        let (x, y) = (
            tensor(&sample, "x").to_f64().unwrap(),
            tensor(&sample, "y").to_f64().unwrap(),
        );
        assert!(y.iter().all(|y| *y > 0.0));
        assert!(x.iter().zip(&y).any(|(x, y)| x == y));
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_each_kind_its_numbers() {
        let model = model(|graph| {
            let x = input(graph, "x", DType::F32, &[100]);
            graph.output(GraphOutput::default(), Some(x));
        });
        let synthesizer = Synthesizer::new(&model);
        let values = |kind, index| -> Vec<f64> {
            let sample = synthesizer.sample(&Sizes::new(), kind, 7, index).unwrap();
            tensor(&sample, "x").to_f64().unwrap()
        };
        assert_eq!(values(SampleKind::Normal, 0), values(SampleKind::Normal, 0));
        assert_ne!(values(SampleKind::Normal, 0), values(SampleKind::Normal, 1));
        assert!(values(SampleKind::Negative, 0).iter().all(|v| *v < 0.0));
        assert!(values(SampleKind::Zeros, 0).iter().all(|v| *v == 0.0));
        let mixed = values(SampleKind::Mixed, 0);
        assert!(
            mixed
                .iter()
                .any(|v| *v != 0.0 && v.abs() < f64::from(f32::MIN_POSITIVE))
        );
        assert!(mixed.iter().any(|v| *v >= 1000.0));
        let numbers = values(SampleKind::Normal, 0);
        let mean = numbers.iter().sum::<f64>() / 100.0;
        let variance = numbers.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 100.0;
        assert!(
            mean.abs() < 0.3 && (0.6..1.5).contains(&variance),
            "{mean} {variance}"
        );
    }
}
