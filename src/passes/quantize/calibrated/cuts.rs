//! Ranges that leave out much of what the calibration data has.

use std::collections::BTreeMap;

use crate::quantize::energy_cut_off;
use crate::statistics::Summary;

/// The share of a value's energy from which the error of cutting it off is told: it alone keeps the signal-to-noise ratio below 20 dB.
const TOLD: f64 = 0.01;
/// Values that a warning names.
const NAMED: usize = 3;

/// A value that is cut off.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    name: String,
    kept: (f32, f32),
    whole: (f32, f32),
    /// Energy of the error, as a share of the value's.
    energy: f64,
}

impl Cut {
    /// What a range leaves out of a value; `None` if that is little.
    pub(super) fn of(name: String, ranges: &BTreeMap<String, Summary>, kept: (f32, f32)) -> Option<Self> {
        let histogram = &ranges.get(&name)?.histogram;
        let energy = energy_cut_off(histogram, kept).filter(|energy| *energy > TOLD)?;
        Some(Self {
            name,
            kept,
            whole: histogram.extremes()?,
            energy,
        })
    }
}

/// One warning about all of them, the worst ones by name.
pub(super) fn warning(mut cuts: Vec<Cut>) -> Option<String> {
    cuts.sort_by(|a, b| b.energy.total_cmp(&a.energy).then_with(|| a.name.cmp(&b.name)));
    cuts.dedup_by(|a, b| a.name == b.name);
    let named = cuts.iter().take(NAMED).map(|cut| {
        format!(
            "{} to {:.3} .. {:.3} of {:.3} .. {:.3} ({:.1} dB)",
            cut.name,
            cut.kept.0,
            cut.kept.1,
            cut.whole.0,
            cut.whole.1,
            -10.0 * cut.energy.log10(),
        )
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match cuts.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!cuts.is_empty()).then(|| {
        format!(
            "ranges cut off much of what the calibration data has: {named}{more}; compare with `calibrate: min-max` or `mse`"
        )
    })
}
