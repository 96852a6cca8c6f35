//! Findings about a model, and mending what steps can mend.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::error::Error;
use super::model::{Examined, Fault, Model};
use super::options::Options;
use super::pipeline::Pipeline;
use super::run::Outcome;
use super::save::{Saved, write};
use crate::format::Source;
use crate::lint::{self, FileFacts, Finding, FindingPlace, Fix, Selection, Severity, Target, checks};
use crate::pipeline::RunReport;
use crate::report::findings;
use crate::report::table::Style;
use crate::schema::nearest;

/// What to look for in a model.
///
/// # Examples
///
/// ```
/// use secateur::{CheckOptions, Severity};
/// let options = CheckOptions::new().target("ort@1.16")?.skip("unused-input")?.deny(Severity::Warning);
/// assert_eq!(CheckOptions::new().only("dead-nod").unwrap_err().hint(), Some("did you mean `dead-node`?"));
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    selection: Selection,
    deny: Severity,
}

impl CheckOptions {
    /// Every check, for the newest releases of ONNX Runtime and tract, whose findings are notes; errors are denied.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at one more runtime, in earnest: `tensorrt`, or a release of it as in `ort@1.16`.
    ///
    /// # Errors
    ///
    /// `unknown-target`.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::CheckOptions::new().target("ort@0").unwrap_err().code(), "unknown-target");
    /// ```
    pub fn target(mut self, name: &str) -> Result<Self, Error> {
        let target = Target::parse(name).map_err(|message| Error::new("unknown-target", message))?;
        self.selection.targets.push(target);
        Ok(self)
    }

    /// Runs this check and those that are named so, and no other.
    ///
    /// # Errors
    ///
    /// `unknown-check`, with the nearest name as a hint.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::CheckOptions::new().only("duplicate-weights")?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn only(mut self, code: &str) -> Result<Self, Error> {
        self.selection.only.push(known(code)?);
        Ok(self)
    }

    /// Leaves a check out.
    ///
    /// # Errors
    ///
    /// `unknown-check`, with the nearest name as a hint.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::CheckOptions::new().skip("unused-input")?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn skip(mut self, code: &str) -> Result<Self, Error> {
        self.selection.skip.push(known(code)?);
        Ok(self)
    }

    /// From which severity on a finding makes [`Findings::passed`] false.
    ///
    /// # Examples
    ///
    /// ```
    /// let options = secateur::CheckOptions::new().deny(secateur::Severity::Note);
    /// ```
    #[must_use]
    pub fn deny(mut self, severity: Severity) -> Self {
        self.deny = severity;
        self
    }
}

/// The code of a check that exists.
fn known(code: &str) -> Result<String, Error> {
    let codes = || checks().iter().map(|check| check.code);
    if codes().any(|known| known == code) {
        return Ok(code.to_owned());
    }
    let hint = match nearest(code, codes()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`secateur check --list` prints all of them".to_owned(),
    };
    Err(Error::new("unknown-check", format!("there is no check `{code}`")).with_hint(hint))
}

/// What was found in a model.
///
/// # Examples
///
/// ```
/// use secateur::{CheckOptions, Model, Style, check};
/// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
/// let found = check(&model, &CheckOptions::new())?;
/// assert!(found.passed());
/// assert!(found.findings.iter().any(|finding| finding.code == "unfused-batch-norm"));
/// assert!(found.to_text(Style::Markdown).contains("unfused-batch-norm"));
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Findings {
    /// The file; `null` for a model in memory.
    pub file: Option<String>,
    /// The runtimes that were asked for.
    pub targets: Vec<String>,
    /// The severity from which on a finding is denied.
    pub deny: Severity,
    /// Whether nothing that was found is denied.
    pub passed: bool,
    /// Findings of each severity.
    pub counts: FindingCounts,
    /// The findings, errors first, then by code.
    pub findings: Vec<Finding>,
    /// What `--fix` did; the findings are those of the result then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Mending>,
}

/// How many findings there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FindingCounts {
    /// Errors.
    pub errors: u64,
    /// Warnings.
    pub warnings: u64,
    /// Notes.
    pub notes: u64,
}

/// What became of the findings that a step mends.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Mending {
    /// The steps that ran, in order.
    pub steps: Vec<Fix>,
    /// Steps that could not be done for this model, each with the reason.
    pub failed: Vec<String>,
    /// Findings that are gone.
    pub mended: Vec<Finding>,
    /// Findings that a step was run for and that are still there.
    pub remaining: u64,
    /// The run of the steps: what each did, and how the result compares with the model. `null` where no step could run.
    pub report: Option<RunReport>,
}

impl Findings {
    fn new(file: Option<String>, findings: Vec<Finding>, options: &CheckOptions) -> Self {
        let count = |severity| {
            findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .count() as u64
        };
        Self {
            file,
            targets: options
                .selection
                .targets
                .iter()
                .map(ToString::to_string)
                .collect(),
            deny: options.deny,
            passed: findings.iter().all(|finding| finding.severity < options.deny),
            counts: FindingCounts {
                errors: count(Severity::Error),
                warnings: count(Severity::Warning),
                notes: count(Severity::Note),
            },
            findings,
            fix: None,
        }
    }

    /// Whether nothing that was found is as bad as [`CheckOptions::deny`] says.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{CheckOptions, Model, Severity, check};
    /// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
    /// assert!(!check(&model, &CheckOptions::new().deny(Severity::Warning))?.passed());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// The findings for people, grouped by check.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{CheckOptions, Model, Style, check};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// assert!(check(&model, &CheckOptions::new())?.to_text(Style::Markdown).contains("0 errors"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_text(&self, style: Style) -> String {
        findings::text(style, &self.findings, false)
    }

    /// The findings as a log in SARIF 2.1.0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{CheckOptions, Model, check};
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// assert_eq!(check(&model, &CheckOptions::new())?.to_sarif()["version"], "2.1.0");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_sarif(&self) -> Value {
        findings::sarif(self.file.as_deref(), &self.findings)
    }
}

/// Looks at a model and says what is wrong with it, what costs and what will surprise somebody later; nothing is changed.
///
/// `docs/check.md` has every check with its cure. [`check_file`] answers for files that are no valid models, too.
///
/// # Errors
///
/// None today; a check that cannot be done would be one.
///
/// # Examples
///
/// ```
/// use secateur::{CheckOptions, Model, check};
/// let model = Model::open("fixtures/digits_cnn.onnx")?;
/// let found = check(&model, &CheckOptions::new().target("qnn")?)?;
/// let dynamic = found.findings.iter().find(|finding| finding.code == "dynamic-shape").unwrap();
/// assert_eq!(dynamic.place.value.as_deref(), Some("input"));
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn check(model: &Model, options: &CheckOptions) -> Result<Findings, Error> {
    Ok(Findings::new(file_of(model), found_in(model, options), options))
}

fn file_of(model: &Model) -> Option<String> {
    model.origin.path.as_ref().map(|path| path.display().to_string())
}

fn found_in(model: &Model, options: &CheckOptions) -> Vec<Finding> {
    let file = (!model.changed).then(|| FileFacts::of(&model.origin));
    lint::run(&model.model, file, &options.selection)
}

/// Looks at a file. What is read but is no valid model is answered with findings that have the codes of errors, all of them and not the
/// first alone.
///
/// # Errors
///
/// A file that cannot be read, or that is no model at all (`read-failed`, `malformed-protobuf` and the like).
///
/// # Examples
///
/// ```
/// use secateur::{CheckOptions, check_file};
/// let found = check_file("fixtures/digits_mlp.onnx", &CheckOptions::new())?;
/// assert!(found.passed());
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn check_file(path: impl AsRef<Path>, options: &CheckOptions) -> Result<Findings, Error> {
    let path = path.as_ref();
    Ok(examine(Source::Path(path.to_owned()), Some(path), false, options)?.findings)
}

/// A file that was looked at, and its model where it has one.
pub(crate) struct Checked {
    pub(crate) findings: Findings,
    pub(crate) model: Option<Model>,
}

/// Reads and looks at a model.
pub(crate) fn examine(
    source: Source,
    name: Option<&Path>,
    strict: bool,
    options: &CheckOptions,
) -> Result<Checked, Error> {
    let file = name.map(|path| path.display().to_string());
    Ok(match Model::examine(source, name, strict)? {
        Examined::Faults(faults) => {
            let findings = faults.into_iter().map(fault).collect();
            Checked {
                findings: Findings::new(file, findings, options),
                model: None,
            }
        }
        Examined::Model(model, remarks) => {
            let mut findings = found_in(&model, options);
            if options.selection.only.is_empty() {
                // Operators that the opset lacks have a check of their own.
                let told = remarks
                    .into_iter()
                    .filter(|(code, _)| *code != "unknown-operator");
                findings.extend(told.map(|(code, message)| remark(code, message)));
                findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.code.cmp(&b.code)));
            }
            Checked {
                findings: Findings::new(file, findings, options),
                model: Some(*model),
            }
        }
    })
}

/// A finding from an error of reading.
fn fault(fault: Fault) -> Finding {
    let hint = fault
        .error
        .hint()
        .unwrap_or("export the model again: no runtime has to load it as it is");
    Finding {
        code: fault.error.code().to_owned(),
        severity: Severity::Error,
        message: fault.message,
        place: FindingPlace {
            graph: fault.graph,
            node: fault.error.node().map(str::to_owned),
            operator: None,
            value: fault.error.value().map(str::to_owned),
        },
        target: None,
        cure: hint.to_owned(),
        fix: None,
    }
}

/// A finding from a warning of reading.
fn remark(code: &str, message: String) -> Finding {
    Finding {
        code: code.to_owned(),
        severity: Severity::Warning,
        message,
        place: FindingPlace::default(),
        target: None,
        cure: "any verb of secateur that writes the model mends what it names".to_owned(),
        fix: None,
    }
}

/// A model that was mended, and what is left to find in it.
pub(crate) struct Fixed {
    pub(crate) findings: Findings,
    /// What was made; `None` where no step could run.
    pub(crate) outcome: Option<Outcome>,
    /// What was written.
    pub(crate) saved: Option<Saved>,
}

/// Runs the steps that mend the findings, looks again, and writes the result where something was mended or the options take it as it is.
pub(crate) fn fix(
    model: &Model,
    before: &Findings,
    options: &Options,
    check_options: &CheckOptions,
) -> Result<Fixed, Error> {
    let output = options.output.clone();
    let quiet = Options {
        output: None,
        in_place: false,
        ..options.clone()
    };
    let (steps, failed, outcome) = run_steps(model, &before.findings, &quiet)?;
    let result = outcome.as_ref().filter(|outcome| outcome.accepted());
    let after = match result {
        Some(outcome) => found_in(&outcome.model, check_options),
        None => before.findings.clone(),
    };
    // What a finding is about may have other figures now.
    let name = |one: &Finding| (one.code.clone(), one.place.clone(), one.target.clone());
    let left: BTreeSet<_> = after.iter().map(name).collect();
    let (remaining, mended): (Vec<&Finding>, Vec<&Finding>) =
        before.findings.iter().partition(|one| left.contains(&name(one)));
    let remaining = remaining.iter().filter(|one| one.fix.is_some()).count() as u64;
    let mended: Vec<Finding> = mended.into_iter().cloned().collect();
    let worth = !mended.is_empty() || options.allow_unchanged;
    let mut saved = None;
    if let Some(output) = output.filter(|_| worth && outcome.as_ref().is_none_or(Outcome::accepted)) {
        saved = Some(write(
            result.map_or(model, |outcome| &outcome.model),
            &output,
            options,
        )?);
    }
    let mut findings = Findings::new(before.file.clone(), after, check_options);
    findings.fix = Some(Mending {
        steps,
        failed,
        mended,
        remaining,
        report: outcome.as_ref().map(|outcome| {
            let mut report = outcome.report.clone();
            if let Some(saved) = &saved {
                report.files.clone_from(&saved.files);
                report.output = saved.files.first().cloned();
            }
            report
        }),
    });
    Ok(Fixed {
        findings,
        outcome,
        saved,
    })
}

/// Steps that ran, those that could not with the reason, and what came out.
type Ran = (Vec<Fix>, Vec<String>, Option<Outcome>);

/// Runs the steps for findings. One that cannot be done for this model is left out, and the others run without it.
fn run_steps(model: &Model, findings: &[Finding], options: &Options) -> Result<Ran, Error> {
    let mut steps = lint::pipeline_of(findings);
    let mut failed = Vec::new();
    loop {
        let Some((first, others)) = steps.split_first() else {
            return Ok((steps, failed, None));
        };
        let mut pipeline = Pipeline::step(&first.step, Value::Object(first.options.clone()))?;
        for step in others {
            pipeline = pipeline.then(&step.step, Value::Object(step.options.clone()))?;
        }
        pipeline.inner.name = "check --fix".to_owned();
        let again = Options {
            allow_unchanged: true,
            ..options.clone()
        };
        match pipeline.run(model, &again) {
            Ok(outcome) => return Ok((steps, failed, Some(outcome))),
            Err(error) => match error.step().filter(|at| (1..=steps.len()).contains(at)) {
                Some(at) => {
                    let step = steps.remove(at - 1);
                    failed.push(format!("{}: {error}", step.step));
                }
                None => return Err(error),
            },
        }
    }
}
