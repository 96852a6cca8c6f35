//! `matrix`: a family of models and settings in one file.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::MODEL;
use super::conditions::same;
use super::variables::{Declared, Values, named};
use crate::schema::flow;
use crate::yaml::{ConfigError, Document, Key, Located, Location, Yaml};

/// The key of combinations that are left out.
const EXCLUDE: &str = "exclude";

/// The most members of a family.
const MOST: usize = 10_000;

/// What varies, and how.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Values by variable; `model` has files.
    pub axes: IndexMap<String, Vec<Value>>,
    exclude: Vec<Map<String, Value>>,
}

/// One member of a family: a value of each variable.
pub type Combination = Values;

impl Matrix {
    pub(super) fn read(document: &Document, key: &Key, tree: &Located) -> Result<Self, ConfigError> {
        let wrong = |located: &Located, message: String| {
            let hint = "write matrix: { NAME: [VALUE, VALUE] }".to_owned();
            document.error("pipeline-matrix", located.spot, message, Some(hint))
        };
        let entries = match tree.entries() {
            Some(entries) => entries,
            None => {
                return Err(wrong(
                    tree,
                    format!("`matrix` is a map of lists, not {}", tree.kind()),
                ));
            }
        };
        let mut matrix = Self {
            axes: IndexMap::new(),
            exclude: Vec::new(),
        };
        for (name, list) in entries {
            let Yaml::List(items) = &list.value else {
                return Err(wrong(
                    list,
                    format!("`{}` is a list, not {}", name.name, list.kind()),
                ));
            };
            if name.name == EXCLUDE {
                matrix.exclude = items
                    .iter()
                    .map(|item| match item.to_json() {
                        Value::Object(fields) => Ok(fields),
                        _ => Err(wrong(
                            item,
                            format!("what is left out is a map, not {}", item.kind()),
                        )),
                    })
                    .collect::<Result<_, _>>()?;
                continue;
            }
            if items.is_empty() {
                return Err(wrong(list, format!("`{}` has no values", name.name)));
            }
            for item in items {
                if name.name == MODEL && !matches!(item.value, Yaml::Text(_)) {
                    return Err(wrong(item, format!("a model is a path, not {}", item.kind())));
                }
            }
            let values: Vec<Value> = items.iter().map(Located::to_json).collect();
            for (at, value) in values.iter().enumerate() {
                if values.iter().take(at).any(|before| same(before, value)) {
                    let item = items.get(at).unwrap_or(list);
                    return Err(wrong(item, format!("{} stands twice", flow(value))));
                }
            }
            matrix.axes.insert(name.name.clone(), values);
        }
        matrix.check_exclusions(document, key, tree)?;
        Ok(matrix)
    }

    fn check_exclusions(&self, document: &Document, key: &Key, tree: &Located) -> Result<(), ConfigError> {
        for name in self.exclude.iter().flat_map(Map::keys) {
            if !self.axes.contains_key(name) {
                let spot = tree.get(EXCLUDE).map_or(key.spot, |(_, list)| list.spot);
                let names: Vec<&str> = self.axes.keys().map(String::as_str).collect();
                let hint = format!("the matrix has {}", names.join(", "));
                let message = format!("`{name}` does not vary");
                return Err(document.error("pipeline-matrix", spot, message, Some(hint)));
            }
        }
        let count = self
            .axes
            .values()
            .try_fold(1_usize, |count, values| count.checked_mul(values.len()));
        let message = match count {
            Some(count) if count <= MOST && !self.axes.is_empty() => {
                if !self.combinations().is_empty() {
                    return Ok(());
                }
                "every combination is left out".to_owned()
            }
            _ if self.axes.is_empty() => "the matrix is empty".to_owned(),
            _ => format!("a family has at most {MOST} members"),
        };
        Err(document.error("pipeline-matrix", key.spot, message, None))
    }

    /// All combinations that are not left out; the last variable changes fastest.
    pub fn combinations(&self) -> Vec<Combination> {
        let mut found = vec![Values::new()];
        for (name, values) in &self.axes {
            found = found
                .iter()
                .flat_map(|before| {
                    values.iter().map(move |value| {
                        let mut next = before.clone();
                        next.insert(name.clone(), value.clone());
                        next
                    })
                })
                .collect();
        }
        found.retain(|combination| !self.exclude.iter().any(|pattern| matches(pattern, combination)));
        found
    }
}

/// Whether a combination has all values of a pattern; a list there stands for any of its values.
pub fn matches(pattern: &Map<String, Value>, combination: &Values) -> bool {
    pattern.iter().all(|(name, wanted)| {
        combination.get(name).is_some_and(|value| match wanted {
            Value::Array(all) => all.iter().any(|one| same(one, value)) || same(wanted, value),
            one => same(one, value),
        })
    })
}

/// The variables that a matrix declares.
pub(super) fn declarations(
    document: &Document,
    tree: &Located,
    found: &mut IndexMap<String, Declared>,
) -> Result<(), ConfigError> {
    for (key, _) in tree.entries().unwrap_or_default() {
        if key.name == EXCLUDE {
            continue;
        }
        named(document, key)?;
        let location = Location {
            document: document.clone(),
            spot: key.spot,
        };
        let default = found.get(&key.name).and_then(|variable| variable.default.clone());
        found.insert(key.name.clone(), Declared { location, default });
    }
    Ok(())
}

/// A value as it stands in names of files: text without separators of folders.
pub fn label(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => flow(other),
    };
    let plain = |letter: char| letter.is_alphanumeric() || "._-+".contains(letter);
    let marked: String = text
        .chars()
        .map(|letter| if plain(letter) { letter } else { '-' })
        .collect();
    marked.trim_matches('-').to_owned()
}
