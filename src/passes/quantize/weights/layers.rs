//! The weights of the main graph, one at a time: for passes that choose each one's type.

use ndarray::{Array2, Array3, Axis};

use super::rounding::{Moments, Rounding, reconstruct};
use super::target::{Search, WeightTarget, row_kind};
use super::{NAME, QuantizeWeights, WeightError};
use crate::ir::{GraphPath, Model};
use crate::passes::left::LeftAlone;
use crate::passes::{Context, PassError, PassReport};
use crate::quantize::{Kind, scale_dims};

/// The weights that `quantize-weights` with these options would quantize, with what is known of their rows.
pub(in crate::passes::quantize) struct Layers<'a> {
    options: &'a QuantizeWeights,
    targets: Vec<WeightTarget>,
    moments: Option<Moments>,
}

/// What one quantized weight takes and costs.
#[derive(Clone, Copy, Debug)]
pub(in crate::passes::quantize) struct QuantizedLayer {
    /// Bytes of codes, scales and zero points.
    pub(in crate::passes::quantize) bytes: u64,
    /// Power of the error of the layer's own output over the output's, where its rows are known.
    pub(in crate::passes::quantize) own_noise: Option<f64>,
}

impl<'a> Layers<'a> {
    /// Finds them in `prepared`, which was made from `given`, and collects the rows that the rounding needs.
    pub(in crate::passes::quantize) fn find(
        given: &Model,
        prepared: &Model,
        options: &'a QuantizeWeights,
        context: &Context<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Self, PassError> {
        let mut left = LeftAlone::default();
        let search = Search::new(options, context)?;
        let targets = search.targets(&prepared.graph, &mut left);
        search.without_constants(prepared, &GraphPath::MAIN, &mut left);
        notes.extend(left.notes());
        let moments = match options.rounding {
            Rounding::Nearest => None,
            Rounding::Gptq | Rounding::Adaround => Some(options.moments(given, prepared, context)?),
        };
        Ok(Self {
            options,
            targets,
            moments,
        })
    }

    /// How many there are.
    pub(in crate::passes::quantize) fn count(&self) -> usize {
        self.targets.len()
    }

    /// The name of a weight.
    pub(in crate::passes::quantize) fn name(&self, model: &Model, layer: usize) -> String {
        self.targets
            .get(layer)
            .and_then(|target| model.graph.value(target.weight))
            .map(|value| value.name.to_string())
            .unwrap_or_default()
    }

    /// Elements of a weight.
    pub(in crate::passes::quantize) fn elements(&self, model: &Model, layer: usize) -> u64 {
        self.targets
            .get(layer)
            .and_then(|target| model.graph.constant(target.weight))
            .map_or(0, crate::ir::Tensor::elements)
    }

    /// Quantizes one weight of `model`, which is a copy of the prepared model, with codes of `kind`.
    pub(in crate::passes::quantize) fn quantize_one(
        &self,
        model: &mut Model,
        layer: usize,
        kind: Kind,
        report: &mut PassReport,
    ) -> Result<QuantizedLayer, PassError> {
        let Some(mut target) = self.targets.get(layer).cloned() else {
            return Ok(QuantizedLayer {
                bytes: 0,
                own_noise: None,
            });
        };
        let kind = if target.is_table() { row_kind(kind) } else { kind };
        target.coding.kind = kind;
        let wrong =
            |error: WeightError| PassError::resource(NAME, format!("{}: {error}", self.name(model, layer)));
        let dims = model
            .graph
            .constant(target.weight)
            .map(|tensor| tensor.dims().to_vec())
            .unwrap_or_default();
        let elements: u64 = dims.iter().product();
        let scales: u64 = scale_dims(&dims, target.granularity()).iter().product();
        let bits = u64::from(kind.bits());
        let bytes = (elements * bits).div_ceil(8) + 4 * scales + (scales * bits).div_ceil(8);
        let own_noise = self.own_noise(model, &target).map_err(wrong)?;
        let mut left = LeftAlone::default();
        self.options.convert(
            model,
            &GraphPath::MAIN,
            vec![target],
            self.moments.as_ref(),
            &mut left,
            report,
        )?;
        report.left.extend(left.into_entries());
        Ok(QuantizedLayer { bytes, own_noise })
    }

    fn own_noise(&self, model: &Model, target: &WeightTarget) -> Result<Option<f64>, WeightError> {
        let rows = self
            .moments
            .as_ref()
            .and_then(|moments| moments.of(target, false));
        let (Some(rows), Some(tensor)) = (rows, model.graph.constant(target.weight)) else {
            return Ok(None);
        };
        let weights = rows.layer.matrices(tensor)?;
        let (_, apart) = reconstruct(tensor, target, &rows, self.options.rounding)?;
        let (signal, noise) = (power(&weights, &rows.moments), power(&apart, &rows.moments));
        Ok((signal > 0.0).then(|| noise / signal))
    }
}

/// `tr(W H Wᵀ)`, summed over groups.
fn power(matrices: &Array3<f64>, moments: &[Array2<f64>]) -> f64 {
    matrices
        .axis_iter(Axis(0))
        .zip(moments)
        .map(|(matrix, moment)| (&matrix.dot(moment) * &matrix).sum())
        .sum()
}
