//! What the tests of tasks share: answers and samples as they are written down, and that parts merge.

use std::fmt::Debug;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Answer, Output, Sample, TaskFigures};

/// One output, named `y`.
pub(super) fn answer(dims: &[usize], values: &[f64], integer: bool) -> Answer {
    Answer {
        outputs: vec![Output {
            name: "y".to_owned(),
            dims: dims.to_vec(),
            values: values.to_vec(),
            integer,
        }],
    }
}

/// A sample of which nothing is known.
pub(super) fn sample(index: u64) -> Sample<'static> {
    Sample {
        index,
        truth: None,
        frame: None,
        labels: None,
        targets: None,
    }
}

/// Four parts of twelve samples, merged out of order, are the state of one run, to the byte of its file, and have its figures.
pub(super) fn parts_merge<S: Clone + Debug + PartialEq + Serialize + DeserializeOwned>(
    part: impl Fn(Range<u64>) -> S,
    merge: impl Fn(&mut S, &S),
    figures: impl Fn(&S) -> TaskFigures,
) {
    let whole = part(0..12);
    let mut merged = part(9..12);
    for other in [part(0..3), part(6..9), part(3..6)] {
        merge(&mut merged, &other);
    }
    let text = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::to_string(&merged).unwrap(), text);
    assert_eq!(serde_json::from_str::<S>(&text).unwrap(), whole);
    assert_eq!(figures(&merged), figures(&whole));
}
