//! YAML as a tree in which every key and value knows its place, so that each error can point at it.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use crate::schema::Place;

/// A place in a text: the line and column, both from 1, and the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// Line, from 1; 0 when the place is not known.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// First byte.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) spot: Spot,
    pub(crate) value: Yaml,
}

/// A YAML value. Maps keep their order.
#[derive(Clone, Debug)]
pub(crate) enum Yaml {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Located>),
    Map(Vec<(Key, Located)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) spot: Spot,
    pub(crate) name: String,
}

/// A configuration that is not valid, with the place and what would be right.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// A stable code.
    pub code: &'static str,
    /// File name, or how the text came in.
    pub file: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
    /// Where.
    pub spot: Spot,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<Box<str>>,
}

/// A text under its name.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) file: String,
    pub(crate) text: Arc<str>,
}

/// A place in one of several texts.
#[derive(Clone, Debug)]
pub struct Location {
    pub(crate) document: Document,
    pub(crate) spot: Spot,
}

impl Location {
    /// An error that points there.
    pub(crate) fn error(
        &self,
        code: &'static str,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> ConfigError {
        self.document.error(code, self.spot, message, hint)
    }
}

impl Document {
    pub(crate) fn error(
        &self,
        code: &'static str,
        spot: Spot,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> ConfigError {
        ConfigError {
            code,
            file: self.file.as_str().into(),
            text: self.text.clone(),
            spot,
            message: message.into(),
            hint: hint.map(Into::into),
        }
    }

    /// Parses the text. Only the spellings of YAML 1.2 are booleans, so `y` and `no` are words.
    pub(crate) fn parse(&self) -> Result<Located, ConfigError> {
        let options = serde_yaml::options! { strict_booleans: true };
        serde_yaml::from_str_with_options::<Located>(&self.text, options).map_err(|error| {
            let error = error.without_snippet();
            let spot = error
                .location()
                .map(|location| spot_of(location, &self.text))
                .unwrap_or_default();
            // A variable between brackets looks like a map to the parser.
            let line = self.text.lines().nth((spot.line as usize).saturating_sub(1));
            let hint = line.filter(|line| line.contains("${")).map(|_| {
                "between brackets a variable stands in quotes: [\"${NAME}\"], { KEY: \"${NAME}\" }".to_owned()
            });
            self.error("yaml-syntax", spot, plain_message(&error.to_string()), hint)
        })
    }
}

/// The parser's message without the place that it appends, which is shown in its own way.
fn plain_message(message: &str) -> String {
    let line = message.lines().next().unwrap_or(message);
    line.split(" at line ")
        .next()
        .unwrap_or(line)
        .trim_start_matches("error: ")
        .to_owned()
}

fn spot_of(location: serde_yaml::Location, text: &str) -> Spot {
    let span = location.span();
    let offset = span
        .byte_offset()
        .map_or(0, |offset| offset as usize)
        .min(text.len());
    let length = span
        .byte_len()
        .map_or(0, |length| length as usize)
        .min(text.len() - offset);
    Spot {
        line: location.line(),
        column: location.column(),
        offset,
        length,
    }
}

fn spot_of_span(location: serde_yaml::Location) -> Spot {
    let span = location.span();
    Spot {
        line: location.line(),
        column: location.column(),
        offset: span.byte_offset().map_or(0, |offset| offset as usize),
        length: span.byte_len().map_or(0, |length| length as usize),
    }
}

impl Located {
    /// The value as JSON, with keys in their order.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Yaml::Null => serde_json::Value::Null,
            Yaml::Bool(value) => (*value).into(),
            Yaml::Integer(value) => (*value).into(),
            Yaml::Float(value) => (*value).into(),
            Yaml::Text(value) => value.clone().into(),
            Yaml::List(items) => items.iter().map(Located::to_json).collect(),
            Yaml::Map(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.name.clone(), value.to_json()))
                    .collect(),
            ),
        }
    }

    /// A value that stands for something at a place, and each of its parts for the same.
    pub(crate) fn of_json(value: &serde_json::Value, spot: Spot) -> Self {
        use serde_json::Value;
        let value = match value {
            Value::Null => Yaml::Null,
            Value::Bool(value) => Yaml::Bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Yaml::Integer(integer),
                (None, float) => Yaml::Float(float.unwrap_or(f64::NAN)),
            },
            Value::String(text) => Yaml::Text(text.clone()),
            Value::Array(items) => Yaml::List(items.iter().map(|item| Self::of_json(item, spot)).collect()),
            Value::Object(entries) => {
                let entry = |(name, value): (&String, &Value)| {
                    let name = name.clone();
                    (Key { spot, name }, Self::of_json(value, spot))
                };
                Yaml::Map(entries.iter().map(entry).collect())
            }
        };
        Self { spot, value }
    }

    /// The value of a key, where this is a map that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&(Key, Located)> {
        self.entries()?.iter().find(|(key, _)| key.name == name)
    }

    /// Where a value, or its key, stands; the nearest place around it where the text does not have it.
    pub(crate) fn spot_of(&self, path: &[Place], is_key: bool) -> Option<Spot> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self.spot);
        };
        match (first, &self.value) {
            (Place::Key(name), Yaml::Map(entries)) => {
                let (key, value) = entries.iter().find(|(key, _)| key.name == *name)?;
                if is_key && rest.is_empty() {
                    return Some(key.spot);
                }
                value.spot_of(rest, is_key).or(Some(value.spot))
            }
            (Place::Item(index), Yaml::List(items)) => {
                let item = items.get(*index)?;
                item.spot_of(rest, is_key).or(Some(item.spot))
            }
            _ => Some(self.spot),
        }
    }

    /// What the value is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Yaml::Null => "nothing",
            Yaml::Bool(_) => "a boolean",
            Yaml::Integer(_) | Yaml::Float(_) => "a number",
            Yaml::Text(_) => "a text",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a map",
        }
    }

    /// The entries of a map; nothing at all counts as an empty one.
    pub(crate) fn entries(&self) -> Option<&[(Key, Located)]> {
        match &self.value {
            Yaml::Map(entries) => Some(entries),
            Yaml::Null => Some(&[]),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Yaml>::deserialize(deserializer)?;
        Ok(Self {
            spot: spot_of_span(spanned.referenced),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        Yaml::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Yaml, E> {
        i64::try_from(value)
            .map(Yaml::Integer)
            .map_err(|_| E::custom(format!("{value} is too large")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Yaml, E> {
        Ok(Yaml::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Located>()? {
            list.push(item);
        }
        Ok(Yaml::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Yaml, A::Error> {
        let mut map: Vec<(Key, Located)> = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value::<Located>()?;
            map.push((
                Key {
                    spot: spot_of_span(key.referenced),
                    name: key.value,
                },
                value,
            ));
        }
        Ok(Yaml::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document {
            file: "test.yaml".into(),
            text: text.into(),
        }
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let tree = document("version: 1\nsteps:\n  - simplify\n  - bind: { batch: 2 }\n")
            .parse()
            .unwrap();
        let entries = tree.entries().unwrap();
        assert_eq!(
            entries[0].0.spot,
            Spot {
                line: 1,
                column: 1,
                offset: 0,
                length: 7
            }
        );
        let Yaml::List(steps) = &entries[1].1.value else {
            panic!("{:?}", entries[1].1)
        };
        assert_eq!((steps[0].spot.line, steps[0].spot.column), (3, 5));
        let bind = &steps[1].entries().unwrap()[0];
        assert_eq!(
            (bind.0.name.as_str(), bind.0.spot.line, bind.0.spot.column),
            ("bind", 4, 5)
        );
        assert_eq!(
            tree.to_json().to_string(),
            r#"{"version":1,"steps":["simplify",{"bind":{"batch":2}}]}"#
        );
    }

    #[test]
    fn words_that_older_yaml_took_for_booleans_are_words() {
        let tree = document("labels: y\nflag: true\nnone:\nratio: 0.5\n")
            .parse()
            .unwrap();
        assert_eq!(
            tree.to_json().to_string(),
            r#"{"labels":"y","flag":true,"none":null,"ratio":0.5}"#
        );
    }

    #[test]
    fn syntax_errors_and_repeated_keys_have_a_place() {
        for (text, line) in [("a: [1, 2\nb: 3\n", 2), ("a: 1\na: 2\n", 2), ("a: b: c\n", 1)] {
            let error = document(text).parse().unwrap_err();
            assert_eq!((error.code, error.spot.line), ("yaml-syntax", line), "{error:?}");
        }
    }
}
