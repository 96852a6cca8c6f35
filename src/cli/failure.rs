//! Errors as the command line shows them: a JSON document, or a report for people with the place in the text.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::global::Global;
use super::terminal;
use crate::api::{Error, ErrorDocument};
use crate::report::sanitise;

/// Prints an error: as JSON on stdout under `--json`, else for people on stderr.
pub(super) fn show(error: &Error, global: &Global) {
    if global.json {
        return show_json(error);
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
    if handler.render_report(&mut text, &Shown::of(error)).is_err() {
        text = format!("error: {error}");
    }
    terminal::note(text.trim_start_matches('\n'));
}

pub(super) fn show_json(error: &Error) {
    terminal::json(&ErrorDocument::of(error));
}

/// Whether work ended because somebody asked it to.
pub(super) fn is_interruption(error: &Error) -> bool {
    matches!(error.code(), "interrupted" | "cancelled")
}

/// An error and the text that it points into.
#[derive(Debug)]
struct Shown<'a> {
    error: &'a Error,
    source: Option<NamedSource<std::sync::Arc<str>>>,
}

impl<'a> Shown<'a> {
    fn of(error: &'a Error) -> Self {
        let source = error
            .place()
            .map(|place| NamedSource::new(sanitise(error.file().unwrap_or_default()), place.text.clone()));
        Self { error, source }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.error.code()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let hint = self.error.hint()?;
        Some(Box::new(sanitise(hint)))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.error.place()?;
        let label = LabeledSpan::at(place.offset..place.offset + place.length, "here");
        Some(Box::new(std::iter::once(label)))
    }
}
