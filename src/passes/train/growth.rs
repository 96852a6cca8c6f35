//! What passes that add parameters without changing the result share: patterns over layers, and the comparison at the end.

use regex::RegexSet;

use crate::ir::Model;
use crate::passes::{Context, PassError, PassReport};
use crate::schema;
use crate::verify::{Verdict, VerifyOptions, verify};

pub(in crate::passes) fn option(pass: &'static str, message: String) -> PassError {
    PassError::Option { pass, message }
}

pub(in crate::passes) fn patterns(
    pass: &'static str,
    name: &str,
    list: &[String],
) -> Result<RegexSet, PassError> {
    schema::patterns(list).map_err(|error| option(pass, format!("{name}: {error}")))
}

/// Refuses a result whose outputs are not those of the model before, up to rounding; what could not be compared is noted.
pub(in crate::passes) fn same(
    pass: &'static str,
    before: &Model,
    after: &Model,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let options = VerifyOptions {
        seed: context.seed,
        ..VerifyOptions::default()
    };
    let found = verify(before, after, context.engine(), &options);
    match found.verdict {
        Verdict::Equal | Verdict::Within => Ok(()),
        Verdict::Different => {
            let worst = found.outputs.iter().max_by(|a, b| {
                a.max_rel
                    .unwrap_or(f64::MAX)
                    .total_cmp(&b.max_rel.unwrap_or(f64::MAX))
            });
            Err(PassError::Model {
                pass,
                node: worst.map(|figures| figures.name.clone()).unwrap_or_default(),
                message: format!(
                    "the result would compute something else{}; this is a defect of secateur, please report it with the model",
                    found
                        .reason
                        .map(|reason| format!(" ({reason})"))
                        .unwrap_or_default()
                ),
            })
        }
        Verdict::NotChecked => {
            report.notes.extend(found.not_checked.iter().map(|part| {
                format!(
                    "{} is not compared with the model before: {}",
                    part.what, part.reason
                )
            }));
            Ok(())
        }
    }
}
