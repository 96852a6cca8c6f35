//! Figures of one output over any number of samples.

use schemars::JsonSchema;
use serde::Serialize;

use super::slices::{Part, Slices};
use super::verdict::Verdict;

/// Figures of one output over all samples. `None` is undefined, not comparable or infinite; it is `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OutputFigures {
    /// Output name.
    pub name: String,
    /// This output's verdict.
    pub verdict: Verdict,
    /// Largest absolute error.
    pub max_abs: Option<f64>,
    /// Largest error relative to the reference's element.
    pub max_rel: Option<f64>,
    /// Mean absolute error.
    pub mean_abs: Option<f64>,
    /// Cosine of the angle between both outputs, each taken as one vector over all samples.
    pub cosine: Option<f64>,
    /// Power of the reference over power of the error, in decibels; undefined when there is no error.
    pub sqnr_db: Option<f64>,
    /// Share of rows with the same largest element: rows along the last axis, along axis 1 from rank 4 on.
    pub top1_agreement: Option<f64>,
    /// Elements compared.
    pub elements: u64,
    /// Elements whose bits differ.
    pub differing: u64,
    /// Elements that are NaN or infinite where the reference's are other ones.
    pub undefined: u64,
    /// What makes the output different beside its numbers: shape, element type, NaN in another place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where a different output is off: ranges of indices along the axis that sets them apart best. Empty where it is off all over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// What one comparison of one output adds up to; sums of several samples are added in sample order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub(super) verdict: Option<Verdict>,
    pub(super) elements: u64,
    pub(super) differing: u64,
    pub(super) undefined: u64,
    pub(super) finite: u64,
    pub(super) max_abs: f64,
    pub(super) max_rel: f64,
    pub(super) sum_abs: f64,
    pub(super) dot: f64,
    pub(super) reference_power: f64,
    pub(super) model_power: f64,
    pub(super) error_power: f64,
    pub(super) rows: u64,
    pub(super) same_rows: u64,
    pub(super) reason: Option<String>,
    pub(super) tolerance: f64,
    pub(super) slices: Slices,
}

impl Comparison {
    /// The verdict so far; equal when nothing was compared.
    pub fn verdict(&self) -> Verdict {
        let whole = self.whole();
        if whole < Verdict::Different && self.slices.are_off(self.tolerance) {
            return Verdict::Different;
        }
        whole
    }

    /// The verdict by the scale of each sample's whole output.
    pub fn whole(&self) -> Verdict {
        self.verdict.unwrap_or(Verdict::Equal)
    }

    /// The largest share that an error takes of what the scale around it allows, whatever the number of elements behind that
    /// scale; above 1, further samples may make the output different.
    pub fn strain(&self) -> f64 {
        self.slices.strain(self.tolerance)
    }

    /// Takes errors up to `factor` times those of `moved`, in the same slices, for rounding: `moved` compares the reference with
    /// itself on inputs that were moved by rounding.
    pub fn excuse(&mut self, moved: &Comparison, factor: f64) {
        self.slices.excuse(&moved.slices, factor);
    }

    /// Whether no element may differ at all.
    pub fn is_exact(&self) -> bool {
        self.tolerance == 0.0
    }

    /// Why the output is different beside its numbers.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Largest absolute error of finite elements.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// Largest absolute error over the largest magnitude of the reference.
    pub fn share(&self) -> f64 {
        if self.max_abs == 0.0 {
            return 0.0;
        }
        self.max_abs / self.slices.largest().max(f64::MIN_POSITIVE)
    }

    /// Power of the reference over power of the error, in decibels: infinite without an error, minus infinity where the
    /// reference has no power.
    pub fn sqnr_db(&self) -> f64 {
        if self.error_power > 0.0 {
            10.0 * (self.reference_power / self.error_power).log10()
        } else {
            f64::INFINITY
        }
    }

    /// Adds another comparison of the same output.
    pub fn add(&mut self, other: &Comparison) {
        self.verdict = self.verdict.max(other.verdict);
        self.elements += other.elements;
        self.differing += other.differing;
        self.undefined += other.undefined;
        self.finite += other.finite;
        self.max_abs = larger(self.max_abs, other.max_abs);
        self.max_rel = larger(self.max_rel, other.max_rel);
        self.sum_abs += other.sum_abs;
        self.dot += other.dot;
        self.reference_power += other.reference_power;
        self.model_power += other.model_power;
        self.error_power += other.error_power;
        self.rows += other.rows;
        self.same_rows += other.same_rows;
        if self.reason.is_none() {
            self.reason.clone_from(&other.reason);
        }
        self.tolerance = self.tolerance.max(other.tolerance);
        self.slices.add(&other.slices);
    }

    /// The figures.
    pub fn figures(&self, name: &str) -> OutputFigures {
        let finite = |value: f64| Some(value).filter(|v| v.is_finite());
        // Without one number that could be compared there is no figure.
        let numeric = |value: f64| if self.finite > 0 { finite(value) } else { None };
        let comparable = self.reason.is_none();
        OutputFigures {
            name: name.to_owned(),
            verdict: self.verdict(),
            max_abs: numeric(self.max_abs).filter(|_| comparable),
            max_rel: numeric(self.max_rel).filter(|_| comparable),
            mean_abs: numeric(self.sum_abs / self.finite as f64).filter(|_| comparable),
            cosine: finite(self.dot / (self.reference_power.sqrt() * self.model_power.sqrt()))
                .filter(|_| comparable),
            sqnr_db: finite(10.0 * (self.reference_power / self.error_power).log10()).filter(|_| comparable),
            top1_agreement: (self.rows > 0).then(|| self.same_rows as f64 / self.rows as f64),
            elements: self.elements,
            differing: self.differing,
            undefined: self.undefined,
            reason: self.reason.clone(),
            parts: if self.verdict() == Verdict::Different {
                self.slices.parts(self.tolerance)
            } else {
                Vec::new()
            },
        }
    }

    pub(super) fn judge(&mut self, verdict: Verdict) {
        self.verdict = self.verdict.max(Some(verdict));
    }

    pub(super) fn differ(&mut self, reason: impl Into<String>) {
        self.judge(Verdict::Different);
        if self.reason.is_none() {
            self.reason = Some(reason.into());
        }
    }
}

/// The larger one, an undefined number being the largest.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::INFINITY
    } else {
        a.max(b)
    }
}
