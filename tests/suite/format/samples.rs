//! Small models, made here.

use std::path::Path;

use bytes::Bytes;
use secateur::format::{ReadOptions, read_proto};
use secateur::proto;
use secateur::proto::type_proto::Value as Type;

/// A tensor of bytes.
pub(super) fn tensor(name: &str, content: &[u8]) -> proto::TensorProto {
    proto::TensorProto {
        name: Some(name.to_owned()),
        dims: vec![content.len() as i64],
        data_type: Some(2),
        raw_data: Some(Bytes::copy_from_slice(content)),
        ..Default::default()
    }
}

/// A tensor whose bytes are elsewhere; `entries` are `external_data`.
pub(super) fn external_tensor(name: &str, length: i64, entries: &[(&str, &str)]) -> proto::TensorProto {
    proto::TensorProto {
        name: Some(name.to_owned()),
        dims: vec![length],
        data_type: Some(2),
        data_location: Some(1),
        external_data: entries.iter().map(|(key, value)| entry(key, value)).collect(),
        ..Default::default()
    }
}

pub(super) fn entry(key: &str, value: &str) -> proto::StringStringEntryProto {
    proto::StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    }
}

/// A model with these initializers, which are its outputs.
pub(super) fn model(initializer: Vec<proto::TensorProto>) -> proto::ModelProto {
    let output = initializer
        .iter()
        .map(|t| value(t.name.as_deref().unwrap_or(""), 2, &[Some(t.dims[0])]))
        .collect();
    let graph = proto::GraphProto {
        name: Some("g".to_owned()),
        initializer,
        output,
        ..Default::default()
    };
    proto::ModelProto {
        ir_version: Some(10),
        opset_import: vec![proto::OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(21),
        }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn value(name: &str, elem_type: i32, dims: &[Option<i64>]) -> proto::ValueInfoProto {
    use proto::tensor_shape_proto::{Dimension, dimension};
    let dim = dims
        .iter()
        .map(|dim| Dimension {
            value: Some(match dim {
                Some(number) => dimension::Value::DimValue(*number),
                None => dimension::Value::DimParam("n".to_owned()),
            }),
            denotation: None,
        })
        .collect();
    let tensor = proto::type_proto::Tensor {
        elem_type: Some(elem_type),
        shape: Some(proto::TensorShapeProto { dim }),
    };
    proto::ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(proto::TypeProto {
            value: Some(proto::type_proto::Value::TensorType(tensor)),
            denotation: None,
        }),
        ..Default::default()
    }
}

fn of(value: proto::type_proto::Value) -> proto::TypeProto {
    proto::TypeProto {
        value: Some(value),
        denotation: None,
    }
}

/// About 1 KB with something of everything: a body with a capture, a function, typed and raw tensors, a sparse tensor,
/// metadata, annotations, training information and device configurations.
pub(super) fn rich() -> proto::ModelProto {
    let node =
        |op: &str, input: &[&str], output: &[&str], attribute: Vec<proto::AttributeProto>| proto::NodeProto {
            op_type: Some(op.to_owned()),
            input: input.iter().map(|s| (*s).to_owned()).collect(),
            output: output.iter().map(|s| (*s).to_owned()).collect(),
            attribute,
            ..Default::default()
        };
    let attribute = |name: &str, kind: i32| proto::AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind),
        ..Default::default()
    };
    let branch = |name: &str, output: &str| proto::GraphProto {
        name: Some(name.to_owned()),
        node: vec![node("Add", &["x", "w"], &[output], vec![])],
        output: vec![value(output, 1, &[None, Some(2)])],
        ..Default::default()
    };
    let weights = proto::TensorProto {
        name: Some("w".to_owned()),
        dims: vec![2],
        data_type: Some(1),
        float_data: vec![0.5, -0.0],
        doc_string: Some("weights".to_owned()),
        ..Default::default()
    };
    let sparse = proto::SparseTensorProto {
        values: Some(tensor("s", &[1, 2])),
        indices: Some(proto::TensorProto {
            dims: vec![2],
            data_type: Some(7),
            int64_data: vec![0, 3],
            ..Default::default()
        }),
        dims: vec![4],
    };
    let mut choice = node(
        "If",
        &["flag"],
        &["y"],
        vec![
            proto::AttributeProto {
                g: Some(branch("then", "t")),
                ..attribute("then_branch", 5)
            },
            proto::AttributeProto {
                g: Some(branch("else", "e")),
                ..attribute("else_branch", 5)
            },
        ],
    );
    choice.name = Some("choice".to_owned());
    choice.metadata_props = vec![entry("origin", "here")];
    choice.device_configurations = vec![proto::NodeDeviceConfigurationProto {
        configuration_id: Some("pair".to_owned()),
        pipeline_stage: Some(0),
        sharding_spec: vec![proto::ShardingSpecProto {
            tensor_name: Some("x".to_owned()),
            device: vec![0, -1],
            index_to_device_group_map: vec![proto::IntIntListEntryProto {
                key: Some(-1),
                value: vec![0, 1],
            }],
            sharded_dim: vec![proto::ShardedDimProto {
                axis: Some(0),
                simple_sharding: vec![proto::SimpleShardedDimProto {
                    num_shards: Some(2),
                    dim: Some(proto::simple_sharded_dim_proto::Dim::DimParam("n".to_owned())),
                }],
            }],
        }],
    }];
    let typed = |name: &str, value: Type| proto::ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(of(value)),
        ..Default::default()
    };
    let element = || Some(Box::new(of(Type::TensorType(Default::default()))));
    let nested = vec![
        typed(
            "sequence",
            Type::SequenceType(Box::new(proto::type_proto::Sequence { elem_type: element() })),
        ),
        typed(
            "optional",
            Type::OptionalType(Box::new(proto::type_proto::Optional { elem_type: element() })),
        ),
        typed(
            "map",
            Type::MapType(Box::new(proto::type_proto::Map {
                key_type: Some(8),
                value_type: element(),
            })),
        ),
        typed(
            "sparse",
            Type::SparseTensorType(proto::type_proto::SparseTensor {
                elem_type: Some(1),
                shape: None,
            }),
        ),
        typed(
            "opaque",
            Type::OpaqueType(proto::type_proto::Opaque {
                domain: Some("d".to_owned()),
                name: None,
            }),
        ),
    ];
    let other = |name: &str, data_type: i32| proto::TensorProto {
        name: Some(name.to_owned()),
        dims: vec![2],
        data_type: Some(data_type),
        ..Default::default()
    };
    let more = vec![
        proto::TensorProto {
            int32_data: vec![-1, 70_000],
            ..other("int32", 6)
        },
        proto::TensorProto {
            double_data: vec![0.1, f64::INFINITY],
            ..other("double", 11)
        },
        proto::TensorProto {
            uint64_data: vec![0, u64::MAX],
            ..other("uint64", 13)
        },
        proto::TensorProto {
            string_data: vec![Bytes::from_static(b"a"), Bytes::new()],
            ..other("string", 8)
        },
        proto::TensorProto {
            raw_data: Some(Bytes::from_static(&[0x21])),
            ..other("int4", 22)
        },
    ];
    let graph = proto::GraphProto {
        name: Some("main".to_owned()),
        node: vec![
            choice,
            node(
                "Local",
                &["y"],
                &["z"],
                vec![proto::AttributeProto {
                    i: Some(0),
                    ..attribute("k", 2)
                }],
            ),
            node(
                "Constant",
                &[],
                &["c"],
                vec![proto::AttributeProto {
                    floats: vec![1.0, f32::NAN],
                    ..attribute("value_floats", 6)
                }],
            ),
        ],
        initializer: [vec![weights, tensor("unused", &[1, 2, 3])], more].concat(),
        sparse_initializer: vec![sparse],
        input: vec![value("x", 1, &[None, Some(2)]), value("flag", 9, &[])],
        output: vec![value("z", 1, &[None, Some(2)])],
        value_info: [vec![value("y", 1, &[None, Some(2)])], nested].concat(),
        quantization_annotation: vec![proto::TensorAnnotation {
            tensor_name: Some("y".to_owned()),
            quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", "w")],
        }],
        metadata_props: vec![entry("graph", "metadata")],
        ..Default::default()
    };
    let function = proto::FunctionProto {
        name: Some("Local".to_owned()),
        domain: Some("here".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        attribute: vec!["k".to_owned()],
        node: vec![node("Identity", &["a"], &["b"], vec![])],
        opset_import: vec![proto::OperatorSetIdProto {
            domain: None,
            version: Some(21),
        }],
        ..Default::default()
    };
    let mut model = model(vec![]);
    model.producer_name = Some("samples".to_owned());
    model.producer_version = Some(String::new());
    model.doc_string = Some("ä text".to_owned());
    model.metadata_props = vec![entry("key", "value"), entry("key", "again")];
    model.opset_import.push(proto::OperatorSetIdProto {
        domain: Some("here".to_owned()),
        version: Some(1),
    });
    model.graph = Some(graph);
    model.functions = vec![function];
    model.training_info = vec![proto::TrainingInfoProto {
        initialization: Some(proto::GraphProto::default()),
        update_binding: vec![entry("w", "z")],
        ..Default::default()
    }];
    model.configuration = vec![proto::DeviceConfigurationProto {
        name: Some("pair".to_owned()),
        num_devices: Some(2),
        device: vec!["a".to_owned(), "b".to_owned()],
    }];
    model
}

/// Name and bytes of every initializer of the model at `path`, external data resolved.
pub(super) fn load(path: &Path) -> Result<Vec<(String, Vec<u8>)>, secateur::format::FormatError> {
    let decoded = read_proto(path, &ReadOptions::default())?;
    let graph = decoded.model.graph.unwrap_or_default();
    Ok(graph
        .initializer
        .iter()
        .map(|tensor| {
            let external = decoded.origin.external.tensor(tensor).unwrap();
            let bytes = external.or_else(|| tensor.raw_data.clone()).unwrap_or_default();
            (tensor.name.clone().unwrap_or_default(), bytes.to_vec())
        })
        .collect())
}
