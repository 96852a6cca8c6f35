//! Weights of products whose rows are gathered, too: one table of codes for both.

use super::NAME;
use super::error::ProductError;
use super::product::Product;
use super::weight::Coded;
use crate::analysis::linear::{self, Family, Origin};
use crate::ir::{
    DType, Dim, EditError, Graph, GraphPath, Model, NodeId, Operator, Shape, Value, ValueId, ValueType,
    opset_version,
};
use crate::passes::quantize::weights::{Stored, transposed};
use crate::quantize::{Granularity, Kind, Parameters};

/// A reader that gathers rows, and the type that it reads them in.
pub(super) type Lookup = (NodeId, DType);

/// The lookups of a weight, which may share codes with a product that has its rows as outputs. `None` where one gets codes of its own all
/// the same: it lies in a body or behind a Transpose.
pub(super) fn lookups(graph: &Graph, origin: &Origin) -> Option<Vec<Lookup>> {
    let stored = graph.constant(origin.value)?;
    let mut found = Vec::new();
    for reading in &linear::readings(graph, origin.value).weights {
        if reading.operand.family != Family::Lookup {
            continue;
        }
        if !reading.is_straight() || stored.rank() != 2 {
            return None;
        }
        found.push((reading.node, reading.dtype.unwrap_or(stored.dtype())));
    }
    Some(found)
}

/// Whether a product reads a table so that its outputs are the rows, and from its right.
pub(super) fn reads_rows(output_axis: usize, weight_slot: usize) -> bool {
    output_axis == 0 && weight_slot == 1
}

/// Codes that lookups read, once products have been replaced.
pub(super) struct Table {
    path: GraphPath,
    stored: Stored,
    lookups: Vec<Lookup>,
}

impl Table {
    /// Stores the codes of a product's weight by rows. Answers the table, and the codes as the product reads them.
    pub(super) fn store(
        model: &mut Model,
        product: &Product,
        coded: &Coded,
        (scale, lookups): (ValueId, Vec<Lookup>),
    ) -> Result<(Self, ValueId), ProductError> {
        let path = product.origin.path.clone();
        let opset = opset_version(model.opsets(&path), "").unwrap_or_default();
        let home = product.origin.value.node;
        let graph = model.graph_at_mut(&path).ok_or(EditError::NoNode(home.index()))?;
        let mut editor = graph.edit(NAME);
        let rows = transposed(&coded.codes)?;
        let dims = rows.dims().to_vec();
        let name = product.name.as_str();
        let codes = editor.add_constant(format!("{name}_quantized"), rows);
        let shape: Shape = coded
            .codes
            .dims()
            .iter()
            .map(|dim| Dim::Fixed(*dim as i64))
            .collect();
        let value = Value::typed(
            format!("{name}_quantized_transposed"),
            ValueType::tensor(DType::I8, Some(shape)),
        );
        let turn = Operator::new("Transpose").with("perm", vec![1, 0]);
        let turned = editor.add_operator(home, turn, &[Some(codes)], vec![value])?;
        let scales = coded.scales.to_f32()?;
        let parameters = scales.iter().map(|scale| Parameters {
            scale: *scale,
            zero_point: 0,
        });
        let by_row = coded.scales.rank() == 1;
        let stored = Stored {
            codes,
            kind: Kind::Int8,
            dims,
            granularity: match by_row {
                true => Granularity::PerChannel(0),
                false => Granularity::PerTensor,
            },
            parameters: parameters.collect(),
            scales: match by_row {
                true => vec![(DType::F32, scale)],
                false => Vec::new(),
            },
            name: name.to_owned(),
            opset,
        };
        let table = Self {
            path,
            stored,
            lookups,
        };
        Ok((table, ValueId::new(turned, 0)))
    }

    /// Has the lookups gather codes.
    pub(super) fn gather(&self, model: &mut Model) -> Result<u64, ProductError> {
        let Some(graph) = model.graph_at_mut(&self.path) else {
            return Ok(0);
        };
        let mut editor = graph.edit(NAME);
        for (node, dtype) in &self.lookups {
            self.stored
                .rows(&mut editor, self.stored.codes, *node, *dtype)
                .map_err(ProductError::from)?;
        }
        Ok(self.lookups.len() as u64)
    }
}
