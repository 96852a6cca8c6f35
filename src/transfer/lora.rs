//! Low-rank adapters: pairs of matrices whose product is added to a weight.
//!
//! Sources: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2022); for convolutions with a middle tensor Lebedev et al.,
//! Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition (2015).

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, ArrayView2};

use crate::ir::{Tensor, TensorError};

/// Endings of the names of the two matrices, the inner one first.
const ENDINGS: [(&str, &str); 4] = [
    (".lora_A", ".lora_B"),
    (".lora_embedding_A", ".lora_embedding_B"),
    (".lora_down", ".lora_up"),
    (".lora.down", ".lora.up"),
];

/// Endings of the names of the tensor between the two of a convolution.
const MIDDLE: [&str; 2] = [".lora_mid", ".lora.mid"];

/// How the words begin by which other kinds of adapters call their tensors.
const KINDS: [(&str, &str); 22] = [
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    ("lora_magnitude_vector", "DoRA"),
    ("dora_scale", "DoRA"),
    ("ia3_", "(IA)3"),
    ("on_input", "(IA)3"),
    ("lora_E", "AdaLoRA"),
    ("ranknum", "AdaLoRA"),
    ("oft_", "OFT"),
    ("boft_", "BOFT"),
    ("vera_", "VeRA"),
    ("fourierft_", "FourierFT"),
    ("vblora_", "VB-LoRA"),
    ("randlora_", "RandLoRA"),
    ("hra_", "HRA"),
    ("bone_", "Bone"),
    ("lora_bias", "LoRA with biases"),
    ("lora_ga", "LoRA-GA"),
    ("diff", "whole-difference"),
    ("w_norm", "normalisation"),
    ("b_norm", "normalisation"),
    ("glora_", "GLoRA"),
];

/// What kohya's scripts put in front of module names, whose dots they write as underscores.
pub const KOHYA: [&str; 7] = [
    "lora_unet_",
    "lora_te_",
    "lora_te1_",
    "lora_te2_",
    "lora_te3_",
    "lora_transformer_",
    "lycoris_",
];

/// How PEFT marks the weights that it has trained whole.
const WHOLE: &str = ".modules_to_save.";

/// What PEFT puts in front of module names.
const WRAPPERS: [&str; 2] = ["base_model.model.", "base_model."];

/// Why a file is no adapter.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum LoraError {
    /// A tensor is none of an adapter.
    #[error("{name} is no part of a low-rank adapter")]
    Unknown {
        /// The tensor.
        name: String,
    },
    /// A tensor is of another kind of adapter.
    #[error("{name} is of a {kind} adapter; only LoRA is merged")]
    Kind {
        /// The tensor.
        name: String,
        /// What the kind is called.
        kind: &'static str,
    },
    /// A number that is none.
    #[error("{name} holds {found} at element {at}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// What it holds.
        found: f64,
        /// Where.
        at: usize,
    },
    /// One matrix of a pair is not there.
    #[error("{module} has no {missing} matrix")]
    Half {
        /// The module.
        module: String,
        /// `inner` or `outer`.
        missing: &'static str,
    },
    /// The matrices do not fit each other.
    #[error("{module}: the matrices are {inner:?} and {outer:?}, which have no product")]
    Shapes {
        /// The module.
        module: String,
        /// Dimensions of the inner matrix.
        inner: Vec<u64>,
        /// Dimensions of the outer one.
        outer: Vec<u64>,
    },
    /// A tensor does not hold what it declares.
    #[error("{name}: {source}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
    /// Nothing is in the file.
    #[error("there is no adapter in it")]
    Empty,
}

/// What is added to the weight of one module: `scale · outer · inner`.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// `B`, `[O, R]`, and behind the first axis a kernel of ones for a convolution.
    pub outer: Tensor,
    /// `[R, R, kernel...]` between both, for a convolution whose inner matrix has a kernel of ones.
    pub middle: Option<Tensor>,
    /// `A`, `[R, I]` or `[R, I, kernel...]`.
    pub inner: Tensor,
    /// The file's own alpha.
    pub alpha: Option<f64>,
    /// Whether the module looks up rows: its weight is `[rows, features]`, and `A` is `[R, rows]`.
    pub embedding: bool,
}

/// What a file of an adapter holds.
#[derive(Clone, Debug, Default)]
pub struct AdapterFile {
    /// Low-rank adapters by module, without what PEFT puts in front of names.
    pub adapters: BTreeMap<String, Adapter>,
    /// Weights that were trained whole (`modules_to_save`), by name.
    pub whole: Vec<(String, Tensor)>,
}

#[derive(Default)]
struct Parts<'t> {
    inner: Option<&'t Tensor>,
    middle: Option<&'t Tensor>,
    outer: Option<&'t Tensor>,
    embedding: bool,
}

/// The adapters of a file.
///
/// # Errors
/// When a tensor is none of an adapter or one of another kind, holds a number that is none, or a pair is not whole.
pub fn adapters(tensors: &[(String, Tensor)]) -> Result<AdapterFile, LoraError> {
    let mut halves: BTreeMap<String, Parts<'_>> = BTreeMap::new();
    let mut alphas: BTreeMap<String, f64> = BTreeMap::new();
    let mut file = AdapterFile::default();
    for (name, tensor) in tensors {
        finite(name, tensor)?;
        let unknown = || LoraError::Unknown { name: name.clone() };
        if let Some(module) = name.strip_suffix(".alpha") {
            let alpha = tensor.to_f64().ok().and_then(|values| values.first().copied());
            alphas.insert(
                plain(module),
                alpha.filter(|_| tensor.elements() == 1).ok_or_else(unknown)?,
            );
            continue;
        }
        let Some((module, slot, embedding)) = placed(name) else {
            if let Some(kind) = kind(name) {
                return Err(LoraError::Kind {
                    name: name.clone(),
                    kind,
                });
            }
            file.whole
                .push((whole(name).ok_or_else(unknown)?, tensor.clone()));
            continue;
        };
        let entry = halves.entry(plain(module)).or_default();
        entry.embedding |= embedding;
        let slot = match slot {
            Half::Inner => &mut entry.inner,
            Half::Middle => &mut entry.middle,
            Half::Outer => &mut entry.outer,
        };
        if slot.replace(tensor).is_some() {
            return Err(unknown());
        }
    }
    if halves.is_empty() {
        return Err(LoraError::Empty);
    }
    for (module, parts) in halves {
        let half = |missing| LoraError::Half {
            module: module.clone(),
            missing,
        };
        let adapter = Adapter {
            inner: parts.inner.ok_or_else(|| half("inner"))?.clone(),
            middle: parts.middle.cloned(),
            outer: parts.outer.ok_or_else(|| half("outer"))?.clone(),
            alpha: alphas.remove(&module),
            embedding: parts.embedding,
        };
        adapter.check(&module)?;
        file.adapters.insert(module, adapter);
    }
    match alphas.into_keys().next() {
        Some(module) => Err(LoraError::Half {
            module,
            missing: "inner",
        }),
        None => Ok(file),
    }
}

#[derive(Clone, Copy)]
enum Half {
    Inner,
    Middle,
    Outer,
}

/// The kind of adapter that a tensor's name tells of.
fn kind(name: &str) -> Option<&'static str> {
    if name.ends_with(".bias") && name.contains(".lora") {
        return Some("LoRA with biases");
    }
    let rest = name.strip_suffix(".weight").unwrap_or(name);
    let mut words = rest.rsplit('.').take(2);
    words.find_map(|word| {
        let known = KINDS.iter().find(|(start, _)| match *start {
            "diff" => word == "diff" || word == "diff_b",
            start => word.starts_with(start),
        });
        known.map(|(_, kind)| *kind)
    })
}

/// The module of a tensor's name, which of its tensors it is, and whether rows are looked up.
fn placed(name: &str) -> Option<(&str, Half, bool)> {
    let pairs = ENDINGS
        .iter()
        .flat_map(|(inner, outer)| [(*inner, Half::Inner), (*outer, Half::Outer)]);
    let middle = MIDDLE.iter().map(|ending| (*ending, Half::Middle));
    pairs.chain(middle).find_map(|(ending, half)| {
        let at = name.rfind(ending)?;
        let rest = name.get(at + ending.len()..)?;
        // `.weight` and the adapter's own name may follow.
        let rest = rest.strip_suffix(".weight").unwrap_or(rest);
        let own_name = rest.is_empty()
            || rest
                .strip_prefix('.')
                .is_some_and(|own| !own.contains('.') && own != "bias");
        own_name.then_some((name.get(..at)?, half, ending.contains("embedding")))
    })
}

/// The name of a weight that is stored whole.
fn whole(name: &str) -> Option<String> {
    let is_part = [".lora", ".original_module."]
        .iter()
        .any(|word| name.contains(word));
    let known = [".weight", ".bias", ".running_mean", ".running_var"]
        .iter()
        .any(|ending| name.ends_with(ending));
    if is_part || !known {
        return None;
    }
    let name = plain(name);
    Some(match name.split_once(WHOLE) {
        // The name of the adapter follows, where it is there.
        Some((module, rest)) => {
            let word = rest.rsplit('.').next().unwrap_or(rest);
            format!("{module}.{word}")
        }
        None => name,
    })
}

/// Refuses a tensor with a number that is none.
fn finite(name: &str, tensor: &Tensor) -> Result<(), LoraError> {
    let values = tensor.to_f64().map_err(|source| LoraError::Tensor {
        name: name.to_owned(),
        source,
    })?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(LoraError::NotFinite {
            name: name.to_owned(),
            found: values.get(at).copied().unwrap_or(f64::NAN),
            at,
        }),
        None => Ok(()),
    }
}

/// A module's name without what kohya's scripts put in front of it, if that is there.
pub fn without_kohya(module: &str) -> Option<&str> {
    KOHYA.iter().find_map(|prefix| module.strip_prefix(prefix))
}

/// Modules that are one once the prefixes of kohya's scripts are gone, as those of two text encoders.
pub fn twins<'m>(modules: impl Iterator<Item = &'m String>) -> Option<(String, String)> {
    let mut known: BTreeMap<&str, &String> = BTreeMap::new();
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    for module in modules {
        if let Some(short) = without_kohya(module)
            && seen.insert(module)
            && let Some(first) = known.insert(short, module)
        {
            return Some((first.clone(), module.clone()));
        }
    }
    None
}

fn plain(module: &str) -> String {
    let stripped = WRAPPERS.iter().find_map(|wrapper| module.strip_prefix(wrapper));
    stripped.unwrap_or(module).to_owned()
}

impl Adapter {
    /// R, the number of rows of the inner matrix.
    pub fn rank(&self) -> u64 {
        self.inner.dims().first().copied().unwrap_or(0)
    }

    fn check(&self, module: &str) -> Result<(), LoraError> {
        let (inner, outer) = (self.inner.dims(), self.outer.dims());
        let points = |dims: &[u64]| dims.iter().skip(2).all(|size| *size == 1);
        let linked = match self.middle.as_ref().map(Tensor::dims) {
            None => outer.get(1) == inner.first(),
            Some(middle) => {
                middle.len() > 2
                    && middle.len() == inner.len()
                    && points(inner)
                    && middle.first() == outer.get(1)
                    && middle.get(1) == inner.first()
            }
        };
        if inner.len() >= 2 && outer.len() >= 2 && points(outer) && linked && self.rank() > 0 {
            return Ok(());
        }
        Err(LoraError::Shapes {
            module: module.to_owned(),
            inner: inner.to_vec(),
            outer: outer.to_vec(),
        })
    }

    /// Dimensions of what is added: `[O, I]` or `[O, I, kernel...]`.
    pub fn dims(&self) -> Vec<u64> {
        let mut dims: Vec<u64> = self.outer.dims().first().copied().into_iter().collect();
        dims.extend(self.inner.dims().get(1));
        let kernel = self.middle.as_ref().unwrap_or(&self.inner);
        dims.extend(kernel.dims().iter().skip(2));
        dims
    }

    /// `outer · inner` `[O, I · kernel]`, with what stands between them.
    ///
    /// # Errors
    /// When a tensor holds no numbers.
    pub fn product(&self, module: &str) -> Result<Array2<f64>, LoraError> {
        let failed = |source| LoraError::Tensor {
            name: module.to_owned(),
            source,
        };
        let shapes = || LoraError::Shapes {
            module: module.to_owned(),
            inner: self.inner.dims().to_vec(),
            outer: self.outer.dims().to_vec(),
        };
        let matrix = |tensor: &Tensor, rows: u64| -> Result<Array2<f64>, LoraError> {
            let values = tensor.to_f64().map_err(failed)?;
            let columns = values.len() / (rows as usize).max(1);
            let view = ArrayView2::from_shape((rows as usize, columns), &values).map_err(|_| shapes())?;
            Ok(view.to_owned())
        };
        let rows = |tensor: &Tensor| tensor.dims().first().copied().unwrap_or(0);
        let outer = matrix(&self.outer, rows(&self.outer))?;
        let inner = matrix(&self.inner, rows(&self.inner))?;
        let Some(middle) = &self.middle else {
            return match outer.ncols() == inner.nrows() {
                true => Ok(outer.dot(&inner)),
                false => Err(shapes()),
            };
        };
        // delta[o, i, k] = sum over r and s of outer[o, r] middle[r, s, k] inner[s, i]
        let places = middle.dims().iter().skip(2).product::<u64>() as usize;
        let cells = matrix(middle, rows(middle))?;
        let (ranks, inputs) = (inner.nrows(), inner.ncols());
        if cells.ncols() != ranks * places || outer.ncols() != cells.nrows() {
            return Err(shapes());
        }
        let left = outer.dot(&cells);
        let mut product = Array2::zeros((outer.nrows(), inputs * places));
        for ((o, column), value) in left.indexed_iter() {
            let (s, place) = (column / places, column % places);
            for (i, factor) in inner.row(s).iter().enumerate() {
                product[[o, i * places + place]] += value * factor;
            }
        }
        Ok(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[(&str, &[u64])]) -> Vec<(String, Tensor)> {
        names
            .iter()
            .map(|(name, dims)| {
                let values = vec![1.0f32; dims.iter().product::<u64>() as usize];
                ((*name).to_owned(), Tensor::from_slice(dims, &values).unwrap())
            })
            .collect()
    }

    #[test]
    fn names_of_the_usual_writers_are_understood() {
        let found = adapters(&named(&[
            ("base_model.model.a.q.lora_A.weight", &[2, 3]),
            ("base_model.model.a.q.lora_B.weight", &[4, 2]),
            ("a.v.lora_A.default.weight", &[2, 3]),
            ("a.v.lora_B.default.weight", &[4, 2]),
            ("unet_mid.lora_down.weight", &[1, 3, 3, 3]),
            ("unet_mid.lora_up.weight", &[5, 1, 1, 1]),
            ("unet_mid.alpha", &[]),
            ("words.lora_embedding_A", &[2, 9]),
            ("words.lora_embedding_B", &[6, 2]),
        ]))
        .unwrap()
        .adapters;
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.q", "a.v", "unet_mid", "words"]);
        assert_eq!((found["a.q"].rank(), found["a.q"].alpha), (2, None));
        assert_eq!(found["unet_mid"].alpha, Some(1.0));
        assert!(found["words"].embedding);
        assert_eq!(found["unet_mid"].product("").unwrap().dim(), (5, 27));
    }

    #[test]
    fn a_middle_tensor_stands_between_the_matrices() {
        let file = adapters(&named(&[
            ("c.lora_down.weight", &[2, 3, 1, 1]),
            ("c.lora_mid.weight", &[2, 2, 3, 3]),
            ("c.lora_up.weight", &[4, 2, 1, 1]),
        ]))
        .unwrap();
        let adapter = &file.adapters["c"];
        assert_eq!(adapter.dims(), [4, 3, 3, 3]);
        // Two times two products of ones.
        let product = adapter.product("c").unwrap();
        assert_eq!(product.dim(), (4, 27));
        assert!(product.iter().all(|value| *value == 4.0));
    }

    #[test]
    fn weights_that_were_trained_whole_are_kept_apart() {
        let file = adapters(&named(&[
            ("base_model.model.q.lora_A.weight", &[2, 3]),
            ("base_model.model.q.lora_B.weight", &[4, 2]),
            ("base_model.model.head.modules_to_save.default.weight", &[5, 3]),
            ("base_model.model.head.bias", &[5]),
        ]))
        .unwrap();
        let names: Vec<&str> = file.whole.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["head.weight", "head.bias"]);
    }

    #[test]
    fn two_text_encoders_are_one_without_their_prefixes() {
        let names = [
            "lora_te1_a_q".to_owned(),
            "lora_te2_a_q".to_owned(),
            "lora_unet_b".to_owned(),
        ];
        assert_eq!(twins(names.iter()), Some((names[0].clone(), names[1].clone())));
        assert_eq!(twins(names[1..].iter()), None);
    }

    #[test]
    fn what_is_no_adapter_is_refused() {
        for (tensors, message) in [
            (named(&[("a.weight", &[2, 2])]), "no adapter"),
            (named(&[("a.table", &[2, 2])]), "a.table is no part"),
            (named(&[("a.hada_w1_a", &[2, 2])]), "LoHa"),
            (named(&[("a.lokr_w1", &[2, 2])]), "LoKr"),
            (named(&[("a.lora_magnitude_vector", &[2])]), "DoRA"),
            (named(&[("a.dora_scale", &[2, 1])]), "DoRA"),
            (named(&[("a.ia3_l", &[2, 1])]), "(IA)3"),
            (named(&[("a.lora_E", &[2, 1])]), "AdaLoRA"),
            (named(&[("a.lora_B.bias", &[2])]), "biases"),
            (named(&[("a.alpha", &[])]), "no adapter"),
            (named(&[("a.lora_A.weight", &[2, 2])]), "no outer matrix"),
            (named(&[("a.lora_B.weight", &[2, 2])]), "no inner matrix"),
            (
                named(&[("a.lora_A.weight", &[2, 3]), ("a.lora_B.weight", &[4, 3])]),
                "no product",
            ),
            (named(&[("a.lora_A.x.y.weight", &[2, 3])]), "no part"),
            (Vec::new(), "no adapter"),
        ] {
            let error = adapters(&tensors).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
