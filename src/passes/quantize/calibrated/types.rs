//! The types of weights and activations: what options say of the model and of single layers, and what an engine makes of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::{Role, ZeroPoints};
use super::{NAME, Quantize};
use crate::ir::{Graph, NodeId};
use crate::passes::PassError;
use crate::passes::layer_patterns::{LayerPatterns, layer_names};
use crate::passes::quantize::Precision;
use crate::passes::quantize::weights::Coding;
use crate::quantize::Kind;

/// What single layers have other than the rest of the model. The list of `quantize-weights` is understood, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerTypes {
    /// A regular expression on the node's name, its outputs and its weight.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Type of the weight's codes, or `float`: then the node stays as it is.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Type of the codes of what the node reads and puts out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<Kind>,
    /// One scale for each output channel of the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_channel: Option<bool>,
    /// Elements along the summed dimension that share a scale, for matrix products; 0: a whole channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
}

/// What options say of one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NodeTypes {
    /// The node stays float.
    pub(super) float: bool,
    /// Type of what it reads and puts out, where an entry of `layers` names one.
    pub(super) activation: Option<Kind>,
    /// How its weight is coded.
    pub(super) weight: Coding,
    /// An entry of `layers` decides on it.
    pub(super) named: bool,
}

/// The options, with patterns compiled and every type known to suit the engine.
pub(super) struct Types<'a> {
    options: &'a Quantize,
    layers: LayerPatterns<'a, LayerTypes>,
    /// Type of activations that nothing else is said of.
    pub(super) activation: Kind,
    weight: Kind,
}

impl<'a> Types<'a> {
    /// Refuses types that the engine does not take.
    pub(super) fn new(options: &'a Quantize) -> Result<Self, PassError> {
        let wrong = |message: String| PassError::Option { pass: NAME, message };
        let types = Self {
            options,
            layers: LayerPatterns::new(NAME, &options.layers, |layer| layer.pattern.as_str())?,
            activation: options
                .activations
                .unwrap_or_else(|| options.scheme.activation(options.profile)),
            weight: options.weights.unwrap_or_else(|| options.scheme.weight()),
        };
        let traits = options.profile.traits();
        let list = |kinds: &[Kind]| {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            names.join(", ")
        };
        for kind in types.activations() {
            let simulated = traits.simulated.contains(&kind) && kind.bits() > 8;
            if !simulated && !traits.activations.contains(&kind) {
                return Err(wrong(format!(
                    "activations: {} does not run {}; it runs {}",
                    options.profile.name(),
                    kind.name(),
                    list(traits.activations)
                )));
            }
        }
        for (kind, _) in types.weights() {
            if !traits.simulated.contains(&kind) && !traits.weights.contains(&kind) {
                return Err(wrong(format!(
                    "weights: {} does not run {} in products of codes; it runs {}",
                    options.profile.name(),
                    kind.name(),
                    list(traits.weights)
                )));
            }
        }
        types.check_zero_points()?;
        Ok(types)
    }

    /// Refuses zero points that the engine does not take.
    fn check_zero_points(&self) -> Result<(), PassError> {
        let (options, profile) = (self.options, self.options.profile);
        let wrong = |message: String| PassError::Option { pass: NAME, message };
        if profile.traits().symmetric && options.symmetric_activations == Some(false) {
            return Err(wrong(format!(
                "symmetric-activations: {} takes codes with a zero point of 0 and no others",
                profile.name()
            )));
        }
        if options.symmetric_weights {
            return Ok(());
        }
        let mut channels = options.layers.iter().filter_map(|layer| layer.per_channel);
        let per_channel = options.per_channel || channels.any(|set| set);
        match profile.traits().zero_points {
            ZeroPoints::Nowhere => Err(wrong(format!(
                "symmetric-weights: {} takes weights with a zero point of 0 and no others",
                profile.name()
            ))),
            ZeroPoints::PerTensor if per_channel => Err(wrong(format!(
                "symmetric-weights: {} has zero points for weights with one scale: per-channel: false",
                profile.name()
            ))),
            _ => Ok(()),
        }
    }

    fn activations(&self) -> impl Iterator<Item = Kind> + '_ {
        let named = self.options.layers.iter().filter_map(|layer| layer.activations);
        std::iter::once(self.activation).chain(named)
    }

    /// Every type of weights with the size of its blocks.
    fn weights(&self) -> impl Iterator<Item = (Kind, usize)> + '_ {
        let own = |layer: &LayerTypes| {
            let kind = match layer.precision {
                Some(precision) => precision.kind()?,
                None => self.weight,
            };
            Some((kind, layer.block.unwrap_or(self.options.block)))
        };
        std::iter::once((self.weight, self.options.block)).chain(self.options.layers.iter().filter_map(own))
    }

    /// Whether some type is a float.
    pub(super) fn any_float(&self) -> bool {
        self.activations()
            .chain(self.weights().map(|(kind, _)| kind))
            .any(Kind::is_float)
    }

    /// The first opset whose QuantizeLinear and DequantizeLinear have every type.
    pub(super) fn opset(&self) -> i64 {
        let activations = self.activations().map(|kind| kind.opset(false));
        let weights = self.weights().map(|(kind, block)| kind.opset(block > 0));
        activations.chain(weights).max().unwrap_or(13)
    }

    /// What the options say of one node.
    pub(super) fn of(&self, graph: &Graph, node: NodeId) -> NodeTypes {
        let entry = self.layers.find(&layer_names(graph, node, true));
        let precision = entry.and_then(|entry| entry.precision);
        let engine = self.options.profile.traits().per_channel;
        let fits = graph
            .operator(node)
            .is_some_and(|operator| engine.iter().any(|name| operator.is(name)));
        let per_channel = entry.and_then(|entry| entry.per_channel);
        let kind = precision.and_then(Precision::kind).unwrap_or(self.weight);
        NodeTypes {
            float: precision == Some(Precision::Float),
            activation: entry.and_then(|entry| entry.activations),
            named: entry.is_some(),
            weight: Coding {
                kind,
                bits: None,
                block: entry.and_then(|entry| entry.block).unwrap_or(self.options.block),
                symmetric: self.options.symmetric_weights || kind.is_float(),
                per_channel: fits && per_channel.unwrap_or(self.options.per_channel),
            },
        }
    }

    /// Entries of `layers` that decide on no node of the model.
    pub(super) fn idle(&self) -> Vec<String> {
        let note = |pattern: String| format!("layers: {pattern} decides on no node");
        self.layers.idle().into_iter().map(note).collect()
    }

    /// Why the engine computes a node with these types in float, if it does: `weight` is that of a product.
    pub(super) fn simulated(&self, role: Role, activation: Kind, weight: Option<Coding>) -> Option<String> {
        let profile = self.options.profile;
        let traits = profile.traits();
        if traits.simulated.is_empty() {
            return None;
        }
        let name = profile.name();
        let only = "a simulation: float between the pairs";
        if !traits.activations.contains(&activation) {
            return Some(format!(
                "{only}, {name} has no kernel for {} activations",
                activation.name()
            ));
        }
        let weight = weight.filter(|_| matches!(role, Role::Anchor | Role::FloatOutAnchor))?;
        if !traits.weights.contains(&weight.kind) || weight.block > 0 {
            let blocks = if weight.block > 0 { " in blocks" } else { "" };
            let kind = weight.kind.name();
            return Some(format!(
                "{only}, {name} has no kernel for {kind} weights{blocks} and codes"
            ));
        }
        // Signed activations go with signed weights.
        let apart = activation.is_signed() && !weight.kind.is_signed();
        apart.then(|| format!("{only}, {name} has no kernel for signed activations and unsigned weights"))
    }

    /// Why a product cannot have these types in the engine.
    pub(super) fn refused(&self, activation: Kind, weight: Kind) -> Option<String> {
        let traits = self.options.profile.traits();
        (traits.one_type && activation != weight).then(|| {
            format!(
                "{} multiplies codes of one type, not {} activations and {} weights",
                self.options.profile.name(),
                activation.name(),
                weight.name()
            )
        })
    }
}
