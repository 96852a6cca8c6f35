//! The pixels of each sample, as they are counted, merged and told of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::super::EvaluateError;
use super::super::{Answer, Sample, TaskFigures, compared, of_all};
use super::grid::{Grid, IGNORED, TrueClasses};
use super::pixels::{Confusion, Side};
use crate::data::{Categories, DataError, Frame, Mask, SegmentationOptions, TaskKind, Truth};

/// Lines of words.
const LINES: usize = 5;

/// Pixels by class of each sample, for a model and its reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segmentation {
    names: Categories,
    samples: BTreeMap<u64, Counts>,
}

/// Pixels of one sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    model: Confusion,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Confusion>,
}

impl Segmentation {
    /// No samples yet; `names` is what the classes are called.
    pub fn new(names: Categories) -> Self {
        Self {
            names,
            samples: BTreeMap::new(),
        }
    }

    /// Counts one sample. Without a truth the reference's classes at the size of the model's output are the truth.
    pub(in crate::evaluate) fn count(
        &mut self,
        sample: &Sample<'_>,
        model: &Answer,
        reference: Option<&Answer>,
        options: &SegmentationOptions,
    ) -> Result<(), EvaluateError> {
        let wanted = options.output.as_deref();
        let own = Grid::read(model.output(wanted)?, options)?;
        let other = reference
            .map(|answer| Grid::read(answer.output(wanted)?, options))
            .transpose()?;
        let (target, frame) = match sample.truth {
            Some(Truth::Mask(mask)) => target(sample, mask)?,
            Some(_) => {
                return Err(unfit(
                    sample,
                    "the truth is no mask; name masks with `labels`".to_owned(),
                ));
            }
            None => {
                let other = other.as_ref().ok_or_else(|| {
                    unfit(
                        sample,
                        "there are no masks and no reference; name masks with `labels`, or give a reference"
                            .to_owned(),
                    )
                })?;
                other.as_target(&own, sample.frame.as_ref())
            }
        };
        let counts = Counts {
            model: own.confusion(&target, &frame),
            reference: other.map(|other| other.confusion(&target, &frame)),
        };
        self.samples.insert(sample.index, counts);
        Ok(())
    }

    /// Adds another part's samples.
    pub fn merge(&mut self, other: &Self) {
        for (number, name) in &other.names {
            self.names.entry(*number).or_insert_with(|| name.clone());
        }
        self.samples.extend(
            other
                .samples
                .iter()
                .map(|(index, counts)| (*index, counts.clone())),
        );
    }

    /// The figures of both models with intervals at `confidence`.
    pub(in crate::evaluate) fn figures(&self, from_reference: bool, confidence: f64) -> TaskFigures {
        let model = Side::new(self.samples.values().map(|counts| &counts.model));
        let parts = of_all(self.samples.values().map(|counts| counts.reference.as_ref()));
        let reference = parts.map(|parts| Side::new(parts.into_iter()));
        let mut figures = compared(
            TaskKind::Segmentation,
            &model,
            reference.as_ref(),
            self.samples.len(),
            from_reference,
            confidence,
        );
        figures.by_class = model.by_class(&self.names);
        figures.words = self.words(&model, reference.as_ref(), from_reference);
        figures
    }

    /// The confusions that cost the most pixels, beyond those of the reference.
    fn words(&self, model: &Side, reference: Option<&Side>, from_reference: bool) -> Vec<String> {
        let pixels = |side: &Side| -> BTreeMap<(i64, i64), u64> {
            let totals = side.totals(None);
            side.pairs
                .iter()
                .zip(totals)
                .filter_map(|((a, b), count)| Some(((*side.classes.get(*a)?, *side.classes.get(*b)?), count)))
                .collect()
        };
        let own = pixels(model);
        let other = reference.map(pixels).unwrap_or_default();
        let support = |class: i64| -> u64 {
            own.iter()
                .filter(|((truth, _), _)| *truth == class)
                .map(|(_, count)| count)
                .sum()
        };
        let mut lost: Vec<(u64, i64, i64)> = own
            .iter()
            .filter(|((truth, predicted), _)| truth != predicted)
            .filter_map(|(pair, count)| {
                let more = count.saturating_sub(other.get(pair).copied().unwrap_or(0));
                (more > 0).then_some((more, pair.0, pair.1))
            })
            .collect();
        lost.sort_by_key(|(more, truth, predicted)| (std::cmp::Reverse(*more), *truth, *predicted));
        let name = |class: i64| match self.names.get(&class) {
            Some(name) => name.clone(),
            None => class.to_string(),
        };
        lost.truncate(LINES);
        lost.into_iter()
            .map(|(_, truth, predicted)| {
                let share = |pixels: &BTreeMap<(i64, i64), u64>| {
                    let count = pixels.get(&(truth, predicted)).copied().unwrap_or(0);
                    percent(count as f64 / support(truth).max(1) as f64)
                };
                let (from, to) = (name(truth), name(predicted));
                match reference {
                    None => format!("of the pixels of class {from} {} are taken for {to}", share(&own)),
                    Some(_) if from_reference => {
                        format!("of the pixels of class {from} {} became {to}", share(&own))
                    }
                    Some(_) => format!(
                        "of the pixels of class {from} {} are taken for {to}, {} by the reference",
                        share(&own),
                        share(&other)
                    ),
                }
            })
            .collect()
    }
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.000_5 {
        "less than 0.1 %".to_owned()
    } else {
        format!("{:.1} %", share * 100.0)
    }
}

fn unfit(sample: &Sample<'_>, reason: String) -> EvaluateError {
    EvaluateError::Data(DataError::Labels {
        file: PathBuf::from(format!("sample {}", sample.index)),
        reason,
    })
}

/// A mask as a target, and how its pixels are found in the input.
fn target(sample: &Sample<'_>, mask: &Mask) -> Result<(TrueClasses, Frame), EvaluateError> {
    let frame = sample
        .frame
        .unwrap_or_else(|| Frame::identity(mask.width, mask.height));
    if frame.image != [mask.width, mask.height] {
        let [width, height] = frame.image;
        return Err(unfit(
            sample,
            format!(
                "the mask is {} x {} pixels, its image {width} x {height}; save masks at the size of their images",
                mask.width, mask.height
            ),
        ));
    }
    let (width, height) = (mask.width as usize, mask.height as usize);
    if width.checked_mul(height) != Some(mask.classes.len()) {
        return Err(unfit(
            sample,
            format!(
                "the mask of {width} x {height} pixels holds {} classes",
                mask.classes.len()
            ),
        ));
    }
    let class = |class: &u16| match *class {
        Mask::IGNORED => IGNORED,
        class => i64::from(class),
    };
    let target = TrueClasses {
        width,
        height,
        classes: mask.classes.iter().map(class).collect(),
    };
    Ok((target, frame))
}

#[cfg(test)]
mod tests {
    use super::super::super::trial::{self, answer, parts_merge};
    use super::*;

    fn sample<'a>(index: u64, truth: Option<&'a Truth>, frame: Option<Frame>) -> Sample<'a> {
        Sample {
            truth,
            frame,
            ..trial::sample(index)
        }
    }

    fn mask(width: u32, height: u32, classes: &[u16]) -> Truth {
        Truth::Mask(Mask {
            width,
            height,
            classes: classes.to_vec(),
        })
    }

    fn entries(truth: &Truth, frame: Option<Frame>, output: Answer) -> Vec<(i64, i64, u64)> {
        let mut state = Segmentation::default();
        state
            .count(
                &sample(0, Some(truth), frame),
                &output,
                None,
                &SegmentationOptions::default(),
            )
            .unwrap();
        state.samples[&0].model.0.clone()
    }

    #[test]
    fn classes_are_read_from_scores_numbers_and_one_channel() {
        let truth = mask(2, 1, &[0, 1]);
        let half = vec![(0, 0, 1), (1, 0, 1)];
        for output in [
            answer(&[2, 1, 2], &[3.0, 1.0, 2.0, 1.0], false),
            answer(&[1, 2], &[0.0, 0.0], true),
            answer(&[1, 1, 2], &[0.0, 0.0], true),
            answer(&[1, 1, 2], &[0.4, 0.5], false),
        ] {
            assert_eq!(entries(&truth, None, output), half);
        }
        let mut state = Segmentation::default();
        let wrong = answer(&[2, 1, 2], &[0.0; 4], true);
        let options = SegmentationOptions::default();
        assert!(
            state
                .count(&sample(0, Some(&truth), None), &wrong, None, &options)
                .is_err()
        );
    }

    #[test]
    fn scores_are_interpolated_as_pytorch_does() {
        // interpolate([0, 1], size=4, mode="bilinear", align_corners=False) is [0, 0.25, 0.75, 1].
        let truth = mask(4, 1, &[0, 1, 2, 3]);
        let output = answer(&[1, 1, 2], &[0.2, 0.9], false);
        assert_eq!(
            entries(&truth, None, output),
            [(0, 0, 1), (1, 0, 1), (2, 1, 1), (3, 1, 1)]
        );
        let numbers = answer(&[1, 2], &[5.0, 6.0], true);
        assert_eq!(
            entries(&truth, None, numbers),
            [(0, 5, 1), (1, 5, 1), (2, 6, 1), (3, 6, 1)]
        );
    }

    #[test]
    fn a_letterbox_is_undone_and_ignored_pixels_do_not_count() {
        // An image of 4 x 2 in an input of 4 x 4, one row of padding above and below.
        let frame = Frame {
            image: [4, 2],
            input: [4, 4],
            scale: [1.0; 2],
            offset: [0.0, 1.0],
        };
        let truth = mask(4, 2, &[7, 7, 7, 7, 8, 8, 8, Mask::IGNORED]);
        let rows: Vec<f64> = [9.0, 7.0, 8.0, 9.0]
            .iter()
            .flat_map(|class| [*class; 4])
            .collect();
        let output = answer(&[4, 4], &rows, true);
        assert_eq!(entries(&truth, Some(frame), output), [(7, 7, 4), (8, 8, 3)]);
        // A crop of the two middle columns: the others were never seen.
        let crop = Frame {
            image: [4, 2],
            input: [2, 2],
            scale: [1.0; 2],
            offset: [-1.0, 0.0],
        };
        let output = answer(&[2, 2], &[7.0, 1.0, 8.0, 8.0], true);
        assert_eq!(
            entries(&truth, Some(crop), output),
            [(7, 1, 1), (7, 7, 1), (8, 8, 2)]
        );
    }

    #[test]
    fn figures_equal_numpy() {
        // numpy: C = [[3, 1, 0], [0, 2, 0], [1, 0, 0]].
        let mut state = Segmentation::new(Categories::from([(0, "road".to_owned())]));
        let truth = mask(7, 1, &[0, 0, 0, 0, 1, 1, 2]);
        let output = answer(&[1, 7], &[0., 0., 0., 1., 1., 1., 0.], true);
        state
            .count(
                &sample(0, Some(&truth), None),
                &output,
                None,
                &SegmentationOptions::default(),
            )
            .unwrap();
        let figures = state.figures(false, 0.95);
        let near = |name: &str, expected: f64| {
            let found = figures.figures[name].unwrap();
            assert!((found - expected).abs() < 1e-12, "{name}: {found}");
        };
        near("miou", (3.0 / 5.0 + 2.0 / 3.0) / 3.0);
        near("pixel-accuracy", 5.0 / 7.0);
        near("mean-accuracy", (0.75 + 1.0) / 3.0);
        near("dice", (0.75 + 0.8) / 3.0);
        assert_eq!(figures.by_class[0].name.as_deref(), Some("road"));
        assert_eq!(figures.by_class[0].support, 4);
        assert_eq!(
            figures.words[0],
            "of the pixels of class road 25.0 % are taken for 1"
        );
    }

    #[test]
    fn the_reference_is_the_truth_where_there_is_none() {
        let (model, reference) = (
            answer(&[1, 4], &[0., 0., 1., 1.], true),
            answer(&[1, 4], &[0., 1., 1., 1.], true),
        );
        let mut state = Segmentation::default();
        let options = SegmentationOptions::default();
        state
            .count(&sample(3, None, None), &model, Some(&reference), &options)
            .unwrap();
        let figures = state.figures(true, 0.95);
        assert_eq!(figures.figures["pixel-accuracy"], Some(0.75));
        assert_eq!(figures.reference.unwrap()["miou"], Some(1.0));
        assert_eq!(figures.drops["pixel-accuracy"], Some(0.25));
        assert_eq!(figures.words, ["of the pixels of class 1 33.3 % became 0"]);
        assert!(
            state
                .count(&sample(4, None, None), &model, None, &options)
                .is_err()
        );
        // Padding is not part of the image.
        let frame = Frame {
            image: [2, 1],
            input: [4, 1],
            scale: [1.0; 2],
            offset: [0.0; 2],
        };
        let mut state = Segmentation::default();
        state
            .count(&sample(3, None, Some(frame)), &model, Some(&reference), &options)
            .unwrap();
        assert_eq!(state.samples[&3].model.0, [(0, 0, 1), (1, 0, 1)]);
    }

    #[test]
    fn a_mask_of_another_size_names_both_sizes() {
        let mut state = Segmentation::default();
        let truth = mask(2, 1, &[0, 0]);
        let output = answer(&[1, 2], &[0.0, 0.0], true);
        let error = state
            .count(
                &sample(9, Some(&truth), Some(Frame::identity(4, 2))),
                &output,
                None,
                &SegmentationOptions::default(),
            )
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sample 9") && text.contains("2 x 1") && text.contains("4 x 2"),
            "{text}"
        );
    }

    #[test]
    fn parts_merge_to_the_byte() {
        let part = |indices: std::ops::Range<u64>| {
            let mut state = Segmentation::new(Categories::from([(1, "b".to_owned())]));
            for index in indices {
                let truth = mask(3, 1, &[0, 1, (index % 3) as u16]);
                let output = answer(&[1, 3], &[0.0, 1.0, (index % 2) as f64], true);
                state
                    .count(
                        &sample(index, Some(&truth), None),
                        &output,
                        Some(&output),
                        &SegmentationOptions::default(),
                    )
                    .unwrap();
            }
            state
        };
        parts_merge(part, Segmentation::merge, |state| state.figures(false, 0.95));
    }
}
