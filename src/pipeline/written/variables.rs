//! Variables of a pipeline: what declares them, `${name}` where they are used, and their values put in.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::Value;

use crate::schema::{flow, nearest};
use crate::yaml::{ConfigError, Document, Key, Located, Location, Spot, Yaml};

/// Values by the names of variables.
pub type Values = IndexMap<String, Value>;

/// A variable as a file declares it.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    /// Where.
    pub(super) location: Location,
    /// Its value where nobody gives one; `None` if one has to be given.
    pub(super) default: Option<Value>,
}

/// Part of a text.
#[derive(Debug, PartialEq)]
enum Piece<'t> {
    Text(&'t str),
    Name(&'t str),
}

/// What begins the use of a variable.
const OPEN: &str = "${";
/// What stands for [`OPEN`] itself.
const ESCAPED: &str = "$${";

/// Whether a word can be the name of a variable: letters, digits, `_` and `-`, a letter or `_` first.
pub fn is_variable_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
}

/// The parts of a text; an error is what stands where a name should.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, &str> {
    let (mut found, mut rest, mut from) = (Vec::new(), text, 0);
    while let Some(at) = rest
        .get(from..)
        .and_then(|tail| tail.find('$'))
        .map(|at| at + from)
    {
        let (before, tail) = rest.split_at(at);
        if let Some(after) = tail.strip_prefix(ESCAPED) {
            found.push(Piece::Text(before));
            found.push(Piece::Text(OPEN));
            (rest, from) = (after, 0);
        } else if let Some(inside) = tail.strip_prefix(OPEN) {
            let (name, after) = inside.split_once('}').ok_or(tail)?;
            if !is_variable_name(name) {
                return Err(tail);
            }
            found.push(Piece::Text(before));
            found.push(Piece::Name(name));
            (rest, from) = (after, 0);
        } else {
            from = at + 1;
        }
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    Ok(found)
}

/// Why a template cannot be filled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// What looks like the use of a variable and is none.
    #[error("`{at}` is no use of a variable: write ${{NAME}}, or $${{ for ${{ itself")]
    Syntax {
        /// Where it begins.
        at: String,
    },
    /// A name without a value.
    #[error("there is no variable `{name}`; there are {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that have one.
        known: Vec<String>,
    },
}

impl TemplateError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "variable-syntax",
            Self::Unknown { .. } => "unknown-variable",
        }
    }
}

/// A template such as `out/${model}-${bits}.onnx` with values put in as text.
///
/// # Errors
///
/// A name that has no value, or what is no name.
pub fn fill(template: &str, values: &IndexMap<String, String>) -> Result<String, TemplateError> {
    let wrong = |at: &str| TemplateError::Syntax { at: at.to_owned() };
    let unknown = |name: &str| TemplateError::Unknown {
        name: name.to_owned(),
        known: values.keys().cloned().collect(),
    };
    let mut text = String::new();
    for piece in pieces(template).map_err(wrong)? {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Name(name) => text.push_str(values.get(name).ok_or_else(|| unknown(name))?),
        }
    }
    Ok(text)
}

fn malformed(document: &Document, spot: Spot, at: &str) -> ConfigError {
    let hint = "a name has letters, digits, _ and -; write $${ for ${ itself".to_owned();
    document.error(
        "variable-syntax",
        spot,
        format!("`{at}` is no use of a variable"),
        Some(hint),
    )
}

/// The variables that a value uses, with the first place of each.
pub(super) fn uses(
    document: &Document,
    tree: &Located,
    found: &mut BTreeMap<String, Location>,
) -> Result<(), ConfigError> {
    match &tree.value {
        Yaml::Text(text) => {
            for piece in pieces(text).map_err(|at| malformed(document, tree.spot, at))? {
                if let Piece::Name(name) = piece {
                    use_of(document, tree.spot, name, found);
                }
            }
            Ok(())
        }
        Yaml::List(items) => items.iter().try_for_each(|item| uses(document, item, found)),
        Yaml::Map(entries) => entries
            .iter()
            .try_for_each(|(_, value)| uses(document, value, found)),
        _ => Ok(()),
    }
}

/// Notes the use of one variable.
pub(super) fn use_of(document: &Document, spot: Spot, name: &str, found: &mut BTreeMap<String, Location>) {
    found.entry(name.to_owned()).or_insert_with(|| Location {
        document: document.clone(),
        spot,
    });
}

/// The variables under `vars`: names and defaults.
pub(super) fn declarations(
    document: &Document,
    tree: &Located,
    found: &mut IndexMap<String, Declared>,
) -> Result<(), ConfigError> {
    let Some(entries) = tree.entries() else {
        let message = format!("`vars` is a map of names and their values, not {}", tree.kind());
        return Err(document.error("pipeline-shape", tree.spot, message, None));
    };
    for (key, value) in entries {
        named(document, key)?;
        let mut inside = BTreeMap::new();
        uses(document, value, &mut inside)?;
        if !inside.is_empty() {
            let message = format!("the value of variable `{}` uses a variable", key.name);
            let hint = "a variable has a value of its own".to_owned();
            return Err(document.error("variable-value", value.spot, message, Some(hint)));
        }
        let declared = Declared {
            location: Location {
                document: document.clone(),
                spot: key.spot,
            },
            default: Some(value.to_json()).filter(|value| !value.is_null()),
        };
        found.insert(key.name.clone(), declared);
    }
    Ok(())
}

/// Refuses what cannot be the name of a variable.
pub(super) fn named(document: &Document, key: &Key) -> Result<(), ConfigError> {
    if is_variable_name(&key.name) {
        return Ok(());
    }
    let message = format!("`{}` is no name of a variable", key.name);
    let hint = "a name has letters, digits, _ and -, and begins with a letter".to_owned();
    Err(document.error("variable-syntax", key.spot, message, Some(hint)))
}

/// What to say of a name that is no variable.
pub(super) fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> (String, String) {
    let hint = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.clone().next().is_none() => "variables are declared under `vars`".to_owned(),
        None => format!("variables are {}", known.collect::<Vec<_>>().join(", ")),
    };
    (format!("the pipeline has no variable `{name}`"), hint)
}

/// The value with all variables put in: a text that is nothing but a variable becomes its value, with its type.
pub(super) fn put(document: &Document, tree: &Located, values: &Values) -> Result<Located, ConfigError> {
    let spot = tree.spot;
    let value = match &tree.value {
        Yaml::Text(text) => {
            let pieces = pieces(text).map_err(|at| malformed(document, spot, at))?;
            if let [Piece::Name(name)] = pieces.as_slice() {
                return Ok(Located::of_json(value_of(document, spot, name, values)?, spot));
            }
            let mut whole = String::new();
            for piece in pieces {
                match piece {
                    Piece::Text(part) => whole.push_str(part),
                    Piece::Name(name) => {
                        let value = value_of(document, spot, name, values)?;
                        whole.push_str(&inside(document, spot, name, value)?);
                    }
                }
            }
            Yaml::Text(whole)
        }
        Yaml::List(items) => Yaml::List(
            items
                .iter()
                .map(|item| put(document, item, values))
                .collect::<Result<_, _>>()?,
        ),
        Yaml::Map(entries) => Yaml::Map(
            entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), put(document, value, values)?)))
                .collect::<Result<_, ConfigError>>()?,
        ),
        other => other.clone(),
    };
    Ok(Located { spot, value })
}

/// The value of a variable; one without a value is at fault where it is used.
pub(super) fn value_of<'v>(
    document: &Document,
    spot: Spot,
    name: &str,
    values: &'v Values,
) -> Result<&'v Value, ConfigError> {
    values.get(name).ok_or_else(|| {
        let message = format!("variable `{name}` has no value");
        let hint = format!("give it one: --var {name}=VALUE");
        document.error("variable-unset", spot, message, Some(hint))
    })
}

/// A value inside a longer text.
fn inside(document: &Document, spot: Spot, name: &str, value: &Value) -> Result<String, ConfigError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => {
            let message = format!("variable `{name}` is {} and stands inside a text", flow(value));
            let hint = "a text, a number or a boolean can stand there".to_owned();
            Err(document.error("variable-value", spot, message, Some(hint)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_at_its_variables() {
        use Piece::{Name, Text};
        for (text, expected) in [
            ("${a}", vec![Name("a")]),
            (
                "x-${a}${b_1}.onnx",
                vec![Text("x-"), Name("a"), Name("b_1"), Text(".onnx")],
            ),
            ("$${a}", vec![Text("${"), Text("a}")]),
            ("cost $5 $", vec![Text("cost $5 $")]),
            ("$$${a}", vec![Text("$"), Text("${"), Text("a}")]),
            ("^a$|b{2}", vec![Text("^a$|b{2}")]),
            ("größe ${a}", vec![Text("größe "), Name("a")]),
            ("", vec![]),
        ] {
            assert_eq!(pieces(text), Ok(expected), "{text}");
        }
        for text in ["${", "${a", "${}", "${a b}", "${1}", "${a.b}", "x ${ä}"] {
            assert!(pieces(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_template_takes_values_as_text() {
        let values = IndexMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x".to_owned())]);
        assert_eq!(fill("o/${b}-${a}$${", &values), Ok("o/x-1${".to_owned()));
        let unknown = fill("${c}", &values).unwrap_err();
        assert_eq!(unknown.code(), "unknown-variable");
        assert!(unknown.to_string().ends_with("there are a, b"), "{unknown}");
        assert_eq!(fill("${c", &values).unwrap_err().code(), "variable-syntax");
    }
}
