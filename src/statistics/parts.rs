//! Statistics of a data set in one go, or joined of parts where its work is shared.

use std::ops::Range;

use super::activations::StatisticsError;
use crate::data::Dataset;
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

/// What `over` collects of all batches of the data: of each part apart where the data's work is shared, with the same bits.
pub(super) fn collected<T: Joined>(
    data: &Dataset,
    work: Work,
    mut over: impl FnMut(Range<u64>) -> Result<T, StatisticsError>,
) -> Result<T, StatisticsError> {
    let Some(ledger) = data.ledger() else {
        return over(data.batches());
    };
    let cuts = data.cuts(ledger.cuts());
    let names: Vec<String> = cuts.iter().map(|cut| data.words(cut)).collect();
    let mut whole: Option<T> = None;
    ledger.each(
        &data.described(work),
        &names,
        |index| match cuts.get(index) {
            Some(cut) => over(cut.clone())?.to_part(),
            None => Ok(Vec::new()),
        },
        |_, bytes| {
            let part = T::of_part(&bytes)?;
            match &mut whole {
                Some(whole) => whole.join(part),
                empty @ None => {
                    *empty = Some(part);
                    Ok(())
                }
            }
        },
    )?;
    match whole {
        Some(whole) => Ok(whole),
        None => over(data.batches()),
    }
}
