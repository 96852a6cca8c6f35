//! Passes that turn floats into codes, and those that prepare for it.
//!
//! [`calibrated`] is `quantize`: weights and, with ranges from data, activations. [`weights`] leaves activations alone, [`cluster`]
//! lets weights share few values, [`dynamic`] has activations quantized while the model runs, [`precision`] searches what each layer can take. [`equalize`] and [`migrate`] move factors
//! between layers beforehand, [`correct_bias`] corrects means afterwards.

mod calibrated;
mod cluster;
mod compress;
mod correct_bias;
mod dynamic;
mod equalize;
mod gradient_source;
mod gram_statistics;
mod migrate;
mod plain_gemm;
mod precision;
mod weights;

pub use calibrated::{
    Heads, IntegerForm, LayerTypes, Profile, QuantizableLayer, Quantize, QuantizeStart, Saturation, Target,
    collect_statistics, operators as quantized_operators,
};
pub use cluster::{Cluster, ClusterForm, CodeType, LayerBits, Weighting};
pub use compress::{Compress, Importance};
pub use correct_bias::CorrectBias;
pub use dynamic::QuantizeDynamic;
pub use equalize::Equalize;
pub use gram_statistics::collect_gram_statistics;
pub(super) use gram_statistics::{GramSource, grams};
pub use migrate::{Awq, SmoothQuant};
pub use precision::{PrecisionRung, SearchPrecision, Sensitivity};
pub use weights::{BitsBy, Form, LayerPrecision, Precision, QuantizeWeights, Rounding, Widths};
