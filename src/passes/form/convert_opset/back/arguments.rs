//! Adapters for inputs that were attributes, and for attributes that are new.

use super::super::obstacle::Obstacle;
use super::super::site::{Outcome, Site};
use crate::ir::{DType, Dim, Operator, Tensor};

/// A constant list of integers in an input slot becomes an attribute.
fn input_to_ints(site: &mut Site<'_>, slot: usize, name: &str) -> Outcome {
    if site.has_input(slot) {
        let values = site.numbers(slot, name)?;
        site.set(name, values)?;
        site.clear_input(slot)?;
    }
    Ok(())
}

/// `axes` of Squeeze and Unsqueeze.
pub(super) fn axes_input(site: &mut Site<'_>) -> Outcome {
    input_to_ints(site, 1, "axes")
}

/// `axes` of reductions; without axes and with `noop_with_empty_axes`, nothing is reduced.
pub(super) fn axes_to_attribute(site: &mut Site<'_>) -> Outcome {
    let axes = if site.has_input(1) {
        site.numbers(1, "axes")?
    } else {
        Vec::new()
    };
    let idle = site.int("noop_with_empty_axes")?.unwrap_or(0) != 0;
    site.strip("noop_with_empty_axes")?;
    site.clear_input(1)?;
    if !axes.is_empty() {
        return site.set("axes", axes);
    }
    if !idle {
        return Ok(());
    }
    match site.op_type().as_str() {
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" => {
            site.strip("keepdims")?;
            site.strip("axes")?;
            site.become_operator("Identity")
        }
        _ => Err("it works on each element alone (noop_with_empty_axes)".into()),
    }
}

/// Counts axes from the front, as versions before 11 do.
pub(super) fn axes_from_the_front(site: &mut Site<'_>) -> Outcome {
    let rank = |site: &Site<'_>, added: usize| site.rank(0).map(|rank| (rank + added) as i64);
    if let Some(axis) = site.int("axis")?.filter(|axis| *axis < 0) {
        let axis = axis + rank(site, 0)?;
        site.set("axis", axis)?;
    }
    if let Some(mut axes) = site
        .ints("axes")?
        .filter(|axes| axes.iter().any(|axis| *axis < 0))
    {
        let added = if site.op_type() == "Unsqueeze" {
            axes.len()
        } else {
            0
        };
        let rank = rank(site, added)?;
        for axis in axes.iter_mut().filter(|axis| **axis < 0) {
            *axis += rank;
        }
        site.set("axes", axes)?;
    }
    Ok(())
}

/// Older pools have no gaps in their windows.
pub(super) fn dilations(site: &mut Site<'_>) -> Outcome {
    match site.ints("dilations")? {
        Some(dilations) if dilations.iter().all(|step| *step == 1) => site.strip("dilations"),
        Some(_) => Err("its window has dilations".into()),
        None => Ok(()),
    }
}

/// Inference has to be said.
pub(super) fn set_is_test(site: &mut Site<'_>) -> Outcome {
    site.set("is_test", 1)
}

/// The target type was written by name.
pub(super) fn cast_6(site: &mut Site<'_>) -> Outcome {
    let to = site.int("to")?.ok_or("it has no target type")?;
    let dtype = i32::try_from(to)
        .ok()
        .and_then(DType::from_onnx)
        .ok_or("its target type does not exist")?;
    site.set("to", dtype.name().to_uppercase().as_str())
}

/// The bounds were attributes. One that was left out was the largest `float`, so it has to be said that there is none.
pub(super) fn clip_11(site: &mut Site<'_>) -> Outcome {
    for (slot, name, open) in [(1, "min", f32::NEG_INFINITY), (2, "max", f32::INFINITY)] {
        let bound = if site.has_input(slot) {
            let exact = site
                .constant(slot)
                .and_then(|tensor| tensor.single_f64())
                .ok_or_else(|| format!("its {name} is no constant"))?;
            let bound = exact as f32;
            if f64::from(bound) != exact {
                return Err(format!("its {name}, {exact}, is no number of the type float").into());
            }
            bound
        } else {
            open
        };
        site.set(name, bound)?;
    }
    site.clear_input(2)?;
    site.clear_input(1)
}

/// `axis` was an attribute.
pub(super) fn dft_20(site: &mut Site<'_>) -> Outcome {
    let axis = if site.has_input(2) {
        match site.numbers(2, "axis")?.as_slice() {
            [axis] => *axis,
            _ => return Err("its axis is no single number".into()),
        }
    } else {
        -2
    };
    site.clear_input(2)?;
    site.set("axis", axis)
}

/// Codes had one scale for the whole tensor.
pub(super) fn quantization_axis(site: &mut Site<'_>) -> Outcome {
    let scale = site.input_type(1);
    let single = scale
        .fixed_shape()
        .is_some_and(|shape| shape.iter().product::<i64>() == 1);
    if !single {
        return Err("it has a scale for each channel".into());
    }
    site.strip("axis")
}

/// Scales of blocks have more than one axis.
pub(super) fn quantization_blocks(site: &mut Site<'_>) -> Outcome {
    if site.int("block_size")?.unwrap_or(0) != 0 || site.rank(1).is_ok_and(|rank| rank > 1) {
        return Err("it has a scale for each block".into());
    }
    Ok(())
}

/// The type of the codes followed from the zero point alone.
pub(super) fn quantized_type(site: &mut Site<'_>) -> Outcome {
    let wanted = site.int("output_dtype")?.unwrap_or(0);
    let dtype = i32::try_from(wanted).ok().and_then(DType::from_onnx);
    match dtype {
        Some(dtype) if !site.has_input(2) && dtype != DType::U8 => {
            let shape: Vec<u64> = site
                .input_type(1)
                .fixed_shape()
                .and_then(|shape| shape.iter().map(|dim| u64::try_from(*dim).ok()).collect())
                .ok_or("the shape of its scale is not known")?;
            let count = shape.iter().product::<u64>() as usize;
            let zero = Tensor::from_f64(dtype, &shape, &vec![0.0; count])?;
            site.set_input(2, zero)?;
        }
        _ => {}
    }
    site.strip("output_dtype")
}

/// The type of the result was that of the scale.
pub(super) fn dequantized_type(site: &mut Site<'_>) -> Outcome {
    let wanted = site.int("output_dtype")?.unwrap_or(0);
    let dtype = i32::try_from(wanted).ok().and_then(DType::from_onnx);
    if dtype.is_some_and(|dtype| site.input_type(1).dtype() != Some(dtype)) {
        return Err("its result is of another type than its scale".into());
    }
    site.strip("output_dtype")
}

/// `ratio` was an attribute, and there was no training mode.
pub(super) fn dropout_12(site: &mut Site<'_>) -> Outcome {
    if site.has_input(2) {
        let training = site.constant(2).and_then(|tensor| tensor.single_i64());
        if training != Some(0) {
            return Err("it may be in training mode".into());
        }
        site.clear_input(2)?;
    }
    if site.has_input(1) {
        let ratio = site.constant(1).and_then(|tensor| tensor.single_f64());
        // Nothing is dropped in inference, whatever the ratio is.
        if let Some(ratio) = ratio {
            site.set("ratio", ratio as f32)?;
        }
        site.clear_input(1)?;
    }
    site.strip("seed")
}

/// Whether there is a sequence of outputs was told.
pub(super) fn output_sequence(site: &mut Site<'_>) -> Outcome {
    let sequence = site.has_output(0);
    site.set("output_sequence", i64::from(sequence))
}

/// C was broadcast only if that was said.
pub(super) fn broadcast_gemm(site: &mut Site<'_>) -> Outcome {
    site.set("broadcast", 1)
}

/// C had to be there.
pub(super) fn gemm_11(site: &mut Site<'_>) -> Outcome {
    if site.has_input(2) {
        return Ok(());
    }
    let dtype = site.dtype(0)?;
    let zero = Tensor::from_f64(dtype, &[], &[0.0])?;
    site.set_input(2, zero)
}

/// `p` was a float.
pub(super) fn lp_pool_2(site: &mut Site<'_>) -> Outcome {
    let p = site.int("p")?.unwrap_or(2);
    site.set("p", p as f32)
}

/// `pads` were `paddings`.
pub(super) fn pad_2(site: &mut Site<'_>) -> Outcome {
    let pads = site.ints("pads")?.ok_or_else(|| Obstacle::Absent {
        name: "pads".to_owned(),
    })?;
    site.strip("pads")?;
    site.set("paddings", pads)
}

/// `pads` and `value` were attributes.
pub(super) fn pad_11(site: &mut Site<'_>) -> Outcome {
    if site.has_input(2) {
        let value = site
            .constant(2)
            .and_then(|tensor| tensor.single_f64())
            .ok_or("its value is no constant")?;
        if f64::from(value as f32) != value {
            return Err(format!("its value, {value}, is no number of the type float").into());
        }
        site.set("value", value as f32)?;
        site.clear_input(2)?;
    }
    input_to_ints(site, 1, "pads")
}

/// All axes were padded.
pub(super) fn pad_18(site: &mut Site<'_>) -> Outcome {
    if !site.has_input(3) {
        return Ok(());
    }
    let (axes, pads) = (site.numbers(3, "axes")?, site.numbers(1, "pads")?);
    let rank = site.rank(0)?;
    if pads.len() != 2 * axes.len() {
        return Err("its pads do not fit its axes".into());
    }
    let mut all = vec![0i64; 2 * rank];
    for (index, axis) in axes.iter().enumerate() {
        let axis = if *axis < 0 { axis + rank as i64 } else { *axis };
        let axis = usize::try_from(axis)
            .ok()
            .filter(|axis| *axis < rank)
            .ok_or("its axes are out of range")?;
        for (from, to) in [(index, axis), (index + axes.len(), axis + rank)] {
            if let (Some(pad), Some(place)) = (pads.get(from), all.get_mut(to)) {
                *place = *pad;
            }
        }
    }
    site.set_input(1, Tensor::vector_i64(&all))?;
    site.clear_input(3)
}

/// There was no `wrap`.
pub(super) fn pad_19(site: &mut Site<'_>) -> Outcome {
    if site.text("mode")?.as_deref() == Some("wrap") {
        return Err("its mode, wrap, is new".into());
    }
    Ok(())
}

/// `shape` was an attribute.
pub(super) fn reshape_5(site: &mut Site<'_>) -> Outcome {
    input_to_ints(site, 1, "shape")
}

/// A 0 stood for the size of the input.
pub(super) fn reshape_14(site: &mut Site<'_>) -> Outcome {
    if site.int("allowzero")?.unwrap_or(0) != 0 {
        let shape = site.numbers(1, "shape")?;
        if shape.contains(&0) {
            return Err("its shape has a size of 0 (allowzero)".into());
        }
    }
    site.strip("allowzero")
}

/// All sizes were given.
pub(super) fn shape_15(site: &mut Site<'_>) -> Outcome {
    let (start, end) = (site.int("start")?.unwrap_or(0), site.int("end")?);
    site.strip("start")?;
    site.strip("end")?;
    if start == 0 && end.is_none() {
        return Ok(());
    }
    let bounds = vec![
        Tensor::vector_i64(&[start]),
        Tensor::vector_i64(&[end.unwrap_or(i64::MAX)]),
    ];
    site.append_with(Operator::new("Slice"), bounds)
}

/// `starts`, `ends` and `axes` were attributes, and there were no steps.
pub(super) fn slice_10(site: &mut Site<'_>) -> Outcome {
    if site.has_input(4) {
        if site.numbers(4, "steps")?.iter().any(|step| *step != 1) {
            return Err("it has steps".into());
        }
        site.clear_input(4)?;
    }
    for (slot, name) in [(3, "axes"), (2, "ends"), (1, "starts")] {
        input_to_ints(site, slot, name)?;
    }
    Ok(())
}

/// Axes were counted from the front.
pub(super) fn slice_11(site: &mut Site<'_>) -> Outcome {
    if !site.has_input(3) {
        return Ok(());
    }
    let mut axes = site.numbers(3, "axes")?;
    if axes.iter().all(|axis| *axis >= 0) {
        return Ok(());
    }
    let rank = site.rank(0)? as i64;
    for axis in axes.iter_mut().filter(|axis| **axis < 0) {
        *axis += rank;
    }
    site.set_input(3, Tensor::vector_i64(&axes))
}

/// `split` was an attribute.
pub(super) fn split_13(site: &mut Site<'_>) -> Outcome {
    input_to_ints(site, 1, "split")
}

/// Without sizes the parts were equal.
pub(super) fn split_18(site: &mut Site<'_>) -> Outcome {
    let parts = site.int("num_outputs")?;
    site.strip("num_outputs")?;
    if site.has_input(1) {
        return Ok(());
    }
    let parts = parts.unwrap_or(site.outputs() as i64);
    let rank = site.rank(0)? as i64;
    let axis = site.int("axis")?.unwrap_or(0);
    let axis = if axis < 0 { axis + rank } else { axis };
    let dim = usize::try_from(axis)
        .ok()
        .and_then(|axis| site.input_type(0).shape()?.get(axis).cloned());
    match dim {
        Some(Dim::Fixed(size)) if parts > 0 && size % parts == 0 => Ok(()),
        Some(Dim::Fixed(size)) if parts > 0 => {
            let part = size / parts + 1;
            let sizes: Vec<i64> = (0..parts)
                .map(|index| part.min(size - index * part).max(0))
                .collect();
            site.set_input(1, Tensor::vector_i64(&sizes))
        }
        Some(dim) if parts > 0 && dim.exact_div(&Dim::Fixed(parts)).is_some() => Ok(()),
        _ => Err("it may split unevenly, as the size of its axis is not known".into()),
    }
}

/// `k` was an attribute.
pub(super) fn top_k_10(site: &mut Site<'_>) -> Outcome {
    match site.numbers(1, "k")?.as_slice() {
        [k] => site.set("k", *k)?,
        _ => return Err("its k is no single number".into()),
    }
    site.clear_input(1)
}

/// Results were sorted, which is allowed in any case.
pub(super) fn top_k_11(site: &mut Site<'_>) -> Outcome {
    site.strip("sorted")
}
