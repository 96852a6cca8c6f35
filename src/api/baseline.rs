//! Figures of the last accepted results, kept in a file, and new results held against them.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::reports::stored;
use super::save::write_file;
use crate::files::read_text;
use crate::report::github::{Level, annotation};
use crate::report::stored::{RATIO, Summary, TIME, Worse, number, summary, usual, worse};
use crate::report::table::{self, Style};
use crate::report::{junit, sanitise};

/// The version of the file.
const VERSION: u32 = 1;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    version: u32,
    #[serde(default)]
    results: IndexMap<String, Locked>,
}

/// One accepted result.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    verdict: String,
    figures: IndexMap<String, f64>,
}

/// What became of results that were held against a baseline.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(
    rename = "Document",
    description = "Stored results held against the last accepted ones."
)]
pub(crate) struct Baseline {
    /// The file of the last accepted figures.
    pub(crate) baseline: String,
    /// Whether every result is accepted, known there and in no figure worse.
    pub(crate) holds: bool,
    /// Whether the file was written anew.
    pub(crate) updated: bool,
    /// Each result.
    pub(crate) results: Vec<Held>,
    /// Results of the file that were not given.
    pub(crate) absent: Vec<String>,
}

/// A result held against the baseline.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Held {
    /// Its name: that of its file without the ending.
    pub(crate) name: String,
    /// Its verdict.
    pub(crate) verdict: String,
    /// Whether it was accepted itself.
    pub(crate) accepted: bool,
    /// Whether the baseline knows it.
    pub(crate) known: bool,
    /// Figures that got worse.
    pub(crate) worse: Vec<Regressed>,
    /// Figures that the baseline has and the result has not.
    pub(crate) missing: Vec<String>,
}

/// A figure that got worse by more than is allowed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Regressed {
    /// Its name.
    pub(crate) figure: String,
    /// The accepted one.
    pub(crate) accepted: f64,
    /// The new one.
    pub(crate) found: f64,
    /// The share of the accepted one by which it may be worse.
    pub(crate) allowed: f64,
}

/// Holds stored results against the last accepted ones in `path`. With `update` the file is written with them instead, if all of them
/// are accepted.
pub(crate) fn hold(
    results: &[PathBuf],
    path: &Path,
    allowed: &[(String, f64)],
    update: bool,
) -> Result<Baseline, Error> {
    let mut found = Vec::with_capacity(results.len());
    for file in results {
        let stored = stored(file)?;
        let summary = summary(&stored).map_err(|error| Error::new("stored-report", error.to_string()))?;
        let stem = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if found.iter().any(|(name, _)| *name == stem) {
            return Err(Error::usage(&format!(
                "two results are called {stem}: the name of the file tells them apart"
            )));
        }
        found.push((stem, summary));
    }
    let lock = read(path, update)?;
    let limit = |figure: &str| {
        let own = allowed.iter().rev().find(|(name, _)| name == figure);
        own.map_or_else(|| usual(figure), |(_, share)| *share)
    };
    for (figure, _) in allowed {
        let known = found
            .iter()
            .any(|(_, summary)| summary.figures.contains_key(figure));
        if !known {
            return Err(Error::usage(&format!(
                "--allow {figure}: no result has a figure of this name"
            )));
        }
    }
    let held: Vec<Held> = found
        .iter()
        .map(|(name, own)| held(name, own, lock.results.get(name), &limit))
        .collect();
    let absent = lock
        .results
        .keys()
        .filter(|name| !found.iter().any(|(own, _)| own == *name));
    let mut answer = Baseline {
        baseline: path.display().to_string(),
        holds: held.iter().all(Held::holds),
        updated: false,
        absent: absent.cloned().collect(),
        results: held,
    };
    if update {
        answer.holds = found.iter().all(|(_, own)| own.accepted);
        if answer.holds {
            write(path, lock, found)?;
            answer.updated = true;
        }
    }
    Ok(answer)
}

fn held(name: &str, own: &Summary, locked: Option<&Locked>, limit: &dyn Fn(&str) -> f64) -> Held {
    let empty = IndexMap::new();
    let first = locked.map_or(&empty, |locked| &locked.figures);
    // Times by themselves are those of one machine.
    let regressed = worse(first, &own.figures, limit)
        .into_iter()
        .filter(|found| found.figure != TIME);
    Held {
        name: name.to_owned(),
        verdict: own.verdict.clone(),
        accepted: own.accepted,
        known: locked.is_some(),
        worse: regressed
            .map(|Worse { figure, first, own }| Regressed {
                allowed: limit(&figure),
                figure,
                accepted: first,
                found: own,
            })
            .collect(),
        missing: first
            .keys()
            .filter(|figure| *figure != TIME && *figure != RATIO && !own.figures.contains_key(*figure))
            .cloned()
            .collect(),
    }
}

fn read(path: &Path, update: bool) -> Result<Lock, Error> {
    let wrong = |message: String| Error::new("baseline", format!("{}: {message}", path.display()));
    if !path.exists() {
        if update {
            return Ok(Lock {
                version: VERSION,
                results: IndexMap::new(),
            });
        }
        return Err(
            wrong("there is no such file".to_owned()).with_hint("--update writes it from these results")
        );
    }
    let text = read_text(path).map_err(|error| wrong(error.to_string()))?;
    let lock: Lock = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if lock.version != VERSION {
        return Err(wrong(format!(
            "version {} is not known, {VERSION} is",
            lock.version
        )));
    }
    Ok(lock)
}

fn write(path: &Path, mut lock: Lock, found: Vec<(String, Summary)>) -> Result<(), Error> {
    for (name, summary) in found {
        let mut figures = summary.figures;
        figures.shift_remove(TIME);
        figures.sort_keys();
        let verdict = summary.verdict;
        lock.results.insert(name, Locked { verdict, figures });
    }
    lock.results.sort_keys();
    let body = serde_yaml::to_string(&lock).map_err(|error| Error::new("baseline", error.to_string()))?;
    let text = format!("# The last accepted figures: `secateur ci RESULT... --update` renews them.\n{body}");
    write_file(path, text.as_bytes(), true)
}

impl Held {
    /// Whether it is as good as the accepted one.
    fn holds(&self) -> bool {
        self.accepted && self.known && self.worse.is_empty() && self.missing.is_empty()
    }

    /// Why it is not.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.accepted {
            reasons.push(format!("it was not accepted: {}", self.verdict));
        }
        if !self.known {
            reasons.push("the baseline has no result of this name: --update adds it".to_owned());
        }
        reasons.extend(self.worse.iter().map(|found| {
            format!(
                "{} is {}, it was {}",
                found.figure,
                number(&found.figure, found.found),
                number(&found.figure, found.accepted)
            )
        }));
        reasons.extend(
            self.missing
                .iter()
                .map(|figure| format!("{figure} is no longer measured")),
        );
        reasons
    }
}

impl Baseline {
    /// For people.
    pub(crate) fn to_text(&self, style: Style) -> String {
        let rows = self.results.iter().map(|held| {
            let word = if self.updated || held.holds() {
                "holds"
            } else {
                "worse"
            };
            let why = if self.updated {
                String::new()
            } else {
                held.reasons().join("; ")
            };
            vec![held.name.clone(), word.to_owned(), held.verdict.clone(), why]
        });
        let mut text = table::plain_words(style, &["result", "", "verdict", "why"], rows);
        let absent = self
            .absent
            .iter()
            .map(|name| sanitise(name))
            .collect::<Vec<_>>()
            .join(", ");
        if !absent.is_empty() {
            text.push_str(&format!("\n\nin the baseline and not given: {absent}"));
        }
        if self.updated {
            text.push_str(&format!("\n\nwritten: {}", sanitise(&self.baseline)));
        }
        text
    }

    /// As commands of a workflow.
    pub(crate) fn to_github(&self) -> String {
        let lines = self.results.iter().map(|held| {
            let reasons = held.reasons();
            if self.updated || reasons.is_empty() {
                annotation(
                    Level::Notice,
                    &format!("secateur ci: {}", held.name),
                    None,
                    &held.verdict,
                )
            } else {
                let title = format!("secateur ci: {} is worse", held.name);
                annotation(Level::Error, &title, None, &reasons.join("\n"))
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// As test cases.
    pub(crate) fn to_junit(&self) -> Result<String, Error> {
        let cases = self.results.iter().map(|held| {
            let reasons = held.reasons();
            let failed = !self.updated && !reasons.is_empty();
            (held.name.clone(), failed.then(|| reasons.join("\n")))
        });
        junit::cases("secateur.ci", &self.baseline, cases.collect())
            .map_err(|error| Error::new("report", error.to_string()))
    }
}
