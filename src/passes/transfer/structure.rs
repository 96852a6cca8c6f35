//! The pass `transfer-structure`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis;
use crate::ir::{Model, NodeKind, ValueId};
use crate::passes::form::align::align;
use crate::passes::form::extract::names;
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, ResourceError, Safety, prepare,
};
use crate::transfer::initialise::{Init, InitialiseError, initialise};
use crate::transfer::region::{RegionError, extract};
use crate::transfer::splice::{SpliceError, replace_or_lead};

const NAME: &str = "transfer-structure";

/// Takes the architecture of a model, or of a part of it, with fresh weights; or puts it in the place of a part of another model.
///
/// Without `from` the model itself, or the part of it between `inputs` and `outputs`, is the result, with new weights by default.
///
/// With `from` the model is the target: what computes its values `into-outputs` from `into-inputs` is replaced by the other model, or by
/// the part of that between `inputs` and `outputs`. Opset and IR version are brought to the newer of both, and an operator that cannot be
/// converted is an error that names it. An input of the part that has no value of its name in the target becomes an input of the result. A name that the target has already becomes `PREFIX/NAME`; functions, imports and metadata of
/// both survive. Types and shapes at the cuts have to agree. Running the part alone and in the result gives the same bits in the same
/// engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TransferStructure {
    /// The model that the part comes from.
    #[schemars(extend("x-file" = "read"))]
    pub from: Option<PathBuf>,
    /// Values that become the part's inputs; by default it starts where its model does.
    #[serde(deserialize_with = "names")]
    pub inputs: Vec<String>,
    /// Values that become the part's outputs; by default all outputs of its model.
    #[serde(deserialize_with = "names")]
    pub outputs: Vec<String>,
    /// With `from`: values of the target that the part reads, in the order of its inputs; by default those of the same names.
    #[serde(deserialize_with = "names")]
    pub into_inputs: Vec<String>,
    /// With `from`: values of the target that the part gives, in the order of its outputs; by default those of the same names.
    #[serde(deserialize_with = "names")]
    pub into_outputs: Vec<String>,
    /// New weights for the part; by default `keep` with `from` and `kaiming` without.
    pub init: Option<Init>,
    /// With `from`: what comes before names that the target has already.
    pub prefix: String,
}

impl Default for TransferStructure {
    fn default() -> Self {
        Self {
            from: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            into_inputs: Vec::new(),
            into_outputs: Vec::new(),
            init: None,
            prefix: "source".to_owned(),
        }
    }
}

impl Pass for TransferStructure {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).replacing().needing(Needs {
            source: self.from.is_some(),
            ..Needs::default()
        })
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let Some(from) = &self.from else {
            if !self.into_inputs.is_empty() || !self.into_outputs.is_empty() {
                return Err(option(
                    "into-outputs: a part is put into the model only with `from`".to_owned(),
                ));
            }
            let whole = model.graph.operator_count();
            let mut part = self.part(model)?;
            report.add("operator left out", (whole - part.graph.operator_count()) as u64);
            self.fresh(&mut part, Init::Kaiming, context, &mut report)?;
            *model = part;
            return Ok(report);
        };
        if self.prefix.is_empty() {
            return Err(option("prefix: a name is needed".to_owned()));
        }
        let resources = context.resources(NAME, "there is nothing to read the source with")?;
        let source = resources.model(from).map_err(resource)?;
        let mut part = self.part(&source)?;
        self.fresh(&mut part, Init::Keep, context, &mut report)?;
        let mut target = model.clone();
        align(NAME, &mut target, &mut part, context, &mut report)?;
        let outputs = match self.into_outputs.is_empty() {
            true => part
                .graph
                .outputs()
                .iter()
                .map(|output| output.name.to_string())
                .collect(),
            false => self.into_outputs.clone(),
        };
        let before = target.graph.operator_count();
        prepare::name(&mut target);
        let inputs: Vec<Option<String>> = match self.into_inputs.is_empty() {
            true => self.places(&target, &part, &outputs),
            false => self.into_inputs.iter().cloned().map(Some).collect(),
        };
        for (id, place) in part.graph.inputs().iter().zip(&inputs) {
            if place.is_none() {
                let name = part.graph.label(*id);
                report.add(&format!("input {name} of the part is an input of the result"), 1);
            }
        }
        let spliced =
            replace_or_lead(&mut target, &part, &inputs, &outputs, &self.prefix).map_err(refused)?;
        let added = spliced.operators.len();
        report.add("operator added", added as u64);
        report.add(
            "operator removed",
            (before + added).saturating_sub(target.graph.operator_count()) as u64,
        );
        if !spliced.functions.is_empty() {
            report.changes.push(Change {
                rule: "function added".to_owned(),
                count: spliced.functions.len() as u64,
                details: spliced.functions,
            });
        }
        let renamed = spliced.renamed.iter().map(|(old, new)| format!("{old} is {new}"));
        report.notes.extend(renamed);
        report.changed = true;
        *model = target;
        Ok(report)
    }
}

impl TransferStructure {
    /// The model, or its part between the cuts.
    fn part(&self, model: &Model) -> Result<Model, PassError> {
        let mut part = if self.outputs.is_empty() && self.inputs.is_empty() {
            model.clone()
        } else if self.outputs.is_empty() {
            let all: Vec<String> = model
                .graph
                .outputs()
                .iter()
                .map(|output| output.name.to_string())
                .collect();
            extract(model, &self.inputs, &all).map_err(region)?
        } else {
            extract(model, &self.inputs, &self.outputs).map_err(region)?
        };
        part.name_values();
        analysis::infer(&mut part);
        Ok(part)
    }

    /// For each input of the part the value of the target with its name; none where there is no such value, or where it is the
    /// graph input that the part stands before.
    fn places(&self, target: &Model, part: &Model, outputs: &[String]) -> Vec<Option<String>> {
        let graph = &target.graph;
        let place = |id: &crate::ir::NodeId| {
            let own = ValueId::new(*id, 0);
            let name = part.graph.value(own).map(|value| value.name.to_string())?;
            let value = graph.find_value(&name)?;
            let is_input = matches!(
                graph.get(value.node).map(|node| &node.kind),
                Some(NodeKind::Input(_))
            );
            let replaced = is_input && outputs.contains(&name);
            (!replaced || !graph.ty(value).contradicts(part.graph.ty(own))).then_some(name)
        };
        part.graph.inputs().iter().map(place).collect()
    }

    fn fresh(
        &self,
        part: &mut Model,
        otherwise: Init,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let init = self.init.unwrap_or(otherwise);
        let done = initialise(part, init, context.seed, &context.keep).map_err(|error| match error {
            InitialiseError::Edit(source) => PassError::Edit { pass: NAME, source },
            InitialiseError::Tensor { .. } => resource(error.to_string()),
        })?;
        if done.made > 0 {
            // What bodies know of the constants that they capture.
            analysis::infer(part);
        }
        report.add("weight initialised", done.made as u64);
        for stayed in done.stayed {
            match stayed.cure.is_empty() {
                true => report.leave(stayed.name, stayed.why),
                false => report.leave_curable(stayed.name, stayed.why, stayed.cure),
            }
        }
        Ok(())
    }
}

fn option(message: String) -> PassError {
    PassError::Option { pass: NAME, message }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}

fn region(error: RegionError) -> PassError {
    let message = error.to_string();
    match error {
        RegionError::OpenInput { output, .. } => PassError::Model {
            pass: NAME,
            node: output,
            message,
        },
        _ => option(message),
    }
}

fn refused(error: SpliceError) -> PassError {
    match error {
        SpliceError::Edit(source) => PassError::Edit { pass: NAME, source },
        SpliceError::Region(error) => region(error),
        SpliceError::Version { ref node, .. }
        | SpliceError::NotImported { ref node, .. }
        | SpliceError::Function { ref node, .. } => PassError::Model {
            pass: NAME,
            node: node.clone(),
            message: error.to_string(),
        },
        SpliceError::Type { .. } | SpliceError::OutputType { .. } | SpliceError::Cycle { .. } => option(
            format!("{error}; to put one whole model behind another there is `chain`"),
        ),
        _ => option(error.to_string()),
    }
}
