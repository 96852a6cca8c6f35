//! Why elements cannot be removed.

use std::fmt;

/// What pins an axis: an operator or an end of the graph, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin {
    /// Operator type; `graph output` for the model's interface.
    pub operator: String,
    /// Node or output name.
    pub node: String,
    /// The value whose axis it is.
    pub value: String,
    /// Which axis.
    pub axis: usize,
    /// Why.
    pub reason: &'static str,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} pins axis {} of {}: {}",
            self.operator, self.node, self.axis, self.value, self.reason
        )
    }
}
