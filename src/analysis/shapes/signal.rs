//! Fourier transforms and windows.

use super::super::call::{Call, Facts, Rule, axis};
use crate::ir::{DType, Dim};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BlackmanWindow", window),
    ("DFT", dft),
    ("HammingWindow", window),
    ("HannWindow", window),
    ("MelWeightMatrix", mel),
    ("STFT", stft),
];

fn output_dtype(call: &Call<'_>, name: &str) -> Option<DType> {
    i32::try_from(call.int_or(name, 1))
        .ok()
        .and_then(DType::from_onnx)
}

fn window(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, output_dtype(call, "output_datatype"));
    facts.shape(0, [call.single(0).unwrap_or(Dim::Unknown)]);
    Some(())
}

/// `[..., L, 1 or 2]`; one-sided transforms keep the first half of the axis, their inverse makes it whole and real.
fn dft(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let mut shape = call.shape(0)?.clone();
    let last = shape.len().checked_sub(1)?;
    let at = if call.version < 20 {
        axis(call.int_or("axis", 1), shape.len())?
    } else if call.has(2) {
        match call.single(2).and_then(|at| axis(at.fixed()?, shape.len())) {
            Some(at) => at,
            None => {
                facts.shape(0, vec![Dim::Unknown; shape.len()]);
                return None;
            }
        }
    } else {
        last.checked_sub(1)?
    };
    let (inverse, onesided) = (call.int_or("inverse", 0) != 0, call.int_or("onesided", 0) != 0);
    let slot = shape.get_mut(at)?;
    let length = if call.has(1) {
        call.single(1).unwrap_or(Dim::Unknown)
    } else {
        slot.clone()
    };
    *slot = match (inverse, onesided) {
        (false, true) => length.floor_div(&Dim::Fixed(2)).add(&Dim::Fixed(1)),
        // From half a spectrum back: 2 (L - 1), unless the length is given.
        (true, true) if !call.has(1) => slot.sub(&Dim::Fixed(1)).mul(&Dim::Fixed(2)),
        _ => length,
    };
    *shape.get_mut(last)? = Dim::Fixed(if inverse && onesided { 1 } else { 2 });
    facts.shape(0, shape);
    Some(())
}

/// `[N, L, 1 or 2]` to `[N, frames, bins, 2]`.
fn stft(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let length = if call.has(3) {
        call.single(3).unwrap_or(Dim::Unknown)
    } else if call.has(2) {
        call.dim(2, 0)
    } else {
        call.dim(0, 1)
    };
    let step = call.single(1).unwrap_or(Dim::Unknown);
    let frames = call.dim(0, 1).sub(&length).floor_div(&step).add(&Dim::Fixed(1));
    let bins = if call.int_or("onesided", 1) != 0 {
        length.floor_div(&Dim::Fixed(2)).add(&Dim::Fixed(1))
    } else {
        length
    };
    facts.shape(0, [call.dim(0, 0), frames, bins, Dim::Fixed(2)]);
    Some(())
}

/// `[spectrogram bins, mel bins]`.
fn mel(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, output_dtype(call, "output_datatype"));
    let bins = call
        .single(1)
        .unwrap_or(Dim::Unknown)
        .floor_div(&Dim::Fixed(2))
        .add(&Dim::Fixed(1));
    facts.shape(0, [bins, call.single(0).unwrap_or(Dim::Unknown)]);
    Some(())
}
