//! The tensors of a PyTorch state dict, by the layer that they belong to.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Tensor, TensorError};

/// A tensor that a layer has, and the tensors of the file that it is made from.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) names: Vec<String>,
    pub(super) tensor: Tensor,
}

/// The tensors of one layer by their last word: `weight`, `bias`, `running_mean`, `weight_ih_l0`.
pub(super) type Layer = BTreeMap<String, Item>;

/// Layers by *stem*: what comes before the last word. The weight of the stem `enc.q_proj.` is `enc.q_proj.weight`, that of
/// `attn.in_proj_` is `attn.in_proj_weight`; a parameter without such a word is a layer of its own, whose word is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    by_stem: BTreeMap<String, Layer>,
}

/// A tensor of the file under the name that the target has for it.
#[derive(Clone, Debug)]
pub(super) struct Named<'t> {
    pub(super) name: String,
    pub(super) original: &'t str,
    pub(super) tensor: &'t Tensor,
}

/// Stem and last word of a name.
pub(super) fn split(name: &str) -> (&str, &str) {
    const PARAMETRIZED: [&str; 2] = [
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ];
    if let Some(at) = PARAMETRIZED.iter().find_map(|ending| {
        let rest = name.strip_suffix(ending)?;
        (rest.is_empty() || rest.ends_with('.')).then_some(rest.len())
    }) {
        return name.split_at(at);
    }
    let last = name.rfind('.').map_or(0, |dot| dot + 1);
    let word = name.get(last..).unwrap_or("");
    let whole = matches!(
        word,
        "running_mean" | "running_var" | "num_batches_tracked" | "gamma" | "beta" | "weight_g" | "weight_v"
    );
    if whole || is_recurrent(word) {
        return name.split_at(last);
    }
    match ["weight", "bias"].iter().find(|ending| word.ends_with(*ending)) {
        Some(ending) => name.split_at(name.len() - ending.len()),
        None => (name, ""),
    }
}

/// `weight_ih_l0`, `bias_hh_l2_reverse`.
fn is_recurrent(word: &str) -> bool {
    [
        "weight_ih_l",
        "weight_hh_l",
        "weight_hr_l",
        "bias_ih_l",
        "bias_hh_l",
    ]
    .iter()
    .filter_map(|start| word.strip_prefix(start))
    .any(|rest| {
        let number = rest.strip_suffix("_reverse").unwrap_or(rest);
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl Layers {
    /// # Errors
    /// When the numbers of a weight in parts cannot be read.
    pub(super) fn new(tensors: &[Named<'_>]) -> Result<Self, TensorError> {
        let mut layers = Self::default();
        for named in tensors {
            let (stem, word) = split(&named.name);
            let item = Item {
                names: vec![named.original.to_owned()],
                tensor: named.tensor.clone(),
            };
            layers
                .by_stem
                .entry(stem.to_owned())
                .or_default()
                .insert(word.to_owned(), item);
        }
        for layer in layers.by_stem.values_mut() {
            for (old, new) in [("gamma", "weight"), ("beta", "bias")] {
                if !layer.contains_key(new)
                    && let Some(item) = layer.remove(old)
                {
                    layer.insert(new.to_owned(), item);
                }
            }
            for (size, direction) in [
                ("weight_g", "weight_v"),
                (
                    "parametrizations.weight.original0",
                    "parametrizations.weight.original1",
                ),
            ] {
                if let (Some(size), Some(direction)) = (layer.get(size), layer.get(direction))
                    && let Some(item) = scaled(size, direction)?
                {
                    layer.insert("weight".to_owned(), item);
                }
            }
        }
        Ok(layers)
    }

    pub(super) fn get(&self, stem: &str) -> Option<&Layer> {
        self.by_stem.get(stem)
    }

    pub(super) fn item(&self, name: &str) -> Option<&Item> {
        let (stem, word) = split(name);
        self.by_stem.get(stem)?.get(word)
    }

    /// Stems of batch normalisations.
    pub(super) fn norms(&self) -> BTreeSet<&str> {
        let of = self.by_stem.iter().filter(|(_, layer)| is_batch_norm(layer));
        of.map(|(stem, _)| stem.as_str()).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Layer)> {
        self.by_stem.iter().map(|(stem, layer)| (stem.as_str(), layer))
    }
}

/// Whether a layer is a batch normalisation.
pub(super) fn is_batch_norm(layer: &Layer) -> bool {
    layer.contains_key("running_mean") && layer.contains_key("running_var")
}

/// A weight that is stored as size and direction, a size each output channel: g · v / |v|.
///
/// Source: Salimans and Kingma, Weight Normalization (2016).
fn scaled(size: &Item, direction: &Item) -> Result<Option<Item>, TensorError> {
    let dims = direction.tensor.dims();
    let outputs = dims.first().copied().unwrap_or(0);
    let each = size.tensor.dims().first() == Some(&outputs) && size.tensor.elements() == outputs;
    if !each || outputs == 0 || dims.len() < 2 {
        return Ok(None);
    }
    let (sizes, mut values) = (size.tensor.to_f64()?, direction.tensor.to_f64()?);
    let width = (values.len() / outputs as usize).max(1);
    for (row, size) in values.chunks_mut(width).zip(sizes) {
        let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.iter_mut().for_each(|value| *value *= size / length);
    }
    Ok(Some(Item {
        names: size.names.iter().chain(&direction.names).cloned().collect(),
        tensor: Tensor::from_f64(direction.tensor.dtype(), dims, &values)?,
    }))
}

/// Whether a tensor of a state dict is a buffer that an export has no weight for: counters, positions, masks, tables of angles.
pub(super) fn is_buffer(name: &str, tensor: &Tensor) -> bool {
    let word = name.rsplit('.').next().unwrap_or(name);
    let mask = tensor.rank() == 4 && {
        let dims = tensor.dims();
        word == "bias" && dims.first() == Some(&1) && dims.get(1) == Some(&1) && dims.get(2) == dims.get(3)
    };
    !tensor.dtype().is_float()
        || mask
        || matches!(
            word,
            "num_batches_tracked"
                | "position_ids"
                | "token_type_ids"
                | "relative_position_index"
                | "inv_freq"
                | "masked_bias"
                | "attn_mask"
                | "causal_mask"
        )
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn names_have_a_stem_and_a_word() {
        for (name, parts) in [
            ("enc.q_proj.weight", ("enc.q_proj.", "weight")),
            ("attn.in_proj_bias", ("attn.in_proj_", "bias")),
            ("lstm.weight_ih_l0_reverse", ("lstm.", "weight_ih_l0_reverse")),
            ("bn.running_mean", ("bn.", "running_mean")),
            ("pos_embed", ("pos_embed", "")),
            ("weight", ("", "weight")),
            (
                "c.parametrizations.weight.original1",
                ("c.", "parametrizations.weight.original1"),
            ),
        ] {
            assert_eq!(split(name), parts);
        }
    }
}
