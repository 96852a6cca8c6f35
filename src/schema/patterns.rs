//! Regular expressions that users write: what is wrong with one, in one line and with its text.

use regex::{Regex, RegexSet};

/// A pattern that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a regular expression: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl PatternError {
    /// What `error` says of `pattern`: the last line of a message says what is wrong, those before draw it.
    pub(crate) fn of(pattern: &str, error: &regex::Error) -> Self {
        let text = error.to_string();
        let line = text.lines().last().unwrap_or_default();
        Self {
            pattern: pattern.to_owned(),
            reason: line.trim_start_matches("error: ").to_owned(),
        }
    }
}

/// One pattern.
pub fn pattern(text: &str) -> Result<Regex, PatternError> {
    Regex::new(text).map_err(|error| PatternError::of(text, &error))
}

/// Patterns of which any may match. The error names the first one that is at fault.
pub fn patterns<P: AsRef<str>>(list: impl IntoIterator<Item = P>) -> Result<RegexSet, PatternError> {
    let list: Vec<P> = list.into_iter().collect();
    RegexSet::new(&list).map_err(|error| {
        let wrong = list.iter().find_map(|one| pattern(one.as_ref()).err());
        // Each may be small enough, and all of them too much.
        wrong.unwrap_or_else(|| {
            let all: Vec<&str> = list.iter().map(|one| one.as_ref()).collect();
            PatternError::of(&all.join("|"), &error)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_at_fault_is_named_in_one_line() {
        assert!(patterns(["a", "b$"]).unwrap().is_match("ab"));
        assert!(patterns(Vec::<String>::new()).unwrap().is_empty());
        let error = patterns(["a", "("]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"(\" is not a regular expression: unclosed group"
        );
        assert_eq!(pattern("(").unwrap_err(), error);
    }
}
