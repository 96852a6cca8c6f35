//! What a variable of a sweep may be: a list of values, or a range.

use serde_json::Value;

use crate::pipeline::label;
use crate::yaml::{ConfigError, Document, Located, Yaml};

/// The most values of one variable.
const MOST: usize = 10_000;

/// What a variable varies over.
#[derive(Clone, Debug, PartialEq)]
pub enum Axis {
    /// These values, in order.
    List(Vec<Value>),
    /// All numbers between two, for random searches.
    Range(Range),
}

/// Numbers between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// Whether each factor, instead of each difference, is as likely as another.
    pub log: bool,
}

impl Range {
    /// The number at a share of the way, 0 to 1.
    pub fn at(&self, share: f64) -> f64 {
        let value = if self.log {
            (self.from.ln() + share * (self.to.ln() - self.from.ln())).exp()
        } else {
            self.from + share * (self.to - self.from)
        };
        rounded(value).clamp(self.from, self.to)
    }
}

/// A number without the noise of its last bits: 0.30000000000000004 is 0.3.
fn rounded(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}

/// A number as JSON has it: whole ones without a point.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        (value as i64).into()
    } else {
        value.into()
    }
}

/// What is written for a variable.
pub(super) fn axis(document: &Document, name: &str, tree: &Located) -> Result<Axis, ConfigError> {
    let wrong = |at: &Located, message: String| {
        let hint =
            "write a list, { from: 0, to: 0.4, step: 0.1 } or { from: 1, to: 100, count: 3, log: true }";
        Err(document.error("sweep-shape", at.spot, message, Some(hint.to_owned())))
    };
    match &tree.value {
        Yaml::List(items) if items.is_empty() => wrong(tree, format!("`{name}` has no values")),
        Yaml::List(items) => {
            let values: Vec<Value> = items.iter().map(Located::to_json).collect();
            for (at, item) in items.iter().enumerate() {
                let (own, before) = (values.get(at), values.get(..at).unwrap_or_default());
                if own.is_some_and(|own| before.contains(own)) {
                    return wrong(item, format!("`{name}` has {} twice", label(&item.to_json())));
                }
            }
            Ok(Axis::List(values))
        }
        Yaml::Map(entries)
            if entries
                .iter()
                .any(|(key, _)| key.name == "from" || key.name == "to") =>
        {
            range(document, name, tree)
        }
        _ => Ok(Axis::List(vec![tree.to_json()])),
    }
}

fn range(document: &Document, name: &str, tree: &Located) -> Result<Axis, ConfigError> {
    let wrong = |at: &Located, message: String| {
        let hint = "a range has from, to, and step or count; with log: true its values grow by a factor";
        document.error("sweep-shape", at.spot, message, Some(hint.to_owned()))
    };
    let entries = tree.entries().unwrap_or_default();
    for (key, value) in entries {
        if !["from", "to", "step", "count", "log"].contains(&key.name.as_str()) {
            let message = format!("a range has no `{}`", key.name);
            return Err(document.error("unknown-key", key.spot, message, None));
        }
        let fits = match key.name.as_str() {
            "log" => matches!(value.value, Yaml::Bool(_)),
            "count" => matches!(value.value, Yaml::Integer(count) if count >= 2),
            _ => {
                matches!(value.value, Yaml::Integer(_))
                    || matches!(value.value, Yaml::Float(number) if number.is_finite())
            }
        };
        if !fits {
            return Err(wrong(
                value,
                format!("`{}` of `{name}` is {}", key.name, value.kind()),
            ));
        }
    }
    let value = |key: &str| tree.get(key).map(|(_, value)| value.to_json());
    let float = |key: &str| value(key).and_then(|value| value.as_f64());
    let (Some(from), Some(to)) = (float("from"), float("to")) else {
        return Err(wrong(tree, format!("`{name}` has one end only")));
    };
    let log = value("log") == Some(Value::Bool(true));
    if from >= to || log && from <= 0.0 {
        let message = if from >= to {
            format!("`{name}` goes from {from} to {to}")
        } else {
            format!("`{name}` begins at {from}, and factors lead nowhere from there")
        };
        return Err(wrong(tree, message));
    }
    let range = Range { from, to, log };
    let spread = |count: usize| (0..count).map(move |at| range.at(at as f64 / (count - 1).max(1) as f64));
    let values: Vec<f64> = match (float("step"), value("count").and_then(|count| count.as_u64())) {
        (Some(_), Some(_)) => return Err(wrong(tree, format!("`{name}` has a step and a count"))),
        (Some(step), None) if log || step <= 0.0 => {
            return Err(wrong(tree, format!("`{name}` has a step that leads nowhere")));
        }
        (Some(step), None) => {
            // The end belongs to the range where rounding alone leads past it.
            let count = ((to - from) / step + 1e-9).floor();
            if count >= MOST as f64 {
                return Err(wrong(tree, format!("`{name}` has more than {MOST} values")));
            }
            (0..=count as usize)
                .map(|at| rounded(from + at as f64 * step))
                .collect()
        }
        (None, Some(count)) if count as usize <= MOST => spread(count as usize).collect(),
        (None, Some(_)) => return Err(wrong(tree, format!("`{name}` has more than {MOST} values"))),
        (None, None) => return Ok(Axis::Range(range)),
    };
    Ok(Axis::List(values.into_iter().map(number).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let document = Document {
            file: "s.yaml".to_owned(),
            text: text.into(),
        };
        let tree = document.parse().unwrap();
        match axis(&document, "x", &tree) {
            Ok(Axis::List(values)) => Ok(Value::Array(values).to_string()),
            Ok(Axis::Range(range)) => Ok(format!("{range:?}")),
            Err(error) => Err(format!("{}:{} {error}", error.spot.line, error.spot.column)),
        }
    }

    #[test]
    fn values_are_lists_and_ranges() {
        for (text, expected) in [
            ("[1, null, a, {b: 2}]", r#"[1,null,"a",{"b":2}]"#),
            ("7", "[7]"),
            ("{ b: 1 }", r#"[{"b":1}]"#),
            ("{ from: 0, to: 0.4, step: 0.1 }", "[0,0.1,0.2,0.3,0.4]"),
            ("{ from: 2, to: 9, step: 3 }", "[2,5,8]"),
            ("{ from: 1, to: 100, count: 3, log: true }", "[1,10,100]"),
            (
                "{ from: 0.001, to: 0.1, count: 3, log: true }",
                "[0.001,0.01,0.1]",
            ),
            ("{ from: 0, to: 1, count: 2 }", "[0,1]"),
            ("{ from: 0, to: 1 }", "Range { from: 0.0, to: 1.0, log: false }"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_has_a_place() {
        for (text, expected) in [
            ("[]", "1:1 `x` has no values"),
            ("[1, 1]", "1:5 `x` has 1 twice"),
            ("{ from: 1 }", "1:1 `x` has one end only"),
            ("{ from: 2, to: 1 }", "1:1 `x` goes from 2 to 1"),
            ("{ from: 0, to: 1, log: true }", "1:1 `x` begins at 0"),
            (
                "{ from: 0, to: 1, step: 0 }",
                "1:1 `x` has a step that leads nowhere",
            ),
            ("{ from: 0, to: 1, step: 1.0e-9 }", "1:1 `x` has more than"),
            (
                "{ from: 0, to: 1, step: 1, count: 2 }",
                "1:1 `x` has a step and a count",
            ),
            ("{ from: 0, to: 1, count: 1 }", "1:26 `count` of `x` is a number"),
            ("{ from: a, to: 1 }", "1:9 `from` of `x` is a text"),
            ("{ from: 0, too: 1 }", "1:12 a range has no `too`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
