//! Writing to stdout and stderr. A reader that has gone away is no error; an answer that cannot be written for another reason is, and
//! the program says so at its end.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Writes an answer to stdout, with a newline at its end.
pub(super) fn answer(text: &str) {
    let mut stdout = io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    if let Err(error) = write!(stdout, "{text}{newline}").and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        lost().get_or_insert(error);
    }
}

/// The first error of an answer that did not get through.
fn lost() -> std::sync::MutexGuard<'static, Option<io::Error>> {
    static LOST: Mutex<Option<io::Error>> = Mutex::new(None);
    LOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an answer did not get to stdout, if one did not.
pub(super) fn lost_answer() -> Option<io::Error> {
    lost().take()
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
