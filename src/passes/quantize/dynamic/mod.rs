//! The pass `quantize-dynamic`: integer matrix products whose activation ranges are found in every run.

mod error;
mod product;
mod products;
mod replace;
mod tied;
mod weight;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::error::ProductError;
use self::products::Search;
use self::replace::Replacer;
use super::QuantizeWeights;
use super::calibrated::Saturation;
use crate::analysis;
use crate::ir::{GraphPath, Model, opset_version};
use crate::passes::distinct::distinct_names;
use crate::passes::form::ConvertOpset;
use crate::passes::left::LeftAlone;
use crate::passes::simplify::{DeduplicateInitializers, EliminateDeadCode};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety, Selector, prepare};

const NAME: &str = "quantize-dynamic";
/// First opset with DynamicQuantizeLinear; scales by channel are plain tensors and need no newer one.
const OPSET: i64 = 11;

/// Turns matrix products with constant weights into integer ones that find the range of their input in every run.
///
/// Needs no data. The input becomes unsigned 8-bit codes through DynamicQuantizeLinear, once for all products that read it; the
/// weight is stored as 8-bit codes with a scale for each output. Bodies of If and Loop and functions are covered; a weight of a
/// graph around a body is stored once. Weights of recurrent layers and of embeddings become codes too, and are computed with in
/// float. Convolutions stay float: engines run them several times slower in this form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuantizeDynamic {
    /// One scale for each output column; else one for the whole weight.
    pub per_channel: bool,
    /// What is done about weights whose products saturate on x86 processors without VNNI.
    pub saturation: Saturation,
    /// Weights with fewer elements stay float.
    pub minimum_elements: u64,
    /// Nodes that stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// Operators that compute in float and whose weights alone become codes, as `quantize-weights` writes them: LSTM, GRU, RNN,
    /// Gather, Einsum, and any other that it takes.
    pub weights_only: Vec<String>,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen.
    pub prepare: bool,
}

impl Default for QuantizeDynamic {
    fn default() -> Self {
        Self {
            per_channel: true,
            saturation: Saturation::default(),
            minimum_elements: 256,
            exclude: Vec::new(),
            weights_only: ["LSTM", "GRU", "RNN", "Gather", "Einsum"]
                .map(str::to_owned)
                .to_vec(),
            prepare: true,
        }
    }
}

impl Pass for QuantizeDynamic {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("exclude", &self.exclude)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let excluded = crate::schema::patterns(&self.exclude).map_err(|error| PassError::Option {
            pass: NAME,
            message: format!("exclude: {error}"),
        })?;
        let original = model.clone();
        let mut report = PassReport {
            changes: prepare::simplify(model, self.prepare, context)?.changes,
            ..PassReport::default()
        };
        if model.opset().is_some_and(|version| version < OPSET) {
            report.merge(ConvertOpset::at_least(OPSET).run(model, context)?);
        }
        prepare::name(model);
        let mut left = LeftAlone::default();
        let mut replacer = Replacer::new(self);
        let search = Search {
            options: self,
            excluded: &excluded,
            context,
        };
        let (current, old): (Vec<GraphPath>, Vec<GraphPath>) = model
            .graph_paths()
            .into_iter()
            .partition(|path| opset_version(model.opsets(path), "").is_some_and(|version| version >= OPSET));
        for path in &old {
            search.too_old(model, path, &mut left);
        }
        let candidates = search.candidates(model, &current);
        for path in current {
            for product in search.find(model, &path, Some(&candidates), &mut left) {
                let label = model.graph_at(&path).map(|graph| graph.label(product.node));
                match replacer.replace(model, &product) {
                    Ok(()) => {}
                    Err(ProductError::Edit(source)) => return Err(PassError::Edit { pass: NAME, source }),
                    Err(other) => left.add(label.unwrap_or_default(), other.to_string(), ""),
                }
            }
        }
        let tables = replacer.gather(model).map_err(|error| match error {
            ProductError::Edit(source) => PassError::Edit { pass: NAME, source },
            other => PassError::resource(NAME, other.to_string()),
        })?;
        let done = replacer.done;
        if done.captured {
            // Captured weights that no body reads any more go.
            EliminateDeadCode { keep_functions: true }.run(model, context)?;
        }
        let repeated = replacer.repeated();
        report.add("integer-product", done.products);
        report.add("quantized-input", done.inputs);
        report.add("saturation-avoided-in-channel", done.trimmed);
        report.add("table-shared-with-product", tables);
        if done.products > 0 {
            distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
            analysis::infer(model);
        }
        let weights = self.weights_only(model, context, &mut report)?;
        report.left.extend(left.into_entries());
        for said in repeated {
            report.leave("", said);
        }
        if done.products == 0 && weights == 0 {
            *model = original;
            report.notes.insert(
                0,
                "no matrix product with a constant weight: nothing to quantize".to_owned(),
            );
            return Ok(PassReport {
                notes: report.notes,
                left: report.left,
                ..PassReport::default()
            });
        }
        report.merge(DeduplicateInitializers::default().run(model, context)?);
        Ok(report)
    }
}

impl QuantizeDynamic {
    /// Codes for the weights of operators that stay float. Answers how many.
    fn weights_only(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<u64, PassError> {
        if self.weights_only.is_empty() {
            return Ok(0);
        }
        let pass = QuantizeWeights {
            operators: self.weights_only.clone(),
            minimum_elements: self.minimum_elements,
            exclude: self.exclude.clone(),
            per_channel: self.per_channel,
            prepare: false,
            ..QuantizeWeights::default()
        };
        let own = pass.run_among_others(model, context)?;
        let count = own.changes.iter().find(|change| change.rule == "weight");
        let count = count.map_or(0, |change| change.count);
        report.merge(own);
        Ok(count)
    }
}
