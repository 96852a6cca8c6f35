//! Texts by connectionist temporal classification (Graves et al. 2006): error rates of characters and words, as jiwer counts them.
//!
//! A text is decoded greedily: the best class at each step, repetitions once, blanks left out. jiwer strips white space around a
//! text; characters are Unicode scalar values; words are what single spaces part, after runs of white space became one space. The
//! rates are sums of edits over sums of lengths; where all true texts are empty, the number of edits itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::EvaluateError;
use super::super::classification::argmax;
use super::{Answer, Measured, Named, Output, Sample, TaskFigures, compared, named, of_all};
use crate::data::{DataError, TaskKind, TextOptions, Truth};

/// Texts that the words show.
const SHOWN: usize = 4;

/// What was read in each sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    samples: BTreeMap<u64, Reading>,
}

/// The texts of one sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    /// `None` where the reference's text is the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    truth: Option<String>,
    model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
}

impl Reading {
    fn truth(&self) -> &str {
        self.truth.as_deref().or(self.reference.as_deref()).unwrap_or("")
    }
}

impl Texts {
    /// Counts one sample; `characters` are those of the classes in order, as [`TextOptions`] has them.
    pub(super) fn count(
        &mut self,
        sample: &Sample<'_>,
        model: &Answer,
        reference: Option<&Answer>,
        characters: &[String],
        options: &TextOptions,
    ) -> Result<(), EvaluateError> {
        let unfit = |reason: &str| {
            EvaluateError::Data(DataError::Labels {
                file: PathBuf::from(format!("sample {}", sample.index)),
                reason: reason.to_owned(),
            })
        };
        let wanted = options.output.as_deref();
        let truth = match sample.truth {
            Some(Truth::Text(text)) => Some(text.clone()),
            Some(_) => return Err(unfit("the truth is no text; name a table of texts with `labels`")),
            None if reference.is_none() => {
                return Err(unfit(
                    "there is no text and no reference; name a table of texts with `labels`, or give a reference",
                ));
            }
            None => None,
        };
        let reading = Reading {
            truth,
            model: decode(model.output(wanted)?, characters, options)?,
            reference: reference
                .map(|answer| decode(answer.output(wanted)?, characters, options))
                .transpose()?,
        };
        self.samples.insert(sample.index, reading);
        Ok(())
    }

    /// Adds another part's samples.
    pub fn merge(&mut self, other: &Self) {
        self.samples.extend(
            other
                .samples
                .iter()
                .map(|(index, reading)| (*index, reading.clone())),
        );
    }

    /// The figures of both models with intervals at `confidence`.
    pub(super) fn figures(&self, from_reference: bool, confidence: f64) -> TaskFigures {
        let model = Side::new(
            self.samples
                .values()
                .map(|reading| (reading.truth(), reading.model.as_str())),
        );
        let pairs = self.samples.values();
        let pairs = of_all(pairs.map(|reading| Some((reading.truth(), reading.reference.as_deref()?))));
        let reference = pairs.map(|pairs| Side::new(pairs.into_iter()));
        let mut figures = compared(
            TaskKind::Text,
            &model,
            reference.as_ref(),
            self.samples.len(),
            from_reference,
            confidence,
        );
        figures.words = self.words();
        figures
    }

    /// Texts that differ from the reference's, or from the truth where there is no reference.
    fn words(&self) -> Vec<String> {
        let differing: Vec<(&str, &str)> = self
            .samples
            .values()
            .map(|reading| {
                let expected = reading.reference.as_deref().unwrap_or(reading.truth());
                (expected.trim(), reading.model.trim())
            })
            .filter(|(expected, model)| expected != model)
            .collect();
        if differing.is_empty() {
            return Vec::new();
        }
        let against = match self.samples.values().any(|reading| reading.reference.is_some()) {
            true => "the reference's",
            false => "the true ones",
        };
        let first = format!(
            "{} of {} texts differ from {against}",
            differing.len(),
            self.samples.len()
        );
        let shown = differing
            .iter()
            .take(SHOWN)
            .map(|(expected, model)| format!("{expected:?} became {model:?}"));
        std::iter::once(first).chain(shown).collect()
    }
}

/// The text of one output.
fn decode(output: &Output, characters: &[String], options: &TextOptions) -> Result<String, EvaluateError> {
    let wrong = |problem: String| EvaluateError::Output {
        output: output.name.clone(),
        problem,
    };
    let (steps, classes) = best(output, options)?;
    let blank = i64::try_from(options.blank).unwrap_or(i64::MAX);
    // Whether the blank has a place of its own among the characters, by their number.
    let inserted = match classes {
        Some(classes) if classes == characters.len() => false,
        Some(classes) if classes == characters.len() + 1 => true,
        None => true,
        Some(classes) => {
            return Err(wrong(format!(
                "has {classes} classes, the charset {} characters: with the blank there have to be as many; `space: true` \
                 adds a space, and `axis` says where the classes are",
                characters.len()
            )));
        }
    };
    let mut text = String::new();
    let mut before = None;
    for class in steps {
        if Some(class) != before && class != blank {
            let at = if inserted && class > blank {
                class - 1
            } else {
                class
            };
            let character = usize::try_from(at).ok().and_then(|at| characters.get(at));
            text.push_str(character.ok_or_else(|| {
                wrong(format!(
                    "answers class {class}, the charset has {} characters",
                    characters.len()
                ))
            })?);
        }
        before = Some(class);
    }
    Ok(text)
}

/// The best class at each step, and how many classes there are where the output holds scores.
fn best(output: &Output, options: &TextOptions) -> Result<(Vec<i64>, Option<usize>), EvaluateError> {
    let wrong = |problem: String| EvaluateError::Output {
        output: output.name.clone(),
        problem,
    };
    let mut dims = output.dims.clone();
    if output.integer {
        if dims.iter().filter(|size| **size != 1).count() > 1 {
            return Err(wrong(format!(
                "holds integers of shape {dims:?} a sample; best classes are [T]"
            )));
        }
        return Ok((output.values.iter().map(|value| *value as i64).collect(), None));
    }
    while dims.len() > 2 {
        let Some(at) = dims.iter().position(|size| *size == 1) else {
            break;
        };
        dims.remove(at);
    }
    let [first, second] = dims.as_slice() else {
        return Err(wrong(format!(
            "has shape {:?} a sample; texts are read from steps and classes, [T, V]",
            output.dims
        )));
    };
    let last = match options.axis {
        -1 | 1 => true,
        0 | -2 => false,
        axis => {
            return Err(wrong(format!(
                "has two axes a sample, steps and classes: `axis` is -1 or 0, not {axis}"
            )));
        }
    };
    let (steps, classes) = if last {
        (*first, *second)
    } else {
        (*second, *first)
    };
    if classes == 0 || steps.checked_mul(classes) != Some(output.values.len()) {
        return Err(wrong(format!(
            "has shape {:?} a sample and {} values",
            output.dims,
            output.values.len()
        )));
    }
    let best = match last {
        true => output.values.chunks(classes).map(argmax).collect(),
        false => (0..steps)
            .map(|step| {
                let scores: Vec<f64> = output.values.iter().skip(step).step_by(steps).copied().collect();
                argmax(&scores)
            })
            .collect(),
    };
    Ok((best, Some(classes)))
}

/// What Python calls white space: Unicode's, and the four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// The words of a text, as jiwer's `wer_default` finds them.
fn words_of(text: &str) -> Vec<String> {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let run = is_space(character) && rest.peek().is_some_and(|next| is_space(*next));
        if run {
            while rest.next_if(|next| is_space(*next)).is_some() {}
        }
        joined.push(if run { ' ' } else { character });
    }
    joined
        .trim_matches(is_space)
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Least number of insertions, deletions and replacements that make one sequence the other (Levenshtein 1966).
fn distance<T: PartialEq>(a: &[T], b: &[T]) -> u64 {
    let mut row: Vec<u64> = (0..=b.len() as u64).collect();
    for (i, own) in a.iter().enumerate() {
        let mut diagonal = i as u64;
        let mut left = i as u64 + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (above, other) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + u64::from(own != other);
            diagonal = *above;
            left = replaced.min(*above + 1).min(left + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Edits and lengths of one text.
#[derive(Clone, Copy)]
struct Edits {
    characters: u64,
    of_characters: u64,
    words: u64,
    of_words: u64,
    exact: bool,
}

impl Edits {
    fn of(truth: &str, text: &str) -> Self {
        let (truth, text) = (truth.trim_matches(is_space), text.trim_matches(is_space));
        let (a, b): (Vec<char>, Vec<char>) = (truth.chars().collect(), text.chars().collect());
        let (c, d) = (words_of(truth), words_of(text));
        Self {
            characters: distance(&a, &b),
            of_characters: a.len() as u64,
            words: distance(&c, &d),
            of_words: c.len() as u64,
            exact: truth == text,
        }
    }
}

/// One model's edits.
struct Side {
    samples: Vec<Edits>,
}

impl Side {
    fn new<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self {
            samples: texts.map(|(truth, text)| Edits::of(truth, text)).collect(),
        }
    }

    /// Error rates of characters and words, and the share of texts that are right.
    fn rates(&self, weight: impl Fn(usize) -> u64) -> [Option<f64>; 3] {
        let sum = |of: fn(&Edits) -> u64| -> u64 {
            self.samples
                .iter()
                .enumerate()
                .map(|(at, edits)| weight(at) * of(edits))
                .sum()
        };
        let count = sum(|_| 1);
        if count == 0 {
            return [None; 3];
        }
        let rate = |edits: u64, length: u64| Some(edits as f64 / length.max(1) as f64);
        [
            rate(sum(|edits| edits.characters), sum(|edits| edits.of_characters)),
            rate(sum(|edits| edits.words), sum(|edits| edits.of_words)),
            rate(sum(|edits| u64::from(edits.exact)), count),
        ]
    }
}

const NAMES: [&str; 3] = ["cer", "wer", "exact"];

impl Measured for Side {
    fn figures(&self) -> Named {
        named(&NAMES, self.rates(|_| 1))
    }

    fn resampled_names(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>> {
        self.rates(|at| u64::from(weights.get(at).copied().unwrap_or(0)))
            .to_vec()
    }

    fn less_is_better(&self, name: &str) -> bool {
        name != "exact"
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{self, answer, parts_merge};
    use super::*;

    fn characters(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    fn decoded(classes: &[i64], charset: &str, options: &TextOptions) -> Result<String, EvaluateError> {
        let values: Vec<f64> = classes.iter().map(|class| *class as f64).collect();
        let numbers = answer(&[classes.len()], &values, true);
        decode(&numbers.outputs[0], &characters(charset), options)
    }

    #[test]
    fn repetitions_count_once_and_blanks_part_them() {
        let options = TextOptions::default();
        assert_eq!(decoded(&[1, 1, 0, 1, 2, 2, 0], "ab", &options).unwrap(), "aab");
        assert_eq!(decoded(&[], "ab", &options).unwrap(), "");
        assert!(decoded(&[3], "ab", &options).is_err());
        let last = TextOptions {
            blank: 2,
            ..TextOptions::default()
        };
        assert_eq!(decoded(&[0, 2, 0, 1], "ab", &last).unwrap(), "aab");
    }

    #[test]
    fn scores_are_taken_along_the_axis_that_is_named() {
        let rows = [0.0, 2.0, 1.0, 0.0, 1.0, 3.0];
        let text = |dims: &[usize], axis: i64, charset: &str| {
            let options = TextOptions {
                axis,
                ..TextOptions::default()
            };
            decode(
                &answer(dims, &rows, false).outputs[0],
                &characters(charset),
                &options,
            )
        };
        assert_eq!(text(&[2, 3], -1, "ab").unwrap(), "ab");
        assert_eq!(text(&[1, 2, 3], -1, "ab").unwrap(), "ab");
        // Columns (0, 0), (2, 1), (1, 3): the first of equal ones, then class 0, then class 1.
        assert_eq!(text(&[2, 3], 0, "x").unwrap(), "x");
        // The blank's own line.
        assert_eq!(text(&[2, 3], -1, "_ab").unwrap(), "ab");
        let error = text(&[2, 3], -1, "abcd").unwrap_err().to_string();
        assert!(
            error.contains("3 classes") && error.contains("4 characters"),
            "{error}"
        );
        assert!(text(&[2, 3], 2, "ab").is_err());
    }

    #[test]
    fn rates_equal_jiwer() {
        // jiwer 4.0.0: cer and wer of these lists.
        let texts = [
            ("hello world", "helo  world"),
            ("the quick brown fox", "the quack fox jumps"),
            ("", "abc"),
            ("  padded ", "padded"),
            ("a\tb c", "a b c"),
            ("größe", "grosse"),
        ];
        let [cer, wer, exact] = Side::new(texts.into_iter()).rates(|_| 1);
        assert_eq!(cer, Some(19.0 / 46.0));
        assert_eq!(wer, Some(8.0 / 10.0));
        assert_eq!(exact, Some(1.0 / 6.0));
        let silent = [("", "abc"), (" ", "d")];
        assert_eq!(
            Side::new(silent.into_iter()).rates(|_| 1),
            [Some(4.0), Some(2.0), Some(0.0)]
        );
        assert_eq!(
            Side::new([("", "")].into_iter()).rates(|_| 1),
            [Some(0.0), Some(0.0), Some(1.0)]
        );
    }

    #[test]
    fn a_sample_that_counts_twice_is_two_samples() {
        let texts = [("one two", "one"), ("three", "three"), ("", "four")];
        let side = Side::new(texts.into_iter());
        let twice = Side::new([texts[0], texts[0], texts[2]].into_iter()).rates(|_| 1);
        assert_eq!(side.resampled(&[2, 0, 1]), twice);
        assert_eq!(side.resampled(&[0, 0, 0]), [None; 3]);
    }

    #[test]
    fn the_reference_is_the_truth_where_there_is_none() {
        let options = TextOptions::default();
        let charset = characters("ab");
        let sample = |index, truth| Sample {
            truth,
            ..trial::sample(index)
        };
        let one = |classes: &[f64]| answer(&[classes.len()], classes, true);
        let mut state = Texts::default();
        state
            .count(
                &sample(0, None),
                &one(&[1., 2.]),
                Some(&one(&[1., 0., 1.])),
                &charset,
                &options,
            )
            .unwrap();
        state
            .count(
                &sample(1, None),
                &one(&[1.]),
                Some(&one(&[1.])),
                &charset,
                &options,
            )
            .unwrap();
        let figures = state.figures(true, 0.95);
        assert_eq!(figures.figures["cer"], Some(1.0 / 3.0));
        assert_eq!(figures.drops["exact"], Some(0.5));
        assert_eq!(figures.drops["cer"], Some(1.0 / 3.0));
        assert_eq!(
            figures.words,
            ["1 of 2 texts differ from the reference's", "\"aa\" became \"ab\""]
        );
        assert!(
            state
                .count(&sample(2, None), &one(&[1.]), None, &charset, &options)
                .is_err()
        );
        let boxes = Truth::Boxes(Vec::new());
        assert!(
            state
                .count(&sample(2, Some(&boxes)), &one(&[1.]), None, &charset, &options)
                .is_err()
        );
    }

    #[test]
    fn parts_merge_to_the_byte() {
        let part = |indices: std::ops::Range<u64>| {
            let mut state = Texts::default();
            for index in indices {
                let reading = Reading {
                    truth: (index % 3 > 0).then(|| format!("text {index}")),
                    model: format!("te t {index}\u{7}"),
                    reference: Some(format!("text{index}")),
                };
                state.samples.insert(index, reading);
            }
            state
        };
        parts_merge(part, Texts::merge, |state| state.figures(false, 0.95));
    }
}
