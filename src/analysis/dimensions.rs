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

/// A list of sizes that does not fit the input that it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizesError {
    /// There is no such input.
    #[error("there is no graph input {input}{}", .meant.as_ref().map_or(String::new(), |name| format!("; did you mean {name}?")))]
    NoInput {
        /// The input that was named.
        input: String,
        /// The nearest one that there is.
        meant: Option<String>,
    },
    /// The model does not say how many axes the input has.
    #[error("{input}={sizes}: the model does not say how many axes {input} has")]
    NoRank {
        /// The input.
        input: String,
        /// What was given.
        sizes: String,
    },
    /// There are more or fewer sizes than axes.
    #[error("{input}={sizes} gives {given} sizes, and {input} has {} axes: [{}]", .declared.len(), .declared.join(", "))]
    Count {
        /// The input.
        input: String,
        /// What was given.
        sizes: String,
        /// How many that are.
        given: usize,
        /// What the input declares.
        declared: Vec<String>,
    },
}

/// What the main graph's inputs declare.
#[derive(Clone, Debug, Default)]
pub struct Dimensions {
    symbols: BTreeSet<Name>,
    places: Vec<Place>,
    /// Every input with what it declares, where it says how many axes it has.
    inputs: Vec<(Name, Option<Vec<Dim>>)>,
}

impl Dimensions {
    /// Reads off a model.
    pub fn of(model: &Model) -> Self {
        let mut found = Self::default();
        let graph = &model.graph;
        for id in graph.inputs() {
            let value = ValueId::new(*id, 0);
            let name = graph
                .value(value)
                .map(|value| value.name.clone())
                .unwrap_or_default();
            // Exporters write `?` for any size: a name that names nothing.
            let public = |dim: &Dim| match dim.as_symbol() {
                Some(symbol) if is_private_symbol(symbol) => Dim::Unknown,
                _ => dim.clone(),
            };
            let shape = graph.ty(value).shape();
            let shape: Option<Vec<Dim>> = shape.map(|shape| shape.iter().map(public).collect());
            found.inputs.push((name.clone(), shape.clone()));
            for (axis, dim) in shape.into_iter().flatten().enumerate() {
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

    /// A list of sizes for all axes of an input (`1,3,224,224`), as the names of single dimensions and what each gets; an axis with `-1`
    /// or `?` stays as it is.
    ///
    /// # Errors
    ///
    /// When the list is not as long as the input has axes.
    pub fn listed<'t>(&self, input: &str, sizes: &'t str) -> Result<Vec<(String, &'t str)>, SizesError> {
        let parts: Vec<&str> = sizes.split(',').map(str::trim).collect();
        let Some((_, declared)) = self.inputs.iter().find(|(name, _)| name.as_str() == input) else {
            let names = self.inputs.iter().map(|(name, _)| name.as_str());
            return Err(SizesError::NoInput {
                input: input.to_owned(),
                meant: nearest(input, names).map(str::to_owned),
            });
        };
        let Some(declared) = declared else {
            return Err(SizesError::NoRank {
                input: input.to_owned(),
                sizes: sizes.to_owned(),
            });
        };
        if declared.len() != parts.len() {
            return Err(SizesError::Count {
                input: input.to_owned(),
                sizes: sizes.to_owned(),
                given: parts.len(),
                declared: declared.iter().map(Dim::to_string).collect(),
            });
        }
        let sized = parts.into_iter().enumerate();
        Ok(sized
            .filter(|(_, part)| !matches!(*part, "-1" | "?"))
            .map(|(axis, part)| (format!("{input}[{axis}]"), part))
            .collect())
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
