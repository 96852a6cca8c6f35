//! Report files: which form the ending of a name asks for, and what is written in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::Error;
use super::evaluate::Evaluation;
use super::model::{Model, difference};
use super::options::Options;
use super::save::write_file;
use super::verify::Verification;
use crate::files::read_text;
use crate::pipeline::{RunReport, digest};
use crate::report::page::{self, Source};
use crate::report::stored::Stored;
use crate::report::table::Style;
use crate::report::{evaluation, github, junit, markdown, sanitise};

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The answer as `--json` prints it.
    Json,
    /// For pull requests.
    Markdown,
    /// JUnit XML: what was asked for as test cases.
    Junit,
    /// One page with pictures.
    Html,
    /// Commands of a GitHub workflow.
    Github,
}

impl Form {
    /// The form that the ending of a file's name asks for.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        match path.extension().and_then(OsStr::to_str) {
            Some("json") => Ok(Self::Json),
            Some("md") => Ok(Self::Markdown),
            Some("xml") => Ok(Self::Junit),
            Some("html" | "htm") => Ok(Self::Html),
            // Commands are for the log of a job, not for files.
            _ => Err(Error::usage(&format!(
                "{}: a report ends in .html, .json, .md or .xml",
                path.display()
            ))),
        }
    }
}

impl Options {
    /// Refuses reports of no known form.
    pub(crate) fn check_reports(&self) -> Result<(), Error> {
        self.reports
            .iter()
            .try_for_each(|path| Form::of(path).map(|_| ()))
    }

    /// Whether one of the reports is a page.
    pub(crate) fn wants_page(&self) -> bool {
        self.reports
            .iter()
            .any(|path| matches!(Form::of(path), Ok(Form::Html)))
    }

    /// Writes the reports that are asked for, in the words that `say` has for each form.
    pub(crate) fn write_reports(&self, say: impl Fn(Form) -> Result<String, Error>) -> Result<(), Error> {
        let texts: Vec<String> = self
            .reports
            .iter()
            .map(|path| say(Form::of(path)?))
            .collect::<Result<_, _>>()?;
        let mut written = self.reports.iter().zip(texts);
        written.try_for_each(|(path, text)| write_file(path, text.as_bytes(), self.force))
    }

    /// What makes an answer about these models again.
    pub(crate) fn source(&self, models: &[(&str, &Model)], engine: &str) -> Source {
        let mut facts = vec![
            (
                "version of secateur".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("engine".to_owned(), engine.to_owned()),
            ("seed".to_owned(), self.seed.to_string()),
        ];
        for (role, model) in models {
            let role = *role;
            if let Some(path) = &model.origin.path {
                facts.push((role.to_owned(), path.display().to_string()));
            }
            if let Ok(origin) = model.settled() {
                facts.push((format!("BLAKE3 of {role}"), digest(&origin)));
            }
        }
        Source {
            command: self.command.clone(),
            facts,
        }
    }
}

/// A run in a form of text. `model` is the file that was run on.
pub(crate) fn of_run(form: Form, name: &str, model: &Model, report: &RunReport) -> Result<String, Error> {
    match form {
        Form::Json => json(report),
        Form::Markdown => Ok(markdown::run(&format!("secateur: {name}"), report)),
        Form::Junit => junit(junit::run(name, &model.file_name(), report)),
        Form::Github => Ok(github::run(name, model.file().as_deref(), report)),
        Form::Html => Err(page_is_a_file()),
    }
}

/// A comparison in a form of text.
pub(crate) fn of_comparison(
    form: Form,
    found: &Verification,
    (reference, model): (&Model, &Model),
) -> Result<String, Error> {
    let (report, nodes) = (&found.report, found.per_node.as_ref());
    match form {
        Form::Json => json(found),
        Form::Markdown => Ok(format!(
            "# secateur: {} against {}\n\n{}\n",
            sanitise(&model.file_name()),
            sanitise(&reference.file_name()),
            found.to_text(Style::Markdown)
        )),
        Form::Junit => junit(junit::comparison(&model.file_name(), report, nodes)),
        Form::Github => Ok(github::comparison(model.file().as_deref(), report, nodes)),
        Form::Html => Err(page_is_a_file()),
    }
}

/// A measurement in a form of text.
pub(crate) fn of_measurement(form: Form, found: &Evaluation, model: &Model) -> Result<String, Error> {
    match form {
        Form::Json => json(&found.document()),
        Form::Markdown => Ok(evaluation::markdown(&found.figures, &found.gates)),
        Form::Junit => junit(junit::measurement(
            &model.file_name(),
            found.figures.samples,
            &found.gates,
        )),
        Form::Github => {
            let samples = found.figures.samples;
            Ok(github::measurement(
                model.file().as_deref(),
                samples,
                &found.gates,
            ))
        }
        Form::Html => Err(page_is_a_file()),
    }
}

fn page_is_a_file() -> Error {
    Error::usage("a page goes to a file: --report FILE.html")
}

/// A document of test cases.
fn junit<E: std::fmt::Display>(made: Result<String, E>) -> Result<String, Error> {
    made.map_err(|error| Error::new("report", error.to_string()))
}

/// An answer as JSON.
pub(crate) fn json(answer: &impl Serialize) -> Result<String, Error> {
    let text =
        serde_json::to_string_pretty(answer).map_err(|error| Error::new("report", error.to_string()))?;
    Ok(text + "\n")
}

/// A page that has stored results of `run`, `verify` and `evaluate` side by side: their figures, what is worse than in the first, and what
/// costs and quality buy each other. `results` are names and the JSON that `--json` or `--report FILE.json` wrote.
///
/// # Errors
///
/// `stored-report`: a text that is no JSON report.
///
/// # Examples
///
/// ```
/// use secateur::{Model, Options, Pipeline, compare_reports};
/// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
/// let outcome = Pipeline::preset("simplify")?.run(&model, &Options::new())?;
/// let json = serde_json::to_string(&outcome.report).unwrap();
/// let page = compare_reports(&[("monday", &json), ("tuesday", &json)])?;
/// assert!(page.contains("none is worse than monday"));
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn compare_reports(results: &[(&str, &str)]) -> Result<String, Error> {
    let stored: Vec<Stored> = results
        .iter()
        .map(|(name, text)| parsed(name, text))
        .collect::<Result<_, _>>()?;
    side_by_side(&stored)
}

/// Writes the page of [`compare_reports`] on files.
pub(crate) fn compare_files(results: &[PathBuf], output: &Path, force: bool) -> Result<(), Error> {
    let stored: Vec<Stored> = results
        .iter()
        .map(|path| stored(path))
        .collect::<Result<_, _>>()?;
    write_file(output, side_by_side(&stored)?.as_bytes(), force)
}

/// A stored result in a file.
pub(crate) fn stored(path: &Path) -> Result<Stored, Error> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|error| Error::new("stored-report", format!("{name}: {error}")))?;
    parsed(&name, &text)
}

fn parsed(name: &str, text: &str) -> Result<Stored, Error> {
    let document = serde_json::from_str(text)
        .map_err(|error| Error::new("stored-report", format!("{name}: this is no JSON: {error}")))?;
    Ok(Stored {
        name: name.to_owned(),
        document,
    })
}

fn side_by_side(stored: &[Stored]) -> Result<String, Error> {
    let source = Source {
        command: None,
        facts: vec![(
            "version of secateur".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        )],
    };
    let page = page::several("secateur: results side by side", stored, &source);
    page.map_err(|error| Error::new("stored-report", error.to_string()))
}

/// Writes the report on what differs between two models, if the options ask for one.
pub(crate) fn write_difference(a: &Model, b: &Model, options: &Options) -> Result<(), Error> {
    options.write_reports(|form| match form {
        Form::Json => json(&difference(a, b)),
        Form::Html => Ok(page::difference(
            &format!("secateur: {} and {}", a.file_name(), b.file_name()),
            (&a.model, &b.model),
            &options.source(&[("the first", a), ("the second", b)], "none"),
        )),
        Form::Markdown | Form::Junit | Form::Github => {
            Err(Error::usage("a report on differences ends in .html or .json"))
        }
    })
}
