//! Heads from other models.

use std::path::Path;

use super::{Cut, NAME, TransferFeatures, resource};
use crate::analysis;
use crate::ir::{Graph, Model, NodeKind, Operator, Value, ValueId};
use crate::passes::form::align::align;
use crate::passes::simplify::DeduplicateInitializers;
use crate::passes::{Change, Context, Pass, PassError, PassReport, ResourceError, Resources};
use crate::transfer::region::extract;
use crate::transfer::splice::{expose, splice};

impl TransferFeatures {
    /// The cut model with other models behind the features.
    pub(super) fn attach(
        &self,
        cut: Cut,
        resources: &dyn Resources,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Model, PassError> {
        let edit = |source| PassError::Edit { pass: NAME, source };
        let name = cut.name.clone();
        let mut model = cut.model;
        let mut outputs: Vec<String> = Vec::new();
        for path in &self.head {
            let place = |error: ResourceError| resource(ResourceError::of(path.display().to_string(), error));
            let mut head = resources.model(path).map_err(resource)?;
            analysis::infer(&mut head);
            align(NAME, &mut model, &mut head, context, report)?;
            analysis::infer(&mut model);
            analysis::infer(&mut head);
            let features = model
                .graph
                .find_value(&name)
                .ok_or_else(|| place(format!("the value {name:?} is gone").into()))?;
            let input = sole_input(&head.graph).map_err(&place)?;
            let mut details = Vec::new();
            let rank = |graph: &Graph, value| graph.ty(value).rank();
            let mut fed = features;
            if let (Some(own), Some(2)) = (rank(&model.graph, features), rank(&head.graph, input))
                && own != 2
            {
                let flatten = Operator::new("Flatten").with("axis", 1i64);
                let mut editor = model.graph.edit(NAME);
                let id = editor
                    .add_operator(features.node, flatten, &[Some(features)], vec![Value::default()])
                    .map_err(edit)?;
                drop(editor);
                fed = ValueId::new(id, 0);
                analysis::infer(&mut model);
                details.push(format!("{name} is flattened for it"));
            }
            let inputs: Vec<Option<ValueId>> = head
                .graph
                .inputs()
                .iter()
                .map(|id| (*id == input.node).then_some(fed))
                .collect();
            let prefix = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            let spliced = splice(&mut model, &head, &inputs, &prefix)
                .map_err(|error| place(error.to_string().into()))?;
            for (output, value) in head.graph.outputs().iter().zip(spliced.outputs) {
                let exposed = expose(&mut model, value, &output.name, &prefix).map_err(edit)?;
                details.push(format!(
                    "{exposed} is the output {} of {}",
                    output.name,
                    shown(path)
                ));
                outputs.push(exposed);
            }
            report.changes.push(Change {
                rule: "head attached".to_owned(),
                count: 1,
                details,
            });
        }
        analysis::infer(&mut model);
        let mut headed = extract(&model, &[], &outputs).map_err(|error| resource(error.to_string()))?;
        analysis::infer(&mut headed);
        report.merge(DeduplicateInitializers::default().run(&mut headed, context)?);
        Ok(headed)
    }
}

fn shown(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The one input of a head that has no default.
fn sole_input(graph: &Graph) -> Result<ValueId, ResourceError> {
    let open: Vec<ValueId> = graph
        .inputs()
        .iter()
        .filter(|id| {
            matches!(graph.get(**id).map(|node| &node.kind), Some(NodeKind::Input(input)) if input.default.is_none())
        })
        .map(|id| ValueId::new(*id, 0))
        .collect();
    match open.as_slice() {
        [one] => Ok(*one),
        others => Err(ResourceError::Unfit(format!(
            "a head reads the features and nothing else, and this one has {} inputs",
            others.len()
        ))),
    }
}
