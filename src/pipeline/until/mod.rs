//! The search behind an option `until`: of a ladder of candidates, from the cheapest to the one nearest to the input of the step, the
//! cheapest that keeps the bounds on samples that the search did not see.
//!
//! [`bounds`] reads what is to hold, [`figures`] runs candidates on samples and has gates judge them, [`rank`] measures what single
//! layers lose, [`climb`] is the search itself and knows no pass, [`trials`] what several processes judge for it; one file a pass says what its candidates are. [`replay`] is the
//! pipeline that gives the same model without a search. May use passes and the rest of the pipeline.

mod bits;
pub(super) mod bounds;
mod channels;
mod climb;
mod figures;
mod ground;
mod layers;
mod precision;
mod rank;
mod replay;
mod report;
mod search;
mod sharing;
mod trials;
mod values;

pub(super) use replay::{is_wanted, replayed, written};
pub use report::{Candidate, JudgedOn, KeptLayer, Searched, SearchedSamples};
pub(super) use search::{Means, search};

use serde_json::{Map, Value};

use super::gates::Gate;
use crate::schema::{Fault, Place};

/// A step by its name and its options.
pub(super) type NamedStep = (String, Map<String, Value>);

/// The option that asks for a search.
pub(super) const UNTIL: &str = "until";

/// The passes that have it, with the option that names the file of the pipeline that replays the result.
const SEARCHED: [(&str, &str); 4] = [
    ("compress", "write-pipeline"),
    ("quantize", "write-pipeline"),
    ("search-precision", "pipeline"),
    ("prune-channels", "write-pipeline"),
];

/// The option of a pass that names the file of the replaying pipeline.
pub(super) fn file_option(pass: &str) -> Option<&'static str> {
    let found = SEARCHED.iter().find(|(name, _)| *name == pass);
    found.map(|(_, option)| *option)
}

/// The bounds among the options of a pass; none without the option.
///
/// # Errors
/// What is wrong, with its place from the option on.
pub(super) fn of_options(pass: &str, options: &Map<String, Value>) -> Result<Vec<Gate>, Fault> {
    let value = options.get(UNTIL).filter(|value| !value.is_null());
    let Some(value) = value.filter(|_| file_option(pass).is_some()) else {
        return Ok(Vec::new());
    };
    bounds::parse(value).map_err(|mut fault| {
        fault.path.insert(0, Place::Key(UNTIL.to_owned()));
        fault
    })
}

/// Whether the gates cannot be judged without evaluation data.
pub(super) fn needs_evaluation(gates: &[Gate]) -> bool {
    gates
        .iter()
        .any(|gate| gate.needs_evaluation() || matches!(gate, Gate::Outputs(_)))
}
