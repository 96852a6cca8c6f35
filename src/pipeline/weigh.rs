//! What a model amounts to: nodes, bytes, parameters, multiply-accumulates.

use super::gates::Weight;
use crate::analysis;
use crate::format::{Origin, ToProtoError};
use crate::ir::Model;
use crate::passes::file_bytes;

/// Weighs a model as it would be written. With `macs` also counts operations, which needs inferred shapes.
pub fn weigh(model: &Model, macs: bool) -> Result<Weight, ToProtoError> {
    Ok(weight(model, file_bytes(model)?, macs))
}

/// Weighs a model that is just as it was read.
pub fn weigh_input(model: &Model, origin: &Origin, macs: bool) -> Weight {
    weight(model, origin.bytes.len() as u64 + origin.external.bytes(), macs)
}

fn weight(model: &Model, bytes: u64, macs: bool) -> Weight {
    let inferred;
    let model = if macs {
        let mut copy = model.clone();
        analysis::infer(&mut copy);
        inferred = copy;
        &inferred
    } else {
        model
    };
    let cost = analysis::cost(model, &|_| None);
    Weight {
        nodes: cost.nodes,
        bytes,
        parameters: cost.parameters,
        macs: cost.macs.filter(|_| macs),
        opset: model.opset(),
    }
}
