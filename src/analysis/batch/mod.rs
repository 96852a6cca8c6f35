//! Where the samples of a batch lie in the values of a graph.
//!
//! The first axis of a value need not be its batch axis: sequence-first values are `[T, N, F]`, attention joins it with other axes
//! (`[N * heads, L, L]`, `[heads * N, L, L]`, `[3, N, H, L, D]`, `[N * windows, L, C]`), recurrent layers put the directions before
//! it. [`placements`] follows the batch from the graph's inputs: by symbolic shapes where one axis is the batch, and by the order of
//! elements and what operators do to axes (`moves`) where the batch is a factor of an axis, or where the file fixes its size.

mod moves;

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::infer::infer;
use crate::ir::{Dim, Graph, Model, NodeId, NodeKind, Shape, ValueId, ValueType};

/// Where the samples of a batch lie in a value: along `axis`, whose index is `(a * samples + sample) * minor + b`, with `b` below
/// `minor` and `a` counting whatever the axis holds beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The axis that has the batch as a factor.
    pub axis: usize,
    /// Neighbouring indices of the axis that belong to one sample.
    pub minor: u64,
}

impl Placement {
    /// The first axis is the batch.
    pub const FIRST: Self = Self { axis: 0, minor: 1 };

    /// Neighbouring elements, in row-major order, that belong to one sample; `None` where a value of these dimensions does not have
    /// `samples` samples here, or no elements.
    pub fn run_length(&self, dims: &[u64], samples: u64) -> Option<u64> {
        let size = *dims.get(self.axis)?;
        let part = samples.checked_mul(self.minor)?;
        (part > 0 && size > 0 && size % part == 0).then_some(())?;
        let behind = elements(dims.get(self.axis + 1..)?)?;
        self.minor.checked_mul(behind).filter(|run| *run > 0)
    }
}

/// How many elements a value of these dimensions has, if that is a number.
fn elements(dims: &[u64]) -> Option<u64> {
    dims.iter().try_fold(1u64, |count, size| count.checked_mul(*size))
}

/// The placement of `samples` samples in each value of the main graph, by the value's name, when the graph's inputs have the
/// dimensions in `inputs`, each with its samples along the first axis. A value that is not in the answer has no known batch axis:
/// it may mix the samples, or hold none of them.
///
/// Placements do not depend on the number of samples. One sample alone tells nothing about the order of factors, so at least two are
/// assumed.
pub fn placements(
    model: &Model,
    inputs: &BTreeMap<String, Vec<u64>>,
    samples: u64,
) -> HashMap<String, Placement> {
    let samples = samples.max(2);
    let symbol = batch_symbol(&model.graph, inputs);
    let sized = inferred(model, inputs, &Dim::Fixed(samples as i64));
    let symbolic = inferred(model, inputs, &symbol);
    let mut walk = Walk {
        graph: &sized.graph,
        symbolic: &symbolic.graph,
        symbol,
        samples,
        places: HashMap::new(),
    };
    for id in sized.graph.topological_order() {
        walk.node(id, inputs);
    }
    let named = walk.places.iter().filter_map(|(value, place)| match place {
        Place::At(placement) => Some((sized.graph.value(*value)?.name.to_string(), *placement)),
        Place::Mixed => None,
    });
    named.filter(|(name, _)| !name.is_empty()).collect()
}

/// The symbol that the inputs declare for their first axis, where it is the same for all and stands for nothing else: what the file
/// declares of other values then speaks of the batch too. Else one that no file has.
fn batch_symbol(graph: &Graph, inputs: &BTreeMap<String, Vec<u64>>) -> Dim {
    let fresh = || Dim::symbol("?batch");
    let mut found: Option<Dim> = None;
    for id in graph.inputs() {
        let value = ValueId::new(*id, 0);
        let (Some(shape), true) = (
            graph.ty(value).shape(),
            graph.value(value).is_some_and(|v| inputs.contains_key(&*v.name)),
        ) else {
            continue;
        };
        let Some(first) = shape.first().filter(|dim| dim.as_symbol().is_some()) else {
            return fresh();
        };
        let elsewhere = shape.iter().skip(1).any(|dim| mentions(dim, first));
        if elsewhere || found.as_ref().is_some_and(|other| !other.same(first)) {
            return fresh();
        }
        found = Some(first.clone());
    }
    found.unwrap_or_else(fresh)
}

fn mentions(dim: &Dim, symbol: &Dim) -> bool {
    let mut found = false;
    dim.for_each_symbol(&mut |name| found |= symbol.as_symbol() == Some(name));
    found
}

/// The model with these inputs, the first axis of each of size `batch`, and all types inferred anew.
fn inferred(model: &Model, inputs: &BTreeMap<String, Vec<u64>>, batch: &Dim) -> Model {
    let mut model = model.clone();
    for id in model.graph.inputs().to_vec() {
        let value = ValueId::new(id, 0);
        let known = model.graph.value(value);
        let Some(dims) = known.and_then(|value| inputs.get(&*value.name)) else {
            continue;
        };
        let dtype = model.graph.ty(value).dtype();
        let mut shape: Shape = dims.iter().map(|dim| Dim::Fixed(*dim as i64)).collect();
        if let Some(first) = shape.first_mut() {
            *first = batch.clone();
        }
        model
            .graph
            .set_facts(value, ValueType::tensor(dtype, Some(shape)), None);
    }
    infer(&mut model);
    model
}

/// What is known of where a value's samples are. A value without an entry does not depend on the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    At(Placement),
    /// It depends on the samples in a way that is not known.
    Mixed,
}

/// Sizes of a value's axes.
type Dims = SmallVec<[u64; 6]>;

struct Walk<'g> {
    /// With the number of samples as the first axis of the inputs.
    graph: &'g Graph,
    /// With a symbol there; the same nodes.
    symbolic: &'g Graph,
    symbol: Dim,
    samples: u64,
    places: HashMap<ValueId, Place>,
}

impl Walk<'_> {
    fn node(&mut self, id: NodeId, inputs: &BTreeMap<String, Vec<u64>>) {
        let Some(node) = self.graph.get(id) else { return };
        match &node.kind {
            NodeKind::Input(_) => {
                let fed = node
                    .outputs()
                    .first()
                    .is_some_and(|value| inputs.get(&*value.name).is_some_and(|dims| !dims.is_empty()));
                if fed {
                    self.places
                        .insert(ValueId::new(id, 0), Place::At(Placement::FIRST));
                }
            }
            // Sizes hold no samples.
            NodeKind::Operator(operator) if operator.is("Shape") || operator.is("Size") => {}
            NodeKind::Operator(_) => {
                let read = self
                    .graph
                    .inputs_of(id)
                    .into_iter()
                    .chain(self.graph.captures_of(id));
                let depends = read.flatten().any(|value| self.places.contains_key(&value));
                for output in 0..node.outputs().len() {
                    let value = ValueId::new(id, output);
                    if let Some(place) = self.place(id, value, depends) {
                        self.places.insert(value, place);
                    }
                }
            }
            _ => {}
        }
    }

    fn place(&self, id: NodeId, value: ValueId, depends: bool) -> Option<Place> {
        let operator = self.graph.operator(id)?;
        let by_rule = moves::rule(operator).map(|rule| rule(self, id, value.output as usize));
        if let Some(Some(placement)) = by_rule {
            if self.fits(value, placement) {
                return Some(Place::At(placement));
            }
        } else if (by_rule.is_none() || !moves::decides(operator))
            && !self.reads_mixed(id)
            && let Some(placement) = self.by_shape(value)
        {
            return Some(Place::At(placement));
        }
        depends.then_some(Place::Mixed)
    }

    /// The placement that a symbolic shape tells: one axis of the value is the batch, and no other has anything to do with it.
    fn by_shape(&self, value: ValueId) -> Option<Placement> {
        let shape = self.symbolic.ty(value).shape()?;
        if shape.iter().any(|dim| !dim.is_known()) {
            return None;
        }
        let mut axes = shape
            .iter()
            .enumerate()
            .filter(|(_, dim)| mentions(dim, &self.symbol));
        let (axis, dim) = axes.next()?;
        (axes.next().is_none() && dim.same(&self.symbol)).then_some(Placement { axis, minor: 1 })
    }

    /// Whether the node reads a value in which the samples are lost and which is large enough to hold them.
    fn reads_mixed(&self, id: NodeId) -> bool {
        let read = self
            .graph
            .inputs_of(id)
            .into_iter()
            .chain(self.graph.captures_of(id));
        read.flatten().any(|value| {
            let small = || {
                self.dims(value)
                    .and_then(|dims| elements(&dims))
                    .is_some_and(|count| count < self.samples)
            };
            self.places.get(&value) == Some(&Place::Mixed) && !small()
        })
    }

    fn fits(&self, value: ValueId, placement: Placement) -> bool {
        self.dims(value)
            .is_none_or(|dims| placement.run_length(&dims, self.samples).is_some())
    }

    fn dims(&self, value: ValueId) -> Option<Dims> {
        let shape = self.graph.ty(value).shape()?;
        shape
            .iter()
            .map(|dim| dim.fixed().and_then(|size| u64::try_from(size).ok()))
            .collect()
    }

    fn at(&self, value: ValueId) -> Option<Placement> {
        match self.places.get(&value)? {
            Place::At(placement) => Some(*placement),
            Place::Mixed => None,
        }
    }
}
