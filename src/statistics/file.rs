//! The statistics file: one safetensors file, with tensors `<kind>/<value>/<field>` and what they were taken from as metadata.
//!
//! Fields of the kind `quantize`: `extremes` f32 `[2]`, `count` u64 `[2]` (finite, not finite), `exponent` i64 `[1]` and `counts`
//! u64 `[8192]` of the histogram, `repeats` u64 `[1]` where those have repeats that filled up a last batch, and where asked for `channel_sums` f64 `[C]` with `channel_count` u64 `[1]`, and
//! `channel_extremes` f32 `[C, 2]`, and sums of the samples' extremes `sample_extremes` f64 `[2]` with `sample_count` u64 `[1]`. Fields of
//! the kind `gram`, by [`Layer::key`](super::gram::Layer::key): `matrix` f64 `[groups, D, D]`, `sum` f64 `[groups, D]`, `rows` u64 `[groups]`.
//!
//! Parts of one subject over disjoint samples merge to the bytes of the whole, in any order: a file that lacks samples has each field of
//! sums once more as `<field>_exact` i64 `[..., bins + 1]`, the words of [`Sums`], without rounding.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::Summary;
use super::error::{FileFault, StatisticsFileError};
use super::gram::{Grams, SumsByKey, fields};
use super::stored::{ENTRY, FORMAT, value_and_field, words};
use crate::files::{Draft, read_bytes};
use crate::linalg::Sums;
use crate::quantize::Histogram;

const KIND: &str = "quantize";

/// What statistics were taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Digest of the model that ran: see [`crate::ir::model_digest`].
    pub model: String,
    /// Digest of data and preprocessing.
    pub data: String,
    /// Samples of the whole data set.
    pub samples: u64,
    /// Samples a batch.
    pub batch: u64,
    /// Engine.
    pub engine: String,
    /// Rows of a layer that one sample gave at most, for Gram matrices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_sample: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    subject: Subject,
    ranges: Vec<(u64, u64)>,
}

/// Statistics of values over some samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// What they are of; others do not merge.
    pub subject: Subject,
    /// Ranges of global sample indices, ascending and apart.
    pub ranges: Vec<(u64, u64)>,
    /// By value.
    pub values: BTreeMap<String, Summary>,
    /// Gram matrices of what layers read.
    pub grams: Grams,
}

impl Statistics {
    /// Statistics of the samples in `range`; sums of rows are kept as they are only where samples are missing.
    pub fn of(
        subject: Subject,
        range: std::ops::Range<u64>,
        values: BTreeMap<String, Summary>,
        grams: SumsByKey,
    ) -> Self {
        let ranges: Vec<(u64, u64)> = (!range.is_empty())
            .then_some((range.start, range.end))
            .into_iter()
            .collect();
        let complete = is_complete(&ranges, subject.samples);
        Self {
            subject,
            ranges,
            values,
            grams: Grams::of_sums(grams, complete),
        }
    }

    /// Whether they are of every sample of the data.
    pub fn is_complete(&self) -> bool {
        is_complete(&self.ranges, self.subject.samples)
    }

    /// Adds another part of the same subject.
    pub fn merge(&mut self, other: &Statistics) -> Result<(), StatisticsFileError> {
        same_subject(&self.subject, &other.subject)?;
        let shapes = |grams: &Grams| -> Vec<(String, Vec<usize>)> {
            let one = |(key, groups): (&String, &Vec<super::gram::Gram>)| {
                (
                    key.clone(),
                    groups.iter().map(super::gram::Gram::columns).collect(),
                )
            };
            grams.by_key.iter().map(one).collect()
        };
        if !self.values.keys().eq(other.values.keys()) || shapes(&self.grams) != shapes(&other.grams) {
            return Err(StatisticsFileError::Merge(
                "the parts are of different values".to_owned(),
            ));
        }
        let ranges = join_ranges(&self.ranges, &other.ranges)?;
        if [&self.grams, &other.grams]
            .iter()
            .any(|grams| grams.sums.len() != grams.by_key.len())
        {
            return Err(StatisticsFileError::Merge(ROUNDED.to_owned()));
        }
        self.ranges = ranges;
        for (name, summary) in &other.values {
            if let Some(mine) = self.values.get_mut(name) {
                mine.merge(summary);
            }
        }
        let mut sums = std::mem::take(&mut self.grams.sums);
        for (key, groups) in &other.grams.sums {
            let mine = sums.get_mut(key).into_iter().flatten();
            mine.zip(groups).for_each(|(mine, more)| mine.merge(more));
        }
        self.grams = Grams::of_sums(sums, self.is_complete());
        Ok(())
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FileFault> {
        let complete = self.is_complete();
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (value, summary) in &self.values {
            let mut add = |field: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>| {
                tensors.push((format!("{KIND}/{value}/{field}"), dtype, shape.to_vec(), data));
            };
            let mut add_sums = |field: &str, sums: &Sums<3>| {
                let bytes = sums.values().iter().flat_map(|sum| sum.to_le_bytes()).collect();
                add(field, Dtype::F64, &[sums.len()], bytes);
                if !complete {
                    let bytes = sums.words().iter().flat_map(|word| word.to_le_bytes()).collect();
                    add(&format!("{field}_exact"), Dtype::I64, &[sums.len(), 4], bytes);
                }
            };
            if let Some((sums, _)) = &summary.channels {
                add_sums("channel_sums", sums);
            }
            if let Some((sums, _)) = &summary.sample_extremes {
                add_sums("sample_extremes", sums);
            }
            let histogram = &summary.histogram;
            let (low, high) = histogram.extremes().unwrap_or((f32::INFINITY, f32::NEG_INFINITY));
            add("extremes", Dtype::F32, &[2], floats(&[low, high]));
            add(
                "count",
                Dtype::U64,
                &[2],
                integers(&[histogram.count(), histogram.not_finite()]),
            );
            let (exponent, counts) = histogram.parts();
            add(
                "exponent",
                Dtype::I64,
                &[1],
                i64::from(exponent).to_le_bytes().to_vec(),
            );
            add("counts", Dtype::U64, &[counts.len()], integers(&counts));
            if let Some((_, count)) = &summary.channels {
                add("channel_count", Dtype::U64, &[1], integers(&[*count]));
            }
            if let Some(extremes) = &summary.channel_extremes {
                let flat: Vec<f32> = extremes.iter().flat_map(|(low, high)| [*low, *high]).collect();
                add(
                    "channel_extremes",
                    Dtype::F32,
                    &[extremes.len(), 2],
                    floats(&flat),
                );
            }
            if let Some((_, count)) = &summary.sample_extremes {
                add("sample_count", Dtype::U64, &[1], integers(&[*count]));
            }
            if summary.repeats {
                add("repeats", Dtype::U64, &[1], integers(&[1]));
            }
        }
        tensors.extend(fields::write(&self.grams));
        let views: Vec<(&str, TensorView<'_>)> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| {
                TensorView::new(*dtype, shape.clone(), data).map(|view| (name.as_str(), view))
            })
            .collect::<Result<_, _>>()?;
        let header = Header {
            format: FORMAT,
            subject: self.subject.clone(),
            ranges: self.ranges.clone(),
        };
        let header = serde_json::to_string(&header)?;
        let metadata = HashMap::from([(ENTRY.to_owned(), header)]);
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads what [`Statistics::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileFault> {
        let header: Header = serde_json::from_str(&header(bytes)?)?;
        check_format(header.format)?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut fields: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for (name, view) in tensors.iter() {
            let Some((value, field)) = value_and_field(name, KIND) else {
                continue;
            };
            fields
                .entry(value.to_owned())
                .or_default()
                .insert(field.to_owned(), view.data().to_vec());
        }
        let mut values = BTreeMap::new();
        for (value, fields) in fields {
            let summary = summary(&fields).ok_or_else(|| FileFault::Fields(value.clone()))?;
            values.insert(value, summary);
        }
        Ok(Self {
            subject: header.subject,
            ranges: header.ranges,
            values,
            grams: fields::read(&tensors)?,
        })
    }

    /// Reads a statistics file.
    pub fn read(path: &Path) -> Result<Self, StatisticsFileError> {
        read_with(path, Self::from_bytes)
    }

    /// Writes a statistics file, all or nothing.
    pub fn write(&self, path: &Path) -> Result<(), StatisticsFileError> {
        let bytes = self.to_bytes().map_err(|reason| StatisticsFileError::File {
            file: path.to_owned(),
            reason,
        })?;
        write_bytes(path, &bytes)
    }
}

/// The header of a statistics file, as JSON.
pub(super) fn header(bytes: &[u8]) -> Result<String, FileFault> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let entries = metadata.metadata().as_ref();
    let header = entries.and_then(|entries| entries.get(ENTRY));
    Ok(header.ok_or(FileFault::Foreign)?.clone())
}

/// Refuses a file of another version.
pub(super) fn check_format(format: u32) -> Result<(), FileFault> {
    match format {
        FORMAT => Ok(()),
        other => Err(FileFault::Format(other)),
    }
}

/// Reads a file and makes of its bytes what `parse` does.
pub(super) fn read_with<T>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, FileFault>,
) -> Result<T, StatisticsFileError> {
    let wrong = |reason: FileFault| StatisticsFileError::File {
        file: path.to_owned(),
        reason,
    };
    let bytes = read_bytes(path).map_err(|error| wrong(error.into()))?;
    parse(&bytes).map_err(wrong)
}

/// Whether statistics are of the same model, data, batch size and engine, and of as many rows a sample.
pub(super) fn same_subject(a: &Subject, b: &Subject) -> Result<(), StatisticsFileError> {
    for (what, same) in [
        ("models", a.model == b.model),
        (
            "data sets or preprocessings",
            a.data == b.data && a.samples == b.samples,
        ),
        ("batch sizes", a.batch == b.batch),
        ("engines", a.engine == b.engine),
        ("numbers of rows a sample", a.rows_per_sample == b.rows_per_sample),
    ] {
        if !same {
            return Err(StatisticsFileError::Merge(format!(
                "the parts are of different {what}"
            )));
        }
    }
    Ok(())
}

/// Why rounded sums do not merge.
pub(super) const ROUNDED: &str =
    "a part holds rounded sums: it is complete, or of an earlier release and has to be collected again";

/// Whether ranges are all of so many samples.
pub(super) fn is_complete(ranges: &[(u64, u64)], samples: u64) -> bool {
    matches!(ranges, [(0, end)] if *end == samples)
}

/// Ranges of samples together, ascending and apart; refused where a sample would count twice.
pub(super) fn join_ranges(
    ranges: &[(u64, u64)],
    others: &[(u64, u64)],
) -> Result<Vec<(u64, u64)>, StatisticsFileError> {
    for (start, end) in others {
        if let Some((a, b)) = ranges.iter().find(|(a, b)| start < b && a < end) {
            return Err(StatisticsFileError::Merge(format!(
                "samples {} to {} are counted twice",
                start.max(a),
                end.min(b) - 1
            )));
        }
    }
    let mut all: Vec<(u64, u64)> = ranges.iter().chain(others).copied().collect();
    all.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in all {
        match joined.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => joined.push((start, end)),
        }
    }
    Ok(joined)
}

/// Writes a file, all or nothing.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), StatisticsFileError> {
    let wrong = |reason: FileFault| StatisticsFileError::File {
        file: path.to_owned(),
        reason,
    };
    Draft::write_file(path, bytes, true).map_err(|error| wrong(error.into()))
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn integers(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn read_f32(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}

/// Sums before rounding where a part has them, with the number of their addends.
fn sums(fields: &BTreeMap<String, Vec<u8>>, field: &str, count: &str) -> Option<(Sums<3>, u64)> {
    let count = *words(fields.get(count)?).first()?;
    let sums = match fields.get(&format!("{field}_exact")) {
        Some(exact) => {
            let words: Vec<i64> = words(exact).into_iter().map(u64::cast_signed).collect();
            Sums::from_words(&words)?
        }
        None => {
            let rounded: Vec<f64> = words(fields.get(field)?)
                .into_iter()
                .map(f64::from_bits)
                .collect();
            Sums::of(&rounded)
        }
    };
    Some((sums, count))
}

fn summary(fields: &BTreeMap<String, Vec<u8>>) -> Option<Summary> {
    let extremes = read_f32(fields.get("extremes")?);
    let count = words(fields.get("count")?);
    let exponent = *words(fields.get("exponent")?).first()? as i64;
    let counts = words(fields.get("counts")?);
    let histogram = Histogram::from_parts(
        i32::try_from(exponent).ok()?,
        counts,
        (*extremes.first()?, *extremes.get(1)?),
        *count.first()?,
        *count.get(1)?,
    )?;
    let channels = sums(fields, "channel_sums", "channel_count");
    let channel_extremes = fields.get("channel_extremes").map(|bytes| {
        read_f32(bytes)
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[low, high]| (*low, *high))
            .collect()
    });
    let sample_extremes = sums(fields, "sample_extremes", "sample_count");
    Some(Summary {
        histogram,
        channels,
        channel_extremes,
        sample_extremes,
        repeats: fields.contains_key("repeats"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u64, end: u64) -> Statistics {
        let mut histogram = Histogram::default();
        for sample in start..end {
            histogram.add(&[sample as f32 * 0.3 - 1.0, (sample as f32).exp2()]);
        }
        let summary = Summary {
            repeats: start == 0,
            histogram,
            channels: Some((
                Sums::of(&[(end - start) as f64, 2.0 * (end - start) as f64]),
                end - start,
            )),
            channel_extremes: Some(vec![(start as f32, end as f32)]),
            sample_extremes: Some((
                Sums::of(&[(start..end).sum::<u64>() as f64, (end - start) as f64 * 0.5]),
                end - start,
            )),
        };
        let mut gram = super::super::gram::GramSums::new(2);
        for sample in start..end {
            gram.add(ndarray::array![[sample as f64 * 0.1, 1.0]].view());
        }
        let subject = Subject {
            samples: 9,
            batch: 1,
            ..Subject::default()
        };
        let values = BTreeMap::from([("a/b".to_owned(), summary)]);
        let grams = BTreeMap::from([("a/b rows".to_owned(), vec![gram; 2])]);
        Statistics::of(subject, start..end, values, grams)
    }

    #[test]
    fn parts_merge_to_the_bytes_of_the_whole_in_any_order() {
        let mut whole = part(0, 9);
        if let Some(summary) = whole.values.get_mut("a/b") {
            summary.channel_extremes = Some(vec![(0.0, 9.0)]);
        }
        for order in [[0u64, 4, 6], [6, 0, 4], [4, 6, 0]] {
            let ends = |start: u64| {
                if start == 0 {
                    4
                } else if start == 4 {
                    6
                } else {
                    9
                }
            };
            let mut merged = part(order[0], ends(order[0]));
            for start in &order[1..] {
                merged.merge(&part(*start, ends(*start))).unwrap();
            }
            assert_eq!(merged.to_bytes().unwrap(), whole.to_bytes().unwrap());
        }
    }

    #[test]
    fn overlaps_and_other_subjects_are_refused() {
        let mut a = part(0, 4);
        assert!(matches!(a.merge(&part(3, 5)), Err(StatisticsFileError::Merge(_))));
        let mut other = part(4, 5);
        other.subject.data = "another".to_owned();
        assert!(matches!(a.merge(&other), Err(StatisticsFileError::Merge(_))));
        let mut other = part(4, 5);
        other.subject.rows_per_sample = Some(8);
        let refused = a.merge(&other).unwrap_err().to_string();
        assert!(
            refused.ends_with("different numbers of rows a sample"),
            "{refused}"
        );
        assert_eq!(a, part(0, 4));
    }

    #[test]
    fn files_are_read_back_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.safetensors");
        part(0, 5).write(&path).unwrap();
        assert_eq!(Statistics::read(&path).unwrap(), part(0, 5));
        std::fs::write(&path, b"\x08\0\0\0\0\0\0\0{}      ").unwrap();
        assert!(matches!(
            Statistics::read(&path),
            Err(StatisticsFileError::File { .. })
        ));
        assert!(Statistics::from_bytes(&[1, 2, 3]).is_err());
    }
}
