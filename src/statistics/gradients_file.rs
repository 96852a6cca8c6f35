//! Gradient statistics as a file: safetensors with `gradients/<parameter>/<field>`, fields `sum`, `absolute` and `squared` as
//! f64 in the parameter's shape. A file that lacks samples has them before rounding, too, as `<field>_exact` i64 `[elements, 3]`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::error::{FileFault, StatisticsFileError};
use super::file::{
    self, ROUNDED, Subject, check_format, is_complete, join_ranges, read_with, same_subject, write_bytes,
};
use super::gradients::{Gradient, GradientStatistics, GradientSums};
use super::stored::{ENTRY, FORMAT, value_and_field, words};
use crate::linalg::Sums;

const KIND: &str = "gradients";
/// The fields of a parameter.
const FIELDS: [&str; 3] = ["sum", "absolute", "squared"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    kind: String,
    subject: Subject,
    loss: String,
    gradients: u64,
    loss_sum: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_exact: Option<Sums<3>>,
    ranges: Vec<(u64, u64)>,
}

impl GradientStatistics {
    /// Adds another part of the same subject.
    pub fn merge(&mut self, other: &Self) -> Result<(), StatisticsFileError> {
        same_subject(&self.subject, &other.subject)?;
        let refused = |what: &str| {
            Err(StatisticsFileError::Merge(format!(
                "the parts are of different {what}"
            )))
        };
        if self.loss != other.loss {
            return refused("losses");
        }
        if !self.values.keys().eq(other.values.keys()) {
            return refused("parameters");
        }
        let ranges = join_ranges(&self.ranges, &other.ranges)?;
        if [&*self, other]
            .iter()
            .any(|part| part.sums.len() != part.values.len())
        {
            return Err(StatisticsFileError::Merge(ROUNDED.to_owned()));
        }
        self.ranges = ranges;
        self.gradients += other.gradients;
        self.loss_sum.merge(&other.loss_sum);
        for (name, more) in &other.sums {
            let (Some(mine), Some(value)) = (self.sums.get_mut(name), self.values.get_mut(name)) else {
                continue;
            };
            mine.merge(more);
            *value = mine.rounded(&value.dims);
        }
        if self.is_complete() {
            self.sums.clear();
        }
        Ok(())
    }

    /// Whether they are of every sample that gradients are taken of: a last batch that is not full is left out.
    pub(super) fn is_complete(&self) -> bool {
        let batch = self.subject.batch.max(1);
        is_complete(&self.ranges, self.subject.samples / batch * batch)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FileFault> {
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, gradient) in &self.values {
            let shape: Vec<usize> = gradient.dims.iter().map(|dim| *dim as usize).collect();
            for (field, values) in FIELDS
                .iter()
                .zip([&gradient.sum, &gradient.absolute, &gradient.squared])
            {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors.push((format!("{KIND}/{name}/{field}"), Dtype::F64, shape.clone(), bytes));
            }
            for (field, sums) in self
                .sums
                .get(name)
                .iter()
                .flat_map(|own| FIELDS.iter().zip(&own.sums))
            {
                let bytes = sums.words().into_iter().flat_map(i64::to_le_bytes).collect();
                let name = format!("{KIND}/{name}/{field}_exact");
                tensors.push((name, Dtype::I64, vec![sums.len(), 3], bytes));
            }
        }
        let views: Vec<(&str, TensorView<'_>)> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
            })
            .collect::<Result<_, _>>()?;
        let header = Header {
            format: FORMAT,
            kind: KIND.to_owned(),
            subject: self.subject.clone(),
            loss: self.loss.clone(),
            gradients: self.gradients,
            loss_sum: self.loss_sum.value(0),
            loss_exact: (!self.is_complete()).then(|| self.loss_sum.clone()),
            ranges: self.ranges.clone(),
        };
        let header = serde_json::to_string(&header)?;
        let metadata = HashMap::from([(ENTRY.to_owned(), header)]);
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Whether these bytes are gradient statistics, and not statistics of another kind.
    pub fn recognises(bytes: &[u8]) -> bool {
        header(bytes).is_ok()
    }

    /// Reads what [`GradientStatistics::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileFault> {
        let header = header(bytes)?;
        check_format(header.format)?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut values: BTreeMap<String, Gradient> = BTreeMap::new();
        let mut exact: BTreeMap<String, GradientSums> = BTreeMap::new();
        for (name, view) in tensors.iter() {
            let Some((parameter, field)) = value_and_field(name, KIND) else {
                continue;
            };
            if let Some(at) = field
                .strip_suffix("_exact")
                .and_then(|field| FIELDS.iter().position(|own| *own == field))
            {
                let words: Vec<i64> = words(view.data()).into_iter().map(u64::cast_signed).collect();
                let sums = Sums::from_words(&words).ok_or_else(|| FileFault::Fields(parameter.to_owned()))?;
                exact.entry(parameter.to_owned()).or_default().sums[at] = sums;
                continue;
            }
            if view.dtype() != Dtype::F64 {
                return Err(FileFault::NotF64(name.to_owned()));
            }
            let gradient = values.entry(parameter.to_owned()).or_default();
            gradient.dims = view.shape().iter().map(|dim| *dim as u64).collect();
            let numbers = words(view.data()).into_iter().map(f64::from_bits).collect();
            match field {
                "sum" => gradient.sum = numbers,
                "absolute" => gradient.absolute = numbers,
                "squared" => gradient.squared = numbers,
                _ => {}
            }
        }
        for (name, gradient) in &values {
            let count = gradient.dims.iter().product::<u64>() as usize;
            let sizes = [
                gradient.sum.len(),
                gradient.absolute.len(),
                gradient.squared.len(),
            ];
            let own = exact.get(name).map(|own| own.sums.each_ref().map(Sums::len));
            if sizes != [count; 3] || own.is_some_and(|own| own != sizes) {
                return Err(FileFault::Fields(name.clone()));
            }
        }
        Ok(Self {
            subject: header.subject,
            loss: header.loss,
            gradients: header.gradients,
            loss_sum: header.loss_exact.unwrap_or_else(|| Sums::of(&[header.loss_sum])),
            ranges: header.ranges,
            values,
            sums: exact,
        })
    }

    /// Reads a file of gradient statistics.
    pub fn read(path: &Path) -> Result<Self, StatisticsFileError> {
        read_with(path, Self::from_bytes)
    }

    /// Writes a file of gradient statistics, all or nothing.
    pub fn write(&self, path: &Path) -> Result<(), StatisticsFileError> {
        let bytes = self.to_bytes().map_err(|reason| StatisticsFileError::File {
            file: path.to_owned(),
            reason,
        })?;
        write_bytes(path, &bytes)
    }
}

fn header(bytes: &[u8]) -> Result<Header, FileFault> {
    let header: Header = serde_json::from_str(&file::header(bytes)?).map_err(|_| FileFault::NoGradients)?;
    if header.kind != KIND {
        return Err(FileFault::Kind(header.kind));
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u64, end: u64) -> GradientStatistics {
        let mut loss = Sums::new(1);
        let mut sums = GradientSums {
            sums: std::array::from_fn(|_| Sums::new(2)),
        };
        for sample in start..end {
            let value = sample as f64 * 0.1;
            loss.add(0, value);
            sums.sums[0].add_all(&[value, -value]);
            sums.sums[1].add_all(&[value, value]);
            sums.sums[2].add_all(&[value * value, value]);
        }
        let complete = (start, end) == (0, 9);
        let own = BTreeMap::from([("layer/weight".to_owned(), sums.clone())]);
        GradientStatistics {
            subject: Subject {
                samples: 9,
                batch: 1,
                ..Subject::default()
            },
            loss: "cross-entropy".to_owned(),
            gradients: end - start,
            loss_sum: loss,
            ranges: vec![(start, end)],
            values: BTreeMap::from([("layer/weight".to_owned(), sums.rounded(&[1, 2]))]),
            sums: if complete { BTreeMap::new() } else { own },
        }
    }

    #[test]
    fn parts_merge_to_the_whole_and_survive_the_file() {
        let mut merged = part(4, 9);
        merged.merge(&part(0, 4)).unwrap();
        assert_eq!(merged, part(0, 9));
        let bytes = merged.to_bytes().unwrap();
        assert!(GradientStatistics::recognises(&bytes));
        assert_eq!(bytes, part(0, 9).to_bytes().unwrap());
        let bytes = part(0, 4).to_bytes().unwrap();
        assert_eq!(GradientStatistics::from_bytes(&bytes).unwrap(), part(0, 4));
    }

    #[test]
    fn overlaps_and_other_losses_are_refused() {
        let mut whole = part(0, 4);
        assert!(whole.merge(&part(3, 5)).is_err());
        let mut other = part(4, 5);
        other.loss = "mean-squared-error".to_owned();
        assert!(whole.merge(&other).is_err());
        assert_eq!(whole, part(0, 4));
    }
}
