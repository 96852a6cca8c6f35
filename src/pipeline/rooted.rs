//! A pipeline whose paths start from another folder.

use std::path::Path;

use serde_json::{Map, Value};

use super::definition::{Pipeline, Step, StepError};
use super::files::FILE_KEY;
use super::resources::Described;
use crate::data::Spec;
use crate::passes::registry;

impl Pipeline {
    /// The same pipeline with every relative path starting from `folder`, so that it can be read from anywhere.
    ///
    /// # Errors
    ///
    /// A step of a pass that is not registered.
    pub fn rooted(mut self, folder: &Path) -> Result<Self, StepError> {
        for step in &mut self.steps {
            let mut options = step.options.clone();
            join_options(&step.name, &mut options, folder);
            if options != step.options {
                *step = Step {
                    spot: step.spot.clone(),
                    ..Step::new(&step.name, options)?
                };
            }
        }
        for described in self.data.values_mut() {
            *described = match described {
                Described::Written(Value::String(path)) => Described::Written(joined(folder, path).into()),
                Described::Written(map) => match Spec::from_value(map) {
                    Ok(spec) => Described::of(spec.rooted(folder)),
                    // What is no description is refused where the data are opened.
                    Err(_) => Described::Written(map.clone()),
                },
                Described::Given(spec) => Described::Given(Box::new(spec.clone().rooted(folder))),
            };
        }
        self.base = folder.to_owned();
        Ok(self)
    }
}

/// A path that starts from a folder.
pub(super) fn joined(folder: &Path, path: &str) -> String {
    folder.join(path).to_string_lossy().into_owned()
}

/// Lets the options that are paths start from a folder.
pub(super) fn join_options(step: &str, options: &mut Map<String, Value>, folder: &Path) {
    if folder == Path::new("") {
        return;
    }
    let entries = registry::entries();
    let Some(entry) = entries.iter().find(|entry| entry.name == step) else {
        return;
    };
    let properties = entry.schema.get("properties");
    let join = |value: &mut Value| {
        if let Value::String(path) = value {
            *path = joined(folder, path);
        }
    };
    for (option, value) in options {
        let is_file = properties
            .and_then(|properties| properties.get(option)?.get(FILE_KEY))
            .is_some();
        match value {
            Value::Array(items) if is_file => items.iter_mut().for_each(join),
            one if is_file => join(one),
            _ => {}
        }
    }
}
