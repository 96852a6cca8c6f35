//! The node on which an engine ends or hangs: each operator is compiled alone until one ends it or takes too long.

use std::time::{Duration, Instant};

use crate::engine::EngineError;
use crate::ir::{Graph, GraphBuilder, GraphOutput, Input, Model, NodeId, Slot, Value, ValueId};

/// How long to look.
const TIME: Duration = Duration::from_secs(3);

/// The first operator of the main graph, in its order, whose own model ends the engine.
pub(in crate::engine) fn locate(
    model: &Model,
    compile: &dyn Fn(&Model) -> Result<(), EngineError>,
) -> Option<String> {
    let until = Instant::now() + TIME;
    for id in model.graph.topological_order() {
        if Instant::now() > until {
            return None;
        }
        let Some(alone) = alone(&model.graph, id) else {
            continue;
        };
        let alone = Model {
            header: model.header.clone(),
            opset_imports: model.opset_imports.clone(),
            metadata: Vec::new(),
            graph: alone,
            functions: model.functions.clone(),
        };
        if compile(&alone).is_err_and(|error| error.ends_the_engine()) {
            return Some(model.graph.label(id));
        }
    }
    None
}

/// A graph of one operator: its constants stay, its other operands are inputs of the types they have.
fn alone(graph: &Graph, id: NodeId) -> Option<Graph> {
    let operator = graph.operator(id)?;
    if operator.has_bodies() {
        return None;
    }
    let mut builder = GraphBuilder::new();
    let mut made: Vec<(ValueId, ValueId)> = Vec::new();
    let mut inputs = Vec::new();
    for value in graph.inputs_of(id) {
        let Some(value) = value else {
            inputs.push(None);
            continue;
        };
        let own = match made.iter().find(|(known, _)| *known == value) {
            Some((_, own)) => *own,
            None => {
                let name = format!("i{}", made.len());
                let own = match graph.constant(value) {
                    Some(tensor) => builder.initializer(name, tensor.clone()),
                    None => builder.input(Value::typed(name, graph.ty(value).clone()), Input::default()),
                };
                made.push((value, own));
                own
            }
        };
        inputs.push(Some(own));
    }
    let node = graph.get(id)?;
    let outputs: Vec<Value> = node.outputs().to_vec();
    let own = builder.operator(
        operator.clone(),
        inputs.len(),
        0,
        outputs.clone(),
        node.name.clone(),
        node.meta.as_deref().cloned(),
    );
    for (index, value) in inputs.into_iter().enumerate() {
        if let Some(value) = value {
            builder.connect(value, own, Slot::Input(index as u32));
        }
    }
    for (index, value) in outputs.into_iter().enumerate() {
        if !value.omitted {
            let output = GraphOutput {
                name: value.name,
                declared: None,
                ty: value.ty,
            };
            builder.output(output, Some(ValueId::new(own, index)));
        }
    }
    Some(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ExternalFiles, lift, text};

    #[test]
    fn the_node_that_hangs_or_crashes_alone_is_named() {
        let message = text::parse_model(
            "<ir_version: 8, opset_import: [\"\" : 17]> g (float[4] x) => (float[4] z) { a = Abs(x) y = Relu(a) z = Neg(y) }",
        );
        let model = lift(message.unwrap(), &ExternalFiles::default()).unwrap();
        let late = |_: &str| EngineError::TimedOut {
            engine: "tract",
            at: "compiling",
            seconds: 2.0,
            node: None,
        };
        let gone = |how: &str| EngineError::Ended {
            engine: "tract",
            how: how.to_owned(),
            at: "compiling",
            node: None,
        };
        let answers: [&dyn Fn(&str) -> EngineError; 2] = [&late, &gone];
        for answer in answers {
            let compile = |alone: &Model| {
                let has = |op_type| {
                    alone
                        .graph
                        .node_ids()
                        .any(|id| alone.graph.operator(id).is_some_and(|op| op.is(op_type)))
                };
                if has("Relu") {
                    Err(answer("signal 11"))
                } else {
                    Ok(())
                }
            };
            assert_eq!(locate(&model, &compile).as_deref(), Some("y"));
        }
        assert_eq!(locate(&model, &|_| Ok(())), None);
    }
}
