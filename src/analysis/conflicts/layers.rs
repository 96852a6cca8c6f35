//! Layers: convolutions, pooling, normalization, recurrent layers.

use super::super::call::{Call, axis};
use super::super::shapes::Window;
use super::elementwise::broadcast_to;
use super::{Family, apart, bad_axis, fixed, shown};
use crate::ir::Dim;

pub(super) const CHECKS: Family = &[
    ("AveragePool", pool),
    ("BatchNormalization", |call| channels(call, 1..5)),
    ("Conv", |call| conv(call, 1)),
    ("ConvInteger", |call| conv(call, 1)),
    ("ConvTranspose", transposed),
    ("GRU", |call| recurrent(call, 3)),
    ("GroupNormalization", group_norm),
    ("InstanceNormalization", |call| channels(call, 1..3)),
    ("LSTM", |call| recurrent(call, 4)),
    ("LayerNormalization", layer_norm),
    ("LpPool", pool),
    ("MaxPool", pool),
    ("QLinearConv", |call| conv(call, 3)),
    ("RMSNormalization", layer_norm),
    ("RNN", |call| recurrent(call, 1)),
];

fn conv(call: &Call<'_>, weights: usize) -> Option<String> {
    let (input, kernel) = (call.shape(0)?, call.shape(weights)?);
    let both = || format!("input {} and weights {}", shown(input), shown(kernel));
    if input.len() != kernel.len() || input.len() < 3 {
        return Some(format!("{} have other ranks than a convolution", both()));
    }
    let group = call.int_or("group", 1).max(1);
    if let (Some(channels), Some(each)) = (fixed(input.get(1)?), fixed(kernel.get(1)?))
        && each.checked_mul(group) != Some(channels)
    {
        return Some(format!(
            "{} do not fit: {channels} channels, the weights take {group} x {each}",
            both()
        ));
    }
    let outputs = kernel.first()?;
    if fixed(outputs).is_some_and(|outputs| outputs % group != 0) {
        return Some(format!(
            "{outputs} output channels do not divide into {group} groups"
        ));
    }
    if weights == 1 && call.operator.is("Conv") && call.has(2) && apart(&call.dim(2, 0), outputs) {
        return Some(format!("{} biases for {outputs} output channels", call.dim(2, 0)));
    }
    window(call, kernel.iter().skip(2).cloned().collect())
}

/// Why no position of the kernel lies in the padded input.
fn window(call: &Call<'_>, kernel: Vec<Dim>) -> Option<String> {
    let input = call.shape(0)?;
    if kernel.len() + 2 != input.len() || call.int_or("ceil_mode", 0) != 0 {
        return None;
    }
    let window = Window::new(call, kernel);
    if window.is_same() {
        return None;
    }
    for (axis, dim) in input.iter().skip(2).enumerate() {
        let (before, after) = window.pads(axis);
        let room = fixed(dim)?.checked_add(before)?.checked_add(after)?;
        let extent = window.extent(axis).fixed()?;
        if extent > room || extent < 1 {
            return Some(format!(
                "the kernel spans {extent} along axis {} of {}, which has {room} with its padding",
                axis + 2,
                shown(input)
            ));
        }
    }
    None
}

fn transposed(call: &Call<'_>) -> Option<String> {
    let (input, kernel) = (call.shape(0)?, call.shape(1)?);
    let both = || format!("input {} and weights {}", shown(input), shown(kernel));
    if input.len() != kernel.len() || input.len() < 3 {
        return Some(format!("{} have other ranks than a convolution", both()));
    }
    if apart(input.get(1)?, kernel.first()?) {
        return Some(format!(
            "{} do not fit: {} channels, the weights take {}",
            both(),
            input.get(1)?,
            kernel.first()?
        ));
    }
    let outputs = fixed(kernel.get(1)?)?.checked_mul(call.int_or("group", 1).max(1))?;
    (call.has(2) && apart(&call.dim(2, 0), &Dim::Fixed(outputs)))
        .then(|| format!("{} biases for {outputs} output channels", call.dim(2, 0)))
}

fn pool(call: &Call<'_>) -> Option<String> {
    let kernel = call.ints("kernel_shape")?;
    let input = call.shape(0)?;
    if kernel.len() + 2 != input.len() {
        return Some(format!("a kernel of {} axes on {}", kernel.len(), shown(input)));
    }
    window(call, kernel.iter().copied().map(Dim::Fixed).collect())
}

/// Vectors with one element a channel.
fn channels(call: &Call<'_>, inputs: std::ops::Range<usize>) -> Option<String> {
    let input = call.shape(0)?;
    // Statistics for each element in opsets before 9 are no vectors.
    if call.int("spatial") == Some(0) || input.len() < 2 {
        return None;
    }
    let channels = input.get(1)?;
    inputs
        .filter(|at| call.rank(*at) == Some(1) && apart(&call.dim(*at, 0), channels))
        .map(|at| {
            format!(
                "input {at} has {} elements for {channels} channels",
                call.dim(at, 0)
            )
        })
        .next()
}

fn group_norm(call: &Call<'_>) -> Option<String> {
    let (channels, groups) = (fixed(&call.dim(0, 1))?, call.int("num_groups")?);
    (groups < 1 || channels % groups != 0)
        .then(|| format!("{channels} channels do not divide into {groups} groups"))
}

fn layer_norm(call: &Call<'_>) -> Option<String> {
    let input = call.shape(0)?;
    let given = call.int_or("axis", -1);
    if let Some(reason) = bad_axis(given, input.len(), 0) {
        return Some(reason);
    }
    // Scale and bias may have leading axes of the input too.
    axis(given, input.len())?;
    [1, 2]
        .into_iter()
        .filter_map(|at| call.shape(at))
        .find_map(|shape| broadcast_to(shape, input))
}

/// Weights `[directions, gates * hidden, inputs]` and `[directions, gates * hidden, hidden]`.
fn recurrent(call: &Call<'_>, gates: i64) -> Option<String> {
    let (width, rows) = (call.dim(0, 2), call.dim(1, 1));
    if apart(&width, &call.dim(1, 2)) {
        return Some(format!(
            "input {} and weights {} do not fit: {width} features, the weights take {}",
            shown(call.shape(0)?),
            shown(call.shape(1)?),
            call.dim(1, 2)
        ));
    }
    let hidden = call.dim(2, 2);
    if let Some(size) = call.int("hidden_size")
        && apart(&Dim::Fixed(size), &hidden)
    {
        let weights = call.shape(2).map_or_else(String::new, |shape| shown(shape));
        return Some(format!(
            "hidden_size {size} and the recurrent weights {weights} do not fit"
        ));
    }
    let wanted = hidden.mul(&Dim::Fixed(gates));
    (apart(&rows, &wanted) || apart(&call.dim(2, 1), &wanted)).then(|| {
        format!(
            "weights {} and {} do not fit: {gates} gates of {hidden} are {wanted}",
            call.shape(1).map_or_else(String::new, |shape| shown(shape)),
            call.shape(2).map_or_else(String::new, |shape| shown(shape))
        )
    })
}
