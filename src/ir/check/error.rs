//! What a check finds.

use std::fmt;

use crate::ir::{Graph, GraphPath, NodeId};

/// A problem and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckError {
    /// The graph; `None` for what concerns the whole model.
    pub path: Option<GraphPath>,
    /// The node, as [`Graph::label`] calls it.
    pub node: Option<String>,
    /// The value.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong. [`Problem::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("IR version {version} is not supported")]
    UnsupportedIrVersion { version: i64 },
    #[error("no opset import for the domain {domain:?}")]
    MissingOpsetImport { domain: String },
    #[error("the domain {domain:?} is imported as version {} and as version {}", versions.0, versions.1)]
    ConflictingOpsetImport { domain: String, versions: (i64, i64) },
    #[error("version {version} of the domain {domain:?} is not supported")]
    UnsupportedOpset { domain: String, version: i64 },
    #[error("{what} has no name")]
    MissingName { what: &'static str },
    #[error("the name is defined twice, or hides a value of the graph around")]
    DuplicateValue,
    #[error("the graph input has no type")]
    MissingType,
    #[error("the element type {number} does not exist")]
    UnknownDtype { number: i32 },
    #[error("nothing produces the graph output")]
    MissingOutput,
    #[error("{slot} reads a value that does not exist")]
    UndefinedValue { slot: String },
    #[error("the node depends on itself")]
    Cycle,
    #[error("the node reads {reads:?}, which a later node produces")]
    NotSorted { reads: String },
    #[error("the operator {domain}{}{op_type} does not exist in version {version}", if domain.is_empty() { "" } else { "." })]
    UnknownOperator {
        domain: String,
        op_type: String,
        version: i64,
    },
    #[error("the operator {op_type} may not be used from version {since} on")]
    DeprecatedOperator { op_type: String, since: i64 },
    #[error("{found} {what}, {lowest} to {highest} are allowed")]
    WrongArity {
        what: &'static str,
        found: usize,
        lowest: usize,
        highest: usize,
    },
    #[error("the required input {input} is left out")]
    MissingInput { input: String },
    #[error("the attribute {attribute:?} is missing")]
    MissingAttribute { attribute: String },
    #[error("the operator has no attribute {attribute:?}")]
    UnknownAttribute { attribute: String },
    #[error("the attribute {attribute:?} is given twice")]
    DuplicateAttribute { attribute: String },
    #[error("the attribute {attribute:?} is of kind {found}, not {expected}")]
    AttributeType {
        attribute: String,
        expected: String,
        found: &'static str,
    },
    #[error("the attribute {attribute:?} refers to an attribute of a function, and is not in one")]
    AttributeReference { attribute: String },
    #[error("a Constant has exactly one value, not {found}")]
    ConstantValue { found: usize },
    #[error("the body {body:?} has {found} {what}, the node needs {expected}")]
    BodyArity {
        body: String,
        what: &'static str,
        found: usize,
        expected: usize,
    },
    #[error("two functions have this domain, name and overload")]
    DuplicateFunction { function: String },
    #[error("the function calls itself, directly or through others")]
    RecursiveFunction { function: String },
    #[error("{what}: found {found}, expected {expected}")]
    TypeMismatch {
        what: String,
        found: String,
        expected: String,
    },
    #[error("the sparse tensor is malformed: {reason}")]
    SparseIndex { reason: &'static str },
    #[error("the dimension {dim} is negative")]
    NegativeDim { dim: i64 },
    #[error("{message} (refused because of --strict)")]
    Refused { code: &'static str, message: String },
}

impl Problem {
    /// A stable name for this kind of problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedIrVersion { .. } => "unsupported-ir-version",
            Self::MissingOpsetImport { .. } => "missing-opset-import",
            Self::ConflictingOpsetImport { .. } => "conflicting-opset-import",
            Self::UnsupportedOpset { .. } => "unsupported-opset",
            Self::MissingName { .. } => "missing-name",
            Self::DuplicateValue => "duplicate-value",
            Self::MissingType => "missing-type",
            Self::UnknownDtype { .. } => "unknown-dtype",
            Self::MissingOutput => "missing-output",
            Self::UndefinedValue { .. } => "undefined-value",
            Self::Cycle => "cycle",
            Self::NotSorted { .. } => "not-sorted",
            Self::UnknownOperator { .. } => "unknown-operator",
            Self::DeprecatedOperator { .. } => "deprecated-operator",
            Self::WrongArity { .. } | Self::MissingInput { .. } => "wrong-arity",
            Self::MissingAttribute { .. } => "missing-attribute",
            Self::UnknownAttribute { .. } => "unknown-attribute",
            Self::DuplicateAttribute { .. } => "duplicate-attribute",
            Self::AttributeType { .. } => "attribute-type",
            Self::AttributeReference { .. } => "attribute-reference",
            Self::ConstantValue { .. } => "constant-value",
            Self::BodyArity { .. } => "body-arity",
            Self::DuplicateFunction { .. } => "duplicate-function",
            Self::RecursiveFunction { .. } => "recursive-function",
            Self::TypeMismatch { .. } => "type-mismatch",
            Self::SparseIndex { .. } => "sparse-index",
            Self::NegativeDim { .. } => "negative-dim",
            Self::Refused { code, .. } => code,
        }
    }
}

impl CheckError {
    /// A problem of the whole model.
    pub fn of_model(problem: Problem) -> Self {
        Self {
            path: None,
            node: None,
            value: None,
            problem,
        }
    }

    /// A problem of a graph.
    pub fn of_graph(path: &GraphPath, problem: Problem) -> Self {
        Self {
            path: Some(path.clone()),
            node: None,
            value: None,
            problem,
        }
    }

    /// A problem of a node.
    pub fn of_node(path: &GraphPath, graph: &Graph, node: NodeId, problem: Problem) -> Self {
        Self {
            path: Some(path.clone()),
            node: Some(graph.label(node)),
            value: None,
            problem,
        }
    }

    /// The same problem, about this value.
    pub fn with_value(mut self, value: &str) -> Self {
        self.value = Some(value.to_owned());
        self
    }

    /// The stable name of the problem.
    pub fn code(&self) -> &'static str {
        self.problem.code()
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            if let Some(index) = path.function {
                write!(f, "function {index}: ")?;
            }
            if !path.bodies.is_empty() {
                write!(f, "body at depth {}: ", path.bodies.len())?;
            }
        }
        if let Some(node) = &self.node {
            write!(f, "node {node:?}: ")?;
        }
        if let Some(value) = &self.value {
            write!(f, "value {value:?}: ")?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for CheckError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}
