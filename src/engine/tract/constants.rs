//! The constants of a program, held once.
//!
//! tract keeps weights in the order that its kernels read, so most of them are not needed as they were once a plan is
//! compiled. What no plan holds is copied again from the model when another plan is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tract_onnx::prelude::Tensor as TractTensor;

use super::tensor::to_tract;
use super::widened;
use crate::engine::EngineError;
use crate::format;
use crate::ir::{Tensor, TensorData};

/// Bytes from which on a constant is not kept for its own sake.
const LARGE: u64 = 1 << 16;

pub(super) struct Constants {
    all: Vec<Constant>,
    /// What keeps the constants until the first plan is compiled.
    fresh: Mutex<Vec<Arc<TractTensor>>>,
}

struct Constant {
    name: String,
    held: Held,
}

enum Held {
    Always(Arc<TractTensor>),
    /// The tensor of the model, and tract's copy while a plan has it.
    Again(Tensor, Mutex<Weak<TractTensor>>),
}

impl Constants {
    /// The constants of a program, those of the model among them by name.
    pub(super) fn new(constants: widened::Constants, model: &HashMap<String, Tensor>) -> Self {
        let mut fresh = Vec::new();
        let one = |(name, copy): (String, Arc<TractTensor>)| {
            let held = match model.get(&name).filter(|tensor| tensor.byte_len() >= LARGE) {
                Some(tensor) => {
                    let weak = Mutex::new(Arc::downgrade(&copy));
                    fresh.push(copy);
                    Held::Again(tensor.clone(), weak)
                }
                None => Held::Always(copy),
            };
            Constant { name, held }
        };
        Self {
            all: constants.into_iter().map(one).collect(),
            fresh: Mutex::new(fresh),
        }
    }

    /// The constants by name, for one plan; only the plan keeps them.
    pub(super) fn for_plan(&self) -> Result<Vec<(&str, Arc<TractTensor>)>, EngineError> {
        let _until_then = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        let one = |constant: &Constant| -> Result<Arc<TractTensor>, EngineError> {
            match &constant.held {
                Held::Always(copy) => Ok(copy.clone()),
                Held::Again(tensor, weak) => {
                    let mut weak = weak.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(copy) = weak.upgrade() {
                        return Ok(copy);
                    }
                    let copy = copy_of(tensor, &constant.name)?;
                    *weak = Arc::downgrade(&copy);
                    Ok(copy)
                }
            }
        };
        self.all
            .iter()
            .map(|constant| Ok((constant.name.as_str(), one(constant)?)))
            .collect()
    }
}

/// Copies a constant of the IR into tract and lets go of the pages of the file behind it.
pub(super) fn copy_of(tensor: &Tensor, name: &str) -> Result<Arc<TractTensor>, EngineError> {
    let copy = to_tract(tensor, name)?;
    if let TensorData::Raw(bytes) = tensor.data() {
        format::release(bytes);
    }
    Ok(Arc::new(copy))
}
