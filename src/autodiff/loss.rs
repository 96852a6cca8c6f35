//! Losses: the scalar and its derivative with respect to the output, in closed form.

use super::AutodiffError;
use super::emit::{Emitter, Var};
use super::forward::Forward;
use super::layout::axis_of;
use super::options::{InputIs, Loss};
use crate::ir::{DType, Dim, Operator, Shape, ValueId};

/// A loss on the forward pass.
pub(super) struct Seeded<'e> {
    /// The scalar.
    pub(super) loss: Var<'e>,
    /// The value that the derivative is taken by: the output, or what Softmax or Sigmoid at the end reads.
    pub(super) at: ValueId,
    /// The derivative of the loss with respect to it.
    pub(super) gradient: Var<'e>,
}

/// Emits the loss.
pub(super) fn emit<'e>(
    emitter: &'e Emitter,
    loss: &Loss,
    forward: &Forward<'e>,
) -> Result<Seeded<'e>, AutodiffError> {
    let output = &forward.output;
    if !output.dtype.is_float() {
        return Err(AutodiffError::not_float(&forward.output_name, Some(output.dtype)));
    }
    let refused = |reason: &str| AutodiffError::Loss {
        loss: loss.name(),
        output: forward.output_name.to_string(),
        reason: reason.to_owned(),
    };
    let targets = |shape: &Shape| emitter.input(loss.input_name(), output.dtype, shape.clone());
    let seeded = match *loss {
        Loss::MeanSquaredError => {
            let error = output - targets(&output.shape);
            let count = emitter.count(output.dtype, &output.shape);
            Seeded {
                loss: everything(&error.square(), &count),
                at: output.id,
                gradient: error * 2.0 / count,
            }
        }
        Loss::InnerProduct => {
            let targets = targets(&output.shape);
            let one = emitter.scalar(output.dtype, 1.0);
            Seeded {
                loss: everything(&(output * &targets), &one),
                at: output.id,
                gradient: targets,
            }
        }
        Loss::BinaryCrossEntropy { input } => binary(emitter, output, input, || targets(&output.shape)),
        Loss::CrossEntropy { input, axis } => {
            let classes = Classes::of(emitter, output, input, axis, 1.0).map_err(refused)?;
            let one_hot = one_hot(emitter, loss, output, classes.axis)
                .ok_or_else(|| refused("the number of classes must be a number"))?;
            classes.against(emitter, &one_hot)
        }
        Loss::Distillation {
            input,
            axis,
            temperature,
        } => {
            if !(temperature > 0.0 && temperature.is_finite()) {
                return Err(refused("the temperature must be above 0"));
            }
            let classes = Classes::of(emitter, output, input, axis, temperature).map_err(refused)?;
            let teacher = targets(&output.shape);
            let teacher = if classes.probabilities {
                teacher.ln()
            } else {
                teacher
            };
            let log_t = log_softmax(&(teacher / temperature), classes.axis);
            let p = log_t.exp();
            let mut seeded = classes.against(emitter, &p);
            // Cross-entropy less the teacher's entropy is the divergence; an event of probability 0 adds nothing.
            let zero = p.number(0.0);
            let entropy = p.greater(&zero).choose(&(&p * log_t), &zero);
            let square = temperature * temperature;
            seeded.loss = (seeded.loss + everything(&entropy, &classes.positions(emitter))) * square;
            seeded.gradient = seeded.gradient * square;
            seeded
        }
    };
    match emitter.take_fault() {
        None => Ok(seeded),
        Some(fault) => Err(refused(&fault.reason())),
    }
}

/// Cross-entropy of independent probabilities.
fn binary<'e>(
    emitter: &'e Emitter,
    output: &Var<'e>,
    input: InputIs,
    targets: impl Fn() -> Var<'e>,
) -> Seeded<'e> {
    let count = emitter.count(output.dtype, &output.shape);
    let before = ending(emitter, output, &["Sigmoid"])
        .filter(|_| input != InputIs::Logits)
        .map(|end| end.0);
    if input == InputIs::Probabilities && before.is_none() {
        let (p, t) = (output, targets());
        let each = -(&t * p.ln() + (1.0 - &t) * (1.0 - p).ln());
        let gradient = (p - &t) / (p * &(1.0 - p)) / &count;
        return Seeded {
            loss: everything(&each, &count),
            at: p.id,
            gradient,
        };
    }
    let z = before.unwrap_or_else(|| output.clone());
    let t = targets();
    let each = z.max(&z.number(0.0)) - &z * &t + ((-z.abs()).exp() + 1.0).ln();
    Seeded {
        loss: everything(&each, &count),
        at: z.id,
        gradient: (z.sigmoid() - t) / count,
    }
}

/// The labels as one number a class; `None` where the number of classes is not fixed.
fn one_hot<'e>(emitter: &'e Emitter, loss: &Loss, output: &Var<'e>, axis: usize) -> Option<Var<'e>> {
    let label_shape = output
        .shape
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != axis)
        .map(|(_, dim)| dim.clone());
    let labels = emitter.input(loss.input_name(), DType::I64, label_shape.collect());
    let size = output.dim(axis).fixed()?;
    let mut range_shape = vec![1i64; output.rank()];
    if let Some(dim) = range_shape.get_mut(axis) {
        *dim = size;
    }
    let range = emitter
        .ints(&(0..size).collect::<Vec<_>>())
        .reshape(&super::emit::dims(&range_shape));
    let hit = labels
        .unsqueeze(&[axis])
        .equal(&range)
        .cast(output.dtype)
        .shaped_like(output);
    // A label that names no class divides by 0 here, on purpose.
    Some(&hit / hit.total(&[axis]))
}

/// The sum of all elements over a count, as a scalar.
fn everything<'e>(each: &Var<'e>, count: &Var<'e>) -> Var<'e> {
    let axes: Vec<usize> = (0..each.rank()).collect();
    each.total_dropped(&axes) / count
}

fn log_softmax<'e>(z: &Var<'e>, axis: usize) -> Var<'e> {
    let shifted = z - z.reduce("ReduceMax", &[axis]);
    &shifted - shifted.exp().total(&[axis]).ln()
}

/// What an output that ends in one of these operators reads before it, and that operator.
fn ending<'e>(emitter: &'e Emitter, output: &Var<'e>, operators: &[&str]) -> Option<(Var<'e>, Operator)> {
    let mut value = output.id;
    loop {
        let (operator, input) =
            emitter.read(|graph| Some((graph.operator(value.node)?.clone(), graph.input(value.node, 0)?)))?;
        if operators.iter().any(|name| operator.is(name)) {
            return Some((emitter.var(input)?.shaped_like(output), operator));
        }
        if !operator.is("Identity") {
            return None;
        }
        value = input;
    }
}

/// Scores over classes.
struct Classes<'e> {
    axis: usize,
    /// Whether the model's output holds probabilities.
    probabilities: bool,
    /// What the derivative is taken by.
    z: Var<'e>,
    /// Logarithms of the (softened) class probabilities.
    log_p: Var<'e>,
    /// Whether `z` are logits; else probabilities.
    logits: bool,
    temperature: f64,
}

impl<'e> Classes<'e> {
    fn of(
        emitter: &'e Emitter,
        output: &Var<'e>,
        input: InputIs,
        axis: Option<i64>,
        temperature: f64,
    ) -> Result<Self, &'static str> {
        let rank = output.rank();
        if rank == 0 {
            return Err("it is a scalar and has no class axis");
        }
        let end = match input {
            InputIs::Logits => None,
            _ => ending(emitter, output, &["Softmax", "LogSoftmax"]),
        };
        let normal = end
            .as_ref()
            .and_then(|(z, operator)| normalised_axis(emitter.opset, z, operator));
        let axis = match axis {
            Some(axis) => axis_of(axis, rank).ok_or("the class axis is out of range")?,
            None => normal.unwrap_or(if rank == 1 { 0 } else { 1 }),
        };
        if let Some((z, operator)) = end {
            if normal != Some(axis) {
                return Err("its Softmax does not run over the class axis");
            }
            let log_p = log_softmax(&(&z / temperature), axis);
            return Ok(Self {
                axis,
                probabilities: operator.is("Softmax"),
                z,
                log_p,
                logits: true,
                temperature,
            });
        }
        let z = output.clone();
        if input == InputIs::Probabilities {
            if temperature == 1.0 {
                return Ok(Self {
                    axis,
                    probabilities: true,
                    log_p: z.ln(),
                    z,
                    logits: false,
                    temperature,
                });
            }
            let log_p = log_softmax(&(z.ln() / temperature), axis);
            return Ok(Self {
                axis,
                probabilities: true,
                z,
                log_p,
                logits: false,
                temperature,
            });
        }
        let log_p = log_softmax(&(&z / temperature), axis);
        Ok(Self {
            axis,
            probabilities: false,
            z,
            log_p,
            logits: true,
            temperature,
        })
    }

    fn positions(&self, emitter: &'e Emitter) -> Var<'e> {
        let positions: Vec<Dim> = self
            .z
            .shape
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != self.axis)
            .map(|(_, dim)| dim.clone())
            .collect();
        emitter.count(self.z.dtype, &positions)
    }

    /// The mean over positions of the cross-entropy against class distributions `t`.
    fn against(&self, emitter: &'e Emitter, t: &Var<'e>) -> Seeded<'e> {
        let count = self.positions(emitter);
        let loss = -everything(&(t * &self.log_p), &count);
        let softened = |by: &Var<'e>| (self.log_p.exp() - by) / self.temperature;
        let gradient = match (self.logits, self.temperature == 1.0) {
            (true, true) => self.log_p.exp() - t,
            (true, false) => softened(t),
            (false, true) => -(t / &self.z),
            (false, false) => softened(t) / &self.z,
        };
        Seeded {
            loss,
            at: self.z.id,
            gradient: gradient / count,
        }
    }
}

/// The one axis that a Softmax normalises over; none for one that runs over several.
fn normalised_axis(opset: i64, z: &Var<'_>, operator: &Operator) -> Option<usize> {
    let axis = axis_of(
        operator.int("axis").unwrap_or(if opset < 13 { 1 } else { -1 }),
        z.rank(),
    )?;
    let rest = z.shape.get(axis + 1..)?;
    (opset >= 13 || rest.iter().all(|dim| *dim == Dim::Fixed(1))).then_some(axis)
}
