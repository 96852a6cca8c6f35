//! Whether two models can be called in the same way, and which input and output of one stands for which of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sizes::{self, InputDim, Sizes};
use crate::engine::{EngineError, RunValues, Session};
use crate::ir::{Model, NodeId, ValueType};

/// The model's names for inputs and outputs of the reference; those that are not listed have the same name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

/// An entry of a map that pairs nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "`{old}={new}` pairs nothing: the reference has the inputs {} and the outputs {}, the model {} and {}",
    reference.0.join(", "),
    reference.1.join(", "),
    model.0.join(", "),
    model.1.join(", ")
)]
pub struct Unpaired {
    old: String,
    new: String,
    /// Inputs and outputs.
    reference: (Vec<String>, Vec<String>),
    model: (Vec<String>, Vec<String>),
}

/// Name and type of a graph input.
pub(super) fn input(model: &Model, id: NodeId) -> Option<(String, &ValueType)> {
    let value = model.graph.get(id)?.outputs().first()?;
    Some((value.name.to_string(), &value.ty))
}

fn inputs(model: &Model) -> Vec<String> {
    sizes::required_inputs(model)
        .filter_map(|id| Some(input(model, id)?.0))
        .collect()
}

fn outputs(model: &Model) -> Vec<String> {
    let outputs = model.graph.outputs().iter();
    outputs.map(|output| output.name.to_string()).collect()
}

impl Names {
    /// Pairs inputs and outputs: by `map`, whose entries are a name of the reference and one of the model (or their positions,
    /// counted from 0, where nothing has such a name), else by name. Where both models have one input, or one output, those
    /// are a pair. An error names the entry that fits nothing.
    pub fn new(reference: &Model, model: &Model, map: &[(String, String)]) -> Result<Self, Unpaired> {
        let mut names = Self {
            inputs: single(&inputs(reference), &inputs(model)),
            outputs: single(&outputs(reference), &outputs(model)),
        };
        for (old, new) in map {
            let mut found = false;
            let sides = [
                (&mut names.outputs, outputs(reference), outputs(model)),
                (&mut names.inputs, inputs(reference), inputs(model)),
            ];
            for (pairs, theirs, ours) in sides {
                if !found && let (Some(old), Some(new)) = (place(&theirs, old), place(&ours, new)) {
                    pairs.insert(old, new);
                    found = true;
                }
            }
            if !found {
                return Err(Unpaired {
                    old: old.clone(),
                    new: new.clone(),
                    reference: (inputs(reference), outputs(reference)),
                    model: (inputs(model), outputs(model)),
                });
            }
        }
        Ok(names)
    }

    /// What the model calls an input of the reference.
    pub(super) fn input<'n>(&'n self, name: &'n str) -> &'n str {
        self.inputs.get(name).map_or(name, String::as_str)
    }

    /// What the model calls an output of the reference.
    pub(super) fn output<'n>(&'n self, name: &'n str) -> &'n str {
        self.outputs.get(name).map_or(name, String::as_str)
    }

    /// The session of a model under the reference's names.
    pub(super) fn translate(&self, session: Box<dyn Session>) -> Box<dyn Session> {
        if *self == Self::default() {
            return session;
        }
        Box::new(Translated {
            session,
            names: self.clone(),
        })
    }
}

fn single(theirs: &[String], ours: &[String]) -> BTreeMap<String, String> {
    match (theirs, ours) {
        ([old], [new]) if old != new => BTreeMap::from([(old.clone(), new.clone())]),
        _ => BTreeMap::new(),
    }
}

fn place(names: &[String], wanted: &str) -> Option<String> {
    let position = || names.get(wanted.parse::<usize>().ok()?);
    names
        .iter()
        .find(|name| *name == wanted)
        .or_else(position)
        .cloned()
}

struct Translated {
    session: Box<dyn Session>,
    names: Names,
}

impl Translated {
    fn translated(&self, inputs: &RunValues) -> RunValues {
        let named = inputs.iter();
        named
            .map(|(name, value)| (self.names.input(name).to_owned(), value.clone()))
            .collect()
    }
}

impl Session for Translated {
    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        let mut found = self.session.run(&self.translated(inputs))?;
        let renamed: Vec<_> = self
            .names
            .outputs
            .iter()
            .filter_map(|(old, new)| Some((old.clone(), found.get(new)?.clone())))
            .collect();
        found.extend(renamed);
        Ok(found)
    }

    fn time(&self, inputs: &RunValues) -> Result<Duration, EngineError> {
        self.session.time(&self.translated(inputs))
    }
}

/// What makes it impossible to call both models in the same way: an input the reference does not have, an output that is
/// missing, another type, another order.
pub fn interface_difference(reference: &Model, model: &Model, names: &Names) -> Option<String> {
    let types = |model: &Model| -> BTreeMap<String, ValueType> {
        let ids = model.graph.inputs().iter();
        ids.filter_map(|id| input(model, *id))
            .map(|(name, ty)| (name, ty.clone()))
            .collect()
    };
    let (known, theirs) = (types(reference), types(model));
    let paired: BTreeMap<&str, &String> = known.keys().map(|name| (names.input(name), name)).collect();
    for name in inputs(model) {
        let old = paired.get(name.as_str()).and_then(|old| known.get(*old));
        match (old, theirs.get(&name)) {
            (None, _) => return Some(format!("the reference has no input {name}")),
            (Some(a), Some(b)) if a.contradicts(b) => {
                return Some(format!("input {name} is {b}, in the reference {a}"));
            }
            _ => {}
        }
    }
    let there = outputs(model);
    let wanted = outputs(reference);
    if let Some(missing) = wanted
        .iter()
        .find(|name| !there.iter().any(|o| o == names.output(name)))
    {
        return Some(format!("output {missing} is missing"));
    }
    // Callers may go by position. What is paired on purpose may stand anywhere.
    let order = |kind: &str, theirs: Vec<String>, ours: Vec<String>| {
        let common = |list: &[String], other: &[String]| -> Vec<String> {
            list.iter().filter(|name| other.contains(name)).cloned().collect()
        };
        let (theirs, ours) = (common(&theirs, &ours), common(&ours, &theirs));
        (theirs != ours).then(|| {
            format!(
                "the {kind} are in another order: {} instead of {}",
                ours.join(", "),
                theirs.join(", ")
            )
        })
    };
    let unpaired = |list: Vec<String>, pairs: &BTreeMap<String, String>| -> Vec<String> {
        list.into_iter()
            .filter(|name| !pairs.contains_key(name))
            .collect()
    };
    order("outputs", unpaired(wanted, &names.outputs), there).or_else(|| {
        order(
            "inputs",
            unpaired(inputs(reference), &names.inputs),
            inputs(model),
        )
    })
}

/// Dimensions of inputs that are free in the reference and fixed in the model: at other sizes the model cannot take the
/// reference's place. Those in `given` are chosen by the user.
pub(super) fn lost_sizes(reference: &Model, model: &Model, names: &Names, given: &Sizes) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for id in sizes::required_inputs(reference) {
        let (Some((name, _)), Some(dims)) = (input(reference, id), sizes::input_dims(reference, id)) else {
            continue;
        };
        let theirs =
            sizes::named_input(model, names.input(&name)).and_then(|id| sizes::input_dims(model, id));
        for (axis, dim) in dims.iter().enumerate() {
            let (InputDim::Free(key), Some(InputDim::Fixed(size))) =
                (dim, theirs.as_ref().and_then(|dims| dims.get(axis)))
            else {
                continue;
            };
            if !given.contains_key(key) && seen.insert(key.clone()) {
                found.push(format!(
                    "axis {axis} of input {name} ({key}) is free in the reference and fixed to {size} in the model: no other \
                     size is compared (--size {key}={size} asks for this one alone)"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ExternalFiles, lift, text};

    fn model(interface: &str) -> Model {
        let text = format!("<ir_version: 8, opset_import: [\"\" : 17]> g {interface}");
        lift(text::parse_model(&text).unwrap(), &ExternalFiles::default()).unwrap()
    }

    const TWO: &str = "(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu(x) z = Abs(x) }";
    const SWAPPED: &str = "(float[N,4] x) => (float[N,4] z, float[N,4] y) { y = Relu(x) z = Abs(x) }";
    const RENAMED: &str = "(float[N,4] i) => (float[N,4] a, float[N,4] b) { a = Relu(i) b = Abs(i) }";

    fn difference(a: &str, b: &str, map: &[(&str, &str)]) -> Option<String> {
        let map: Vec<_> = map
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        let (a, b) = (model(a), model(b));
        match Names::new(&a, &b, &map) {
            Ok(names) => interface_difference(&a, &b, &names),
            Err(unpaired) => Some(unpaired.to_string()),
        }
    }

    #[test]
    fn inputs_and_outputs_are_paired_by_name_by_map_and_where_there_is_one() {
        assert_eq!(difference(TWO, TWO, &[]), None);
        assert_eq!(
            difference(TWO, SWAPPED, &[]).as_deref(),
            Some("the outputs are in another order: z, y instead of y, z")
        );
        assert_eq!(
            difference(TWO, RENAMED, &[]).as_deref(),
            Some("output y is missing")
        );
        assert_eq!(difference(TWO, RENAMED, &[("y", "a"), ("z", "b")]), None);
        assert_eq!(difference(TWO, RENAMED, &[("0", "0"), ("1", "1")]), None);
        assert!(
            difference(TWO, RENAMED, &[("w", "a")])
                .unwrap()
                .contains("pairs nothing")
        );
        let one = "(float[N,4] x) => (float[N,4] y) { y = Relu(x) }";
        let other = "(float[N,4] i) => (float[N,4] o) { o = Relu(i) }";
        assert_eq!(difference(one, other, &[]), None);
    }

    #[test]
    fn a_batch_that_is_no_longer_free_is_said() {
        let (free, fixed) = (
            model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"),
            model("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }"),
        );
        let lost = |a, b, given: &Sizes| lost_sizes(a, b, &Names::default(), given);
        assert!(lost(&free, &free, &Sizes::new()).is_empty());
        assert!(lost(&fixed, &free, &Sizes::new()).is_empty());
        assert!(lost(&free, &fixed, &Sizes::new())[0].contains("fixed to 1"));
        assert!(lost(&free, &fixed, &Sizes::from([("N".to_owned(), 1)])).is_empty());
    }
}
