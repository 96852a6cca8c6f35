//! Detection: boxes with categories, judged by mean average precision, and by what another model found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::coco::{Found, Image as Judged, Precision, Similarity};
use super::layout::{BoxReader, Prediction};
use super::suppression::{overlap, suppressed};
use super::{Answer, Measured, Named, Sample, TaskFigures, compared};
use crate::data::{BoxesSpec, Categories, Frame, TaskKind, TrueBox, Truth};
use crate::evaluate::EvaluateError;

/// What two models found on each image, and what is true of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detection {
    /// Whether keypoints are judged and not boxes.
    pub keypoints: bool,
    /// From this score on a box of the reference counts as found.
    pub sure: f64,
    /// Overlap from which on a box is found again.
    pub found: f64,
    /// One number a keypoint; empty for COCO's.
    pub sigmas: Vec<f64>,
    /// What categories are called.
    pub categories: Categories,
    /// By sample.
    pub images: BTreeMap<u64, Image>,
}

/// One image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// What is true; nothing where the reference says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Vec<TrueBox>>,
    /// What the model found.
    pub model: Vec<Found>,
    /// What the reference found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Vec<Found>>,
}

/// The score from which on the reference's boxes are true, unless a description says another.
const SURE: f64 = 0.3;

/// The overlap from which on a box is found again, unless a description says another.
const FOUND: f64 = 0.75;

/// What a layout reads from a model's answer to one image, where nothing is known of categories: classes stand for them.
pub(in crate::evaluate) fn read_boxes(
    spec: &BoxesSpec,
    answer: &Answer,
    frame: &Frame,
) -> Result<Vec<Found>, EvaluateError> {
    let reader = BoxReader::of(spec, false, answer, Some(frame))?;
    let state = Detection::new(TaskKind::Detection, &reader.layout, &Categories::new());
    state.found_by(&reader, answer, Some(frame))
}

impl Detection {
    /// Nothing yet, for what a description says.
    pub(super) fn new(kind: TaskKind, layout: &BoxesSpec, categories: &Categories) -> Self {
        Self {
            keypoints: kind == TaskKind::Keypoints,
            sure: layout.sure.unwrap_or(SURE),
            found: layout.found.unwrap_or(FOUND),
            sigmas: layout.sigmas.clone(),
            categories: categories.clone(),
            images: BTreeMap::new(),
        }
    }

    /// Adds one image.
    pub(super) fn count(
        &mut self,
        sample: &Sample<'_>,
        reader: &BoxReader,
        model: &Answer,
        reference: Option<(&BoxReader, &Answer)>,
    ) -> Result<(), EvaluateError> {
        let truth = match sample.truth {
            Some(Truth::Boxes(boxes)) => Some(boxes.clone()),
            _ => None,
        };
        let frame = sample.frame.as_ref();
        let image = Image {
            truth,
            model: self.found_by(reader, model, frame)?,
            reference: reference
                .map(|(reader, answer)| self.found_by(reader, answer, frame))
                .transpose()?,
        };
        self.images.insert(sample.index, image);
        Ok(())
    }

    fn found_by(
        &self,
        reader: &BoxReader,
        answer: &Answer,
        frame: Option<&Frame>,
    ) -> Result<Vec<Found>, EvaluateError> {
        let kept = suppressed(reader.read(answer, frame)?, &reader.layout);
        kept.into_iter()
            .map(|prediction| self.found(&reader.layout, prediction))
            .collect()
    }

    fn found(&self, layout: &BoxesSpec, prediction: Prediction) -> Result<Found, EvaluateError> {
        let class = prediction.class;
        let category = match (layout.categories.is_empty(), self.categories.is_empty()) {
            (false, _) => layout.categories.get(class).copied(),
            // Class numbers that are written out are categories already where they are among them.
            (true, false) if layout.has(crate::data::Part::Class) && layout.counts_categories() => {
                i64::try_from(class)
                    .ok()
                    .filter(|class| self.categories.contains_key(class))
            }
            (true, false) => self.categories.keys().nth(class).copied(),
            (true, true) => i64::try_from(class).ok(),
        };
        let category = category.ok_or_else(|| EvaluateError::Output {
            output: "of boxes".to_owned(),
            problem: format!(
                "finds class {class}, and there are {} categories; say which is which with boxes: {{ categories: [...] }}",
                self.categories.len().max(layout.categories.len())
            ),
        })?;
        let [left, top, right, bottom] = prediction.corners;
        Ok(Found {
            category,
            score: prediction.score,
            rect: [left, top, right - left, bottom - top],
            keypoints: prediction.keypoints,
        })
    }

    /// Adds another part.
    pub(super) fn merge(&mut self, other: &Self) {
        self.images
            .extend(other.images.iter().map(|(at, image)| (*at, image.clone())));
    }

    /// What the reference is sure of, as truth.
    fn sure_boxes(&self, found: &[Found]) -> Vec<TrueBox> {
        found
            .iter()
            .filter(|found| found.score >= self.sure)
            .map(|found| TrueBox {
                category: found.category,
                rect: found.rect,
                area: found.rect[2] * found.rect[3],
                keypoints: found.keypoints.iter().map(|[x, y, _]| [*x, *y, 2.0]).collect(),
                ..TrueBox::default()
            })
            .collect()
    }

    fn precision(&self, truths: &[Vec<TrueBox>], of: impl Fn(&Image) -> &[Found]) -> Precision {
        let images: Vec<Judged<'_>> = self
            .images
            .values()
            .zip(truths)
            .map(|(image, truth)| Judged {
                truth,
                found: of(image),
            })
            .collect();
        let mut categories: BTreeSet<i64> = self.categories.keys().copied().collect();
        categories.extend(truths.iter().flatten().map(|object| object.category));
        let categories: Vec<i64> = categories.into_iter().collect();
        let similarity = match self.keypoints {
            true => Similarity::Keypoints {
                sigmas: match self.sigmas.is_empty() {
                    true => Similarity::PERSON.to_vec(),
                    false => self.sigmas.clone(),
                },
            },
            false => Similarity::Boxes,
        };
        Precision::new(&images, &categories, &similarity)
    }

    /// Figures of the model, and of the reference beside it.
    pub(super) fn figures(&self, from_reference: bool, confidence: f64) -> TaskFigures {
        let has_reference =
            !self.images.is_empty() && self.images.values().all(|image| image.reference.is_some());
        let truths: Vec<Vec<TrueBox>> = self
            .images
            .values()
            .map(|image| match (&image.truth, &image.reference) {
                (Some(truth), _) => truth.clone(),
                (None, Some(reference)) => self.sure_boxes(reference),
                (None, None) => Vec::new(),
            })
            .collect();
        let kept = has_reference.then(|| self.kept());
        let model = Side {
            keypoints: self.keypoints,
            precision: self.precision(&truths, |image| &image.model),
            kept: kept.as_ref().map(|kept| kept.images.clone()),
        };
        let reference = has_reference.then(|| Side {
            keypoints: self.keypoints,
            precision: self.precision(&truths, |image| image.reference.as_deref().unwrap_or_default()),
            kept: kept
                .as_ref()
                .map(|kept| kept.images.iter().map(Kept::perfect).collect()),
        });
        let task = match self.keypoints {
            true => TaskKind::Keypoints,
            false => TaskKind::Detection,
        };
        let samples = self.images.len();
        let mut figures = compared(
            task,
            &model,
            reference.as_ref(),
            samples,
            from_reference,
            confidence,
        );
        figures.by_class = model.precision.by_class(&self.categories);
        figures.words = kept.map(|kept| kept.words(self)).unwrap_or_default();
        figures
    }

    /// How much of what the reference found the model finds again.
    fn kept(&self) -> Summary {
        let mut summary = Summary::default();
        for image in self.images.values() {
            let reference = image.reference.as_deref().unwrap_or_default();
            let mut kept = Kept::default();
            let again = matched(reference, &image.model, self.sure, self.found);
            for (object, strength) in reference.iter().filter(|f| f.score >= self.sure).zip(again) {
                kept.true_boxes += 1;
                match strength {
                    Some(score) if score >= self.sure => kept.found += 1,
                    Some(_) => {
                        kept.weaker += 1;
                        summary.count_lost(object.category);
                    }
                    None => summary.count_lost(object.category),
                }
            }
            let known = matched(&image.model, reference, self.sure, self.found);
            for (object, strength) in image.model.iter().filter(|f| f.score >= self.sure).zip(known) {
                kept.model_boxes += 1;
                // A box that the reference is less sure of was there before.
                if strength.is_none() {
                    kept.new += 1;
                    *summary.new.entry(object.category).or_default() += 1;
                }
            }
            summary.images.push(kept);
        }
        summary
    }
}

/// What became of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The model finds it.
    Found,
    /// The model finds it with a lower score.
    Weaker,
    /// The model does not find it.
    Lost,
    /// Only the model finds it.
    New,
}

/// One image with what became of its boxes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fates {
    /// Global index of the sample.
    pub sample: u64,
    /// Boxes (left, top, width, height, in pixels of the image) of the reference, or the true ones where there is none, and those that
    /// only the model finds.
    pub boxes: Vec<([f64; 4], Fate)>,
}

impl Fates {
    /// Boxes lost and new.
    pub fn wrong(&self) -> usize {
        let wrong = |(_, fate): &&([f64; 4], Fate)| matches!(fate, Fate::Lost | Fate::New | Fate::Weaker);
        self.boxes.iter().filter(wrong).count()
    }
}

impl Detection {
    /// The images on which the model is furthest from the reference (from the truth, where there is none), the worst first.
    pub fn worst(&self, count: usize) -> Vec<Fates> {
        let mut all: Vec<Fates> = self
            .images
            .iter()
            .map(|(sample, image)| self.fates(*sample, image))
            .collect();
        all.sort_by_key(|fates| (std::cmp::Reverse(fates.wrong()), fates.sample));
        all.truncate(count);
        all
    }

    fn fates(&self, sample: u64, image: &Image) -> Fates {
        let true_boxes: Vec<Found> = image
            .truth
            .iter()
            .flatten()
            .filter(|object| !object.crowd && !object.ignore)
            .map(|object| Found {
                category: object.category,
                score: 1.0,
                rect: object.rect,
                keypoints: Vec::new(),
            })
            .collect();
        let base = image.reference.as_deref().unwrap_or(&true_boxes);
        // Against labels the usual overlap is enough; the same network finds the same place.
        let enough = if image.reference.is_some() {
            self.found
        } else {
            0.5
        };
        let mut boxes = Vec::new();
        let again = matched(base, &image.model, self.sure, enough);
        for (object, score) in base.iter().filter(|object| object.score >= self.sure).zip(again) {
            let fate = match score {
                Some(score) if score >= self.sure => Fate::Found,
                Some(_) => Fate::Weaker,
                None => Fate::Lost,
            };
            boxes.push((object.rect, fate));
        }
        let known = matched(&image.model, base, self.sure, enough);
        let own = image.model.iter().filter(|object| object.score >= self.sure);
        boxes.extend(
            own.zip(known)
                .filter(|(_, known)| known.is_none())
                .map(|(object, _)| (object.rect, Fate::New)),
        );
        Fates { sample, boxes }
    }
}

/// For each box of `these` at `sure` or above, the score of the best box of `those` that is of its category, overlaps it by `enough` and
/// was not taken by a better one.
fn matched(these: &[Found], those: &[Found], sure: f64, enough: f64) -> Vec<Option<f64>> {
    let corners = |rect: [f64; 4]| [rect[0], rect[1], rect[0] + rect[2], rect[1] + rect[3]];
    let mut taken = vec![false; those.len()];
    these
        .iter()
        .filter(|object| object.score >= sure)
        .map(|object| {
            let mine = corners(object.rect);
            let best = those
                .iter()
                .enumerate()
                .filter(|(at, other)| other.category == object.category && taken.get(*at) == Some(&false))
                .map(|(at, other)| (at, other.score, overlap(&mine, &corners(other.rect))))
                .filter(|(_, _, overlap)| *overlap >= enough)
                .reduce(|best, next| if next.2 > best.2 { next } else { best });
            best.map(|(at, score, _)| {
                if let Some(taken) = taken.get_mut(at) {
                    *taken = true;
                }
                score
            })
        })
        .collect()
}

/// What of the reference's boxes an image kept.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// Boxes that the reference is sure of.
    true_boxes: u64,
    /// Of these, found with as sure a score.
    found: u64,
    /// Of these, found with a lower one.
    weaker: u64,
    /// Boxes that the model is sure of.
    model_boxes: u64,
    /// Of these, not found by the reference at any score.
    new: u64,
}

impl Kept {
    /// A model that finds the same.
    fn perfect(&self) -> Self {
        Self {
            found: self.true_boxes,
            weaker: 0,
            model_boxes: self.true_boxes,
            new: 0,
            ..*self
        }
    }
}

#[derive(Default)]
struct Summary {
    images: Vec<Kept>,
    /// Boxes lost and new, by category.
    lost: BTreeMap<i64, u64>,
    new: BTreeMap<i64, u64>,
}

impl Summary {
    fn count_lost(&mut self, category: i64) {
        *self.lost.entry(category).or_default() += 1;
    }

    fn words(&self, of: &Detection) -> Vec<String> {
        let sum = |of: fn(&Kept) -> u64| self.images.iter().map(of).sum::<u64>();
        let (all, found, weaker, new) = (
            sum(|kept| kept.true_boxes),
            sum(|kept| kept.found),
            sum(|kept| kept.weaker),
            sum(|kept| kept.new),
        );
        if all == 0 {
            return vec![format!(
                "the reference finds no box with a score of {} or more",
                of.sure
            )];
        }
        let share = |part: u64| 100.0 * part as f64 / all as f64;
        let mut words = vec![format!(
            "of {all} boxes that the reference finds at {} or above, {found} ({:.1} %) are found at IoU {}, {weaker} more with a lower score, {} are lost; {new} ({:.1} %) are new",
            of.sure,
            share(found),
            of.found,
            all - found - weaker,
            share(new)
        )];
        for (what, counts) in [("lost or weaker", &self.lost), ("new", &self.new)] {
            let mut most: Vec<(&i64, &u64)> = counts.iter().collect();
            most.sort_by_key(|(category, count)| (std::cmp::Reverse(**count), **category));
            let named: Vec<String> = most
                .iter()
                .take(5)
                .map(
                    |(category, count)| match of.categories.get(category).filter(|name| !name.is_empty()) {
                        Some(name) => format!("{name} {count}"),
                        None => format!("category {category} {count}"),
                    },
                )
                .collect();
            if !named.is_empty() {
                words.push(format!("{what} most: {}", named.join(", ")));
            }
        }
        words
    }
}

/// One model's precision, and what it keeps of the reference.
struct Side {
    keypoints: bool,
    precision: Precision,
    kept: Option<Vec<Kept>>,
}

impl Side {
    fn shares(kept: &[Kept], weight: impl Fn(usize) -> u64) -> [Option<f64>; 2] {
        let mut sums = [0u64; 4];
        for (at, kept) in kept.iter().enumerate() {
            let times = weight(at);
            for (sum, part) in sums
                .iter_mut()
                .zip([kept.found, kept.true_boxes, kept.new, kept.model_boxes])
            {
                *sum += times * part;
            }
        }
        let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        [share(sums[0], sums[1]), share(sums[2], sums[3])]
    }
}

/// Names of what a model keeps of the reference, after those of the precision.
const KEPT: [&str; 2] = ["found", "new"];

impl Measured for Side {
    fn figures(&self) -> Named {
        let mut figures = self.precision.figures();
        if let Some(kept) = &self.kept {
            let shares = Self::shares(kept, |_| 1);
            figures.extend(
                KEPT.iter()
                    .zip(shares)
                    .map(|(name, share)| ((*name).to_owned(), share)),
            );
        }
        figures
    }

    fn resampled_names(&self) -> &'static [&'static str] {
        match (self.kept.is_some(), self.keypoints) {
            (true, false) => &["map", "map50", "found", "new"],
            (true, true) => &["oks-map", "oks-map50", "found", "new"],
            (false, _) => self.precision.resampled_names(),
        }
    }

    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>> {
        let mut figures = self.precision.resampled(weights);
        if let Some(kept) = &self.kept {
            let weight = |at: usize| weights.get(at).copied().map_or(0, u64::from);
            figures.extend(Self::shares(kept, weight));
        }
        figures
    }

    fn less_is_better(&self, name: &str) -> bool {
        name == "new"
    }
}
