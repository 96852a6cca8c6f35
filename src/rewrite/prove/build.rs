//! Builds the model of an example: the pattern itself, over inputs and constants as the example describes them.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use serde_json::Value as Json;

use crate::engine::{RunValue, RunValues};
use crate::format::text::parse_model;
use crate::format::{ExternalFiles, lift};
use crate::ir::{
    DType, EditError, GraphBuilder, Imports, Input, Model, NodeId, NodeKind, Operator, OpsetImport, Value,
    ValueId, ValueType,
};
use crate::proto;

use super::super::compile::constants_of;
use super::super::domains;
use super::super::plan::{Folding, Planner};
use super::super::rule::{Example, Instance, Rule};
use super::super::syntax::Expr;
use super::super::value::{Reason, RestItem, Val};
use super::ProofVerdict;
use super::random::Scale;
use super::spec::{Kind, Range, Spec, SpecError};

/// Fields of an example that describe no value.
const RESERVED: [&str; 7] = [
    "opset",
    "refuse",
    "because",
    "for",
    "alternative",
    "outputs",
    "graph",
];

/// Parameters whose elements are sizes of dimensions.
const SIZES: [&str; 3] = ["shape", "split", "repeats"];

/// Which sizes the values of an example have.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    /// Those that it says.
    Written,
    /// Those of inputs are left open.
    Freed,
    /// Others.
    Scaled(&'a Scale),
}

/// The model of an example.
pub(super) struct Built {
    pub(super) model: Model,
    /// Sizes of symbols.
    pub(super) sizes: BTreeMap<String, i64>,
    inputs: Vec<(String, Spec)>,
    nodes: Vec<NodeId>,
}

impl Built {
    /// Values for the graph inputs, at these sizes of symbols.
    pub(super) fn inputs(
        &self,
        random: &mut ChaCha8Rng,
        sizes: &BTreeMap<String, i64>,
        kind: Kind,
    ) -> Result<RunValues, ProofVerdict> {
        let mut values = RunValues::new();
        for (name, spec) in &self.inputs {
            let tensor = spec
                .tensor(random, sizes, kind)
                .map_err(|error| ProofVerdict::Failed(error.to_string()))?;
            values.insert(name.clone(), RunValue::Tensor(tensor));
        }
        Ok(values)
    }

    /// Nodes at which the rule may have its root, the pattern's own root first.
    pub(super) fn roots(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().rev().copied()
    }
}

/// Whether the example is about this alternative and these operators.
pub(super) fn concerns(example: &Example, instance: &Instance) -> bool {
    if let Some(number) = example.fields.get("alternative").and_then(Json::as_u64)
        && number != instance.alternative as u64 + 1
    {
        return false;
    }
    let Some(chosen) = example.fields.get("for").and_then(Json::as_object) else {
        return true;
    };
    instance.operators.iter().all(|(variable, operator)| {
        chosen.get(variable).is_none_or(|wanted| match wanted {
            Json::Array(list) => list.iter().any(|one| one.as_str() == Some(operator)),
            one => one.as_str() == Some(operator),
        })
    })
}

/// The model that an example gives as a whole, in ONNX text; of its sizes only those of symbols can be others.
pub(super) fn from_text(
    example: &Example,
    text: &str,
    form: Form<'_>,
    random: &mut ChaCha8Rng,
) -> Result<Built, ProofVerdict> {
    let failed = |reason: String| ProofVerdict::Failed(format!("{}: {reason}", example.place));
    let message = parse_model(text).map_err(|error| failed(error.to_string()))?;
    let model = lift(message, &ExternalFiles::default()).map_err(|error| failed(error.to_string()))?;
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    let mut inputs = Vec::new();
    for id in model.graph.inputs() {
        let Some(value) = model.graph.value(ValueId::new(*id, 0)) else {
            continue;
        };
        let Some((dtype, dims)) = value.ty.dtype().zip(value.ty.shape().cloned()) else {
            return Err(failed(format!("input {} has no type", value.name)));
        };
        let spec = Spec {
            constant: Some(false),
            dtype,
            dims,
            range: Range::Free,
        };
        if matches!(form, Form::Scaled(_)) {
            spec.draw_sizes(&mut sizes, random);
        }
        spec.name_sizes(&mut sizes);
        inputs.push((value.name.to_string(), spec));
    }
    let nodes = model
        .graph
        .node_ids()
        .filter(|id| model.graph.operator(*id).is_some())
        .collect();
    Ok(Built {
        model,
        sizes,
        inputs,
        nodes,
    })
}

/// Builds the model of an example in one opset.
pub(super) fn build(
    rule: &Rule,
    instance: &Instance,
    example: &Example,
    opset: i64,
    form: Form<'_>,
    random: &mut ChaCha8Rng,
) -> Result<Built, ProofVerdict> {
    let failed = |reason: String| ProofVerdict::Failed(format!("{}: {reason}", example.place));
    if let Some(field) = example.fields.keys().find(|field| !knows(rule, instance, field)) {
        return Err(failed(format!("the pattern has no {field}")));
    }
    let mut described = Described {
        constants: constants_of(&instance.clauses).into_iter().collect(),
        form,
        random,
        builder: GraphBuilder::new(),
        sizes: BTreeMap::new(),
        inputs: Vec::new(),
        literal: None,
    };
    let mut bindings: Vec<Option<Val>> = Vec::with_capacity(instance.names.len());
    let produced: Vec<&str> = instance
        .source
        .iter()
        .flat_map(|s| s.outputs.iter().map(|(name, _)| name.as_str()))
        .collect();
    let splats = splats_of(instance);
    for name in &instance.names {
        let field = example.fields.get(name.trim_start_matches(['@', '*']));
        let value = described.bind(instance, name, field, (&produced, &splats));
        bindings.push(value.map_err(|error| failed(error.to_string()))?);
    }
    let Described {
        builder,
        sizes,
        inputs,
        literal,
        ..
    } = described;
    let mut imports = Imports::from(vec![OpsetImport {
        domain: Some("".into()),
        version: Some(opset),
    }]);
    let used = instance.pattern.nodes.iter().map(|node| node.domain.as_str());
    domains::add(&mut imports, used);
    let graph = builder.finish();
    let mut planner = Planner {
        graph: &graph,
        imports: &imports,
        names: &instance.names,
        bindings,
        locals: Vec::new(),
        folding: Folding {
            evaluator: None,
            bytes: 0,
            draft: None,
        },
        literal,
        nodes: Vec::new(),
    };
    let not_there = |reason: Reason| match reason.starts_with("opset ") {
        true => ProofVerdict::NotInOpset(reason.into_owned()),
        false => failed(reason.into_owned()),
    };
    for statement in &instance.source {
        planner.statement(statement).map_err(not_there)?;
    }
    let (nodes, locals) = (planner.nodes, planner.locals);
    let outputs: Vec<String> = match example.fields.get("outputs") {
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut model = Model {
        header: Box::new(proto::ModelProto {
            ir_version: Some(10),
            ..proto::ModelProto::default()
        }),
        opset_imports: imports,
        metadata: Vec::new(),
        graph,
        functions: Vec::new(),
    };
    let added = add_nodes(&mut model, &nodes, &locals, instance, &outputs)
        .map_err(|error| failed(error.to_string()))?;
    Ok(Built {
        model,
        sizes,
        inputs,
        nodes: added,
    })
}

/// Whether a field of an example is about the rule.
fn knows(rule: &Rule, instance: &Instance, field: &str) -> bool {
    let plain = |name: &String| name.trim_start_matches(['@', '*']) == field;
    RESERVED.contains(&field)
        || ["", "@", "*"]
            .iter()
            .any(|mark| instance.names.contains(&format!("{mark}{field}")))
        || rule.instances.iter().any(|other| other.names.iter().any(plain))
}

/// Why an example gives a name of the pattern nothing.
#[derive(Debug, thiserror::Error)]
enum FieldError {
    #[error("{name} is no parameter")]
    Parameter { name: String },
    #[error("{name} is described by a list of texts")]
    NoList { name: String },
    #[error("the example does not describe {name}")]
    Missing { name: String },
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// The values that an example describes, as they come up.
struct Described<'r> {
    constants: BTreeSet<String>,
    form: Form<'r>,
    random: &'r mut ChaCha8Rng,
    builder: GraphBuilder,
    sizes: BTreeMap<String, i64>,
    inputs: Vec<(String, Spec)>,
    /// The element type of numbers in the pattern: the first one described, of floats if there are any.
    literal: Option<DType>,
}

impl Described<'_> {
    /// What the example gives a name of the pattern; nothing for what the pattern itself produces.
    fn bind(
        &mut self,
        instance: &Instance,
        name: &str,
        field: Option<&Json>,
        (produced, splats): (&[&str], &[String]),
    ) -> Result<Option<Val>, FieldError> {
        let form = self.form;
        let parameter = |name: String, json: &Json| {
            scaled_parameter(form, &name, json).ok_or(FieldError::Parameter { name })
        };
        if name.starts_with('@') {
            return Ok(Some(match field {
                Some(json) => parameter(name.to_owned(), json)?,
                None => Val::Absent,
            }));
        }
        if let Some(plain) = name.strip_prefix('*') {
            if !splats.iter().any(|splat| splat == plain) {
                let rest = field.and_then(Json::as_object).into_iter().flatten();
                let items = rest.map(|(key, json)| {
                    Ok(RestItem::Parameter(
                        key.as_str().into(),
                        parameter(key.clone(), json)?,
                    ))
                });
                return Ok(Some(Val::Rest(items.collect::<Result<_, FieldError>>()?)));
            }
            let Some(Json::Array(items)) = field else {
                return Err(FieldError::NoList {
                    name: plain.to_owned(),
                });
            };
            let mut values = Vec::new();
            for (index, item) in items.iter().enumerate() {
                values.push(Some(self.add(&format!("{plain}#{index}"), item)?));
            }
            return Ok(Some(Val::Values(values)));
        }
        match field {
            _ if produced.contains(&name) => Ok(None),
            Some(json) => Ok(Some(Val::Value(self.add(name, json)?))),
            None if optional(instance, name) => Ok(Some(Val::Absent)),
            None => Err(FieldError::Missing {
                name: name.to_owned(),
            }),
        }
    }

    /// An input or a constant of this name.
    fn add(&mut self, name: &str, text: &Json) -> Result<ValueId, SpecError> {
        let text = text.as_str().ok_or_else(|| SpecError::NoText {
            name: name.to_owned(),
        })?;
        let mut spec = Spec::parse(text)?;
        if self.literal.is_none_or(|known| !known.is_float())
            && (self.literal.is_none() || spec.dtype.is_float())
        {
            self.literal = Some(spec.dtype);
        }
        let base = name.split('#').next().unwrap_or(name);
        let constant = spec
            .constant
            .unwrap_or(self.constants.contains(base) || spec.is_given());
        match self.form {
            Form::Freed if !constant && !spec.is_given() => spec = spec.freed(),
            Form::Scaled(scale) => {
                spec = spec.scaled(scale);
                spec.draw_sizes(&mut self.sizes, self.random);
            }
            _ => {}
        }
        spec.name_sizes(&mut self.sizes);
        if constant {
            let tensor = spec.tensor(self.random, &self.sizes, Kind::Moderate)?;
            return Ok(self.builder.initializer(name, tensor));
        }
        let id = self
            .builder
            .input(Value::typed(name, spec.ty()), Input::default());
        self.inputs.push((name.to_owned(), spec));
        Ok(id)
    }
}

fn add_nodes(
    model: &mut Model,
    nodes: &[super::super::plan::PlannedNode],
    locals: &[(String, Val)],
    instance: &Instance,
    outputs: &[String],
) -> Result<Vec<NodeId>, EditError> {
    let mut read: Vec<&str> = Vec::new();
    for statement in &instance.source {
        statement.value.walk(&mut |part| {
            if let Expr::Value { name, .. } = &part.expr {
                read.push(name);
            }
        });
    }
    let sink = model.graph.sink();
    let mut edit = model.graph.edit("example");
    let mut added: Vec<NodeId> = Vec::new();
    for planned in nodes {
        let mut inputs = Vec::new();
        for value in &planned.inputs {
            inputs.push(match value {
                Val::Value(id) => Some(*id),
                Val::Tensor(tensor) => Some(edit.add_constant("", tensor.clone())),
                Val::New(node, output) => added.get(*node).map(|id| ValueId::new(*id, *output)),
                _ => None,
            });
        }
        let values = (0..planned.outputs).map(|_| Value::default()).collect();
        added.push(edit.add_operator(sink, planned.operator.clone(), &inputs, values)?);
    }
    for (name, value) in locals {
        let Val::New(node, output) = value else { continue };
        let Some(id) = added.get(*node).map(|id| ValueId::new(*id, *output)) else {
            continue;
        };
        edit.rename(id, name.as_str())?;
        let leaf = !read.contains(&name.as_str());
        if leaf || outputs.contains(name) {
            // Read through an Identity, so that the value itself is no graph output and may be replaced by an input.
            let exposed = edit.add_operator(
                sink,
                Operator::new("Identity"),
                &[Some(id)],
                vec![Value::named(format!("{name}.out"))],
            )?;
            edit.add_graph_output(
                ValueId::new(exposed, 0),
                format!("{name}.out"),
                ValueType::Unknown,
            )?;
        }
    }
    debug_assert!(added.iter().all(|id| matches!(
        edit.graph().get(*id).map(|n| &n.kind),
        Some(NodeKind::Operator(_))
    )));
    Ok(added)
}

/// Names that stand in a list of operands as `*name`.
fn splats_of(instance: &Instance) -> Vec<String> {
    let mut found = Vec::new();
    for statement in &instance.source {
        statement.value.walk(&mut |part| {
            if let Expr::Splat(name) = &part.expr {
                found.push(name.clone());
            }
        });
    }
    found
}

fn optional(instance: &Instance, name: &str) -> bool {
    let mut found = false;
    for statement in &instance.source {
        statement.value.walk(&mut |part| {
            found |= matches!(&part.expr, Expr::Value { name: known, optional: true } if known == name);
        });
    }
    found
}

/// A parameter of an example; sizes among them are those that the form asks for.
fn scaled_parameter(form: Form<'_>, name: &str, json: &Json) -> Option<Val> {
    Some(match (form, parameter_value(json)?) {
        (Form::Scaled(scale), Val::Ints(list)) if SIZES.contains(&name.trim_start_matches('@')) => {
            Val::Ints(list.into_iter().map(|size| scale.of(size)).collect())
        }
        (_, value) => value,
    })
}

fn parameter_value(json: &Json) -> Option<Val> {
    Some(match json {
        Json::Bool(value) => Val::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Val::Int(value),
            None => Val::Float(number.as_f64()?),
        },
        Json::String(text) => Val::Text(text.clone()),
        Json::Array(items) => match items.iter().map(Json::as_i64).collect::<Option<Vec<i64>>>() {
            Some(list) => Val::Ints(list),
            None => Val::Floats(items.iter().map(Json::as_f64).collect::<Option<_>>()?),
        },
        _ => return None,
    })
}
