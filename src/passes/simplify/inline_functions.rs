//! The pass `inline-functions`.

use std::collections::{BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EliminateDeadCode;
use super::splice::{Bindings, Names, Naming, hand_over, obstacle, splice};
use super::sweep::remove_unused;
use crate::analysis::infer;
use crate::ir::{
    AttributeValue, Constant, ConstantOrigin, EditError, Function, FunctionIndex, Graph, Imports, Model,
    Name, NodeId, Operator, OpsetImport, Tensor, Value, ValueId, opset_version,
};
use crate::ops::schema;
use crate::passes::scope::{self, Scope};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};
use crate::proto;

const NAME: &str = "inline-functions";

/// Operators that inlining may add before it refuses: calls of calls multiply.
const MAX_OPERATORS: u64 = 4_000_000;

/// Replaces calls of model-local functions by what the functions compute.
///
/// Calls in functions and in bodies included; references to attributes get the caller's values or the function's defaults.
/// New nodes and values are named `CALL/NAME`, where `CALL` is the name of the calling node. Functions that nothing calls any
/// more are removed.
///
/// A function that imports another version of a domain is inlined only if each of its operators has the same form in both
/// versions; otherwise the call stays, with a note (`convert-opset` brings both to one version). A function that calls itself
/// is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct InlineFunctions {
    /// Names of the functions to inline; all, if empty.
    pub functions: Vec<String>,
}

impl Pass for InlineFunctions {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact).tidying()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        if model.functions.is_empty() {
            return Ok(report);
        }
        let all = model.functions.clone();
        let functions = Functions::of(&all);
        functions.check_size(&model.graph)?;
        let mut inliner = Inliner {
            options: self,
            functions: &functions,
            imports: model.opset_imports.clone(),
            names: Names::of(&model.graph),
            inlined: 0,
            notes: BTreeSet::new(),
        };
        scope::for_each_root(model, NAME, context, |graph, scope| {
            if scope.in_function {
                Ok(())
            } else {
                inliner.graph(graph, scope)
            }
        })?;
        let Inliner {
            imports,
            inlined,
            notes,
            ..
        } = inliner;
        report.add("call of a function", inlined);
        report.notes.extend(notes);
        if inlined > 0 {
            model.opset_imports = imports;
            report.merge(EliminateDeadCode::remove_functions(model, context));
            infer(model);
        }
        Ok(report)
    }
}

/// The functions of a model by what calls name.
struct Functions<'f> {
    all: &'f [Function],
    index: FunctionIndex<'f>,
}

impl<'f> Functions<'f> {
    fn of(all: &'f [Function]) -> Self {
        Self {
            all,
            index: FunctionIndex::of(all),
        }
    }

    /// Refuses recursion, and calls that multiply beyond [`MAX_OPERATORS`].
    fn check_size(&self, main: &Graph) -> Result<(), PassError> {
        let mut sizes: Vec<Size> = vec![Size::Unknown; self.all.len()];
        let total = self.size_of(main, &mut sizes)?;
        if total > MAX_OPERATORS {
            let message = format!("inlining its calls gives more than {MAX_OPERATORS} operators");
            return Err(PassError::Model {
                pass: NAME,
                node: "main graph".to_owned(),
                message,
            });
        }
        Ok(())
    }

    fn size_of(&self, graph: &Graph, sizes: &mut Vec<Size>) -> Result<u64, PassError> {
        let mut total = 0u64;
        for id in graph.node_ids() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            for (_, body) in operator.bodies() {
                total = total.saturating_add(self.size_of(body, sizes)?);
            }
            let Some(callee) = self.index.place_called_by(graph, id) else {
                total = total.saturating_add(1);
                continue;
            };
            let size = match sizes.get(callee) {
                Some(Size::Known(size)) => *size,
                Some(Size::Open) | None => {
                    let message =
                        "is a call in a cycle of calls; a function that calls itself cannot be inlined"
                            .to_owned();
                    return Err(PassError::Model {
                        pass: NAME,
                        node: graph.label(id),
                        message,
                    });
                }
                Some(Size::Unknown) => {
                    self.set(sizes, callee, Size::Open);
                    let size = match self.all.get(callee) {
                        Some(function) => self.size_of(&function.graph, sizes)?,
                        None => 0,
                    };
                    self.set(sizes, callee, Size::Known(size));
                    size
                }
            };
            total = total.saturating_add(size);
        }
        Ok(total)
    }

    fn set(&self, sizes: &mut [Size], index: usize, size: Size) {
        if let Some(slot) = sizes.get_mut(index) {
            *slot = size;
        }
    }
}

/// Operators of a function once its calls are inlined.
#[derive(Clone, Copy)]
enum Size {
    Unknown,
    Open,
    Known(u64),
}

struct Inliner<'a> {
    options: &'a InlineFunctions,
    functions: &'a Functions<'a>,
    imports: Imports,
    names: Names,
    inlined: u64,
    notes: BTreeSet<String>,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut Graph, scope: &Scope<'_>) -> Result<(), PassError> {
        let mut pending = graph.topological_order();
        pending.reverse();
        while let Some(id) = pending.pop() {
            if let Some(callee) = self.functions.index.place_called_by(graph, id) {
                pending.extend(self.call(graph, scope, id, callee)?.into_iter().rev());
                continue;
            }
            let bodies: Vec<_> = graph
                .operator(id)
                .into_iter()
                .flat_map(Operator::bodies)
                .map(|(at, _)| at)
                .collect();
            for at in bodies {
                if let Some(body) = graph.body_mut(id, at) {
                    self.graph(body, scope)?;
                }
            }
        }
        Ok(())
    }

    /// Inlines one call and answers the new nodes.
    fn call(
        &mut self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        id: NodeId,
        callee: usize,
    ) -> Result<Vec<NodeId>, PassError> {
        let (Some(function), Some(operator)) = (self.functions.all.get(callee), graph.operator(id)) else {
            return Ok(Vec::new());
        };
        let name = function.header.name.clone().unwrap_or_default();
        if !self.options.functions.is_empty() && !self.options.functions.contains(&name)
            || scope.protected(graph, id)
        {
            return Ok(Vec::new());
        }
        let inputs: Vec<Option<ValueId>> = graph.inputs_of(id).into_iter().collect();
        let refused = match obstacle(&function.graph, &inputs) {
            Some(reason) => Some(reason),
            None => self.join_imports(&function.graph, &function.opset_imports),
        };
        let prepared = match refused {
            Some(reason) => Err(CallError::Imports(reason)),
            None => attribute_values(function, operator).and_then(|values| {
                let mut body = function.graph.clone();
                substitute(&mut body, &values)?;
                Ok(body)
            }),
        };
        let body = match prepared {
            Ok(body) => body,
            Err(reason) => {
                self.notes.insert(format!("calls of {name} stay: {reason}"));
                return Ok(Vec::new());
            }
        };
        let prefix = graph.label(id);
        let outputs = graph.get(id).map_or(0, |node| node.outputs().len());
        let mut editor = graph.edit(NAME);
        let bindings = Bindings {
            inputs: &inputs,
            captures: &[],
        };
        let spliced = splice(
            &mut editor,
            id,
            &body,
            &bindings,
            Naming::Copy,
            &prefix,
            &mut self.names,
        )
        .map_err(|error| scope.defect(error))?;
        for (output, value) in spliced.outputs.iter().enumerate().take(outputs) {
            let old = ValueId::new(id, output);
            if editor.graph().use_count(old) > 0 {
                hand_over(&mut editor, old, *value).map_err(|error| scope.defect(error))?;
            }
        }
        remove_unused(&mut editor, scope, vec![id]).map_err(|error| scope.defect(error))?;
        self.inlined += 1;
        Ok(spliced.operators)
    }

    /// Why a function's operators do not mean the same under the model's imports. Domains that the model does not import yet
    /// are added.
    fn join_imports(&mut self, graph: &Graph, own: &Imports) -> Option<String> {
        let mut added = Imports::default();
        let reason = self.find_difference(graph, own, &mut added);
        if reason.is_none() {
            self.imports.extend(added);
        }
        reason
    }

    fn find_difference(&self, graph: &Graph, own: &Imports, added: &mut Imports) -> Option<String> {
        for id in graph.node_ids() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            let inner = operator
                .bodies()
                .find_map(|(_, body)| self.find_difference(body, own, added));
            if inner.is_some() {
                return inner;
            }
            if self.functions.index.place_called_by(graph, id).is_some() {
                continue;
            }
            let (domain, op_type) = (operator.domain(), &*operator.op_type);
            let Some(inside) = opset_version(own, domain) else {
                return Some(format!(
                    "it does not import the domain `{domain}` of its operator {op_type}"
                ));
            };
            match opset_version(&self.imports, domain).or_else(|| opset_version(added, domain)) {
                None => added.push(OpsetImport {
                    domain: Some(Name::from(domain)),
                    version: Some(inside),
                }),
                Some(outside) if outside == inside => {}
                Some(outside) => {
                    let since = |version| schema(domain, op_type, version).map(|schema| schema.since);
                    if since(inside).is_none() || since(inside) != since(outside) {
                        return Some(format!(
                            "{op_type} has another form in opset {inside}, which it imports, than in {outside}, which the model imports"
                        ));
                    }
                }
            }
        }
        None
    }
}

/// Why a call stays a call.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("the default of its attribute {name} is of an unusual kind")]
    Default { name: String },
    #[error("{node} refers to an attribute {attribute} that it does not have")]
    Unknown { node: String, attribute: Name },
    #[error("{node} is a constant of the unusual attribute {attribute}")]
    Constant { node: String, attribute: Name },
    #[error("{node} is a constant of attribute {attribute}, which has no value")]
    Valueless { node: String, attribute: Name },
    /// Operators of the body mean something else where the call stands.
    #[error("{0}")]
    Imports(String),
}

/// The function's attributes as this call sets them; `None` for one that is neither given nor has a default.
fn attribute_values(
    function: &Function,
    call: &Operator,
) -> Result<HashMap<Name, Option<AttributeValue>>, CallError> {
    let mut values = HashMap::new();
    for name in &function.header.attribute {
        values.insert(Name::from(name.as_str()), call.attribute(name).cloned());
    }
    for default in &function.header.attribute_proto {
        let name = default.name.clone().unwrap_or_default();
        let value = match call.attribute(&name) {
            Some(value) => value.clone(),
            None => default_value(default).ok_or_else(|| CallError::Default { name: name.clone() })?,
        };
        values.insert(Name::from(name), Some(value));
    }
    Ok(values)
}

fn default_value(default: &proto::AttributeProto) -> Option<AttributeValue> {
    Some(match default.r#type? {
        1 => AttributeValue::Float(default.f.unwrap_or(0.0)),
        2 => AttributeValue::Int(default.i.unwrap_or(0)),
        3 => AttributeValue::String(default.s.clone().unwrap_or_default()),
        6 => AttributeValue::Floats(default.floats.clone()),
        7 => AttributeValue::Ints(default.ints.clone()),
        8 => AttributeValue::Strings(default.strings.clone()),
        _ => return None,
    })
}

/// Puts values in the place of references to the function's attributes, in bodies too.
fn substitute(graph: &mut Graph, values: &HashMap<Name, Option<AttributeValue>>) -> Result<(), CallError> {
    for id in graph.node_ids().collect::<Vec<_>>() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let label = graph.label(id);
        let references: Vec<(Name, Name)> = operator
            .attributes()
            .iter()
            .filter_map(|attribute| match &attribute.value {
                AttributeValue::Reference(to, _) => Some((attribute.name.clone(), to.clone())),
                _ => None,
            })
            .collect();
        let is_constant = operator.is("Constant");
        let bodies: Vec<_> = operator.bodies().map(|(at, _)| at).collect();
        let mut editor = graph.edit(NAME);
        for (attribute, to) in references {
            let value = values.get(&to).ok_or_else(|| CallError::Unknown {
                node: label.clone(),
                attribute: to.clone(),
            })?;
            match value {
                Some(value) if is_constant => {
                    let tensor = constant_tensor(value.clone());
                    let tensor = tensor.ok_or_else(|| CallError::Constant {
                        node: label.clone(),
                        attribute: to.clone(),
                    })?;
                    let constant = Constant {
                        tensor: Some(tensor),
                        origin: ConstantOrigin::Initializer(0),
                        listed_input: None,
                    };
                    let copy = editor.copy_constant(id, Value::default(), constant);
                    editor.replace(ValueId::new(id, 0), copy)?;
                    editor.remove(id)?;
                }
                None if is_constant => {
                    return Err(CallError::Valueless {
                        node: label,
                        attribute: to,
                    });
                }
                Some(value) => editor.set_attribute(id, attribute, value.clone())?,
                None => editor.remove_attribute(id, &attribute)?,
            }
        }
        drop(editor);
        for at in bodies {
            if let Some(body) = graph.body_mut(id, at) {
                substitute(body, values)?;
            }
        }
    }
    Ok(())
}

/// The tensor of a `Constant` node whose value is this attribute.
fn constant_tensor(value: AttributeValue) -> Option<Tensor> {
    let length = |count: usize| [count as u64];
    match value {
        AttributeValue::Tensor(tensor) => Some(tensor),
        AttributeValue::Int(value) => Some(Tensor::scalar(value)),
        AttributeValue::Float(value) => Some(Tensor::scalar(value)),
        AttributeValue::Ints(values) => Tensor::from_slice(&length(values.len()), &values).ok(),
        AttributeValue::Floats(values) => Tensor::from_slice(&length(values.len()), &values).ok(),
        AttributeValue::String(text) => Tensor::from_strings(&[], [text]).ok(),
        AttributeValue::Strings(texts) => Tensor::from_strings(&length(texts.len()), texts).ok(),
        _ => None,
    }
}
