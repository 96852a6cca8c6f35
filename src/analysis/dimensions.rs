//! The dimensions of the graph inputs, by the names that a user may call them.

use std::collections::BTreeSet;

use super::symbols::is_private_symbol;
use crate::ir::{Dim, Model, Name, NodeId, ValueId};
use crate::schema::nearest;

/// One dimension of a graph input.
#[derive(Clone, Debug)]
pub struct Place {
    /// The graph input.
    pub input: NodeId,
    /// The axis.
    pub axis: usize,
    /// `input[axis]`.
    pub name: String,
    /// What the input declares.
    pub dim: Dim,
}

/// What the main graph's inputs declare.
#[derive(Clone, Debug, Default)]
pub struct Dimensions {
    symbols: BTreeSet<Name>,
    places: Vec<Place>,
}

impl Dimensions {
    /// Reads off a model.
    pub fn of(model: &Model) -> Self {
        let mut found = Self::default();
        let graph = &model.graph;
        for id in graph.inputs() {
            let value = ValueId::new(*id, 0);
            let Some(shape) = graph.ty(value).shape() else {
                continue;
            };
            let name = graph
                .value(value)
                .map(|value| value.name.clone())
                .unwrap_or_default();
            for (axis, dim) in shape.iter().enumerate() {
                // Exporters write `?` for any size: a name that names nothing.
                let unnamed = dim.as_symbol().is_some_and(|symbol| is_private_symbol(symbol));
                let dim = if unnamed { Dim::Unknown } else { dim.clone() };
                dim.for_each_symbol(&mut |symbol| {
                    found.symbols.insert(symbol.clone());
                });
                found.places.push(Place {
                    input: *id,
                    axis,
                    name: format!("{name}[{axis}]"),
                    dim,
                });
            }
        }
        found
    }

    /// The symbol with this name.
    pub fn symbol(&self, name: &str) -> Option<&Name> {
        self.symbols.get(name)
    }

    /// The dimension that is called `input[axis]`.
    pub fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == name)
    }

    /// Whether a symbol or a dimension has this name.
    pub fn knows(&self, name: &str) -> bool {
        self.symbol(name).is_some() || self.place(name).is_some()
    }

    /// What to say of a name that is neither: what there is, and what may have been meant.
    pub fn unknown(&self, key: &str) -> String {
        let symbols: Vec<&str> = self.symbols.iter().map(Name::as_str).collect();
        let unnamed: Vec<&str> = self
            .places
            .iter()
            .filter(|place| !place.dim.is_known())
            .map(|place| place.name.as_str())
            .collect();
        let list = |what: &str, names: &[&str]| match names {
            [] => format!("no {what}"),
            names => format!("the {what} {}", names.join(", ")),
        };
        let all = symbols
            .iter()
            .copied()
            .chain(self.places.iter().map(|place| place.name.as_str()));
        let meant = nearest(key, all).map_or(String::new(), |name| format!("; did you mean {name}?"));
        format!(
            "there is no dimension {key}; the graph inputs have {} and {}{meant}",
            list("symbols", &symbols),
            list("unnamed dimensions", &unnamed)
        )
    }
}
