//! Adapters for operators that mean something else in the newer version.

use super::site::{Outcome, Site};
use crate::ir::{Operator, Tensor};

/// Softmax, LogSoftmax and Hardmax worked on the input flattened to a matrix at `axis` (1 by default); now along one axis.
pub(super) fn softmax_13(site: &mut Site<'_>) -> Outcome {
    let axis = site.int("axis")?.unwrap_or(1);
    let rank = site.rank(0).ok();
    if axis == -1 || rank.is_some_and(|rank| axis == rank as i64 - 1) {
        return site.set("axis", -1);
    }
    // Behind one axis alone Reshape copies a length of 0, which Shape gives, from its own place; [1, 0] has none in the first.
    let flat = match axis == 0 || rank.is_some_and(|rank| axis == -(rank as i64)) {
        true => site.derive(Operator::new("Reshape"), 0, vec![Tensor::vector_i64(&[-1])])?,
        false => site.derive(Operator::new("Flatten").with("axis", axis), 0, Vec::new())?,
    };
    let shape = site.derive(Operator::new("Shape"), 0, Vec::new())?;
    site.read(0, flat)?;
    site.set("axis", -1)?;
    site.append(Operator::new("Reshape"), shape)
}

/// Without `is_test` it was in training mode.
pub(super) fn batch_normalization_7(site: &mut Site<'_>) -> Outcome {
    if site.int("is_test")?.unwrap_or(0) == 0 {
        return Err("it is in training mode (is_test is 0)".into());
    }
    site.strip("is_test")
}

/// Statistics for each activation went away.
pub(super) fn batch_normalization_9(site: &mut Site<'_>) -> Outcome {
    if site.int("spatial")?.unwrap_or(1) == 0 {
        return Err("it normalises each activation by itself (spatial is 0)".into());
    }
    site.strip("spatial")
}

/// More than one output meant training mode, with other outputs than now.
pub(super) fn batch_normalization_14(site: &mut Site<'_>) -> Outcome {
    if site.has_output_from(1) {
        return Err("it is in training mode (it has more than one output)".into());
    }
    Ok(())
}

/// Without `is_test` it was in training mode.
pub(super) fn dropout_7(site: &mut Site<'_>) -> Outcome {
    if site.int("is_test")?.unwrap_or(0) == 0 {
        return Err("it is in training mode (is_test is 0)".into());
    }
    site.strip("is_test")
}

/// The mask became boolean.
pub(super) fn dropout_10(site: &mut Site<'_>) -> Outcome {
    if site.reads_output(1) {
        return Err("its mask is read, and has another type since".into());
    }
    Ok(())
}

/// The default direction was misspelt.
pub(super) fn gru_3(site: &mut Site<'_>) -> Outcome {
    if site.text("direction")?.as_deref() == Some("foward") {
        site.set("direction", "forward")?;
    }
    Ok(())
}

/// How odd padding is split, and what SAME means, was turned round.
pub(super) fn conv_transpose_11(site: &mut Site<'_>) -> Outcome {
    let automatic = site
        .text("auto_pad")?
        .is_some_and(|mode| mode.starts_with("SAME"));
    if automatic || site.attribute("output_shape")?.is_some() {
        return Err(
            "its padding follows from auto_pad or output_shape, and is split in another way since".into(),
        );
    }
    Ok(())
}

/// A negative index was off everywhere; now it counts from the end.
pub(super) fn one_hot_11(site: &mut Site<'_>) -> Outcome {
    let indices = site.constant(0).and_then(|tensor| tensor.to_f64().ok());
    let unsigned = site.dtype(0).is_ok_and(|dtype| dtype.is_unsigned_integer());
    if unsigned || indices.is_some_and(|indices| indices.iter().all(|index| *index >= 0.0)) {
        return Ok(());
    }
    Err("its indices may be negative, which means something else since".into())
}

/// Scale and bias were for each group; now for each channel.
pub(super) fn group_normalization_21(_site: &mut Site<'_>) -> Outcome {
    Err("its scale and bias are for each group, and for each channel since".into())
}

/// The batch axis and the sequence lengths went away.
pub(super) fn scan_9(_site: &mut Site<'_>) -> Outcome {
    Err("it scans a batch with its own lengths, which is gone since".into())
}

/// Got another name.
pub(super) fn scatter_11(site: &mut Site<'_>) -> Outcome {
    site.become_operator("ScatterElements")
}

/// Where queries and keys differ in number, versions of the specification do not agree on the causal mask.
pub(super) fn attention_24(site: &mut Site<'_>) -> Outcome {
    if site.int("is_causal")?.unwrap_or(0) != 0 && (site.has_input(4) || site.has_output_from(1)) {
        return Err("its causal mask depends on past keys".into());
    }
    Ok(())
}
