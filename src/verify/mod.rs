//! Whether two models compute the same: inputs made from the model itself or given, both models run by one engine, outputs
//! compared with figures and a verdict, the first node that differs, and each node alone (`nodes`).
//!
//! May use engines, lowering, analysis, the operator table and the IR; knows no pass and no pipeline.

mod batch;
mod bisect;
mod bounds;
mod cover;
mod demanded;
mod draw;
mod encode;
mod explain;
mod further;
mod interface;
mod judge;
mod kind;
mod landmarks;
mod localize;
mod nodes;
mod overrides;
mod random;
mod report;
mod session;
mod settle;
mod sizes;
mod synthesize;
mod tally;
mod uses;
mod watch;

pub use crate::engine::compare::{Comparison, OutputFigures, Part, Tolerances, Verdict, compare};
pub use batch::{BatchFailure, BatchTest};
pub use bisect::smallest_breaking;
pub use bounds::Bounds;
pub use interface::{Names, Unpaired, interface_difference};
pub use judge::{verify, watched};
pub use kind::SampleKind;
pub use localize::{Divergence, localize};
pub use nodes::{
    Agreement, Engines, NodeAgreement, NodeError, NodeErrors, NodeOptions, NodeReport, node_errors,
    verify_nodes,
};
pub use report::{NotChecked, VerifyOptions, VerifyReport};
pub use sizes::{Sizes, unknown_size};
pub use synthesize::SynthesisError;
pub use watch::Watch;
