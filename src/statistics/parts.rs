//! Statistics of a data set in one go, or joined of parts where its work is shared.

use std::ops::Range;

use super::error::{FileFault, StatisticsError};
use crate::data::Dataset;
use crate::engine::stream::Stream;
use crate::parts::Work;

/// What is collected over batches and can be joined.
pub(super) trait Joined: Sized {
    /// The bytes of a part.
    fn to_part(&self) -> Result<Vec<u8>, StatisticsError>;
    /// What [`Joined::to_part`] made.
    fn of_part(bytes: &[u8]) -> Result<Self, StatisticsError>;
    /// Adds a part of other samples.
    fn join(&mut self, other: Self) -> Result<(), StatisticsError>;
}

/// What was collected over some batches.
pub(super) struct Seen<T> {
    pub(super) found: T,
    pub(super) zeros: Zeros,
}

/// The inputs of a model, where each was zero in all that ran; none of them where nothing ran.
pub(super) type Zeros = Option<Vec<String>>;

/// The inputs, where each was zero in everything that a stream ran.
pub(super) fn zeros(stream: &Stream<'_>) -> Zeros {
    let inputs = stream.constant_inputs()?;
    let are_zero = inputs.iter().all(|(_, value)| *value == 0.0);
    are_zero.then(|| inputs.into_iter().map(|(name, _)| name).collect())
}

/// What `over` collects of all batches of the data with what `compile` answers: of each part apart where the data's work is shared, with
/// the same bits. Data that are zero in every input are refused.
pub(super) fn collected<C, T: Joined>(
    data: &Dataset,
    work: impl FnOnce() -> Work,
    compile: impl Fn() -> Result<C, StatisticsError>,
    over: impl Fn(&C, Range<u64>) -> Result<Seen<T>, StatisticsError>,
) -> Result<T, StatisticsError> {
    let Some(ledger) = data.ledger() else {
        let seen = over(&compile()?, data.batches())?;
        check_varying(data, seen.zeros)?;
        return Ok(seen.found);
    };
    let cuts = data.cuts(ledger.cuts());
    let names: Vec<String> = cuts.iter().map(|cut| data.words(cut)).collect();
    let mut compiled: Option<C> = None;
    let mut make = |index: usize| {
        let compiled = match &mut compiled {
            Some(compiled) => compiled,
            empty @ None => empty.insert(compile()?),
        };
        let cut = cuts.get(index).cloned().unwrap_or_default();
        let seen = over(compiled, cut)?;
        let mut bytes = serde_json::to_vec(&seen.zeros).map_err(FileFault::from)?;
        bytes.push(b'\n');
        bytes.extend(seen.found.to_part()?);
        Ok::<_, StatisticsError>(bytes)
    };
    let mut whole: Option<Seen<T>> = None;
    ledger.each(&data.described(work()), &names, &mut make, |_, bytes| {
        let part = stored(&bytes)?;
        match &mut whole {
            Some(whole) => {
                whole.zeros = both(whole.zeros.take(), part.zeros);
                whole.found.join(part.found)
            }
            empty @ None => {
                *empty = Some(part);
                Ok(())
            }
        }
    })?;
    let whole = whole.ok_or_else(|| StatisticsError::Missing("a part".to_owned()))?;
    check_varying(data, whole.zeros)?;
    Ok(whole.found)
}

/// Reads a part.
fn stored<T: Joined>(bytes: &[u8]) -> Result<Seen<T>, StatisticsError> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (first, rest) = bytes.split_at(end);
    Ok(Seen {
        zeros: serde_json::from_slice(first).map_err(FileFault::from)?,
        found: T::of_part(rest.get(1..).unwrap_or_default())?,
    })
}

/// The inputs that are zero in both parts, where every input is.
fn both(a: Zeros, b: Zeros) -> Zeros {
    let (a, b) = (a?, b?);
    Some(if a.is_empty() { b } else { a })
}

/// Refuses data that are zero in every input.
fn check_varying(data: &Dataset, zeros: Zeros) -> Result<(), StatisticsError> {
    match zeros {
        Some(inputs) if !inputs.is_empty() => Err(StatisticsError::Zeros {
            file: data.origin().to_owned(),
            inputs,
            samples: data.sample_range().end - data.sample_range().start,
        }),
        _ => Ok(()),
    }
}
