//! The epochs.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::checkpoint::{Best, Checkpoint};
use super::course::{Course, Cut};
use super::error::FinetuneError;
use super::feed::Feed;
use super::mimicry::{FEATURES, Mimicry};
use super::parameters::{kept_elements, starting_values, store, trainable};
use super::teacher::{Teacher, Teaching};
use super::training::{Epoch, Outcome, Training};
use crate::analysis;
use crate::autodiff::{GradientOptions, Wrt, gradients};
use crate::data::Dataset;
use crate::engine::{CompileOptions, Engine, Session, hold};
use crate::ir::{Model, Tensor, model_digest};
use crate::lower;
use crate::statistics::target_type;

/// Multiply-accumulates of a step from which on it is split into halves that run in parallel: about 5 ms of work.
const SPLIT_MACS: u64 = 200_000_000;

/// Trains the float32 initializers of `model`, and changes nothing else.
///
/// Every step computes the mean loss over its batch, in one run, or in two halves whose gradients are added in order where a
/// step is expensive; a model that fixes its batch size runs several times a step, and samples that do not fill a run wait for
/// another epoch. The last batch of an epoch may be shorter. Only the batch is fed anew in a step: parameters stay in the
/// engine's memory.
pub fn finetune(
    model: &mut Model,
    data: &Dataset,
    engine: &dyn Engine,
    training: &Training<'_>,
    progress: &dyn Fn(u64, u64),
) -> Result<Outcome, FinetuneError> {
    let mimicry = mimicry(model, data, engine, training)?;
    let student = mimicry.as_ref().map_or(&*model, |both| &both.student);
    let names = trainable(student, training)?;
    let (mut step_model, loss_model) = gradient_models(student, training, &names)?;
    let compile = CompileOptions::side_by_side();
    let compiled = |model: &Model| engine.compile(&lower::for_engine(model, engine)?, &compile);
    let (step_session, loss_session) = (compiled(&step_model)?, compiled(&loss_model)?);
    let held = starting_values(student, &names, training.masks)?;
    let feed = feed(student, &step_model, data, engine, (training, mimicry.as_ref()))?;
    let mut order = samples(data, training);
    let split = (order.len() as f64 * training.validation.clamp(0.0, 0.9)) as usize;
    let validation: Vec<u64> = order.drain(..split).collect();
    let fixed = data.largest_selection();
    if order.is_empty() || fixed.is_some_and(|size| (order.len() as u64) < size) {
        return Err(FinetuneError::TooFew {
            samples: order.len() as u64,
        });
    }
    analysis::infer(&mut step_model);
    let batch = training.batch.max(fixed.unwrap_or(1)).max(1);
    let macs = analysis::cost(&step_model, &|_| Some(batch as i64))
        .macs
        .unwrap_or(0);
    let cut = Cut {
        batch,
        fixed,
        halves: fixed.is_none() && batch >= 2 && macs >= SPLIT_MACS,
    };
    let total = order.len().div_ceil(batch as usize) as u64 * u64::from(training.epochs);
    let step = hold(&*step_session, &held)?;
    let kept = |(name, tensor): &(String, Tensor)| kept_elements(&student.graph, name, tensor, training);
    let kept = held.iter().map(kept).collect();
    let mut course = Course::new(training, feed, (step, held, kept), cut, total)?;
    let mut outcome = Outcome {
        parameters: names,
        features: mimicry.as_ref().map(Mimicry::names).unwrap_or_default(),
        ..Outcome::default()
    };
    let checkpoint = training.checkpoint.map(|path| {
        let key = key(
            (student, &outcome.parameters),
            mimicry.as_ref(),
            data,
            engine,
            training,
        );
        Checkpoint::new(path, key)
    });
    let lesson = Lesson {
        order,
        validation: &validation,
        loss: &*loss_session,
        checkpoint: checkpoint.as_ref(),
        progress,
    };
    let values = epochs(&mut course, &mut outcome, lesson)?;
    let held = std::mem::take(&mut course.held);
    drop(course);
    store(model, &held, values)?;
    Ok(outcome)
}

/// What the epochs go through.
struct Lesson<'a> {
    /// Samples to train on.
    order: Vec<u64>,
    /// Samples held out.
    validation: &'a [u64],
    /// The loss alone.
    loss: &'a dyn Session,
    checkpoint: Option<&'a Checkpoint>,
    progress: &'a dyn Fn(u64, u64),
}

/// Runs the epochs and answers the best parameters.
fn epochs(
    course: &mut Course<'_, '_>,
    outcome: &mut Outcome,
    mut lesson: Lesson<'_>,
) -> Result<Vec<Vec<f32>>, FinetuneError> {
    let training = course.training();
    let mut rng = ChaCha8Rng::seed_from_u64(training.seed ^ 0x5eed);
    let (loss, validation) = (lesson.loss, lesson.validation);
    let held_out = |course: &Course<'_, '_>| match validation.is_empty() {
        true => Ok(None),
        false => course.loss(loss, validation).map(Some),
    };
    let mut best: Option<Best> = match lesson.checkpoint {
        Some(checkpoint) => checkpoint.load(course, outcome)?,
        None => None,
    };
    if outcome.epochs.is_empty() {
        outcome.before = held_out(course)?;
        best = match outcome.before {
            Some(loss) => Some((loss, course.snapshot()?)),
            None => None,
        };
    }
    let patience = training.patience.max(1) as usize;
    for epoch in 1..=training.epochs as usize {
        shuffle(&mut lesson.order, &mut rng);
        if epoch <= outcome.epochs.len() {
            continue;
        }
        if !validation.is_empty() && epoch > outcome.best + patience {
            break;
        }
        let loss = course.epoch(&lesson.order, epoch, lesson.progress)?;
        let validation = held_out(course)?;
        outcome.epochs.push(Epoch { loss, validation });
        match (validation, &best) {
            (Some(loss), Some((lowest, _))) if loss < *lowest => {
                best = Some((loss, course.snapshot()?));
                outcome.best = epoch;
            }
            (Some(_), _) => {}
            (None, _) => outcome.best = epoch,
        }
        if let Some(checkpoint) = lesson.checkpoint {
            checkpoint.save(course, outcome, best.as_ref())?;
        }
    }
    match best {
        Some((_, values)) => Ok(values),
        None => course.snapshot(),
    }
}

/// Of all that decides about the course of training.
fn key(
    (student, names): (&Model, &[String]),
    mimicry: Option<&Mimicry>,
    data: &Dataset,
    engine: &dyn Engine,
    training: &Training<'_>,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(text.as_bytes());
        hasher.update(&[0]);
    };
    add(&model_digest(student));
    names.iter().for_each(|name| add(name));
    let teacher = mimicry.map(|both| &both.teacher);
    let teacher = teacher.or(training.teacher.as_ref().map(|teacher| teacher.model));
    add(&teacher.map(model_digest).unwrap_or_default());
    add(&training.objective.describe());
    add(data.digest());
    add(&format!("{:?}", data.sample_range()));
    add(&engine.release());
    add(env!("CARGO_PKG_VERSION"));
    let rates = [
        training.learning_rate,
        training.warmup,
        training.average,
        training.momentum,
        training.weight_decay,
        training.validation,
    ];
    add(&format!("{rates:?} {:?}", training.optimizer));
    add(&format!(
        "{} {} {} {} {}",
        training.epochs, training.batch, training.patience, training.seed, training.hold_zeros
    ));
    for (name, kept) in training.masks {
        add(&format!("{name} {kept:?}"));
    }
    hasher.finalize().to_hex().to_string()
}

/// The model and its teacher with the features that the one learns from the other, where it does.
fn mimicry(
    model: &Model,
    data: &Dataset,
    engine: &dyn Engine,
    training: &Training<'_>,
) -> Result<Option<Mimicry>, FinetuneError> {
    let Some(mimic) = training.mimic else {
        return Ok(None);
    };
    let Some(teacher) = &training.teacher else {
        let reason = "there is no teacher".to_owned();
        return Err(FinetuneError::Features { reason });
    };
    Mimicry::new(model, teacher.model, mimic.wanted, data, engine).map(Some)
}

/// Samples and targets as the gradient model takes them.
fn feed<'a>(
    student: &Model,
    step: &Model,
    data: &'a Dataset,
    engine: &dyn Engine,
    (training, mimicry): (&Training<'_>, Option<&Mimicry>),
) -> Result<Feed<'a>, FinetuneError> {
    let target = training.objective.loss.input_name();
    let (dtype, shape) = target_type(step, target);
    let of_features = mimicry.map(|both| Teacher {
        model: &both.teacher,
        output: Some(FEATURES),
    });
    let teaching = match of_features.as_ref().or(training.teacher.as_ref()) {
        Some(teacher) => Some(Teaching::new(teacher, &student.graph, dtype, engine)?),
        None => None,
    };
    Ok(Feed {
        data,
        target,
        dtype,
        shape,
        teaching,
        jobs: training.jobs,
    })
}

/// The model of a step, with the gradients of these parameters, and that of the loss alone; both take the parameters as inputs.
fn gradient_models(
    model: &Model,
    training: &Training<'_>,
    names: &[String],
) -> Result<(Model, Model), FinetuneError> {
    let options = |loss_only: bool| GradientOptions {
        output: training.objective.output.clone(),
        weights_as_inputs: true,
        loss_only,
        ..GradientOptions::default()
    };
    let (loss, wrt) = (&training.objective.loss, Wrt::Named(names.to_vec()));
    let step = gradients(model, loss, &wrt, &options(false))?;
    Ok((step, gradients(model, loss, &wrt, &options(true))?))
}

/// The samples of the shard in a seeded order.
fn samples(data: &Dataset, training: &Training<'_>) -> Vec<u64> {
    let mut order: Vec<u64> = data.sample_range().collect();
    shuffle(&mut order, &mut ChaCha8Rng::seed_from_u64(training.seed));
    order
}

/// Fisher and Yates.
fn shuffle(items: &mut [u64], rng: &mut ChaCha8Rng) {
    for at in (1..items.len()).rev() {
        let other = (u128::from(rng.next_u64()) * (at as u128 + 1)) >> 64;
        items.swap(at, other as usize);
    }
}
