//! A sweep in parts: its points, one point, and what all that are there say.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use super::data::Data;
use super::digests::Digests;
use super::error::Error;
use super::family::stem;
use super::model::Model;
use super::options::Options;
use super::pipeline::{Pipeline, find_written};
use super::reports::Form;
use super::sweep::{Sweep, SweepPoint};
use crate::pipeline::{
    Described, Given, MODEL, Reached, Usage, Values, Written, describe_data, digest, label, read_written,
};
use crate::schema::{flow, nearest};
use crate::sweep::{Budget, Record, Search, Source, Status, read_record, survivors};

/// The points of a sweep, told apart by what decides about their results.
///
/// [`SweepPlan::points`] lists them, [`SweepPlan::run_point`] computes one, anywhere and in any order, and [`SweepPlan::gather`] makes the
/// answer. [`Sweep::run`] is a loop over these.
///
/// # Examples
///
/// ```
/// use secateur::{Data, Options, Sweep};
/// # let folder = tempfile::tempdir().unwrap();
/// let sweep = Sweep::parse("{ model: fixtures/digits_mlp.onnx, pipeline: simplify, measure: [accuracy, bytes] }")?;
/// let test = Data::npz("fixtures/data/digits_test.npz")?.labels("y").samples(50);
/// let plan = sweep.plan(&Options::new().data("evaluation", test))?;
/// for point in plan.points(folder.path())? {
///     plan.run_point(&point.id, folder.path())?;
/// }
/// assert_eq!(plan.gather(folder.path(), false)?.front.len(), 1);
/// # Ok::<(), secateur::Error>(())
/// ```
pub struct SweepPlan {
    pub(super) name: String,
    pub(super) options: Options,
    pub(super) models: Vec<(PathBuf, Model, String)>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) rungs: Vec<Budget>,
    eta: f64,
    pub(super) measure: Vec<String>,
    pub(super) retry: bool,
    /// The steps that points have in common with the one before.
    pub(super) reached: Arc<Reached>,
}

/// A setting on a model, ready to run.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) model: usize,
    pub(super) values: Values,
    pub(super) also: Vec<Values>,
    /// By rung, or one for all rungs where these set no variables.
    stages: Vec<Stage>,
    pub(super) data: IndexMap<String, String>,
}

/// The pipeline of a candidate in a rung.
struct Stage {
    pipeline: Pipeline,
    /// What decides about the result beside the samples of the rung.
    key: blake3::Hash,
}

impl Candidate {
    fn stage(&self, rung: usize) -> Option<&Stage> {
        self.stages.get(rung).or(self.stages.last())
    }

    /// The pipeline of the last rung.
    fn last(&self) -> Option<&Pipeline> {
        Some(&self.stages.last()?.pipeline)
    }
}

/// A rung: its candidates, and the record of each that is there.
pub(super) type Rung = Vec<(usize, Option<Record>)>;

/// The files of a point in the folder of its sweep.
pub(super) fn record_file(folder: &Path, id: &str) -> PathBuf {
    folder.join("points").join(format!("{id}.json"))
}

pub(super) fn model_file(folder: &Path, id: &str) -> PathBuf {
    folder.join("models").join(format!("{id}.onnx"))
}

pub(super) fn failed(path: &Path, error: &io::Error) -> Error {
    Error::new("write-failed", format!("{}: {error}", path.display())).in_file(path)
}

impl SweepPlan {
    pub(crate) fn of(sweep: &Sweep, options: &Options) -> Result<Self, Error> {
        let definition = &sweep.definition;
        let (written, path) = match &definition.source {
            Source::Inline(written) => ((**written).clone(), None),
            Source::Named(name) => named(name, &definition.base)?,
        };
        if written.matrix()?.is_some() {
            let message = "a sweep varies by its own `vars`, and its pipeline is a family";
            return Err(Error::new("pipeline-matrix", message).in_source(path.as_deref()));
        }
        let mut options = options.clone();
        let own = definition.data.iter().map(|(role, described)| {
            let data = data_of(described, &definition.base)?;
            Ok((Some(role.clone()), data))
        });
        let own: Vec<_> = own.collect::<Result<_, Error>>()?;
        options.data.splice(0..0, own);
        let mut models = Vec::new();
        for path in &definition.models {
            let model = Model::open(path)?;
            let digest = digest(&model.settled()?);
            models.push((path.clone(), model, digest));
        }
        let (rungs, eta) = match &definition.search {
            Search::Halving(halving) => (halving.rungs.clone(), halving.eta),
            _ => (vec![Budget::default()], 1.0),
        };
        let mut plan = Self {
            name: definition.name.clone(),
            models,
            candidates: Vec::new(),
            rungs,
            eta,
            measure: definition.measure.clone(),
            retry: false,
            reached: Arc::default(),
            options,
        };
        plan.check_variables(sweep, &written)?;
        plan.resolve(sweep, &Arc::new(written), path.as_deref())?;
        plan.check(sweep)?;
        Ok(plan)
    }

    /// The same, in which points that failed are computed again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use secateur::{Options, Sweep};
    /// let plan = Sweep::open("sweep.yaml")?.plan(&Options::new())?.retrying(true);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    #[must_use]
    pub fn retrying(mut self, yes: bool) -> Self {
        self.retry = yes;
        self
    }

    /// Refuses variables of the sweep that the pipeline has no use for.
    fn check_variables(&self, sweep: &Sweep, written: &Written) -> Result<(), Error> {
        let (declared, uses) = (written.variables()?, written.uses()?);
        let axes = sweep.definition.axes.iter().map(|(name, _)| name);
        let of_rungs = self.rungs.iter().flat_map(|rung| rung.values.keys());
        for name in axes.chain(of_rungs) {
            if name.contains('.') || declared.contains_key(name) || uses.contains_key(name) {
                continue;
            }
            let known = || declared.keys().chain(uses.keys()).map(String::as_str);
            let hint = match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("write ${{{name}}} in the pipeline where its value goes, or STEP.OPTION here")
                }
            };
            let message = format!("the pipeline has no variable `{name}`");
            return Err(sweep
                .definition
                .at_variable(name, "unknown-variable", message, hint)
                .into());
        }
        Ok(())
    }

    /// Makes the pipeline of every setting; settings that give one pipeline are one candidate.
    fn resolve(&mut self, sweep: &Sweep, written: &Arc<Written>, path: Option<&Path>) -> Result<(), Error> {
        let declared = written.variables()?;
        let here = std::env::current_dir().unwrap_or_default();
        let base = here.join(&written.base);
        let mut digests = Digests::default();
        let mut known: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let budgets: Vec<Values> = match self.rungs.iter().any(|rung| !rung.values.is_empty()) {
            true => self.rungs.iter().map(|rung| rung.values.clone()).collect(),
            false => vec![Values::new()],
        };
        for setting in sweep.definition.settings()? {
            let Some((file, _, model)) = self.models.get(setting.model) else {
                continue;
            };
            let (mut stages, mut data) = (Vec::new(), IndexMap::new());
            for budget in &budgets {
                let mut given = Given::default();
                given.beside.insert(MODEL.to_owned(), stem(file).into());
                let mut of_steps = Values::new();
                for (name, value) in setting.values.iter().chain(budget) {
                    let place = match () {
                        () if name.contains('.') => &mut of_steps,
                        () if declared.contains_key(name) => &mut given.values,
                        () => &mut given.beside,
                    };
                    place.insert(name.clone(), value.clone());
                }
                let made = Pipeline::of_setting(written, path, &given, &of_steps);
                let made = made.and_then(|pipeline| pipeline.adjusted(&self.options));
                let mut pipeline = made.map_err(|error| {
                    let message = format!("{} (with {})", error.message(), in_words(&setting.values));
                    error.saying(message)
                })?;
                let (key, digests) = digests.key(&pipeline, model, &self.options)?;
                pipeline.inner = pipeline.inner.rooted(&base)?;
                stages.push(Stage { pipeline, key });
                data = digests;
            }
            let keys: Vec<u8> = stages.iter().flat_map(|stage| *stage.key.as_bytes()).collect();
            if let Some(candidate) = known.get(&keys).and_then(|at| self.candidates.get_mut(*at)) {
                candidate.also.push(setting.values);
                continue;
            }
            known.insert(keys, self.candidates.len());
            self.candidates.push(Candidate {
                name: called(file, &setting.values),
                model: setting.model,
                values: setting.values,
                also: Vec::new(),
                stages,
                data,
            });
        }
        self.tell_names_apart();
        Ok(())
    }

    fn tell_names_apart(&mut self) {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for candidate in &self.candidates {
            *count.entry(candidate.name.clone()).or_default() += 1;
        }
        for candidate in &mut self.candidates {
            if count.get(&candidate.name).is_some_and(|count| *count > 1) {
                let key = candidate.stages.last().map(|stage| stage.key.to_hex());
                let word = key.as_ref().and_then(|key| key.get(..8)).unwrap_or_default();
                candidate.name = format!("{}-{word}", candidate.name);
            }
        }
    }

    /// Refuses what would fail at every point, before anything runs.
    fn check(&self, sweep: &Sweep) -> Result<(), Error> {
        let mut files = self.options.files();
        if let Some(path) = &sweep.path {
            files.reads("the sweep", path);
        }
        for (path, ..) in &self.models {
            files.reads("a model", path);
        }
        for report in &self.options.reports {
            files.writes("--report", report);
        }
        let mut seen = vec![false; self.models.len()];
        for candidate in &self.candidates {
            let Some(pipeline) = candidate.last().map(|pipeline| &pipeline.inner) else {
                continue;
            };
            if let Some(file) = pipeline
                .files()
                .into_iter()
                .find(|file| matches!(file.usage, Usage::Written | Usage::Continued))
            {
                let message = format!("{} is written, and a step of a sweep writes no file", file.name);
                return Err(Error::usage(&message).with_hint("take the option away"));
            }
            if !pipeline.data.contains_key("evaluation") {
                let message = "a sweep measures on evaluation data, and there are none";
                return Err(Error::new("data-missing", message)
                    .with_hint("describe them under `data: evaluation:`, or give --data evaluation=DATA"));
            }
            let (Some(seen), Some((_, model, _))) =
                (seen.get_mut(candidate.model), self.models.get(candidate.model))
            else {
                continue;
            };
            if !std::mem::replace(seen, true) {
                pipeline.check_data(&model.model.graph)?;
                files.pipeline(pipeline, false);
            }
        }
        files.check()?;
        for report in &self.options.reports {
            if Form::of(report)? == Form::Junit {
                return Err(Error::usage("a report on a sweep ends in .html, .json or .md"));
            }
        }
        Ok(())
    }

    /// Makes the folder, or refuses one that holds something else, or what the sweep reads.
    pub(crate) fn check_folder(&self, folder: &Path) -> Result<(), Error> {
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let results = whole(folder);
        let mut read: Vec<PathBuf> = self.models.iter().map(|(path, ..)| path.clone()).collect();
        for candidate in &self.candidates {
            let files = candidate.last().map(|pipeline| pipeline.inner.files());
            read.extend(files.into_iter().flatten().map(|file| file.path));
        }
        read.dedup();
        if let Some(path) = read.iter().find(|path| whole(path).starts_with(&results)) {
            let message = format!(
                "{} is read, and lies in the folder of the results",
                path.display()
            );
            return Err(Error::new("output-is-input", message)
                .in_file(path)
                .with_hint("choose another folder with -o"));
        }
        match fs::read_dir(folder) {
            Ok(mut entries) => {
                if entries.next().is_some() && !folder.join("points").is_dir() {
                    let message = format!("{}: the folder has something else than a sweep", folder.display());
                    return Err(Error::new("output-exists", message)
                        .in_file(folder)
                        .with_hint("choose a folder that is empty or not there yet"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(folder, &error)),
        }
        fs::create_dir_all(folder.join("points")).map_err(|error| failed(folder, &error))
    }

    /// Evaluation samples of a rung; `None` for all there are.
    pub(super) fn samples(&self, rung: usize) -> Option<u64> {
        self.rungs.get(rung).and_then(|rung| rung.samples)
    }

    /// The values of a candidate in a rung, with those that the rung sets.
    pub(super) fn values(&self, candidate: &Candidate, rung: usize) -> Values {
        let mut values = candidate.values.clone();
        values.extend(
            self.rungs
                .get(rung)
                .into_iter()
                .flat_map(|rung| rung.values.clone()),
        );
        values
    }

    /// The digest of a candidate on the samples of a rung.
    pub(super) fn id(&self, candidate: &Candidate, rung: usize) -> String {
        let samples = self.samples(rung);
        let mut hasher = blake3::Hasher::new();
        if let Some(stage) = candidate.stage(rung) {
            hasher.update(stage.key.as_bytes());
        }
        hasher.update(format!("samples {samples:?}").as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    /// The rungs as far as they are known: each begins when every point of the one before is there.
    pub(super) fn walk(&self, folder: &Path) -> Result<Vec<Rung>, Error> {
        let mut alive: Vec<usize> = (0..self.candidates.len()).collect();
        let mut rungs: Vec<Rung> = Vec::new();
        for rung in 0..self.rungs.len() {
            let mut own = Rung::new();
            for at in &alive {
                if let Some(candidate) = self.candidates.get(*at) {
                    let id = self.id(candidate, rung);
                    let record = read_record(&record_file(folder, &id), &id)?;
                    let counts = |record: &Record| !(self.retry && record.status == Status::Failed);
                    own.push((*at, record.filter(counts)));
                }
            }
            let complete = own.iter().all(|(_, record)| record.is_some());
            let figures: Vec<Option<&IndexMap<String, f64>>> = own
                .iter()
                .map(|(_, record)| {
                    Some(
                        &record
                            .as_ref()
                            .filter(|record| record.status == Status::Done)?
                            .figures,
                    )
                })
                .collect();
            let records = own.iter().filter_map(|(_, record)| record.as_ref());
            let measures = self.measures(records)?;
            let next = survivors(&figures, &measures, self.eta);
            alive = next
                .into_iter()
                .filter_map(|at| own.get(at).map(|(at, _)| *at))
                .collect();
            rungs.push(own);
            if !complete || alive.is_empty() {
                break;
            }
        }
        Ok(rungs)
    }

    /// The points that are known, those of the first rung first, and whether the folder has the result of each. In a search without rungs
    /// these are all there are; else a rung begins when the one before is done, so this is asked again until nothing is missing.
    ///
    /// # Errors
    ///
    /// `sweep-record` for a file in the folder that is no record; `unknown-name` for a figure that the points do not have.
    ///
    /// # Examples
    ///
    /// See [`SweepPlan`].
    pub fn points(&self, folder: impl AsRef<Path>) -> Result<Vec<SweepPoint>, Error> {
        let mut points = Vec::new();
        for (rung, own) in self.walk(folder.as_ref())?.into_iter().enumerate() {
            for (at, record) in own {
                let Some(candidate) = self.candidates.get(at) else {
                    continue;
                };
                points.push(SweepPoint {
                    id: self.id(candidate, rung),
                    name: candidate.name.clone(),
                    model: self.file(candidate),
                    vars: self.values(candidate, rung),
                    rung,
                    samples: self.samples(rung),
                    done: record.is_some(),
                });
            }
        }
        Ok(points)
    }

    pub(super) fn file(&self, candidate: &Candidate) -> PathBuf {
        let model = self.models.get(candidate.model);
        model.map(|(path, ..)| path.clone()).unwrap_or_default()
    }

    /// The pipeline of a point, as YAML that needs nothing but the model: what replays it.
    ///
    /// # Errors
    ///
    /// `unknown-name` where the sweep has no such point.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Data, Options, Sweep};
    /// # let sweep = Sweep::parse("{ model: fixtures/digits_mlp.onnx, pipeline: simplify }")?;
    /// # let test = Data::npz("fixtures/data/digits_test.npz")?.labels("y");
    /// let plan = sweep.plan(&Options::new().data("evaluation", test))?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// let first = &plan.points(folder.path())?[0];
    /// assert!(plan.pipeline(&first.id)?.contains("simplify"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn pipeline(&self, id: &str) -> Result<String, Error> {
        let (candidate, rung) = self.find(id)?;
        Ok(self.pipeline_of(candidate, rung)?.to_yaml())
    }

    pub(super) fn find(&self, id: &str) -> Result<(&Candidate, usize), Error> {
        let rungs = 0..self.rungs.len();
        let mut all = self
            .candidates
            .iter()
            .flat_map(|one| rungs.clone().map(move |rung| (one, rung)));
        all.find(|(candidate, rung)| self.id(candidate, *rung) == id)
            .ok_or_else(|| Error::new("unknown-name", format!("the sweep has no point {id}")))
    }

    /// The pipeline of a candidate on the samples of a rung.
    pub(super) fn pipeline_of(&self, candidate: &Candidate, rung: usize) -> Result<Pipeline, Error> {
        let Some(stage) = candidate.stage(rung) else {
            return Err(Error::new("unknown-name", "the sweep has no such rung"));
        };
        let mut pipeline = stage.pipeline.try_clone()?;
        if let Some(samples) = self.samples(rung) {
            let inner = &mut pipeline.inner;
            if let Some(described) = inner.data.get_mut("evaluation") {
                let (mut spec, base) = describe_data(described, &inner.base)?;
                spec.samples = Some(spec.samples.map_or(samples, |own| own.min(samples)));
                *described = Described::of(spec.rooted(&base));
            }
        }
        Ok(pipeline)
    }
}

/// The pipeline that a sweep names, as seen from its folder, and its file.
fn named(name: &str, base: &Path) -> Result<(Written, Option<PathBuf>), Error> {
    let word = Path::new(name);
    let is_word = word.components().count() == 1 && word.extension().is_none();
    let path = base.join(word);
    if is_word && !path.is_file() {
        return Ok((find_written(word)?.0, None));
    }
    Ok((read_written(&path)?, Some(path)))
}

/// Data as a sweep describes them.
fn data_of(described: &Described, base: &Path) -> Result<Data, Error> {
    let (spec, base) = describe_data(described, base)?;
    Ok(Data::described(spec, base))
}

/// Values in words.
fn in_words(values: &Values) -> String {
    let words: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}: {}", flow(value)))
        .collect();
    words.join(", ")
}

/// How a setting on a model is called: a name that files can have.
fn called(model: &Path, values: &Values) -> String {
    const LONGEST: usize = 120;
    let words = values
        .iter()
        .map(|(name, value)| format!("{name}={}", label(value)));
    let name: Vec<String> = std::iter::once(label(&stem(model).into())).chain(words).collect();
    let mut name = name.join(",");
    if let Some((at, _)) = name.char_indices().nth(LONGEST) {
        name.truncate(at);
    }
    name
}
