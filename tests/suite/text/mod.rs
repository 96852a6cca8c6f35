//! ONNX's textual syntax through the public API.

mod equal;
mod errors;
mod printing;
mod random;
mod statements;
mod tensors;

use prost::Message as _;
use secateur::format::text::{PrintOptions, parse_model, parse_nodes, print_model};
use secateur::proto::{AttributeProto, ModelProto};

use crate::corpus;
use equal::normal;

fn whole() -> PrintOptions {
    PrintOptions::default()
}

/// The only attribute of `y = A <ATTRIBUTE> (x)`.
fn attribute(text: &str) -> AttributeProto {
    let nodes = parse_nodes(&format!("y = A <{text}> (x)")).unwrap_or_else(|error| panic!("{error}"));
    nodes[0].attribute[0].clone()
}

/// Reads, prints and reads again; panics where the model changed.
fn round_trip(name: &str, model: &ModelProto) {
    let text = print_model(model, &whole());
    let back = parse_model(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (before, after) = (normal(model.clone()), normal(back));
    if before.encode_to_vec() != after.encode_to_vec() {
        let parts = |model: &ModelProto| {
            let graph = model.graph.clone().unwrap_or_default();
            let nodes = graph.node.iter().map(|node| format!("{node:?}"));
            let tensors = graph.initializer.iter().map(|tensor| format!("{tensor:?}"));
            let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
            let functions = model.functions.iter().map(|function| format!("{function:?}"));
            nodes
                .chain(tensors)
                .chain(values.map(|value| format!("{value:?}")))
                .chain(functions)
                .collect::<Vec<_>>()
        };
        let (left, right) = (parts(&before), parts(&after));
        let different = left.iter().zip(&right).find(|(left, right)| left != right);
        panic!("{name} changed: {:.2000}", format!("{different:#?}"));
    }
}

#[test]
fn every_corpus_model_survives_the_text() {
    const LARGEST: u64 = 8 << 20;
    let (mut models, mut large) = (0, 0);
    for path in corpus::models().into_iter().chain(corpus::node_tests()) {
        let name = path.display().to_string();
        if std::fs::metadata(&path).unwrap().len() > LARGEST {
            large += 1;
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        round_trip(&name, &ModelProto::decode(bytes.as_slice()).unwrap());
        models += 1;
    }
    println!("{large} models over {LARGEST} bytes left out");
    corpus::ran(models, 1900);
}
