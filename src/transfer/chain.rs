//! One model behind another.
//!
//! [`links`] says which value of the first model each input of the second one reads, [`sizes`] which sizes the second asks of the
//! first, [`chain`] puts both together. Symbols of the second model become what the first has in their place.

use std::collections::{BTreeMap, BTreeSet};

use super::region::{self, RegionError};
use super::splice::{SpliceError, expose, free, splice};
use crate::analysis::{self, public_type};
use crate::ir::{Dim, EditError, Graph, Model, Name, NodeKind, TensorType, ValueId, ValueType};

/// Why two models cannot be chained.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// An input that is named is not there.
    #[error("the second model has no input {input:?}; its inputs are {inputs}")]
    NoInput {
        /// The name.
        input: String,
        /// What there is.
        inputs: String,
    },
    /// An input is named twice.
    #[error("the input {input:?} of the second model reads {first:?} and {second:?}")]
    Twice {
        /// The input.
        input: String,
        /// A value.
        first: String,
        /// Another one.
        second: String,
    },
    /// A value does not fit the input that reads it.
    #[error("{value:?} of the first model is {found}, and the input {input:?} of the second is {expected}")]
    Type {
        /// The value.
        value: String,
        /// Its type.
        found: String,
        /// The input.
        input: String,
        /// Its type.
        expected: String,
    },
    /// Names, types and places do not say what belongs together.
    #[error(
        "it is not clear which outputs of the first model ({outputs}) the inputs of the second ({inputs}) read; name the pairs as OUTPUT=INPUT"
    )]
    Unclear {
        /// Outputs with their types.
        outputs: String,
        /// Inputs with their types.
        inputs: String,
    },
    /// One symbol of the second model stands for sizes that differ.
    #[error("{symbol} of the second model is {first} at {one:?} and {second} at {other:?}")]
    Symbol {
        /// The symbol.
        symbol: String,
        /// A size.
        first: String,
        /// The input that has it.
        one: String,
        /// Another size.
        second: String,
        /// The input that has that.
        other: String,
    },
    /// A value is not there.
    #[error("the first model: {0}")]
    Region(#[from] RegionError),
    /// The second model cannot become part of the first.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// An edit broke a law of the IR.
    #[error("{0}; this is a defect of secateur, please report it with the model")]
    Edit(#[from] EditError),
}

/// A value of the first model for an input of the second one, by the index of the input.
pub type Links = BTreeMap<usize, ValueId>;

/// What [`chain`] did.
#[derive(Clone, Debug, Default)]
pub struct Chained {
    /// Operators that were added.
    pub operators: usize,
    /// Inputs of the second model that are inputs of the result, by the names they have there.
    pub inputs: Vec<String>,
    /// Outputs of the first model that are none of the result.
    pub dropped: Vec<String>,
    /// Inputs of the first model that nothing reads any more.
    pub idle: Vec<String>,
    /// Names that had to change: the old and the new one.
    pub renamed: Vec<(String, String)>,
    /// Functions that came along.
    pub functions: Vec<String>,
}

fn name(graph: &Graph, value: ValueId) -> String {
    graph
        .value(value)
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

fn input_names(graph: &Graph) -> Vec<String> {
    graph
        .inputs()
        .iter()
        .map(|id| name(graph, ValueId::new(*id, 0)))
        .collect()
}

fn has_default(graph: &Graph, at: usize) -> bool {
    let id = graph.inputs().get(at);
    id.is_some_and(|id| {
        matches!(graph.get(*id).map(|node| &node.kind), Some(NodeKind::Input(input)) if input.default.is_some())
    })
}

fn type_of_input(graph: &Graph, at: usize) -> ValueType {
    match graph.inputs().get(at) {
        Some(id) => public_type(graph.ty(ValueId::new(*id, 0))),
        None => ValueType::Unknown,
    }
}

/// Which values of `first` the inputs of `second` read. `given` are pairs of a value and an input by name.
///
/// Without pairs, inputs read the outputs of their names if every input without a default has one; else what is the only output is read by
/// what is the only input; else, with as many of both, each input reads the output of its place if the types allow that and no
/// other order.
///
/// # Errors
/// Names that are not there, types that contradict each other, and models for which none of this says what belongs together.
pub fn links(first: &Graph, second: &Graph, given: &[(String, String)]) -> Result<Links, ChainError> {
    let inputs = input_names(second);
    let mut links = Links::new();
    if given.is_empty() {
        links = guessed(first, second, &inputs)?;
    }
    for (value, input) in given {
        let at = inputs.iter().position(|name| name == input);
        let at = at.ok_or_else(|| ChainError::NoInput {
            input: input.clone(),
            inputs: inputs.join(", "),
        })?;
        let found = region::find(first, std::slice::from_ref(value))?;
        for id in found {
            if let Some(known) = links.insert(at, id) {
                return Err(ChainError::Twice {
                    input: input.clone(),
                    first: name(first, known),
                    second: value.clone(),
                });
            }
        }
    }
    for (at, value) in &links {
        let (expected, found) = (type_of_input(second, *at), public_type(first.ty(*value)));
        if expected.contradicts(&found) {
            return Err(ChainError::Type {
                value: name(first, *value),
                found: found.to_string(),
                input: inputs.get(*at).cloned().unwrap_or_default(),
                expected: expected.to_string(),
            });
        }
    }
    Ok(links)
}

fn guessed(first: &Graph, second: &Graph, inputs: &[String]) -> Result<Links, ChainError> {
    let outputs: Vec<(String, ValueId)> = first
        .outputs()
        .iter()
        .zip(first.output_values())
        .filter_map(|(output, value)| Some((output.name.to_string(), value?)))
        .collect();
    let open: Vec<usize> = (0..inputs.len()).filter(|at| !has_default(second, *at)).collect();
    let named = |at: &usize| -> Option<(usize, ValueId)> {
        let wanted = inputs.get(*at)?;
        let (_, value) = outputs.iter().find(|(name, _)| name == wanted)?;
        Some((*at, *value))
    };
    let by_name: Links = open.iter().filter_map(named).collect();
    if by_name.len() == open.len() && !open.is_empty() {
        return Ok(by_name);
    }
    if let ([at], [(_, value)]) = (open.as_slice(), outputs.as_slice()) {
        return Ok(Links::from([(*at, *value)]));
    }
    let fits =
        |at: usize, value: ValueId| !type_of_input(second, at).contradicts(&public_type(first.ty(value)));
    let by_place: Links = open
        .iter()
        .zip(&outputs)
        .map(|(at, (_, value))| (*at, *value))
        .collect();
    let only = open.iter().enumerate().all(|(place, at)| {
        outputs
            .iter()
            .enumerate()
            .all(|(other, (_, value))| fits(*at, *value) == (other == place))
    });
    if by_name.is_empty() && open.len() == outputs.len() && only && !open.is_empty() {
        return Ok(by_place);
    }
    let outputs: Vec<String> = outputs
        .iter()
        .map(|(name, value)| format!("{name}: {}", public_type(first.ty(*value))))
        .collect();
    let inputs: Vec<String> = open
        .iter()
        .map(|at| {
            let name = inputs.get(*at).map_or("", String::as_str);
            format!("{name}: {}", type_of_input(second, *at))
        })
        .collect();
    Err(ChainError::Unclear {
        outputs: outputs.join(", "),
        inputs: inputs.join(", "),
    })
}

/// What symbols of the second model are in the first, and sizes that symbols of the first have to have.
#[derive(Debug, Default)]
struct Unified {
    symbols: BTreeMap<Name, (Dim, String)>,
    sizes: BTreeMap<String, u64>,
}

fn unify(first: &Graph, second: &Graph, links: &Links) -> Result<Unified, ChainError> {
    let mut unified = Unified::default();
    let inputs = input_names(second);
    for (at, value) in links {
        let expected = type_of_input(second, *at);
        let (Some(wanted), Some(given)) = (expected.shape(), first.ty(*value).shape()) else {
            continue;
        };
        let input = inputs.get(*at).cloned().unwrap_or_default();
        for (wanted, given) in wanted.iter().zip(given) {
            if let Some(size) = wanted.fixed() {
                unified.fix(given, size);
            } else if let Some(symbol) = wanted.as_symbol() {
                unified.name(symbol, given, &input)?;
            }
        }
    }
    Ok(unified)
}

impl Unified {
    /// A symbol of the first model has to be of this size.
    fn fix(&mut self, dim: &Dim, size: i64) {
        if let (Some(symbol), Ok(size)) = (dim.as_symbol(), u64::try_from(size)) {
            let name = symbol.trim_start_matches('?').to_owned();
            self.sizes.insert(name, size);
        }
    }

    /// A symbol of the second model is this dimension of the first.
    fn name(&mut self, symbol: &Name, dim: &Dim, input: &str) -> Result<(), ChainError> {
        let Some((known, one)) = self.symbols.get(symbol).cloned() else {
            if dim.is_known() {
                self.symbols
                    .insert(symbol.clone(), (dim.clone(), input.to_owned()));
            }
            return Ok(());
        };
        if known.differs(dim) {
            return Err(ChainError::Symbol {
                symbol: symbol.to_string(),
                first: known.to_string(),
                one,
                second: dim.to_string(),
                other: input.to_owned(),
            });
        }
        match (known.fixed(), dim.fixed()) {
            (None, Some(size)) => {
                self.fix(&known, size);
                self.symbols
                    .insert(symbol.clone(), (dim.clone(), input.to_owned()));
            }
            (Some(size), None) => self.fix(dim, size),
            _ => {}
        }
        Ok(())
    }
}

/// Sizes that symbols of the first model need for the second one, in the form that `bind` takes.
///
/// # Errors
/// A symbol of the second model that stands for different sizes.
pub fn sizes(first: &Graph, second: &Graph, links: &Links) -> Result<BTreeMap<String, u64>, ChainError> {
    Ok(unify(first, second, links)?.sizes)
}

/// Puts `second` behind `first`, which speak one opset and whose types are inferred.
///
/// The result has the inputs of the first model and those of the second that `links` has nothing for, the outputs of the second, and those of
/// the first for which `kept` holds. Names of interfaces stay; an inner value in their way is renamed, and so is a value of
/// the second model whose name the first one has (`PREFIX/NAME`).
///
/// # Errors
/// What [`splice`] refuses. `first` is as it was then.
pub fn chain(
    first: &mut Model,
    second: &Model,
    links: &Links,
    kept: &dyn Fn(&str) -> bool,
    prefix: &str,
) -> Result<Chained, ChainError> {
    let mut result = first.clone();
    let mut done = Chained::default();
    let unified = unify(&first.graph, &second.graph, links)?;
    let own = symbols_of_inputs(&first.graph);
    let translate = |ty: &ValueType| {
        substituted(ty, &|symbol| {
            if let Some((dim, _)) = unified.symbols.get(symbol) {
                return Some(dim.clone());
            }
            own.contains(symbol)
                .then(|| Dim::symbol(Name::from(format!("{prefix}_{symbol}"))))
        })
    };
    let mut bound: Vec<Option<ValueId>> = Vec::new();
    for (at, input) in input_names(&second.graph).into_iter().enumerate() {
        if let Some(value) = links.get(&at) {
            bound.push(Some(*value));
            continue;
        }
        let wanted = match result.graph.find_value(&input) {
            None => Name::from(input.as_str()),
            Some(_) => free(&result.graph, &format!("{prefix}/{input}")),
        };
        if *wanted != *input {
            done.renamed.push((input, wanted.to_string()));
        }
        done.inputs.push(wanted.to_string());
        let ty = translate(&type_of_input(&second.graph, at));
        let default = default_of(&second.graph, at);
        let mut editor = result.graph.edit("chain");
        bound.push(Some(
            editor.add_graph_input(crate::ir::Value::typed(wanted, ty), default),
        ));
    }
    let spliced = splice(&mut result, second, &bound, prefix)?;
    done.operators = spliced.operators.len();
    done.functions = spliced.functions;
    // Names of the second model's outputs are given back below.
    let ends: BTreeSet<&str> = second
        .graph
        .outputs()
        .iter()
        .map(|output| &*output.name)
        .collect();
    done.renamed.extend(
        spliced
            .renamed
            .into_iter()
            .filter(|(old, _)| !ends.contains(old.as_str())),
    );
    let mut outputs: Vec<String> = Vec::new();
    for (output, value) in second.graph.outputs().iter().zip(spliced.outputs) {
        outputs.push(expose(&mut result, value, &output.name, prefix)?);
    }
    let count = outputs.len();
    for output in first.graph.outputs() {
        match kept(&output.name) {
            true => outputs.push(output.name.to_string()),
            false => done.dropped.push(output.name.to_string()),
        }
    }
    analysis::infer(&mut result);
    let mut cut = region::extract(&result, &[], &outputs)?;
    give_names(&mut cut.graph, second, count, &mut done)?;
    let left: BTreeSet<String> = input_names(&cut.graph).into_iter().collect();
    done.idle = input_names(&result.graph)
        .into_iter()
        .filter(|name| !left.contains(name))
        .collect();
    done.inputs.retain(|name| left.contains(name));
    analysis::infer(&mut cut);
    declare(&mut cut.graph, second, count, &translate);
    *first = cut;
    Ok(done)
}

fn default_of(graph: &Graph, at: usize) -> Option<crate::ir::Tensor> {
    match graph
        .inputs()
        .get(at)
        .and_then(|id| graph.get(*id))
        .map(|node| &node.kind)
    {
        Some(NodeKind::Input(input)) => input.default.as_ref().map(|(tensor, _)| tensor.clone()),
        _ => None,
    }
}

/// Gives the first `count` outputs the names that they have in the second model, where no input or other output has them.
fn give_names(graph: &mut Graph, second: &Model, count: usize, done: &mut Chained) -> Result<(), ChainError> {
    for (at, wanted) in second.graph.outputs().iter().enumerate().take(count) {
        let now = graph.outputs().get(at).map(|output| output.name.to_string());
        let Some(now) = now.filter(|now| **now != *wanted.name) else {
            continue;
        };
        let holder = graph.find_value(&wanted.name);
        let interface = holder.is_some_and(|holder| {
            graph.is_graph_output(holder)
                || matches!(
                    graph.get(holder.node).map(|node| &node.kind),
                    Some(NodeKind::Input(_))
                )
        });
        if interface {
            done.renamed.push((wanted.name.to_string(), now));
            continue;
        }
        if let Some(holder) = holder {
            let other = free(graph, &format!("first/{}", wanted.name));
            done.renamed.push((wanted.name.to_string(), other.to_string()));
            graph.edit("chain").rename(holder, other)?;
        }
        graph.edit("chain").rename_graph_output(at, wanted.name.clone())?;
    }
    Ok(())
}

/// What the second model declares of its outputs, where inference leaves something open.
fn declare(graph: &mut Graph, second: &Model, count: usize, translate: &dyn Fn(&ValueType) -> ValueType) {
    for (at, output) in second.graph.outputs().iter().enumerate().take(count) {
        let values = graph.output_values();
        let Some(value) = values.get(at).copied().flatten() else {
            continue;
        };
        let (found, said) = (public_type(graph.ty(value)), translate(&output.ty));
        let ty = match found.contradicts(&said) {
            true => found,
            false => found.refined_by(&said),
        };
        graph.edit("chain").set_output_type(at, ty);
    }
}

/// Symbols that inputs declare.
fn symbols_of_inputs(graph: &Graph) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    for id in graph.inputs() {
        for dim in graph.ty(ValueId::new(*id, 0)).shape().into_iter().flatten() {
            dim.for_each_symbol(&mut |symbol| {
                found.insert(symbol.clone());
            });
        }
    }
    found
}

fn substituted(ty: &ValueType, symbol: &dyn Fn(&Name) -> Option<Dim>) -> ValueType {
    let of_tensor = |tensor: &TensorType| TensorType {
        dtype: tensor.dtype,
        shape: tensor.shape.as_ref().map(|shape| {
            shape
                .iter()
                .map(|dim| dim.substitute(&|name| symbol(&Name::from(name))))
                .collect()
        }),
    };
    match ty {
        ValueType::Tensor(tensor) => ValueType::Tensor(of_tensor(tensor)),
        ValueType::Sparse(tensor) => ValueType::Sparse(of_tensor(tensor)),
        ValueType::Sequence(element) => ValueType::Sequence(Box::new(substituted(element, symbol))),
        ValueType::Optional(element) => ValueType::Optional(Box::new(substituted(element, symbol))),
        ValueType::Map(key, value) => ValueType::Map(*key, Box::new(substituted(value, symbol))),
        other => other.clone(),
    }
}
