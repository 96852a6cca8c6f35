//! Adapters for operators on images.

use super::super::obstacle::Obstacle;
use super::super::site::{Outcome, Site};
use crate::ir::{DType, Tensor};

/// The modes had other names, and images had two axes.
pub(super) fn grid_sample_20(site: &mut Site<'_>) -> Outcome {
    if site.rank(0)? != 4 {
        return Err("it samples from other than images".into());
    }
    match site.text("mode")?.as_deref().unwrap_or("linear") {
        "linear" => site.set("mode", "bilinear"),
        "cubic" => site.set("mode", "bicubic"),
        _ => Ok(()),
    }
}

/// Boxes were not shifted by half a pixel.
pub(super) fn roi_align_16(site: &mut Site<'_>) -> Outcome {
    match site.text("coordinate_transformation_mode")?.as_deref() {
        Some("output_half_pixel") => site.strip("coordinate_transformation_mode"),
        _ => Err("its boxes are shifted by half a pixel".into()),
    }
}

/// One coordinate transformation is new.
pub(super) fn resize_19(site: &mut Site<'_>) -> Outcome {
    match site.text("coordinate_transformation_mode")?.as_deref() {
        Some("half_pixel_symmetric") => {
            Err("its coordinate transformation half_pixel_symmetric is new".into())
        }
        _ => Ok(()),
    }
}

/// All axes had a scale or a size.
pub(super) fn resize_18(site: &mut Site<'_>) -> Outcome {
    let Some(axes) = site.ints("axes")? else {
        return Ok(());
    };
    let rank = site.rank(0)?;
    let places: Vec<usize> = axes
        .iter()
        .map(|axis| if *axis < 0 { axis + rank as i64 } else { *axis })
        .map(|axis| usize::try_from(axis).ok().filter(|axis| *axis < rank))
        .collect::<Option<_>>()
        .ok_or("its axes are out of range")?;
    if site.text("coordinate_transformation_mode")?.as_deref() == Some("tf_crop_and_resize") {
        return Err("it crops along some axes".into());
    }
    site.clear_input(1)?;
    if site.has_input(3) {
        let sizes = site.numbers(3, "sizes")?;
        let mut all = site
            .input_type(0)
            .fixed_shape()
            .ok_or("it resizes some axes, and the sizes of the others are not known")?;
        for (place, size) in places.iter().zip(sizes) {
            if let Some(dim) = all.get_mut(*place) {
                *dim = size;
            }
        }
        site.set_input(3, Tensor::vector_i64(&all))?;
    } else {
        let scales = scales(site)?;
        let mut all = vec![1.0f32; rank];
        for (place, scale) in places.iter().zip(scales) {
            if let Some(dim) = all.get_mut(*place) {
                *dim = scale;
            }
        }
        site.set_input(2, vector(&all)?)?;
    }
    site.strip("axes")
}

fn vector(values: &[f32]) -> Result<Tensor, Obstacle> {
    Tensor::from_slice(&[values.len() as u64], values).map_err(Obstacle::from)
}

/// The constant scales of Resize.
fn scales(site: &Site<'_>) -> Result<Vec<f32>, Obstacle> {
    let scales = site.constant(2).ok_or("its scales are no constant")?;
    let scales = scales.to_f32()?;
    Ok(scales.into_owned())
}

/// `roi` and `scales` had to be there, if only empty.
pub(super) fn resize_13(site: &mut Site<'_>) -> Outcome {
    for slot in [1, 2] {
        if !site.has_input(slot) {
            site.set_input(slot, vector(&[])?)?;
        }
    }
    Ok(())
}

/// Coordinates were those of the input, scaled, and there were only scales. The nearest pixel was the one before when
/// enlarging and the one after when shrinking.
pub(super) fn resize_11(site: &mut Site<'_>) -> Outcome {
    if site.text("coordinate_transformation_mode")?.as_deref() != Some("asymmetric") {
        return Err("its coordinate transformation is not asymmetric".into());
    }
    let scales = if site.has_input(3) {
        let sizes = site.numbers(3, "sizes")?;
        let shape = site
            .input_type(0)
            .fixed_shape()
            .ok_or("it has sizes, and the scales do not follow from what is known")?;
        let whole = sizes
            .iter()
            .zip(&shape)
            .all(|(size, dim)| *dim > 0 && size % dim == 0);
        if !whole || sizes.len() != shape.len() {
            return Err("it has sizes that are no multiples of its input's".into());
        }
        sizes
            .iter()
            .zip(&shape)
            .map(|(size, dim)| (size / dim) as f32)
            .collect()
    } else {
        scales(site)?
    };
    match site.text("mode")?.as_deref().unwrap_or("nearest") {
        "nearest" => {
            let mode = site.text("nearest_mode")?;
            let fits = match mode.as_deref() {
                Some("floor") => scales.iter().all(|scale| *scale >= 1.0),
                Some("ceil") => scales.iter().all(|scale| *scale <= 1.0),
                _ => false,
            };
            if !fits {
                return Err("its way of rounding to the nearest pixel is new".into());
            }
        }
        "linear" => {}
        mode => return Err(format!("its mode, {mode}, is new").into()),
    }
    for name in [
        "coordinate_transformation_mode",
        "nearest_mode",
        "cubic_coeff_a",
        "exclude_outside",
        "extrapolation_value",
    ] {
        site.strip(name)?;
    }
    site.clear_input(3)?;
    site.clear_input(2)?;
    site.set_input(1, vector(&scales)?)
}

/// Upsample enlarges as Resize does.
pub(super) fn resize_10(site: &mut Site<'_>) -> Outcome {
    let scales = site.constant(1).ok_or("its scales are no constant")?;
    let scales = scales.to_f64()?;
    if scales.iter().any(|scale| *scale < 1.0) {
        return Err("it shrinks its input".into());
    }
    site.become_operator("Upsample")
}

/// `scales` was an attribute.
pub(super) fn upsample_9(site: &mut Site<'_>) -> Outcome {
    let scales = site.constant(1).ok_or("its scales are no constant")?;
    let scales = scales.to_f32()?.into_owned();
    site.clear_input(1)?;
    site.set("scales", scales)
}

/// Whether an element type is one of the floats that every version takes.
pub(super) fn is_plain_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::F32 | DType::F64)
}
