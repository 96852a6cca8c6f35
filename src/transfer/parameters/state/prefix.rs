//! What comes before the names of one side and not of the other: `module.` of a parallel model, `model.` of a trainer, the name of
//! the wrapper that was exported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::layers::split;

/// What is done to every name of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shift {
    /// Nothing.
    #[default]
    None,
    /// This beginning is taken away, where it is.
    Strip(String),
    /// This beginning is put before it.
    Add(String),
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shift::None => f.write_str("nothing changed"),
            Shift::Strip(prefix) => write!(f, "{prefix:?} taken away"),
            Shift::Add(prefix) => write!(f, "{prefix:?} before them"),
        }
    }
}

impl Shift {
    pub(super) fn apply(&self, name: &str) -> String {
        match self {
            Shift::None => name.to_owned(),
            Shift::Strip(prefix) => name.strip_prefix(prefix.as_str()).unwrap_or(name).to_owned(),
            Shift::Add(prefix) => format!("{prefix}{name}"),
        }
    }
}

/// The shift by which most units find a layer. `wanted` has the stems of each unit.
///
/// # Errors
/// Two shifts that do equally well: the names alone do not say which part of the source is meant.
pub(super) fn shift(names: &[String], wanted: &[Vec<String>]) -> Result<Shift, (Shift, Shift)> {
    let stems: BTreeSet<&str> = names.iter().map(|name| split(name).0).collect();
    let mut found: BTreeMap<Shift, usize> = BTreeMap::new();
    for unit in wanted {
        let mut shifts: BTreeSet<Shift> = BTreeSet::new();
        for stem in unit.iter().filter(|stem| !stem.is_empty()) {
            for own in &stems {
                if *own == stem {
                    shifts.insert(Shift::None);
                } else if let Some(prefix) = own.strip_suffix(stem.as_str())
                    && prefix.ends_with('.')
                {
                    shifts.insert(Shift::Strip(prefix.to_owned()));
                } else if !own.is_empty()
                    && let Some(prefix) = stem.strip_suffix(own)
                    && prefix.ends_with('.')
                {
                    shifts.insert(Shift::Add(prefix.to_owned()));
                }
            }
        }
        shifts
            .into_iter()
            .for_each(|shift| *found.entry(shift).or_default() += 1);
    }
    let most = found.values().copied().max().unwrap_or(0);
    let mut best = found.into_iter().filter(|(_, count)| *count == most);
    match (best.next(), best.next()) {
        (None, _) | (Some((Shift::None, _)), _) => Ok(Shift::None),
        (Some((only, _)), None) => Ok(only),
        (Some((first, _)), Some((second, _))) => Err((first, second)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], wanted: &[&str]) -> Result<Shift, (Shift, Shift)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let wanted: Vec<Vec<String>> = wanted.iter().map(|stem| vec![(*stem).to_owned()]).collect();
        shift(&names, &wanted)
    }

    #[test]
    fn the_prefix_by_which_most_names_agree_is_found() {
        let strip = |prefix: &str| Ok(Shift::Strip(prefix.to_owned()));
        assert_eq!(of(&["a.weight", "b.weight"], &["a.", "b."]), Ok(Shift::None));
        assert_eq!(
            of(&["module.a.weight", "module.b.weight"], &["a.", "b."]),
            strip("module.")
        );
        assert_eq!(
            of(&["bert.a.weight"], &["m.bert.a."]),
            Ok(Shift::Add("m.".to_owned()))
        );
        assert_eq!(of(&["a.weight", "x.a.weight"], &["a."]), Ok(Shift::None));
        assert!(of(&["enc.a.weight", "dec.a.weight"], &["a."]).is_err());
        assert_eq!(
            of(&["enc.a.weight", "dec.a.weight", "dec.b.weight"], &["a.", "b."]),
            strip("dec.")
        );
        assert_eq!(of(&["a.weight"], &["other."]), Ok(Shift::None));
    }
}
