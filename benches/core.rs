//! Decode, encode, shape inference, rule matching and folding on a fixture and on a chain of redundant blocks.

use std::hint::black_box;
use std::path::Path;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secateur::analysis;
use secateur::fold::TractEvaluator;
use secateur::format::{ReadOptions, encode_to_bytes, lift, model_to_proto, read_proto};
use secateur::ir::{
    DType, Dim, Graph, GraphBuilder, GraphOutput, Input, Model, Operator, Tensor, Value, ValueType,
};
use secateur::passes::{Context, FoldConstants, Limits, Pass, Simplify};
use secateur::rewrite::{Options, RuleSet, apply};

const FIXTURE: &str = "fixtures/resnet8_cifar10_bn.onnx";

fn model(bytes: &Bytes) -> Option<Model> {
    let decoded = read_proto(bytes.clone(), &ReadOptions::default()).ok()?;
    lift(decoded.model, &decoded.origin.external).ok()
}

/// Blocks of Transpose, Transpose back, Identity, Add 0, Mul 1, Reshape to the same shape and two Relus over `float[2, 3]`.
fn chain(blocks: usize, base: &Model) -> Model {
    let mut builder = GraphBuilder::new();
    let ty = ValueType::tensor(
        DType::F32,
        Some([Dim::Fixed(2), Dim::Fixed(3)].into_iter().collect()),
    );
    let mut value = builder.input(Value::typed("x", ty.clone()), Input::default());
    let zero = builder.initializer("zero", Tensor::scalar(0.0f32));
    let one = builder.initializer("one", Tensor::scalar(1.0f32));
    let shape = builder.initializer("shape", Tensor::vector_i64(&[2, 3]));
    let transpose = || Operator::new("Transpose").with("perm", vec![1i64, 0]);
    for block in 0..blocks {
        let steps = [
            (transpose(), None),
            (transpose(), None),
            (Operator::new("Identity"), None),
            (Operator::new("Add"), Some(zero)),
            (Operator::new("Mul"), Some(one)),
            (Operator::new("Reshape"), Some(shape)),
            (Operator::new("Relu"), None),
            (Operator::new("Relu"), None),
        ];
        for (at, (operator, second)) in steps.into_iter().enumerate() {
            let inputs: Vec<_> = [Some(value), second]
                .into_iter()
                .take(1 + usize::from(second.is_some()))
                .collect();
            let node = builder.node(operator, &inputs, vec![Value::named(format!("v{block}_{at}"))]);
            value = secateur::ir::ValueId::new(node, 0);
        }
    }
    let name = builder
        .graph()
        .value(value)
        .map(|v| v.name.clone())
        .unwrap_or_default();
    builder.output(
        GraphOutput {
            name,
            declared: None,
            ty,
        },
        Some(value),
    );
    let graph: Graph = builder.finish();
    Model {
        graph,
        functions: Vec::new(),
        ..base.clone()
    }
}

fn context() -> Context<'static> {
    Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: regex::RegexSet::empty(),
        seed: 0,
        base: Path::new("").to_owned(),
        progress: &|_, _, _| {},
        resources: None,
    }
}

fn formats(c: &mut Criterion) {
    let Ok(bytes) = std::fs::read(FIXTURE).map(Bytes::from) else {
        return;
    };
    let Some(read) = model(&bytes) else { return };
    let mut group = c.benchmark_group("format");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("decode and lift", |b| b.iter(|| black_box(model(&bytes))));
    group.bench_function("lower and encode", |b| {
        b.iter(|| {
            black_box(model_to_proto(&read, &Default::default()).map(|message| encode_to_bytes(&message)))
        })
    });
    group.finish();
}

fn rewriting(c: &mut Criterion) {
    let Ok(bytes) = std::fs::read(FIXTURE).map(Bytes::from) else {
        return;
    };
    let Some(base) = model(&bytes) else { return };
    let mut group = c.benchmark_group("chain");
    group.sample_size(10);
    for blocks in [250, 1000, 4000] {
        let nodes = blocks * 8;
        let raw = chain(blocks, &base);
        let mut inferred = raw.clone();
        analysis::infer(&mut inferred);
        group.throughput(Throughput::Elements(nodes as u64));
        group.bench_with_input(BenchmarkId::new("infer", nodes), &raw, |b, raw| {
            b.iter(|| {
                let mut model = raw.clone();
                analysis::infer(&mut model);
                black_box(model)
            })
        });
        group.bench_with_input(BenchmarkId::new("rules", nodes), &inferred, |b, inferred| {
            b.iter(|| {
                let mut model = inferred.clone();
                let rules = RuleSet::embedded()
                    .map(|rules| apply(&mut model, rules, &Options::new(&TractEvaluator)).is_ok());
                black_box((model, rules.is_ok()))
            })
        });
        group.bench_with_input(BenchmarkId::new("fold", nodes), &inferred, |b, inferred| {
            b.iter(|| {
                let mut model = inferred.clone();
                black_box(FoldConstants::default().run(&mut model, &context()).is_ok())
            })
        });
        group.bench_with_input(BenchmarkId::new("simplify", nodes), &raw, |b, raw| {
            b.iter(|| {
                let mut model = raw.clone();
                black_box(Simplify::default().run(&mut model, &context()).is_ok())
            })
        });
    }
    group.finish();
}

criterion_group!(benches, formats, rewriting);
criterion_main!(benches);
