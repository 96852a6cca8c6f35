//! Adapters for operators on images.

use super::arguments::floats;
use super::obstacle::Obstacle;
use super::site::{Outcome, Site};
use crate::ir::Tensor;

/// Height and width factors became one factor for each axis.
pub(super) fn upsample_7(site: &mut Site<'_>) -> Outcome {
    let height = site.float("height_scale")?.ok_or_else(|| Obstacle::Absent {
        name: "height_scale".to_owned(),
    })?;
    let width = site.float("width_scale")?.ok_or_else(|| Obstacle::Absent {
        name: "width_scale".to_owned(),
    })?;
    site.strip("height_scale")?;
    site.strip("width_scale")?;
    site.set("scales", floats(vec![1.0, 1.0, height, width]))
}

/// `scales` became an input.
pub(super) fn upsample_9(site: &mut Site<'_>) -> Outcome {
    let scales = site.floats("scales")?.ok_or_else(|| Obstacle::Absent {
        name: "scales".to_owned(),
    })?;
    let tensor = Tensor::from_slice(&[scales.len() as u64], &scales)?;
    site.set_input(1, tensor)?;
    site.strip("scales")
}

/// Upsample became Resize, with the same inputs.
pub(super) fn upsample_10(site: &mut Site<'_>) -> Outcome {
    if site.attribute("mode")?.is_none() {
        site.set("mode", "nearest")?;
    }
    site.become_operator("Resize")
}

/// Coordinates were those of the input, scaled. The nearest pixel was the one before when enlarging and the one after when
/// shrinking, as ONNX Runtime computes version 10; the specification does not say.
pub(super) fn resize_11(site: &mut Site<'_>) -> Outcome {
    site.set("coordinate_transformation_mode", "asymmetric")?;
    if site.text("mode")?.as_deref().unwrap_or("nearest") == "nearest" {
        let scales = site
            .constant(1)
            .ok_or("its scales are no constant, so which pixel is the nearest is not known")?;
        let scales = scales.to_f64()?;
        let rounding = if scales.iter().all(|scale| *scale >= 1.0) {
            "floor"
        } else if scales.iter().all(|scale| *scale <= 1.0) {
            "ceil"
        } else {
            return Err("it enlarges one axis and shrinks another, which takes two ways of rounding".into());
        };
        site.set("nearest_mode", rounding)?;
    }
    let dtype = site.dtype(0)?;
    let roi = Tensor::from_raw(
        if dtype.is_float() {
            dtype
        } else {
            crate::ir::DType::F32
        },
        [0],
        Vec::new(),
    );
    site.move_input(1, 2)?;
    site.set_input(1, roi?)
}

/// One coordinate transformation went away, and scales beside sizes: they were there, if only empty.
pub(super) fn resize_13(site: &mut Site<'_>) -> Outcome {
    if site.has_input(3) && site.has_input(2) {
        match site.input_type(2).fixed_shape().as_deref() {
            Some([0]) => site.clear_input(2)?,
            _ => {
                return Err("it has sizes, and scales that may have elements too".into());
            }
        }
    }
    match site.text("coordinate_transformation_mode")?.as_deref() {
        Some("tf_half_pixel_for_nn") => {
            Err("its coordinate transformation tf_half_pixel_for_nn is gone".into())
        }
        _ => Ok(()),
    }
}

/// The modes got other names.
pub(super) fn grid_sample_20(site: &mut Site<'_>) -> Outcome {
    match site.text("mode")?.as_deref() {
        Some("bilinear") => site.set("mode", "linear"),
        Some("bicubic") => site.set("mode", "cubic"),
        _ => Ok(()),
    }
}

/// Coordinates were not shifted by half a pixel before there was a choice.
pub(super) fn roi_align_16(site: &mut Site<'_>) -> Outcome {
    site.set("coordinate_transformation_mode", "output_half_pixel")
}
