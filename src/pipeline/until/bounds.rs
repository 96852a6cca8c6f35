//! The bounds that a search keeps: `map.drop<=0.005`, `size<=0.4`. Names and values are those of gates, and gates judge them.

use serde_json::{Map, Value, json};

use super::super::gate::{WrongGate, of_json};
use super::super::gates::Gate;
use crate::schema::{Fault, Place, flow};

/// Keys of gates whose value must be at least the bound; all others are bounds from above.
const FROM_BELOW: [&str; 4] = ["at-least", "cosine", "sqnr-db", "top1-agreement"];

/// Keys that say how a bound is judged, and bound nothing.
const MANNERS: [&str; 1] = ["confidence"];

/// What an example of a bound looks like.
const EXAMPLE: &str = "for example map.drop<=0.005, accuracy.drop<=0.01, size<=0.4 or latency<=0.9";

/// Reads bounds: one or several between commas in a text, a list of such texts, or gates with their bounds in a map.
///
/// # Errors
/// What is wrong, and where in the value.
pub(in crate::pipeline) fn parse(value: &Value) -> Result<Vec<Gate>, Fault> {
    let mut gates = Vec::new();
    collect(value, &mut Vec::new(), &mut gates)?;
    if gates.is_empty() {
        return Err(fault(
            &[],
            "there is no bound".to_owned(),
            Some(EXAMPLE.to_owned()),
        ));
    }
    Ok(gates)
}

fn collect(value: &Value, path: &mut Vec<Place>, gates: &mut Vec<Gate>) -> Result<(), Fault> {
    match value {
        Value::String(text) if text.trim_start().starts_with('{') => {
            match super::super::definition::parse_value(text) {
                Some(map @ Value::Object(_)) => collect(&map, path, gates),
                _ => Err(no_bound(path, text)),
            }
        }
        Value::String(text) => {
            for word in text.split(',') {
                gates.push(of_word(word.trim(), path)?);
            }
            Ok(())
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Place::Item(index));
                collect(item, path, gates)?;
                path.pop();
            }
            Ok(())
        }
        Value::Object(entries) => {
            for (name, bounds) in entries {
                path.push(Place::Key(name.clone()));
                gates.push(of_entry(name, bounds, path)?);
                path.pop();
            }
            Ok(())
        }
        other => Err(no_bound(path, &flow(other))),
    }
}

/// A gate as pipelines have it.
fn of_entry(name: &str, bounds: &Value, path: &[Place]) -> Result<Gate, Fault> {
    let gate = of_json(name, bounds).map_err(|wrong| wrong_gate(wrong, path, true))?;
    let is_bound = |entries: &Map<String, Value>| {
        entries
            .iter()
            .any(|(key, value)| !MANNERS.contains(&key.as_str()) && !value.is_null())
    };
    match bounds.as_object().is_some_and(is_bound) {
        true => Ok(gate),
        false => Err(fault(
            path,
            format!("`{name}` has no bound"),
            Some(EXAMPLE.to_owned()),
        )),
    }
}

/// `NAME<=VALUE`, `NAME>=VALUE`, `NAME.KEY<=VALUE`, or `NAME.KEY=VALUE` as flags of gates have it.
fn of_word(word: &str, path: &[Place]) -> Result<Gate, Fault> {
    let relation = ["<=", ">=", "="]
        .into_iter()
        .find_map(|relation| Some((relation, word.split_once(relation)?)));
    let Some((relation, (left, right))) = relation else {
        return Err(no_bound(path, word));
    };
    let Ok(value) = right.trim().parse::<f64>() else {
        return Err(no_bound(path, word));
    };
    let (name, key) = match left.trim().split_once('.') {
        Some((name, key)) => (name, key),
        None if relation == "<=" => (left.trim(), "at-most"),
        None if relation == ">=" => (left.trim(), "at-least"),
        None => return Err(no_bound(path, word)),
    };
    let gate = of_json(name, &json!({ key: value })).map_err(|wrong| {
        let mut found = wrong_gate(wrong, path, false);
        found.message = format!("{word:?}: {}", found.message);
        found
    })?;
    let wanted = if FROM_BELOW.contains(&key) { ">=" } else { "<=" };
    if relation == "=" || relation == wanted {
        return Ok(gate);
    }
    let side = if wanted == ">=" { "below" } else { "above" };
    Err(fault(
        path,
        format!("{word:?}: `{name}.{key}` is bounded from {side}"),
        Some(format!("write {name}.{key}{wanted}{value}")),
    ))
}

fn fault(path: &[Place], message: String, hint: Option<String>) -> Fault {
    Fault {
        path: path.to_vec(),
        is_key: false,
        message,
        hint,
    }
}

fn no_bound(path: &[Place], text: &str) -> Fault {
    let message = format!("{text:?} is no bound; write NAME.KEY<=VALUE, with the names and keys of gates");
    fault(path, message, Some(EXAMPLE.to_owned()))
}

/// Where in the value a gate is wrong: inside its bounds, or, in a text, the text.
fn wrong_gate(wrong: WrongGate, path: &[Place], inside: bool) -> Fault {
    let mut found = fault(path, wrong.to_string(), wrong.hint());
    match wrong {
        WrongGate::Name { .. } => found.is_key = inside,
        WrongGate::Bounds { fault, .. } if inside => {
            found.path.extend(fault.path);
            found.is_key = fault.is_key;
        }
        WrongGate::Bounds { .. } | WrongGate::Value { .. } => {}
    }
    found
}

/// The bound of a gate as a user may write it.
pub(super) fn words(gate: &Gate) -> String {
    let written = serde_json::to_value(gate).unwrap_or_default();
    let entries = written.get(gate.name()).and_then(Value::as_object);
    let word = |(key, value): (&String, &Value)| {
        let relation = if MANNERS.contains(&key.as_str()) {
            "="
        } else if FROM_BELOW.contains(&key.as_str()) {
            ">="
        } else {
            "<="
        };
        match key.as_str() {
            "at-most" | "at-least" => format!("{}{relation}{value}", gate.name()),
            _ => format!("{}.{key}{relation}{}", gate.name(), flow(value)),
        }
    };
    let words: Vec<String> = entries.into_iter().flatten().map(word).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Vec<String> {
        let gates = parse(value).unwrap_or_else(|fault| panic!("{value}: {fault}"));
        gates.iter().map(words).collect()
    }

    fn complaint(value: &Value) -> (String, String, String) {
        let fault = parse(value).unwrap_err();
        (
            fault.place(),
            fault.message.clone(),
            fault.hint.unwrap_or_default(),
        )
    }

    #[test]
    fn bounds_are_texts_lists_or_gates() {
        for (written, read_as) in [
            (json!("map.drop<=0.005"), vec!["map.drop<=0.005"]),
            (json!(" accuracy.drop <= 0.01 "), vec!["accuracy.drop<=0.01"]),
            (
                json!("map.drop<=0.005,size<=0.4"),
                vec!["map.drop<=0.005", "size<=0.4"],
            ),
            (
                json!(["latency<=0.9", "found>=0.97"]),
                vec!["latency<=0.9", "found>=0.97"],
            ),
            (json!("map.drop=0.005"), vec!["map.drop<=0.005"]),
            (json!("outputs.sqnr-db>=20"), vec!["outputs.sqnr-db>=20.0"]),
            (
                json!({"map": {"drop": 0.005, "confidence": 0.95}, "size": {"at-most": 0.4}}),
                vec!["map.drop<=0.005, map.confidence=0.95", "size<=0.4"],
            ),
            (json!(["{ miou: { drop: 0.01 } }"]), vec!["miou.drop<=0.01"]),
        ] {
            assert_eq!(read(&written), read_as, "{written}");
        }
    }

    #[test]
    fn wrong_bounds_are_refused_with_their_place_and_the_nearest_name() {
        for (written, place, says, hint) in [
            (
                json!("mpa.drop<=0.1"),
                "",
                "there is no gate `mpa`",
                "did you mean `map`?",
            ),
            (
                json!("map.dorp<=0.1"),
                "",
                "there is no `dorp`",
                "did you mean `drop`?",
            ),
            (
                json!(["size<=0.4", "accuracy.drop>=0.1"]),
                "[1]",
                "bounded from above",
                "write accuracy.drop<=0.1",
            ),
            (json!("map.drop<=much"), "", "is no bound", "for example"),
            (json!("map"), "", "is no bound", "for example"),
            (json!(0.5), "", "is no bound", "for example"),
            (json!([]), "", "no bound", "for example"),
            (
                json!({"map": {"dorp": 0.1}}),
                "map.dorp",
                "there is no `dorp`",
                "did you mean `drop`?",
            ),
            (
                json!({"mpa": {"drop": 0.1}}),
                "mpa",
                "there is no gate",
                "did you mean `map`?",
            ),
            (
                json!({"map": {"confidence": 0.9}}),
                "map",
                "has no bound",
                "for example",
            ),
        ] {
            let (at, message, cure) = complaint(&written);
            assert_eq!(at, place, "{written}");
            assert!(message.contains(says), "{written}: {message}");
            assert!(cure.contains(hint), "{written}: {cure}");
        }
    }
}
