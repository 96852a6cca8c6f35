//! What a match will be replaced by: new operators and constants, computed before the graph is touched.

use crate::ir::{Attribute, AttributeValue, DType, Graph, Imports, Operator, Tensor, ValueId, opset_version};
use crate::ops;

use super::canonical::{self, Placed, number_tensor, place};
use super::draft::Draft;
use super::eval::Evaluate;
use super::evaluator::Evaluator;
use super::helper::Scope;
use super::matcher::Match;
use super::rule::Instance;
use super::syntax::{Expr, OperatorCall, Statement};
use super::value::{Reason, RestItem, Val};

/// A new operator. Its inputs are values of the graph, constants, results of other new operators, or left out.
#[derive(Clone, Debug)]
pub(crate) struct PlannedNode {
    pub(crate) operator: Operator,
    pub(crate) inputs: Vec<Val>,
    pub(crate) outputs: usize,
}

/// A replacement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<PlannedNode>,
    /// Values of the graph and what stands for them.
    pub(crate) results: Vec<(ValueId, Val)>,
}

/// What a call of an operator becomes.
struct Made {
    attributes: Vec<Attribute>,
    inputs: Vec<Val>,
}

/// How constant parts are folded.
#[derive(Clone, Copy)]
pub(crate) struct Folding<'a> {
    /// Computes single operators; `None` keeps every operator (to build a pattern).
    pub(crate) evaluator: Option<&'a dyn Evaluator>,
    /// Bytes that a folded constant may have if its inputs have fewer.
    pub(crate) bytes: u64,
    /// Stands in for large constants, where the plan is only to be judged by its shapes.
    pub(crate) draft: Option<&'a Draft>,
}

/// Makes new operators from statements.
pub(crate) struct Planner<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) imports: &'a Imports,
    pub(crate) names: &'a [String],
    pub(crate) bindings: Vec<Option<Val>>,
    pub(crate) locals: Vec<(String, Val)>,
    pub(crate) folding: Folding<'a>,
    /// The element type of literals beside operands whose own is not known yet.
    pub(crate) literal: Option<DType>,
    pub(crate) nodes: Vec<PlannedNode>,
}

/// Plans the replacement of a match. An error says why the rewrite has no effect.
pub(crate) fn plan(
    graph: &Graph,
    imports: &Imports,
    instance: &Instance,
    found: &Match,
    folding: Folding<'_>,
) -> Result<Plan, Reason> {
    let mut planner = Planner {
        graph,
        imports,
        names: &instance.names,
        bindings: found.bindings.clone(),
        locals: Vec::new(),
        folding,
        literal: None,
        nodes: Vec::new(),
    };
    for statement in &instance.replace {
        planner.statement(statement)?;
    }
    let mut results = Vec::new();
    for name in &instance.results {
        let old = instance
            .names
            .iter()
            .position(|known| known == name)
            .and_then(|at| found.bindings.get(at));
        let new = planner
            .locals
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone());
        match (old, new) {
            (Some(Some(Val::Value(old))), Some(new)) => results.push((*old, new)),
            _ => return Err(Reason::Owned(format!("{name} is not a value of the graph"))),
        }
    }
    Ok(Plan {
        nodes: planner.nodes,
        results,
    })
}

impl Planner<'_> {
    /// Defines the results of a statement.
    pub(crate) fn statement(&mut self, statement: &Statement) -> Result<(), Reason> {
        let value = match &statement.value.expr {
            Expr::Operator(call) => self.call(call, statement.outputs.len())?,
            _ => self.eval(&statement.value)?,
        };
        for (index, (name, _)) in statement.outputs.iter().enumerate() {
            let value = match &value {
                Val::New(node, _) => Val::New(*node, index),
                other => other.clone(),
            };
            self.locals.push((name.clone(), value));
        }
        Ok(())
    }

    /// The element type of a value; for a new operator what its schema says.
    fn dtype(&self, value: &Val) -> Option<DType> {
        let Val::New(node, output) = value else {
            return self.scope().ty(value).dtype();
        };
        let planned = self.nodes.get(*node)?;
        let operator = &planned.operator;
        if operator.is("Cast") {
            return DType::from_onnx(i32::try_from(operator.int("to")?).ok()?);
        }
        let schema = ops::schema(
            operator.domain(),
            &operator.op_type,
            opset_version(self.imports, operator.domain())?,
        )?;
        let ty = schema.output(*output)?.ty;
        if let Some(name) = ty.strip_prefix("tensor(").and_then(|rest| rest.strip_suffix(')')) {
            return DType::from_name(name);
        }
        // Parameters of one type variable have one element type.
        let same = |slot: usize| schema.input(slot).is_some_and(|parameter| parameter.ty == ty);
        planned
            .inputs
            .iter()
            .enumerate()
            .filter(|(slot, _)| same(*slot))
            .find_map(|(_, input)| self.dtype(input))
    }

    fn call(&mut self, call: &OperatorCall, outputs: usize) -> Result<Val, Reason> {
        let version = opset_version(self.imports, &call.domain)
            .ok_or_else(|| Reason::Owned(format!("the domain of {} is not imported", call.op_type)))?;
        let schema = ops::schema(&call.domain, &call.op_type, version);
        if schema.is_none_or(|schema| schema.deprecated) && matches!(call.domain.as_str(), "" | "ai.onnx.ml")
        {
            return Err(Reason::Owned(format!("opset {version} has no {}", call.op_type)));
        }
        let mut inputs = Vec::new();
        for operand in &call.operands {
            match self.eval(operand)? {
                Val::Values(values) => {
                    inputs.extend(values.into_iter().map(|v| v.map_or(Val::Absent, Val::Value)))
                }
                value => inputs.push(value),
            }
        }
        self.give_numbers_a_type(&mut inputs)?;
        let dtype = inputs
            .first()
            .and_then(|first| self.dtype(first))
            .or(self.literal);
        let mut made = Made {
            attributes: Vec::new(),
            inputs,
        };
        let mut given: Vec<&str> = Vec::new();
        for (name, value) in &call.attributes {
            let value = self.eval(value)?;
            given.push(name);
            self.set(call, version, (name, &value), dtype, &mut made)?;
        }
        if let Some((rest, _)) = &call.rest {
            let Some(Val::Rest(items)) = self.lookup(&format!("*{rest}")) else {
                return Err(Reason::Owned(format!("*{rest} is not bound")));
            };
            for item in items.iter().filter(|item| !given.contains(&item.name().as_str())) {
                match item {
                    RestItem::Parameter(name, value) => {
                        self.set(call, version, (name, value), dtype, &mut made)?;
                    }
                    RestItem::Input(name, value) => {
                        match canonical::find(&call.domain, &call.op_type, name) {
                            Some(row) if version >= row.since => {
                                fill(&mut made.inputs, row.slot, Val::Value(*value))
                            }
                            _ => {
                                return Err(Reason::Owned(format!(
                                    "{} does not take {name} as an input",
                                    call.op_type
                                )));
                            }
                        }
                    }
                    RestItem::Attribute(attribute) => {
                        if schema.is_some_and(|schema| schema.attribute(&attribute.name).is_none()) {
                            return Err(Reason::Owned(format!(
                                "{} has no attribute {}",
                                call.op_type, attribute.name
                            )));
                        }
                        made.attributes.push(attribute.clone());
                    }
                }
            }
        }
        let Made {
            attributes,
            mut inputs,
        } = made;
        while inputs.last().is_some_and(Val::is_absent) {
            inputs.pop();
        }
        let operator = Operator::new(call.op_type.as_str())
            .in_domain(call.domain.as_str())
            .with_attributes(attributes);
        if let Some(evaluator) = self.folding.evaluator
            && let Some(constants) = self.all_constant(&inputs)
        {
            return self.fold(evaluator, &operator, version, &constants, outputs);
        }
        self.nodes.push(PlannedNode {
            operator,
            inputs,
            outputs,
        });
        Ok(Val::New(self.nodes.len() - 1, 0))
    }

    /// A literal takes the element type of the first operand that has one.
    fn give_numbers_a_type(&self, inputs: &mut [Val]) -> Result<(), Reason> {
        let dtype = inputs.iter().find_map(|value| self.dtype(value)).or(self.literal);
        for value in inputs {
            match value {
                Val::Int(_) | Val::Float(_) | Val::Bool(_) => {
                    let dtype = match (&value, dtype) {
                        (Val::Bool(_), _) => DType::Bool,
                        (_, Some(dtype)) => dtype,
                        _ => return Err(Reason::Borrowed("the element type of a literal is unknown")),
                    };
                    let tensor = number_tensor(value, dtype)
                        .ok_or_else(|| Reason::Owned(format!("{dtype} does not hold a literal")))?;
                    *value = Val::Tensor(tensor);
                }
                Val::Ints(list) => *value = Val::Tensor(Tensor::vector_i64(list)),
                Val::Absent | Val::Value(_) | Val::Tensor(_) | Val::New(..) => {}
                other => return Err(Reason::Owned(format!("{} cannot be an operand", other.kind()))),
            }
        }
        Ok(())
    }

    fn set(
        &self,
        call: &OperatorCall,
        version: i64,
        (name, value): (&str, &Val),
        dtype: Option<DType>,
        made: &mut Made,
    ) -> Result<(), Reason> {
        if value.is_absent() {
            return Ok(());
        }
        if let Some(row) = canonical::find(&call.domain, &call.op_type, name) {
            match place(row, version, value, dtype) {
                Some(Placed::Attribute(attribute)) => made.attributes.push(attribute),
                Some(Placed::Input(slot, tensor)) => fill(&mut made.inputs, slot, Val::Tensor(tensor)),
                Some(Placed::Nothing) => {}
                None => {
                    return Err(Reason::Owned(format!(
                        "opset {version} cannot say {name} of {}",
                        call.op_type
                    )));
                }
            }
            return Ok(());
        }
        let schema = ops::schema(&call.domain, &call.op_type, version);
        let kind = match schema.and_then(|schema| schema.attribute(name)) {
            Some(formal) => formal.kind,
            None if schema.is_none() && !call.domain.is_empty() => kind_of(value),
            None => {
                return Err(Reason::Owned(format!(
                    "opset {version} has no attribute {name} of {}",
                    call.op_type
                )));
            }
        };
        let wrong = || Reason::Owned(format!("{name} of {} is no {kind}", call.op_type));
        let value = match kind {
            "int" => AttributeValue::Int(value.int().ok_or_else(wrong)?),
            "float" => AttributeValue::Float(value.number().ok_or_else(wrong)? as f32),
            "ints" => AttributeValue::Ints(value.ints().ok_or_else(wrong)?.to_vec()),
            "floats" => match value {
                Val::Floats(list) => AttributeValue::Floats(list.iter().map(|v| *v as f32).collect()),
                Val::Ints(list) => AttributeValue::Floats(list.iter().map(|v| *v as f32).collect()),
                _ => return Err(wrong()),
            },
            "string" => match value {
                Val::Text(text) => AttributeValue::from(text.as_str()),
                _ => return Err(wrong()),
            },
            _ => match value {
                Val::Other(value) => value.clone(),
                Val::Tensor(tensor) => AttributeValue::Tensor(tensor.clone()),
                _ => return Err(wrong()),
            },
        };
        made.attributes.push(Attribute::new(name, value));
        Ok(())
    }

    fn all_constant(&self, inputs: &[Val]) -> Option<Vec<Option<Tensor>>> {
        if inputs.iter().all(Val::is_absent) {
            return None;
        }
        inputs
            .iter()
            .map(|value| {
                if value.is_absent() {
                    Some(None)
                } else {
                    self.scope().tensor(value).map(Some)
                }
            })
            .collect()
    }

    fn fold(
        &self,
        evaluator: &dyn Evaluator,
        operator: &Operator,
        version: i64,
        inputs: &[Option<Tensor>],
        outputs: usize,
    ) -> Result<Val, Reason> {
        if outputs != 1 || ops::Traits::of(operator.domain(), &operator.op_type).random {
            return Err(Reason::Owned(format!(
                "{} of constants is not folded",
                operator.op_type
            )));
        }
        if let Some(zeros) = self
            .folding
            .draft
            .and_then(|draft| draft.stand_in(operator, inputs))
        {
            return Ok(Val::Tensor(zeros));
        }
        let found = evaluator
            .evaluate(operator, version, inputs, 1)
            .map_err(|error| Reason::Owned(error.to_string()))?;
        let [tensor] = found.as_slice() else {
            return Err(Reason::Owned(format!(
                "{} gave {} results",
                operator.op_type,
                found.len()
            )));
        };
        let read: u64 = inputs.iter().flatten().map(Tensor::byte_len).sum();
        if tensor.byte_len() > read.max(self.folding.bytes) {
            return Err(Reason::Owned(format!(
                "{} would make a constant of {} bytes",
                operator.op_type,
                tensor.byte_len()
            )));
        }
        if ARITHMETIC.contains(&&*operator.op_type) && !tensor.is_finite() {
            return Err(Reason::Owned(format!(
                "{} of constants is infinite or undefined",
                operator.op_type
            )));
        }
        Ok(Val::Tensor(tensor.clone()))
    }
}

/// The kind of an attribute of an operator that no table has: that of its value.
fn kind_of(value: &Val) -> &'static str {
    match value {
        Val::Bool(_) | Val::Int(_) => "int",
        Val::Float(_) => "float",
        Val::Ints(_) => "ints",
        Val::Floats(_) => "floats",
        Val::Text(_) => "string",
        _ => "tensor",
    }
}

/// Operators of constants that compute: a constant that overflows on the way changes what the model computes.
const ARITHMETIC: &[&str] = &["Add", "Div", "MatMul", "Mul", "ReduceSum", "Sqrt", "Sub"];

impl Evaluate for Planner<'_> {
    fn scope(&self) -> Scope<'_> {
        Scope { graph: self.graph }
    }

    fn lookup(&self, key: &str) -> Option<Val> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(known, _)| known == key) {
            return Some(value.clone());
        }
        let at = self.names.iter().position(|name| name == key)?;
        self.bindings.get(at)?.clone()
    }

    fn operator(&mut self, call: &OperatorCall) -> Result<Val, Reason> {
        self.call(call, 1)
    }
}

fn fill(inputs: &mut Vec<Val>, slot: usize, value: Val) {
    while inputs.len() <= slot {
        inputs.push(Val::Absent);
    }
    if let Some(place) = inputs.get_mut(slot) {
        *place = value;
    }
}
