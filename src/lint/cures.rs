//! The steps that mend findings.

use serde_json::{Map, Value};

use super::check::{Finding, Fix};

/// Passes that mend, in the order in which they run: an input has to be a constant before anything behind it is folded, operators are
/// converted before rules see them, and what is dead goes last.
const ORDER: [&str; 6] = [
    "bind-defaults",
    "convert-opset",
    "fold-constants",
    "simplify",
    "deduplicate-initializers",
    "eliminate-dead-code",
];

/// The steps that mend these findings, each once; none of them loses anything but rounding. Lists of options are joined, and of numbers
/// the largest holds: a conversion to a newer opset does what one to an older was wanted for.
pub fn pipeline_of<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> Vec<Fix> {
    let mut steps: Vec<Fix> = Vec::new();
    for fix in findings.into_iter().filter_map(|finding| finding.fix.as_ref()) {
        match steps.iter_mut().find(|step| step.step == fix.step) {
            Some(step) => join(&mut step.options, &fix.options),
            None => steps.push(fix.clone()),
        }
    }
    let place = |fix: &Fix| ORDER.iter().position(|name| *name == fix.step);
    steps.sort_by_key(|fix| place(fix).unwrap_or(ORDER.len()));
    steps
}

fn join(options: &mut Map<String, Value>, more: &Map<String, Value>) {
    // Without a list everything is meant.
    options.retain(|name, value| !value.is_array() || more.contains_key(name));
    for (name, value) in more {
        match (options.get_mut(name), value) {
            (Some(Value::Array(known)), Value::Array(new)) => {
                let missing: Vec<Value> = new.iter().filter(|one| !known.contains(one)).cloned().collect();
                known.extend(missing);
            }
            (Some(known), new) if new.as_i64() > known.as_i64() => *known = new.clone(),
            (None, new) if !new.is_array() => {
                options.insert(name.clone(), new.clone());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::{FindingPlace, Severity, checks};
    use crate::passes::registry;
    use serde_json::json;

    fn finding(step: &str, options: Value) -> Finding {
        Finding {
            code: "code".to_owned(),
            severity: Severity::Note,
            message: String::new(),
            place: FindingPlace::default(),
            target: None,
            cure: String::new(),
            fix: Some(Fix {
                step: step.to_owned(),
                options: options.as_object().unwrap().clone(),
            }),
        }
    }

    #[test]
    fn steps_stand_in_order_and_once() {
        let found = [
            finding("simplify", json!({ "only": ["a"] })),
            finding("bind-defaults", json!({})),
            finding("simplify", json!({ "only": ["b", "a"] })),
            finding("convert-opset", json!({ "to": 13 })),
            finding("convert-opset", json!({ "to": 11 })),
        ];
        let steps: Vec<(String, Value)> = pipeline_of(&found)
            .into_iter()
            .map(|fix| (fix.step, Value::Object(fix.options)))
            .collect();
        assert_eq!(
            steps,
            [
                ("bind-defaults".to_owned(), json!({})),
                ("convert-opset".to_owned(), json!({ "to": 13 })),
                ("simplify".to_owned(), json!({ "only": ["a", "b"] })),
            ]
        );
        let all = [
            finding("simplify", json!({ "only": ["a"] })),
            finding("simplify", json!({})),
        ];
        assert!(pipeline_of(&all).first().unwrap().options.is_empty());
    }

    #[test]
    fn steps_of_checks_are_passes_that_lose_nothing() {
        for check in checks() {
            let Some((step, options)) = check.cure.step else {
                continue;
            };
            let options: Value = serde_json::from_str(options).unwrap();
            let pass = registry::build(step, options).unwrap().unwrap();
            assert!(ORDER.contains(&step), "{}: {step} has no place", check.code);
            assert!(
                pass.about().safety <= crate::passes::Safety::Rounding,
                "{}: {step} loses more than rounding",
                check.code
            );
        }
    }
}
