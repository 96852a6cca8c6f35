//! Whether the inputs of the model ever change over a data set.

use std::collections::BTreeMap;

use super::super::{RunValue, RunValues};

/// What is known of one input so far.
#[derive(Clone, Debug)]
enum Seen {
    /// Every element had these bytes, and there were so many.
    Same(Vec<u8>, u64, f64),
    Varying,
}

/// Inputs by name, and whether all their elements were the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs(BTreeMap<String, Seen>);

impl Inputs {
    pub(super) fn see(&mut self, inputs: &RunValues) {
        for (name, value) in inputs {
            let known = self.0.get(name);
            if matches!(known, Some(Seen::Varying)) {
                continue;
            }
            let seen = match (value, known) {
                (RunValue::Tensor(tensor), known) => match (tensor.raw_bytes(), tensor.elements()) {
                    (_, 0) => continue,
                    (Ok(bytes), count) if (bytes.len() as u64).is_multiple_of(count) => {
                        let size = (bytes.len() as u64 / count) as usize;
                        let (first, before) = match known {
                            Some(Seen::Same(first, before, _)) => (first.clone(), *before),
                            _ => (bytes.get(..size).unwrap_or_default().to_vec(), 0),
                        };
                        let same = size > 0 && bytes.chunks(size).all(|element| element == first);
                        let number = tensor.to_f64().ok().and_then(|values| values.first().copied());
                        match (same, number) {
                            (true, Some(number)) => Seen::Same(first, before + count, number),
                            _ => Seen::Varying,
                        }
                    }
                    _ => Seen::Varying,
                },
                _ => Seen::Varying,
            };
            self.0.insert(name.clone(), seen);
        }
    }

    /// Each input with the only value it ever had, when none ever changes and there is more than one element of some.
    pub(super) fn constant(&self) -> Option<Vec<(String, f64)>> {
        let same = self.0.iter().map(|(name, seen)| match seen {
            Seen::Same(_, count, number) => Some((name.clone(), *count, *number)),
            Seen::Varying => None,
        });
        let same: Vec<(String, u64, f64)> = same.collect::<Option<_>>()?;
        let many = same.iter().any(|(_, count, _)| *count > 1);
        many.then(|| same.into_iter().map(|(name, _, number)| (name, number)).collect())
    }
}
