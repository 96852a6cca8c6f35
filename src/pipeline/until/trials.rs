//! Candidates that several processes judge, all those at once that a search may ask for next.

use std::collections::VecDeque;

use super::super::gates::GateReport;
use super::climb::{Bench, Choice, Ladder, Which};
use crate::parts::{Ledger, PartsError, Work};
use crate::passes::PassError;

/// Rungs that are looked at ahead of a halving at most.
const MOST_AHEAD: usize = 64;

/// A candidate that is judged: by which bounds, on samples that the search sees or on others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    choice: Choice,
    which: Which,
    held_out: bool,
}

impl Trial {
    pub(super) fn new(choice: Choice, which: Which, held_out: bool) -> Self {
        Self {
            choice,
            which,
            held_out,
        }
    }

    /// What tells it from others of the search.
    fn words(&self) -> String {
        let on = if self.held_out { "held out" } else { "search" };
        format!(
            "candidate {:?}, {:?} bounds, on {on} samples",
            self.choice, self.which
        )
    }
}

/// Where candidates are judged by several processes.
pub(super) struct Sharing<'a> {
    pub(super) pass: &'static str,
    pub(super) ledger: &'a Ledger,
    /// What the judgements depend on.
    pub(super) work: Work,
}

/// What other processes found of candidates, or this one found for them; nothing where one process searches.
#[derive(Default)]
pub(super) struct Trials<'a> {
    sharing: Option<Sharing<'a>>,
    judged: Vec<(Trial, Vec<GateReport>)>,
}

impl<'a> Trials<'a> {
    pub(super) fn shared(sharing: Sharing<'a>) -> Self {
        Self {
            sharing: Some(sharing),
            judged: Vec::new(),
        }
    }

    /// What the bounds say of a candidate, where that is known.
    pub(super) fn known(&self, trial: &Trial) -> Option<&[GateReport]> {
        let found = self.judged.iter().find(|(judged, _)| judged == trial);
        found.map(|(_, gates)| gates.as_slice())
    }

    /// Has candidates judged, the first of them as far as there are processes, where several processes do that.
    pub(super) fn judge(
        &mut self,
        (ladder, bench): (&dyn Ladder, &dyn Bench),
        candidates: impl Iterator<Item = Trial>,
    ) -> Result<(), PassError> {
        let Some(sharing) = &self.sharing else {
            return Ok(());
        };
        let mut trials: Vec<Trial> = Vec::new();
        for trial in candidates {
            if trials.len() < sharing.ledger.cuts()
                && self.known(&trial).is_none()
                && !trials.contains(&trial)
            {
                trials.push(trial);
            }
        }
        if trials.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = trials.iter().map(Trial::words).collect();
        let wrap = |error: PartsError| PassError::resource(sharing.pass, error);
        let found = sharing
            .ledger
            .values(&sharing.work, &names, wrap, |index| match trials.get(index) {
                Some(trial) => bench.judge(&ladder.make(&trial.choice)?, trial.which, trial.held_out),
                None => Ok(Vec::new()),
            })?;
        self.judged.extend(trials.into_iter().zip(found));
        Ok(())
    }
}

/// Rungs from `first` on, in steps that grow, to the top.
pub(super) fn rising(first: usize, top: usize) -> impl Iterator<Item = usize> {
    let mut next = Some((first, 1));
    std::iter::from_fn(move || {
        let (rung, step) = next.filter(|(rung, _)| *rung <= top)?;
        next = (rung < top).then(|| ((rung + step).min(top), step * 2));
        Some(rung)
    })
}

/// The rungs that halving may ask for between two, those that it asks for first before the others. `up`: as the search for the highest
/// rung halves, else as that for the lowest.
pub(super) fn middles(low: usize, high: usize, up: bool) -> Vec<usize> {
    let mut found = Vec::new();
    let mut ranges = VecDeque::from([(low, high)]);
    while let Some((low, high)) = ranges.pop_front().filter(|_| found.len() < MOST_AHEAD) {
        if low >= high {
            continue;
        }
        let middle = usize::midpoint(low, high + usize::from(up));
        found.push(middle);
        let (below, above) = match up {
            true => ((low, middle - 1), (middle, high)),
            false => ((low, middle), (middle + 1, high)),
        };
        ranges.extend([below, above]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_ahead_are_those_that_a_search_asks_for() {
        assert_eq!(rising(0, 9).collect::<Vec<_>>(), [0, 1, 3, 7, 9]);
        assert_eq!(rising(4, 4).collect::<Vec<_>>(), [4]);
        assert_eq!(rising(5, 4).count(), 0);
        assert_eq!(middles(0, 8, false), [4, 2, 6, 1, 3, 5, 7, 0]);
        assert!(middles(3, 3, false).is_empty());
        // Every rung that halving comes to is among them, whatever the answers.
        for up in [false, true] {
            let all = middles(0, 12, up);
            for answers in 0..16u32 {
                let (mut low, mut high) = (0, 12);
                for step in 0..4 {
                    if low >= high {
                        break;
                    }
                    let middle = usize::midpoint(low, high + usize::from(up));
                    assert!(all.contains(&middle), "{middle} {up}");
                    match (up, answers >> step & 1 == 1) {
                        (false, true) => high = middle,
                        (false, false) => low = middle + 1,
                        (true, true) => low = middle,
                        (true, false) => high = middle - 1,
                    }
                }
            }
        }
    }
}
