//! The pass `transfer-features`: a model is cut at a value; [`train`] puts a linear head on it, [`attach`] heads from other models.

mod attach;
mod train;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::analysis;
use crate::features::last_product;
use crate::ir::{DType, Model, ValueId};
use crate::passes::{
    About, Change, Context, HeadTraining, Needs, Pass, PassError, PassReport, ResourceError, Safety,
};
use crate::proto::StringStringEntryProto;
use crate::transfer::region::{RegionError, extract};
use train::with_head;

const NAME: &str = "transfer-features";

/// The value that `auto` stands for is looked for.
const AUTO: &str = "auto";

/// How a head is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Multinomial logistic regression with an L2 penalty, by L-BFGS.
    #[default]
    Logistic,
    /// Least squares with an L2 penalty, in closed form: of 1 and -1 for classes, of the targets themselves if they are floats.
    Ridge,
}

/// Keeps a model up to a value and puts a new linear head on it, trained on labelled data, or heads from other models.
///
/// What stands behind the value `at` goes. With `head` it feeds other models, whose outputs become those of the result; weights that
/// are equal are stored once. Otherwise a linear head is trained: the features of every sample are computed once and kept in a temporary file; the head is
/// fitted to them in float64 and written as one Gemm. Features are standardised for the fit, and the scale is folded into the
/// weights, so that the model takes no more steps. The bias is not penalised. Integer labels are classes from 0 on and each needs a
/// sample; float labels are targets, for `ridge`. Where folders are the classes, their names go into the metadata entry `classes`, as a
/// JSON list from class 0 on. `evaluate` says how good the result is on other data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TransferFeatures {
    /// The value that features are taken from; `auto` is what the last Gemm or MatMul with constant weights reads.
    #[serde(deserialize_with = "name")]
    pub at: String,
    /// Models that read the features, instead of a trained head; each has one input without a default.
    #[schemars(extend("x-file" = "read"))]
    pub head: Vec<PathBuf>,
    /// Write the cut model without a head.
    pub features_only: bool,
    /// How the head is trained.
    pub method: Method,
    /// Inverse strength of the penalty of `logistic`: the sum of losses counts this much more than half the square of the weights.
    pub c: f64,
    /// Strength of the penalty of `ridge`: the square of the weights counts this much more than the sum of squared errors.
    pub alpha: f64,
    /// Whether features are standardised for the fit, so that the penalty does not depend on their units.
    pub standardize: bool,
    /// Number of classes; by default the largest label and one.
    pub classes: Option<u32>,
    /// End with a Softmax; only after `logistic`, whose scores are logits.
    pub softmax: bool,
    /// Name of the head's output.
    pub output: String,
    /// The role of the data.
    pub data: String,
}

impl Default for TransferFeatures {
    fn default() -> Self {
        Self {
            at: AUTO.to_owned(),
            head: Vec::new(),
            features_only: false,
            method: Method::default(),
            c: 1.0,
            alpha: 1.0,
            standardize: true,
            classes: None,
            softmax: false,
            output: "scores".to_owned(),
            data: "training".to_owned(),
        }
    }
}

impl Pass for TransferFeatures {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).replacing().needing(Needs {
            training: self.head.is_empty() && !self.features_only,
            source: !self.head.is_empty(),
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let trains = self.about().needs.training;
        trains.then(|| self.data.clone()).into_iter().collect()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        self.check_options()?;
        let cut = Cut::new(model, &self.at)?;
        let mut report = PassReport::default();
        report.changes.push(Change {
            rule: "operator left out".to_owned(),
            count: (model.graph.operator_count() - cut.model.graph.operator_count()) as u64,
            details: vec![format!("features are {}", cut.name)],
        });
        report.changed = true;
        if self.features_only {
            *model = cut.model;
            return Ok(report);
        }
        let resources = context.resources(NAME, "needs data and an engine")?;
        if !self.head.is_empty() {
            *model = self.attach(cut, resources, context, &mut report)?;
            return Ok(report);
        }
        let fitted = self.fit(&cut, resources, context, &mut report)?;
        *model = with_head(cut, &fitted, self.softmax, &self.output)?;
        if let Some(training) = &report.training {
            name_classes(model, training);
        }
        Ok(report)
    }
}

/// The metadata entry with the names of the classes: a JSON list, the class 0 first.
const CLASSES: &str = "classes";

/// Writes the names of the classes, where the data have any, into the model's metadata.
fn name_classes(model: &mut Model, training: &HeadTraining) {
    let names: Option<Vec<&String>> = training.classes.iter().map(|class| class.name.as_ref()).collect();
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        return;
    };
    let Ok(value) = serde_json::to_string(&names) else {
        return;
    };
    model
        .metadata
        .retain(|entry| entry.key.as_deref() != Some(CLASSES));
    model.metadata.push(StringStringEntryProto {
        key: Some(CLASSES.to_owned()),
        value: Some(value),
    });
}

fn option(message: String) -> PassError {
    PassError::Option { pass: NAME, message }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}

/// A model cut at a value.
pub struct Cut {
    /// The part that computes the value, which is its only output.
    pub model: Model,
    /// The value's name.
    pub name: String,
}

impl Cut {
    /// Cuts `model` at the value `at`, or where the last product with weights begins for `auto`.
    ///
    /// # Errors
    /// When there is no such value.
    pub fn new(model: &Model, at: &str) -> Result<Self, PassError> {
        let name = match at {
            AUTO => automatic(model)?,
            name => name.to_owned(),
        };
        let mut cut = extract(model, &[], std::slice::from_ref(&name)).map_err(|error| match &error {
            RegionError::OpenInput { output, .. } => PassError::Model {
                pass: NAME,
                node: output.clone(),
                message: error.to_string(),
            },
            _ => option(format!("at: {error}")),
        })?;
        analysis::infer(&mut cut);
        Ok(Self { model: cut, name })
    }

    fn value(&self) -> Result<ValueId, PassError> {
        self.model
            .graph
            .output_values()
            .first()
            .copied()
            .flatten()
            .ok_or_else(|| option(format!("at: there is no value {:?}", self.name)))
    }

    fn dtype(&self) -> Result<DType, PassError> {
        let ty = self.model.graph.ty(self.value()?);
        ty.dtype()
            .filter(|dtype| dtype.is_float())
            .ok_or_else(|| PassError::Model {
                pass: NAME,
                node: self.name.clone(),
                message: format!("features are float tensors, and this is {ty}"),
            })
    }
}

fn automatic(model: &Model) -> Result<String, PassError> {
    let mut named = model.clone();
    analysis::infer(&mut named);
    let found = last_product(&named.graph).and_then(|value| named.graph.value(value));
    match found {
        Some(value) if !value.name.is_empty() => Ok(value.name.to_string()),
        _ => Err(option(
            "at: there is no Gemm or MatMul with constant weights; name the value that features are taken from".to_owned(),
        )),
    }
}

impl TransferFeatures {
    fn check_options(&self) -> Result<(), PassError> {
        for (name, value, least) in [("c", self.c, f64::MIN_POSITIVE), ("alpha", self.alpha, 0.0)] {
            if !(value >= least && value.is_finite()) {
                return Err(option(format!("{name}: {value} is not a strength")));
            }
        }
        if self.softmax && self.method == Method::Ridge {
            return Err(option("softmax: scores of `ridge` are no logits".to_owned()));
        }
        if self.features_only && !self.head.is_empty() {
            return Err(option("features-only: there is a head".to_owned()));
        }
        if self.output.is_empty() {
            return Err(option("output: a name is needed".to_owned()));
        }
        Ok(())
    }
}

/// A name of a value; exporters also use plain numbers, which YAML reads as such.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Named {
        Text(String),
        Number(u64),
    }
    Ok(match Named::deserialize(deserializer)? {
        Named::Text(text) => text,
        Named::Number(number) => number.to_string(),
    })
}
