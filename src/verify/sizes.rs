//! Sizes for the free dimensions of a model's inputs, in the order in which they are tried.

use std::collections::BTreeMap;

use super::interface::Names;
use super::uses;
use crate::ir::{Dim, Model, NodeId, NodeKind, ValueType};
use crate::schema::nearest;

/// Sizes of free dimensions: by symbol, or as `input[axis]` for a dimension without a name.
pub type Sizes = BTreeMap<String, i64>;

/// What is wrong with sizes that name no free dimension of the inputs of `model`.
pub fn unknown_size(model: &Model, sizes: &Sizes) -> Option<String> {
    let mut known: Vec<String> = Vec::new();
    for input in required_inputs(model) {
        for dim in input_dims(model, input).unwrap_or_default() {
            let InputDim::Free(key) = dim else { continue };
            // A sum of symbols is set by its parts as well.
            let parts = key
                .split('+')
                .map(str::trim)
                .filter(|part| part.parse::<i64>().is_err());
            for name in std::iter::once(key.as_str()).chain(parts) {
                if !known.iter().any(|known| known == name) {
                    known.push(name.to_owned());
                }
            }
        }
    }
    let unknown = sizes.keys().find(|name| !known.contains(name))?;
    let hint = match nearest(unknown, known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean {name}?"),
        None if known.is_empty() => "the inputs have no free dimension".to_owned(),
        None => format!("the inputs have {}", known.join(", ")),
    };
    Some(format!("there is no free dimension {unknown}; {hint}"))
}

/// A dimension that no file fixes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FreeDim {
    key: String,
    ladder: &'static [i64],
    dictated: Option<i64>,
}

const BATCH: &[i64] = &[1, 2, 3, 4];
const CHANNELS: &[i64] = &[3, 1, 4, 2];
const SPATIAL: &[i64] = &[64, 96, 224, 32, 128, 320, 256, 48];
const SEQUENCE: &[i64] = &[8, 16, 7, 32, 64, 128, 1];
const FEATURES: &[i64] = &[4, 8, 2, 3, 1];

/// Attempts that are made before a model counts as not runnable.
const ATTEMPTS: usize = 20;

/// The input's dimensions, with `input[axis]` in place of nameless ones; `None` for what is no dense tensor.
pub(super) fn input_dims(model: &Model, input: NodeId) -> Option<Vec<InputDim>> {
    let node = model.graph.get(input)?;
    let value = node.outputs().first()?;
    let ty = element_type(&value.ty)?;
    // An unknown rank is taken for a matrix.
    let unknown = smallvec::smallvec![Dim::Unknown, Dim::Unknown];
    let shape = ty.shape().unwrap_or(&unknown);
    Some(
        shape
            .iter()
            .enumerate()
            .map(|(axis, dim)| match dim {
                Dim::Fixed(size) => InputDim::Fixed(*size),
                // Names that begin with `?` are no names: exporters write them for any size.
                Dim::Expr(_) if !dim.to_string().starts_with('?') => InputDim::Free(dim.to_string()),
                _ => InputDim::Free(format!("{}[{axis}]", value.name)),
            })
            .collect(),
    )
}

/// The dense tensor in a type: itself, or the element of a sequence or optional.
pub(super) fn element_type(ty: &ValueType) -> Option<&ValueType> {
    match ty {
        ValueType::Tensor(_) => Some(ty),
        ValueType::Sequence(element) | ValueType::Optional(element) => element_type(element),
        _ => None,
    }
}

/// One dimension of an input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum InputDim {
    /// A number.
    Fixed(i64),
    /// To be chosen: the key in [`Sizes`].
    Free(String),
}

impl InputDim {
    /// The size under `sizes`.
    pub(super) fn size(&self, sizes: &Sizes) -> i64 {
        match self {
            Self::Fixed(size) => *size,
            Self::Free(key) => size_of(key, sizes),
        }
    }
}

fn size_of(key: &str, sizes: &Sizes) -> i64 {
    if let Some(size) = sizes.get(key) {
        return *size;
    }
    sum_of(key, &|term| sizes.get(term).copied()).unwrap_or(1)
}

/// The value of a dimension whose name is a sum of others, such as `past_length + 1`.
fn sum_of(key: &str, symbol: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
    if !key.contains('+') {
        return None;
    }
    key.split('+').map(str::trim).try_fold(0i64, |sum, term| {
        sum.checked_add(term.parse().ok().or_else(|| symbol(term))?)
    })
}

/// Graph inputs that a caller must give: those without a default.
pub(super) fn required_inputs(model: &Model) -> impl Iterator<Item = NodeId> + '_ {
    model
        .graph
        .inputs()
        .iter()
        .copied()
        .filter(|id| match model.graph.get(*id).map(|node| &node.kind) {
            Some(NodeKind::Input(input)) => input.default.is_none(),
            _ => false,
        })
}

/// The graph input with this name.
pub(super) fn named_input(model: &Model, name: &str) -> Option<NodeId> {
    let named = |id: &&NodeId| {
        let value = model.graph.get(**id).and_then(|node| node.outputs().first());
        value.is_some_and(|value| *value.name == *name)
    };
    model.graph.inputs().iter().find(named).copied()
}

/// The free dimensions of the required inputs. Where `other` fixes a dimension, it is not free: that number is in the
/// second answer, by key.
pub(super) fn free_dims(model: &Model, other: &Model, names: &Names, given: &Sizes) -> (Vec<FreeDim>, Sizes) {
    let mut free: Vec<FreeDim> = Vec::new();
    let mut fixed = given.clone();
    for input in required_inputs(model) {
        let Some(dims) = input_dims(model, input) else {
            continue;
        };
        let name = model
            .graph
            .get(input)
            .and_then(|node| node.outputs().first())
            .map(|v| v.name.clone())
            .unwrap_or_default();
        let theirs = named_input(other, names.input(&name)).and_then(|id| input_dims(other, id));
        for (axis, dim) in dims.iter().enumerate() {
            let InputDim::Free(key) = dim else { continue };
            if let Some(InputDim::Fixed(size)) = theirs.as_ref().and_then(|dims| dims.get(axis)) {
                fixed.entry(key.clone()).or_insert(*size);
            }
            let dictated = uses::dictated_size(&model.graph, input, axis, dims.len());
            match free.iter_mut().find(|dim| dim.key == *key) {
                Some(known) => known.dictated = known.dictated.or(dictated),
                None => free.push(FreeDim {
                    key: key.clone(),
                    ladder: ladder(key, axis, dims.len()),
                    dictated,
                }),
            }
        }
    }
    let keys: Vec<String> = free.iter().map(|dim| dim.key.clone()).collect();
    let known = |term: &str| keys.iter().any(|key| key == term).then_some(1);
    free.retain(|dim| !fixed.contains_key(&dim.key) && sum_of(&dim.key, &known).is_none());
    (free, fixed)
}

/// Sizes to try, by what the name and the axis say about the dimension.
fn ladder(key: &str, axis: usize, rank: usize) -> &'static [i64] {
    let name = key.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match () {
        () if has(&["batch"]) || name == "n" || name == "b" => BATCH,
        () if has(&["height", "width"]) || name == "h" || name == "w" => SPATIAL,
        () if has(&["seq", "len", "time", "token", "frames", "step"]) || name == "t" => SEQUENCE,
        () if has(&["channel"]) || name == "c" => CHANNELS,
        () if axis == 0 => BATCH,
        () if rank >= 4 && axis == 1 => CHANNELS,
        () if rank >= 4 => SPATIAL,
        () if axis + 1 == rank && rank == 2 => SEQUENCE,
        () if axis == 1 => SEQUENCE,
        () => FEATURES,
    }
}

/// Assignments in the order in which they are tried: all dimensions at their first size, then one kind of dimension after the
/// other at further sizes. With `differing_from`, only those in which some size is another one, most changed first.
pub(super) fn attempts(free: &[FreeDim], fixed: &Sizes, differing_from: Option<&Sizes>) -> Vec<Sizes> {
    let mut kinds: Vec<&'static [i64]> = Vec::new();
    for dim in free.iter().filter(|dim| dim.dictated.is_none()) {
        if !kinds.contains(&dim.ladder) {
            kinds.push(dim.ladder);
        }
    }
    let assign = |level: &dyn Fn(&'static [i64]) -> usize| -> Sizes {
        let mut sizes = fixed.clone();
        for dim in free {
            let at = level(dim.ladder).min(dim.ladder.len().saturating_sub(1));
            let size = dim.dictated.or_else(|| dim.ladder.get(at).copied()).unwrap_or(1);
            sizes.insert(dim.key.clone(), size);
        }
        sizes
    };
    let deepest = kinds.iter().map(|kind| kind.len()).max().unwrap_or(0);
    let mut found: Vec<Sizes> = Vec::new();
    let mut add = |sizes: Sizes| {
        if differing_from.is_none_or(|other| *other != sizes)
            && !found.contains(&sizes)
            && found.len() < ATTEMPTS
        {
            found.push(sizes);
        }
    };
    if let Some(first) = differing_from {
        // One step up from what worked, all kinds at once and then each alone.
        let working = |kind: &'static [i64]| {
            let size = free
                .iter()
                .find(|dim| dim.dictated.is_none() && dim.ladder == kind)
                .and_then(|dim| first.get(&dim.key));
            size.and_then(|size| kind.iter().position(|v| v == size))
                .unwrap_or(0)
        };
        let next = |kind: &'static [i64]| {
            if working(kind) + 1 < kind.len() {
                working(kind) + 1
            } else {
                0
            }
        };
        add(assign(&next));
        for chosen in &kinds {
            add(assign(&|kind| {
                if kind == *chosen {
                    next(kind)
                } else {
                    working(kind)
                }
            }));
        }
        for level in 0..deepest {
            for chosen in &kinds {
                add(assign(&|kind| {
                    if kind == *chosen { level } else { working(kind) }
                }));
            }
        }
        return found;
    }
    add(assign(&|_| 0));
    for level in 1..deepest {
        for chosen in &kinds {
            add(assign(&|kind| if kind == *chosen { level } else { 0 }));
        }
        add(assign(&|_| level));
    }
    found
}

/// A batch that no other size of the ladder is, and that makes columns of outputs large enough to have a scale of their own.
const MANY: i64 = 17;

/// One larger size of every free dimension: many samples in a batch, other dimensions beyond `length`, the largest length in the
/// models' shapes, or at their next larger size. `None` where nothing is larger.
pub(super) fn larger(free: &[FreeDim], worked: &Sizes, length: Option<i64>) -> Option<Sizes> {
    let mut sizes = worked.clone();
    for dim in free.iter().filter(|dim| dim.dictated.is_none()) {
        let now = worked.get(&dim.key).copied().unwrap_or(1);
        let next = if dim.ladder == BATCH {
            MANY
        } else if let Some(length) = length.filter(|length| *length >= now) {
            length + 1
        } else {
            dim.ladder
                .iter()
                .copied()
                .filter(|size| *size > now)
                .min()
                .unwrap_or(now)
        };
        sizes.insert(dim.key.clone(), next.max(now));
    }
    (sizes != *worked).then_some(sizes)
}

/// Only the batches among the changes of [`larger`]: a model may take a larger batch where it takes no other length.
pub(super) fn larger_batch(free: &[FreeDim], worked: &Sizes) -> Option<Sizes> {
    let batches: Vec<FreeDim> = free.iter().filter(|dim| dim.ladder == BATCH).cloned().collect();
    larger(&batches, worked, None)
}

/// Sizes at which a value with these dimensions holds `wanted` elements or more: by one dimension alone, the batch before others.
pub(super) fn roomier(free: &[FreeDim], worked: &Sizes, dims: &[InputDim], wanted: i64) -> Vec<Sizes> {
    let count = dims.iter().fold(1i64, |product, dim| {
        product.saturating_mul(dim.size(worked).max(0))
    });
    let one = |batch: bool| {
        let dim = dims.iter().find_map(|dim| {
            let InputDim::Free(key) = dim else { return None };
            free.iter()
                .find(|free| free.key == *key && free.dictated.is_none() && (free.ladder == BATCH) == batch)
        })?;
        let now = worked.get(&dim.key).copied().filter(|size| *size > 0)?;
        let rest = (count / now).max(1);
        let size = wanted / rest + i64::from(wanted % rest > 0);
        (size > now).then(|| {
            let mut sizes = worked.clone();
            sizes.insert(dim.key.clone(), size);
            sizes
        })
    };
    [true, false].into_iter().filter_map(one).collect()
}

/// Dimensions that are tried at the sizes 0 and 1.
const EDGES: usize = 4;

/// Sizes 0 and 1 of each free dimension in turn, the others as they worked. Two dimensions are never empty at once.
pub(super) fn edges(free: &[FreeDim], worked: &Sizes, batches_only: bool) -> Vec<Sizes> {
    let dims = free
        .iter()
        .filter(|dim| dim.dictated.is_none() && (dim.ladder == BATCH || !batches_only))
        .take(EDGES);
    dims.flat_map(|dim| [0, 1].map(|size| (dim, size)))
        .filter(|(dim, size)| worked.get(&dim.key) != Some(size))
        .map(|(dim, size)| {
            let mut sizes = worked.clone();
            sizes.insert(dim.key.clone(), size);
            sizes
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(key: &str, axis: usize, rank: usize) -> FreeDim {
        FreeDim {
            key: key.to_owned(),
            ladder: ladder(key, axis, rank),
            dictated: None,
        }
    }

    #[test]
    fn the_second_size_differs_in_every_free_dimension_first() {
        let free = [dim("batch", 0, 4), dim("x[2]", 2, 4)];
        let first = attempts(&free, &Sizes::new(), None);
        assert_eq!(first[0], Sizes::from([("batch".into(), 1), ("x[2]".into(), 64)]));
        let second = attempts(&free, &Sizes::new(), Some(&first[0]));
        assert_eq!(second[0], Sizes::from([("batch".into(), 2), ("x[2]".into(), 96)]));
        assert_eq!(second[1], Sizes::from([("batch".into(), 2), ("x[2]".into(), 64)]));
        assert!(second.iter().all(|sizes| *sizes != first[0]));
    }

    #[test]
    fn room_is_made_in_the_batch_first() {
        let free = [dim("batch", 0, 2), dim("seq", 1, 2)];
        let worked = Sizes::from([("batch".to_owned(), 1), ("seq".to_owned(), 8)]);
        let dims = ["batch", "seq"].map(|key| InputDim::Free(key.to_owned()));
        let found = roomier(&free, &worked, &dims, 1001);
        assert_eq!(found[0], Sizes::from([("batch".into(), 126), ("seq".into(), 8)]));
        assert_eq!(found[1], Sizes::from([("batch".into(), 1), ("seq".into(), 1001)]));
        assert!(roomier(&free, &worked, &dims, 8).is_empty());
    }

    #[test]
    fn models_without_free_dimensions_have_one_assignment() {
        assert_eq!(attempts(&[], &Sizes::new(), None), [Sizes::new()]);
        assert!(attempts(&[], &Sizes::new(), Some(&Sizes::new())).is_empty());
    }

    #[test]
    fn sums_of_symbols_follow_their_parts() {
        let sizes = Sizes::from([("past".to_owned(), 4), ("seq".to_owned(), 8)]);
        assert_eq!(InputDim::Free("past + seq".into()).size(&sizes), 12);
        assert_eq!(InputDim::Free("past + 1".into()).size(&sizes), 5);
        assert_eq!(InputDim::Free("past + other".into()).size(&sizes), 1);
    }
}
