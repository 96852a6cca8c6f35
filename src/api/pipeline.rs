//! Pipelines as a program makes them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::error::Error;
use crate::passes::registry;
use crate::pipeline::{self as inner, Given, Step, Unchanged, Values, Written, presets};
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
    /// The text with its variables, where it has one.
    written: Option<Arc<Written>>,
    /// Values of variables that were given.
    given: Given,
    /// What was changed since the text was read.
    edits: Vec<Edit>,
}

/// A change of a pipeline that was read.
#[derive(Clone, Debug)]
enum Edit {
    Then(String, Map<String, Value>),
    Set(String, Value),
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
            written: None,
            given: Given::default(),
            edits: Vec::new(),
        }
    }

    /// What a text is with these values of its variables. Names with a dot are options of its steps.
    pub(crate) fn of_written(
        written: Arc<Written>,
        path: Option<&Path>,
        values: &Values,
    ) -> Result<Self, Error> {
        let (options, values): (Values, Values) = values
            .clone()
            .into_iter()
            .partition(|(name, _)| name.contains('.'));
        let given = Given {
            values,
            beside: Values::new(),
        };
        let mut pipeline = Self::of(written.alone(&given)?, Unchanged::RefusedAltogether);
        pipeline.path = path.map(Path::to_owned);
        (pipeline.written, pipeline.given) = (Some(written), given);
        options
            .into_iter()
            .try_fold(pipeline, |pipeline, (name, value)| pipeline.set(&name, value))
    }

    /// One setting of a sweep, with options of steps that it sets beside variables.
    pub(crate) fn of_setting(
        written: &Written,
        path: Option<&Path>,
        given: &Given,
        options: &Values,
    ) -> Result<Self, Error> {
        let pipeline = Self::of_member(written.resolve(given)?, path);
        let mut options = options.iter();
        options.try_fold(pipeline, |pipeline, (name, value)| {
            pipeline.set(name, value.clone())
        })
    }

    /// One member of a family, resolved.
    pub(crate) fn of_member(inner: inner::Pipeline, path: Option<&Path>) -> Self {
        let mut pipeline = Self::of(inner, Unchanged::RefusedAltogether);
        pipeline.path = path.map(Path::to_owned);
        pipeline
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
        Self::of_written(Arc::new(preset(name)?), None, &Values::new())
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
    /// assert_eq!(secateur::Pipeline::presets(), ["edge-int8", "prune-recover", "simplify"]);
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
        Self::parse_with(yaml, NONE)
    }

    /// The same with values of the variables that it declares under `vars`.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::parse`]; `unknown-variable`, with the nearest name as a hint; `variable-unset`, at the place where a variable without a
    /// value is used.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Pipeline;
    /// let yaml = "vars: { share: 0.7 }\nsteps:\n- prune-channels: { target-macs: \"${share}\" }\n";
    /// let pipeline = Pipeline::parse_with(yaml, [("share", 0.5)])?;
    /// assert!(pipeline.to_yaml().contains("target-macs: 0.5"));
    /// assert_eq!(Pipeline::parse_with(yaml, [("shore", 0.5)]).unwrap_err().hint(), Some("did you mean `share`?"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn parse_with<N: Into<String>, V: Into<Value>>(
        yaml: &str,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let written = Written::parse("pipeline", yaml, Path::new(""))?;
        Self::of_written(Arc::new(written), None, &values(variables))
    }

    /// A pipeline as a value of another file, whose relative paths start from `base`.
    pub(crate) fn inline<N: Into<String>, V: Into<Value>>(
        value: &Value,
        base: &Path,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let text = serde_yaml::to_string(value).unwrap_or_default();
        let written = Written::parse("pipeline", &text, base)?;
        Self::of_written(Arc::new(written), None, &values(variables))
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
        Self::open_with(path, NONE)
    }

    /// The same with values of the variables that it declares under `vars`.
    ///
    /// # Errors
    ///
    /// `read-failed`, or as [`Pipeline::parse_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(secateur::Pipeline::open_with("nowhere.yaml", [("share", 0.5)]).is_err());
    /// ```
    pub fn open_with<N: Into<String>, V: Into<Value>>(
        path: impl AsRef<Path>,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let written = Arc::new(inner::read_written(path)?);
        Self::of_written(written, Some(path), &values(variables))
    }

    /// What a word names: a file, or a preset.
    pub(crate) fn find(name: &Path) -> Result<Self, Error> {
        let (written, path) = find_written(name)?;
        Self::of_written(Arc::new(written), path, &Values::new())
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
        let options = named(pass, options.into_options()?);
        let step = Step::new(pass, options.clone())?;
        self.inner.steps.push(step);
        self.unchanged = Unchanged::RefusedAltogether;
        self.edits.push(Edit::Then(pass.to_owned(), options));
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
            written: self.written.clone(),
            given: self.given.clone(),
            edits: self.edits.clone(),
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

    /// What can be set: the variables that the pipeline declares, then for each step `STEP.OPTION`, and its value where the pipeline has one,
    /// else its default. `STEP` is the name of the pass, or its number from 1 where the pass is there more than once.
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
        let declared = self.declared().into_iter().map(|(name, default)| {
            let value = self.given.values.get(&name).cloned().or(default);
            (name, value.unwrap_or_default())
        });
        let mut variables: Vec<(String, Value)> = declared.collect();
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

    /// The variables of the text.
    fn declared(&self) -> IndexMap<String, Option<Value>> {
        let declared = self.written.as_ref().and_then(|written| written.variables().ok());
        declared.unwrap_or_default()
    }

    /// Sets a variable; see [`Pipeline::variables`]. Steps that were added or changed stay so when a variable of the text is set.
    ///
    /// # Errors
    ///
    /// `unknown-variable` where there is no such variable or step, `unknown-option`, `option-value`.
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
        let value = value.into();
        if !variable.contains('.')
            && let Some(written) = self.written.clone()
            && self.declared().contains_key(variable)
        {
            self.given.values.insert(variable.to_owned(), value);
            return self.written_anew(&written);
        }
        let at = variable
            .rsplit_once('.')
            .and_then(|(label, option)| Some((self.index(label)?, option)));
        let Some((index, option)) = at else {
            return Err(self.no_variable(variable));
        };
        if let Some(step) = self.inner.steps.get_mut(index) {
            let mut options = step.options.clone();
            options.insert(option.to_owned(), value.clone());
            *step = Step {
                spot: step.spot.clone(),
                ..Step::new(&step.name, options)?
            };
        }
        self.edits.push(Edit::Set(variable.to_owned(), value));
        Ok(self)
    }

    /// The text with the values that are given now, and what was changed since.
    fn written_anew(mut self, written: &Written) -> Result<Self, Error> {
        self.inner = written.alone(&self.given)?;
        let edits = std::mem::take(&mut self.edits);
        edits.into_iter().try_fold(self, |pipeline, edit| match edit {
            Edit::Then(pass, options) => pipeline.then(&pass, options),
            Edit::Set(variable, value) => pipeline.set(&variable, value),
        })
    }

    fn no_variable(&self, variable: &str) -> Error {
        let declared = self.declared();
        let steps: Vec<String> = (0..self.inner.steps.len())
            .map(|index| self.label(index))
            .collect();
        let hint = match nearest(variable, declared.keys().map(String::as_str)) {
            Some(name) => format!("did you mean `{name}`?"),
            None if declared.is_empty() || variable.contains('.') => {
                format!("write STEP.OPTION; steps are {}", steps.join(", "))
            }
            None => {
                let names: Vec<&str> = declared.keys().map(String::as_str).collect();
                format!("variables are {}, and STEP.OPTION", names.join(", "))
            }
        };
        let message = format!("the pipeline has no variable `{variable}`");
        Error::new("unknown-variable", message).with_hint(hint)
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

/// No variables.
const NONE: [(&str, Value); 0] = [];

/// Values by name.
pub(crate) fn values<N: Into<String>, V: Into<Value>>(variables: impl IntoIterator<Item = (N, V)>) -> Values {
    variables
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// The text of a preset.
fn preset(name: &str) -> Result<Written, Error> {
    if let Some(written) = Written::preset(name) {
        return Ok(written?);
    }
    let known = presets::names();
    let hint = match nearest(name, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("presets are {}; a file ends in .yaml", known.join(", ")),
    };
    Err(Error::new("unknown-preset", format!("there is no preset `{name}`")).with_hint(hint))
}

/// What a word names, as it is written: a file, which is answered as well, or a preset.
pub(crate) fn find_written(name: &Path) -> Result<(Written, Option<&Path>), Error> {
    let is_there = name.metadata().is_ok_and(|found| !found.is_dir());
    let is_file = is_there || name.components().count() > 1 || name.extension().is_some();
    if is_file {
        Ok((inner::read_written(name)?, Some(name)))
    } else {
        Ok((preset(&name.to_string_lossy())?, None))
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
