//! Training the parameters of a model further, on the gradient graph: [`optimizer`] moves parameters, [`teacher`]
//! answers what another model puts out, [`train`] runs the epochs.
//!
//! BatchNormalization stays in inference mode: its running means and variances are constants and are not trained. May use
//! gradients, data sets, engines and lowering; knows no pass.

mod optimizer;
mod teacher;
mod train;

pub use optimizer::Optimizer;
pub use teacher::Teacher;
pub use train::{Epoch, FinetuneError, Masks, Outcome, Training, finetune};
