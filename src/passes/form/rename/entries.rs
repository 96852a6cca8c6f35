//! The entries of one option: names, or patterns of names, with what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::option;
use crate::ir::Name;
use crate::passes::{Context, PassError};
use crate::schema::{self, nearest};

/// Names that a message gives as examples.
const EXAMPLES: usize = 3;

/// The entries of an option, and which of them have been met.
pub(super) struct Entries<'o> {
    option: &'static str,
    names: &'o BTreeMap<String, String>,
    patterns: Vec<(Regex, &'o str)>,
    met: BTreeSet<String>,
}

impl<'o> Entries<'o> {
    /// Compiles the patterns of an option.
    pub(super) fn of(name: &'static str, names: &'o BTreeMap<String, String>) -> Result<Self, PassError> {
        let mut patterns = Vec::new();
        for (old, new) in names {
            if !old.starts_with('^') {
                if new.is_empty() {
                    return Err(option(format!("{name}: {old:?} needs a name that is not empty")));
                }
                continue;
            }
            let regex = schema::pattern(old).map_err(|error| option(format!("{name}: {error}")))?;
            if let Some(group) = unknown_group(&regex, new) {
                return Err(option(format!(
                    "{name}: {new:?} asks for the group {group:?}, which {old:?} does not have; write ${{1}} where a letter, a digit or _ follows"
                )));
            }
            patterns.push((regex, new.as_str()));
        }
        Ok(Self {
            option: name,
            names,
            patterns,
            met: BTreeSet::new(),
        })
    }

    /// What `old` becomes; `None` where that is no other name. A name counts before patterns.
    pub(super) fn new_name(&mut self, old: &Name, context: &Context<'_>) -> Result<Option<Name>, PassError> {
        let name = self.option;
        if let Some(new) = self.names.get(old.as_str()) {
            self.met.insert(old.to_string());
            if context.keeps(old) {
                return Err(option(format!("{name}: `keep` says that {old:?} stays as it is")));
            }
            return Ok(Some(Name::from(new.as_str())).filter(|new| new != old));
        }
        let mut found: Option<(&str, String)> = None;
        for (regex, replacement) in &self.patterns {
            if !regex.is_match(old) {
                continue;
            }
            self.met.insert(regex.as_str().to_owned());
            if context.keeps(old) {
                continue;
            }
            let new = regex.replace(old, *replacement).into_owned();
            if new.is_empty() {
                let pattern = regex.as_str();
                return Err(option(format!("{name}: {pattern:?} leaves nothing of {old:?}")));
            }
            let other = found.as_ref().filter(|(_, first)| *first != new);
            if let Some((other, first)) = other {
                return Err(option(format!(
                    "{name}: {old:?} is matched by {other:?} and by {:?}, which give it the names {first:?} and {new:?}",
                    regex.as_str()
                )));
            }
            found = Some((regex.as_str(), new));
        }
        Ok(found.map(|(_, new)| Name::from(new)).filter(|new| new != old))
    }

    /// Refuses entries that were about none of the names, which are those of all things of this kind.
    pub(super) fn finish<'n>(
        &self,
        kind: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> Result<(), PassError> {
        let Some(idle) = self.names.keys().find(|old| !self.met.contains(*old)) else {
            return Ok(());
        };
        let known: Vec<&str> = known.collect();
        let near = nearest(idle.trim_matches(['^', '$']), known.iter().copied());
        let hint = match near {
            Some(name) => format!("; did you mean {name:?}?"),
            None if known.is_empty() => String::new(),
            None => {
                let some: Vec<String> = known
                    .iter()
                    .take(EXAMPLES)
                    .map(|name| format!("{name:?}"))
                    .collect();
                format!("; names are, for example, {}", some.join(", "))
            }
        };
        let name = self.option;
        let what = if idle.starts_with('^') {
            format!("no {kind} matches {idle:?}")
        } else {
            format!("there is no {kind} {idle:?}")
        };
        Err(option(format!("{name}: {what}{hint}")))
    }
}

/// The first group that a new name refers to and the pattern does not have.
fn unknown_group<'n>(regex: &Regex, new: &'n str) -> Option<&'n str> {
    let mut rest = new;
    while let Some((_, after)) = rest.split_once('$') {
        // Two of them stand for one.
        if let Some(behind) = after.strip_prefix('$') {
            rest = behind;
            continue;
        }
        rest = after;
        let group = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(group, _)| group),
            None => {
                let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
                after.split(ends).next().unwrap_or("")
            }
        };
        let known = match group.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            // A sign alone is no reference.
            Err(_) => group.is_empty() || regex.capture_names().flatten().any(|name| name == group),
        };
        if !known {
            return Some(group);
        }
    }
    None
}
