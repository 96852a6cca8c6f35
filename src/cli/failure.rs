//! Everything that can go wrong, in one form: a stable code, where it is, why, and what may help.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::global::Global;
use super::terminal;
use crate::data::DataError;
use crate::engine::EngineError;
use crate::format::{FormatError, LiftError, LowerError};
use crate::ir::CheckError;
use crate::passes::PassError;
use crate::pipeline::{ConfigError, LackError, ReadError, RunError, StepError};
use crate::report::sanitise;
use crate::rewrite::RuleError;

/// An error as the user sees it.
#[derive(Debug)]
pub(super) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    code: String,
    message: String,
    file: Option<String>,
    node: Option<String>,
    value: Option<String>,
    hint: Option<String>,
    snippet: Option<Snippet>,
}

#[derive(Debug)]
struct Snippet {
    source: NamedSource<Arc<str>>,
    label: LabeledSpan,
    line: u64,
    column: u64,
}

/// The JSON form of an error.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErrorDocument<'a> {
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
}

impl Failure {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            code: code.to_owned(),
            message: message.into(),
            file: None,
            node: None,
            value: None,
            hint: None,
            snippet: None,
        }))
    }

    /// A command line that cannot be.
    pub(super) fn usage(message: &str) -> Self {
        Self::new("usage", message.strip_prefix("error: ").unwrap_or(message))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(super) fn in_file(mut self, path: &Path) -> Self {
        self.0.file.get_or_insert_with(|| path.display().to_string());
        self
    }

    pub(super) fn at_node(mut self, node: Option<impl Into<String>>) -> Self {
        self.0.node = node.map(Into::into);
        self
    }

    pub(super) fn at_value(mut self, value: Option<impl Into<String>>) -> Self {
        self.0.value = value.map(Into::into);
        self
    }

    /// Points at `length` bytes from `offset` of a text.
    pub(super) fn pointing(
        mut self,
        file: &str,
        text: &Arc<str>,
        offset: usize,
        length: usize,
        line: u64,
        column: u64,
    ) -> Self {
        self.0.file = Some(file.to_owned());
        let source = NamedSource::new(sanitise(file), text.clone());
        self.0.snippet = Some(Snippet {
            source,
            label: LabeledSpan::at(offset..offset + length.max(1), "here"),
            line,
            column,
        });
        self
    }

    pub(super) fn is_interruption(&self) -> bool {
        self.0.code == "interrupted"
    }

    /// Prints the error: as JSON on stdout under `--json`, else for people on stderr.
    pub(super) fn show(&self, global: &Global) {
        if global.json {
            return self.show_json();
        }
        let theme = if terminal::colours() {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let mut text = String::new();
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(110)
            .with_links(false);
        if handler.render_report(&mut text, self).is_err() {
            text = format!("error: {self}");
        }
        terminal::note(text.trim_start_matches('\n'));
    }

    pub(super) fn show_json(&self) {
        terminal::json(&ErrorDocument {
            error: ErrorBody {
                code: &self.0.code,
                message: &self.0.message,
                file: self.0.file.as_deref(),
                node: self.0.node.as_deref(),
                value: self.0.value.as_deref(),
                hint: self.0.hint.as_deref(),
                line: self
                    .0
                    .snippet
                    .as_ref()
                    .map(|snippet| snippet.line)
                    .filter(|line| *line > 0),
                column: self
                    .0
                    .snippet
                    .as_ref()
                    .map(|snippet| snippet.column)
                    .filter(|column| *column > 0),
            },
        });
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = sanitise(&self.0.message);
        match &self.0.file {
            Some(file) if self.0.snippet.is_none() && !message.contains(file.as_str()) => {
                write!(f, "{}: {message}", sanitise(file))
            }
            _ => f.write_str(&message),
        }
    }
}

impl Error for Failure {}

impl Diagnostic for Failure {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.0.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0
            .hint
            .as_ref()
            .map(|hint| Box::new(sanitise(hint)) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0
            .snippet
            .as_ref()
            .map(|snippet| &snippet.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = self.0.snippet.as_ref()?.label.clone();
        Some(Box::new(std::iter::once(label)))
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        let failure = match &error {
            FormatError::Read { path, .. }
            | FormatError::Write { path, .. }
            | FormatError::NotAFile { path } => failure.in_file(path),
            FormatError::OutputExists { path } | FormatError::OutputIsInput { path } => failure.in_file(path),
            FormatError::External { tensor, .. } => failure.at_value(Some(tensor.clone())),
            _ => failure,
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<LiftError> for Failure {
    fn from(error: LiftError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match &error {
            LiftError::Tensor { tensor, .. }
            | LiftError::ElementType { tensor, .. }
            | LiftError::Dimension { tensor, .. }
            | LiftError::Ambiguous { tensor }
            | LiftError::Segment { tensor }
            | LiftError::External { tensor, .. } => failure.at_value(Some(tensor.clone())),
            _ => failure.at_node(error.subject()).at_value(error.value()),
        }
    }
}

impl From<LowerError> for Failure {
    fn from(error: LowerError) -> Self {
        RunError::from(error).into()
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        failure.at_node(error.node).at_value(error.value)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let spot = error.spot;
        let failure = Self::new(error.code, error.message.clone()).pointing(
            &error.file,
            &error.text,
            spot.offset,
            spot.length,
            spot.line,
            spot.column,
        );
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Config(error) => error.into(),
            ReadError::File { ref path, .. } => Self::new("read-failed", error.to_string()).in_file(path),
        }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match &error {
            RunError::Pass {
                source: PassError::Model { node, .. },
                ..
            } => failure.at_node(Some(node.clone())),
            RunError::Invalid { source, .. } => failure
                .at_node(source.node.clone())
                .at_value(source.value.clone()),
            _ => failure,
        }
    }
}

impl From<PassError> for Failure {
    fn from(error: PassError) -> Self {
        let (code, node) = match &error {
            PassError::Edit { .. } => ("pass-defect", None),
            PassError::Option { .. } => ("pass-option", None),
            PassError::Model { node, .. } => ("pass-model", Some(node.clone())),
            PassError::Resource { .. } => ("pass-resource", None),
        };
        Self::new(code, error.to_string()).at_node(node)
    }
}

impl From<RuleError> for Failure {
    fn from(error: RuleError) -> Self {
        let file = error.place().file.to_string();
        Self::new(error.code(), error.to_string()).in_file(Path::new(&file))
    }
}

impl From<LackError> for Failure {
    fn from(error: LackError) -> Self {
        match error {
            LackError::At(error) => Self::from(*error),
            LackError::Data(error) => Self::from(error),
            LackError::Missing { message, hint } => Self::new("data-missing", message).hint(hint),
        }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        if let DataError::Config { source } = error {
            return Self::from(*source);
        }
        let failure = Self::new(error.code(), error.to_string());
        match error.file() {
            Some(file) => failure.in_file(file),
            None => failure,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let (code, node) = match &error {
            EngineError::Unsupported { node, .. } => ("engine-unsupported", node.clone()),
            EngineError::Failed { .. } => ("engine-failed", None),
            EngineError::Input { .. } => ("engine-input", None),
            EngineError::Unavailable { .. } => ("engine-unavailable", None),
            EngineError::TimedOut { .. } => ("engine-timed-out", None),
            EngineError::Ended { node, .. } => ("engine-ended", node.clone()),
            EngineError::Memory { .. } => ("engine-memory", None),
            EngineError::Shapes { node, .. } => ("contradictory-shapes", Some(node.clone())),
        };
        let failure = Self::new(code, error.to_string()).at_node(node);
        match error {
            EngineError::Memory { .. } => failure.hint("--engine-memory MB allows more"),
            _ => failure,
        }
    }
}
