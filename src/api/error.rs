//! Everything that can go wrong, in one form: a stable code, where it is, why, and what may help.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::report::sanitise;

/// Why something could not be done.
///
/// [`Error::code`] is stable and made for programs; [`Error::message`] and [`Error::hint`] are for people and may change their words.
/// Hints are those of the command line: the flag that they name is the method of [`Options`](crate::Options) with that name. That a
/// result is not good enough is no error but an answer: see [`Outcome`](crate::Outcome).
///
/// Serialized, it is the document that the command line prints under `--json`, with `step` where a step of a pipeline is at fault.
///
/// # Examples
///
/// ```
/// let error = secateur::Model::open("no-such-file.onnx").unwrap_err();
/// assert_eq!(error.code(), "read-failed");
/// assert_eq!(error.file(), Some("no-such-file.onnx"));
/// ```
pub struct Error(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    code: String,
    message: String,
    file: Option<String>,
    node: Option<String>,
    value: Option<String>,
    step: Option<usize>,
    hint: Option<String>,
    place: Option<ErrorPlace>,
}

/// Where in a text something is wrong.
#[derive(Clone, Debug)]
pub struct ErrorPlace {
    /// The whole text.
    pub text: Arc<str>,
    /// Line, from 1; 0 where it is not known.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// The first byte.
    pub offset: usize,
    /// Bytes, at least 1.
    pub length: usize,
}

impl Error {
    /// An error with a code in lower case and hyphens, as every code is.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        debug_assert!(
            Self::codes().any(|(_, known)| known == code),
            "{code} is not in the table of codes"
        );
        Self(Box::new(Details {
            code: code.to_owned(),
            message: message.into(),
            file: None,
            node: None,
            value: None,
            step: None,
            hint: None,
            place: None,
        }))
    }

    /// A call that cannot be.
    pub(crate) fn usage(message: &str) -> Self {
        Self::new("usage", message.strip_prefix("error: ").unwrap_or(message))
    }

    /// Work that its caller ended.
    pub(crate) fn cancelled() -> Self {
        Self::new("cancelled", "the work was cancelled; nothing was written")
    }

    /// The same in other words, such as those of a step around it.
    pub(crate) fn saying(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.0.file.get_or_insert_with(|| path.display().to_string());
        self
    }

    /// The same for a source that may be no file.
    pub(crate) fn in_source(self, path: Option<&Path>) -> Self {
        match path {
            Some(path) => self.in_file(path),
            None => self,
        }
    }

    pub(crate) fn at_node(mut self, node: Option<impl Into<String>>) -> Self {
        self.0.node = node.map(Into::into);
        self
    }

    pub(crate) fn at_value(mut self, value: Option<impl Into<String>>) -> Self {
        self.0.value = value.map(Into::into);
        self
    }

    pub(crate) fn at_step(mut self, step: usize) -> Self {
        self.0.step = Some(step);
        self
    }

    /// The document of an error inside another one: its fields alone.
    pub(crate) fn body_of<S: Serializer>(error: &Option<Self>, serializer: S) -> Result<S::Ok, S::Error> {
        let body = error.as_ref().map(|error| ErrorDocument::of(error).error);
        body.serialize(serializer)
    }

    /// Points at a place of the text in `file`.
    pub(crate) fn pointing(mut self, file: &str, place: ErrorPlace) -> Self {
        self.0.file = Some(file.to_owned());
        self.0.place = Some(ErrorPlace {
            length: place.length.max(1),
            ..place
        });
        self
    }

    /// A stable name of what is wrong, in lower case and hyphens: `read-failed`, `unknown-option`, `data-shape`, `cancelled`.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What is wrong, for people. Names come from files and may hold anything: [`Error`]'s `Display` makes them harmless.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What may help.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The file at fault.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// The node at fault.
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The value or tensor at fault.
    pub fn value(&self) -> Option<&str> {
        self.0.value.as_deref()
    }

    /// The step of the pipeline at fault, counted from 1.
    pub fn step(&self) -> Option<usize> {
        self.0.step
    }

    /// The place in the text of [`Error::file`], for pipelines and descriptions of data.
    pub fn place(&self) -> Option<&ErrorPlace> {
        self.0.place.as_ref()
    }

    /// The line of that place, from 1.
    pub fn line(&self) -> Option<u64> {
        self.place().map(|place| place.line).filter(|line| *line > 0)
    }

    /// The column of that place, from 1.
    pub fn column(&self) -> Option<u64> {
        self.place()
            .map(|place| place.column)
            .filter(|column| *column > 0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = sanitise(&self.0.message);
        match &self.0.file {
            Some(file) if self.0.place.is_none() && !message.contains(file.as_str()) => {
                write!(f, "{}: {message}", sanitise(file))
            }
            _ => f.write_str(&message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown
            .field("code", &self.0.code)
            .field("message", &self.0.message);
        let parts = [
            ("file", self.file()),
            ("node", self.node()),
            ("value", self.value()),
            ("hint", self.hint()),
        ];
        for (name, part) in parts {
            if let Some(part) = part {
                shown.field(name, &part);
            }
        }
        shown.finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ErrorDocument::of(self).serialize(serializer)
    }
}

/// The JSON form of an error.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ErrorBody<'a> {
    /// Stable code.
    code: &'a str,
    /// What is wrong.
    message: &'a str,
    /// The file at fault.
    file: Option<&'a str>,
    /// The node at fault.
    node: Option<&'a str>,
    /// The value or tensor at fault.
    value: Option<&'a str>,
    /// What may help.
    hint: Option<&'a str>,
    /// Line in the file, from 1.
    line: Option<u64>,
    /// Column, from 1.
    column: Option<u64>,
    /// The step of the pipeline at fault, from 1. The command line says it in the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
}

impl<'a> ErrorDocument<'a> {
    /// What the command line prints of an error.
    pub(crate) fn of(error: &'a Error) -> Self {
        Self {
            error: ErrorBody {
                code: error.code(),
                message: error.message(),
                file: error.file(),
                node: error.node(),
                value: error.value(),
                hint: error.hint(),
                line: error.line(),
                column: error.column(),
                step: error.step(),
            },
        }
    }
}
