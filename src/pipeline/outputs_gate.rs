//! The gate on how near the outputs are to those of the input model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gates::GateReport;
use crate::verify::{Verdict, VerifyReport};

/// Bounds on the error of every output. A verdict `not-checked` breaks the gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OutputsGate {
    /// Smallest cosine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
    /// Largest absolute error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs: Option<f64>,
    /// Largest mean absolute error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_abs: Option<f64>,
    /// Smallest signal-to-quantization-noise ratio, in decibels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqnr_db: Option<f64>,
    /// Smallest share of rows with the same largest element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_agreement: Option<f64>,
    /// The worst verdict that is accepted: `equal`, `within` or `different` (bounded by the figures alone).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl OutputsGate {
    pub(super) fn judge(&self, verify: Option<&VerifyReport>) -> GateReport {
        let report = |passed, value, bound, message: String| {
            GateReport::plain("outputs", passed, value, bound, message)
        };
        let Some(verify) = verify else {
            return report(
                false,
                None,
                None,
                "outputs were not compared (--no-verify)".to_owned(),
            );
        };
        if verify.verdict == Verdict::NotChecked || verify.samples == 0 {
            let why = verify
                .not_checked
                .first()
                .map(|entry| entry.reason.clone())
                .or_else(|| verify.reason.clone());
            return report(
                false,
                None,
                None,
                format!("outputs are not checked: {}", why.unwrap_or_default()),
            );
        }
        if let Some(reason) = &verify.reason {
            return report(false, None, None, reason.clone());
        }
        let worst = self.verdict.unwrap_or(Verdict::Different);
        if verify.verdict > worst {
            return report(
                false,
                None,
                None,
                format!("the verdict is {}, accepted is {worst}", verify.verdict),
            );
        }
        for output in &verify.outputs {
            if let Some(reason) = &output.reason {
                return report(false, None, None, format!("{}: {reason}", output.name));
            }
            // Equal bits are as near as can be, also where a figure is undefined: the cosine of zeros, the SQNR of no error.
            if output.verdict == Verdict::Equal {
                continue;
            }
            let no_error = output.max_abs == Some(0.0);
            let bounds = [
                ("cosine", output.cosine, self.cosine, false),
                (
                    "SQNR",
                    output.sqnr_db.or(no_error.then_some(f64::MAX)),
                    self.sqnr_db,
                    false,
                ),
                (
                    "top-1 agreement",
                    output.top1_agreement.or(Some(1.0)),
                    self.top1_agreement,
                    false,
                ),
                ("maximum error", output.max_abs, self.max_abs, true),
                ("mean error", output.mean_abs, self.mean_abs, true),
            ];
            for (what, value, bound, at_most) in bounds {
                let Some(bound) = bound else { continue };
                let holds = value.is_some_and(|value| if at_most { value <= bound } else { value >= bound });
                if !holds {
                    let found = value.map_or("undefined".to_owned(), |value| format!("{value:.6}"));
                    let relation = if at_most { "at most" } else { "at least" };
                    let message = format!(
                        "{}: {what} is {found}, {relation} {bound} is accepted",
                        output.name
                    );
                    return report(false, value, Some(bound), message);
                }
            }
        }
        report(
            true,
            None,
            None,
            format!("all {} outputs hold", verify.outputs.len()),
        )
    }
}
