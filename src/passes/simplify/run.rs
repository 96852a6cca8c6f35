//! The pass `simplify`.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeduplicateInitializers, EliminateCommonSubexpressions, EliminateDeadCode, FoldConstants};
use crate::analysis::infer;
use crate::ir::{Graph, Model};
use crate::passes::encoded_size::{Budget, model_bytes};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety, Selector};
use crate::rewrite::{FREE_GROWTH, OPTIONAL_FAMILIES, Options, RewriteReport, RuleSet, apply};
use crate::schema::{self, nearest};

const NAME: &str = "simplify";

/// Rounds before the pass stops although something still changes: every round but the last makes the model smaller, and
/// what needs more than a few is a rule set that runs in a circle.
const MAX_ROUNDS: usize = 24;

/// Makes the model smaller and faster without changing what it computes.
///
/// Folds constants, applies the rewrite rules, computes common subexpressions and equal constants once, and removes what
/// nothing depends on, in turns until nothing changes any more. The parts are the rules (`secateur rules list`) and the passes
/// `fold-constants`, `eliminate-common-subexpressions`, `deduplicate-initializers` and `eliminate-dead-code`.
///
/// Graph inputs and outputs keep names, order and types; the file does not grow beyond `max-growth`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Simplify {
    /// What has to be preserved: `exact` (the same bits), `rounding` (the same function, floats may differ by rounding) or
    /// `approximate` (rules that say so may change results).
    pub safety: Safety,
    /// Rules and passes to use; all, if empty.
    pub only: Vec<String>,
    /// Rules and passes to leave out.
    pub except: Vec<String>,
    /// Families of rules beyond the usual ones: `ort`, whose operators only ONNX Runtime has, `ort-latest`, whose operators only its
    /// newest releases have, `parallel`, which makes one product of several of one value and splits it.
    pub families: Vec<String>,
    /// Folders with more rules, relative to the pipeline's file.
    #[schemars(extend("x-file" = "rules"))]
    pub rules: Vec<PathBuf>,
    /// Patterns (regular expressions) of nodes and values that must stay as they are.
    pub keep: Vec<String>,
    /// Rule applications before the rules stop.
    pub fuel: Option<u64>,
    /// By which share the file may grow (0.05: by five per cent).
    pub max_growth: Option<f64>,
}

impl Default for Simplify {
    fn default() -> Self {
        Self {
            safety: Safety::Rounding,
            only: Vec::new(),
            except: Vec::new(),
            families: Vec::new(),
            rules: Vec::new(),
            keep: Vec::new(),
            fuel: None,
            max_growth: None,
        }
    }
}

impl Pass for Simplify {
    fn about(&self) -> About {
        About::new(NAME, self.safety).tidying()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("keep", &self.keep)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let rules = self.rule_set(context)?;
        self.check_names(&rules)?;
        let context = self.context(context)?;
        let original = model_bytes(model);
        let rounds = |slack: u64| Rounds {
            options: self,
            context: &context,
            rules: &rules,
            families: Vec::new(),
            later: self.families.clone(),
            original,
            fuel: context.limits.fuel,
            slack,
            report: PassReport::default(),
        };
        let before = model.clone();
        let report = rounds(FREE_GROWTH).run(model)?;
        let limit = original as f64 * (1.0 + context.limits.max_growth.max(0.0));
        let now = model_bytes(model);
        if now as f64 <= limit || now <= original {
            return Ok(report);
        }
        *model = before;
        rounds(0).run(model)
    }
}

impl Simplify {
    /// The embedded rules and those of the folders.
    fn rule_set(&self, context: &Context<'_>) -> Result<Cow<'static, RuleSet>, PassError> {
        let failed = |error: crate::rewrite::RuleError| PassError::resource(NAME, error);
        let mut rules = Cow::Borrowed(RuleSet::embedded().map_err(failed)?);
        for folder in &self.rules {
            let more = RuleSet::load_dir(&context.base.join(folder)).map_err(failed)?;
            rules = Cow::Owned(rules.into_owned().with(&more).map_err(failed)?);
        }
        Ok(rules)
    }

    /// Names in `only`, `except` and `families` have to exist.
    fn check_names(&self, rules: &RuleSet) -> Result<(), PassError> {
        let families = || {
            let used = rules.rules().iter().map(|rule| rule.family.as_str());
            used.chain(OPTIONAL_FAMILIES)
        };
        if let Some(name) = self
            .families
            .iter()
            .find(|name| !families().any(|known| known == **name))
        {
            let hint = match nearest(name, families()) {
                Some(near) => format!("did you mean {near}?"),
                None => "`secateur rules list` shows all families".to_owned(),
            };
            let message = format!("there is no family of rules {name}; {hint}");
            return Err(PassError::Option { pass: NAME, message });
        }
        let unknown =
            |name: &&String| rules.get(name).is_none() && !Part::ALL.iter().any(|part| part.name() == **name);
        match self.only.iter().chain(&self.except).find(unknown) {
            None => Ok(()),
            Some(name) => {
                let known = rules.rules().iter().map(|rule| rule.name.as_str());
                let hint = match nearest(name, known.chain(Part::ALL.iter().map(|part| part.name()))) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "`secateur rules list` shows all rules".to_owned(),
                };
                let message = format!("there is no rule or part {name}; {hint}");
                Err(PassError::Option { pass: NAME, message })
            }
        }
    }

    /// The run's context with the step's own bounds and patterns.
    fn context<'a>(&self, context: &Context<'a>) -> Result<Context<'a>, PassError> {
        let patterns = context.keep.patterns().iter().chain(&self.keep);
        let keep = schema::patterns(patterns).map_err(|error| PassError::Option {
            pass: NAME,
            message: format!("keep: {error}"),
        })?;
        let mut limits = context.limits.clone();
        limits.fuel = self.fuel.or(limits.fuel);
        limits.max_growth = self.max_growth.unwrap_or(limits.max_growth);
        Ok(Context {
            evaluator: context.evaluator,
            limits,
            keep,
            seed: context.seed,
            base: context.base.clone(),
            progress: context.progress,
            resources: context.resources,
        })
    }

    fn uses(&self, part: Part) -> bool {
        let name = part.name().to_owned();
        (self.only.is_empty() || self.only.contains(&name)) && !self.except.contains(&name)
    }
}

/// The native parts.
#[derive(Clone, Copy)]
enum Part {
    Fold,
    Common,
    Duplicates,
    Dead,
}

impl Part {
    const ALL: [Part; 4] = [Part::Fold, Part::Common, Part::Duplicates, Part::Dead];

    fn name(self) -> &'static str {
        match self {
            Part::Fold => FoldConstants::default().about().name,
            Part::Common => EliminateCommonSubexpressions::default().about().name,
            Part::Duplicates => DeduplicateInitializers::default().about().name,
            Part::Dead => EliminateDeadCode::default().about().name,
        }
    }
}

/// Rounds of all parts over one model.
struct Rounds<'a> {
    options: &'a Simplify,
    context: &'a Context<'a>,
    rules: &'a RuleSet,
    /// Optional families whose rules are applied, and those that join once nothing else changes any more: the other rules do not
    /// see through what they make.
    families: Vec<String>,
    later: Vec<String>,
    /// Bytes of the model before the first round.
    original: u64,
    fuel: Option<u64>,
    /// Bytes by which rules may take the file beyond its bound for the time being: later parts often win them back.
    slack: u64,
    report: PassReport,
}

impl Rounds<'_> {
    fn run(mut self, model: &mut Model) -> Result<PassReport, PassError> {
        for round in 0..MAX_ROUNDS {
            (self.context.progress)(NAME, round as u64, None);
            infer(model);
            // Refusals of earlier rounds may have become possible.
            self.report.notes.clear();
            let mut changed = false;
            if self.options.uses(Part::Fold) {
                let mut budget =
                    Budget::new(self.original, model_bytes(model), self.context.limits.max_growth);
                let options = FoldConstants {
                    safety: self.options.safety.min(Safety::Rounding),
                    ..FoldConstants::default()
                };
                let folded = options.run_within(model, self.context, &mut budget)?;
                changed |= self.merge(Part::Fold, folded);
            }
            changed |= self.rewrite(model)?;
            if self.options.uses(Part::Common) {
                let found = EliminateCommonSubexpressions::default().run(model, self.context)?;
                changed |= self.merge(Part::Common, found);
            }
            if self.options.uses(Part::Duplicates) && (round == 0 || changed) {
                let found = DeduplicateInitializers::default().run(model, self.context)?;
                changed |= self.merge(Part::Duplicates, found);
            }
            if self.options.uses(Part::Dead) {
                let found = EliminateDeadCode::default().run(model, self.context)?;
                changed |= self.merge(Part::Dead, found);
            }
            if !changed && !self.begin_later() {
                break;
            }
            if round + 1 == MAX_ROUNDS {
                self.report.notes.push(format!(
                    "stopped after {MAX_ROUNDS} rounds although something still changes"
                ));
            }
        }
        if self.report.changed {
            compact(model);
        }
        Ok(self.report)
    }

    /// Lets the families that wait join. Answers whether there are any.
    fn begin_later(&mut self) -> bool {
        let any = !self.later.is_empty();
        self.families.append(&mut self.later);
        any
    }

    fn merge(&mut self, part: Part, mut found: PassReport) -> bool {
        for change in &mut found.changes {
            change.rule = format!("{}: {}", part.name(), change.rule);
        }
        let changed = found.changed;
        self.report.merge(found);
        changed
    }

    /// Applies the rules. What would make the model larger than it may be is taken back.
    fn rewrite(&mut self, model: &mut Model) -> Result<bool, PassError> {
        let only: Vec<String> = self
            .options
            .only
            .iter()
            .filter(|name| self.rules.get(name).is_some())
            .cloned()
            .collect();
        if only.is_empty() && !self.options.only.is_empty() || self.fuel == Some(0) {
            return Ok(false);
        }
        let before = model.clone();
        let limit = self.original as f64 * (1.0 + self.context.limits.max_growth.max(0.0));
        let allowed = limit + self.slack as f64;
        let options = Options {
            safety: self.options.safety,
            only,
            except: self.options.except.clone(),
            families: self.families.clone(),
            fuel: self.fuel,
            keep: &|name| self.context.keeps(name),
            fold_bytes: self.context.limits.fold_bytes,
            growth: (limit - model_bytes(model) as f64).max(0.0) as u64,
            ..Options::new(self.context.evaluator)
        };
        let found = apply(model, self.rules, &options).map_err(|error| PassError::Model {
            pass: NAME,
            node: error.node.clone(),
            message: error.to_string(),
        })?;
        let (now, then) = (model_bytes(model), model_bytes(&before));
        if now as f64 > allowed && now > then {
            *model = before;
            let note = format!(
                "the rules would let the file grow by {} bytes, more than `max-growth` leaves",
                now - then
            );
            self.report.notes.push(note);
            return Ok(false);
        }
        Ok(self.count(&found))
    }

    fn count(&mut self, found: &RewriteReport) -> bool {
        if self.fuel.is_some() {
            self.fuel = Some(found.fuel_left);
        }
        for (rule, count) in found.counts() {
            self.report.add(rule, count);
        }
        for refused in &found.refused {
            self.report.notes.push(format!(
                "rule {} not applied, {} times: {}",
                refused.rule, refused.count, refused.reason
            ));
        }
        if found.exhausted {
            self.report
                .notes
                .push("the rules stopped for want of fuel".to_owned());
        }
        !found.fired.is_empty()
    }
}

/// Drops removed nodes from every graph.
fn compact(model: &mut Model) {
    for path in model.graph_paths() {
        if let Some(graph) = model.graph_at_mut(&path) {
            Graph::compact(graph);
        }
    }
}
