//! Model-local functions by what calls them.

use std::collections::HashMap;
use std::fmt;

use super::graph::Graph;
use super::model::Function;
use super::node::NodeId;

/// What a call names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionKey<'m> {
    /// The domain; ONNX's own, however it is written, is the empty text.
    pub domain: &'m str,
    /// The name.
    pub name: &'m str,
    /// The overload; most functions have none.
    pub overload: &'m str,
}

impl<'m> FunctionKey<'m> {
    /// What calls of a function name.
    pub fn of(function: &'m Function) -> Self {
        let text = |text: &'m Option<String>| text.as_deref().unwrap_or("");
        Self {
            domain: Some(text(&function.header.domain))
                .filter(|domain| *domain != "ai.onnx")
                .unwrap_or(""),
            name: text(&function.header.name),
            overload: text(&function.header.overload),
        }
    }

    /// What a node names, be it a function or an operator; `None` for nodes that are no operator.
    pub fn named_by(graph: &'m Graph, id: NodeId) -> Option<Self> {
        let node = graph.get(id)?;
        let operator = node.operator()?;
        Some(Self {
            domain: operator.imported_domain(),
            name: &operator.op_type,
            overload: node
                .meta
                .as_ref()
                .and_then(|meta| meta.overload.as_deref())
                .unwrap_or(""),
        })
    }
}

impl fmt::Display for FunctionKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.domain, self.name)?;
        if !self.overload.is_empty() {
            write!(f, ":{}", self.overload)?;
        }
        Ok(())
    }
}

/// The functions of a model by what calls name.
#[derive(Clone, Debug, Default)]
pub struct FunctionIndex<'m> {
    functions: &'m [Function],
    places: HashMap<FunctionKey<'m>, usize>,
}

impl<'m> FunctionIndex<'m> {
    /// Of two functions that bear the same name, the first is called.
    pub fn of(functions: &'m [Function]) -> Self {
        let mut places = HashMap::with_capacity(functions.len());
        for (at, function) in functions.iter().enumerate() {
            places.entry(FunctionKey::of(function)).or_insert(at);
        }
        Self { functions, places }
    }

    /// The place among the functions of the one that a node calls; `None` for a node that calls none.
    pub fn place_called_by(&self, graph: &Graph, id: NodeId) -> Option<usize> {
        if self.functions.is_empty() {
            return None;
        }
        self.places.get(&FunctionKey::named_by(graph, id)?).copied()
    }

    /// The function that a node calls; `None` for a node that calls none.
    pub fn called_by(&self, graph: &Graph, id: NodeId) -> Option<&'m Function> {
        self.functions.get(self.place_called_by(graph, id)?)
    }
}
