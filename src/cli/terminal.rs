//! Writing to stdout and stderr. A reader that has gone away is no error.

use std::io::{self, Write};

use serde::Serialize;

/// Writes an answer to stdout, with a newline at its end.
pub(super) fn answer(text: &str) {
    let mut stdout = io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(stdout, "{text}{newline}").and_then(|()| stdout.flush());
}

/// Writes a document to stdout as JSON. Numbers that JSON does not have become `null`.
pub(super) fn json<T: Serialize>(document: &T) {
    match serde_json::to_string_pretty(document) {
        Ok(text) => answer(&text),
        Err(error) => note(&format!("error: {error}")),
    }
}

/// Writes a remark to stderr, with a newline at its end.
pub(super) fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(stderr, "{text}{newline}");
}

/// Whether stderr is a terminal that may be coloured.
pub(super) fn colours() -> bool {
    use std::io::IsTerminal as _;
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
