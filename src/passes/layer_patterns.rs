//! Options for single layers: a list of regular expressions on names, of which the first that matches decides.

use std::cell::RefCell;
use std::collections::BTreeSet;

use regex::Regex;

use super::PassError;
use crate::ir::{Graph, NodeId};
use crate::schema;

/// The entries of an option `layers` with their patterns compiled.
pub(super) struct LayerPatterns<'a, L> {
    entries: Vec<(Regex, &'a L)>,
    /// Entries that decided on some layer.
    met: RefCell<BTreeSet<usize>>,
}

impl<'a, L> LayerPatterns<'a, L> {
    /// Compiles the `pattern` of each entry.
    pub(super) fn new(
        pass: &'static str,
        layers: &'a [L],
        pattern: impl Fn(&L) -> &str,
    ) -> Result<Self, PassError> {
        let compile = |layer: &'a L| match schema::pattern(pattern(layer)) {
            Ok(regex) => Ok((regex, layer)),
            Err(error) => Err(PassError::Option {
                pass,
                message: format!("layers: {error}"),
            }),
        };
        Ok(Self {
            entries: layers.iter().map(compile).collect::<Result<_, _>>()?,
            met: RefCell::default(),
        })
    }

    /// The first entry whose pattern matches one of the names.
    pub(super) fn find(&self, names: &[String]) -> Option<&'a L> {
        let matches = |regex: &Regex| names.iter().any(|name| regex.is_match(name));
        let at = self.entries.iter().position(|(regex, _)| matches(regex))?;
        self.met.borrow_mut().insert(at);
        self.entries.get(at).map(|(_, layer)| *layer)
    }

    /// The patterns of entries that have decided on nothing so far.
    pub(super) fn idle(&self) -> Vec<String> {
        let met = self.met.borrow();
        let idle = self
            .entries
            .iter()
            .enumerate()
            .filter(|(at, _)| !met.contains(at));
        idle.map(|(_, (regex, _))| regex.to_string()).collect()
    }
}

/// What a layer is called: its node's name and its outputs; with `weight` also the constant in slot 1.
pub(super) fn layer_names(graph: &Graph, id: NodeId, weight: bool) -> Vec<String> {
    let node = graph.get(id);
    let own = node.and_then(|node| node.name.as_ref());
    let outputs = node.into_iter().flat_map(|node| node.outputs());
    let mut names: Vec<String> = own.into_iter().map(ToString::to_string).collect();
    names.extend(outputs.map(|value| value.name.to_string()));
    if weight
        && let Some(weight) = graph
            .input(id, 1)
            .filter(|value| graph.constant(*value).is_some())
    {
        names.extend(graph.value(weight).map(|value| value.name.to_string()));
    }
    names.retain(|name| !name.is_empty());
    names
}
