//! Adapters for attributes that went away, changed their kind, or became inputs.

use super::obstacle::Obstacle;
use super::site::{Outcome, Site};
use crate::ir::{AttributeValue, DType, Operator, Tensor};

/// `consumed_inputs` told executors about buffers.
pub(super) fn strip_consumed_inputs(site: &mut Site<'_>) -> Outcome {
    site.strip("consumed_inputs")
}

/// Whether Y is wanted is told by whether there is a Y.
pub(super) fn strip_output_sequence(site: &mut Site<'_>) -> Outcome {
    site.strip("output_sequence")
}

/// Legacy broadcasting lays the second operand along the axes of the first from `axis` on, or along the last ones; NumPy's
/// along the last ones.
pub(super) fn broadcast_7(site: &mut Site<'_>) -> Outcome {
    let broadcast = site.int("broadcast")?.unwrap_or(0) != 0;
    let axis = site.int("axis")?;
    if let (true, Some(axis)) = (broadcast, axis) {
        let (first, second) = (site.rank(0)?, site.rank(1)?);
        let start = usize::try_from(if axis < 0 { axis + first as i64 } else { axis })
            .map_err(|_| "its axis is negative")?;
        let trailing = first
            .checked_sub(start + second)
            .ok_or("its operands do not fit its axis")?;
        if trailing > 0 {
            let axes = (second..second + trailing)
                .map(|axis| axis as i64)
                .collect::<Vec<_>>();
            let operand = site.derive(Operator::new("Unsqueeze").with("axes", axes), 1, Vec::new())?;
            site.read(1, operand)?;
        }
    }
    site.strip("broadcast")?;
    site.strip("axis")
}

/// The slope of version 6 has one element, or one for each channel (axis 1).
pub(super) fn prelu_7(site: &mut Site<'_>) -> Outcome {
    let slope = site.input_type(1);
    let single = slope
        .fixed_shape()
        .is_some_and(|shape| shape.iter().product::<i64>() == 1);
    if single || site.rank(1)? != 1 {
        return Ok(());
    }
    let rank = site.rank(0)?;
    if rank > 2 {
        let axes = (1..rank as i64 - 1).collect::<Vec<_>>();
        let slope = site.derive(Operator::new("Unsqueeze").with("axes", axes), 1, Vec::new())?;
        site.read(1, slope)?;
    }
    Ok(())
}

/// C is broadcast from its last axes in any case.
pub(super) fn gemm_7(site: &mut Site<'_>) -> Outcome {
    site.strip("broadcast")
}

/// The target type was written by name.
pub(super) fn cast_6(site: &mut Site<'_>) -> Outcome {
    let Some(name) = site.text("to")? else {
        return Err("it has no target type".into());
    };
    let dtype = DType::from_name(&name.to_lowercase()).ok_or_else(|| format!("{name} is no element type"))?;
    site.set("to", i64::from(dtype.onnx()))
}

/// The default axis was 1, then there was none.
pub(super) fn concat_4(site: &mut Site<'_>) -> Outcome {
    if site.attribute("axis")?.is_none() {
        site.set("axis", 1)?;
    }
    Ok(())
}

/// `p` was a float.
pub(super) fn lp_pool_2(site: &mut Site<'_>) -> Outcome {
    let Some(p) = site.float("p")? else { return Ok(()) };
    if p.fract() != 0.0 || !(1.0..=1024.0).contains(&p) {
        return Err(format!("its p, {p}, is no integer").into());
    }
    site.set("p", p as i64)
}

/// The defaults gained digits.
pub(super) fn selu_6(site: &mut Site<'_>) -> Outcome {
    for (name, default) in [("alpha", 1.6732f32), ("gamma", 1.0507)] {
        if site.attribute(name)?.is_none() {
            site.set(name, default)?;
        }
    }
    strip_consumed_inputs(site)
}

/// `axes` became the second input.
pub(super) fn axes_to_input(site: &mut Site<'_>) -> Outcome {
    if let Some(axes) = site.ints("axes")?.filter(|axes| !axes.is_empty()) {
        site.set_input(1, Tensor::vector_i64(&axes))?;
    }
    site.strip("axes")
}

/// The bounds became inputs. A bound that is left out was the largest `float`, so infinities were cut down to that.
pub(super) fn clip_11(site: &mut Site<'_>) -> Outcome {
    let dtype = site.dtype(0)?;
    for (slot, name, default) in [(1, "min", f32::MIN), (2, "max", f32::MAX)] {
        let bound = site.float(name)?.unwrap_or(default);
        let tensor = Tensor::from_f64(dtype, &[], &[f64::from(bound)])?;
        // Half precision has no such number: there the default bound is infinite, hence none.
        if tensor.single_f64().is_some_and(f64::is_finite) {
            site.set_input(slot, tensor)?;
        }
        site.strip(name)?;
    }
    Ok(())
}

/// `ratio` became an input; it has no effect in inference.
pub(super) fn dropout_12(site: &mut Site<'_>) -> Outcome {
    if let Some(ratio) = site.float("ratio")? {
        site.set_input(1, Tensor::scalar(ratio))?;
    }
    site.strip("ratio")
}

/// `shape` became an input.
pub(super) fn reshape_5(site: &mut Site<'_>) -> Outcome {
    let shape = site.ints("shape")?.ok_or_else(|| Obstacle::Absent {
        name: "shape".to_owned(),
    })?;
    site.set_input(1, Tensor::vector_i64(&shape))?;
    site.strip("shape")?;
    strip_consumed_inputs(site)
}

/// `starts`, `ends` and `axes` became inputs.
pub(super) fn slice_10(site: &mut Site<'_>) -> Outcome {
    for (slot, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
        match site.ints(name)? {
            Some(values) => site.set_input(slot, Tensor::vector_i64(&values))?,
            None if slot == 3 => {}
            None => {
                return Err(Obstacle::Absent {
                    name: name.to_owned(),
                });
            }
        }
        site.strip(name)?;
    }
    Ok(())
}

/// `paddings` became `pads`.
pub(super) fn pad_2(site: &mut Site<'_>) -> Outcome {
    let pads = site.ints("paddings")?.ok_or_else(|| Obstacle::Absent {
        name: "paddings".to_owned(),
    })?;
    site.strip("paddings")?;
    site.set("pads", pads)
}

/// `pads` and `value` became inputs.
pub(super) fn pad_11(site: &mut Site<'_>) -> Outcome {
    let pads = site.ints("pads")?.ok_or_else(|| Obstacle::Absent {
        name: "pads".to_owned(),
    })?;
    site.set_input(1, Tensor::vector_i64(&pads))?;
    site.strip("pads")?;
    if let Some(value) = site.float("value")?.filter(|value| value.to_bits() != 0) {
        let dtype = site.dtype(0)?;
        let tensor = Tensor::from_f64(dtype, &[], &[f64::from(value)])?;
        site.set_input(2, tensor)?;
    }
    site.strip("value")
}

/// The sizes could be an input of version 1, and the axis had no default.
pub(super) fn split_2(site: &mut Site<'_>) -> Outcome {
    if site.has_input(1) {
        let sizes = site.constant(1).ok_or("its sizes are no constant")?;
        site.set("split", sizes.to_i64()?)?;
        site.truncate_inputs(1)?;
    }
    if site.attribute("axis")?.is_none() {
        site.set("axis", 0)?;
    }
    Ok(())
}

/// `split` became an input.
pub(super) fn split_13(site: &mut Site<'_>) -> Outcome {
    if let Some(sizes) = site.ints("split")? {
        site.set_input(1, Tensor::vector_i64(&sizes))?;
    }
    site.strip("split")
}

/// Without sizes the number of parts has to be said.
pub(super) fn split_18(site: &mut Site<'_>) -> Outcome {
    if site.has_input(1) {
        return Ok(());
    }
    site.set("num_outputs", site.outputs() as i64)
}

/// `tiles` along `axis` became one count for each axis.
pub(super) fn tile_6(site: &mut Site<'_>) -> Outcome {
    let single = |slot: usize, name: &str| {
        let value = site.constant(slot).and_then(|tensor| tensor.single_f64());
        value.ok_or_else(|| format!("its {name} is no constant"))
    };
    let (tiles, axis) = (single(1, "tiles")? as i64, single(2, "axis")? as usize);
    let mut repeats = vec![1i64; site.rank(0)?];
    *repeats.get_mut(axis).ok_or("its axis is out of range")? = tiles;
    site.truncate_inputs(2)?;
    site.set_input(1, Tensor::vector_i64(&repeats))
}

/// `k` became an input.
pub(super) fn top_k_10(site: &mut Site<'_>) -> Outcome {
    let k = site
        .int("k")?
        .ok_or_else(|| Obstacle::Absent { name: "k".to_owned() })?;
    site.set_input(1, Tensor::vector_i64(&[k]))?;
    site.strip("k")
}

/// `axis` became an input, and its default another one.
pub(super) fn dft_20(site: &mut Site<'_>) -> Outcome {
    let axis = site.int("axis")?.unwrap_or(1);
    site.set_input(2, Tensor::scalar(axis))?;
    site.strip("axis")
}

/// A float list as an attribute value.
pub(super) fn floats(values: Vec<f32>) -> AttributeValue {
    AttributeValue::Floats(values)
}
