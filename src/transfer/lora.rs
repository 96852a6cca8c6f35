//! Low-rank adapters: pairs of matrices whose product is added to a weight.
//!
//! Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2022).

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};

use crate::ir::{Tensor, TensorError};

/// Endings of the names of the two matrices, the inner one first.
const ENDINGS: [(&str, &str); 4] = [
    (".lora_A", ".lora_B"),
    (".lora_embedding_A", ".lora_embedding_B"),
    (".lora_down", ".lora_up"),
    (".lora.down", ".lora.up"),
];

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
    /// `A`, `[R, I]` or `[R, I, kernel...]`.
    pub inner: Tensor,
    /// The file's own alpha.
    pub alpha: Option<f64>,
    /// Whether the module looks up rows: its weight is `[rows, features]`, and `A` is `[R, rows]`.
    pub embedding: bool,
}

/// The adapters of a file by module, without what PEFT puts in front of names.
///
/// # Errors
/// When a tensor is none of an adapter, or a pair is not whole.
pub fn adapters(tensors: &[(String, Tensor)]) -> Result<BTreeMap<String, Adapter>, LoraError> {
    let mut halves: BTreeMap<String, (Option<&Tensor>, Option<&Tensor>, bool)> = BTreeMap::new();
    let mut alphas: BTreeMap<String, f64> = BTreeMap::new();
    for (name, tensor) in tensors {
        let unknown = || LoraError::Unknown { name: name.clone() };
        if let Some(module) = name.strip_suffix(".alpha") {
            let alpha = tensor.to_f64().ok().and_then(|values| values.first().copied());
            alphas.insert(
                plain(module),
                alpha.filter(|_| tensor.elements() == 1).ok_or_else(unknown)?,
            );
            continue;
        }
        // `.weight` and the adapter's own name may follow.
        let found = ENDINGS.iter().find_map(|(inner, outer)| {
            [(inner, false), (outer, true)]
                .into_iter()
                .find_map(|(ending, is_outer)| {
                    let at = name.rfind(*ending)?;
                    let rest = name.get(at + ending.len()..)?;
                    let rest = rest.strip_suffix(".weight").unwrap_or(rest);
                    let own_name =
                        rest.is_empty() || rest.strip_prefix('.').is_some_and(|own| !own.contains('.'));
                    own_name.then(|| (name.get(..at), is_outer, ending.contains("embedding")))
                })
        });
        let Some((Some(module), is_outer, embedding)) = found else {
            return Err(unknown());
        };
        let entry = halves.entry(plain(module)).or_default();
        entry.2 = embedding;
        let slot = if is_outer { &mut entry.1 } else { &mut entry.0 };
        if slot.replace(tensor).is_some() {
            return Err(unknown());
        }
    }
    if halves.is_empty() {
        return Err(LoraError::Empty);
    }
    halves
        .into_iter()
        .map(|(module, (inner, outer, embedding))| {
            let half = |missing| LoraError::Half {
                module: module.clone(),
                missing,
            };
            let adapter = Adapter {
                inner: inner.ok_or_else(|| half("inner"))?.clone(),
                outer: outer.ok_or_else(|| half("outer"))?.clone(),
                alpha: alphas.get(&module).copied(),
                embedding,
            };
            adapter.check(&module)?;
            Ok((module, adapter))
        })
        .collect()
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
        let points = outer.iter().skip(2).all(|size| *size == 1);
        if inner.len() >= 2 && outer.len() >= 2 && points && outer.get(1) == inner.first() && self.rank() > 0
        {
            return Ok(());
        }
        Err(LoraError::Shapes {
            module: module.to_owned(),
            inner: inner.to_vec(),
            outer: outer.to_vec(),
        })
    }

    /// `outer · inner` `[O, I · kernel]`.
    ///
    /// # Errors
    /// When a tensor holds no numbers.
    pub fn product(&self, module: &str) -> Result<Array2<f64>, LoraError> {
        let failed = |source| LoraError::Tensor {
            name: module.to_owned(),
            source,
        };
        let (outer, inner) = (
            self.outer.to_f64().map_err(failed)?,
            self.inner.to_f64().map_err(failed)?,
        );
        let rank = self.rank() as usize;
        let matrix = |values: &'_ [f64], rows: usize| -> Option<Array2<f64>> {
            let view = ArrayView2::from_shape((rows, values.len() / rows.max(1)), values).ok()?;
            Some(view.to_owned())
        };
        let outer_rows = self.outer.dims().first().copied().unwrap_or(0) as usize;
        match (matrix(&outer, outer_rows), matrix(&inner, rank)) {
            (Some(outer), Some(inner)) if outer.ncols() == inner.nrows() => Ok(outer.dot(&inner)),
            _ => Err(LoraError::Shapes {
                module: module.to_owned(),
                inner: self.inner.dims().to_vec(),
                outer: self.outer.dims().to_vec(),
            }),
        }
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
        .unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.q", "a.v", "unet_mid", "words"]);
        assert_eq!((found["a.q"].rank(), found["a.q"].alpha), (2, None));
        assert_eq!(found["unet_mid"].alpha, Some(1.0));
        assert!(found["words"].embedding);
        assert_eq!(found["unet_mid"].product("").unwrap().dim(), (5, 27));
    }

    #[test]
    fn what_is_no_adapter_is_refused() {
        for (tensors, message) in [
            (named(&[("a.weight", &[2, 2])]), "a.weight is no part"),
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
