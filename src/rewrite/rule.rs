//! A rule as the driver uses it: patterns with numbered names, clauses, replacement.

use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::safety::Safety;
use crate::ops;

use super::error::Place;
use super::syntax::{Spanned, Statement};

/// Families of rules that are left out unless they are asked for: `lowering` turns operators into what an engine can run, which
/// simplifies nothing, `ort` into such as only ONNX Runtime has, `ort-latest` into such as only its newest releases have; `parallel` makes
/// one product of several, whose parts a Split copies.
pub const OPTIONAL_FAMILIES: [&str; 4] = ["lowering", "ort", "ort-latest", "parallel"];

/// One rule file.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name, unique in a set.
    pub name: String,
    /// The folder of the file.
    pub family: String,
    /// The file.
    pub file: Arc<str>,
    /// One sentence.
    pub summary: String,
    /// What the rule preserves.
    pub safety: Safety,
    /// First and last opset in which the rule holds.
    pub opset: (i64, Option<i64>),
    /// Among rules that match the same node, the higher first. Rules below 0 wait until no other fires.
    pub priority: i64,
    /// The text of each alternative of `match`.
    pub matches: Vec<String>,
    /// The clauses of `where`.
    pub clauses: Vec<String>,
    /// The text of `replace`.
    pub replace: String,
    /// Operators that each variable of `for` stands for.
    pub operators: IndexMap<String, Vec<String>>,
    pub(crate) examples: Examples,
    pub(crate) instances: Vec<Instance>,
}

/// The cases that prove a rule. Those of the embedded rules are read when somebody asks for them: most of a rule file is examples, and who
/// applies rules needs none.
#[derive(Clone, Debug)]
pub(crate) struct Examples {
    pub(super) found: OnceLock<Vec<Example>>,
    pub(super) unread: Option<Unread>,
}

/// The end of a file that begins with `examples:`, and how many lines stand before.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    pub(crate) text: &'static str,
    pub(crate) before: usize,
}

impl Examples {
    pub(crate) fn read(examples: Vec<Example>) -> Self {
        Self {
            found: OnceLock::from(examples),
            unread: None,
        }
    }

    pub(crate) fn unread(unread: Unread) -> Self {
        Self {
            found: OnceLock::new(),
            unread: Some(unread),
        }
    }
}

/// One case of a rule: descriptions of its inputs and parameters, and what is expected.
#[derive(Clone, Debug)]
pub struct Example {
    pub(crate) fields: IndexMap<String, Json>,
    pub(crate) place: Place,
}

/// A rule with one alternative of `match` and one operator for each variable of `for`.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Which text of `match`.
    pub(crate) alternative: usize,
    /// Operator by variable.
    pub(crate) operators: Vec<(String, String)>,
    /// Names by number: `x`, `@eps`, `*rest`.
    pub(crate) names: Vec<String>,
    pub(crate) pattern: Pattern,
    /// The pattern as statements, to build it.
    pub(crate) source: Vec<Statement>,
    pub(crate) clauses: Vec<(String, Spanned)>,
    pub(crate) replace: Vec<Statement>,
    /// Names of values that the replacement defines in place of the pattern's.
    pub(crate) results: Vec<String>,
}

/// A pattern: nodes, the last one being the root from which all others are reached, but for siblings.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) nodes: Vec<PatternNode>,
    pub(crate) siblings: Vec<Sibling>,
}

/// A part of a pattern that the root does not reach through its operands: another reader of a value that the root's part reads, too.
#[derive(Clone, Debug)]
pub(crate) struct Sibling {
    /// The name of the value that both read.
    pub(crate) shared: usize,
    /// The node that reads it, what reads that one, and so on up to the root of the part.
    pub(crate) path: Vec<usize>,
}

/// One operator of a pattern.
#[derive(Clone, Debug)]
pub(crate) struct PatternNode {
    pub(crate) domain: String,
    pub(crate) op_type: String,
    pub(crate) attributes: Vec<(String, Spanned)>,
    /// The name that takes all other attributes.
    pub(crate) rest: Option<usize>,
    pub(crate) operands: Vec<Operand>,
    /// Names of outputs; `None` for one that is not named.
    pub(crate) outputs: Vec<Option<usize>>,
}

/// What stands in an input slot of a pattern node.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    /// Any value, or nothing if optional.
    Value { name: usize, optional: bool },
    /// `_`: any value.
    Any,
    /// Output `output` of pattern node `node`, with its name if it has one.
    Node { node: usize, output: usize },
    /// A constant whose elements all have these bits.
    Number(Spanned),
    /// Any number of values.
    Splat(usize),
}

impl Example {
    /// What the file says of each input and parameter, in its order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Rule {
    /// Whether the rule is applied only where its family or the rule itself is asked for.
    pub fn is_optional(&self) -> bool {
        OPTIONAL_FAMILIES.contains(&self.family.as_str())
    }

    /// Whether the rule holds in this opset.
    pub fn holds_in(&self, opset: i64) -> bool {
        opset >= self.opset.0 && self.opset.1.is_none_or(|last| opset <= last)
    }

    /// The opset range as the file writes it.
    pub fn opset_text(&self) -> String {
        match self.opset.1 {
            Some(last) => format!("{}..{last}", self.opset.0),
            None => format!("{}..", self.opset.0),
        }
    }
}

impl Sibling {
    /// The root of the part.
    pub(crate) fn root(&self) -> usize {
        self.path.last().copied().unwrap_or_default()
    }
}

impl Pattern {
    /// The root: the node that the driver looks for.
    pub(crate) fn root(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }
}

/// Whether the first two operands may be tried the other way round. `Max` and `Min` differ by the order of their operands in
/// the sign of zero and in NaN only.
pub(crate) fn swaps(domain: &str, op_type: &str) -> bool {
    ops::Traits::of(domain, op_type).commutative || domain.is_empty() && matches!(op_type, "Max" | "Min")
}
