//! The pass `prune-channels`: [`score`] ranks the units that [`crate::axes`] found, [`choose`] says how many go where, the rewrite of
//! [`crate::axes`] removes them, [`oracle()`] compares the result with the masked original, and [`explain()`] and [`history`] say
//! what was done and why the rest stayed.

mod choose;
mod clock;
mod evidence;
mod explain;
mod history;
mod measured;
mod options;
mod oracle;
mod reconstruction;
mod refit;
mod run;
mod sample;
mod score;
mod unreached;

pub use choose::Start;
pub use evidence::{Evidence, Measured};
pub use explain::{Explained, MemberReport, explain};
pub use history::{History, HistoryError, HistoryGroup, HistoryMember};
pub use options::{AttentionUnits, Baseline, Criterion, Norm, PruneChannels, Recover, RefitOrder, Scope};
pub use oracle::{OracleReport, OracleVerdict, compare_cut, oracle};
pub use run::{ClassPlan, Pruned, plan, prune};
pub use unreached::Unreached;
