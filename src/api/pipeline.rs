//! Pipelines as a program makes them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::Error;
use crate::passes::registry;
use crate::pipeline::{self as inner, Step, Unchanged, presets};
use crate::schema::nearest;

/// Steps that rewrite a model, and gates that the result has to pass. It may be run any number of times, on any model.
///
/// # Examples
///
/// ```
/// use secateur::Pipeline;
/// let pipeline = Pipeline::step("simplify", ())?.then("quantize-weights", serde_json::json!({ "type": "int8" }))?;
/// assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["simplify", "quantize-weights"]);
/// # Ok::<(), secateur::Error>(())
/// ```
pub struct Pipeline {
    pub(crate) inner: inner::Pipeline,
    /// The file that it was read from.
    pub(crate) path: Option<PathBuf>,
    /// What becomes of a result in which a step changed nothing that was asked to.
    pub(crate) unchanged: Unchanged,
}

/// Options of a step: JSON, or `()` for none.
pub trait StepOptions {
    /// The options by name.
    ///
    /// # Errors
    ///
    /// `option-value` where the JSON is no map.
    fn into_options(self) -> Result<Map<String, Value>, Error>;
}

impl StepOptions for () {
    fn into_options(self) -> Result<Map<String, Value>, Error> {
        Ok(Map::new())
    }
}

impl StepOptions for Map<String, Value> {
    fn into_options(self) -> Result<Map<String, Value>, Error> {
        Ok(self)
    }
}

impl StepOptions for Value {
    fn into_options(self) -> Result<Map<String, Value>, Error> {
        match self {
            Value::Object(options) => Ok(options),
            Value::Null => Ok(Map::new()),
            other => Err(Error::new(
                "option-value",
                format!("the options of a step are a map, not {other}"),
            )),
        }
    }
}

impl Pipeline {
    pub(crate) fn of(inner: inner::Pipeline, unchanged: Unchanged) -> Self {
        Self {
            inner,
            path: None,
            unchanged,
        }
    }

    /// A pipeline that comes with secateur: see [`Pipeline::presets`].
    ///
    /// # Errors
    ///
    /// `unknown-preset`, with the nearest name as a hint.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Pipeline;
    /// assert!(Pipeline::preset("edge-int8")?.to_yaml().contains("accuracy"));
    /// assert_eq!(Pipeline::preset("edge-int9").unwrap_err().hint(), Some("did you mean `edge-int8`?"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn preset(name: &str) -> Result<Self, Error> {
        if let Some(pipeline) = inner::Pipeline::preset(name) {
            return Ok(Self::of(pipeline?, Unchanged::RefusedAltogether));
        }
        let known = presets::names();
        let hint = match nearest(name, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("presets are {}; a file ends in .yaml", known.join(", ")),
        };
        Err(Error::new("unknown-preset", format!("there is no preset `{name}`")).with_hint(hint))
    }

    /// How it is called: its file, preset or pass.
    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    /// The names of all steps, sorted. [`schema_of`](crate::schema_of()) has the options of each, [`explain`](crate::explain()) what it does.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(secateur::Pipeline::step_names().contains(&"quantize"));
    /// ```
    pub fn step_names() -> Vec<&'static str> {
        registry::entries().iter().map(|entry| entry.name).collect()
    }

    /// The names of the pipelines that come with secateur, sorted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Pipeline::presets(), ["edge-int8", "simplify"]);
    /// ```
    pub fn presets() -> Vec<&'static str> {
        presets::names()
    }

    /// Reads a pipeline in YAML; relative paths in it start from the working directory.
    ///
    /// # Errors
    ///
    /// What is wrong and where: [`Error::line`], [`Error::column`].
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Pipeline;
    /// let pipeline = Pipeline::parse("steps: [simplify, { bind: { batch: 1 } }]")?;
    /// let error = Pipeline::parse("steps: [simplfy]").unwrap_err();
    /// assert_eq!((error.code(), error.line(), error.column()), ("unknown-pass", Some(1), Some(9)));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let parsed = inner::Pipeline::parse("pipeline", yaml, Path::new(""))?;
        Ok(Self::of(parsed, Unchanged::RefusedAltogether))
    }

    /// A digest of what the steps do and of the files that they read.
    pub(crate) fn content_digest(&self) -> Result<String, (PathBuf, std::io::Error)> {
        self.inner.content_digest()
    }

    /// A pipeline as a value of another file, whose relative paths start from `base`.
    pub(crate) fn inline(value: &Value, base: &Path) -> Result<Self, Error> {
        let text = serde_yaml::to_string(value).unwrap_or_default();
        let parsed = inner::Pipeline::parse("pipeline", &text, base)?;
        Ok(Self::of(parsed, Unchanged::RefusedAltogether))
    }

    /// Reads a pipeline from a file; relative paths in it start from its folder.
    ///
    /// # Errors
    ///
    /// `read-failed`, or as [`Pipeline::parse`].
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Pipeline::open("nowhere.yaml").unwrap_err().code(), "read-failed");
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut pipeline = Self::of(inner::read(path)?, Unchanged::RefusedAltogether);
        pipeline.path = Some(path.to_owned());
        Ok(pipeline)
    }

    /// What a word names: a file, or a preset.
    pub(crate) fn find(name: &Path) -> Result<Self, Error> {
        let is_there = name.metadata().is_ok_and(|found| !found.is_dir());
        let is_file = is_there || name.components().count() > 1 || name.extension().is_some();
        if is_file {
            Self::open(name)
        } else {
            Self::preset(&name.to_string_lossy())
        }
    }

    /// One step: a pass with its options, as its verb on the command line. `bind` takes sizes by name, as in YAML.
    ///
    /// Unlike in other pipelines a step that was asked for and changes nothing makes its result refused; see
    /// [`Options::allow_unchanged`](crate::Options::allow_unchanged).
    ///
    /// # Errors
    ///
    /// `unknown-pass`, `unknown-option`, `option-value`.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Pipeline;
    /// use serde_json::json;
    /// Pipeline::step("quantize", json!({ "calibrate": "entropy" }))?;
    /// Pipeline::step("bind", json!({ "batch": 1 }))?;
    /// assert_eq!(Pipeline::step("quantise", ()).unwrap_err().code(), "unknown-pass");
    /// assert_eq!(Pipeline::step("quantize", json!({ "calibarte": 1 })).unwrap_err().code(), "unknown-option");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn step(pass: &str, options: impl StepOptions) -> Result<Self, Error> {
        Self::single(pass, named(pass, options.into_options()?))
    }

    /// The same with options that are just those of the pass.
    pub(crate) fn single(pass: &str, options: Map<String, Value>) -> Result<Self, Error> {
        let step = Step::new(pass, options)?;
        let inner = inner::Pipeline::of(pass, vec![step]);
        Ok(Self::of(inner, Unchanged::Refused))
    }

    /// Adds a step.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::step`].
    ///
    /// # Examples
    ///
    /// ```
    /// let pipeline = secateur::Pipeline::preset("simplify")?.then("convert-opset", serde_json::json!({ "version": 18 }))?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn then(mut self, pass: &str, options: impl StepOptions) -> Result<Self, Error> {
        let step = Step::new(pass, named(pass, options.into_options()?))?;
        self.inner.steps.push(step);
        self.unchanged = Unchanged::RefusedAltogether;
        Ok(self)
    }

    /// The same pipeline once more.
    ///
    /// # Errors
    ///
    /// What a step that was read before says of its options; it is not to be expected.
    ///
    /// # Examples
    ///
    /// ```
    /// let simplify = secateur::Pipeline::preset("simplify")?;
    /// let longer = simplify.try_clone()?.then("quantize-weights", ())?;
    /// assert_eq!((simplify.steps().count() + 1), longer.steps().count());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self {
            inner: self.inner.again()?,
            path: self.path.clone(),
            unchanged: self.unchanged,
        })
    }

    /// The names of the steps, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Pipeline::preset("edge-int8")?.steps().last(), Some("quantize"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.inner.steps.iter().map(|step| step.name.as_str())
    }

    /// What can be set in each step: `STEP.OPTION`, and its value where the pipeline has one, else its default. `STEP` is the name of
    /// the pass, or its number from 1 where the pass is there more than once.
    ///
    /// # Examples
    ///
    /// ```
    /// let pipeline = secateur::Pipeline::preset("edge-int8")?;
    /// let variables = pipeline.variables();
    /// let target = variables.iter().find(|(name, _)| name == "prune-channels.target-macs").unwrap();
    /// assert_eq!(target.1, 0.7);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn variables(&self) -> Vec<(String, Value)> {
        let entries = registry::entries();
        let mut variables = Vec::new();
        for (index, step) in self.inner.steps.iter().enumerate() {
            let Some(entry) = entries.iter().find(|entry| entry.name == step.name) else {
                continue;
            };
            let properties = entry.schema.get("properties").and_then(Value::as_object);
            for (option, schema) in properties.into_iter().flatten() {
                let value = step.options.get(option).or_else(|| schema.get("default"));
                let value = value.cloned().unwrap_or_default();
                variables.push((format!("{}.{option}", self.label(index)), value));
            }
        }
        variables
    }

    /// Sets a variable; see [`Pipeline::variables`].
    ///
    /// # Errors
    ///
    /// `unknown-variable` where there is no such step, `unknown-option`, `option-value`.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Pipeline;
    /// let tighter = Pipeline::preset("edge-int8")?.set("prune-channels.target-macs", 0.5)?;
    /// assert!(tighter.to_yaml().contains("target-macs: 0.5"));
    /// let error = Pipeline::preset("edge-int8")?.set("prune.target-macs", 0.5).unwrap_err();
    /// assert_eq!(error.code(), "unknown-variable");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn set(mut self, variable: &str, value: impl Into<Value>) -> Result<Self, Error> {
        let at = variable
            .rsplit_once('.')
            .and_then(|(label, option)| Some((self.index(label)?, option)));
        let Some((index, option)) = at else {
            let names: Vec<String> = (0..self.inner.steps.len())
                .map(|index| self.label(index))
                .collect();
            let message = format!("the pipeline has no variable `{variable}`");
            return Err(Error::new("unknown-variable", message)
                .with_hint(format!("write STEP.OPTION; steps are {}", names.join(", "))));
        };
        if let Some(step) = self.inner.steps.get_mut(index) {
            let mut options = step.options.clone();
            options.insert(option.to_owned(), value.into());
            *step = Step {
                spot: step.spot,
                ..Step::new(&step.name, options)?
            };
        }
        Ok(self)
    }

    /// How variables call a step.
    fn label(&self, index: usize) -> String {
        let name = self.inner.steps.get(index).map_or("", |step| &step.name);
        if self.steps().filter(|other| *other == name).count() > 1 {
            (index + 1).to_string()
        } else {
            name.to_owned()
        }
    }

    fn index(&self, label: &str) -> Option<usize> {
        (0..self.inner.steps.len())
            .find(|index| self.label(*index) == label || label.parse() == Ok(index + 1))
    }

    /// The pipeline as YAML, which [`Pipeline::parse`] reads back unless a program gave it arrays.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Pipeline;
    /// let pipeline = Pipeline::step("bind", serde_json::json!({ "sizes": { "batch": 1 } }))?;
    /// assert_eq!(Pipeline::parse(&pipeline.to_yaml())?.to_yaml(), pipeline.to_yaml());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_yaml(&self) -> String {
        self.inner.to_yaml()
    }
}

/// The options of a step as pipelines in YAML have them.
fn named(pass: &str, options: Map<String, Value>) -> Map<String, Value> {
    if pass == "bind" {
        inner::bind_options(options)
    } else {
        options
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.inner.name)
            .field("steps", &self.steps().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
