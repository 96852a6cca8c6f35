//! Sizes for symbols, in the declared types of a graph and of its bodies.

use std::collections::BTreeMap;

use super::graph::Graph;
use super::name::Name;
use super::node::{NodeKind, Operator};
use super::symbols::Dim;
use super::types::{TensorType, ValueType};
use crate::proto;
use crate::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::proto::type_proto::Value as TypeValue;

type Sizes = BTreeMap<Name, i64>;

impl Graph {
    /// Puts sizes in the place of symbols in what graph inputs and outputs declare, in bodies too. Inferred types stay.
    pub(super) fn bind_symbols(&mut self, sizes: &Sizes) {
        for id in self.nodes.node_indices().collect::<Vec<_>>() {
            let Some(node) = self.nodes.node_weight_mut(id) else {
                continue;
            };
            match &mut node.kind {
                NodeKind::Input(input) => {
                    if let Some(declared) = &mut input.declared {
                        bind_message(declared, sizes);
                    }
                    for value in &mut node.outputs {
                        value.ty = bind_type(&value.ty, sizes);
                    }
                }
                NodeKind::Operator(operator) => operator.bind_body_symbols(sizes),
                _ => {}
            }
        }
        for output in &mut self.outputs {
            output.ty = bind_type(&output.ty, sizes);
            if let Some(declared) = &mut output.declared {
                bind_message(declared, sizes);
            }
        }
        for (_, declared) in &mut self.meta.other_value_info {
            bind_message(declared, sizes);
        }
    }
}

impl Operator {
    fn bind_body_symbols(&mut self, sizes: &Sizes) {
        for attribute in &mut self.attributes {
            attribute
                .value
                .graphs_mut()
                .iter_mut()
                .for_each(|graph| graph.bind_symbols(sizes));
        }
    }
}

fn bind_type(ty: &ValueType, sizes: &Sizes) -> ValueType {
    let tensor = |tensor: &TensorType| TensorType {
        dtype: tensor.dtype,
        shape: tensor.shape.as_ref().map(|shape| {
            shape
                .iter()
                .map(|dim| dim.substitute(&|name| sizes.get(name).copied().map(Dim::Fixed)))
                .collect()
        }),
    };
    match ty {
        ValueType::Tensor(inner) => ValueType::Tensor(tensor(inner)),
        ValueType::Sparse(inner) => ValueType::Sparse(tensor(inner)),
        ValueType::Sequence(inner) => ValueType::Sequence(Box::new(bind_type(inner, sizes))),
        ValueType::Optional(inner) => ValueType::Optional(Box::new(bind_type(inner, sizes))),
        ValueType::Map(key, inner) => ValueType::Map(*key, Box::new(bind_type(inner, sizes))),
        ValueType::Unknown | ValueType::Opaque => ty.clone(),
    }
}

fn bind_message(info: &mut proto::ValueInfoProto, sizes: &Sizes) {
    if let Some(ty) = &mut info.r#type {
        bind_type_message(ty, sizes);
    }
}

fn bind_type_message(ty: &mut proto::TypeProto, sizes: &Sizes) {
    let shape = match &mut ty.value {
        Some(TypeValue::TensorType(tensor)) => tensor.shape.as_mut(),
        Some(TypeValue::SparseTensorType(tensor)) => tensor.shape.as_mut(),
        Some(TypeValue::SequenceType(sequence)) => return bind_inner(&mut sequence.elem_type, sizes),
        Some(TypeValue::OptionalType(optional)) => return bind_inner(&mut optional.elem_type, sizes),
        Some(TypeValue::MapType(map)) => return bind_inner(&mut map.value_type, sizes),
        Some(TypeValue::OpaqueType(_)) | None => None,
    };
    for dim in shape.into_iter().flat_map(|shape| &mut shape.dim) {
        if let Some(DimValue::DimParam(name)) = &dim.value
            && let Some(size) = sizes.get(name.as_str())
        {
            dim.value = Some(DimValue::DimValue(*size));
        }
    }
}

fn bind_inner(ty: &mut Option<Box<proto::TypeProto>>, sizes: &Sizes) {
    if let Some(ty) = ty {
        bind_type_message(ty, sizes);
    }
}
