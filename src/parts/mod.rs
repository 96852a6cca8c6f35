//! Work that is cut into parts which several processes may do, on one machine or on many that share a folder.
//!
//! A part is a pure function of what its [`Work`] names: digests of the model and of the data, options, and which share of them it is.
//! Its [`Key`](Part::key) is a hash of all that and of the version, and the name of the file that its result is kept under, so a part
//! of anything else is never taken for it. A [`Ledger`] is the folder of the results with the tasks that are planned, and what of them
//! this process is to do. The code that cuts work into parts and joins them again is that of one process: [`Ledger::each`] stops it
//! where parts are missing, and it is run again when they are there.

mod error;
mod file;
mod ledger;
mod task;

pub use error::PartsError;
pub use file::{inside, kept};
pub use ledger::{Ledger, Own};
pub use task::{Part, Task, Work};
