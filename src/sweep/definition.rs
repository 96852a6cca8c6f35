//! A sweep as a user writes it, with a place for every error.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::search::{Budget, Halving, Search, Setting, passes, settings};
use super::values::{Axis, axis};
use crate::data::Spec;
use crate::pipeline::{ConfigError, Described, MODEL, ROLES, Values, Written, is_variable_name};
use crate::schema::nearest;
use crate::yaml::{Document, Key, Located, Location, Spot, Yaml};

const KEYS: [&str; 10] = [
    "version", "model", "models", "pipeline", "vars", "search", "data", "measure", "exclude", "only",
];

/// Version of the format that this release reads.
const VERSION: i64 = 1;

/// The code of what is wrong with the shape of a sweep.
const SHAPE: &str = "sweep-shape";

/// A sweep that is read.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its file, or how it came in.
    pub name: String,
    /// The folder that relative paths in it start from.
    pub base: PathBuf,
    /// Files of models, as seen from there.
    pub models: Vec<PathBuf>,
    /// The pipeline.
    pub source: Source,
    /// What each variable varies over.
    pub axes: Vec<(String, Axis)>,
    /// Which settings are tried.
    pub search: Search,
    /// Data by role, in the place of the pipeline's.
    pub data: IndexMap<String, Described>,
    /// Figures that points are judged by; the usual ones where there are none.
    pub measure: Vec<String>,
    only: Vec<Map<String, Value>>,
    exclude: Vec<Map<String, Value>>,
    document: Document,
    places: IndexMap<String, Spot>,
    whole: Spot,
}

/// Where the pipeline of a sweep is.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a file, or a preset of this name.
    Named(String),
    /// In the text of the sweep.
    Inline(Box<Written>),
}

impl Definition {
    /// Reads a sweep. `file` is what errors call the text; relative paths in it start from `base`.
    ///
    /// # Errors
    ///
    /// What is wrong, with its place.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        let document = Document {
            file: file.to_owned(),
            text: text.into(),
        };
        let tree = document.parse()?;
        let reader = Reader {
            document: &document,
            base,
        };
        let entries = match tree.entries() {
            Some(entries) if matches!(tree.value, Yaml::Map(_)) => entries,
            _ => {
                let message = format!(
                    "a sweep is a map with `models` and `pipeline`, not {}",
                    tree.kind()
                );
                return Err(reader.wrong(tree.spot, message, ""));
            }
        };
        if let Some((key, _)) = entries.iter().find(|(key, _)| !KEYS.contains(&key.name.as_str())) {
            return Err(reader.unknown_key(key, &KEYS, "a sweep has"));
        }
        let get = |name: &str| tree.get(name).map(|(_, value)| value);
        if let Some(value) = get("version").filter(|value| !matches!(value.value, Yaml::Integer(VERSION))) {
            let hint = format!("this release reads version {VERSION}");
            return Err(reader.wrong(value.spot, "the version is not known", &hint));
        }
        let Some(pipeline) = get("pipeline") else {
            return Err(reader.wrong(
                tree.spot,
                "a sweep needs a `pipeline`",
                "a file, a preset, or steps in place",
            ));
        };
        let (axes, places) = reader.axes(get("vars"))?;
        let models = reader.models(tree.get("model"), tree.get("models"), tree.spot)?;
        let data = get("data").map_or_else(|| Ok(IndexMap::new()), |data| reader.data(data))?;
        let measure = get("measure").map_or_else(|| Ok(Vec::new()), |measure| reader.measure(measure))?;
        let patterns = |key: &str| match get(key) {
            Some(value) => reader.patterns(value, key, &axes),
            None => Ok(Vec::new()),
        };
        let (only, exclude) = (patterns("only")?, patterns("exclude")?);
        let search = reader.search(get("search"))?;
        Ok(Self {
            name: file.to_owned(),
            base: base.to_owned(),
            models,
            source: reader.pipeline(pipeline)?,
            search,
            data,
            measure,
            only,
            exclude,
            axes,
            places,
            whole: tree.get("vars").map_or(tree.spot, |(key, _)| key.spot),
            document,
        })
    }

    /// The settings that the search tries first.
    ///
    /// # Errors
    ///
    /// `sweep-shape` for none or too many.
    pub fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let stem = |path: &PathBuf| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let models: Vec<String> = self.models.iter().map(stem).collect();
        let taken = |values: &Values| passes(values, &self.only, &self.exclude);
        settings(&self.search, &self.axes, &models, &taken)
            .map_err(|error| self.document.error(SHAPE, self.whole, error.to_string(), None))
    }

    /// An error at the place of a variable.
    pub fn at_variable(&self, name: &str, code: &'static str, message: String, hint: String) -> ConfigError {
        let location = Location {
            document: self.document.clone(),
            spot: self.places.get(name).copied().unwrap_or(self.whole),
        };
        location.error(code, message, Some(hint))
    }
}

/// What varies, by the names of variables.
type Axes = Vec<(String, Axis)>;

/// What reads the parts of a sweep.
struct Reader<'a> {
    document: &'a Document,
    base: &'a Path,
}

impl Reader<'_> {
    fn wrong(&self, spot: Spot, message: impl Into<String>, hint: &str) -> ConfigError {
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        self.document.error(SHAPE, spot, message, hint)
    }

    fn unknown_key(&self, key: &Key, known: &[&str], has: &str) -> ConfigError {
        let hint = match nearest(&key.name, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("{has} {}", known.join(", ")),
        };
        let message = format!("unknown key `{}`", key.name);
        self.document.error("unknown-key", key.spot, message, Some(hint))
    }

    /// The entries of a map.
    fn entries<'t>(&self, tree: &'t Located, what: &str) -> Result<&'t [(Key, Located)], ConfigError> {
        let entries = tree.entries();
        entries.ok_or_else(|| self.wrong(tree.spot, format!("{what} is a map, not {}", tree.kind()), ""))
    }

    /// The items of a list, or one by itself.
    fn items<'t>(&self, tree: &'t Located) -> Vec<&'t Located> {
        match &tree.value {
            Yaml::List(items) => items.iter().collect(),
            Yaml::Null => Vec::new(),
            _ => vec![tree],
        }
    }

    fn texts(&self, tree: &Located, what: &str) -> Result<Vec<String>, ConfigError> {
        let text = |item: &Located| match &item.value {
            Yaml::Text(text) => Ok(text.clone()),
            _ => Err(self.wrong(item.spot, format!("{what} is a text, not {}", item.kind()), "")),
        };
        self.items(tree).into_iter().map(text).collect()
    }

    fn models(
        &self,
        one: Option<&(Key, Located)>,
        several: Option<&(Key, Located)>,
        whole: Spot,
    ) -> Result<Vec<PathBuf>, ConfigError> {
        if let (Some(_), Some((key, _))) = (one, several) {
            return Err(self.wrong(
                key.spot,
                "a sweep has `model` or `models`",
                "take one of them away",
            ));
        }
        let Some((key, tree)) = one.or(several) else {
            return Err(self.wrong(whole, "a sweep needs `models`", "models: [FILE, FILE]"));
        };
        let names = self.texts(tree, "a model")?;
        if names.is_empty() {
            return Err(self.wrong(key.spot, "there are no models", "models: [FILE, FILE]"));
        }
        let mut stems = Vec::new();
        for (name, item) in names.iter().zip(self.items(tree)) {
            let stem = Path::new(name).file_stem().unwrap_or_default().to_owned();
            if stems.contains(&stem) {
                let message = format!("two models are called {}", stem.to_string_lossy());
                return Err(self.wrong(item.spot, message, "the names of their files tell models apart"));
            }
            stems.push(stem);
        }
        Ok(names.iter().map(|name| self.base.join(name)).collect())
    }

    fn pipeline(&self, tree: &Located) -> Result<Source, ConfigError> {
        match &tree.value {
            Yaml::Text(name) => Ok(Source::Named(name.clone())),
            Yaml::Map(_) => {
                let written = Written::of_tree(self.document.clone(), tree.clone(), self.base)?;
                Ok(Source::Inline(Box::new(written)))
            }
            _ => {
                let message = format!(
                    "a pipeline is a file, a preset or a map with `steps`, not {}",
                    tree.kind()
                );
                Err(self.wrong(tree.spot, message, ""))
            }
        }
    }

    fn axes(&self, tree: Option<&Located>) -> Result<(Axes, IndexMap<String, Spot>), ConfigError> {
        let (mut axes, mut places) = (Vec::new(), IndexMap::new());
        let Some(tree) = tree else {
            return Ok((axes, places));
        };
        for (key, value) in self.entries(tree, "`vars`")? {
            if key.name == MODEL || !(is_variable_name(&key.name) || key.name.contains('.')) {
                let message = format!("`{}` is no variable", key.name);
                let hint =
                    "a name has letters, digits, _ and -, or is STEP.OPTION; `models` names the models";
                return Err(self
                    .document
                    .error("variable-syntax", key.spot, message, Some(hint.to_owned())));
            }
            axes.push((key.name.clone(), axis(self.document, &key.name, value)?));
            places.insert(key.name.clone(), key.spot);
        }
        Ok((axes, places))
    }

    fn data(&self, tree: &Located) -> Result<IndexMap<String, Described>, ConfigError> {
        let mut data = IndexMap::new();
        for (key, value) in self.entries(tree, "`data`")? {
            if !ROLES.contains(&key.name.as_str()) {
                let hint = match nearest(&key.name, ROLES) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("roles are {}", ROLES.join(", ")),
                };
                let message = format!("unknown role `{}`", key.name);
                return Err(self.document.error("unknown-role", key.spot, message, Some(hint)));
            }
            match &value.value {
                Yaml::Text(_) => {}
                Yaml::Map(_) => {
                    Spec::from_located(self.document, value)?;
                }
                _ => {
                    let message = format!("data are a path or a map, not {}", value.kind());
                    return Err(self.wrong(value.spot, message, ""));
                }
            }
            data.insert(key.name.clone(), Described::Written(value.to_json()));
        }
        Ok(data)
    }

    fn measure(&self, tree: &Located) -> Result<Vec<String>, ConfigError> {
        let names = self.texts(tree, "a measure")?;
        if names.is_empty() {
            return Err(self.wrong(
                tree.spot,
                "there is nothing to measure",
                "measure: [accuracy, bytes, latency]",
            ));
        }
        Ok(names)
    }

    fn patterns(
        &self,
        tree: &Located,
        what: &str,
        axes: &[(String, Axis)],
    ) -> Result<Vec<Map<String, Value>>, ConfigError> {
        let mut found = Vec::new();
        for item in self.items(tree) {
            for (key, _) in self.entries(item, &format!("each of `{what}`"))? {
                if key.name != MODEL && !axes.iter().any(|(name, _)| *name == key.name) {
                    let mut names: Vec<&str> = axes.iter().map(|(name, _)| name.as_str()).collect();
                    names.push(MODEL);
                    let hint = match nearest(&key.name, names.iter().copied()) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => format!("variables are {}", names.join(", ")),
                    };
                    let message = format!("the sweep has no variable `{}`", key.name);
                    return Err(self
                        .document
                        .error("unknown-variable", key.spot, message, Some(hint)));
                }
            }
            if let Value::Object(pattern) = item.to_json() {
                found.push(pattern);
            }
        }
        Ok(found)
    }

    fn search(&self, tree: Option<&Located>) -> Result<Search, ConfigError> {
        const HINT: &str = "grid, { random: { samples: 20 } } or { halving: { rungs: [64, 256], eta: 3 } }";
        let Some(tree) = tree else {
            return Ok(Search::Grid);
        };
        match &tree.value {
            Yaml::Text(name) if name == "grid" => return Ok(Search::Grid),
            Yaml::Map(entries) => {
                if let [(key, value)] = entries.as_slice() {
                    match key.name.as_str() {
                        "grid" if matches!(value.value, Yaml::Null) => return Ok(Search::Grid),
                        "random" => return self.random(value),
                        "halving" => return self.halving(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Err(self.wrong(tree.spot, "this is no search", HINT))
    }

    /// A whole number of at least `least`.
    fn whole(&self, value: &Located, what: &str, least: i64) -> Result<u64, ConfigError> {
        match value.value {
            Yaml::Integer(number) if number >= least => Ok(number.unsigned_abs()),
            _ => {
                let message = format!("{what} is a whole number of at least {least}");
                Err(self.wrong(value.spot, message, ""))
            }
        }
    }

    fn random(&self, tree: &Located) -> Result<Search, ConfigError> {
        let (mut samples, mut seed) = (None, 0);
        for (key, value) in self.entries(tree, "`random`")? {
            match key.name.as_str() {
                "samples" => samples = Some(self.whole(value, "`samples`", 1)? as usize),
                "seed" => seed = self.whole(value, "`seed`", 0)?,
                _ => return Err(self.unknown_key(key, &["samples", "seed"], "`random` has")),
            }
        }
        match samples {
            Some(samples) => Ok(Search::Random { samples, seed }),
            None => Err(self.wrong(
                tree.spot,
                "`random` needs `samples`",
                "{ random: { samples: 20, seed: 1 } }",
            )),
        }
    }

    fn halving(&self, tree: &Located) -> Result<Search, ConfigError> {
        let (mut rungs, mut eta, mut samples, mut seed) = (Vec::new(), 3.0, None, 0);
        for (key, value) in self.entries(tree, "`halving`")? {
            match key.name.as_str() {
                "rungs" => rungs = self.rungs(value)?,
                "eta" => match value.value {
                    Yaml::Integer(number) if number >= 2 => eta = number as f64,
                    Yaml::Float(number) if number > 1.0 && number.is_finite() => eta = number,
                    _ => {
                        return Err(self.wrong(
                            value.spot,
                            "`eta` is a number above 1",
                            "one of `eta` settings goes on",
                        ));
                    }
                },
                "samples" => samples = Some(self.whole(value, "`samples`", 1)? as usize),
                "seed" => seed = self.whole(value, "`seed`", 0)?,
                _ => {
                    return Err(self.unknown_key(key, &["rungs", "eta", "samples", "seed"], "`halving` has"));
                }
            }
        }
        if rungs.len() < 2 {
            return Err(self.wrong(
                tree.spot,
                "`halving` needs two `rungs` or more",
                "rungs: [64, 256, all]",
            ));
        }
        Ok(Search::Halving(Halving {
            rungs,
            eta,
            random: samples.map(|samples| (samples, seed)),
        }))
    }

    fn rungs(&self, tree: &Located) -> Result<Vec<Budget>, ConfigError> {
        let mut rungs: Vec<Budget> = Vec::new();
        for item in self.items(tree) {
            let rung = match &item.value {
                Yaml::Map(_) => self.budget(item)?,
                _ => Budget {
                    samples: self.samples(item)?,
                    values: Values::new(),
                },
            };
            let grows = rungs.last().is_none_or(|before| {
                let fewer = match (before.samples, rung.samples) {
                    (Some(before), Some(samples)) => samples < before,
                    (before, samples) => before.is_none() && samples.is_some(),
                };
                !fewer && rung != *before
            });
            if !grows {
                let message = "each rung has more samples than the one before, or other values";
                return Err(self.wrong(
                    item.spot,
                    message,
                    "rungs: [64, 256], or [{ epochs: 1 }, { epochs: 8 }]",
                ));
            }
            rungs.push(rung);
        }
        let names = |rung: &Budget| rung.values.keys().cloned().collect::<BTreeSet<_>>();
        if let Some((item, _)) = self
            .items(tree)
            .into_iter()
            .zip(&rungs)
            .find(|(_, rung)| rungs.first().is_some_and(|first| names(first) != names(rung)))
        {
            return Err(self.wrong(item.spot, "every rung sets the same variables", ""));
        }
        Ok(rungs)
    }

    /// A rung as a map: `samples`, and variables with their values.
    fn budget(&self, tree: &Located) -> Result<Budget, ConfigError> {
        let mut budget = Budget::default();
        for (key, value) in self.entries(tree, "a rung")? {
            match key.name.as_str() {
                "samples" => budget.samples = self.samples(value)?,
                name if is_variable_name(name) || name.contains('.') => {
                    budget.values.insert(name.to_owned(), value.to_json());
                }
                name => {
                    let message = format!("`{name}` is no variable");
                    return Err(self.document.error("variable-syntax", key.spot, message, None));
                }
            }
        }
        Ok(budget)
    }

    /// A number of samples, or all there are.
    fn samples(&self, tree: &Located) -> Result<Option<u64>, ConfigError> {
        match &tree.value {
            Yaml::Text(word) if word == "all" => Ok(None),
            _ => Ok(Some(self.whole(tree, "a rung", 1)?)),
        }
    }
}

#[cfg(test)]
mod tests;
