//! The pass `convert-float`: float tensors become 16 bits wide.

mod decide;

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::decide::{Decisions, decide, lower_constant};
use super::distinct::distinct_names;
use super::{About, Context, ConvertOpset, Needs, Pass, PassError, PassReport, Safety, Selector};
use crate::analysis;
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{
    DType, EditError, Editor, Model, Name, NodeKind, Operator, Slot, Tensor, TensorType, Value, ValueId,
    ValueType,
};

const NAME: &str = "convert-float";

/// A float type of 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// IEEE half precision: 11 bits of precision, up to 65504.
    #[default]
    Float16,
    /// The upper half of a float: 8 bits of precision, the range of float.
    Bfloat16,
}

impl Half {
    fn dtype(self) -> DType {
        match self {
            Self::Float16 => DType::F16,
            Self::Bfloat16 => DType::BF16,
        }
    }

    /// First opset in which most operators take the type.
    fn opset(self) -> i64 {
        match self {
            Self::Float16 => 7,
            Self::Bfloat16 => 13,
        }
    }
}

/// Converts float tensors and the operators between them to a 16-bit float type.
///
/// An operator is converted when its schema allows the type. It stays float when a constant that it reads would leave the range
/// or become zero, when `range-data` shows values beyond the range of float16 or random inputs show values near its end, when
/// `keep-operators` or `exclude` say so, and when it holds a body; Casts stand where the types meet. Graph inputs and outputs stay float unless `io` says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ConvertFloat {
    /// The type to convert to.
    pub to: Half,
    /// Give graph inputs and outputs the new type, too.
    pub convert_io: bool,
    /// Operator types that stay float.
    pub keep_operators: Vec<String>,
    /// Nodes that stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// Run the model on the data of this role and keep what exceeds the range of the type in float.
    pub range_data: Option<String>,
    /// Without `range-data`: run the model on two random inputs, and keep what comes within a quarter of the largest float16 value
    /// in float. A model that does not run on them is converted all the same, and the report says so.
    pub check_ranges: bool,
}

impl Default for ConvertFloat {
    fn default() -> Self {
        Self {
            to: Half::default(),
            convert_io: false,
            keep_operators: [
                "CumSum",
                "NonMaxSuppression",
                "Range",
                "Resize",
                "RoiAlign",
                "Upsample",
            ]
            .map(str::to_owned)
            .into(),
            exclude: Vec::new(),
            range_data: None,
            check_ranges: true,
        }
    }
}

enum Failure {
    Edit(EditError),
    Check(String),
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

impl Pass for ConvertFloat {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            engine: self.to == Half::Float16 && (self.check_ranges || self.range_data.is_some()),
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let reads = self.to == Half::Float16;
        self.range_data.iter().filter(|_| reads).cloned().collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("exclude", &self.exclude)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let mut changed = model.clone();
        if changed.opset().is_some_and(|version| version < self.to.opset()) {
            report.merge(
                ConvertOpset {
                    version: self.to.opset(),
                }
                .run(&mut changed, context)?,
            );
        }
        changed.name_values();
        analysis::infer(&mut changed);
        let decisions = decide(&changed, self, context)?;
        report.notes.extend(decisions.notes.iter().cloned());
        if decisions.nodes.is_empty() {
            report.notes.push("no operator can be converted".to_owned());
            return Ok(PassReport {
                changed: false,
                changes: Vec::new(),
                ..report
            });
        }
        let failed = |failure| match failure {
            Failure::Edit(source) => PassError::Edit { pass: NAME, source },
            Failure::Check(message) => PassError::Model {
                pass: NAME,
                node: "the converted model".to_owned(),
                message,
            },
        };
        let changes = self
            .rewire(&mut changed, &decisions, &mut report)
            .map_err(failed)?;
        distinct_names(&mut changed, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
        reshape::<Failure>(&mut changed, NAME, changes, |model| {
            analysis::infer(model);
            analysis::check(model).map_err(|errors| {
                Failure::Check(errors.first().map(|error| error.to_string()).unwrap_or_default())
            })
        })
        .map_err(failed)?;
        changed.name_values();
        *model = changed;
        report.add("operator", decisions.nodes.len() as u64);
        Ok(report)
    }
}

/// The type with another element type.
fn with_dtype(ty: &ValueType, dtype: DType) -> ValueType {
    ValueType::Tensor(TensorType {
        dtype: Some(dtype),
        shape: ty.shape().cloned(),
    })
}

impl ConvertFloat {
    /// Puts Casts where the types meet and converts constants and attributes. Answers the values whose type changes.
    fn rewire(
        &self,
        model: &mut Model,
        decisions: &Decisions,
        report: &mut PassReport,
    ) -> Result<Vec<Reshape>, Failure> {
        let dtype = self.to.dtype();
        let mut changes = Vec::new();
        let mut casts = 0;
        let interface: Vec<(crate::ir::NodeId, ValueType)> = model
            .graph
            .inputs()
            .iter()
            .map(|id| (*id, model.graph.ty(ValueId::new(*id, 0)).clone()))
            .collect();
        let outputs: Vec<ValueType> = model
            .graph
            .outputs()
            .iter()
            .map(|output| output.ty.clone())
            .collect();
        let sink = model.graph.sink();
        let mut editor = model.graph.edit(NAME);
        // Values that become narrow.
        let mut narrow: Vec<ValueId> = decisions.outputs.iter().copied().collect();
        if self.convert_io {
            for (id, ty) in &interface {
                if ty.dtype() != Some(DType::F32) {
                    continue;
                }
                narrow.push(ValueId::new(*id, 0));
                changes.push(Reshape::Input(*id, with_dtype(ty, dtype)));
                let default = match editor.graph().get(*id).map(|node| &node.kind) {
                    Some(NodeKind::Input(input)) => input.default.as_ref().map(|default| default.0.clone()),
                    _ => None,
                };
                if let Some(tensor) = default {
                    changes.push(Reshape::Default(*id, lower_constant(&tensor, dtype).tensor));
                }
            }
            for (index, ty) in outputs.iter().enumerate() {
                if ty.dtype() == Some(DType::F32) {
                    changes.push(Reshape::Output(index, with_dtype(ty, dtype)));
                }
            }
        }
        // Readers that want float behind narrow values, while all types are still as they were.
        for value in &narrow {
            let wide = |node, slot: Slot| match slot {
                _ if node == sink => !self.convert_io,
                Slot::Input(slot) => !decisions.reads_narrow(node, slot as usize),
                Slot::Capture(_) => true,
            };
            if !editor.graph().uses(*value).iter().any(|u| wide(u.node, u.slot)) {
                continue;
            }
            let ty = editor.graph().ty(*value).clone();
            let cast = cast(&mut editor, *value, DType::F32, "float", ty)?;
            editor.replace_where(*value, cast, |u| u.node != cast.node && wide(u.node, u.slot))?;
            casts += 1;
        }
        // Readers that want narrow values behind float ones and constants.
        let is_narrow: std::collections::HashSet<ValueId> = narrow.iter().copied().collect();
        let mut casted: HashMap<ValueId, ValueId> = HashMap::new();
        let mut constants = 0;
        for (node, slots) in &decisions.nodes {
            for slot in slots {
                let Some(value) = editor.graph().input(*node, *slot) else {
                    continue;
                };
                if is_narrow.contains(&value) {
                    continue;
                }
                let new = match casted.get(&value) {
                    Some(known) => *known,
                    None => {
                        let is_constant = matches!(
                            editor.graph().get(value.node).map(|n| &n.kind),
                            Some(NodeKind::Constant(_))
                        );
                        let tensor = editor.graph().constant(value).filter(|_| is_constant).cloned();
                        let new = match tensor {
                            Some(tensor) => {
                                constants += 1;
                                let name = named(&editor, value, self.suffix());
                                editor.add_constant(name, lower_constant(&tensor, dtype).tensor)
                            }
                            None => {
                                casts += 1;
                                let ty = with_dtype(editor.graph().ty(value), dtype);
                                cast(&mut editor, value, dtype, self.suffix(), ty)?
                            }
                        };
                        casted.insert(value, new);
                        new
                    }
                };
                editor.set_input(*node, *slot, Some(new))?;
                editor.remove_unused(value.node);
            }
        }
        // An output that a float operator produces.
        if self.convert_io {
            self.cast_outputs(&mut editor, &outputs, &is_narrow, &mut casts)?;
        }
        for (node, attribute) in &decisions.attributes {
            match attribute {
                decide::TypeAttribute::To => editor.set_attribute(*node, "to", i64::from(dtype.onnx()))?,
                decide::TypeAttribute::Value(tensor) => {
                    editor.set_attribute(*node, "value", tensor.clone())?
                }
            }
        }
        for value in &narrow {
            if !matches!(
                editor.graph().get(value.node).map(|n| &n.kind),
                Some(NodeKind::Input(_))
            ) {
                changes.push(Reshape::Value(
                    *value,
                    with_dtype(editor.graph().ty(*value), dtype),
                ));
            }
        }
        report.add("constant", constants);
        report.add("cast", casts);
        Ok(changes)
    }

    fn suffix(&self) -> &'static str {
        match self.to {
            Half::Float16 => "float16",
            Half::Bfloat16 => "bfloat16",
        }
    }

    fn cast_outputs(
        &self,
        editor: &mut Editor<'_>,
        outputs: &[ValueType],
        is_narrow: &std::collections::HashSet<ValueId>,
        casts: &mut u64,
    ) -> Result<(), Failure> {
        let values = editor.graph().output_values();
        let mut done: BTreeMap<ValueId, ()> = BTreeMap::new();
        let sink = editor.graph().sink();
        for (value, ty) in values.into_iter().zip(outputs) {
            let Some(value) = value.filter(|value| !is_narrow.contains(value)) else {
                continue;
            };
            if ty.dtype() != Some(DType::F32) || done.insert(value, ()).is_some() {
                continue;
            }
            // The old type goes with the new value until all types are changed together.
            let old = editor.graph().ty(value).clone();
            let new = cast(editor, value, self.to.dtype(), self.suffix(), old)?;
            editor.replace_where(value, new, |u| u.node == sink)?;
            *casts += 1;
        }
        Ok(())
    }
}

fn named(editor: &Editor<'_>, value: ValueId, suffix: &str) -> Name {
    let stem = editor
        .graph()
        .value(value)
        .map(|value| value.name.to_string())
        .unwrap_or_default();
    Name::from(format!("{stem}_{suffix}"))
}

fn cast(
    editor: &mut Editor<'_>,
    value: ValueId,
    to: DType,
    suffix: &str,
    ty: ValueType,
) -> Result<ValueId, EditError> {
    let name = named(editor, value, suffix);
    let operator = Operator::new("Cast").with("to", i64::from(to.onnx()));
    let node = editor.add_operator(value.node, operator, &[Some(value)], vec![Value::typed(name, ty)])?;
    Ok(ValueId::new(node, 0))
}

/// A constant in the narrow type.
pub(super) struct Lowered {
    pub(super) tensor: Tensor,
    /// Finite values beyond the range of the type.
    pub(super) beyond: u64,
    /// Values that became zero.
    pub(super) vanished: u64,
}
