//! `external-gap`

use std::collections::BTreeMap;

use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity, elements256, onnx, sixteen};
use crate::lint::subject::Subject;

/// Writers start each tensor at a multiple of this, so that it can be mapped on every system.
const ALIGNMENT: u64 = 1 << 16;

pub(super) const CHECK: Check = Check {
    code: "external-gap",
    severity: Severity::Warning,
    summary: "A file of external data holds bytes that no tensor reads.",
    about: "Tools that save into a file which exists append to it, so that weights of every earlier version stay. Up to 64 KiB a tensor are \
            alignment and not counted.",
    cure: Cure::advice("save the model under a new name: any verb of secateur that changes it writes a data file of what is read alone"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[256] x) => (float[256] y) <float[256] w = {",
                elements256!("1,", "2"),
                "}> { y = Mul(x, w) }"
            ),
            &["model.data"],
        )
        .beside(1 << 20, &[("w", 65536)]),
        Example::silent(onnx!(
            17,
            "g (float[256] x) => (float[256] y) <float[256] w = {",
            elements256!("1,", "2"),
            "}> { y = Mul(x, w) }"
        ))
        .beside(66560, &[("w", 65536)]),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(file) = &subject.file else { return };
    let mut ranges: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for range in subject.external_ranges() {
        ranges.entry(range.location).or_default().push((range.start, range.end));
    }
    for (location, size) in &file.external {
        let mut own = ranges.remove(location.as_str()).unwrap_or_default();
        own.sort_unstable();
        let (mut read, mut end) = (0, 0);
        for (start, stop) in &own {
            read += stop.saturating_sub((*start).max(end));
            end = end.max(*stop);
        }
        let unread = size.saturating_sub(read);
        if unread > ALIGNMENT * (own.len() as u64 + 1) {
            let place = FindingPlace {
                value: Some(location.clone()),
                ..FindingPlace::default()
            };
            let message = format!("{unread} of {size} bytes belong to none of the {} tensors in it", own.len());
            found.add(place, message);
        }
    }
}
