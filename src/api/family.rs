//! Families of pipelines: one file with a matrix of models and settings, each combination run by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::error::Error;
use super::model::Model;
use super::options::Options;
use super::pipeline::{Pipeline, find_written, values};
use super::run::Outcome;
use super::save::Destination;
use crate::pipeline::{Combination, Given, MODEL, Matrix, RunReport, Values, Written, fill, label};

/// A pipeline file with a `matrix`: a model and values of variables for each member.
///
/// # Examples
///
/// ```
/// use secateur::{Family, Options};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("family.yaml");
/// # std::fs::write(&path, "matrix: { to: [17, 18] }\nsteps:\n- convert-opset: { version: \"${to}\" }\n").unwrap();
/// let family = Family::open(&path, [("to", 18)])?;
/// assert_eq!(family.members().len(), 1);
/// let output = folder.path().join("${model}-${to}.onnx");
/// let results = family.run(Some("fixtures/digits_mlp.onnx".as_ref()), output.to_str(), &Options::new(), |_| ())?;
/// assert!(results[0].accepted() && folder.path().join("digits_mlp-18.onnx").exists());
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Debug)]
pub struct Family {
    members: Vec<Member>,
}

/// A member of a family: a pipeline with values of its variables.
#[derive(Debug)]
pub struct Member {
    /// The values by variable.
    pub vars: IndexMap<String, Value>,
    /// The model, where the family names models.
    pub model: Option<PathBuf>,
    /// The pipeline.
    pub pipeline: Pipeline,
}

/// What became of one member.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Member", description = "What became of one member of a family.")]
pub struct MemberOutcome {
    /// The file of the model.
    pub model: String,
    /// The values by variable.
    pub vars: IndexMap<String, Value>,
    /// The file that was written; `null` if none was.
    pub output: Option<String>,
    /// What the pipeline did; `null` if it could not be run.
    pub report: Option<RunReport>,
    /// Why it could not be run.
    #[serde(serialize_with = "Error::body_of")]
    #[schemars(with = "Option<Value>")]
    pub error: Option<Error>,
}

impl MemberOutcome {
    /// Whether the result is as good as the pipeline asks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::MemberOutcome;
    /// let good = |results: &[MemberOutcome]| results.iter().all(MemberOutcome::accepted);
    /// assert!(good(&[]));
    /// ```
    pub fn accepted(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.accepted)
    }
}

/// What a word names: one pipeline, or a family.
pub(crate) enum Found {
    Alone(Box<Pipeline>),
    Family(Family),
}

impl Found {
    /// The file or preset, with values of its variables.
    pub(crate) fn find(name: &Path, variables: &Values) -> Result<Self, Error> {
        let (written, path) = find_written(name)?;
        match written.matrix()? {
            Some(matrix) => Ok(Self::Family(Family::of(&written, path, matrix, variables)?)),
            None => Pipeline::of_written(Arc::new(written), path, variables)
                .map(|pipeline| Self::Alone(Box::new(pipeline))),
        }
    }
}

impl Family {
    /// Reads a family from a file. A variable that is given has this one value in every member.
    ///
    /// # Errors
    ///
    /// `pipeline-matrix` where the file has no matrix; else as [`Pipeline::open_with`], for any member.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(secateur::Family::open("nowhere.yaml", [("bits", 8)]).is_err());
    /// ```
    pub fn open<N: Into<String>, V: Into<Value>>(
        path: impl AsRef<Path>,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        match Found::find(path, &values(variables))? {
            Found::Family(family) => Ok(family),
            Found::Alone(_) => {
                Err(Error::new("pipeline-matrix", "the pipeline has no `matrix`").in_file(path))
            }
        }
    }

    fn of(
        written: &Written,
        path: Option<&Path>,
        mut matrix: Matrix,
        variables: &Values,
    ) -> Result<Self, Error> {
        let mut fixed = Values::new();
        for (name, value) in variables {
            match matrix.axes.get_mut(name) {
                Some(values) => *values = vec![value.clone()],
                None => {
                    fixed.insert(name.clone(), value.clone());
                }
            }
        }
        let combinations = matrix.combinations();
        if combinations.is_empty() {
            let message = "the values that are given leave every combination of the matrix out";
            return Err(Error::new("pipeline-matrix", message));
        }
        let member = |vars: Combination| {
            let model = vars
                .get(MODEL)
                .and_then(Value::as_str)
                .map(|name| written.base.join(name));
            let mut given = Given {
                values: fixed.clone(),
                beside: Values::new(),
            };
            given.values.extend(vars.clone());
            if let Some(model) = &model {
                given.values.insert(MODEL.to_owned(), stem(model).into());
            }
            let pipeline = Pipeline::of_member(written.resolve(&given)?, path);
            Ok(Member {
                vars,
                model,
                pipeline,
            })
        };
        Ok(Self {
            members: combinations
                .into_iter()
                .map(member)
                .collect::<Result<_, Error>>()?,
        })
    }

    /// The members; the last variable of the matrix changes fastest.
    ///
    /// # Examples
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("family.yaml");
    /// # std::fs::write(&path, "matrix: { to: [17, 18] }\nsteps:\n- convert-opset: { version: \"${to}\" }\n").unwrap();
    /// let family = secateur::Family::open(&path, [] as [(&str, i64); 0])?;
    /// assert_eq!(family.members()[1].vars["to"], 18);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Runs every member; one that fails does not stop the others. `output`, and the names of reports in the options, are templates such as
    /// `out/${model}-${bits}.onnx`, in which `${model}` is the name of the model's file without its ending. `told` hears of each result.
    ///
    /// # Errors
    ///
    /// Before anything runs: `usage` for no model or two, for a template that names no variable of the family or gives two members one
    /// file; and what must not be written. Then only `cancelled`.
    ///
    /// # Examples
    ///
    /// See [`Family`].
    pub fn run(
        &self,
        model: Option<&Path>,
        output: Option<&str>,
        options: &Options,
        mut told: impl FnMut(&MemberOutcome),
    ) -> Result<Vec<MemberOutcome>, Error> {
        if options.in_place {
            return Err(Error::usage(
                "a family is not written in place: name files with -o",
            ));
        }
        let jobs: Vec<(&Member, PathBuf, Options)> = self
            .members
            .iter()
            .map(|member| {
                let model = self.model(member, model)?;
                let own = member.options(&model, output, options)?;
                Ok((member, model, own))
            })
            .collect::<Result<_, Error>>()?;
        distinct(&jobs)?;
        for (member, model, own) in &jobs {
            member.pipeline.adjusted(own)?.job(own).check_files(Some(model))?;
        }
        let mut results = Vec::new();
        for (member, model, own) in jobs {
            let made = member.run(&model, &own);
            options.admit()?;
            let result = MemberOutcome::of(member, &model, made);
            told(&result);
            results.push(result);
        }
        Ok(results)
    }

    /// The model of a member.
    fn model(&self, member: &Member, given: Option<&Path>) -> Result<PathBuf, Error> {
        match (&member.model, given) {
            (Some(_), Some(_)) => Err(Error::usage("the matrix names the models, and so does the call")
                .with_hint("take one of them away")),
            (Some(model), None) => Ok(model.clone()),
            (None, Some(model)) => Ok(model.to_owned()),
            (None, None) => Err(Error::usage("a model is needed")),
        }
    }
}

impl Member {
    fn options(&self, model: &Path, output: Option<&str>, options: &Options) -> Result<Options, Error> {
        let mut labels = IndexMap::from([(MODEL.to_owned(), stem(model))]);
        for (name, value) in self.vars.iter().filter(|(name, _)| *name != MODEL) {
            labels.insert(name.clone(), label(value));
        }
        let filled = |template: &str| fill(template, &labels).map_err(Error::from);
        let mut own = options.clone();
        own.output = match output {
            Some(template) => Some(Destination::File(filled(template)?.into())),
            None => None,
        };
        own.reports = options
            .reports
            .iter()
            .map(|path| Ok(filled(&path.to_string_lossy())?.into()))
            .collect::<Result<_, Error>>()?;
        Ok(own)
    }

    fn run(&self, model: &Path, options: &Options) -> Result<Outcome, Error> {
        let model = Model::open(model)?;
        self.pipeline.run(&model, options)
    }
}

impl MemberOutcome {
    fn of(member: &Member, model: &Path, made: Result<Outcome, Error>) -> Self {
        let (report, error) = match made {
            Ok(outcome) => (Some(outcome.report), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            model: model.display().to_string(),
            vars: member.vars.clone(),
            output: report.as_ref().and_then(|report| report.output.clone()),
            report,
            error,
        }
    }
}

/// The name of a model's file, without its ending.
pub(crate) fn stem(model: &Path) -> String {
    let name = model.file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Refuses two members that write one file.
fn distinct(jobs: &[(&Member, PathBuf, Options)]) -> Result<(), Error> {
    let mut taken: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (at, (.., own)) in jobs.iter().enumerate() {
        let output = match &own.output {
            Some(Destination::File(path)) => Some(path),
            _ => None,
        };
        for path in output.into_iter().chain(&own.reports) {
            if let Some(first) = taken.insert(path.clone(), at) {
                let message = format!(
                    "{}: members {} and {} of the family would write it",
                    path.display(),
                    first + 1,
                    at + 1
                );
                let hint = "put what varies into the name: ${NAME}, and ${model} where there are several";
                return Err(Error::usage(&message).with_hint(hint));
            }
        }
    }
    Ok(())
}
