//! Measuring a model on data.

use std::fs;
use std::path::Path;

use base64::Engine as _;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::data::Data;
use super::error::Error;
use super::files::MODEL;
use super::model::Model;
use super::options::Options;
use super::reports::{self, Form};
use super::save::write_file;
use crate::analysis;
use crate::data::Dataset;
use crate::engine::Engine;
use crate::evaluate::{Checkpoint, Figures, State, StateSubject, Task, TaskState, names};
use crate::pipeline::{GateReport, Judged, digest, weigh_input};
use crate::report::page::{self, Picture};
use crate::report::table::Style;
use crate::report::{pictures, whole};

/// How well a model does, how fast, and whether that is enough.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Evaluation {
    /// Accuracy, precision, recall, F1, or errors of float targets; time, size; against a reference, where there is one.
    pub figures: Figures,
    /// What ran the model.
    pub engine: &'static str,
    /// What became of each [`Options::gate`].
    pub gates: Vec<GateReport>,
    /// The counts behind the figures.
    pub state: State,
    /// Pictures of the worst images, the worst first, where they were asked for.
    pub pictures: Vec<String>,
}

/// An evaluation as it is printed and reported.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Document", description = "A model measured on data.")]
pub(crate) struct EvaluationDocument<'a> {
    /// The figures.
    #[serde(flatten)]
    pub(crate) figures: &'a Figures,
    /// What ran the model: `tract` or `ort`.
    pub(crate) engine: &'a str,
    /// Each gate.
    pub(crate) gates: &'a [GateReport],
    /// Files of the pictures that were drawn.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) pictures: &'a [String],
}

impl Evaluation {
    /// Whether every gate holds.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Data, Model, Options, evaluate};
    /// let model = Model::open("fixtures/digits_cnn.onnx")?;
    /// let test = Data::npz("fixtures/data/digits_test.npz")?.samples(100);
    /// let options = Options::new().data("evaluation", test).gate("accuracy.at-least=0.9")?;
    /// assert!(evaluate(&model, &options)?.accepted());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn accepted(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }

    /// The figures and gates for people.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Data, Model, Options, Style, evaluate};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let test = Data::npz("fixtures/data/digits_test.npz")?.labels("y").samples(100);
    /// let found = evaluate(&model, &Options::new().data("evaluation", test))?;
    /// assert!(found.to_text(Style::Html).contains("<td"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_text(&self, style: Style) -> String {
        whole::measurement(style, &self.figures, &self.gates)
    }

    pub(crate) fn document(&self) -> EvaluationDocument<'_> {
        EvaluationDocument {
            figures: &self.figures,
            engine: self.engine,
            gates: &self.gates,
            pictures: &self.pictures,
        }
    }
}

impl Serialize for Evaluation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

/// Refuses files that must not be read or written. A file of counts is there to be gone on with.
pub(crate) fn check_evaluation(
    options: &Options,
    model: Option<&Path>,
    against: Option<&Path>,
) -> Result<(), Error> {
    let mut files = options.files();
    if let Some(model) = model {
        files.reads(MODEL, model);
    }
    if let Some(reference) = against {
        files.reads("the model of --against", reference);
    }
    for (_, data) in &options.data {
        data.reads(&mut files);
    }
    if let Some(state) = &options.evaluation.state {
        files.continues("--state", state);
    }
    for report in &options.reports {
        files.writes("--report", report);
    }
    files.check()?;
    options.check_reports()
}

/// Measures a model on the `evaluation` data, with the model of [`Options::against`] on the same samples where there is one. That a
/// gate is broken is an answer and no error. The array `y` holds the labels where nobody says which one does.
///
/// # Errors
///
/// `data-missing`, data that do not fit or have no labels, an engine that fails, a state file of another run, a token that was set.
///
/// # Examples
///
/// ```
/// use secateur::{Data, Model, Options, evaluate};
/// let float = Model::open("fixtures/digits_cnn.onnx")?;
/// let codes = Model::open("fixtures/digits_cnn_qdq_pc_s8s8.onnx")?;
/// let test = Data::npz("fixtures/data/digits_test.npz")?.samples(100);
/// let found = evaluate(&codes, &Options::new().data("evaluation", test).against(float))?;
/// assert!(found.figures.against.unwrap().drop.unwrap() < 0.05);
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn evaluate(model: &Model, options: &Options) -> Result<Evaluation, Error> {
    let against = options.evaluation.against.as_ref();
    check_evaluation(
        options,
        model.origin.path.as_deref(),
        against.and_then(|reference| reference.origin.path.as_deref()),
    )?;
    let data = options.data_of(&["evaluation"])?.ok_or_else(|| {
        Error::new("data-missing", "there are no evaluation data")
            .with_hint("give them as the role `evaluation`: --data DATA")
    })?;
    let engine = options.make_engine()?;
    let found = options.on_threads(|| measure(model, data, &*engine, options))?;
    options.admit()?;
    let found = found?;
    options.write_reports(|form| found.report(form, model, options))?;
    Ok(found)
}

impl Evaluation {
    fn report(&self, form: Form, model: &Model, options: &Options) -> Result<String, Error> {
        Ok(match form {
            Form::Html => {
                let reference = options.evaluation.against.as_ref();
                let pictures: Vec<Picture> = self
                    .pictures
                    .iter()
                    .map(|path| picture(path))
                    .collect::<Result<_, _>>()?;
                let mut models = vec![("the model", model)];
                models.extend(reference.map(|reference| ("the reference", reference)));
                page::measurement(
                    &format!("secateur: evaluation of {}", model.file_name()),
                    (reference.map(|reference| &reference.model), &model.model),
                    &self.figures,
                    (&self.gates, &pictures),
                    &options.source(&models, self.engine),
                )
            }
            _ => reports::of_measurement(form, self, model)?,
        })
    }
}

/// A picture that was drawn, as a page holds it.
fn picture(path: &str) -> Result<Picture, Error> {
    let bytes = fs::read(path).map_err(|error| Error::new("report", format!("{path}: {error}")))?;
    let name = Path::new(path).file_name().unwrap_or_default();
    Ok(Picture {
        name: name.to_string_lossy().into_owned(),
        data: base64::engine::general_purpose::STANDARD.encode(bytes),
    })
}

fn measure(model: &Model, data: Data, engine: &dyn Engine, options: &Options) -> Result<Evaluation, Error> {
    let how = &options.evaluation;
    let inferred = |model: &Model| {
        let mut inferred = model.model.clone();
        analysis::infer(&mut inferred);
        inferred
    };
    let (judged, origin) = (inferred(model), model.settled()?);
    let reference = match &how.against {
        Some(reference) => Some((inferred(reference), reference.settled()?)),
        None => None,
    };
    let (spec, base) = data.usually_labelled().spec()?;
    let dataset = Dataset::open(&spec, &base, &judged.graph)?.shared(options.ledger.clone());
    let subject = StateSubject {
        model: digest(&origin),
        reference: reference.as_ref().map(|(_, origin)| digest(origin)),
        data: dataset.digest().to_owned(),
        samples: dataset.samples(),
        engine: engine.name().to_owned(),
        output: how
            .output
            .clone()
            .or_else(|| names(&judged).first().cloned())
            .unwrap_or_default(),
        batch: dataset.batch_size(),
    };
    let mut state = start(how.state.as_deref(), subject)?;
    let total = dataset.sample_range().end - dataset.sample_range().start;
    let task = Task {
        engine,
        data: &dataset,
        output: how.output.clone(),
        threshold: how.threshold,
        jobs: options.threads(),
        latency_runs: how.latency_runs,
        progress: &|done| options.tell("evaluate", done, Some(total)),
    };
    let mut write = |state: &State| match &how.state {
        Some(file) => state.write(file),
        None => Ok(()),
    };
    let checkpoint: Option<Checkpoint<'_>> = how.state.is_some().then_some(&mut write);
    let other = reference.as_ref().map(|(model, _)| model);
    let mut figures = task.figures(&judged, other, &mut state, checkpoint)?;
    let after = weigh_input(&judged, &origin, true);
    let before = reference
        .as_ref()
        .map(|(model, origin)| weigh_input(model, origin, true));
    figures.bytes = Some(after.bytes);
    figures.parameters = Some(after.parameters);
    figures.macs = after.macs;
    if let (Some(against), Some(before)) = (&mut figures.against, &before) {
        against.bytes = Some(before.bytes);
    }
    let basis = Judged {
        before: before.unwrap_or(after),
        after,
        figures: Some(&figures),
        state: Some(&state),
        ..Judged::default()
    };
    let gates = how.gates.iter().map(|gate| gate.judge(&basis)).collect();
    let pictures = match &how.show {
        Some((count, folder)) => show(&state, &dataset, *count, folder, options.force)?,
        None => Vec::new(),
    };
    Ok(Evaluation {
        figures,
        engine: engine.name(),
        gates,
        state,
        pictures,
    })
}

/// Draws the images on which the model is furthest from the reference, or from the truth.
fn show(
    state: &State,
    data: &Dataset,
    count: usize,
    folder: &Path,
    force: bool,
) -> Result<Vec<String>, Error> {
    let Some(found) = state.task.as_ref().and_then(TaskState::boxes) else {
        return Err(Error::usage(
            "--show draws boxes, and the data describe no detection",
        ));
    };
    let failed = |path: &Path, reason: String| {
        Error::new("write-failed", format!("{}: {reason}", path.display())).in_file(path)
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error.to_string()))?;
    let mut written = Vec::new();
    for (rank, fates) in found.worst(count).into_iter().enumerate() {
        let Some(source) = data.image_path(fates.sample).filter(|path| path.is_file()) else {
            return Err(Error::usage(
                "--show draws on image files, and the samples are arrays",
            ));
        };
        let bytes = crate::files::read_bytes(source).map_err(|error| failed(source, error.to_string()))?;
        let mut picture = image::load_from_memory(&bytes)
            .map_err(|error| failed(source, error.to_string()))?
            .to_rgb8();
        pictures::draw(&mut picture, &fates);
        let stem = source
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("image");
        let path = folder.join(format!("{:03}-{stem}.png", rank + 1));
        let mut png = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut png, image::ImageFormat::Png)
            .map_err(|error| failed(&path, error.to_string()))?;
        write_file(&path, png.get_ref(), force)?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

/// The state of an interrupted run of the same subject, or a new one.
fn start(file: Option<&Path>, subject: StateSubject) -> Result<State, Error> {
    let Some(file) = file.filter(|file| file.exists()) else {
        return Ok(State::new(subject));
    };
    let mut state = State::new(subject);
    state.merge(&State::read(file)?).map_err(|error| {
        Error::from(error)
            .in_file(file)
            .with_hint("the state file is of another run; choose another file or remove it")
    })?;
    Ok(state)
}
