//! Convolutions and matrix products, with the batch normalisation behind them.

use super::{Adaptation, Adapted, Head, Place, Refusal, Rules, uniform, written};
use crate::ir::DType;
use crate::transfer::units::{Kind, Part, Role, Unit};

/// The weights of a unit in double precision, without layout and factors.
struct Linear {
    /// `[out, in / group, kernel...]`; of a transposed convolution `[in, out / group, kernel...]`.
    dims: Vec<u64>,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    norm: Option<Norm>,
}

/// y = (x - mean) / sqrt(variance + epsilon) * scale + offset, a number each an output channel.
struct Norm {
    scale: Vec<f64>,
    offset: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    epsilon: f64,
}

pub(super) fn adapt(source: &Unit, target: &Unit, place: Place, rules: &Rules) -> Result<Adapted, Refusal> {
    let mut adapted = Adapted::default();
    let mut linear = read(source)?;
    let dtype = source
        .part(Role::Weight)
        .map_or(DType::F32, |part| part.tensor.dtype());
    sizes(&mut linear, source, target, place, rules, &mut adapted)?;
    normalise(&mut linear, target, &mut adapted)?;
    if let (Some(own), Some(other)) = (source.part(Role::Weight), target.part(Role::Weight))
        && (own.layout != other.layout || own.tensor.rank() != other.tensor.rank())
    {
        adapted.note(Adaptation::Layout {
            from: own.tensor.dims().to_vec(),
            to: other.tensor.dims().to_vec(),
        });
    }
    for (at, part) in target.parts.iter().enumerate() {
        let values = match (part.role, &linear.norm) {
            (Role::Weight, _) => stored(&linear, part),
            (Role::Bias, _) => match &linear.bias {
                Some(bias) => bias.clone(),
                None => {
                    if !target.normalised() || source.normalised() {
                        adapted.note(Adaptation::ZeroBias);
                    }
                    vec![0.0; part.tensor.elements() as usize]
                }
            },
            (Role::Scale, Some(norm)) => norm.scale.clone(),
            (Role::Offset, Some(norm)) => norm.offset.clone(),
            (Role::Mean, Some(norm)) => norm.mean.clone(),
            (Role::Variance, Some(norm)) => norm.variance.clone(),
            (role, _) => return Err(Refusal::Missing(role)),
        };
        let factor = part.layout.factor;
        if factor == 0.0 {
            return Err(Refusal::Factor);
        }
        let values = match factor == 1.0 {
            true => values,
            false => values.into_iter().map(|value| value / factor).collect(),
        };
        let tensor = written(values, dtype, part, &mut adapted)?;
        adapted.tensors.push((at, tensor));
    }
    if let Some(bias) = linear.bias
        && target.part(Role::Bias).is_none()
        && bias.iter().any(|value| *value != 0.0)
    {
        if !matches!(target.operator.as_str(), "Conv" | "ConvTranspose" | "Gemm") {
            return Err(Refusal::NoPlaceForBias);
        }
        let to = target
            .part(Role::Weight)
            .map_or(dtype, |part| part.tensor.dtype());
        adapted.bias = Some(crate::ir::Tensor::from_f64(to, &[bias.len() as u64], &bias)?);
        adapted.note(Adaptation::AddedBias);
    }
    Ok(adapted)
}

/// The weights of a unit, with factors multiplied in.
fn read(unit: &Unit) -> Result<Linear, Refusal> {
    let part = unit.part(Role::Weight).ok_or(Refusal::Missing(Role::Weight))?;
    let numbers = |part: &Part| -> Result<Vec<f64>, Refusal> {
        let mut values = part.tensor.to_f64()?;
        if part.layout.factor != 1.0 {
            values.iter_mut().for_each(|value| *value *= part.layout.factor);
        }
        Ok(values)
    };
    let mut weight = numbers(part)?;
    if part.layout.transposed {
        let stored = part.tensor.dims();
        let rows = stored.first().copied().unwrap_or(0) as usize;
        let columns = stored.get(1).copied().unwrap_or(0) as usize;
        weight = transposed(&weight, rows, columns);
    }
    let optional = |role: Role| unit.part(role).map(numbers).transpose();
    let norm = match unit.epsilon {
        Some(epsilon) => {
            let needed = |role: Role| optional(role)?.ok_or(Refusal::Missing(role));
            Some(Norm {
                scale: needed(Role::Scale)?,
                offset: needed(Role::Offset)?,
                mean: needed(Role::Mean)?,
                variance: needed(Role::Variance)?,
                epsilon,
            })
        }
        None => None,
    };
    Ok(Linear {
        dims: unit.dims(),
        weight,
        bias: optional(Role::Bias)?,
        norm,
    })
}

/// The weights as a part stores them, but for the factor.
fn stored(linear: &Linear, part: &Part) -> Vec<f64> {
    match part.layout.transposed {
        true => {
            let stored = part.tensor.dims();
            let rows = stored.get(1).copied().unwrap_or(0) as usize;
            let columns = stored.first().copied().unwrap_or(0) as usize;
            transposed(&linear.weight, rows, columns)
        }
        false => linear.weight.clone(),
    }
}

/// A matrix of `rows` by `columns`, transposed.
fn transposed(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut result = Vec::with_capacity(values.len());
    for column in 0..columns {
        result.extend((0..rows).filter_map(|row| values.get(row * columns + column)));
    }
    result
}

/// Brings input channels and classes to the target's numbers, where that is what differs.
fn sizes(
    linear: &mut Linear,
    source: &Unit,
    target: &Unit,
    place: Place,
    rules: &Rules,
    adapted: &mut Adapted,
) -> Result<(), Refusal> {
    let to = target.dims();
    let shape = || Refusal::Shape {
        from: source.dims(),
        to: to.clone(),
    };
    let (outputs, inputs, kernel) = (linear.dims.first(), linear.dims.get(1), source.kernel());
    let (Some(outputs), Some(inputs)) = (outputs.copied(), inputs.copied()) else {
        return Err(shape());
    };
    let (Some(wanted_outputs), Some(wanted_inputs)) = (to.first().copied(), to.get(1).copied()) else {
        return Err(shape());
    };
    if kernel != target.kernel() {
        return Err(shape());
    }
    if source.group != target.group {
        return Err(Refusal::Groups {
            from: source.group,
            to: target.group,
        });
    }
    if (outputs, inputs) == (wanted_outputs, wanted_inputs) {
        return Ok(());
    }
    let place_size = kernel.iter().product::<u64>() as usize;
    let plain = source.kind == Kind::Linear && source.group == 1;
    if outputs == wanted_outputs && place.stem && plain && inputs > 0 {
        let (from, to) = (inputs as usize, wanted_inputs as usize);
        let mut weight = Vec::with_capacity(outputs as usize * to * place_size);
        for row in linear.weight.chunks(from * place_size) {
            let at =
                |channel: usize, place: usize| row.get(channel * place_size + place).copied().unwrap_or(0.0);
            if to == 1 {
                weight.extend(
                    (0..place_size).map(|place| (0..from).map(|channel| at(channel, place)).sum::<f64>()),
                );
                continue;
            }
            let factor = from as f64 / to as f64;
            for channel in 0..to {
                weight.extend((0..place_size).map(|place| at(channel % from, place) * factor));
            }
        }
        linear.weight = weight;
        adapted.note(Adaptation::InputChannels {
            from: inputs,
            to: wanted_inputs,
        });
        return Ok(());
    }
    if inputs == wanted_inputs && place.head && plain {
        return head(
            linear,
            outputs,
            wanted_outputs,
            inputs as usize * place_size,
            rules,
            adapted,
        );
    }
    Err(shape())
}

fn head(
    linear: &mut Linear,
    from: u64,
    to: u64,
    width: usize,
    rules: &Rules,
    adapted: &mut Adapted,
) -> Result<(), Refusal> {
    match rules.head {
        Head::Slice => {
            let (offset, end) = (rules.offset, rules.offset.saturating_add(to));
            if end > from {
                return Err(Refusal::Offset {
                    offset,
                    end,
                    classes: from,
                });
            }
            let range = offset as usize..end as usize;
            let rows = |values: &mut Vec<f64>, width: usize| {
                *values = values
                    .get(range.start * width..range.end * width)
                    .unwrap_or(&[])
                    .to_vec();
            };
            rows(&mut linear.weight, width);
            if let Some(bias) = &mut linear.bias {
                rows(bias, 1);
            }
            if let Some(norm) = &mut linear.norm {
                for values in [
                    &mut norm.scale,
                    &mut norm.offset,
                    &mut norm.mean,
                    &mut norm.variance,
                ] {
                    rows(values, 1);
                }
            }
            adapted.note(Adaptation::Sliced { offset, from, to });
        }
        Head::Initialise => {
            let bound = 1.0 / (width.max(1) as f64).sqrt();
            linear.weight = uniform(rules.seed, 0, bound, to as usize * width);
            linear.bias = linear
                .bias
                .as_ref()
                .map(|_| uniform(rules.seed, 1, bound, to as usize));
            linear.norm = None;
            adapted.initialised = true;
            adapted.note(Adaptation::Initialised { from, to });
        }
    }
    Ok(())
}

/// Folds the source's batch normalisation in or makes one for the target.
fn normalise(linear: &mut Linear, target: &Unit, adapted: &mut Adapted) -> Result<(), Refusal> {
    match (linear.norm.take(), target.epsilon) {
        (None, None) => {}
        (Some(mut norm), Some(epsilon)) => {
            if norm.epsilon != epsilon {
                norm.variance
                    .iter_mut()
                    .for_each(|value| *value += norm.epsilon - epsilon);
                norm.epsilon = epsilon;
                adapted.note(Adaptation::Epsilon);
            }
            linear.norm = Some(norm);
        }
        (Some(norm), None) => {
            let factors: Vec<f64> = norm
                .scale
                .iter()
                .zip(&norm.variance)
                .map(|(scale, variance)| scale / (variance + norm.epsilon).sqrt())
                .collect();
            scale_outputs(linear, target, &factors);
            let bias = linear.bias.take().unwrap_or_else(|| vec![0.0; factors.len()]);
            let each = bias.iter().zip(&norm.mean).zip(&factors).zip(&norm.offset);
            linear.bias = Some(
                each.map(|(((bias, mean), factor), offset)| (bias - mean) * factor + offset)
                    .collect(),
            );
            adapted.note(Adaptation::Folded);
        }
        (None, Some(epsilon)) => {
            let count = target.part(Role::Scale).map_or(0, |part| part.tensor.elements()) as usize;
            // Variance and epsilon make one, so that nothing is left to round.
            let (variance, scale) = match epsilon < 1.0 {
                true => (1.0 - epsilon, 1.0),
                false => (1.0, (1.0 + epsilon).sqrt()),
            };
            linear.norm = Some(Norm {
                scale: vec![scale; count],
                offset: linear.bias.take().unwrap_or_else(|| vec![0.0; count]),
                mean: vec![0.0; count],
                variance: vec![variance; count],
                epsilon,
            });
            adapted.note(Adaptation::Unfolded);
        }
    }
    Ok(())
}

/// Multiplies every output channel by its factor.
fn scale_outputs(linear: &mut Linear, unit: &Unit, factors: &[f64]) {
    let first = linear.dims.first().copied().unwrap_or(1).max(1);
    if unit.kind != Kind::Transposed {
        let width = (linear.weight.len() / factors.len().max(1)).max(1);
        for (row, factor) in linear.weight.chunks_mut(width).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        return;
    }
    // [in, out / group, kernel...]: the group of the input channel says which outputs the second axis counts.
    let per_group = linear.dims.get(1).copied().unwrap_or(1).max(1) as usize;
    let inputs = (first / unit.group).max(1) as usize;
    let place = linear.dims.iter().skip(2).product::<u64>().max(1) as usize;
    for (at, block) in linear.weight.chunks_mut(place).enumerate() {
        let group = at / per_group / inputs;
        if let Some(factor) = factors.get(group * per_group + at % per_group) {
            block.iter_mut().for_each(|value| *value *= factor);
        }
    }
}
