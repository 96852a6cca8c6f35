//! Errors of rule files.

use std::fmt;
use std::sync::Arc;

/// A place in a rule file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// File.
    pub file: Arc<str>,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.file)
        } else {
            write!(f, "{}:{}:{}", self.file, self.line, self.column)
        }
    }
}

/// Why a rule file was refused.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum RuleError {
    /// The file cannot be read.
    #[error("{place}: {reason}")]
    Read {
        /// Where.
        place: Place,
        /// The system's words.
        reason: String,
    },
    /// Not YAML, or not the fields of a rule.
    #[error("{place}: {reason}")]
    Yaml {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// A text that is not of the rule language.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// A name that the pattern does not bind.
    #[error("{place}: {name} is not bound by the pattern")]
    Unbound {
        /// Where.
        place: Place,
        /// The name.
        name: String,
    },
    /// The replacement leaves a result of the pattern undefined.
    #[error("{place}: the replacement does not define {name}")]
    Undefined {
        /// Where.
        place: Place,
        /// The result.
        name: String,
    },
    /// Two rules match the same operators and neither goes first.
    #[error("{place}: matches the same operators as {other}; give one of them a `priority`")]
    Overlap {
        /// Where.
        place: Place,
        /// The other rule.
        other: String,
    },
    /// The replacement is not cheaper.
    #[error("{place}: the replacement costs {after}, the pattern {before}: a rule must lower the cost")]
    Cost {
        /// Where.
        place: Place,
        /// Cost of the pattern.
        before: String,
        /// Cost of the replacement.
        after: String,
    },
    /// An opset range that is none, or in which an operator does not exist.
    #[error("{place}: {reason}")]
    Opset {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// A name that does not exist.
    #[error("{place}: there is no {kind} {name}{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// Where.
        place: Place,
        /// `operator`, `attribute`, `predicate or helper`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// A construct that is of the language but not allowed here, or an argument of the wrong kind.
    #[error("{place}: {reason}")]
    Misuse {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// Two rules of one name.
    #[error("{place}: there is already a rule {name}, in {other}")]
    Duplicate {
        /// Where.
        place: Place,
        /// The name.
        name: String,
        /// The other file.
        other: String,
    },
}

impl RuleError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "rule-read",
            Self::Yaml { .. } => "rule-yaml",
            Self::Syntax { .. } => "rule-syntax",
            Self::Unbound { .. } => "rule-unbound",
            Self::Undefined { .. } => "rule-undefined",
            Self::Overlap { .. } => "rule-overlap",
            Self::Cost { .. } => "rule-cost",
            Self::Opset { .. } => "rule-opset",
            Self::Unknown { .. } => "rule-unknown",
            Self::Misuse { .. } => "rule-misuse",
            Self::Duplicate { .. } => "rule-duplicate",
        }
    }

    /// Where the error is.
    pub fn place(&self) -> &Place {
        match self {
            Self::Read { place, .. }
            | Self::Yaml { place, .. }
            | Self::Syntax { place, .. }
            | Self::Unbound { place, .. }
            | Self::Undefined { place, .. }
            | Self::Overlap { place, .. }
            | Self::Cost { place, .. }
            | Self::Opset { place, .. }
            | Self::Unknown { place, .. }
            | Self::Misuse { place, .. }
            | Self::Duplicate { place, .. } => place,
        }
    }
}
