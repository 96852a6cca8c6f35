//! Patterns by which options of passes name nodes, values and weights: one that names nothing in the model is a mistake.

use std::collections::BTreeSet;

use crate::ir::Model;
use crate::schema::{self, nearest};

/// The patterns of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The option.
    pub option: &'static str,
    /// Regular expressions over names of nodes, values and weights.
    pub patterns: Vec<String>,
}

impl Selector {
    /// The patterns of `option`.
    pub fn new<'a>(option: &'static str, patterns: impl IntoIterator<Item = &'a String>) -> Self {
        Self {
            option,
            patterns: patterns.into_iter().cloned().collect(),
        }
    }
}

/// Names that a message gives as examples.
const EXAMPLES: usize = 3;

/// The names of a model's nodes and values, of bodies and functions too, in the order of the file.
pub(super) fn names(model: &Model) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for node in graph.node_ids().filter_map(|id| graph.get(id)) {
            let own = node.name.iter().map(ToString::to_string);
            let values = node.outputs().iter().map(|value| value.name.to_string());
            for name in own.chain(values).filter(|name| !name.is_empty()) {
                if known.insert(name.clone()) {
                    found.push(name);
                }
            }
        }
    }
    found
}

/// What is wrong with the selectors of a pass on this model: a pattern that is none, or that no name matches.
pub fn unmatched(model: &Model, selectors: &[Selector]) -> Option<String> {
    if selectors.iter().all(|selector| selector.patterns.is_empty()) {
        return None;
    }
    let names = names(model);
    for selector in selectors {
        for pattern in &selector.patterns {
            let regex = match schema::pattern(pattern) {
                Ok(regex) => regex,
                Err(error) => return Some(format!("{}: {error}", selector.option)),
            };
            if names.iter().any(|name| regex.is_match(name)) {
                continue;
            }
            let hint = match nearest(pattern.trim_matches(['^', '$']), names.iter().map(String::as_str)) {
                Some(name) => format!("did you mean {name:?}?"),
                None => {
                    let some: Vec<String> = names
                        .iter()
                        .take(EXAMPLES)
                        .map(|name| format!("{name:?}"))
                        .collect();
                    format!("names are, for example, {}", some.join(", "))
                }
            };
            return Some(format!(
                "{}: no node or value of the model matches {pattern:?}; {hint}",
                selector.option
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format;

    fn model() -> Model {
        let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[4] x) => (float[4] y) <float[4] weight = {1, 2, 3, 4}> { [first] a = Mul(x, weight) y = Relu(a) }";
        let message = format::text::parse_model(text).unwrap();
        format::lift(message, &Default::default()).unwrap()
    }

    fn complaint(pattern: &str) -> Option<String> {
        unmatched(&model(), &[Selector::new("exclude", [&pattern.to_owned()])])
    }

    #[test]
    fn patterns_match_nodes_values_and_weights_or_are_refused_with_the_nearest_name() {
        for pattern in ["first", "^a$", "wei.*", "x", "y"] {
            assert_eq!(complaint(pattern), None, "{pattern}");
        }
        let said = complaint("frist").unwrap();
        assert!(
            said.contains("exclude") && said.contains("did you mean \"first\"?"),
            "{said}"
        );
        let said = complaint("^wieght$").unwrap();
        assert!(said.contains("did you mean \"weight\"?"), "{said}");
        let said = complaint("nothing-like-it").unwrap();
        assert!(said.contains("names are, for example, \"x\""), "{said}");
        let said = complaint("(").unwrap();
        assert!(
            said.contains("not a regular expression") && !said.contains('\n'),
            "{said}"
        );
        assert_eq!(unmatched(&model(), &[]), None);
    }
}
