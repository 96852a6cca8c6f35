//! `zero-channels`

use crate::analysis::linear::{Family, readings};
use crate::ir::{DType, Tensor, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;
use crate::lint::weights::Held;

pub(super) const CHECK: Check = Check {
    code: "zero-channels",
    severity: Severity::Note,
    summary: "Output channels of a layer whose weights are all zero.",
    about: "What weight decay or pruning by masks leaves: the channel puts out its bias, whatever comes in, and costs as much as any other. \
            Tables of embeddings are left out; a row of zeros there is padding.",
    cure: Cure::advice(
        "`secateur prune channels` takes channels out of the graph and folds what is constant into the bias of the next layer; it asks how \
         many, so `--fix` does not run it",
    ),
    examples: &[
        Example::found(
            onnx!(17, "g (float[1, 2] x) => (float[1, 3] y) <float[2, 3] w = {1, 0, 2, 3, -0, 4}> { y = MatMul(x, w) }"),
            &["w"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[1, 2] x) => (float[1, 3] y) <float[2, 3] w = {1, 0, 2, 3, 1, 4}> { y = MatMul(x, w) }"
        )),
        // A row is an input, not an output.
        Example::silent(onnx!(
            17,
            "g (float[1, 2] x) => (float[1, 3] y) <float[2, 3] w = {0, 0, 0, 3, 1, 4}> { y = MatMul(x, w) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for weight in subject.weights.all.iter().filter(|weight| weight.held != Held::Default) {
        let Some(view) = subject.graphs.get(weight.graph) else {
            continue;
        };
        let floats = matches!(weight.tensor.dtype(), DType::F32 | DType::F16 | DType::BF16 | DType::F64);
        if !floats || weight.tensor.rank() < 2 || weight.scan.zero == 0 {
            continue;
        }
        let readings = readings(view.graph, ValueId::new(weight.id, 0));
        let Some(reading) = readings.weights.first().filter(|_| readings.others.is_empty()) else {
            continue;
        };
        let operand = reading.operand;
        // The channels of a grouped transposed convolution lie on two axes.
        let split = operand.family == Family::ConvTranspose && operand.groups > 1;
        let Some(axis) = operand.output_axis.filter(|_| operand.family != Family::Lookup && !split) else {
            continue;
        };
        let channels = weight.tensor.dims().get(axis).copied().unwrap_or(0);
        let each = weight.tensor.elements() / channels.max(1);
        // Fewer zeros than a channel has elements make no channel of zeros.
        if channels < 2 || weight.scan.zero < each {
            continue;
        }
        let dead = zero_channels(weight.tensor, axis);
        if dead > 0 {
            let reader = reading.graph(view.graph).map(|graph| graph.label(reading.node));
            let message = format!(
                "{dead} of {channels} output channels of {} are zero: {} of {} elements",
                reader.unwrap_or_default(),
                dead * each,
                weight.tensor.elements()
            );
            found.add(view.value(weight.name), message);
        }
    }
}

/// How many slices along an axis hold zeros alone.
fn zero_channels(tensor: &Tensor, axis: usize) -> u64 {
    let Ok(bytes) = tensor.raw() else { return 0 };
    let size = tensor.dtype().bits() / 8;
    let dims = tensor.dims();
    let product = |dims: &[u64]| dims.iter().product::<u64>() as usize;
    let inner = product(dims.get(axis + 1..).unwrap_or_default());
    let channels = dims.get(axis).copied().unwrap_or(0) as usize;
    let mut alive = vec![false; channels];
    // The runs of one channel within one outer index lie together.
    for (run, part) in bytes.chunks(size * inner.max(1)).enumerate() {
        let Some(alive) = alive.get_mut(run % channels.max(1)).filter(|alive| !**alive) else {
            continue;
        };
        // The sign is in the last byte; -0 counts as zero.
        *alive = part.chunks(size).any(|element| {
            element
                .split_last()
                .is_some_and(|(last, rest)| last & 0x7f != 0 || rest.iter().any(|byte| *byte != 0))
        });
    }
    alive.iter().filter(|alive| !**alive).count() as u64
}
