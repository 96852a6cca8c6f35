//! Sweeps: many settings of a pipeline on several models, what to measure of each, and which of them no other beats.
//!
//! `definition` reads the file, `values` says what a variable may be, `search` which settings are tried, `record` keeps what was found
//! of a point in a file of its own, `front` compares points, `report` has the answer. Runs nothing: a point is run by the face.

mod definition;
mod front;
mod record;
mod report;
mod search;
mod values;

pub use definition::{Definition, Source};
pub use front::{Measure, front, layers};
pub use record::{FORMAT, Record, RecordError, Status, read as read_record};
pub use report::{PointResult, SweepReport};
pub use search::{Budget, Halving, Search, Setting, settings, survivors};
pub use values::{Axis, Range};
