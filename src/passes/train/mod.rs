//! Passes that train a model on a loss or give it more to train, and the loss that passes of every wing judge by.

mod deepen;
mod finetune;
pub(super) mod growth;
mod objective;
mod widen;

pub use deepen::Deepen;
pub use finetune::{Finetune, Masks, TrainingLoss};
pub use objective::{LossKind, gradient_statistics};
pub use widen::{Shares, Widen};
