//! RNN, GRU and LSTM.

use super::super::call::{Call, Facts, Rule};
use crate::ir::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[("GRU", recurrent), ("LSTM", recurrent), ("RNN", recurrent)];

/// X `[T, N, I]`, R `[directions, gates * H, H]`; with `layout` 1 the batch comes first.
fn recurrent(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let batch_first = call.int_or("layout", 0) != 0;
    let (steps, batch) = if batch_first {
        (call.dim(0, 1), call.dim(0, 0))
    } else {
        (call.dim(0, 0), call.dim(0, 1))
    };
    let directions = match call.operator.string("direction") {
        Some("bidirectional") => Dim::Fixed(2),
        _ => Dim::Fixed(1),
    };
    let hidden = call.int("hidden_size").map_or_else(|| call.dim(2, 2), Dim::Fixed);
    if batch_first {
        facts.shape(0, [batch.clone(), steps, directions.clone(), hidden.clone()]);
    } else {
        facts.shape(0, [steps, directions.clone(), batch.clone(), hidden.clone()]);
    }
    for output in [1, 2] {
        let state = if batch_first {
            [batch.clone(), directions.clone()]
        } else {
            [directions.clone(), batch.clone()]
        };
        facts.shape(output, state.into_iter().chain([hidden.clone()]));
    }
    Some(())
}
