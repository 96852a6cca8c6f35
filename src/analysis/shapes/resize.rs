//! Resize, Upsample and AffineGrid.

use super::super::call::{Call, Facts, Rule, axis};
use crate::ir::{Dim, Shape};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AffineGrid", affine_grid),
    ("Resize", resize),
    ("Upsample", upsample),
];

/// The size after scaling: floor(size * scale). A scale that is no integer needs a known size.
fn scaled(size: &Dim, scale: f64) -> Dim {
    if scale.fract() == 0.0 && (0.0..=1e9).contains(&scale) {
        return size.mul(&Dim::Fixed(scale as i64));
    }
    // 1 / n scales down by a whole number, as far as the scale's own rounding allows: only for sizes that are known.
    match size.fixed() {
        Some(size) if scale > 0.0 && scale.is_finite() => Dim::Fixed((size as f64 * scale).floor() as i64),
        _ => Dim::Unknown,
    }
}

/// The scales of an attribute or of a constant input.
fn scales(call: &Call<'_>, input: Option<usize>) -> Option<Vec<f64>> {
    if let Some(scales) = call.operator.floats("scales") {
        return Some(scales.iter().map(|scale| f64::from(*scale)).collect());
    }
    call.tensor(input?)?.to_f64().ok()
}

fn upsample(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let scales = scales(call, Some(1)).or_else(|| {
        // Opset 1: `[N, C, H, W]` with a scale each for height and width.
        let scale = |name: &str| call.operator.float(name).map(f64::from);
        Some(vec![1.0, 1.0, scale("height_scale")?, scale("width_scale")?])
    });
    let Some(scales) = scales.filter(|scales| scales.len() == shape.len()) else {
        facts.shape(0, vec![Dim::Unknown; shape.len()]);
        return None;
    };
    facts.shape(0, shape.iter().zip(scales).map(|(dim, scale)| scaled(dim, scale)));
    Some(())
}

fn resize(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    if call.version < 11 {
        return upsample(call, facts);
    }
    let shape = call.shape(0)?;
    // An empty tensor stands for an input that is left out.
    let given = |input: usize| call.has(input) && call.dim(input, 0) != Dim::Fixed(0);
    let axes: Vec<usize> = match call.ints("axes") {
        Some(axes) => axes
            .iter()
            .map(|at| axis(*at, shape.len()))
            .collect::<Option<_>>()?,
        None => (0..shape.len()).collect(),
    };
    let mut result: Shape = shape.clone();
    for at in &axes {
        *result.get_mut(*at)? = Dim::Unknown;
    }
    if given(3) {
        if let Some(sizes) = call.sizes(3) {
            resized_to(call, shape, &axes, &sizes.elements, &mut result);
        }
    } else if let Some(scales) = scales(call, Some(2)) {
        let crops = call.operator.string("coordinate_transformation_mode") == Some("tf_crop_and_resize");
        let regions = if crops {
            call.tensor(1).and_then(|roi| roi.to_f64().ok())
        } else {
            Some(Vec::new())
        };
        for (index, at) in axes.iter().enumerate() {
            let (Some(scale), Some(size), Some(regions)) = (scales.get(index), shape.get(*at), &regions)
            else {
                continue;
            };
            let kept = match (regions.get(index), regions.get(index + axes.len())) {
                (Some(start), Some(end)) => end - start,
                _ => 1.0,
            };
            *result.get_mut(*at)? = if kept == 1.0 {
                scaled(size, *scale)
            } else {
                scaled_part(size, kept, *scale)
            };
        }
    }
    facts.shape(0, result);
    Some(())
}

fn scaled_part(size: &Dim, kept: f64, scale: f64) -> Dim {
    match size.fixed() {
        Some(size) => Dim::Fixed((size as f64 * kept * scale).floor().max(0.0) as i64),
        None => Dim::Unknown,
    }
}

/// Sizes, stretched or as the policy about the aspect ratio has it.
fn resized_to(call: &Call<'_>, shape: &Shape, axes: &[usize], sizes: &[Dim], result: &mut Shape) {
    let policy = call
        .operator
        .string("keep_aspect_ratio_policy")
        .unwrap_or("stretch");
    let ratio = |index: usize, at: usize| -> Option<f64> {
        Some(sizes.get(index)?.fixed()? as f64 / shape.get(at)?.fixed()? as f64)
    };
    let ratios = axes.iter().enumerate().map(|(index, at)| ratio(index, *at));
    let common = match policy {
        "not_larger" => ratios.reduce(|a, b| Some(a?.min(b?))).flatten(),
        "not_smaller" => ratios.reduce(|a, b| Some(a?.max(b?))).flatten(),
        _ => None,
    };
    for (index, at) in axes.iter().enumerate() {
        let (Some(slot), Some(old)) = (result.get_mut(*at), shape.get(*at)) else {
            continue;
        };
        *slot = match (policy, common, old.fixed()) {
            ("stretch", ..) => sizes.get(index).cloned().unwrap_or(Dim::Unknown),
            (_, Some(common), Some(old)) => Dim::Fixed((common * old as f64 + 0.5).floor() as i64),
            _ => Dim::Unknown,
        };
    }
}

/// `[N, H, W, 2]` for sizes `[N, C, H, W]`, `[N, D, H, W, 3]` for `[N, C, D, H, W]`.
fn affine_grid(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let sizes = call.sizes(1)?;
    let (n, spatial) = (sizes.elements.first()?, sizes.elements.get(2..)?);
    facts.shape(
        0,
        [n.clone()]
            .into_iter()
            .chain(spatial.iter().cloned())
            .chain([Dim::Fixed(spatial.len() as i64)]),
    );
    Some(())
}
