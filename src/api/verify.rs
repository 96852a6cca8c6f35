//! Comparing two models.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::error::Error;
use super::files::MODEL;
use super::model::Model;
use super::options::Options;
use super::reports::{self, Form};
use crate::data::Dataset;
use crate::engine::{Cancellable, Engine, EngineError, OrtEngine, TractEngine};
use crate::report::table::Style;
use crate::report::{page, whole};
use crate::verify::{
    self as inner, Divergence, Engines, NodeErrors, NodeOptions, NodeReport, Verdict, VerifyReport,
};

/// How two models compare.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(
    rename = "Document",
    description = "The answer under `--json`: the report of the comparison, with what the options add."
)]
#[non_exhaustive]
pub struct Verification {
    /// The comparison of the outputs, with figures for each.
    #[serde(flatten)]
    pub report: VerifyReport,
    /// What is unusual about the files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The first node that differs, where [`Options::localize`] asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
    /// Each node alone, where [`Options::per_node`] asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_node: Option<NodeReport>,
}

impl Verification {
    /// The verdict: on the nodes where each is judged alone, else on the outputs. *Not checked* is never equal.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Model, Options, Verdict, verify};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// assert_eq!(verify(&model, &model, &Options::new())?.verdict(), Verdict::Equal);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn verdict(&self) -> Verdict {
        self.per_node
            .as_ref()
            .map_or(self.report.verdict, |nodes| nodes.verdict)
    }

    /// The comparison for people: a table of the outputs, the verdict, what else was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Model, Options, Style, verify};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let text = verify(&model, &model, &Options::new())?.to_text(Style::Terminal);
    /// assert!(text.contains("verdict: equal"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_text(&self, style: Style) -> String {
        whole::comparison(
            style,
            &self.report,
            self.per_node.as_ref(),
            self.divergence.as_ref(),
        )
    }

    /// Whether the models compute the same, or within the tolerance.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Model, Options, verify};
    /// let float = Model::open("fixtures/digits_mlp.onnx")?;
    /// let other = Model::open("fixtures/digits_cnn.onnx")?;
    /// assert!(!verify(&float, &other, &Options::new())?.holds());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn holds(&self) -> bool {
        matches!(self.verdict(), Verdict::Equal | Verdict::Within)
    }
}

/// Roles of data on which models are compared, the best one first.
const ROLES: [&str; 3] = ["evaluation", "calibration", "training"];

/// Refuses files that must not be read or written.
pub(crate) fn check_comparison(
    options: &Options,
    reference: Option<&Path>,
    model: Option<&Path>,
) -> Result<(), Error> {
    let mut files = options.files();
    if let Some(reference) = reference {
        files.reads("the reference", reference);
    }
    if let Some(model) = model {
        files.reads(MODEL, model);
    }
    for (_, data) in &options.data {
        data.reads(&mut files);
    }
    for report in &options.reports {
        files.writes("--report", report);
    }
    files.check()?;
    options.check_reports()
}

/// Compares the outputs of `model` with those of `reference` on the same inputs: the data of the options, else synthetic ones at several
/// sizes. That they differ is an answer and no error.
///
/// # Errors
///
/// Data that do not fit, sizes that name no dimension, an engine that is not there, a token that was set.
///
/// # Examples
///
/// ```
/// use secateur::{Data, Model, Options, verify};
/// let float = Model::open("fixtures/digits_cnn.onnx")?;
/// let codes = Model::open("fixtures/digits_cnn_qdq_pc_s8s8.onnx")?;
/// let test = Data::npz("fixtures/data/digits_test.npz")?.samples(20);
/// let found = verify(&float, &codes, &Options::new().data("evaluation", test))?;
/// assert!(found.report.outputs[0].cosine.unwrap() > 0.99);
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn verify(reference: &Model, model: &Model, options: &Options) -> Result<Verification, Error> {
    check_comparison(
        options,
        reference.origin.path.as_deref(),
        model.origin.path.as_deref(),
    )?;
    let engine = options.make_engine()?;
    let mut how = options.comparing(&reference.model)?;
    how.every_size = true;
    if let Some(data) = options.data_of(&ROLES)? {
        let (spec, base) = data.spec()?;
        let data = Dataset::open(&spec, &base, &reference.model.graph)?;
        how.data = Some((data.origin().display().to_string(), Arc::new(data)));
    }
    let found = options.on_threads(|| compare(reference, model, &*engine, &how, options))?;
    options.admit()?;
    let (found, errors) = found?;
    options.write_reports(|form| found.report(form, (reference, model), errors.as_ref(), options))?;
    Ok(found)
}

impl Verification {
    fn report(
        &self,
        form: Form,
        (reference, model): (&Model, &Model),
        errors: Option<&NodeErrors>,
        options: &Options,
    ) -> Result<String, Error> {
        let title = format!(
            "secateur: {} against {}",
            model.file_name(),
            reference.file_name()
        );
        Ok(match form {
            Form::Html => page::comparison(
                &title,
                (&reference.model, &model.model),
                &self.report,
                (self.per_node.as_ref(), errors),
                self.divergence.as_ref(),
                &options.source(
                    &[("the reference", reference), ("the model", model)],
                    &self.report.engine,
                ),
            ),
            _ => reports::of_comparison(form, self, (reference, model))?,
        })
    }
}

/// Batches on which each node is compared for a page.
const NODE_BATCHES: u64 = 4;

fn compare(
    reference: &Model,
    model: &Model,
    engine: &dyn Engine,
    how: &inner::VerifyOptions,
    options: &Options,
) -> Result<(Verification, Option<NodeErrors>), Error> {
    let (first, second) = (&reference.model, &model.model);
    options.tell("verify", 0, None);
    let report = inner::verify(first, second, engine, how);
    let divergence = match &report.worst {
        Some(sample) if options.comparison.localize => {
            options.tell("localize", 0, None);
            // A model that does not run has no values to look at; the report says why it does not.
            match inner::localize(first, second, engine, sample, how) {
                Err(_) if report.reason.is_some() => None,
                found => found?,
            }
        }
        _ => None,
    };
    let per_node = options.comparison.per_node.as_ref().map(|nodes| {
        options.tell("nodes", 0, None);
        nodes_of(reference, model, &report, (engine, how), (nodes, options))
    });
    let compared = report.verdict != Verdict::Equal && report.reason.is_none();
    let errors = (compared && options.wants_page()).then(|| {
        options.tell("nodes", 0, None);
        let mut few = how.clone();
        few.bounds.batches = Some(NODE_BATCHES);
        inner::node_errors(first, second, &report, engine, &few)
    });
    let found = Verification {
        report,
        warnings: [reference, model].map(|model| model.warnings.clone()).concat(),
        divergence,
        per_node,
    };
    Ok((found, errors))
}

/// Judges node by node, with ONNX Runtime beside tract where there is one.
fn nodes_of(
    reference: &Model,
    judged: &Model,
    report: &VerifyReport,
    (engine, how): (&dyn Engine, &inner::VerifyOptions),
    (nodes, options): (&NodeOptions, &Options),
) -> NodeReport {
    let token = options.cancel.clone().unwrap_or_default();
    let tract = Cancellable::new(TractEngine, token.clone());
    let runtime: Result<_, EngineError> = OrtEngine::load().map(|runtime| Cancellable::new(runtime, token));
    let engines = Engines {
        main: engine,
        pair: match &runtime {
            Ok(runtime) => Ok((&tract, runtime)),
            Err(error) => Err(error),
        },
    };
    inner::verify_nodes(&reference.model, &judged.model, report, engines, how, nodes)
}
