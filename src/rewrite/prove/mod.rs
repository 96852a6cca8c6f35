//! Proves rules by their examples: builds the pattern with random values, applies the rule, runs both in an engine and compares.

mod build;
mod compare;
mod random;
mod spec;

use std::collections::BTreeMap;
use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::analysis::{conflicts, infer};
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session};
use crate::format::text::parse_model;
use crate::format::{ExternalFiles, lift};
use crate::ir::{GraphPath, Model, Tensor};

use super::driver::{Options, apply, why_not};
use super::evaluator::Evaluator;
use super::report::WhyNot;
use super::rule::{Example, Instance, OPTIONAL_FAMILIES, Rule};
use super::safety::Safety;
use super::set::RuleSet;
use build::{Built, Form};
use compare::Demand;
pub use random::INSTANCES;
use random::Place;
use spec::Kind;

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
    /// Which random instance of the example, from 1; 0 for the example with the sizes that it has.
    pub instance: usize,
    /// What came out.
    pub verdict: ProofVerdict,
}

impl Proof {
    /// Whether the rule fired on a random instance, and both sides agree.
    pub fn is_instance(&self) -> bool {
        self.instance > 0 && self.verdict.has_fired()
    }
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

    /// Whether the rule fired and both sides agree.
    fn has_fired(&self) -> bool {
        matches!(self, Self::Equal | Self::Within(_))
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
            "{} example {} {}opset {}",
            self.rule,
            self.example + 1,
            self.variant,
            self.opset
        )?;
        if self.instance > 0 {
            write!(f, " random instance {}", self.instance)?;
        }
        f.write_str(": ")?;
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

/// Tries every example of a rule, for every alternative and operator and at several opsets of its range, and unless that fails
/// random instances of them: other sizes, other values.
pub fn prove(rule: &Rule, engine: &dyn Engine, evaluator: &dyn Evaluator) -> Vec<Proof> {
    let mut proofs = Vec::new();
    let judges = rule.safety == Safety::Exact || keeps_nan(engine);
    let mut places: Vec<Place> = Vec::new();
    for (index, example) in rule.examples().iter().enumerate() {
        for (number, instance) in rule.instances.iter().enumerate() {
            let whole = example.fields.contains_key("graph");
            if whole && number > 0 || !build::concerns(example, instance) {
                continue;
            }
            for opset in opsets(rule, example) {
                let seed = seed(&rule.name, index, number);
                let mut verdict = match case(
                    rule,
                    instance,
                    example,
                    (opset, seed),
                    (engine, judges),
                    evaluator,
                ) {
                    Ok(verdict) | Err(verdict) => verdict,
                };
                let fired = verdict.has_fired();
                if fired
                    && !whole
                    && let Err(found @ ProofVerdict::Failed(_)) =
                        freed(rule, instance, example, opset, seed, engine, evaluator)
                {
                    verdict = at(found, "with free dimensions");
                }
                if fired {
                    places.push(Place {
                        example: index,
                        instance: number,
                        opset,
                    });
                }
                let variant = variant(rule, instance);
                proofs.push(Proof {
                    rule: rule.name.clone(),
                    example: index,
                    variant,
                    opset,
                    instance: 0,
                    verdict,
                });
            }
        }
    }
    if !proofs.iter().any(|proof| proof.verdict.is_failed()) {
        proofs.extend(random::instances(rule, &places, (engine, judges), evaluator));
    }
    proofs
}

/// Whether the engine computes with NaN as IEEE 754 says; one that does not cannot judge what becomes of it under rounding.
fn keeps_nan(engine: &dyn Engine) -> bool {
    let text = "<ir_version: 8, opset_import: [\"\" : 13]>
        g (float[1] x) => (float[1] r, float[1] s) { r = Relu (x)  s = Sigmoid (x) }";
    let model = parse_model(text)
        .ok()
        .and_then(|message| lift(message, &ExternalFiles::default()).ok());
    let input = Tensor::from_slice(&[1], &[f32::NAN]);
    let (Some(model), Ok(input)) = (model, input) else {
        return false;
    };
    let inputs = RunValues::from([("x".to_owned(), RunValue::Tensor(input))]);
    run(engine, &model, &inputs, &BTreeMap::new()).is_ok_and(|outputs| {
        outputs.values().all(|value| match value {
            RunValue::Tensor(tensor) => tensor.single_f64().is_some_and(f64::is_nan),
            _ => false,
        })
    })
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
    (opset, seed): (i64, u64),
    (engine, judges): (&dyn Engine, bool),
    evaluator: &dyn Evaluator,
) -> Result<ProofVerdict, ProofVerdict> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut built = match example.fields.get("graph").and_then(serde_json::Value::as_str) {
        Some(text) => build::from_text(example, text, Form::Written, &mut random)?,
        None => build::build(rule, instance, example, opset, Form::Written, &mut random)?,
    };
    infer(&mut built.model);
    let options = options(evaluator);
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
    let pair = Pair::new(rule, engine, before, after)?;
    let verdict = pair.on_all_kinds(&built, judges, &mut random)?;
    pair.at_small_sizes(&built, &mut random)?;
    Ok(verdict)
}

/// A failure with the circumstances it was seen in.
fn at(verdict: ProofVerdict, circumstances: &str) -> ProofVerdict {
    match verdict {
        ProofVerdict::Failed(reason) => ProofVerdict::Failed(format!("{circumstances}: {reason}")),
        other => other,
    }
}

/// A model before and after the rule.
struct Pair<'a> {
    rule: &'a Rule,
    engine: &'a dyn Engine,
    before: Model,
    after: Model,
}

/// Both, compiled for sizes of the symbols. What the engine says of the second counts only where the first runs.
struct Sessions {
    before: Box<dyn Session>,
    after: Result<Box<dyn Session>, ProofVerdict>,
}

impl<'a> Pair<'a> {
    /// Two models that an engine may be given: some never come back from one that contradicts itself.
    fn new(
        rule: &'a Rule,
        engine: &'a dyn Engine,
        before: Model,
        after: Model,
    ) -> Result<Self, ProofVerdict> {
        if let Some(conflict) = conflicts(&before).first() {
            return Err(ProofVerdict::NotChecked(conflict.to_string()));
        }
        if let Some(conflict) = conflicts(&after).first() {
            return Err(ProofVerdict::Failed(format!("the result cannot run: {conflict}")));
        }
        Ok(Self {
            rule,
            engine,
            before,
            after,
        })
    }

    /// Both sides on every kind of elements that the class of the rule and the engine let judge.
    fn on_all_kinds(
        &self,
        built: &Built,
        judges: bool,
        random: &mut ChaCha8Rng,
    ) -> Result<ProofVerdict, ProofVerdict> {
        let sessions = self.sessions(&built.sizes).map_err(unknown)?;
        let mut worst: Option<f64> = None;
        for kind in [Kind::Moderate, Kind::Saturating, Kind::Undefined, Kind::Infinite] {
            // What an approximate rule does to ties, NaN and infinities is not promised.
            if kind != Kind::Moderate && self.rule.safety == Safety::Approximate
                || matches!(kind, Kind::Undefined | Kind::Infinite) && !judges
            {
                continue;
            }
            let inputs = built.inputs(random, &built.sizes, kind)?;
            let found = self.compare(&sessions, &inputs, kind);
            let difference =
                found.map_err(|verdict| at(verdict, &format!("{kind:?} elements").to_lowercase()))?;
            if let Some(difference) = difference {
                worst = Some(worst.unwrap_or(0.0).max(difference));
            }
        }
        Ok(worst.map_or(ProofVerdict::Equal, ProofVerdict::Within))
    }

    fn sessions(&self, sizes: &BTreeMap<String, i64>) -> Result<Sessions, EngineError> {
        Ok(Sessions {
            before: session(self.engine, &self.before, sizes)?,
            after: session(self.engine, &self.after, sizes).map_err(verdict_of),
        })
    }

    fn compare(
        &self,
        sessions: &Sessions,
        inputs: &RunValues,
        kind: Kind,
    ) -> Result<Option<f64>, ProofVerdict> {
        let reference = outputs(&*sessions.before, inputs).map_err(unknown)?;
        let after = sessions.after.as_ref().map_err(Clone::clone)?;
        let result = outputs(&**after, inputs).map_err(verdict_of)?;
        let demand = match (self.rule.safety, kind) {
            (Safety::Exact, _) => Demand::Bits,
            (_, Kind::Infinite) => Demand::Finite,
            _ => Demand::Rounding,
        };
        let room = if kind == Kind::Moderate { 1.0 } else { 20.0 };
        compare::compare(&reference, &result, demand, room)
            .map_err(|unequal| ProofVerdict::Failed(unequal.to_string()))
    }

    /// Each symbol at 0 and at 1. Where the engine does not run the pattern, nothing is asked of the replacement.
    fn at_small_sizes(&self, built: &Built, random: &mut ChaCha8Rng) -> Result<(), ProofVerdict> {
        for symbol in built.sizes.keys() {
            for size in [0, 1] {
                let mut sizes = built.sizes.clone();
                sizes.insert(symbol.clone(), size);
                let inputs = built.inputs(random, &sizes, Kind::Moderate)?;
                let Ok(sessions) = self.sessions(&sizes) else {
                    continue;
                };
                if sessions.before.run(&inputs).is_err() {
                    continue;
                }
                if let Err(verdict @ ProofVerdict::Failed(_)) =
                    self.compare(&sessions, &inputs, Kind::Moderate)
                {
                    return Err(at(verdict, &format!("{symbol} = {size}")));
                }
            }
        }
        Ok(())
    }
}

/// The example with every dimension of its inputs left open, at sizes of 0 and 1. An error where the rule does not hold.
fn freed(
    rule: &Rule,
    instance: &Instance,
    example: &Example,
    opset: i64,
    seed: u64,
    engine: &dyn Engine,
    evaluator: &dyn Evaluator,
) -> Result<(), ProofVerdict> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut built = build::build(rule, instance, example, opset, Form::Freed, &mut random)?;
    infer(&mut built.model);
    let mut after = built.model.clone();
    let report = apply(&mut after, &RuleSet::only(rule), &options(evaluator))
        .map_err(|e| ProofVerdict::Failed(e.to_string()))?;
    if report.fired.is_empty() {
        return Ok(());
    }
    let pair = Pair::new(rule, engine, built.model.clone(), after)?;
    pair.at_small_sizes(&built, &mut random)
}

fn options(evaluator: &dyn Evaluator) -> Options<'_> {
    Options {
        safety: Safety::Approximate,
        growth: 1 << 30,
        families: OPTIONAL_FAMILIES.map(str::to_owned).to_vec(),
        ..Options::new(evaluator)
    }
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
    sizes: &BTreeMap<String, i64>,
) -> Result<RunValues, EngineError> {
    outputs(&*session(engine, model, sizes)?, inputs)
}

fn session(
    engine: &dyn Engine,
    model: &Model,
    sizes: &BTreeMap<String, i64>,
) -> Result<Box<dyn Session>, EngineError> {
    let mut model = model.clone();
    model.name_values();
    let options = CompileOptions {
        symbols: sizes.clone(),
        ..CompileOptions::default()
    };
    engine.compile(&model, &options)
}

fn outputs(session: &dyn Session, inputs: &RunValues) -> Result<RunValues, EngineError> {
    // A rewrite may have made an input unread, but never drops it.
    let result = session.run(inputs)?;
    Ok(result
        .into_iter()
        .filter(|(_, value)| matches!(value, RunValue::Tensor(_)))
        .collect())
}

/// What it says for a rule that the engine does not run its pattern.
fn unknown(error: EngineError) -> ProofVerdict {
    match error {
        EngineError::Input { .. } => ProofVerdict::Failed(error.to_string()),
        other => ProofVerdict::NotChecked(other.to_string()),
    }
}

/// What it says for a rule that its result could not be run where the pattern runs: only what the engine lacks is no failure.
fn verdict_of(error: EngineError) -> ProofVerdict {
    match error {
        EngineError::Unsupported { .. }
        | EngineError::Unavailable { .. }
        | EngineError::TimedOut { .. }
        | EngineError::Ended { .. }
        | EngineError::Memory { .. }
        | EngineError::Cancelled => ProofVerdict::NotChecked(error.to_string()),
        EngineError::Failed { .. } | EngineError::Input { .. } | EngineError::Shapes { .. } => {
            ProofVerdict::Failed(format!("the result does not run where the pattern does: {error}"))
        }
    }
}
