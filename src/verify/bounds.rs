//! How much of a comparison is made: until when samples are begun, how many, and of which kinds.

use std::time::{Duration, Instant};

use super::kind::SampleKind;

/// Bounds on a comparison. The default bounds nothing.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// No further sample is begun after this time; the first one at each set of sizes runs all the same.
    pub time: Option<Duration>,
    /// How many batches of given data are compared at most.
    pub batches: Option<u64>,
    /// Synthetic floats only as usual inputs have them: of a result that is an approximation, extreme ones say nothing.
    pub usual: bool,
}

impl Bounds {
    /// The batches of a data set in the order in which they are compared. Under a bound every beginning of the list is spread
    /// over the whole set: sets are often sorted by class.
    pub(super) fn order(&self, mut batches: Vec<u64>) -> Vec<u64> {
        if self.time.is_none() && self.batches.is_none() {
            return batches;
        }
        let width = usize::BITS - batches.len().leading_zeros();
        let spread = |position: usize| {
            position
                .reverse_bits()
                .checked_shr(usize::BITS - width)
                .unwrap_or(0)
        };
        let mut places: Vec<usize> = (0..1usize << width).map(spread).collect();
        places.retain(|place| *place < batches.len());
        batches = places
            .into_iter()
            .filter_map(|place| batches.get(place).copied())
            .collect();
        if let Some(most) = self.batches {
            batches.truncate(usize::try_from(most.max(1)).unwrap_or(usize::MAX));
        }
        batches
    }

    /// Kinds of synthetic samples, where inputs are floats.
    pub(super) fn kinds(&self) -> &'static [SampleKind] {
        if self.usual {
            &[SampleKind::Normal, SampleKind::Uniform]
        } else {
            &SampleKind::ALL
        }
    }
}

/// When samples are no longer begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    time: Option<Duration>,
    /// Whether a further set of sizes is still to come, which half of the time is kept for.
    pub(super) halved: bool,
}

impl Clock {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            start: Instant::now(),
            time: bounds.time,
            halved: false,
        }
    }

    /// Whether the time is over.
    pub(super) fn over(&self) -> bool {
        let share = if self.halved { 2 } else { 1 };
        self.time.is_some_and(|time| self.start.elapsed() >= time / share)
    }

    /// Samples that run side by side before the clock is looked at again.
    pub(super) fn at_once(&self, otherwise: usize) -> usize {
        match self.time {
            Some(_) => rayon::current_num_threads().clamp(1, otherwise.max(1)),
            None => otherwise.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_comparison_takes_batches_from_everywhere() {
        let all: Vec<u64> = (10..20).collect();
        assert_eq!(Bounds::default().order(all.clone()), all);
        let four = Bounds {
            batches: Some(4),
            ..Bounds::default()
        };
        assert_eq!(four.order(all.clone()), [10, 18, 14, 12]);
        let timed = Bounds {
            time: Some(Duration::ZERO),
            ..Bounds::default()
        };
        let mut order = timed.order(all.clone());
        order.sort_unstable();
        assert_eq!(order, all, "nothing is left out or taken twice");
        for count in 0..3 {
            assert_eq!(timed.order((0..count).collect()).len() as u64, count);
        }
    }

    #[test]
    fn no_time_is_over_at_once_and_no_bound_never() {
        let clock = |time| {
            Clock::new(&Bounds {
                time,
                ..Bounds::default()
            })
        };
        assert!(clock(Some(Duration::ZERO)).over());
        assert!(!clock(Some(Duration::from_secs(1000))).over());
        assert!(!clock(None).over());
        assert_eq!(clock(None).at_once(64), 64);
    }
}
