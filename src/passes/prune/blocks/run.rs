//! The run of the pass.

use std::collections::{HashMap, HashSet};

use regex::RegexSet;

use super::find::{Block, find};
use super::options::PruneBlocks;
use super::score::Judge;
use crate::analysis::{self, cost};
use crate::ir::{DType, EditError, Graph, Model, NodeId, Operator, Tensor, Value, ValueId};
use crate::passes::prune::channels::{OracleVerdict, compare_cut};
use crate::passes::{
    About, Context, Needs, Pass, PassError, PassReport, Requirement, ResourceError, Safety, Selector, prepare,
};
use crate::schema;

const NAME: &str = "prune-blocks";

/// What the report calls what went.
const REMOVED: &str = "blocks removed";

impl Pass for PruneBlocks {
    fn about(&self) -> About {
        let ranks = self.blocks.is_empty();
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: ranks,
            engine: ranks,
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let ranks = self.blocks.is_empty();
        ranks.then(|| self.data.clone()).into_iter().collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![
            Selector::new("blocks", &self.blocks),
            Selector::new("keep", &self.keep),
            Selector::new("features", &self.features),
        ]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        self.check()?;
        let mut report = prepare::fold(model, context)?;
        analysis::infer(model);
        let whole = model.clone();
        let removed = match self.blocks.is_empty() {
            true => self.cheapest(model, &whole, context, &mut report)?,
            false => self.named(model, context, &mut report)?,
        };
        self.explain(&whole, context, &removed, &mut report);
        if removed.is_empty() {
            *model = whole;
            report.changed = false;
            report.changes.clear();
            report.requirements.clear();
            return Ok(report);
        }
        judge(&whole, model, &removed, context, &mut report)?;
        report.add(REMOVED, removed.len() as u64);
        if let Some(change) = report.changes.iter_mut().find(|change| change.rule == REMOVED) {
            change.details = removed.into_iter().map(|block| block.words).collect();
        }
        Ok(report)
    }
}

/// A block that went.
struct Removed {
    /// The name of the sum that it added to.
    sum: String,
    /// The input of the addition that it was.
    slot: usize,
    /// Names of the values inside.
    inside: HashSet<String>,
    words: String,
}

impl PruneBlocks {
    fn check(&self) -> Result<(), PassError> {
        let asked = [
            self.count.is_some(),
            self.target_macs.is_some(),
            !self.blocks.is_empty(),
        ];
        match asked.iter().filter(|asked| **asked).count() {
            1 => {}
            0 => {
                return Err(option(
                    "what goes is not said: `count`, `target-macs` or `blocks`",
                ));
            }
            _ => {
                return Err(option(
                    "one of `count`, `target-macs` and `blocks` says what goes",
                ));
            }
        }
        if let Some(share) = self.target_macs.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(option(&format!("target-macs: {share} is not in 0 to 1")));
        }
        match self.samples {
            0 => Err(option("samples: nothing is ranked without a sample")),
            _ => Ok(()),
        }
    }

    fn patterns(name: &str, patterns: &[String]) -> Result<RegexSet, PassError> {
        schema::patterns(patterns).map_err(|error| option(&format!("{name}: {error}")))
    }

    /// The blocks that may go.
    fn candidates(&self, graph: &Graph, context: &Context<'_>) -> Result<Vec<Block>, PassError> {
        let keep = Self::patterns("keep", &self.keep)?;
        let is_kept = |block: &Block| {
            let nodes = block.nodes.iter().chain([&block.add]);
            nodes
                .flat_map(|id| names(graph, *id))
                .any(|name| keep.is_match(&name) || context.keeps(&name))
        };
        let blocks = find(graph).blocks.into_iter();
        Ok(blocks.filter(|block| !is_kept(block)).collect())
    }

    /// Takes away the blocks that the options name.
    fn named(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Vec<Removed>, PassError> {
        let wanted = Self::patterns("blocks", &self.blocks)?;
        let mut removed = Vec::new();
        loop {
            let blocks = self.candidates(&model.graph, context)?;
            let found = blocks.into_iter().find(|block| {
                let branch = model
                    .graph
                    .value(block.branch)
                    .map(|value| value.name.to_string());
                let mut own = names(&model.graph, block.add).into_iter().chain(branch);
                own.any(|name| wanted.is_match(&name))
            });
            let Some(block) = found else { break };
            removed.push(take(model, &block, None)?);
        }
        if removed.is_empty() {
            report.leave("", "the patterns of `blocks` name no block that can go");
        }
        Ok(removed)
    }

    /// Takes away the blocks that are worth least.
    fn cheapest(
        &self,
        model: &mut Model,
        whole: &Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Vec<Removed>, PassError> {
        let resources = context.resources(NAME, "ranking needs data and an engine")?;
        let features = Self::patterns("features", &self.features)?;
        let judge = Judge {
            options: self,
            context,
            resources,
            whole,
            features: &features,
            pass: NAME,
        };
        let before = macs(whole);
        let enough = |model: &Model, removed: usize| match (self.count, self.target_macs) {
            (Some(count), _) => removed >= count as usize,
            (_, Some(share)) => macs(model) as f64 <= share * before as f64,
            _ => true,
        };
        let mut removed = Vec::new();
        if enough(model, 0) {
            let reason = match (self.count, before) {
                (None, 0) => "its multiply-accumulates are not known: `count` or `blocks` says what goes",
                _ => "what is asked for is reached without a block less",
            };
            report.leave("", reason);
        }
        while !enough(model, removed.len()) {
            let blocks = self.candidates(&model.graph, context)?;
            let mut best: Option<(f64, f64, Block)> = None;
            for (at, block) in blocks.iter().enumerate() {
                (context.progress)("blocks", at as u64, Some(blocks.len() as u64));
                let mut cut = model.clone();
                take(&mut cut, block, None)?;
                let loss = judge.loss(&cut)?;
                let freed = macs(model).saturating_sub(macs(&cut)) as f64;
                let worth = match self.target_macs {
                    Some(_) => loss / freed.max(1.0),
                    None => loss,
                };
                if best.as_ref().is_none_or(|(least, ..)| worth < *least) {
                    best = Some((worth, loss, block.clone()));
                }
            }
            let Some((_, loss, block)) = best else {
                let left = macs(model) as f64 / before.max(1) as f64;
                report.requirements.push(self.missed(removed.len(), left));
                break;
            };
            removed.push(take(model, &block, Some(loss))?);
        }
        Ok(removed)
    }

    /// The target that was not reached with all blocks that may go.
    fn missed(&self, removed: usize, left: f64) -> Requirement {
        let message = format!(
            "no block is left that may go: {removed} went, and {:.1} % of the multiply-accumulates remain",
            100.0 * left
        );
        let (name, value, bound) = match (self.count, self.target_macs) {
            (Some(count), _) => ("count", removed as f64, f64::from(count)),
            (_, share) => ("target-macs", left, share.unwrap_or(0.0)),
        };
        Requirement {
            name: name.to_owned(),
            passed: false,
            value,
            bound,
            message,
        }
    }

    /// Says which blocks stay because of what.
    fn explain(&self, whole: &Model, context: &Context<'_>, removed: &[Removed], report: &mut PassReport) {
        let graph = &whole.graph;
        let found = find(graph);
        if found.blocks.is_empty() && found.others.is_empty() {
            report.leave("", "the model has no residual block");
        }
        for (add, reason) in &found.others {
            report.leave(graph.label(*add), *reason);
        }
        let gone = |block: &Block| {
            let name = sum_name(graph, block);
            removed
                .iter()
                .any(|one| one.sum == name || one.inside.contains(&name))
        };
        let may = self.candidates(graph, context).unwrap_or_default();
        for block in found.blocks.iter().filter(|block| !gone(block)) {
            if !may.contains(block) {
                report.leave(graph.label(block.add), "a keep pattern");
            }
        }
    }
}

fn option(message: &str) -> PassError {
    PassError::Option {
        pass: NAME,
        message: message.to_owned(),
    }
}

fn edit(source: EditError) -> PassError {
    PassError::Edit { pass: NAME, source }
}

/// The names of a node and its values.
fn names(graph: &Graph, id: NodeId) -> Vec<String> {
    let Some(node) = graph.get(id) else {
        return Vec::new();
    };
    let values = node.outputs().iter().map(|value| value.name.to_string());
    node.name.iter().map(ToString::to_string).chain(values).collect()
}

fn sum_name(graph: &Graph, block: &Block) -> String {
    let value = graph.value(ValueId::new(block.add, 0));
    value.map(|value| value.name.to_string()).unwrap_or_default()
}

fn macs(model: &Model) -> u64 {
    cost(model, &|_| None)
        .by_node
        .iter()
        .filter_map(|node| node.macs)
        .sum()
}

/// Puts the value in the place of the sum and drops what nothing needs any more.
fn take(model: &mut Model, block: &Block, loss: Option<f64>) -> Result<Removed, PassError> {
    let graph = &model.graph;
    let by_node: HashMap<NodeId, u64> = cost(model, &|_| None)
        .by_node
        .iter()
        .filter(|node| node.path.function.is_none() && node.path.bodies.is_empty())
        .filter_map(|node| Some((node.node, node.macs?)))
        .collect();
    let freed: u64 = block.nodes.iter().filter_map(|id| by_node.get(id)).sum();
    let sum = sum_name(graph, block);
    let slot = usize::from(graph.input(block.add, 1) == Some(block.branch));
    let change = loss
        .map(|loss| format!(", features change by {loss:.4}"))
        .unwrap_or_default();
    let words = format!(
        "{} nodes before {}: {freed} multiply-accumulates{change}",
        block.nodes.len(),
        graph.label(block.add)
    );
    let inside = block.nodes.iter().flat_map(|id| names(graph, *id)).collect();
    let value = ValueId::new(block.add, 0);
    let ty = graph.ty(value).clone();
    let mut editor = model.graph.edit(NAME);
    let put = if !editor.graph().is_graph_output(value) {
        block.skip
    } else {
        let same = Operator::new("Identity");
        let node = editor
            .add_operator(block.add, same, &[Some(block.skip)], vec![Value::typed("", ty)])
            .map_err(edit)?;
        ValueId::new(node, 0)
    };
    editor.replace(value, put).map_err(edit)?;
    editor.remove_unused(block.add);
    drop(editor);
    Ok(Removed {
        sum,
        slot,
        inside,
        words,
    })
}

/// The model in which the blocks add zero.
fn masked(whole: &Model, removed: &[Removed]) -> Result<Model, PassError> {
    let mut model = whole.clone();
    let graph = &model.graph;
    let places = removed.iter().filter_map(|block| {
        let sum = graph.find_value(&block.sum)?;
        let branch = graph.input(sum.node, block.slot)?;
        Some((sum.node, block.slot, branch, graph.ty(branch).clone()))
    });
    let places: Vec<_> = places.collect();
    let mut editor = model.graph.edit(NAME);
    for (add, slot, branch, ty) in places {
        let zero = Tensor::from_f64(ty.dtype().unwrap_or(DType::F32), &[], &[0.0]);
        let zero = zero.map_err(|error| PassError::resource(NAME, ResourceError::from(error)))?;
        let zero = editor.add_constant("", zero);
        let (inputs, nothing) = ([Some(branch), Some(zero)], vec![Value::typed("", ty)]);
        let nothing = editor
            .add_operator(add, Operator::new("Mul"), &inputs, nothing)
            .map_err(edit)?;
        let nothing = Some(ValueId::new(nothing, 0));
        editor.set_input(add, slot, nothing).map_err(edit)?;
    }
    drop(editor);
    model.name_values();
    Ok(model)
}

/// Compares the result with the model in which the blocks add zero.
fn judge(
    whole: &Model,
    cut: &Model,
    removed: &[Removed],
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let reference = masked(whole, removed)?;
    let found = compare_cut(whole, &reference, cut, context.engine(), context.seed);
    let reason = found.reason.as_deref().unwrap_or("");
    match found.verdict {
        OracleVerdict::Equal => Ok(()),
        OracleVerdict::NotChecked => {
            report.notes.push(format!(
                "not checked against the model in which the blocks add zero: {reason}"
            ));
            Ok(())
        }
        OracleVerdict::Different => Err(PassError::Model {
            pass: NAME,
            node: whole.graph.meta.name.clone().unwrap_or_default(),
            message: format!(
                "the result differs from the model in which the blocks add zero: {reason}; this is a defect of secateur"
            ),
        }),
    }
}
