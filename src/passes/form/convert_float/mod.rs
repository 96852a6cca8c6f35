//! The pass `convert-float`: float tensors become 16 bits wide.

mod angles;
mod constants;
mod decide;
mod families;
mod quantized;
mod ranges;
mod rewire;
mod risk;
mod worth;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::decide::{ConversionPlan, Stays, decide};
use self::rewire::Rewire;
use super::ConvertOpset;
use crate::analysis;
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{DType, EditError, GraphPath, Model};
use crate::passes::encoded_size::model_bytes;
use crate::passes::left::Left;
use crate::passes::simplify::InlineFunctions;
use crate::passes::{About, Context, Needs, Pass, PassError, PassReport, Safety, Selector};

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

    fn name(self) -> &'static str {
        match self {
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
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
/// An operator is converted when its schema allows the type, in the bodies of If, Loop and Scan too; calls of functions are
/// inlined first. It stays float when it computes with a number that the type does not hold: an epsilon below the range of
/// float16 with the root, logarithm or division that it protects and the squares that it is added to, a mask beyond the range
/// with its Softmax, sums of integers. Further when `range-data` shows values beyond the range of float16 or random inputs show
/// values near its end, when it stands between quantized values, when its weights are smaller than the Casts around it, and when
/// `keep-operators` or `exclude` say so; Casts stand where the types meet. Inputs and outputs of bodies stay float, and those of
/// the model unless `convert-io` says otherwise; without it, a model in which no constant would become smaller stays as it is.
/// Ranges are not checked in bodies.
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

impl Failure {
    fn of_pass(self) -> PassError {
        match self {
            Self::Edit(source) => PassError::Edit { pass: NAME, source },
            Self::Check(message) => PassError::Model {
                pass: NAME,
                node: "the converted model".to_owned(),
                message,
            },
        }
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
            report.merge(ConvertOpset::at_least(self.to.opset()).run(&mut changed, context)?);
        }
        report.merge(InlineFunctions::default().run(&mut changed, context)?);
        changed.name_values();
        analysis::infer(&mut changed);
        let mut plan = decide(&changed, self, context)?;
        if !self.convert_io {
            worth::leave_what_does_not_pay(&mut plan, &changed);
        }
        plan.settle_captures(&changed);
        report.notes.extend(plan.notes.iter().cloned());
        report.left.extend(stay_float(&plan));
        let left = |report: PassReport, why: &str| {
            let mut report = PassReport {
                changed: false,
                changes: Vec::new(),
                ..report
            };
            report.notes.insert(0, why.to_owned());
            Ok(report)
        };
        if plan.converted() == 0 {
            return left(report, "no operator can be converted");
        }
        let before = model_bytes(&changed);
        self.rewire(&mut changed, &plan, &mut report)?;
        if !self.convert_io && worth::is_quantized(&changed) && model_bytes(&changed) >= before {
            return left(
                report,
                "the model would not become smaller: its weights are quantized",
            );
        }
        *model = changed;
        report.add("operator", plan.converted() as u64);
        Ok(report)
    }
}

/// Why operators stay float.
fn stay_float(plan: &ConversionPlan) -> Vec<Left> {
    let of = |(why, stays): (&String, &Stays)| {
        let subjects = listed(stays.subjects.iter());
        let why = match subjects.is_empty() {
            true => why.clone(),
            false => format!("{subjects} {why}"),
        };
        let entries = stays.labels.iter().map(|label| Left::new(label, &why));
        entries.collect::<Vec<_>>()
    };
    plan.float.iter().flat_map(of).collect()
}

/// The first few of a list.
fn listed<'s>(all: impl ExactSizeIterator<Item = &'s String>) -> String {
    const SHOWN: usize = 3;
    let dots = if all.len() > SHOWN { ", ..." } else { "" };
    let shown: Vec<&str> = all.take(SHOWN).map(String::as_str).collect();
    format!("{}{dots}", shown.join(", "))
}

impl ConvertFloat {
    fn rewire(
        &self,
        model: &mut Model,
        plan: &ConversionPlan,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let edit = |source| PassError::Edit { pass: NAME, source };
        let mut rewire = Rewire::new(self, &model.graph);
        let mut changes: Vec<Reshape> = Vec::new();
        for (path, decisions) in &plan.graphs {
            let Some(graph) = model.graph_at_mut(path) else {
                continue;
            };
            if *path == GraphPath::MAIN {
                changes = rewire.main(graph, decisions).map_err(edit)?;
            } else {
                rewire.body(graph, decisions).map_err(edit)?;
            }
        }
        reshape::<Failure>(model, NAME, changes, |model| {
            analysis::infer(model);
            analysis::check(model).map_err(|errors| {
                Failure::Check(errors.first().map(|error| error.to_string()).unwrap_or_default())
            })
        })
        .map_err(Failure::of_pass)?;
        model.name_values();
        report.add("constant", rewire.constants);
        report.add("cast", rewire.casts);
        Ok(())
    }

    fn suffix(&self) -> &'static str {
        self.to.name()
    }
}
