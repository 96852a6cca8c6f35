//! Pipelines as they are written: a text with those that it includes, its variables and its family, before values are put in.
//!
//! `parts` reads the text and what it includes, `variables` knows `${name}`, `matrix` the combinations of a family, `conditions` which
//! steps are left out, `resolve` makes a [`Pipeline`] of it all.

mod conditions;
mod matrix;
mod parts;
mod resolve;
mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

pub use matrix::{Combination, Matrix, label, matches};
use parts::Part;
use variables::{Declared, unknown};
pub use variables::{TemplateError, Values, fill, is_variable_name};

use super::definition::Pipeline;
use super::presets;
use crate::yaml::{ConfigError, Document, Located, Location};

/// The variable that holds the name of the model's file, without its ending, where there are several models.
pub const MODEL: &str = "model";

/// What is put into a pipeline that is written.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Values of variables, which the pipeline has to have.
    pub values: Values,
    /// Values that it may use or not.
    pub beside: Values,
}

/// A pipeline as it is written.
#[derive(Clone, Debug)]
pub struct Written {
    /// How it is called: its file, or the preset's name.
    pub name: String,
    /// The folder that relative paths in it start from.
    pub base: PathBuf,
    root: Part,
}

impl Written {
    /// Reads the text of a pipeline and what it includes. `file` is what errors call the text; relative paths in it start from `base`.
    ///
    /// # Errors
    ///
    /// What is no YAML, an included file that cannot be read or that includes itself.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        let document = Document {
            file: file.to_owned(),
            text: text.into(),
        };
        let tree = document.parse()?;
        Self::of_tree(document, tree, base)
    }

    /// The same for a text that is read already, or a part of one.
    pub(crate) fn of_tree(document: Document, tree: Located, base: &Path) -> Result<Self, ConfigError> {
        Ok(Self {
            name: document.file.clone(),
            base: base.to_owned(),
            root: Part::top(document, tree, base)?,
        })
    }

    /// The preset with this name, if there is one.
    pub fn preset(name: &str) -> Option<Result<Self, ConfigError>> {
        let text = presets::text(name)?;
        Some(
            Self::parse(&format!("preset {name}"), text, Path::new("")).map(|written| Self {
                name: name.to_owned(),
                ..written
            }),
        )
    }

    /// The names of its variables and their values where nobody gives others: `None` for one that has to be given.
    ///
    /// # Errors
    ///
    /// What is wrong with a declaration.
    pub fn variables(&self) -> Result<IndexMap<String, Option<Value>>, ConfigError> {
        let declared = self.declared()?;
        Ok(declared
            .into_iter()
            .map(|(name, variable)| (name, variable.default))
            .collect())
    }

    /// The family under `matrix`, if it has one.
    ///
    /// # Errors
    ///
    /// What is no list of values, or a family without members.
    pub fn matrix(&self) -> Result<Option<Matrix>, ConfigError> {
        let found = self.root.tree.get("matrix");
        found
            .map(|(key, tree)| Matrix::read(&self.root.document, key, tree))
            .transpose()
    }

    /// The pipeline with these values put in.
    ///
    /// # Errors
    ///
    /// A variable that is not declared, has no value or is not used; what is no step, gate or description of data.
    pub fn resolve(&self, given: &Given) -> Result<Pipeline, ConfigError> {
        resolve::resolve(self, given)
    }

    /// The same for a pipeline that is no family.
    ///
    /// # Errors
    ///
    /// `pipeline-matrix` for a family; else as [`Written::resolve`].
    pub fn alone(&self, given: &Given) -> Result<Pipeline, ConfigError> {
        if let (Some((key, _)), Some(matrix)) = (self.root.tree.get("matrix"), self.matrix()?) {
            let count = matrix.combinations().len();
            let message = format!("this is a family of {count}, and one pipeline is asked for");
            let hint = "`secateur run` runs all of a family".to_owned();
            let document = &self.root.document;
            return Err(document.error("pipeline-matrix", key.spot, message, Some(hint)));
        }
        self.resolve(given)
    }

    /// The files that it includes.
    pub fn included(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.root.each(&mut |part| files.extend(part.file.clone()));
        files
    }

    fn declared(&self) -> Result<IndexMap<String, Declared>, ConfigError> {
        let mut found = IndexMap::new();
        self.root.declarations(&mut found)?;
        if let Some((_, tree)) = self.root.tree.get("matrix") {
            matrix::declarations(&self.root.document, tree, &mut found)?;
        }
        Ok(found)
    }

    /// The variables that it uses anywhere, with a place of each.
    ///
    /// # Errors
    ///
    /// What is no use of a variable.
    pub(crate) fn uses(&self) -> Result<BTreeMap<String, Location>, ConfigError> {
        let mut found = BTreeMap::new();
        self.root.uses(&mut found)?;
        Ok(found)
    }

    /// The values of all variables, when each one that is used is declared or given, and each one that is declared or given is used.
    fn settle(&self, given: &Given) -> Result<Values, ConfigError> {
        let (declared, uses) = (self.declared()?, self.uses()?);
        let root = &self.root;
        let names = || declared.keys().map(String::as_str);
        for name in given.values.keys() {
            if !declared.contains_key(name) {
                let spot = root.tree.get("vars").map_or(root.tree.spot, |(key, _)| key.spot);
                let (message, hint) = unknown(name, names());
                return Err(root.document.error("unknown-variable", spot, message, Some(hint)));
            }
        }
        for (name, location) in &uses {
            if !declared.contains_key(name) && !given.beside.contains_key(name) {
                let (message, hint) = unknown(name, names().chain(given.beside.keys().map(String::as_str)));
                return Err(location.error("unknown-variable", message, Some(hint)));
            }
        }
        if let Some((name, variable)) = declared
            .iter()
            .find(|(name, _)| !uses.contains_key(*name) && *name != MODEL)
        {
            let message = format!("variable `{name}` is used nowhere");
            let hint = format!("write ${{{name}}} where its value goes");
            return Err(variable.location.error("unused-variable", message, Some(hint)));
        }
        let defaults = declared
            .into_iter()
            .filter_map(|(name, variable)| Some((name, variable.default?)));
        let mut values: Values = defaults.collect();
        values.extend(given.beside.clone());
        values.extend(given.values.clone());
        Ok(values)
    }
}

#[cfg(test)]
mod tests;
