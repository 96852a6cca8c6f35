//! Inputs that choose among a known number of things: rows of a table, keys, words. Where one row of a table differs, only a sample
//! that reads this row shows it, so further samples read the rows that the others left out, and the report says how many remain.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::encode::encode;
use super::further::{AFFORDABLE, is_large};
use super::judge::{Attempt, Pair};
use super::kind::SampleKind;
use super::session;
use super::sizes::{self, FreeDim, InputDim, Sizes};
use super::synthesize::{InputPlan, Synthesizer, generator};
use super::tally::Trial;
use super::uses::Demand;
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Dim, Model, Tensor, TensorError};

/// Samples at one set of sizes.
const SAMPLES: u64 = 256;
/// Multiply-accumulates of all samples at one set of sizes.
const BUDGET: u64 = 1_000_000_000;
/// Operators that all samples at one set of sizes run: some engines prepare each sample anew.
const OPERATORS: u64 = 20_000;
/// Samples in memory at a time.
const AT_ONCE: usize = 16;
/// Samples at the sizes that work up to which no larger sizes are tried.
const FEW: usize = 4;
/// Sets of larger sizes that are tried.
const LARGER: usize = 3;
/// Places that one sample reads at larger sizes.
const ROOM: usize = 4096;
/// Places of one sample times places in all: the result of an OneHot has so many elements.
const ELEMENTS: usize = 1 << 24;
/// Places that are counted one by one.
const MOST: usize = 1 << 26;

/// What an input chooses among. A place is a number from 0 on.
#[derive(Clone, Debug, PartialEq)]
enum Among {
    /// Indices into a table of these sizes; as many elements, side by side, make one place.
    Rows(Vec<i64>),
    /// These numbers, in order.
    Numbers(Vec<i64>),
    /// These words, and where each is.
    Words(Vec<Bytes>, BTreeMap<Bytes, usize>),
}

impl Among {
    /// What the input of a plan chooses among: what every sample may hold, or where `strange` what may be refused.
    fn of(plan: &InputPlan, strange: bool) -> Option<Self> {
        let dtype = plan.ty.dtype()?;
        if dtype == DType::String {
            let words = if strange { &plan.strange } else { &plan.words };
            let places = words.iter().cloned().enumerate().map(|(at, word)| (word, at));
            return Some(Self::Words(words.clone(), places.collect()));
        }
        if strange {
            return None;
        }
        let mut tables: Vec<&[Dim]> = Vec::new();
        let (mut compared, mut flag): (Vec<f64>, bool) = (Vec::new(), false);
        for demand in &plan.demands {
            match demand {
                Demand::Below(limits) | Demand::Place(limits) => tables.push(limits),
                Demand::Compared(values) => compared.extend(values),
                Demand::Flag => flag = true,
                Demand::Words(_) => {}
                _ => return None,
            }
        }
        if !tables.is_empty() {
            return Self::rows(&tables, plan, dtype);
        }
        let (low, high) = dtype.integer_range()?;
        if flag || compared.iter().all(|value| *value == 0.0 || *value == 1.0) {
            return None;
        }
        let fits = |value: &f64| value.fract() == 0.0 && (low..=high).contains(&(*value as i128));
        let mut numbers: Vec<i64> = compared.into_iter().filter(fits).map(|v| v as i64).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Some(Self::Numbers(numbers))
    }

    /// Places in these tables; `None` where a size depends on others.
    fn rows(tables: &[&[Dim]], plan: &InputPlan, dtype: DType) -> Option<Self> {
        // Indices as large as the type counts exactly.
        let most = match dtype {
            DType::F32 => 1 << 24,
            DType::F64 => 1 << 53,
            other => i64::try_from(other.integer_range()?.1 + 1).unwrap_or(i64::MAX),
        };
        let mut limits: Vec<i64> = Vec::new();
        for dim in tables.iter().copied().flatten() {
            match dim {
                Dim::Fixed(size) if *size > 0 => limits.push(*size),
                Dim::Expr(_) => return None,
                Dim::Fixed(_) | Dim::Unknown => {}
            }
        }
        // Coordinates stand side by side only where no operator moved them.
        let known = tables.len() == 1 && tables.first().is_some_and(|table| table.len() == limits.len());
        let width = InputDim::Fixed(limits.len() as i64);
        let fit = limits.iter().all(|limit| *limit <= most);
        if known && fit && limits.len() > 1 && plan.dims.last() == Some(&width) {
            return Some(Self::Rows(limits));
        }
        let least = limits.into_iter().min()?.min(most);
        Some(Self::Rows(vec![least]))
    }

    /// How many places there are.
    fn count(&self) -> Option<usize> {
        match self {
            Self::Rows(limits) => limits.iter().try_fold(1usize, |product, limit| {
                product.checked_mul(usize::try_from(*limit).ok()?)
            }),
            Self::Numbers(numbers) => Some(numbers.len()),
            Self::Words(words, _) => Some(words.len()),
        }
    }

    /// Elements that make one place.
    fn width(&self) -> usize {
        match self {
            Self::Rows(limits) => limits.len().max(1),
            Self::Numbers(_) | Self::Words(..) => 1,
        }
    }

    /// The places that are in a tensor.
    fn places(&self, tensor: &Tensor) -> Vec<usize> {
        match self {
            Self::Rows(limits) => {
                let values = tensor.to_f64().unwrap_or_default();
                let rows = values.chunks_exact(self.width());
                rows.filter_map(|coordinates| place(limits, coordinates))
                    .collect()
            }
            Self::Numbers(numbers) => {
                let values = tensor.to_i64().unwrap_or_default();
                let found = values
                    .iter()
                    .filter_map(|value| numbers.binary_search(value).ok());
                found.collect()
            }
            Self::Words(_, places) => {
                let words = tensor.strings().into_iter().flatten();
                words.filter_map(|word| places.get(word).copied()).collect()
            }
        }
    }

    /// A tensor like `like` that holds these places, over and over where it has room for more.
    fn tensor(&self, like: &Tensor, places: &[usize], rng: &mut ChaCha8Rng) -> Result<Tensor, TensorError> {
        let (dims, width) = (like.dims(), self.width());
        let at = |element: usize| {
            let turn = (element / width).checked_rem(places.len()).unwrap_or(0);
            places.get(turn).copied().unwrap_or(0)
        };
        let elements = 0..like.elements() as usize;
        let values: Vec<f64> = match self {
            Self::Words(words, _) => {
                let held = elements.filter_map(|element| words.get(at(element)).cloned());
                return Tensor::from_strings(dims, held.collect::<Vec<Bytes>>());
            }
            Self::Numbers(numbers) => elements
                .map(|element| numbers.get(at(element)).copied().unwrap_or(0) as f64)
                .collect(),
            Self::Rows(limits) => elements
                .map(|element| coordinate(limits, at(element), element % width) as f64)
                .collect(),
        };
        encode(like.dtype(), dims, &values, rng)
    }
}

/// The place with these coordinates, which may count from the end; `None` outside of the table.
fn place(limits: &[i64], coordinates: &[f64]) -> Option<usize> {
    coordinates
        .iter()
        .zip(limits)
        .try_fold(0, |place, (value, limit)| {
            let value = *value as i64;
            let value = if value < 0 {
                value.checked_add(*limit)?
            } else {
                value
            };
            let inside = (0..*limit).contains(&value);
            inside.then_some(place * *limit as usize + value as usize)
        })
}

/// Coordinate number `axis` of a place.
fn coordinate(limits: &[i64], place: usize, axis: usize) -> usize {
    let behind: usize = limits
        .iter()
        .skip(axis + 1)
        .map(|limit| *limit as usize)
        .product();
    let limit = limits.get(axis).map_or(1, |limit| *limit as usize);
    place / behind.max(1) % limit.max(1)
}

/// One input, and which of its places were read.
#[derive(Debug)]
struct Choice {
    input: String,
    dims: Vec<InputDim>,
    among: Among,
    taken: Vec<bool>,
}

impl Choice {
    fn of(plan: &InputPlan, strange: bool) -> Option<Self> {
        let among = Among::of(plan, strange)?;
        let count = among.count().filter(|count| (1..=MOST).contains(count))?;
        Some(Self {
            input: plan.name.clone(),
            dims: plan.dims.clone(),
            among,
            taken: vec![false; count],
        })
    }

    /// The places that no sample read.
    fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        let places = self.taken.iter().enumerate();
        places.filter(|(_, taken)| !**taken).map(|(place, _)| place)
    }

    /// How many places one sample reads at these sizes.
    fn room(&self, sizes: &Sizes) -> usize {
        let elements = self.dims.iter().try_fold(1usize, |product, dim| {
            product.checked_mul(usize::try_from(dim.size(sizes)).ok()?)
        });
        elements.unwrap_or(0) / self.among.width()
    }

    /// What was not read, in words.
    fn remark(&self) -> Option<String> {
        let (all, missing) = (self.taken.len(), self.missing().count());
        let read = all - missing;
        (missing > 0).then(|| match &self.among {
            Among::Rows(_) => format!(
                "{read} of the {all} rows that input {} picks from were read: what differs in the others alone does \
                 not show",
                self.input
            ),
            Among::Numbers(_) | Among::Words(..) => format!(
                "{read} of the {all} values that input {} is compared with were tried: what differs for the others \
                 alone does not show",
                self.input
            ),
        })
    }
}

/// What samples left out of one choice: its number, those places, and how many of them one sample reads.
struct Rest {
    choice: usize,
    missing: Vec<usize>,
    room: usize,
}

/// What samples have read so far.
#[derive(Debug, Default)]
pub(super) struct Coverage(Vec<Choice>);

impl Coverage {
    /// Nothing yet, of what the samples of a synthesizer choose among; where `strange` of what the models may refuse.
    pub(super) fn of(synthesizer: &Synthesizer, strange: bool) -> Self {
        let plans = synthesizer.inputs.iter();
        Self(plans.filter_map(|plan| Choice::of(plan, strange)).collect())
    }

    /// Counts what a sample reads.
    pub(super) fn add(&mut self, inputs: &RunValues) {
        for choice in &mut self.0 {
            let Some(RunValue::Tensor(tensor)) = inputs.get(&choice.input) else {
                continue;
            };
            for place in choice.among.places(tensor) {
                if let Some(taken) = choice.taken.get_mut(place) {
                    *taken = true;
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.0.iter().all(|choice| choice.missing().next().is_none())
    }

    fn remarks(&self) -> Vec<String> {
        self.0.iter().filter_map(Choice::remark).collect()
    }

    /// Larger sizes, at which fewer samples read the rest.
    fn roomier(&self, free: &[FreeDim], worked: &Sizes) -> Vec<Sizes> {
        let mut found: Vec<Sizes> = Vec::new();
        for choice in &self.0 {
            let missing = choice.missing().count();
            let room = choice.room(worked);
            if room == 0 || missing.div_ceil(room) <= FEW {
                continue;
            }
            let most = ROOM.min(ELEMENTS / choice.taken.len().max(1)).max(room);
            let wanted = missing.min(most) * choice.among.width();
            for sizes in sizes::roomier(free, worked, &choice.dims, wanted as i64) {
                if !found.contains(&sizes) {
                    found.push(sizes);
                }
            }
        }
        found.truncate(LARGER);
        found
    }

    /// What is left to read in so many samples at these sizes.
    fn rest(&self, sizes: &Sizes, samples: usize) -> Vec<Rest> {
        let rest = |(number, choice): (usize, &Choice)| {
            let room = choice.room(sizes);
            let missing: Vec<usize> = choice.missing().take(room.saturating_mul(samples)).collect();
            (!missing.is_empty()).then_some(Rest {
                choice: number,
                missing,
                room,
            })
        };
        self.0.iter().enumerate().filter_map(rest).collect()
    }

    /// Sample number `at` of those that read the rest: each input in turn with what it has not held yet.
    fn sample(
        &self,
        synthesizer: &Synthesizer,
        (sizes, seed): (&Sizes, u64),
        rest: &[Rest],
        at: usize,
    ) -> Option<Trial> {
        let index = (3 << 32) + at as u64;
        let mut inputs = synthesizer.sample(sizes, SampleKind::Normal, seed, index).ok()?;
        for part in rest {
            let from = (at * part.room).min(part.missing.len());
            let places = part.missing.get(from..part.missing.len().min(from + part.room))?;
            let choice = self.0.get(part.choice)?;
            let Some(RunValue::Tensor(like)) = inputs.get(&choice.input) else {
                continue;
            };
            if places.is_empty() {
                continue;
            }
            let mut rng = generator(seed, index, &choice.input);
            let tensor = choice.among.tensor(like, places, &mut rng).ok()?;
            inputs.insert(choice.input.clone(), RunValue::Tensor(tensor));
        }
        Some(Trial::of(SampleKind::Normal, inputs))
    }
}

impl Pair<'_> {
    /// Reads what no sample has read so far, as far as that is little work, and notes what is left.
    pub(super) fn cover(
        &mut self,
        synthesizer: &Synthesizer,
        inferred: &Model,
        free: &[FreeDim],
        worked: &Sizes,
    ) {
        self.cover_rest(synthesizer, inferred, free, worked);
        if self.broken.is_none() {
            let remarks = self.coverage.remarks();
            self.remarks.extend(remarks);
        }
        // A reference that refuses these says nothing about the others.
        self.coverage = Coverage::of(synthesizer, true);
        self.cover_rest(synthesizer, inferred, free, worked);
    }

    fn cover_rest(&mut self, synthesizer: &Synthesizer, inferred: &Model, free: &[FreeDim], worked: &Sizes) {
        if self.coverage.is_complete() {
            return;
        }
        let mut tried = if is_large(self.reference) {
            Vec::new()
        } else {
            self.coverage.roomier(free, worked)
        };
        tried.push(worked.clone());
        for sizes in tried {
            if self.broken.is_some() || self.coverage.is_complete() {
                break;
            }
            let Some(sizes) = self.affordable(inferred, sizes, worked) else {
                continue;
            };
            let operators = self.reference.graph.operator_count().max(1) as u64;
            let work = self.work(inferred, &sizes).max(1);
            let most = SAMPLES.min(BUDGET / work).min(OPERATORS / operators);
            self.cover_at(synthesizer, &sizes, most as usize);
        }
        // These sizes and words are no demand on the reference.
        self.forget_reference();
    }

    /// These sizes, or smaller ones down to those that worked, at which a run is little work.
    fn affordable(&self, inferred: &Model, mut sizes: Sizes, worked: &Sizes) -> Option<Sizes> {
        while self.work(inferred, &sizes) > AFFORDABLE {
            let mut smaller = false;
            for (name, size) in &mut sizes {
                let least = worked.get(name).copied().unwrap_or(1);
                if *size > least {
                    *size = (*size / 2).max(least);
                    smaller = true;
                }
            }
            if !smaller {
                return None;
            }
        }
        Some(sizes)
    }

    fn cover_at(&mut self, synthesizer: &Synthesizer, sizes: &Sizes, most: usize) {
        let rest = self.coverage.rest(sizes, most);
        let samples = rest.iter().map(|part| part.missing.len().div_ceil(part.room));
        let count = samples.max().unwrap_or(0);
        if count == 0 {
            return;
        }
        if self.clock.over() {
            self.cut_short = true;
            return;
        }
        let shapes = session::shapes_under(self.reference, sizes);
        let Ok(sessions) = self.compile(&shapes) else {
            return;
        };
        let mut ran = false;
        for first in (0..count).step_by(AT_ONCE) {
            if first > 0 && self.clock.over() {
                self.cut_short = true;
                break;
            }
            let numbers = first..count.min(first + AT_ONCE);
            let drawn = numbers.map(|at| {
                let from = (sizes, self.options.seed);
                self.coverage.sample(synthesizer, from, &rest, at)
            });
            let Some(samples) = drawn.collect::<Option<Vec<Trial>>>() else {
                break;
            };
            if !matches!(self.run(&sessions, &samples, None), Attempt::Done) {
                break;
            }
            self.planned += samples.len() as u64;
            ran = true;
        }
        if ran && !self.sizes.contains(sizes) && !self.further.contains(sizes) && !sizes.is_empty() {
            self.further.push(sizes.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::landmarks::Landmarks;
    use super::*;
    use crate::format::{ExternalFiles, lift, text};

    fn model(text: &str) -> Model {
        let text = format!("<ir_version: 10, opset_import: [\"\" : 21, \"ai.onnx.ml\" : 4]> {text}");
        lift(text::parse_model(&text).unwrap(), &ExternalFiles::default()).unwrap()
    }

    #[test]
    fn keys_of_the_reference_come_first_and_those_of_the_model_alone_apart() {
        let encoder = |keys: &str| {
            model(&format!(
                "g (string[N] s) => (int64[N] y) \
                 {{ y = ai.onnx.ml.LabelEncoder<keys_strings = [{keys}], values_int64s = [1, 2]>(s) }}"
            ))
        };
        let (reference, other) = (encoder("\"k\", \"l\""), encoder("\"k\", \"m\""));
        let synthesizer = Synthesizer::new(&reference).around(Landmarks::of([&reference, &other]));
        for (strange, wanted) in [(false, &["k", "l"][..]), (true, &["m"][..])] {
            let coverage = Coverage::of(&synthesizer, strange);
            let Among::Words(words, _) = &coverage.0[0].among else {
                panic!("{coverage:?}");
            };
            assert_eq!(words, wanted, "{strange}");
        }
    }

    #[test]
    fn tables_are_read_by_the_coordinates_that_their_indices_have() {
        let among = |indices: &str| {
            let model = model(&format!(
                "g (int64[{indices}] i, float[5, 3] t) => (float[a, b] y) {{ y = GatherND(t, i) }}"
            ));
            Coverage::of(&Synthesizer::new(&model), false).0.remove(0).among
        };
        assert_eq!(among("N, 1"), Among::Rows(vec![5]));
        assert_eq!(among("N, 2"), Among::Rows(vec![5, 3]));
    }

    #[test]
    fn places_have_coordinates_and_coordinates_places() {
        let among = Among::Rows(vec![3, 4]);
        assert_eq!((among.count(), among.width()), (Some(12), 2));
        let like = Tensor::from_slice::<i64>(&[3, 2], &[0; 6]).unwrap();
        let mut rng = generator(0, 0, "x");
        let tensor = among.tensor(&like, &[11, 4], &mut rng).unwrap();
        assert_eq!(tensor.to_i64().unwrap(), [2, 3, 1, 0, 2, 3]);
        assert_eq!(among.places(&tensor), [11, 4, 11]);
        assert_eq!(place(&[3, 4], &[-1.0, -4.0]), Some(8));
        assert_eq!(place(&[3, 4], &[3.0, 0.0]), None);
    }

    #[test]
    fn numbers_and_words_are_found_again() {
        let mut rng = generator(0, 0, "x");
        let numbers = Among::Numbers(vec![-5, 7, 9]);
        let like = Tensor::from_slice::<i32>(&[2], &[0; 2]).unwrap();
        let tensor = numbers.tensor(&like, &[0, 2], &mut rng).unwrap();
        assert_eq!(tensor.to_i64().unwrap(), [-5, 9]);
        assert_eq!(numbers.places(&tensor), [0, 2]);
        let held = ["abc", "abd"].map(Bytes::from);
        let words = Among::Words(held.to_vec(), held.into_iter().zip(0..).collect());
        let like = Tensor::from_strings(&[3], vec![Bytes::new(); 3]).unwrap();
        let tensor = words.tensor(&like, &[1], &mut rng).unwrap();
        assert_eq!(tensor.strings().unwrap(), ["abd"; 3]);
        assert_eq!(words.places(&tensor), [1, 1, 1]);
    }
}
