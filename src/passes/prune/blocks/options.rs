//! What a user may ask for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::passes::prune::channels::Recover;

/// Removes whole residual blocks, so that the model gets shallower and faster in every runtime.
///
/// A block is a region between a value and an addition to it: a bottleneck of a ResNet or MobileNet, an attention or a feed-forward
/// part of a transformer. Without it the sum is the value, and what was computed for it goes. Blocks that change the shape, with a
/// projection beside them, stay. The blocks without which the features of the model change least go, one after the other, each judged
/// in the model that the ones before left. A step `finetune` with the loss `features` then recovers accuracy. Every result is compared
/// with the model in which the same blocks add zero; a difference is an error and nothing is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PruneBlocks {
    /// Blocks that go.
    pub count: Option<u32>,
    /// Multiply-accumulates that may remain, as a share of the model's: as many blocks go as that takes.
    pub target_macs: Option<f64>,
    /// The blocks that go: patterns over the names of their last values and of the nodes that add them. No data are needed then.
    pub blocks: Vec<String>,
    /// How blocks are ranked. With `target-macs` it counts per multiply-accumulate that goes.
    pub criterion: BlockCriterion,
    /// Samples that rank.
    pub samples: u64,
    /// Blocks to leave alone: patterns over the names of their nodes and values.
    pub keep: Vec<String>,
    /// The values that are compared, as in `finetune`: by default what the last layers before the outputs read.
    pub features: Vec<String>,
    /// The training of the criterion `recoverability`.
    pub recover: Recover,
    /// The role of the data; they need no labels.
    pub data: String,
}

impl Default for PruneBlocks {
    fn default() -> Self {
        Self {
            count: None,
            target_macs: None,
            blocks: Vec::new(),
            criterion: BlockCriterion::default(),
            samples: 64,
            keep: Vec::new(),
            features: Vec::new(),
            recover: Recover::default(),
            data: "calibration".to_owned(),
        }
    }
}

/// What a block is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockCriterion {
    /// How much the features change without it: the mean squared difference, relative to their own square.
    #[default]
    Features,
    /// How much they still differ after a short training that makes up for it (recoverability, Wang and Wu 2023).
    Recoverability,
}
