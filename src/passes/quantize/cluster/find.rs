//! Which weights share values.

use super::options::Overrides;
use super::{Cluster, CodeType, NAME};
use crate::ir::{DType, Graph, GraphPath, Model, Tensor};
use crate::passes::form::ConvertOpset;
use crate::passes::left::LeftAlone;
use crate::passes::quantize::weights::{QuantizeWeights, Reader, Search, WeightTarget};
use crate::passes::{Context, Pass as _, PassError, PassReport, prepare};
use crate::quantize::Kind;

/// The first opset whose Cast names a type by its number.
const OPSET: i64 = 9;
/// The first opset whose Gather takes bfloat16.
const OPSET_BF16: i64 = 13;
/// The first opset that has codes of 4 bits.
const OPSET_U4: i64 = 21;
/// Values that a code of 4 bits tells apart.
const NIBBLE: usize = 16;

/// One weight.
pub(super) struct Case {
    pub(super) path: GraphPath,
    pub(super) target: WeightTarget,
    pub(super) tensor: Tensor,
    pub(super) name: String,
    /// What `layers` says of it.
    pub(super) bits: Option<u32>,
    /// Its graph has codes of 4 bits, and the options take them.
    nibbles: bool,
}

impl Case {
    /// The type of codes for so many values.
    pub(super) fn kind(&self, values: usize) -> Kind {
        // Engines gather whole bytes.
        let rows = self.target.readers.iter().any(|reader| takes_rows(self, reader));
        match self.nibbles && values <= NIBBLE && !rows {
            true => Kind::Uint4,
            false => Kind::Uint8,
        }
    }
}

/// Whether a reader gathers rows of the weight where it lies, as it is.
pub(super) fn takes_rows(case: &Case, reader: &Reader) -> bool {
    reader.is_lookup() && reader.straight && reader.dtype == case.tensor.dtype()
}

impl Cluster {
    /// Simplifies, converts to an opset that has what the options ask for, and names and types every value.
    pub(super) fn make_ready(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        report.changes = prepare::simplify(model, self.prepare, context)?.changes;
        prepare::name(model);
        let needed = self.opset(model, context)?;
        if model.opset().is_some_and(|version| version < needed) {
            report.merge(ConvertOpset::at_least(needed).run(model, context)?);
            prepare::name(model);
        }
        Ok(())
    }

    /// The first opset that has what the weights of `model` become.
    fn opset(&self, model: &Model, context: &Context<'_>) -> Result<i64, PassError> {
        if self.form == super::ClusterForm::Float {
            return Ok(0);
        }
        let options = self.search_options();
        let search = Search::new(&options, context)?.looked_up();
        let mut needed = 0;
        for path in model.graph_paths() {
            let Some(graph) = model.graph_at(&path) else {
                continue;
            };
            for target in search.targets(graph, &mut LeftAlone::default()) {
                let own = match graph.constant(target.weight).map(Tensor::dtype) {
                    _ if self.codes == CodeType::Uint4 => OPSET_U4,
                    Some(DType::BF16) => OPSET_BF16,
                    _ => OPSET,
                };
                needed = needed.max(own);
            }
        }
        Ok(needed)
    }

    /// Every weight that the options cover, graph by graph.
    pub(super) fn cases(
        &self,
        model: &Model,
        options: &QuantizeWeights,
        context: &Context<'_>,
        left: &mut LeftAlone,
    ) -> Result<Vec<Case>, PassError> {
        let search = Search::new(options, context)?.looked_up();
        let overrides = Overrides::new(self)?;
        let mut found = Vec::new();
        for (path, version, targets) in search.everywhere(model, left) {
            let Some(graph) = model.graph_at(&path) else {
                continue;
            };
            for target in targets {
                let Some(case) = self.case(graph, (&path, version), target, &overrides, left) else {
                    continue;
                };
                found.push(case);
            }
        }
        Ok(found)
    }

    fn case(
        &self,
        graph: &Graph,
        (path, version): (&GraphPath, i64),
        target: WeightTarget,
        overrides: &Overrides<'_>,
        left: &mut LeftAlone,
    ) -> Option<Case> {
        let tensor = graph.constant(target.weight)?.clone();
        let name = graph.value(target.weight)?.name.to_string();
        let needed = match tensor.dtype() {
            DType::BF16 => OPSET_BF16,
            _ => OPSET,
        };
        if version < needed && self.form != super::ClusterForm::Float {
            left.add(
                name,
                format!("its function imports opset {version}, and looking up codes needs {needed}"),
                "inline-functions puts it where the model's opset holds",
            );
            return None;
        }
        let (bits, disagree) = overrides.bits(graph, &target, &name);
        if let (Some(bits), true) = (bits, disagree) {
            left.add(
                "",
                format!("the layers that read {name} ask for different bits: it has {bits} for all of them"),
                "",
            );
        }
        Some(Case {
            path: path.clone(),
            target,
            tensor,
            name,
            bits,
            nibbles: self.codes != CodeType::Uint8 && version >= OPSET_U4,
        })
    }
}

impl Cluster {
    /// What is said where nothing was found.
    pub(super) const NOTHING: &'static str = "no weight of the chosen operators: nothing to share values";
}

/// The error of one weight, for messages of the whole pass.
pub(super) fn failed(name: &str, error: impl std::fmt::Display) -> PassError {
    PassError::resource(NAME, format!("{name}: {error}"))
}
