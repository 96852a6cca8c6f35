//! The result beside the model as it was, on the images that the pipeline has.

use std::time::{Duration, Instant};

use super::classes::Classes;
use super::{NAME, Scores, Taken};
use crate::data::{BoxesSpec, Dataset, Frame};
use crate::engine::stream::{Batch, Stream};
use crate::engine::{RunValue, RunValues};
use crate::evaluate::{Found, argmax, boxes, names};
use crate::ir::{Model, Tensor};
use crate::lower::Lowering;
use crate::passes::{Context, PassReport, Requirement, ResourceError, Resources};

/// Roles of data whose images are taken, the best one first.
const ROLES: [&str; 3] = ["evaluation", "calibration", "training"];

/// Images that are compared at most.
const IMAGES: u64 = 16;

/// After which no other image is begun: an engine may compile the model anew for each size.
const TIME: Duration = Duration::from_secs(20);

/// Steps of 8-bit pixels that rounding explains: a pixel on the edge between two.
const ROUNDING: f64 = 1.0;

/// What is compared.
pub(super) struct Subject<'a> {
    pub(super) before: &'a Model,
    pub(super) after: &'a Model,
    pub(super) taken: &'a Taken,
    pub(super) boxes: Option<&'a BoxesSpec>,
    pub(super) scores: Option<&'a Scores>,
}

/// What the images showed.
#[derive(Default)]
struct Differences {
    images: u64,
    /// The largest difference of a pixel, in steps of 8-bit pixels, and how many differ at all.
    pixels: f64,
    differing: u64,
    all: u64,
    /// The largest difference of an output as a share of the largest element there.
    outputs: f64,
    /// Best classes that differ, of how many.
    classes: (u64, u64),
    boxes: BoxDifferences,
}

#[derive(Default)]
struct BoxDifferences {
    found: u64,
    /// Boxes that only one of both has.
    unmatched: u64,
    /// Pixels of the image.
    corners: f64,
    scores: f64,
}

/// Runs both and reports. What stands in the way is said, and no verdict.
pub(super) fn check(subject: &Subject<'_>, context: &Context<'_>, report: &mut PassReport) {
    let resources = context.resources;
    let role = resources.and_then(|resources| ROLES.into_iter().find(|role| resources.describes(role)));
    let (Some(resources), Some(role)) = (resources, role) else {
        report
            .notes
            .push("not checked on images: there are none; --data evaluation=... gives them".to_owned());
        return;
    };
    match subject.compare(resources, role, context) {
        Ok(found) => found.tell(subject, role, report),
        Err(reason) => report.notes.push(format!("not checked on images: {reason}")),
    }
}

impl Subject<'_> {
    fn compare(
        &self,
        resources: &dyn Resources,
        role: &str,
        context: &Context<'_>,
    ) -> Result<Differences, ResourceError> {
        let engine = Lowering(resources.engine()?);
        let prepared = resources.data(role, &self.before.graph)?;
        let raw = resources.data(role, &self.after.graph)?;
        let before = Stream::compile(self.before, &[], &engine)?;
        let after = Stream::compile(self.after, std::slice::from_ref(&self.taken.result), &engine)?;
        let mut found = Differences::default();
        let start = Instant::now();
        let count = prepared.samples().min(IMAGES);
        for sample in 0..count {
            if sample > 0 && start.elapsed() > TIME {
                break;
            }
            (context.progress)("check", sample, Some(count));
            let (image, input) = (one(&raw, sample)?, one(&prepared, sample)?);
            let (expected, answered) = (before.run(&input)?, after.run(&image)?);
            self.count(&mut found, (&input, &expected), (&image, &answered))?;
        }
        Ok(found)
    }

    /// Adds one image.
    fn count(
        &self,
        found: &mut Differences,
        (input, expected): (&Batch, &RunValues),
        (image, answered): (&Batch, &RunValues),
    ) -> Result<(), ResourceError> {
        found.images += 1;
        let prepared = tensor(&input.inputs, &self.taken.input)?;
        let computed = tensor(answered, &self.taken.result)?;
        self.count_pixels(found, prepared, computed)?;
        if let Some(layout) = self.boxes {
            let frame = self.frame(image)?;
            let reference = boxes(layout, self.before, &frame, input, expected)?;
            let baked = BoxesSpec::default()
                .baked(&names(self.after))
                .map_err(|error| ResourceError::Unfit(error.to_string()))?;
            let baked = baked.ok_or("the outputs are not boxes, scores and classes")?;
            let identity = Frame::identity(frame.image[0], frame.image[1]);
            let own = boxes(&baked, self.after, &identity, image, answered)?;
            found.boxes.count(&reference, &own);
            return Ok(());
        }
        for (name, value) in expected {
            let RunValue::Tensor(reference) = value else {
                continue;
            };
            match self.scores.filter(|scores| scores.output == *name) {
                Some(scores) => count_scores(found, scores, reference, tensor(answered, &scores.result)?)?,
                None => found.outputs = found.outputs.max(share(reference, tensor(answered, name)?)?),
            }
        }
        Ok(())
    }

    fn count_pixels(&self, found: &mut Differences, a: &Tensor, b: &Tensor) -> Result<(), ResourceError> {
        if a.dims() != b.dims() {
            return Err(ResourceError::Unfit(format!(
                "the data prepare an image of {:?} and the model one of {:?}: they are preprocessed otherwise",
                a.dims(),
                b.dims()
            )));
        }
        let preprocess = &self.taken.preprocess;
        let axis = preprocess.channel_axis(a.rank());
        let behind: u64 = axis.map_or(1, |axis| a.dims().iter().skip(axis + 1).product());
        let channels = preprocess.channels() as u64;
        let steps: Vec<f64> = (0..preprocess.channels())
            .map(|channel| (preprocess.value(1.0, channel) - preprocess.value(0.0, channel)).abs())
            .collect();
        for (at, (x, y)) in a.to_f64()?.into_iter().zip(b.to_f64()?).enumerate() {
            let channel = (at as u64 / behind.max(1)) % channels.max(1);
            let step = steps.get(channel as usize).copied().unwrap_or(1.0);
            found.all += 1;
            found.differing += u64::from(x != y);
            let difference = (x - y).abs() / step;
            found.pixels = if difference.is_nan() {
                f64::INFINITY
            } else {
                found.pixels.max(difference)
            };
        }
        Ok(())
    }

    /// How the image of a batch became the input of the model as it was.
    fn frame(&self, image: &Batch) -> Result<Frame, ResourceError> {
        let pixels = tensor(&image.inputs, &self.taken.image)?;
        match pixels.dims() {
            [_, height, width, _] => {
                let side = |length: &u64| u32::try_from(*length).unwrap_or(u32::MAX);
                Ok(self.taken.preprocess.frame(side(width), side(height)))
            }
            dims => Err(ResourceError::Unfit(format!("{dims:?} is no image"))),
        }
    }
}

impl Differences {
    fn tell(&self, subject: &Subject<'_>, role: &str, report: &mut PassReport) {
        let images = self.images;
        let share = 100.0 * self.differing as f64 / self.all.max(1) as f64;
        let passed = self.pixels <= ROUNDING * (1.0 + 1e-6);
        let message = format!(
            "on {images} images of the {role} data the preprocessing in the model and that of the data differ by at most {:.3} steps of 255; {share:.4} % of the values differ",
            self.pixels
        );
        report.notes.push(format!("checked on images: {message}"));
        let mut said = Vec::new();
        if subject.boxes.is_some() {
            let boxes = &self.boxes;
            said.push(format!(
                "of {} boxes {} are of one model only; the others differ by at most {:.2e} pixels and {:.2e} in their scores",
                boxes.found, boxes.unmatched, boxes.corners, boxes.scores
            ));
        } else {
            if self.classes.1 > 0 {
                said.push(format!(
                    "{} of {} best classes differ",
                    self.classes.0, self.classes.1
                ));
            }
            said.push(format!(
                "outputs differ by at most {:.2e} of their largest element",
                self.outputs
            ));
        }
        report
            .notes
            .extend(said.into_iter().map(|text| format!("checked on images: {text}")));
        report.requirements.push(Requirement {
            name: format!("{NAME} check"),
            passed,
            value: self.pixels,
            bound: ROUNDING,
            message,
        });
    }
}

impl BoxDifferences {
    /// Pairs boxes of one class that are nearest, the best score first.
    fn count(&mut self, reference: &[Found], own: &[Found]) {
        self.found += reference.len() as u64;
        let mut left: Vec<&Found> = own.iter().collect();
        for expected in reference {
            let distance = |found: &Found| {
                let sides = expected.rect.iter().zip(found.rect);
                sides.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
            };
            let nearest = left
                .iter()
                .enumerate()
                .filter(|(_, found)| found.category == expected.category)
                .map(|(at, found)| (at, distance(found), (found.score - expected.score).abs()))
                .reduce(|best, next| {
                    if next.1 + next.2 < best.1 + best.2 {
                        next
                    } else {
                        best
                    }
                })
                .filter(|(_, distance, _)| *distance < 1.0);
            match nearest {
                Some((at, distance, score)) => {
                    left.remove(at);
                    self.corners = self.corners.max(distance);
                    self.scores = self.scores.max(score);
                }
                None => self.unmatched += 1,
            }
        }
        self.unmatched += left.len() as u64;
    }
}

/// What is true of scores behind `classes`.
fn count_scores(
    found: &mut Differences,
    scores: &Scores,
    reference: &Tensor,
    own: &Tensor,
) -> Result<(), ResourceError> {
    let rank = reference.rank() as i64;
    let axis = usize::try_from(scores.axis.rem_euclid(rank.max(1))).unwrap_or(0);
    let count = reference.dims().get(axis).copied().unwrap_or(1).max(1) as usize;
    let inner = reference.dims().iter().skip(axis + 1).product::<u64>().max(1) as usize;
    let (all, own) = (reference.to_f64()?, own.to_f64()?);
    for position in 0..all.len() / count {
        let first = position / inner * inner * count + position % inner;
        let at = |class: usize| first + class * inner;
        let row: Vec<f64> = (0..count)
            .map(|class| all.get(at(class)).copied().unwrap_or(f64::NAN))
            .collect();
        match scores.classes {
            Classes::Argmax => {
                let best = argmax(&row) as f64;
                found.classes.1 += 1;
                found.classes.0 += u64::from(own.get(position) != Some(&best));
            }
            Classes::Softmax => {
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|score| (score - top).exp()).sum();
                for (class, score) in row.iter().enumerate() {
                    let share = own.get(at(class)).copied().unwrap_or(f64::NAN);
                    let difference = ((score - top).exp() / sum - share).abs();
                    found.outputs = found.outputs.max(difference);
                }
            }
        }
    }
    Ok(())
}

/// The largest difference as a share of the reference's largest element.
fn share(reference: &Tensor, own: &Tensor) -> Result<f64, ResourceError> {
    if reference.dims() != own.dims() {
        return Err(ResourceError::Unfit(format!(
            "an output of {:?} became one of {:?}",
            reference.dims(),
            own.dims()
        )));
    }
    let (reference, own) = (reference.to_f64()?, own.to_f64()?);
    let largest = reference.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let differences = reference.iter().zip(&own).map(|(a, b)| (a - b).abs());
    Ok(differences.fold(0.0, f64::max) / largest.max(f64::MIN_POSITIVE))
}

fn one(data: &Dataset, sample: u64) -> Result<Batch, ResourceError> {
    Ok(data.select(&[sample])?)
}

fn tensor<'v>(values: &'v RunValues, name: &str) -> Result<&'v Tensor, ResourceError> {
    match values.get(name) {
        Some(RunValue::Tensor(tensor)) => Ok(tensor),
        _ => Err(ResourceError::Unfit(format!("{name} is not there"))),
    }
}
