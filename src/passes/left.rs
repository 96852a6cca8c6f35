//! What a pass left as it was, grouped by the reason.

use std::collections::BTreeMap;

/// Names that a note lists before it counts the rest.
const NAMED: usize = 3;

/// Why something was left as it was, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reason {
    why: String,
    cure: String,
}

/// Names of what was left, by reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    groups: BTreeMap<Reason, Vec<String>>,
}

impl Left {
    /// Adds a node or a weight; `cure` says what would change that, or nothing.
    pub(super) fn add(&mut self, name: impl Into<String>, why: impl Into<String>, cure: impl Into<String>) {
        let reason = Reason {
            why: why.into(),
            cure: cure.into(),
        };
        let names = self.groups.entry(reason).or_default();
        let name = name.into();
        if !names.contains(&name) {
            names.push(name);
        }
    }

    /// One line a reason, those that concern most first.
    pub(super) fn notes(self) -> Vec<String> {
        let mut groups: Vec<(Reason, Vec<String>)> = self.groups.into_iter().collect();
        groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        groups
            .into_iter()
            .map(|(reason, names)| note(&reason, &names))
            .collect()
    }
}

fn note(reason: &Reason, names: &[String]) -> String {
    let cure = match reason.cure.is_empty() {
        true => String::new(),
        false => format!("; {}", reason.cure),
    };
    match names {
        [only] => format!("{only} stays float: {}{cure}", reason.why),
        _ => {
            let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{} stay float: {} ({named}{more}){cure}", names.len(), reason.why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_reason_with_names_a_count_and_the_cure() {
        let mut left = Left::default();
        left.add("c", "excluded", "");
        for name in ["w1", "w2", "w3", "w4", "w5", "w5"] {
            left.add(name, "it has few elements", "lower --minimum-elements");
        }
        assert_eq!(
            left.notes(),
            [
                "5 stay float: it has few elements (w1, w2, w3 and 2 more); lower --minimum-elements",
                "c stays float: excluded",
            ]
        );
    }
}
