//! A pipeline out of its text, what it includes and the values of its variables.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::conditions::{WHEN, holds, is_off};
use super::parts::{INCLUDE, Part};
use super::variables::{Values, put};
use super::{Given, Written};
use crate::data::Spec;
use crate::passes::registry;
use crate::pipeline::definition::{
    Pipeline, ROLES, Step, StepError, VERSION, bind_options, did_you_mean, option_names,
};
use crate::pipeline::gate::gate;
use crate::pipeline::resources::Described;
use crate::pipeline::rooted::{join_options, joined};
use crate::schema::{Place, nearest};
use crate::yaml::{ConfigError, Document, Key, Located, Location, Yaml};

const KEYS: [&str; 9] = [
    "version", INCLUDE, "vars", "matrix", "bind", "keep", "data", "steps", "gates",
];

/// Makes the pipeline.
pub(super) fn resolve(written: &Written, given: &Given) -> Result<Pipeline, ConfigError> {
    check_keys(&written.root)?;
    let values = written.settle(given)?;
    let mut pipeline = Pipeline::of(&written.name, Vec::new());
    pipeline.base.clone_from(&written.base);
    pipeline.included = written.included();
    let mut sizes = Sizes::default();
    add(&written.root, &values, &mut pipeline, &mut sizes)?;
    let root = &written.root;
    if root.tree.get("steps").is_none() && root.before.is_empty() && sizes.0.is_empty() {
        return Err(root
            .document
            .error("pipeline-shape", root.tree.spot, "a pipeline needs `steps`", None));
    }
    if let Some(bind) = sizes.step()? {
        pipeline.steps.insert(0, bind);
    }
    Ok(pipeline)
}

/// Refuses what is no map, and keys that a pipeline does not have.
fn check_keys(part: &Part) -> Result<(), ConfigError> {
    let document = &part.document;
    let entries = match part.tree.entries() {
        Some(entries) if matches!(part.tree.value, Yaml::Map(_)) => entries,
        _ => {
            let message = format!("a pipeline is a map with `steps`, not {}", part.tree.kind());
            return Err(document.error("pipeline-shape", part.tree.spot, message, None));
        }
    };
    for (key, value) in entries {
        match key.name.as_str() {
            "version" => version(document, value)?,
            name if KEYS.contains(&name) => {}
            other => {
                let hint = did_you_mean(
                    nearest(other, KEYS),
                    &format!("a pipeline has {}", KEYS.join(", ")),
                );
                return Err(document.error(
                    "unknown-key",
                    key.spot,
                    format!("unknown key `{other}`"),
                    Some(hint),
                ));
            }
        }
    }
    part.before
        .iter()
        .chain(part.among.values())
        .try_for_each(check_keys)
}

/// The sizes under `bind` of several texts; a later one of the same name is the one that counts.
#[derive(Default)]
struct Sizes(Vec<(Location, Map<String, Value>)>);

impl Sizes {
    fn step(self) -> Result<Option<Step>, ConfigError> {
        let mut all = Map::new();
        let mut last = None;
        for (location, options) in self.0 {
            let sizes = options.get("sizes").and_then(Value::as_object);
            all.extend(sizes.cloned().unwrap_or_default());
            last = Some(location);
        }
        let Some(location) = last else {
            return Ok(None);
        };
        let made = Step::new(
            "bind",
            bind_options(Map::from_iter([("sizes".to_owned(), all.into())])),
        );
        made.map(|step| {
            Some(Step {
                spot: Some(location.clone()),
                ..step
            })
        })
        .map_err(|error| location.error(error.code(), error.to_string(), error.hint()))
    }
}

/// Adds a part to the pipeline, after what it includes.
fn add(part: &Part, values: &Values, pipeline: &mut Pipeline, sizes: &mut Sizes) -> Result<(), ConfigError> {
    for before in &part.before {
        add(before, values, pipeline, sizes)?;
    }
    let document = &part.document;
    for (key, value) in part.tree.entries().unwrap_or_default() {
        match key.name.as_str() {
            "bind" => {
                let value = put(document, value, values)?;
                let bind = step(part, key, Some(&value), "bind")?;
                let location = Location {
                    document: document.clone(),
                    spot: key.spot,
                };
                sizes.0.push((location, bind.options));
            }
            "keep" => {
                let own = texts(document, &put(document, value, values)?)?;
                pipeline.keep.extend(own);
            }
            "data" => {
                let own = data(part, &put(document, value, values)?)?;
                pipeline.data.extend(own);
            }
            "steps" => {
                let own = steps(part, value, values)?;
                pipeline.steps.extend(own);
            }
            "gates" => {
                for item in list(document, value, "gates")? {
                    let item = put(document, item, values)?;
                    pipeline.gates.push(gate(document, &item)?);
                    pipeline.gate_places.push(Location {
                        document: document.clone(),
                        spot: item.spot,
                    });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn version(document: &Document, value: &Located) -> Result<(), ConfigError> {
    match value.value {
        Yaml::Integer(VERSION) => Ok(()),
        Yaml::Integer(other) => {
            let hint = format!("this release reads version {VERSION}");
            Err(document.error(
                "pipeline-version",
                value.spot,
                format!("version {other} is not known"),
                Some(hint),
            ))
        }
        _ => Err(document.error(
            "pipeline-version",
            value.spot,
            format!("the version is a number, not {}", value.kind()),
            None,
        )),
    }
}

fn list<'a>(document: &Document, value: &'a Located, key: &str) -> Result<&'a [Located], ConfigError> {
    match &value.value {
        Yaml::List(items) => Ok(items),
        Yaml::Null => Ok(&[]),
        _ => Err(document.error(
            "pipeline-shape",
            value.spot,
            format!("`{key}` is a list, not {}", value.kind()),
            None,
        )),
    }
}

fn texts(document: &Document, value: &Located) -> Result<Vec<String>, ConfigError> {
    let text = |item: &Located| match &item.value {
        Yaml::Text(text) => Ok(text.clone()),
        _ => Err(document.error(
            "pipeline-shape",
            item.spot,
            format!("a pattern is a text, not {}", item.kind()),
            None,
        )),
    };
    match &value.value {
        Yaml::Text(_) => Ok(vec![text(value)?]),
        _ => list(document, value, "keep")?.iter().map(text).collect(),
    }
}

fn data(part: &Part, value: &Located) -> Result<IndexMap<String, Described>, ConfigError> {
    let document = &part.document;
    let Some(entries) = value.entries() else {
        return Err(document.error(
            "pipeline-shape",
            value.spot,
            format!("`data` is a map of roles, not {}", value.kind()),
            None,
        ));
    };
    let mut data = IndexMap::new();
    for (key, value) in entries {
        if !ROLES.contains(&key.name.as_str()) {
            let hint = did_you_mean(
                nearest(&key.name, ROLES),
                &format!("roles are {}", ROLES.join(", ")),
            );
            return Err(document.error(
                "unknown-role",
                key.spot,
                format!("unknown role `{}`", key.name),
                Some(hint),
            ));
        }
        let own = part.folder == PathBuf::new();
        let described = match &value.value {
            Yaml::Text(path) if !own => Value::String(joined(&part.folder, path)),
            Yaml::Text(_) => value.to_json(),
            Yaml::Map(_) => {
                let spec = Spec::from_located(document, value)?;
                if own {
                    value.to_json()
                } else {
                    serde_json::to_value(spec.rooted(&part.folder)).unwrap_or_default()
                }
            }
            _ => {
                let message = format!("data are a path or a map, not {}", value.kind());
                return Err(document.error("pipeline-shape", value.spot, message, None));
            }
        };
        data.insert(key.name.clone(), Described::Written(described));
    }
    Ok(data)
}

/// The steps that are done. One that is nothing but a variable may be several, or none.
fn steps(part: &Part, value: &Located, values: &Values) -> Result<Vec<Step>, ConfigError> {
    let document = &part.document;
    let mut found = Vec::new();
    for item in list(document, value, "steps")? {
        let written = match &item.value {
            Yaml::Text(_) => put(document, item, values)?,
            _ => item.clone(),
        };
        match (&item.value, &written.value) {
            (Yaml::Text(_), Yaml::List(items)) => {
                for item in items {
                    found.extend(one(part, item, values)?);
                }
            }
            (Yaml::Text(_), _) if is_off(&written.to_json()) => {}
            _ => found.extend(one(part, &written, values)?),
        }
    }
    Ok(found)
}

/// `name`, `name:`, `{ name: options }`, with or without `when`, or `include: FILE`.
fn one(part: &Part, item: &Located, values: &Values) -> Result<Vec<Step>, ConfigError> {
    let document = &part.document;
    let entries = match &item.value {
        Yaml::Text(name) => {
            let key = Key {
                spot: item.spot,
                name: name.clone(),
            };
            return Ok(vec![step(part, &key, None, name)?]);
        }
        Yaml::Map(entries) => entries,
        _ => {
            return Err(document.error(
                "pipeline-shape",
                item.spot,
                format!("a step is a name, not {}", item.kind()),
                None,
            ));
        }
    };
    let own: Vec<&(Key, Located)> = entries.iter().filter(|(key, _)| key.name != WHEN).collect();
    let [(key, options)] = own.as_slice() else {
        let hint = "write each step as its own list item; options go below its name, indented".to_owned();
        return Err(document.error(
            "pipeline-shape",
            item.spot,
            "a step is one name with its options",
            Some(hint),
        ));
    };
    let done = match item.get(WHEN) {
        Some((_, condition)) => holds(document, condition, values)?,
        None => true,
    };
    if key.name == INCLUDE {
        let Some(included) = part.among.get(&options.spot.offset) else {
            let hint = "write it in the text of the pipeline".to_owned();
            let message = "a variable cannot include a file";
            return Err(document.error(INCLUDE, key.spot, message, Some(hint)));
        };
        let mut found = Pipeline::of("", Vec::new());
        if done {
            add(included, values, &mut found, &mut Sizes::default())?;
        }
        return Ok(found.steps);
    }
    if !done {
        known(document, key, options)?;
        return Ok(Vec::new());
    }
    let options = put(document, options, values)?;
    Ok(vec![step(part, key, Some(&options), &key.name)?])
}

/// Refuses a step that is left out and would be none: its name or that of an option is wrong.
fn known(document: &Document, key: &Key, options: &Located) -> Result<(), ConfigError> {
    let refuse =
        |spot, error: StepError| Err(document.error(error.code(), spot, error.to_string(), error.hint()));
    let entries = registry::entries();
    let name = &key.name;
    if !entries.iter().any(|entry| entry.name == name) {
        let nearest = nearest(name, entries.iter().map(|entry| entry.name)).map(str::to_owned);
        let name = name.clone();
        return refuse(key.spot, StepError::Unknown { name, nearest });
    }
    let known = option_names(name);
    for (option, _) in options.entries().unwrap_or_default() {
        if name != "bind" && !known.is_empty() && !known.contains(&option.name) {
            let nearest = nearest(&option.name, known.iter().map(String::as_str)).map(str::to_owned);
            let (name, spot, option) = (name.clone(), option.spot, option.name.clone());
            return refuse(
                spot,
                StepError::Option {
                    name,
                    option,
                    nearest,
                },
            );
        }
    }
    Ok(())
}

/// One step with its options, whose paths start from the folder of the pipeline.
fn step(part: &Part, key: &Key, options: Option<&Located>, name: &str) -> Result<Step, ConfigError> {
    let document = &part.document;
    let entries = match options {
        None => &[],
        Some(value) => value.entries().ok_or_else(|| {
            document.error(
                "pipeline-shape",
                value.spot,
                format!("the options of `{name}` are a map, not {}", value.kind()),
                None,
            )
        })?,
    };
    let map: Map<String, Value> = entries
        .iter()
        .map(|(key, value)| (key.name.clone(), value.to_json()))
        .collect();
    let mut map = if name == "bind" { bind_options(map) } else { map };
    join_options(name, &mut map, &part.folder);
    let made = Step::new(name, map).map(|step| Step {
        spot: Some(Location {
            document: document.clone(),
            spot: key.spot,
        }),
        ..step
    });
    made.map_err(|error| {
        let at = |option: &str| entries.iter().find(|(key, _)| key.name == option);
        let spot = match &error {
            StepError::Unknown { .. } => key.spot,
            StepError::Option { option, .. } => at(option.as_str()).map_or(key.spot, |(key, _)| key.spot),
            StepError::Value { fault, .. } => {
                let mut path = fault.path.as_slice();
                if let (true, [Place::Key(first), rest @ ..]) = (name == "bind", path)
                    && first == "sizes"
                    && at("sizes").is_none()
                {
                    path = rest;
                }
                options
                    .and_then(|options| options.spot_of(path, fault.is_key))
                    .unwrap_or(key.spot)
            }
            StepError::Options { .. } => key.spot,
        };
        document.error(error.code(), spot, error.to_string(), error.hint())
    })
}
