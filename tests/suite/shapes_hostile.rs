//! Inference survives any attributes, dimensions and constants.

use bytes::Bytes;
use prost::Message as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use secateur::analysis::{check, cost, infer};
use secateur::format::{ExternalFiles, lift};
use secateur::proto;

use super::corpus;

/// Numbers that arithmetic on sizes goes wrong on.
const NUMBERS: [i64; 14] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    -3,
    1 << 31,
    -(1 << 31),
    (1 << 62) + 1,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
    4_294_967_296,
];

fn number(random: &mut ChaCha8Rng) -> i64 {
    NUMBERS[random.next_u32() as usize % NUMBERS.len()]
}

fn chance(random: &mut ChaCha8Rng, one_in: u32) -> bool {
    random.next_u32().is_multiple_of(one_in)
}

fn spoil_attributes(node: &mut proto::NodeProto, random: &mut ChaCha8Rng) {
    for attribute in &mut node.attribute {
        if let Some(value) = attribute.i.as_mut().filter(|_| chance(random, 3)) {
            *value = number(random);
        }
        for value in &mut attribute.ints {
            if chance(random, 3) {
                *value = number(random);
            }
        }
        if !attribute.ints.is_empty() && chance(random, 6) {
            attribute.ints.pop();
        }
        if let Some(graph) = attribute.g.as_mut() {
            spoil_graph(graph, random);
        }
    }
    if !node.attribute.is_empty() && chance(random, 8) {
        node.attribute.pop();
    }
    if !node.input.is_empty() && chance(random, 8) {
        node.input.pop();
    }
    if let Some(input) = node.input.first_mut().filter(|_| chance(random, 12)) {
        input.clear();
    }
    if chance(random, 12) {
        let more = node.input.first().cloned().unwrap_or_default();
        node.input.push(more);
    }
}

fn spoil_graph(graph: &mut proto::GraphProto, random: &mut ChaCha8Rng) {
    use proto::tensor_shape_proto::dimension::Value;
    for node in &mut graph.node {
        spoil_attributes(node, random);
    }
    for info in &mut graph.input {
        let Some(proto::type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|ty| ty.value.as_mut())
        else {
            continue;
        };
        let Some(shape) = &mut tensor.shape else { continue };
        for dim in &mut shape.dim {
            if chance(random, 4) {
                dim.value = match random.next_u32() % 3 {
                    0 => None,
                    1 => Some(Value::DimParam("N".to_owned())),
                    _ => Some(Value::DimValue(number(random))),
                };
            }
        }
        if chance(random, 10) {
            shape.dim.pop();
        }
        if chance(random, 20) {
            tensor.shape = None;
        }
    }
    for tensor in &mut graph.initializer {
        if tensor.data_type == Some(7) && tensor.dims.len() <= 1 {
            for value in &mut tensor.int64_data {
                if chance(random, 3) {
                    *value = number(random);
                }
            }
            if let Some(raw) = &tensor.raw_data {
                let spoiled = raw.chunks(8).flat_map(|bytes| {
                    let value = if chance(random, 3) {
                        number(random).to_le_bytes().to_vec()
                    } else {
                        bytes.to_vec()
                    };
                    value.into_iter().take(bytes.len()).collect::<Vec<u8>>()
                });
                tensor.raw_data = Some(Bytes::from(spoiled.collect::<Vec<u8>>()));
            }
        }
    }
}

/// Puts the recorded inputs in as initializers, so that constants can be spoiled.
fn with_constants(model: &mut proto::ModelProto, folder: &std::path::Path) {
    let Some(graph) = model.graph.as_mut() else { return };
    let mut kept = Vec::new();
    for (index, info) in std::mem::take(&mut graph.input).into_iter().enumerate() {
        let file = folder.join("test_data_set_0").join(format!("input_{index}.pb"));
        let tensor = std::fs::read(file)
            .ok()
            .and_then(|bytes| proto::TensorProto::decode(Bytes::from(bytes)).ok());
        match tensor.filter(|tensor| tensor.data_type == Some(7) && tensor.dims.len() <= 1) {
            Some(mut tensor) => {
                tensor.name = info.name.clone();
                graph.initializer.push(tensor);
            }
            None => kept.push(info),
        }
    }
    graph.input = kept;
}

#[test]
fn spoiled_node_tests_are_inferred_without_a_panic() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut inferred, mut refused) = (0, 0);
    for path in corpus::node_tests() {
        let mut model = proto::ModelProto::decode(Bytes::from(std::fs::read(&path).unwrap())).unwrap();
        with_constants(&mut model, path.parent().unwrap());
        for _ in 0..3 {
            let mut spoiled = model.clone();
            spoil_graph(spoiled.graph.as_mut().unwrap(), &mut random);
            match lift(spoiled, &ExternalFiles::default()) {
                Ok(mut model) => {
                    let _ = check(&model);
                    infer(&mut model);
                    // A second run finds nothing new to contradict the first.
                    let first: Vec<_> = types(&model);
                    infer(&mut model);
                    assert_eq!(first, types(&model), "{}", path.display());
                    let _ = cost(&model, &|_| Some(i64::MAX));
                    inferred += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{refused} spoiled models refused");
    corpus::ran(inferred, 3000);
    assert!(inferred >= refused);
}

fn types(model: &secateur::ir::Model) -> Vec<String> {
    model
        .graph
        .output_values()
        .into_iter()
        .flatten()
        .map(|value| model.graph.ty(value).to_string())
        .collect()
}
