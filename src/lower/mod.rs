//! Rewriting a model into what an engine can run, with the semantics of the ONNX specification.
//!
//! A lowered model computes what the model computes, to the engine's rounding; it is run and thrown away, never written. Each
//! file holds the operators of one family and answers for the form in which the engine gets them; a form that is not known is
//! left alone, and the engine refuses it. Model-local functions stay: tract inlines their calls as it reads them.

mod attention;
mod contributed;
mod double;
mod elementwise;
mod fill;
mod half;
mod indices;
mod loss;
mod narrow;
mod nbits;
mod normalise;
mod quantized;
mod recurrent;
mod reduce;
mod sequences;
mod site;
mod slices;
mod spatial;

use std::collections::HashSet;

use crate::analysis::infer;
use crate::engine::{CompileOptions, Engine, EngineError, Session};
use crate::ir::{EditError, GraphPath, Imports, Model, NodeId};
use site::Site;

/// How an operator is rewritten: `true` if it was, `false` if it stays.
type Apply = fn(&mut Site<'_>) -> Result<bool, EditError>;

/// One row: domain, operator type, and how it is rewritten.
type Rule = (&'static str, &'static str, Apply);

/// Every rule for tract. An operator may have several; the first that rewrites it wins.
const TRACT: &[&[Rule]] = &[
    quantized::RULES,
    contributed::RULES,
    nbits::RULES,
    recurrent::RULES,
    elementwise::RULES,
    fill::RULES,
    spatial::RULES,
    normalise::RULES,
    loss::RULES,
    attention::RULES,
    reduce::RULES,
    half::RULES,
    double::RULES,
    narrow::RULES,
    slices::RULES,
    indices::RULES,
    sequences::RULES,
];

/// Domain and type of every operator that some form of is rewritten. Rules for any operator are not among them.
pub fn operators() -> Vec<(&'static str, &'static str)> {
    let rules = TRACT.iter().flat_map(|family| family.iter());
    rules
        .map(|(domain, name, _)| (*domain, *name))
        .filter(|(_, name)| *name != "*")
        .collect()
}

/// Rounds of rewriting before the rest is left as it is: a rewritten operator may need rewriting itself, a few levels deep.
const ROUNDS: usize = 6;

/// A model that could not be lowered.
#[derive(Debug, thiserror::Error, Clone)]
#[error(
    "{node}: {operator} could not be lowered: {source}; this is a defect of secateur, please report it with the model"
)]
pub struct LowerError {
    /// Node.
    pub node: String,
    /// Operator type.
    pub operator: String,
    /// The edit that was refused.
    pub source: Box<EditError>,
}

impl From<LowerError> for EngineError {
    fn from(error: LowerError) -> Self {
        Self::Failed {
            engine: "tract",
            reason: error.to_string(),
        }
    }
}

/// The model as `engine` can run it: the model itself for an engine that runs ONNX as it is.
pub fn for_engine(model: &Model, engine: &dyn Engine) -> Result<Model, LowerError> {
    let mut model = model.clone();
    if engine.name() == "tract" {
        for_tract(&mut model)?;
    }
    Ok(model)
}

/// An engine that lowers each model before it compiles it.
pub struct Lowering<'a>(pub &'a dyn Engine);

impl Engine for Lowering<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn release(&self) -> String {
        self.0.release()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        self.0.compile(&for_engine(model, self.0)?, options)
    }
}

/// Operators that ONNX Runtime has in ONNX's own domain in versions before the one that introduces them, as the same; tract asks
/// for no version.
const EARLY: [&str; 1] = ["LayerNormalization"];

fn for_tract(model: &mut Model) -> Result<(), LowerError> {
    infer(model);
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at_mut(&path) else {
            continue;
        };
        let early = |id: &NodeId| {
            graph.operator(*id).is_some_and(|operator| {
                operator.is_opaque()
                    && operator.imported_domain().is_empty()
                    && EARLY.contains(&operator.op_type.as_str())
            })
        };
        for id in graph.node_ids().filter(early).collect::<Vec<_>>() {
            graph.set_opaque(id, false);
        }
    }
    let functions = function_names(model);
    for path in model.graph_paths() {
        let imports = model.opsets(&path).clone();
        let mut seen = HashSet::new();
        for _ in 0..ROUNDS {
            if !round(model, &path, &imports, &functions, &mut seen)? {
                break;
            }
        }
    }
    Ok(())
}

/// Domain and name of each model-local function.
fn function_names(model: &Model) -> HashSet<(String, String)> {
    let headers = model.functions.iter().map(|function| &function.header);
    headers
        .map(|header| {
            (
                header.domain.clone().unwrap_or_default(),
                header.name.clone().unwrap_or_default(),
            )
        })
        .collect()
}

/// Looks at each operator that has not been looked at. Answers whether any was rewritten.
fn round(
    model: &mut Model,
    path: &GraphPath,
    imports: &Imports,
    functions: &HashSet<(String, String)>,
    seen: &mut HashSet<NodeId>,
) -> Result<bool, LowerError> {
    let Some(graph) = model.graph_at(path) else {
        return Ok(false);
    };
    let order: Vec<NodeId> = graph
        .topological_order()
        .into_iter()
        .filter(|id| seen.insert(*id))
        .collect();
    let mut changed = false;
    for id in order {
        let Some(graph) = model.graph_at_mut(path) else {
            continue;
        };
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let (domain, op_type) = (operator.domain().to_owned(), operator.op_type.to_string());
        if functions.contains(&(domain.clone(), op_type.clone())) || operator.has_references() {
            continue;
        }
        let rules = TRACT.iter().flat_map(|family| family.iter());
        for (_, _, apply) in
            rules.filter(|(in_domain, name, _)| *name == "*" || *name == op_type && *in_domain == domain)
        {
            let node = graph.label(id);
            let mut site = Site::new(graph, id, imports);
            let outcome = apply(&mut site);
            let rewritten = site.finish(matches!(outcome, Ok(true)));
            match outcome {
                Ok(true) => {
                    changed |= rewritten;
                    break;
                }
                Ok(false) => {}
                // A declared type that contradicts the specification: the operator stays, for the engine to judge.
                Err(EditError::Type { .. }) => {}
                Err(source) => {
                    return Err(LowerError {
                        node,
                        operator: op_type.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
    }
    Ok(changed)
}
