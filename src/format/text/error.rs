//! Where a text is wrong, and what would have been right.

use std::fmt;
use std::ops::Range;

/// Longest part of a source line that an error shows, in characters.
const SNIPPET_LIMIT: usize = 160;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextProblem {
    /// The next token is not one that may stand here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What may stand here.
        expected: String,
        /// What stands here.
        found: String,
    },
    /// A character that no token starts with.
    #[error("unexpected character {found:?}")]
    Character {
        /// The character.
        found: char,
    },
    /// A string literal without its closing quote.
    #[error("this string has no closing quote")]
    UnterminatedString,
    /// A byte string `x"..."` that is not an even number of hexadecimal digits.
    #[error("a byte string x\"...\" holds pairs of hexadecimal digits")]
    ByteString,
    /// A number that cannot be read as the type that is wanted.
    #[error("{literal} is not a valid {wanted}")]
    Number {
        /// The literal as written.
        literal: String,
        /// The type that is wanted.
        wanted: &'static str,
    },
    /// A tensor whose number of values disagrees with its shape.
    #[error("this tensor's shape needs {expected} values, found {found}")]
    ElementCount {
        /// Values that the shape needs.
        expected: u64,
        /// Values that are there.
        found: u64,
    },
    /// A tensor constant whose shape is not made of numbers.
    #[error("a tensor constant needs a shape of numbers")]
    ConstantShape,
    /// Data that `max_elements` left out when the text was printed.
    #[error("this text was printed with data left out (`...`) and cannot be read back")]
    Elided,
    /// An attribute whose value is of another type than declared.
    #[error("attribute {name:?} is declared {declared}, but its value is {found}")]
    AttributeType {
        /// Attribute name.
        name: String,
        /// Declared type.
        declared: &'static str,
        /// Type of the value.
        found: &'static str,
    },
    /// An empty list whose attribute type is not declared.
    #[error("attribute {name:?} is an empty list: declare its type, as in `{name}: ints = []`")]
    UntypedEmptyList {
        /// Attribute name.
        name: String,
    },
    /// Types or graphs nested deeper than the limit.
    #[error("nested more than {limit} levels deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

impl TextProblem {
    /// The stable code of this problem.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expected { .. } => "text-expected",
            Self::Character { .. } => "text-character",
            Self::UnterminatedString => "text-unterminated-string",
            Self::ByteString => "text-byte-string",
            Self::Number { .. } => "text-number",
            Self::ElementCount { .. } => "text-element-count",
            Self::ConstantShape => "text-constant-shape",
            Self::Elided => "text-elided",
            Self::AttributeType { .. } => "text-attribute-type",
            Self::UntypedEmptyList { .. } => "text-untyped-empty-list",
            Self::TooDeep { .. } => "text-too-deep",
        }
    }
}

/// An error in a text, with its place.
///
/// Displays as `FILE:LINE:COLUMN: problem`, the source line and a caret below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    problem: TextProblem,
    file: Option<String>,
    span: Range<usize>,
    line: usize,
    column: usize,
    snippet: String,
    caret: usize,
}

impl TextError {
    /// The error `problem` at the byte range `span` of `source`. A range outside of the source is moved into it.
    pub(crate) fn new(source: &str, span: Range<usize>, problem: TextProblem) -> Self {
        let mut start = span.start.min(source.len());
        while !source.is_char_boundary(start) {
            start -= 1;
        }
        let before = source.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source
            .get(start..)
            .and_then(|rest| rest.find('\n'))
            .map_or(source.len(), |newline| start + newline);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let skipped = column.saturating_sub(SNIPPET_LIMIT / 2);
        let snippet: String = source
            .get(line_start..line_end)
            .unwrap_or_default()
            .chars()
            .skip(skipped)
            .take(SNIPPET_LIMIT)
            .map(|character| if character.is_control() { ' ' } else { character })
            .collect();
        Self(Box::new(Details {
            problem,
            file: None,
            span: start..span.end.clamp(start, source.len()),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            snippet: snippet.trim_end().to_owned(),
            caret: column - skipped,
        }))
    }

    /// The same error, said of the file `name`.
    #[must_use]
    pub fn in_file(mut self, name: impl Into<String>) -> Self {
        self.0.file = Some(name.into());
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &TextProblem {
        &self.0.problem
    }

    /// The stable code of the problem.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.problem.code()
    }

    /// The file's name, if one was given.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// The line, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.0.line
    }

    /// The column, in characters from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.0.column
    }

    /// The byte range in the source.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.0.span.clone()
    }

    /// The source line, cut to the part around the error when it is long.
    #[must_use]
    pub fn snippet(&self) -> &str {
        &self.0.snippet
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        if let Some(file) = &details.file {
            write!(f, "{file}:")?;
        }
        write!(f, "{}:{}: {}", details.line, details.column, details.problem)?;
        if !details.snippet.is_empty() {
            write!(
                f,
                "\n  {}\n  {:caret$}^",
                details.snippet,
                "",
                caret = details.caret
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for TextError {}
