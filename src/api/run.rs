//! Running a pipeline on a model: files checked before anything begins, the result judged, and what is accepted written.

use std::path::Path;

use super::adjust::adjust;
use super::error::Error;
use super::files::MODEL;
use super::model::Model;
use super::options::Options;
use super::pipeline::Pipeline;
use super::reports::{self, Form};
use super::save::{Destination, Saved, write, write_file};
use crate::engine::Engine;
use crate::fold::TractEvaluator;
use crate::passes::ReportFile;
use crate::pipeline::{self, RunOptions, RunReport, StepResources, Unchanged};
use crate::report::page::{self, Made};
use crate::report::table::Style;
use crate::report::whole::{self, Detail};
use crate::verify::Verdict;

/// What a pipeline made of a model, and whether it may be used.
///
/// A result that differs from its model more than the steps promise, that breaks a gate, or in which nothing changed that was asked to,
/// is not accepted. That is an answer and no error: ask [`Outcome::accepted`].
///
/// # Examples
///
/// ```
/// use secateur::{Model, Options, Pipeline};
/// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
/// let outcome = Pipeline::preset("simplify")?.run(&model, &Options::new())?;
/// assert!(outcome.accepted() && outcome.changed());
/// assert!(outcome.report.after.nodes < outcome.report.before.nodes);
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Debug)]
pub struct Outcome {
    /// The result, accepted or not.
    pub model: Model,
    /// What each step did, the comparison with the model, the gates.
    pub report: RunReport,
    /// What steps leave beside the model: [`Outcome::save`] writes it as well.
    pub files: Vec<ReportFile>,
    /// How many of the report's warnings are about the file of the model.
    pub(crate) inherited: usize,
}

impl Outcome {
    /// Whether the result is as good as the pipeline asks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Model, Options, Pipeline};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let larger = Pipeline::parse("{ steps: [simplify], gates: [{ size: { at-most: 0.01 } }] }")?;
    /// let outcome = larger.run(&model, &Options::new())?;
    /// assert!(!outcome.accepted());
    /// assert!(outcome.report.gates[0].message.contains("0.01"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn accepted(&self) -> bool {
        self.report.accepted
    }

    /// The run for people: what changed, how the outputs compare, what the gates say.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Model, Options, Pipeline, Style};
    /// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
    /// let outcome = Pipeline::preset("simplify")?.run(&model, &Options::new())?;
    /// assert!(outcome.to_text(Style::Markdown).contains("| nodes"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_text(&self, style: Style) -> String {
        whole::run(style, &self.report, Detail::default())
    }

    /// Whether the result differs from the model in any way.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Model, Options, Pipeline};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let step = Pipeline::step("bind", serde_json::json!({ "sizes": { "batch": 1 } }))?;
    /// assert!(step.run(&model, &Options::new())?.changed());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn changed(&self) -> bool {
        self.report.changed
    }

    /// What the user should know.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Model, Options, Pipeline};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let step = Pipeline::step("eliminate-dead-code", ())?;
    /// let outcome = step.run(&model, &Options::new())?;
    /// assert!(outcome.warnings().is_empty());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn warnings(&self) -> &[String] {
        &self.report.warnings
    }

    /// How the result compares with the model.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Model, Options, Pipeline, Verdict};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let outcome = Pipeline::preset("simplify")?.run(&model, &Options::new())?;
    /// assert!(matches!(outcome.verdict(), Verdict::Equal | Verdict::Within));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn verdict(&self) -> Verdict {
        self.report.verdict
    }

    /// Writes an accepted result to a file that does not exist yet, and what steps leave beside it.
    ///
    /// # Errors
    ///
    /// `not-accepted` where the result is not accepted; `model.save` writes it all the same. Else as [`Model::save`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Model, Options, Pipeline};
    /// # let folder = tempfile::tempdir().unwrap();
    /// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
    /// let outcome = Pipeline::preset("simplify")?.run(&model, &Options::new())?;
    /// outcome.save(folder.path().join("simplified.onnx"))?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Saved, Error> {
        self.save_with(path, &Options::new())
    }

    /// The same as the options say: see [`Model::save_with`].
    ///
    /// # Errors
    ///
    /// As [`Outcome::save`]; `interrupted` where the token was set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Model, Options, Pipeline};
    /// # let folder = tempfile::tempdir().unwrap();
    /// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
    /// let outcome = Pipeline::preset("simplify")?.run(&model, &Options::new())?;
    /// let path = folder.path().join("simplified.onnx");
    /// outcome.save(&path)?;
    /// outcome.save_with(&path, &Options::new().force(true))?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn save_with(&self, path: impl AsRef<Path>, options: &Options) -> Result<Saved, Error> {
        if !self.accepted() {
            return Err(self.refused());
        }
        let how = Options {
            in_place: false,
            ..options.clone()
        };
        self.write(&Destination::File(path.as_ref().to_owned()), &how)
    }

    fn write(&self, output: &Destination, how: &Options) -> Result<Saved, Error> {
        let mut saved = write(&self.model, output, how)?;
        for file in &self.files {
            write_file(&file.path, &file.content, how.force)?;
            saved.files.push(file.path.display().to_string());
        }
        Ok(saved)
    }

    fn refused(&self) -> Error {
        let message = format!("the result is not accepted: {}", self.reasons().join("; "));
        Error::new("not-accepted", message)
            .with_hint("`Outcome::report` says why; `Outcome::model` can be saved all the same")
    }

    /// Why a result is not accepted.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let broken = self.report.gates.iter().filter(|gate| !gate.passed);
        let mut reasons: Vec<String> = broken.map(|gate| gate.message.clone()).collect();
        if self.report.unchanged {
            reasons.push("what was asked for changed nothing".to_owned());
        }
        if reasons.is_empty() {
            reasons.push("its outputs differ".to_owned());
        }
        reasons
    }

    /// The report without what was said of the file when it was read.
    pub(crate) fn own_report(&self) -> RunReport {
        let mut report = self.report.clone();
        report.warnings.drain(..self.inherited.min(report.warnings.len()));
        report
    }
}

/// A pipeline as the options changed it, and the options.
pub(crate) struct Job<'a> {
    pipeline: &'a Pipeline,
    options: &'a Options,
}

impl Pipeline {
    /// Runs the steps on a model, compares the result with it on the data there are or on synthetic inputs, and judges the gates. With
    /// [`Options::output`] an accepted result is written.
    ///
    /// # Errors
    ///
    /// What makes a result impossible: options that do not fit, data that are missing (`data-missing`) or do not fit the model, a step
    /// that fails ([`Error::step`]), an output that is also read (`output-is-input`), a token that was set (`cancelled`). Nothing is
    /// written then.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Data, Model, Options, Pipeline};
    /// let model = Model::open("fixtures/digits_cnn.onnx")?;
    /// let calibration = Data::npz("fixtures/data/digits_calib.npz")?.samples(32);
    /// let options = Options::new().data("calibration", calibration);
    /// let outcome = Pipeline::step("quantize", ())?.run(&model, &options)?;
    /// assert!(outcome.accepted());
    ///
    /// let error = Pipeline::step("quantize", ())?.run(&model, &Options::new()).unwrap_err();
    /// assert_eq!(error.code(), "data-missing");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn run(&self, model: &Model, options: &Options) -> Result<Outcome, Error> {
        let adjusted = self.adjusted(options)?;
        let job = adjusted.job(options);
        job.check_files(model.origin.path.as_deref())?;
        job.run(model)
    }

    /// The pipeline as the options change it.
    pub(crate) fn adjusted(&self, options: &Options) -> Result<Self, Error> {
        let mut again = self.try_clone()?;
        adjust(&mut again.inner, options)?;
        Ok(again)
    }

    /// A run of an adjusted pipeline.
    pub(crate) fn job<'a>(&'a self, options: &'a Options) -> Job<'a> {
        Job {
            pipeline: self,
            options,
        }
    }
}

impl Job<'_> {
    /// Where an accepted result goes, if it is written.
    fn output(&self, input: Option<&Path>) -> Result<Option<Destination>, Error> {
        let options = self.options;
        if options.dry_run {
            return Ok(None);
        }
        match (&options.output, options.in_place, input) {
            (Some(output), ..) => Ok(Some(output.clone())),
            (None, true, Some(path)) => Ok(Some(Destination::File(path.to_owned()))),
            (None, true, None) => Err(Error::usage("--in-place needs a model in a file")),
            (None, false, _) => Ok(None),
        }
    }

    /// Refuses files that must not be read or written, before any work is done. `input` is the model's file.
    pub(crate) fn check_files(&self, input: Option<&Path>) -> Result<(), Error> {
        let options = self.options;
        let mut files = options.files();
        if let Some(path) = &self.pipeline.path {
            files.reads("the pipeline", path);
        }
        if let Some(input) = input {
            files.reads(MODEL, input);
        }
        let output = self.output(input)?;
        if let Some(output) = &output {
            files.output(output, options.in_place);
        }
        for report in &options.reports {
            files.writes("--report", report);
        }
        files.pipeline(&self.pipeline.inner, output.is_some());
        files.check()?;
        options.check_reports()
    }

    /// Runs, judges, and writes what is accepted.
    pub(crate) fn run(&self, model: &Model) -> Result<Outcome, Error> {
        let options = self.options;
        let pipeline = &self.pipeline.inner;
        pipeline.check_data(&model.model.graph)?;
        let compare = options.compare && !options.dry_run;
        let needs_engine = pipeline.steps.iter().any(|step| step.pass.about().needs.runs());
        let engine = if compare || needs_engine {
            Some(options.make_engine()?)
        } else {
            None
        };
        let made = options.on_threads(|| self.execute(model, engine.as_deref(), compare))?;
        options.admit()?;
        let pipeline::Outcome {
            model: result,
            report,
            files,
        } = made?;
        let mut outcome = Outcome {
            model: model.derived(result, report.changed),
            report,
            files,
            inherited: model.warnings.len(),
        };
        if outcome.accepted()
            && let Some(output) = self.output(model.origin.path.as_deref())?
        {
            let saved = outcome.write(&output, options)?;
            outcome.report.output = Some(output.name());
            outcome.report.files = saved.files;
            outcome.report.warnings.extend(saved.notes);
        }
        let warnings = &mut outcome.report.warnings;
        warnings.splice(0..0, model.warnings.iter().cloned());
        options.write_reports(|form| self.report(form, model, &outcome))?;
        Ok(outcome)
    }

    fn report(&self, form: Form, model: &Model, outcome: &Outcome) -> Result<String, Error> {
        let (pipeline, report) = (&self.pipeline.inner, &outcome.report);
        let name = Path::new(&pipeline.name).file_name().unwrap_or_default();
        let title = format!("secateur: {} on {}", name.to_string_lossy(), model.file_name());
        Ok(match form {
            Form::Html => page::run(&Made {
                title: &title,
                before: &model.model,
                after: &outcome.model.model,
                report,
                errors: report.node_errors.as_ref(),
                pipeline: &pipeline.to_yaml(),
                source: self
                    .options
                    .source(&[("the input", model)], self.options.engine.name()),
            }),
            _ => reports::of_run(form, &pipeline.name, model, report)?,
        })
    }

    fn execute(
        &self,
        model: &Model,
        engine: Option<&dyn Engine>,
        compare: bool,
    ) -> Result<pipeline::Outcome, Error> {
        let options = self.options;
        let pipeline = &self.pipeline.inner;
        let tell = |what: &str, done: u64, total: Option<u64>| options.tell(what, done, total);
        let resources = StepResources {
            engine,
            data: &pipeline.data,
            base: &pipeline.base,
            original: Some(&model.model),
            jobs: options.threads(),
            strict: options.strict,
            ledger: options.ledger.clone(),
        };
        let run = RunOptions {
            evaluator: &TractEvaluator,
            engine: engine.filter(|_| compare),
            verify: options.comparing(&model.model)?,
            limits: options.limits(),
            keep: options.keep.clone(),
            seed: options.seed,
            provenance: options.provenance,
            macs: options.macs,
            resources: Some(&resources),
            progress: &tell,
            unchanged: if options.allow_unchanged || options.dry_run {
                Unchanged::Allowed
            } else {
                self.pipeline.unchanged
            },
            node_errors: options.wants_page(),
            cancel: options.cancel.as_ref(),
            reuse: options.reuse.as_ref(),
        };
        Ok(pipeline::run(pipeline, &model.model, &model.settled()?, &run)?)
    }
}
