//! Every `TensorProto` of a model: initializers, sparse initializers and attributes, in bodies and functions too.

use std::fmt;

use crate::proto;

/// What a tensor is to its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// An initializer of a graph or body.
    Initializer,
    /// A value in an attribute, or a part of a sparse tensor.
    Other,
}

/// Where a message is in a model; written only when an error needs it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    field: &'static str,
    index: Option<usize>,
}

impl<'a> Place<'a> {
    pub(super) fn root(field: &'static str) -> Self {
        Place {
            parent: None,
            field,
            index: None,
        }
    }

    pub(super) fn field(&'a self, field: &'static str) -> Place<'a> {
        Place {
            parent: Some(self),
            field,
            index: None,
        }
    }

    pub(super) fn at(self, index: usize) -> Place<'a> {
        Place {
            index: Some(index),
            ..self
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.field),
            None => f.write_str(self.field),
        }
    }
}

type Visitor<'v, 'm, E> = &'v mut dyn FnMut(&'m proto::TensorProto, Role, &Place<'_>) -> Result<(), E>;
type MutVisitor<'v, E> = &'v mut dyn FnMut(&mut proto::TensorProto, Role) -> Result<(), E>;

/// Calls `visitor` for every tensor until it fails.
pub(super) fn visit<'m, E>(model: &'m proto::ModelProto, visitor: Visitor<'_, 'm, E>) -> Result<(), E> {
    if let Some(graph) = &model.graph {
        in_graph(graph, &Place::root("graph"), visitor)?;
    }
    for (index, training) in model.training_info.iter().enumerate() {
        let place = Place::root("training_info").at(index);
        for (field, graph) in [
            ("initialization", &training.initialization),
            ("algorithm", &training.algorithm),
        ] {
            if let Some(graph) = graph {
                in_graph(graph, &place.field(field), visitor)?;
            }
        }
    }
    for (index, function) in model.functions.iter().enumerate() {
        let place = Place::root("functions").at(index);
        for (index, attribute) in function.attribute_proto.iter().enumerate() {
            in_attribute(attribute, &place.field("attribute_proto").at(index), visitor)?;
        }
        in_nodes(&function.node, &place, visitor)?;
    }
    Ok(())
}

fn in_graph<'m, E>(
    graph: &'m proto::GraphProto,
    place: &Place<'_>,
    visitor: Visitor<'_, 'm, E>,
) -> Result<(), E> {
    in_nodes(&graph.node, place, visitor)?;
    for (index, tensor) in graph.initializer.iter().enumerate() {
        visitor(tensor, Role::Initializer, &place.field("initializer").at(index))?;
    }
    for (index, sparse) in graph.sparse_initializer.iter().enumerate() {
        in_sparse(sparse, &place.field("sparse_initializer").at(index), visitor)?;
    }
    Ok(())
}

fn in_nodes<'m, E>(
    nodes: &'m [proto::NodeProto],
    place: &Place<'_>,
    visitor: Visitor<'_, 'm, E>,
) -> Result<(), E> {
    for (index, node) in nodes.iter().enumerate() {
        let place = place.field("node").at(index);
        for (index, attribute) in node.attribute.iter().enumerate() {
            in_attribute(attribute, &place.field("attribute").at(index), visitor)?;
        }
    }
    Ok(())
}

fn in_attribute<'m, E>(
    attribute: &'m proto::AttributeProto,
    place: &Place<'_>,
    visitor: Visitor<'_, 'm, E>,
) -> Result<(), E> {
    if let Some(tensor) = &attribute.t {
        visitor(tensor, Role::Other, &place.field("t"))?;
    }
    for (index, tensor) in attribute.tensors.iter().enumerate() {
        visitor(tensor, Role::Other, &place.field("tensors").at(index))?;
    }
    if let Some(sparse) = &attribute.sparse_tensor {
        in_sparse(sparse, &place.field("sparse_tensor"), visitor)?;
    }
    for (index, sparse) in attribute.sparse_tensors.iter().enumerate() {
        in_sparse(sparse, &place.field("sparse_tensors").at(index), visitor)?;
    }
    if let Some(graph) = &attribute.g {
        in_graph(graph, &place.field("g"), visitor)?;
    }
    for (index, graph) in attribute.graphs.iter().enumerate() {
        in_graph(graph, &place.field("graphs").at(index), visitor)?;
    }
    Ok(())
}

fn in_sparse<'m, E>(
    sparse: &'m proto::SparseTensorProto,
    place: &Place<'_>,
    visitor: Visitor<'_, 'm, E>,
) -> Result<(), E> {
    for (field, tensor) in [("values", &sparse.values), ("indices", &sparse.indices)] {
        if let Some(tensor) = tensor {
            visitor(tensor, Role::Other, &place.field(field))?;
        }
    }
    Ok(())
}

/// Calls `visitor` for every tensor, in the order of [`visit`], until it fails.
pub(super) fn visit_mut<E>(model: &mut proto::ModelProto, visitor: MutVisitor<'_, E>) -> Result<(), E> {
    if let Some(graph) = &mut model.graph {
        in_graph_mut(graph, visitor)?;
    }
    for training in &mut model.training_info {
        for graph in [&mut training.initialization, &mut training.algorithm]
            .into_iter()
            .flatten()
        {
            in_graph_mut(graph, visitor)?;
        }
    }
    for function in &mut model.functions {
        for attribute in &mut function.attribute_proto {
            in_attribute_mut(attribute, visitor)?;
        }
        in_nodes_mut(&mut function.node, visitor)?;
    }
    Ok(())
}

/// Calls `visitor` for every tensor of a model, in an order that depends on its structure alone.
#[cfg(target_os = "linux")]
pub(crate) fn visit_tensors(model: &mut proto::ModelProto, visitor: &mut dyn FnMut(&mut proto::TensorProto)) {
    let Ok(()) = visit_mut(model, &mut |tensor, _| {
        visitor(tensor);
        Ok::<(), std::convert::Infallible>(())
    });
}

fn in_graph_mut<E>(graph: &mut proto::GraphProto, visitor: MutVisitor<'_, E>) -> Result<(), E> {
    in_nodes_mut(&mut graph.node, visitor)?;
    for tensor in &mut graph.initializer {
        visitor(tensor, Role::Initializer)?;
    }
    for sparse in &mut graph.sparse_initializer {
        in_sparse_mut(sparse, visitor)?;
    }
    Ok(())
}

fn in_nodes_mut<E>(nodes: &mut [proto::NodeProto], visitor: MutVisitor<'_, E>) -> Result<(), E> {
    for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
        in_attribute_mut(attribute, visitor)?;
    }
    Ok(())
}

fn in_attribute_mut<E>(attribute: &mut proto::AttributeProto, visitor: MutVisitor<'_, E>) -> Result<(), E> {
    for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
        visitor(tensor, Role::Other)?;
    }
    for sparse in attribute
        .sparse_tensor
        .iter_mut()
        .chain(&mut attribute.sparse_tensors)
    {
        in_sparse_mut(sparse, visitor)?;
    }
    for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
        in_graph_mut(graph, visitor)?;
    }
    Ok(())
}

fn in_sparse_mut<E>(sparse: &mut proto::SparseTensorProto, visitor: MutVisitor<'_, E>) -> Result<(), E> {
    for tensor in [&mut sparse.values, &mut sparse.indices].into_iter().flatten() {
        visitor(tensor, Role::Other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str) -> proto::TensorProto {
        proto::TensorProto {
            name: Some(name.to_owned()),
            ..Default::default()
        }
    }

    fn model() -> proto::ModelProto {
        let sparse = |name: &str| proto::SparseTensorProto {
            values: Some(tensor(&format!("{name} values"))),
            indices: Some(tensor(&format!("{name} indices"))),
            dims: vec![],
        };
        let body = |name: &str| proto::GraphProto {
            initializer: vec![tensor(name)],
            ..Default::default()
        };
        let attribute = proto::AttributeProto {
            t: Some(tensor("t")),
            tensors: vec![tensor("tensors")],
            sparse_tensor: Some(sparse("sparse")),
            sparse_tensors: vec![sparse("sparses")],
            g: Some(body("g")),
            graphs: vec![body("graphs")],
            ..Default::default()
        };
        let node = proto::NodeProto {
            attribute: vec![attribute.clone()],
            ..Default::default()
        };
        let graph = proto::GraphProto {
            node: vec![node.clone()],
            initializer: vec![tensor("initializer")],
            sparse_initializer: vec![sparse("initializer")],
            ..Default::default()
        };
        proto::ModelProto {
            graph: Some(graph.clone()),
            training_info: vec![proto::TrainingInfoProto {
                initialization: Some(graph.clone()),
                algorithm: Some(graph),
                ..Default::default()
            }],
            functions: vec![proto::FunctionProto {
                node: vec![node],
                attribute_proto: vec![attribute],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn both_visitors_see_every_tensor_in_the_same_order() {
        let mut model = model();
        let (mut read, mut written, mut places) = (Vec::new(), Vec::new(), Vec::new());
        visit(&model, &mut |tensor, role, place| {
            read.push((tensor.name.clone(), role));
            places.push(place.to_string());
            Ok::<_, ()>(())
        })
        .unwrap();
        visit_mut(&mut model, &mut |tensor, role| {
            written.push((tensor.name.clone(), role));
            Ok::<_, ()>(())
        })
        .unwrap();
        // Eight in an attribute; three graphs with one node and three tensors each; one function with two attributes.
        assert_eq!(read.len(), 3 * (8 + 3) + 2 * 8);
        assert_eq!(read, written);
        assert!(places.contains(
            &"training_info[0].algorithm.node[0].attribute[0].graphs[0].initializer[0]".to_owned()
        ));
        assert!(places.contains(&"functions[0].attribute_proto[0].sparse_tensor.values".to_owned()));
        places.sort();
        places.dedup();
        assert_eq!(places.len(), read.len());
    }
}
