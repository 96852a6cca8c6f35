//! The options of `cluster`, and what they say of one weight.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::ir::Graph;
use crate::passes::PassError;
use crate::passes::layer_patterns::{LayerPatterns, layer_names};
use crate::passes::quantize::weights::{LayerPrecision, OPERATORS, Precision, QuantizeWeights, WeightTarget};
use crate::passes::train::LossKind;
use crate::quantize::Start;

/// What a weight's error counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// As much as that of every other weight.
    #[default]
    None,
    /// The mean square of what it multiplies on calibration data: the diagonal of the second moments of the layer's input.
    Gram,
    /// How much the loss depends on it: the logarithm of E g² on labelled data, normalised, as `criterion: log-gradient` of
    /// `quantize-weights` takes it. It says from layer to layer where bits are worth most, too.
    Gradients,
}

/// How weights that share values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterForm {
    /// Codes, and a Gather that looks them up in the values: the file is small, and any runtime loads it. Engines do the lookup once,
    /// when they load the model, and then run it as before; of a table that Gather reads only the rows that are wanted are looked up.
    #[default]
    Lookup,
    /// The weights themselves, in which few values repeat: the file is as large as before, and `pack` makes it small.
    Float,
}

/// The type of codes that are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeType {
    /// `uint4` for up to 16 values where the model has opset 21 already, else `uint8`.
    #[default]
    Auto,
    /// A byte each.
    Uint8,
    /// Half a byte each for up to 16 values, for which the model is converted to opset 21; the rest, and tables that Gather reads, a
    /// byte each.
    Uint4,
}

/// Lets the weights of each layer share few values: a code for each weight, and a codebook of the values (Han et al. 2015).
///
/// The values are found by weighted k-means, which in one dimension has an exact solution. Weights that are zero stay zero: pruning
/// comes first. `finetune` trains the values further, with the codes as they are. The graph looks codes up with Cast and Gather,
/// which every runtime knows; `simplify` does not fold that. `pack` afterwards stores codes in as few bits as they need.
/// A weight that would not become smaller is left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Cluster {
    /// Bits of a code, 1 to 8: each weight tensor has at most 2^bits values. A fraction is a mean over all weights, and dealt.
    pub bits: f64,
    /// Deal bits to tensors where they lower the error most, with `bits` as the mean over all weights; a fraction always is. Networks with
    /// small layers, such as depthwise convolutions, lose far less so.
    pub dealt: bool,
    /// What the error of each weight counts for.
    pub weighting: Weighting,
    /// Where k-means starts. What `kmeans++` draws depends on the run's seed.
    pub initialisation: Start,
    /// How the weights are written.
    pub form: ClusterForm,
    /// The type of codes, with `form: lookup`.
    pub codes: CodeType,
    /// Zero is a value of its own in a tensor that has zeros, for them alone.
    pub keep_zeros: bool,
    /// Other bits for single layers: the first entry whose pattern matches the node's name, an output of it or its weight decides.
    /// `{match: REGEX, bits: 1 to 8}`; without `bits` the weight stays as it is. They take no part in a mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerBits>,
    /// The role of the data that `weighting: gram` runs the model over.
    pub data: String,
    /// A statistics file (`secateur stats MODEL --for gram`) to take the second moments of layers from, instead of data.
    #[schemars(extend("x-file" = "read"))]
    pub stats: Option<PathBuf>,
    /// The role of the labelled data that `weighting: gradients` takes gradients on.
    pub labelled: String,
    /// Gradient statistics of this very model, as `secateur stats --for gradients` writes them, instead of labelled data.
    #[schemars(extend("x-file" = "read"))]
    pub gradient_stats: Option<PathBuf>,
    /// The loss that gradients are of.
    pub loss: LossKind,
    /// The output that the loss sits on; the first one by default.
    pub loss_output: Option<String>,
    /// Operators whose weights share values: MatMul, Gemm, Conv, ConvTranspose, LSTM, GRU, RNN, Einsum and the tables that Gather takes rows
    /// of.
    pub operators: Vec<String>,
    /// Weights with fewer elements stay as they are.
    pub minimum_elements: u64,
    /// Nodes whose weights stay as they are: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen.
    pub prepare: bool,
}

/// Bits of some layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerBits {
    /// A regular expression on the node's name, its outputs and its weight.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Bits of a code, 1 to 8; without it the weight stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            bits: 4.0,
            dealt: false,
            weighting: Weighting::default(),
            initialisation: Start::default(),
            form: ClusterForm::default(),
            codes: CodeType::default(),
            keep_zeros: true,
            layers: Vec::new(),
            data: "calibration".to_owned(),
            stats: None,
            labelled: "training".to_owned(),
            gradient_stats: None,
            loss: LossKind::default(),
            loss_output: None,
            operators: OPERATORS.map(str::to_owned).to_vec(),
            minimum_elements: 256,
            exclude: Vec::new(),
            prepare: true,
        }
    }
}

impl Cluster {
    /// Refuses options that contradict each other.
    pub(super) fn check(&self) -> Result<(), PassError> {
        let wrong = |message: String| Err(PassError::Option { pass: NAME, message });
        if !(1.0..=8.0).contains(&self.bits) {
            return wrong(format!("bits: {} is not in 1 to 8", self.bits));
        }
        if let Some(layer) = self
            .layers
            .iter()
            .find(|layer| layer.bits.is_some_and(|bits| !(1..=8).contains(&bits)))
        {
            return wrong(format!(
                "layers: {} bits for {} are not 1 to 8",
                layer.bits.unwrap_or(0),
                layer.pattern
            ));
        }
        if let Some(unknown) = self
            .operators
            .iter()
            .find(|name| !OPERATORS.contains(&name.as_str()))
        {
            return wrong(format!(
                "operators: {unknown} is none of {}",
                OPERATORS.join(", ")
            ));
        }
        if self.form == ClusterForm::Float && self.codes != CodeType::Auto {
            return wrong("codes: form: float has none".to_owned());
        }
        if self.stats.is_some() && self.weighting != Weighting::Gram {
            return wrong("stats: only weighting: gram takes second moments".to_owned());
        }
        if self.gradient_stats.is_some() && self.weighting != Weighting::Gradients {
            return wrong("gradient-stats: only weighting: gradients takes gradient statistics".to_owned());
        }
        Overrides::new(self)?;
        let patterns = crate::schema::patterns(&self.exclude);
        patterns.map(|_| ()).map_err(|error| PassError::Option {
            pass: NAME,
            message: format!("exclude: {error}"),
        })
    }

    /// Bits of every weight that no entry of `layers` is about, where they are the same.
    pub(super) fn uniform(&self) -> Option<u32> {
        (self.bits.fract() == 0.0 && !self.dealt).then_some(self.bits as u32)
    }

    /// What finds the weights: their types do not matter here.
    pub(super) fn search_options(&self) -> QuantizeWeights {
        let precision = |layer: &LayerBits| LayerPrecision {
            pattern: layer.pattern.clone(),
            precision: match layer.bits {
                Some(_) => Precision::Int8,
                None => Precision::Float,
            },
            block: None,
        };
        QuantizeWeights {
            layers: self.layers.iter().map(precision).collect(),
            operators: self.operators.clone(),
            minimum_elements: self.minimum_elements,
            exclude: self.exclude.clone(),
            ..QuantizeWeights::default()
        }
    }
}

/// The patterns of `layers`, compiled.
pub(super) struct Overrides<'a> {
    layers: LayerPatterns<'a, LayerBits>,
}

impl<'a> Overrides<'a> {
    pub(super) fn new(options: &'a Cluster) -> Result<Self, PassError> {
        Ok(Self {
            layers: LayerPatterns::new(NAME, &options.layers, |layer| layer.pattern.as_str())?,
        })
    }

    /// What `layers` asks for a weight of `graph` called `name`, the most of what its readers ask for; and whether they ask for different
    /// things.
    pub(super) fn bits(&self, graph: &Graph, target: &WeightTarget, name: &str) -> (Option<u32>, bool) {
        let asked: Vec<Option<u32>> = target
            .readers
            .iter()
            .map(|reader| {
                let mut bodies = reader.bodies.iter();
                let inner = bodies.try_fold(graph, |graph, (node, body)| graph.body(*node, *body));
                let mut names = inner.map_or_else(Vec::new, |inner| layer_names(inner, reader.node, true));
                names.push(name.to_owned());
                self.layers.find(&names).and_then(|layer| layer.bits)
            })
            .collect();
        let same = asked.windows(2).all(|pair| pair.first() == pair.get(1));
        (asked.into_iter().flatten().max(), !same)
    }
}
