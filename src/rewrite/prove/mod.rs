//! Proves rules by their examples: builds the pattern with random values, applies the rule, runs both in an engine and compares.

mod build;
mod compare;
mod spec;

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::analysis::infer;
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, RunValues};
use crate::ir::{GraphPath, Model};

use super::driver::{Options, apply, why_not};
use super::evaluator::Evaluator;
use super::report::WhyNot;
use super::rule::{Example, Instance, Rule};
use super::safety::Safety;
use super::set::RuleSet;
use build::Built;

/// Opsets at which a rule is tried, beside the first and the last of its range.
const OPSETS: [i64; 5] = [9, 11, 13, 18, 21];
/// The newest opset at which a rule without a last one is tried.
const NEWEST: i64 = 24;
/// The oldest opset at which a rule is tried: older ones broadcast by another law and no engine runs them.
const OLDEST: i64 = 7;

/// One case that was tried.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The rule.
    pub rule: String,
    /// Which example, from 0.
    pub example: usize,
    /// Which alternative of `match`, and which operators of `for`.
    pub variant: String,
    /// The opset of the model.
    pub opset: i64,
    /// What came out.
    pub verdict: ProofVerdict,
}

/// What came out of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum ProofVerdict {
    /// The rule fired, and both sides gave the same bits.
    Equal,
    /// The rule fired, and both sides agree within the tolerance; the largest difference over the largest value.
    Within(f64),
    /// The rule did not fire, for the reason that the example gives.
    Refused,
    /// This opset has no form of the pattern or of the replacement.
    NotInOpset(String),
    /// The engine cannot run one side.
    NotChecked(String),
    /// The example is wrong, the rule did not do what the example says, or the sides differ.
    Failed(String),
}

impl ProofVerdict {
    /// Whether the case says something for the rule.
    pub fn is_proven(&self) -> bool {
        matches!(self, Self::Equal | Self::Within(_) | Self::Refused)
    }

    /// Whether the case speaks against the rule.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} example {} {}opset {}: ",
            self.rule,
            self.example + 1,
            self.variant,
            self.opset
        )?;
        match &self.verdict {
            ProofVerdict::Equal => f.write_str("equal"),
            ProofVerdict::Within(difference) => write!(f, "within {difference:.1e}"),
            ProofVerdict::Refused => f.write_str("refused as stated"),
            ProofVerdict::NotInOpset(reason) => write!(f, "not in this opset: {reason}"),
            ProofVerdict::NotChecked(reason) => write!(f, "not checked: {reason}"),
            ProofVerdict::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// Tries every example of a rule, for every alternative and operator and at several opsets of its range.
pub fn prove(rule: &Rule, engine: &dyn Engine, evaluator: &dyn Evaluator) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for (index, example) in rule.examples.iter().enumerate() {
        for (number, instance) in rule.instances.iter().enumerate() {
            let whole = example.fields.contains_key("graph");
            if whole && number > 0 || !build::concerns(example, instance) {
                continue;
            }
            for opset in opsets(rule, example) {
                let seed = seed(&rule.name, index, number);
                let verdict = match case(rule, instance, example, opset, seed, engine, evaluator) {
                    Ok(verdict) | Err(verdict) => verdict,
                };
                let variant = variant(rule, instance);
                proofs.push(Proof {
                    rule: rule.name.clone(),
                    example: index,
                    variant,
                    opset,
                    verdict,
                });
            }
        }
    }
    proofs
}

fn opsets(rule: &Rule, example: &Example) -> Vec<i64> {
    if example.fields.contains_key("graph") {
        // The text says which.
        return vec![rule.opset.0];
    }
    if let Some(opset) = example.fields.get("opset").and_then(serde_json::Value::as_i64) {
        return vec![opset];
    }
    let last = rule.opset.1.unwrap_or(NEWEST);
    let mut found: Vec<i64> = OPSETS
        .into_iter()
        .chain([rule.opset.0.max(OLDEST), last])
        .collect();
    found.retain(|opset| *opset >= OLDEST && rule.holds_in(*opset));
    found.sort_unstable();
    found.dedup();
    found
}

fn seed(name: &str, example: usize, instance: usize) -> u64 {
    let text = format!("{name}/{example}/{instance}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn variant(rule: &Rule, instance: &Instance) -> String {
    let mut words = String::new();
    if rule.matches.len() > 1 {
        words.push_str(&format!("alternative {} ", instance.alternative + 1));
    }
    for (variable, operator) in &instance.operators {
        words.push_str(&format!("{variable} = {operator} "));
    }
    words
}

fn case(
    rule: &Rule,
    instance: &Instance,
    example: &Example,
    opset: i64,
    seed: u64,
    engine: &dyn Engine,
    evaluator: &dyn Evaluator,
) -> Result<ProofVerdict, ProofVerdict> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut built = match example.fields.get("graph").and_then(serde_json::Value::as_str) {
        Some(text) => build::from_text(example, text)?,
        None => build::build(rule, instance, example, opset, &mut random)?,
    };
    infer(&mut built.model);
    let options = Options {
        safety: Safety::Approximate,
        growth: 1 << 30,
        ..Options::new(evaluator)
    };
    let before = built.model.clone();
    let mut after = built.model.clone();
    let report =
        apply(&mut after, &RuleSet::only(rule), &options).map_err(|e| ProofVerdict::Failed(e.to_string()))?;
    if let Some(wanted) = example.fields.get("refuse").and_then(serde_json::Value::as_str) {
        return refused(rule, &built, wanted, report.fired.len(), &options);
    }
    if report.fired.is_empty() {
        return Err(match why(rule, &built, &options) {
            WhyNot::NoEffect(reason) if reason.starts_with("opset ") => ProofVerdict::NotInOpset(reason),
            WhyNot::NoEffect(reason) if reason.contains("cannot be evaluated") => {
                ProofVerdict::NotChecked(reason)
            }
            reason => ProofVerdict::Failed(format!("the rule did not fire: {reason}")),
        });
    }
    let mut worst: Option<f64> = None;
    for special in [false, true] {
        if special && rule.safety != Safety::Exact {
            continue;
        }
        let inputs = built.inputs(&mut random, special)?;
        let reference = run(engine, &before, &inputs, &built).map_err(|error| match error {
            EngineError::Input { .. } => ProofVerdict::Failed(error.to_string()),
            other => ProofVerdict::NotChecked(other.to_string()),
        })?;
        let result = run(engine, &after, &inputs, &built).map_err(verdict_of)?;
        let difference = compare::compare(&reference, &result, rule.safety == Safety::Exact)
            .map_err(ProofVerdict::Failed)?;
        if let Some(difference) = difference {
            worst = Some(worst.unwrap_or(0.0).max(difference));
        }
    }
    Ok(worst.map_or(ProofVerdict::Equal, ProofVerdict::Within))
}

fn why(rule: &Rule, built: &Built, options: &Options<'_>) -> WhyNot {
    let mut best = WhyNot::NoMatch("no node".to_owned());
    for id in built.roots() {
        let answer = why_not(&built.model, rule, &GraphPath::MAIN, id, options);
        if answer.rank() > best.rank() || matches!(best, WhyNot::NoMatch(_)) {
            best = answer;
        }
    }
    best
}

fn refused(
    rule: &Rule,
    built: &Built,
    wanted: &str,
    fired: usize,
    options: &Options<'_>,
) -> Result<ProofVerdict, ProofVerdict> {
    if fired > 0 {
        return Err(ProofVerdict::Failed(
            "the rule fired where the example says that it must not".to_owned(),
        ));
    }
    let plain = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let mut answers = Vec::new();
    for id in built.roots() {
        let answer = why_not(&built.model, rule, &GraphPath::MAIN, id, options);
        let fits = match &answer {
            WhyNot::NoMatch(_) => wanted == "no match",
            WhyNot::NoEffect(_) => wanted == "no effect",
            WhyNot::CheckFailed { clause, .. } => plain(clause) == plain(wanted),
            WhyNot::Fires => false,
        };
        if fits {
            return Ok(ProofVerdict::Refused);
        }
        answers.push(answer.to_string());
    }
    Err(ProofVerdict::Failed(format!(
        "not refused for `{wanted}` but: {}",
        answers.join("; ")
    )))
}

fn run(
    engine: &dyn Engine,
    model: &Model,
    inputs: &RunValues,
    built: &Built,
) -> Result<RunValues, EngineError> {
    let mut model = model.clone();
    model.name_values();
    let options = CompileOptions {
        symbols: built.sizes.clone(),
        ..CompileOptions::default()
    };
    let session = engine.compile(&model, &options)?;
    // A rewrite may have made an input unread, but never drops it.
    let result = session.run(inputs)?;
    Ok(result
        .into_iter()
        .filter(|(_, value)| matches!(value, RunValue::Tensor(_)))
        .collect())
}

/// What it says for a rule that its result could not be run where the pattern runs: only what the engine lacks is no failure.
fn verdict_of(error: EngineError) -> ProofVerdict {
    match error {
        EngineError::Unsupported { .. } | EngineError::Unavailable { .. } | EngineError::TimedOut { .. } => {
            ProofVerdict::NotChecked(error.to_string())
        }
        EngineError::Failed { .. } | EngineError::Input { .. } | EngineError::Shapes { .. } => {
            ProofVerdict::Failed(format!("the result does not run where the pattern does: {error}"))
        }
    }
}
