//! Training the parameters of a model further, on the gradient graph: [`parameters`] says which, [`optimizer`] moves them, [`teacher`]
//! answers what another model puts out, [`mimicry`] makes features of both models an output, [`feed`] runs samples, [`course`] does the
//! steps, [`train`] the epochs as [`training`] says, and [`checkpoint`] keeps what a run that is ended goes on from.
//!
//! BatchNormalization stays in inference mode: its running means and variances are constants and are not trained. May use
//! gradients, data sets, engines and lowering; knows no pass.

mod checkpoint;
mod course;
mod error;
mod feed;
mod mimicry;
mod optimizer;
mod parameters;
mod teacher;
mod train;
mod training;

pub use error::FinetuneError;
pub use mimicry::{FEATURES, distance};
pub use optimizer::Optimizer;
pub use teacher::Teacher;
pub use train::finetune;
pub use training::{Epoch, Masks, Mimic, Outcome, Training};
