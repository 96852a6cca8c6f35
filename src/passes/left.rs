//! What a pass left alone, and why: one form for every pass, grouped for people.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

/// Something that a pass left alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct Left {
    /// The node, weight or value; empty where the whole model is meant.
    pub what: String,
    /// Why, without a name in it, so that equal reasons are counted together.
    pub why: String,
    /// What the user can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Left {
    /// `what` was left alone because of `why`.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            cure: None,
        }
    }

    /// The same with what the user can do about it.
    pub fn curable(self, cure: impl Into<String>) -> Self {
        Self {
            cure: Some(cure.into()),
            ..self
        }
    }

    /// What a note says: `NAME stays: WHY` and `NAME stays float: WHY` are about NAME, everything else about the model.
    fn from_note(note: &str) -> Self {
        note.split_once(" stays")
            .and_then(|(what, rest)| {
                let why = rest
                    .strip_prefix(": ")
                    .or_else(|| rest.strip_prefix(" float: "))?;
                Some((what, why))
            })
            .map_or_else(|| Self::new("", note), |(what, why)| Self::new(what, why))
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.what.is_empty() {
            write!(f, "{} stays: ", self.what)?;
        }
        f.write_str(&self.why)?;
        match &self.cure {
            Some(cure) => write!(f, " ({cure})"),
            None => Ok(()),
        }
    }
}

/// Collects what was left alone; what is the same for the same reason is there once.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftAlone {
    found: Vec<Left>,
    known: HashSet<Left>,
}

impl LeftAlone {
    /// Adds a node or a weight; `cure` says what would change that, or nothing.
    pub(super) fn add(&mut self, what: impl Into<String>, why: impl Into<String>, cure: impl Into<String>) {
        let mut one = Left::new(what, why);
        one.cure = Some(cure.into()).filter(|cure| !cure.is_empty());
        if self.known.insert(one.clone()) {
            self.found.push(one);
        }
    }

    /// What was added, in that order.
    pub(super) fn into_entries(self) -> Vec<Left> {
        self.found
    }

    /// The same as lines, for where only notes are kept.
    pub(super) fn notes(self) -> Vec<String> {
        reasons(&self.found, &[]).iter().map(Reason::to_string).collect()
    }
}

/// One reason for which things were left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reason {
    /// Why.
    pub why: String,
    /// What the user can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// How many things were left alone for it; 0 where it is about the whole model.
    pub count: u64,
    /// The first of them by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// Names that a reason lists.
const EXAMPLES: usize = 3;

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.count > 0 {
            write!(f, "{} x ", self.count)?;
        }
        f.write_str(&self.why)?;
        if !self.examples.is_empty() {
            write!(f, " ({}", self.examples.join(", "))?;
            let more = self.count.saturating_sub(self.examples.len() as u64);
            if more > 0 {
                write!(f, " and {more} more")?;
            }
            f.write_str(")")?;
        }
        match &self.cure {
            Some(cure) => write!(f, "; {cure}"),
            None => Ok(()),
        }
    }
}

/// Reasons with how often each holds, those for the most things first; then what is about the whole model, as it was said.
pub fn reasons(left: &[Left], notes: &[String]) -> Vec<Reason> {
    let mut found: Vec<Reason> = Vec::new();
    let mut places: HashMap<(String, Option<String>), usize> = HashMap::new();
    for one in left
        .iter()
        .cloned()
        .chain(notes.iter().map(|note| Left::from_note(note)))
    {
        let key = (one.why.clone(), one.cure.clone());
        let at = *places.entry(key).or_insert_with(|| {
            found.push(Reason {
                why: one.why,
                cure: one.cure,
                count: 0,
                examples: Vec::new(),
            });
            found.len() - 1
        });
        if let Some(reason) = found.get_mut(at).filter(|_| !one.what.is_empty()) {
            reason.count += 1;
            if reason.examples.len() < EXAMPLES {
                reason.examples.push(one.what);
            }
        }
    }
    found.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    found
}

/// What to say of a step that changed nothing: its reasons, one a line, or that there was nothing for it in the model.
pub fn unchanged(pass: &str, reasons: &[Reason]) -> String {
    let mut text = format!("{pass} changed nothing");
    if reasons.is_empty() {
        text.push_str(&format!(
            ": nothing in the model is what it works on (`secateur explain {pass}` says what that is)"
        ));
    }
    for reason in reasons {
        text.push_str(&format!("\n  {reason}"));
    }
    text
}

/// Reasons that are said of a step that changed something.
const SAID: usize = 4;

/// What to say of a step that changed something and left other things alone; `None` where it left nothing.
pub fn left_alone(pass: &str, reasons: &[Reason]) -> Option<String> {
    let of_things: Vec<&Reason> = reasons.iter().filter(|reason| reason.count > 0).collect();
    let things: u64 = of_things.iter().map(|reason| reason.count).sum();
    let mut text = format!("{pass} left {things} alone");
    for reason in of_things.iter().take(SAID) {
        text.push_str(&format!("\n  {reason}"));
    }
    match of_things.len() {
        0 => return None,
        count if count > SAID => text.push_str(&format!("\n  and for {} more reasons: see -v", count - SAID)),
        _ => {}
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_alone_is_said_and_what_is_about_the_model_is_not() {
        let left: Vec<Left> = (0..6)
            .map(|index| Left::new(format!("n{index}"), format!("reason {index}")))
            .collect();
        let text = left_alone("quantize", &reasons(&left, &[])).unwrap();
        assert!(
            text.starts_with("quantize left 6 alone\n  1 x reason 0 (n0)\n"),
            "{text}"
        );
        assert!(text.ends_with("and for 2 more reasons: see -v"), "{text}");
        assert_eq!(
            left_alone("quantize", &reasons(&[], &["about the model".to_owned()])),
            None
        );
    }

    #[test]
    fn equal_reasons_are_counted_and_the_commonest_comes_first() {
        let mut left = vec![Left::new("a", "it is small").curable("--min-elements 1 takes it")];
        left.extend((0..5).map(|index| Left::new(format!("n{index}"), "its weight is shared")));
        left.push(Left::new("b", "it is small").curable("--min-elements 1 takes it"));
        let notes = [
            "c stays float: its weight is shared".to_owned(),
            "there is no convolution".to_owned(),
        ];
        let found: Vec<String> = reasons(&left, &notes).iter().map(Reason::to_string).collect();
        assert_eq!(
            found,
            [
                "6 x its weight is shared (n0, n1, n2 and 3 more)",
                "2 x it is small (a, b); --min-elements 1 takes it",
                "there is no convolution",
            ]
        );
    }
}
