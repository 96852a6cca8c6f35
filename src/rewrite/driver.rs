//! Applies rules until none fires: a worklist over the nodes of each graph, rules indexed by the operator at their root.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::ir::{Graph, GraphPath, Imports, Model, NodeId, Operator, ValueId, opset_version};

use super::apply::{Applied, Bounds, Refusal, apply as apply_plan, check, readers_of};
use super::domains;
use super::draft::Draft;
use super::evaluator::Evaluator;
use super::matcher::{Match, Matcher, Miss, operands_may_fit};
use super::plan::{Folding, Plan, plan};
use super::report::{Fired, RewriteReport, WhyNot};
use super::rule::{Instance, Rule};
use super::safety::Safety;
use super::set::RuleSet;
use super::value::Reason;

/// Nodes around a change that are looked at again at once, and how far away; the next sweep finds the others.
const NEIGHBOURHOOD: usize = 24;
const DISTANCE: usize = 3;
/// Operands from which on an operator that a rewrite made is not taken into another one in the same sweep.
const WIDE: usize = 8;
/// Bytes by which a model may grow whatever the limit: shapes and axes that operators become constants by.
pub const FREE_GROWTH: u64 = 1024;
/// Different refusals that a report lists.
const MOST_REFUSALS: usize = 256;

/// How to apply rules.
pub struct Options<'a> {
    /// Computes constants.
    pub evaluator: &'a dyn Evaluator,
    /// Rules up to this class are applied.
    pub safety: Safety,
    /// When not empty, only rules with these names.
    pub only: Vec<String>,
    /// Rules that are not applied.
    pub except: Vec<String>,
    /// Those of [`OPTIONAL_FAMILIES`](super::OPTIONAL_FAMILIES) whose rules are applied, too; a rule that `only` names always is.
    pub families: Vec<String>,
    /// Rewrites before the driver stops. `None`: 64 and eight for each operator of the model.
    pub fuel: Option<u64>,
    /// Whether the user protects a node or value of this name: it is neither removed nor changed.
    pub keep: &'a (dyn Fn(&str) -> bool + Sync),
    /// Bytes that a folded constant may have if its inputs have fewer.
    pub fold_bytes: u64,
    /// Bytes by which the model may grow, beside [`FREE_GROWTH`].
    pub growth: u64,
}

impl<'a> Options<'a> {
    /// `exact` and `rounding` rules, nothing protected, constants up to 4 MiB, no growth.
    pub fn new(evaluator: &'a dyn Evaluator) -> Self {
        Self {
            evaluator,
            safety: Safety::Rounding,
            only: Vec::new(),
            except: Vec::new(),
            families: Vec::new(),
            fuel: None,
            keep: &|_| false,
            fold_bytes: 4 << 20,
            growth: 0,
        }
    }

    fn allows(&self, rule: &Rule) -> bool {
        rule.safety <= self.safety
            && (self.only.is_empty() || self.only.contains(&rule.name))
            && !self.except.contains(&rule.name)
            && (!rule.is_optional() || self.families.contains(&rule.family) || self.only.contains(&rule.name))
    }
}

/// An edit that failed although it had been checked: a defect of this crate.
#[derive(Debug, thiserror::Error)]
#[error("rule {rule} at {node}: {source}; this is a defect of secateur, please report it with the model")]
pub struct RewriteError {
    /// The rule.
    pub rule: String,
    /// The node at its root.
    pub node: String,
    /// The edit's error.
    pub source: Box<crate::ir::EditError>,
}

/// Applies the rules of a set to every graph of the model, with the opsets of each; the domain of a new operator is imported. Types must
/// be inferred ([`crate::analysis::infer`]); new values get theirs.
pub fn apply(
    model: &mut Model,
    rules: &RuleSet,
    options: &Options<'_>,
) -> Result<RewriteReport, RewriteError> {
    let paths = model.graph_paths();
    let operators: usize = paths
        .iter()
        .filter_map(|path| model.graph_at(path))
        .map(Graph::operator_count)
        .sum();
    let mut report = RewriteReport::new(options.fuel.unwrap_or(64 + 8 * operators as u64));
    let mut growth = i64::try_from(options.growth.saturating_add(FREE_GROWTH)).unwrap_or(i64::MAX);
    let mut indices: HashMap<i64, Rc<Index<'_>>> = HashMap::new();
    for path in &paths {
        let imports = domains::with_foreign(model.opsets(path));
        let Some(version) = opset_version(&imports, "") else {
            continue;
        };
        let index = indices
            .entry(version)
            .or_insert_with(|| Rc::new(index(rules, options, version)));
        let index = Rc::clone(index);
        let Some(graph) = model.graph_at_mut(path) else {
            continue;
        };
        let mut driver = Driver::new(rules, options, &imports, index, path, &mut report, growth);
        driver.run(graph)?;
        growth = driver.growth;
        let made = std::mem::take(&mut driver.foreign);
        domains::add_at(model, path, made);
        if report.exhausted {
            break;
        }
    }
    let changed: HashSet<&GraphPath> = report.fired.iter().map(|fired| &fired.graph).collect();
    for path in paths.iter().rev().filter(|path| changed.contains(path)) {
        drop_captures(model, path);
    }
    Ok(report)
}

/// Bodies may read fewer outer values than before.
fn drop_captures(model: &mut Model, path: &GraphPath) {
    let mut outer = path.clone();
    let Some((owner, _)) = outer.bodies.pop() else {
        return;
    };
    if let Some(graph) = model.graph_at_mut(&outer).filter(|graph| graph.is_live(owner)) {
        // A capture that stays is no error, only a little more to read.
        let _ = graph.edit("unused captures").prune_captures(owner);
    }
}

/// Says why a rule does not fire at a node of a graph; the operators must be those of the model as it is.
pub fn why_not(model: &Model, rule: &Rule, path: &GraphPath, node: NodeId, options: &Options<'_>) -> WhyNot {
    let imports = &domains::with_foreign(model.opsets(path));
    let version = opset_version(imports, "").unwrap_or(0);
    if !rule.holds_in(version) {
        return WhyNot::NoMatch(format!(
            "the rule holds in opsets {}, the model has {version}",
            rule.opset_text()
        ));
    }
    let Some(graph) = model.graph_at(path) else {
        return WhyNot::NoMatch("there is no such graph".to_owned());
    };
    let mut answer = WhyNot::NoMatch("not an operator at the root of the pattern".to_owned());
    for instance in &rule.instances {
        let attempt = match Matcher::new(graph, imports, instance, true).at(node) {
            Err(None) => continue,
            Err(Some(Miss::NoMatch(reason))) => WhyNot::NoMatch(reason),
            Err(Some(Miss::Clause { clause, reason })) => WhyNot::CheckFailed { clause, reason },
            Ok(found) => {
                let folding = Folding {
                    evaluator: Some(options.evaluator),
                    bytes: options.fold_bytes,
                    draft: None,
                };
                match plan(graph, imports, instance, &found, folding) {
                    Err(reason) => WhyNot::NoEffect(reason.into_owned()),
                    Ok(planned) => {
                        let bounds = Bounds {
                            keep: &|name| (options.keep)(name),
                            growth: i64::try_from(options.growth.saturating_add(FREE_GROWTH))
                                .unwrap_or(i64::MAX),
                            pattern: instance.pattern.nodes.len(),
                            must_pay: rule.family != "lowering",
                        };
                        match apply_plan(&mut graph.clone(), imports, &rule.name, node, &planned, &bounds) {
                            Ok(_) => return WhyNot::Fires,
                            Err(Refusal::NoEffect(reason)) => WhyNot::NoEffect(reason.into_owned()),
                            Err(Refusal::Kept(name)) => WhyNot::CheckFailed {
                                clause: "keep".to_owned(),
                                reason: format!("{name} is protected"),
                            },
                            Err(Refusal::Edit(error)) => WhyNot::NoEffect(error.to_string()),
                        }
                    }
                }
            }
        };
        if attempt.rank() >= answer.rank() {
            answer = attempt;
        }
    }
    answer
}

/// A rule's instance as the index has it.
#[derive(Clone, Copy)]
struct Entry {
    rule: usize,
    instance: usize,
    late: bool,
}

/// Rules by operator at the root, those to be tried first in front.
type Index<'a> = HashMap<&'a str, Vec<Entry>>;

/// The rules that hold in a version.
fn index<'a>(rules: &'a RuleSet, options: &Options<'_>, version: i64) -> Index<'a> {
    let mut index: Index<'a> = HashMap::new();
    for (at, rule) in rules.rules().iter().enumerate() {
        if !rule.holds_in(version) || !options.allows(rule) {
            continue;
        }
        for (instance, body) in rule.instances.iter().enumerate() {
            let Some(root) = body.pattern.nodes.last() else {
                continue;
            };
            index.entry(&root.op_type).or_default().push(Entry {
                rule: at,
                instance,
                late: rule.priority < 0,
            });
        }
    }
    for entries in index.values_mut() {
        entries.sort_by_key(|entry| {
            let rule = rules.rules().get(entry.rule);
            let size = rule
                .filter(|_| !rules.is_shuffled())
                .and_then(|r| r.instances.get(entry.instance))
                .map_or(0, |i| i.pattern.nodes.len());
            (
                std::cmp::Reverse(rule.map_or(0, |r| r.priority)),
                std::cmp::Reverse(size),
                entry.rule,
                entry.instance,
            )
        });
    }
    index
}

struct Driver<'a> {
    rules: &'a RuleSet,
    options: &'a Options<'a>,
    imports: &'a Imports,
    path: &'a GraphPath,
    report: &'a mut RewriteReport,
    growth: i64,
    index: Rc<Index<'a>>,
    queue: VecDeque<NodeId>,
    queued: Vec<bool>,
    /// Operators with many operands that this sweep has made, and those that would take one of them in: they come once
    /// nothing else is left to do, or a chain of joins would be copied again with each link.
    wide: HashSet<NodeId>,
    held: Vec<NodeId>,
    refusals: BTreeMap<(String, String), u64>,
    /// Domains of new operators that the graph may not import.
    foreign: BTreeSet<&'static str>,
}

impl<'a> Driver<'a> {
    fn new(
        rules: &'a RuleSet,
        options: &'a Options<'a>,
        imports: &'a Imports,
        index: Rc<Index<'a>>,
        path: &'a GraphPath,
        report: &'a mut RewriteReport,
        growth: i64,
    ) -> Self {
        let refusals = BTreeMap::new();
        let (queue, queued) = (VecDeque::new(), Vec::new());
        Self {
            rules,
            options,
            imports,
            path,
            report,
            growth,
            index,
            queue,
            queued,
            wide: HashSet::new(),
            held: Vec::new(),
            refusals,
            foreign: BTreeSet::new(),
        }
    }

    /// Sweeps over the graph until nothing fires; rules of negative priority join once the others are done.
    fn run(&mut self, graph: &mut Graph) -> Result<(), RewriteError> {
        let mut late = false;
        loop {
            for id in graph.topological_order() {
                self.push(graph, id);
            }
            let before = self.report.fired.len();
            self.sweep(graph, late)?;
            let fired = self.report.fired.len() > before;
            if self.report.exhausted || !fired && late {
                break;
            }
            late = !fired;
        }
        for ((rule, reason), count) in std::mem::take(&mut self.refusals) {
            self.report.refuse(rule, reason, count);
        }
        Ok(())
    }

    fn push(&mut self, graph: &Graph, id: NodeId) {
        if graph
            .operator(id)
            .is_none_or(|operator| !self.index.contains_key(operator.op_type.as_str()))
        {
            return;
        }
        if self.queued.len() <= id.index() {
            self.queued.resize(id.index() + 1, false);
        }
        if let Some(flag) = self.queued.get_mut(id.index())
            && !*flag
        {
            *flag = true;
            self.queue.push_back(id);
        }
    }

    fn sweep(&mut self, graph: &mut Graph, late: bool) -> Result<(), RewriteError> {
        while let Some(id) = self.next(graph) {
            if let Some(flag) = self.queued.get_mut(id.index()) {
                *flag = false;
            }
            while let Some(applied) = self.visit(graph, id, late)? {
                self.growth = self.growth.saturating_sub(applied.growth);
                self.requeue(graph, &applied);
                if self.report.fuel_left == 0 {
                    self.report.exhausted = true;
                    self.queue.clear();
                    self.queued.clear();
                    self.held.clear();
                    return Ok(());
                }
                if !graph.is_live(id) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The next node to visit; those that were held back once there is no other.
    fn next(&mut self, graph: &Graph) -> Option<NodeId> {
        if self.queue.is_empty() {
            self.wide.clear();
            for id in std::mem::take(&mut self.held) {
                self.push(graph, id);
            }
        }
        self.queue.pop_front()
    }

    /// Tries the rules at one node; the first that fits is applied.
    fn visit(&mut self, graph: &mut Graph, id: NodeId, late: bool) -> Result<Option<Applied>, RewriteError> {
        let Some(operator) = graph.operator(id) else {
            return Ok(None);
        };
        let index = Rc::clone(&self.index);
        let Some(entries) = index.get(operator.op_type.as_str()) else {
            return Ok(None);
        };
        for entry in entries.iter().filter(|entry| late || !entry.late) {
            let Some(rule) = self.rules.rules().get(entry.rule) else {
                continue;
            };
            let Some(instance) = rule.instances.get(entry.instance) else {
                continue;
            };
            if !operands_may_fit(graph, id, instance) {
                continue;
            }
            let Ok(found) = Matcher::new(graph, self.imports, instance, false).at(id) else {
                continue;
            };
            let op_type = |node: NodeId| graph.operator(node).map(|operator| &operator.op_type);
            let joins = |node: &NodeId| self.wide.contains(node) && op_type(*node) == op_type(id);
            if found.nodes.iter().any(joins) {
                self.held.push(id);
                return Ok(None);
            }
            if self.report.fuel_left == 0 {
                self.report.exhausted = true;
                return Ok(None);
            }
            let bounds = Bounds {
                keep: &|name| (self.options.keep)(name),
                growth: self.growth,
                pattern: instance.pattern.nodes.len(),
                must_pay: rule.family != "lowering",
            };
            let planned = match self.planned(graph, instance, &found, &bounds) {
                Ok(planned) => planned,
                Err(reason) => {
                    note(&mut self.refusals, rule, &reason);
                    continue;
                }
            };
            let label = graph.label(id);
            match apply_plan(graph, self.imports, &rule.name, id, &planned, &bounds) {
                Ok(applied) => {
                    let made = planned.nodes.iter().map(|node| node.operator.domain());
                    self.foreign.extend(made.filter_map(domains::foreign));
                    let after = applied.added.iter().map(|new| graph.label(*new)).collect();
                    self.report.fire(Fired {
                        rule: rule.name.clone(),
                        graph: self.path.clone(),
                        node: label,
                        after,
                    });
                    return Ok(Some(applied));
                }
                Err(Refusal::NoEffect(reason)) => note(&mut self.refusals, rule, &reason),
                Err(Refusal::Kept(name)) => note(&mut self.refusals, rule, &format!("{name} is protected")),
                Err(Refusal::Edit(source)) => {
                    return Err(RewriteError {
                        rule: rule.name.clone(),
                        node: label,
                        source: Box::new(source),
                    });
                }
            }
        }
        Ok(None)
    }

    /// The plan of a match. Large constants are computed only where the rewrite is not refused for what their shapes tell.
    fn planned(
        &self,
        graph: &Graph,
        instance: &Instance,
        found: &Match,
        bounds: &Bounds<'_>,
    ) -> Result<Plan, Reason> {
        let draft = Draft::default();
        let folding = |draft| Folding {
            evaluator: Some(self.options.evaluator),
            bytes: self.options.fold_bytes,
            draft,
        };
        let drawn = plan(graph, self.imports, instance, found, folding(Some(&draft)));
        if !draft.is_drawn() {
            return drawn;
        }
        if let Ok(drawn) = &drawn
            && let Err(Refusal::NoEffect(reason)) = check(graph, drawn, bounds)
        {
            return Err(reason);
        }
        plan(graph, self.imports, instance, found, folding(None))
    }

    /// New nodes, what reads the new values, and what shares operands with removed nodes may match now.
    fn requeue(&mut self, graph: &Graph, applied: &Applied) {
        for id in &applied.added {
            self.push(graph, *id);
            let operands = graph.operator(*id).map_or(0, Operator::input_count);
            if operands > WIDE {
                self.wide.insert(*id);
            }
        }
        let mut front: Vec<ValueId> = applied.values.clone();
        front.extend(&applied.freed);
        front.extend(applied.added.iter().map(|id| ValueId::new(*id, 0)));
        let mut looked = 0;
        for _ in 0..DISTANCE {
            let mut next = Vec::new();
            for value in front {
                for reader in readers_of(graph, value).take(NEIGHBOURHOOD - looked.min(NEIGHBOURHOOD)) {
                    looked += 1;
                    self.push(graph, reader);
                    let outputs = graph.get(reader).map_or(0, |node| node.outputs().len());
                    next.extend((0..outputs.min(NEIGHBOURHOOD)).map(|output| ValueId::new(reader, output)));
                }
            }
            if next.is_empty() || looked >= NEIGHBOURHOOD {
                return;
            }
            front = next;
        }
    }
}

fn note(refusals: &mut BTreeMap<(String, String), u64>, rule: &Rule, reason: &str) {
    let key = (rule.name.clone(), reason.to_owned());
    if refusals.len() < MOST_REFUSALS || refusals.contains_key(&key) {
        *refusals.entry(key).or_default() += 1;
    }
}
