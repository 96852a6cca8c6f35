//! What the modules call wrong, as an [`Error`]. Each module has the codes of its own errors; nothing here gives them other ones.

use std::path::Path;

use super::error::{Error, ErrorPlace};
use crate::autodiff::AutodiffError;
use crate::data::DataError;
use crate::engine::EngineError;
use crate::evaluate::EvaluateError;
use crate::features::FeatureError;
use crate::finetune::FinetuneError;
use crate::format::{FormatError, LiftError, ToProtoError};
use crate::ir::CheckError;
use crate::parts::PartsError;
use crate::passes::{PassError, ResourceError};
use crate::pipeline::{ConfigError, LackError, ReadError, RunError, StepError, TemplateError};
use crate::rewrite::RuleError;
use crate::statistics::{StatisticsError, StatisticsFileError};
use crate::sweep::RecordError;

/// An error with a hint, where there is one.
fn hinted(error: Error, hint: Option<impl Into<String>>) -> Error {
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// An error in the words of who was at work; what was cancelled stays just that.
fn said(error: Error, message: String) -> Error {
    match error.code() == Error::cancelled().code() {
        true => error,
        false => error.saying(message),
    }
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        let made = Self::new(error.code(), error.to_string());
        let made = match &error {
            FormatError::Read { path, .. }
            | FormatError::Write { path, .. }
            | FormatError::NotAFile { path }
            | FormatError::OutputExists { path }
            | FormatError::OutputIsInput { path }
            | FormatError::DataInUse { path, .. } => made.in_file(path),
            FormatError::External { tensor, .. } => made.at_value(Some(tensor.clone())),
            FormatError::Container(error) => made
                .in_source(error.path.as_deref())
                .at_value(error.tensor.clone()),
            _ => made,
        };
        hinted(made, error.hint())
    }
}

impl From<LiftError> for Error {
    fn from(error: LiftError) -> Self {
        let made = Self::new(error.code(), error.to_string());
        match &error {
            LiftError::Tensor { tensor, .. }
            | LiftError::ElementType { tensor, .. }
            | LiftError::Dimension { tensor, .. }
            | LiftError::Ambiguous { tensor }
            | LiftError::Segment { tensor }
            | LiftError::External { tensor, .. } => made.at_value(Some(tensor.clone())),
            _ => made.at_node(error.subject()).at_value(error.value()),
        }
    }
}

impl From<ToProtoError> for Error {
    fn from(error: ToProtoError) -> Self {
        RunError::from(error).into()
    }
}

impl From<CheckError> for Error {
    fn from(error: CheckError) -> Self {
        let made = Self::new(error.code(), error.to_string());
        made.at_node(error.node).at_value(error.value)
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let place = ErrorPlace {
            text: error.text,
            line: error.spot.line,
            column: error.spot.column,
            offset: error.spot.offset,
            length: error.spot.length,
        };
        let made = Self::new(error.code, error.message).pointing(&error.file, place);
        hinted(made, error.hint)
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Config(error) => error.into(),
            ReadError::File { ref path, .. } => Self::new("read-failed", error.to_string()).in_file(path),
        }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        let made = Self::new(error.code(), error.to_string()).in_file(error.path());
        match error {
            RecordError::Foreign { .. } => made.with_hint("remove the file, and the point is computed again"),
            RecordError::Read { .. } => made,
        }
    }
}

impl From<StepError> for Error {
    fn from(error: StepError) -> Self {
        hinted(Self::new(error.code(), error.to_string()), error.hint())
    }
}

impl From<TemplateError> for Error {
    fn from(error: TemplateError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        let made = Self::new(error.code(), error.to_string());
        match error {
            RunError::Pass { step, source } => {
                let message = made.message().to_owned();
                said(source.into(), message).at_step(step)
            }
            RunError::Invalid { step, source, .. } => {
                made.at_step(step).at_node(source.node).at_value(source.value)
            }
            RunError::Cancelled => Self::cancelled(),
            RunError::Parts(error) => error.into(),
            _ => made,
        }
    }
}

impl From<PassError> for Error {
    fn from(error: PassError) -> Self {
        let message = error.to_string();
        match error {
            PassError::Resource { source, .. } => said((*source).into(), message),
            other => Self::new(other.code(), message).at_node(other.node().map(str::to_owned)),
        }
    }
}

impl From<ResourceError> for Error {
    fn from(error: ResourceError) -> Self {
        let message = error.to_string();
        match error {
            ResourceError::Data(error) => error.into(),
            ResourceError::Engine(error) => error.into(),
            ResourceError::Statistics(error) => error.into(),
            ResourceError::StatisticsFile(error) => error.into(),
            ResourceError::Evaluate(error) => error.into(),
            ResourceError::Rule(error) => error.into(),
            ResourceError::Parts(error) => error.into(),
            ResourceError::Features(error) => error.into(),
            ResourceError::Training(FinetuneError::Data(error)) => error.into(),
            ResourceError::Training(FinetuneError::Engine(error)) => error.into(),
            ResourceError::Training(FinetuneError::Autodiff(error)) => error.into(),
            ResourceError::Model { path, source } => said(source.into(), message).in_file(&path),
            ResourceError::Invalid { path, source } => said((*source).into(), message).in_file(&path),
            ResourceError::Of { source, .. } => said((*source).into(), message),
            ResourceError::Unreachable { ref path, .. } | ResourceError::Text { ref path, .. } => {
                Self::new(error.code(), message).in_file(path)
            }
            other => Self::new(other.code(), message),
        }
    }
}

impl From<RuleError> for Error {
    fn from(error: RuleError) -> Self {
        let file = error.place().file.to_string();
        Self::new(error.code(), error.to_string()).in_file(Path::new(&file))
    }
}

impl From<LackError> for Error {
    fn from(error: LackError) -> Self {
        match error {
            LackError::At(error) => Self::from(*error),
            LackError::Data(error) => Self::from(error),
            LackError::Missing { message, hint } => Self::new("data-missing", message).with_hint(hint),
        }
    }
}

impl From<DataError> for Error {
    fn from(error: DataError) -> Self {
        if let DataError::Config { source } = error {
            return Self::from(*source);
        }
        let made = Self::new(error.code(), error.to_string());
        let hint = match error {
            DataError::NoArray { .. } => {
                Some("`inputs: {INPUT: ARRAY}` in the description says which array fills an input")
            }
            DataError::Shape { .. } => Some(
                "the first axis of an array is that of its samples, the others are those of the input behind its batch",
            ),
            _ => None,
        };
        let made = hinted(made, hint);
        match error.file() {
            Some(file) => made.in_file(file),
            None => made,
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        let made = Self::new(error.code(), error.to_string()).at_node(error.node().map(str::to_owned));
        match error {
            EngineError::Memory { .. } => made.with_hint("--engine-memory MB allows more"),
            EngineError::Cancelled => Self::cancelled(),
            _ => made,
        }
    }
}

impl From<EvaluateError> for Error {
    fn from(error: EvaluateError) -> Self {
        match error {
            EvaluateError::Data(error) => error.into(),
            EvaluateError::Engine(error) => error.into(),
            EvaluateError::Parts(error) => error.into(),
            EvaluateError::State { ref file, .. } => Self::new(error.code(), error.to_string()).in_file(file),
            EvaluateError::Output { ref output, .. } => {
                Self::new(error.code(), error.to_string()).at_value(Some(output.clone()))
            }
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

impl From<FeatureError> for Error {
    fn from(error: FeatureError) -> Self {
        match error {
            FeatureError::Data(error) => error.into(),
            FeatureError::Engine(error) => error.into(),
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

impl From<AutodiffError> for Error {
    fn from(error: AutodiffError) -> Self {
        let made = Self::new(error.code(), error.to_string()).at_node(error.node().map(str::to_owned));
        match error {
            AutodiffError::Operator { .. } => {
                made.with_hint("`docs/autodiff.md` lists the operators that have gradients")
            }
            AutodiffError::UnknownType { .. } => made.with_hint("`--bind NAME=SIZE` fixes symbolic sizes"),
            _ => made,
        }
    }
}

impl From<PartsError> for Error {
    fn from(error: PartsError) -> Self {
        let made = Self::new(error.code(), error.to_string());
        match error {
            PartsError::Foreign { file, .. } | PartsError::Io { file, .. } => made.in_file(&file),
            PartsError::Waiting { .. } | PartsError::Stale { .. } => made,
        }
    }
}

impl From<StatisticsError> for Error {
    fn from(error: StatisticsError) -> Self {
        match error {
            StatisticsError::Parts(error) => error.into(),
            StatisticsError::Autodiff(error) => error.into(),
            StatisticsError::Data(error) => error.into(),
            StatisticsError::Engine(error) => error.into(),
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

impl From<StatisticsFileError> for Error {
    fn from(error: StatisticsFileError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
