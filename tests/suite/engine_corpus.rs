//! Real models: tract after lowering against the user's ONNX Runtime, on the corpus' own inputs.

use std::path::PathBuf;

use secateur::engine::{CompileOptions, Engine, EngineError, OrtEngine, RunValue, RunValues, TractEngine};
use secateur::format::{ReadOptions, lift, read_proto};
use secateur::ir::{DType, Tensor};
use secateur::lower::for_engine;

/// The inputs that the corpus says run: element type, shape, and a constant or a half-open range.
fn inputs(recipe: &serde_json::Value) -> RunValues {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut uniform = move || {
        // xorshift: any fixed sequence serves.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let one = |(name, spec): (&String, &serde_json::Value)| {
        let dims: Vec<u64> = spec["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dim| dim.as_u64().unwrap())
            .collect();
        let count = dims.iter().product::<u64>() as usize;
        let whole = !spec["dtype"].as_str().unwrap().starts_with("float");
        let values: Vec<f64> = match spec
            .get("value")
            .and_then(|value| value.as_f64().or(value.as_bool().map(f64::from)))
        {
            Some(value) => vec![value; count],
            None => {
                let (low, high) = (spec["lo"].as_f64().unwrap(), spec["hi"].as_f64().unwrap());
                let value = |at: f64| low + at * (high - low);
                (0..count)
                    .map(|_| value(uniform()))
                    .map(|v| if whole { v.floor() } else { v })
                    .collect()
            }
        };
        let tensor = match spec["dtype"].as_str().unwrap() {
            "float32" => Tensor::from_f64(DType::F32, &dims, &values),
            "float64" => Tensor::from_f64(DType::F64, &dims, &values),
            "float16" => Tensor::from_f64(DType::F16, &dims, &values),
            "int64" => Tensor::from_slice(&dims, &values.iter().map(|v| *v as i64).collect::<Vec<_>>()),
            "int32" => Tensor::from_slice(&dims, &values.iter().map(|v| *v as i32).collect::<Vec<_>>()),
            "uint8" => Tensor::from_slice(&dims, &values.iter().map(|v| *v as u8).collect::<Vec<_>>()),
            "bool" => Tensor::from_bools(&dims, &values.iter().map(|v| *v != 0.0).collect::<Vec<_>>()),
            other => panic!("{name}: {other}"),
        };
        (name.clone(), RunValue::Tensor(tensor.unwrap()))
    };
    recipe.as_object().unwrap().iter().map(one).collect()
}

/// The largest difference of a float output, as a share of its largest element; for other types 0 or 1.
fn distance(found: &RunValue, expected: &RunValue) -> f64 {
    let (RunValue::Tensor(found), RunValue::Tensor(expected)) = (found, expected) else {
        return 1.0;
    };
    if found.dims() != expected.dims() || found.dtype() != expected.dtype() {
        return f64::INFINITY;
    }
    if !found.dtype().is_float() {
        return f64::from(u8::from(!found.same_as(expected)));
    }
    let (found, expected) = (found.to_f64().unwrap(), expected.to_f64().unwrap());
    let largest = expected
        .iter()
        .fold(1e-6f64, |largest, value| largest.max(value.abs()));
    found.iter().zip(&expected).fold(0.0, |worst: f64, (a, b)| {
        if a.is_nan() && b.is_nan() || a == b {
            worst
        } else {
            worst.max((a - b).abs() / largest)
        }
    })
}

#[test]
#[ignore = "minutes: run by name"]
fn tract_and_the_runtime_agree_on_real_models() {
    let Some(corpus) = std::env::var_os("SECATEUR_CORPUS").map(PathBuf::from) else {
        return super::corpus::skip("SECATEUR_CORPUS is not set");
    };
    let ort = match OrtEngine::load() {
        Ok(engine) => engine,
        Err(EngineError::Unavailable { reason, .. }) => return super::corpus::skip(&reason),
        Err(other) => panic!("{other}"),
    };
    let recipes: serde_json::Value =
        serde_json::from_slice(&std::fs::read(corpus.join("inputs.json")).unwrap()).unwrap();
    let architectures = std::env::var_os("SECATEUR_ARCHITECTURES").map(PathBuf::from);
    let (mut within, mut quantized, mut off, mut not_checked) = (0, Vec::new(), Vec::new(), Vec::new());
    for (name, recipe) in recipes.as_object().unwrap() {
        let path = match (name.strip_prefix("arch/"), &architectures) {
            (Some(file), Some(folder)) => folder.join(file),
            (Some(_), None) => continue,
            (None, _) => corpus.join(name),
        };
        if std::env::var("ONLY").is_ok_and(|only| !name.contains(&only)) || !path.is_file() {
            continue;
        }
        let read = read_proto(&path, &ReadOptions::default()).unwrap();
        let model = lift(read.model, &read.origin.external).unwrap();
        let inputs = inputs(recipe);
        let options = CompileOptions {
            threads: 1,
            ..CompileOptions::default()
        };
        let run = |engine: &dyn Engine| {
            let lowered = for_engine(&model, engine).unwrap();
            engine.compile(&lowered, &options)?.run(&inputs)
        };
        let expected = run(&ort).unwrap_or_else(|error| panic!("{name}: {error}"));
        let start = std::time::Instant::now();
        match run(&TractEngine) {
            Err(error) => not_checked.push(format!(
                "{name}: {}",
                error.to_string().chars().take(300).collect::<String>()
            )),
            Ok(found) => {
                let worst = expected
                    .iter()
                    .map(|(output, value)| found.get(output).map_or(f64::INFINITY, |f| distance(f, value)));
                let worst = worst.fold(0.0, f64::max);
                println!("{name}: {worst:.1e} in {:?}", start.elapsed());
                let has = |part: &str| {
                    let mut operators = model.graph.node_ids().filter_map(|id| model.graph.operator(id));
                    operators.any(|op| op.op_type.contains(part))
                };
                // Sixteen bits round ten times as coarsely as the tolerance; and on processors without VNNI the runtime
                // saturates sums of bytes, where tract has the sums of the specification.
                if worst <= if name.contains("fp16") { 1e-2 } else { 1e-3 } {
                    within += 1;
                } else if has("QLinear") || has("QGemm") {
                    quantized.push(format!("{name}: {worst:.1e}"));
                } else {
                    off.push(format!("{name}: {worst:.1e}"));
                }
            }
        }
    }
    println!(
        "{within} within tolerance\nquantized and further apart: {quantized:#?}\nnot checked: {not_checked:#?}"
    );
    assert!(off.is_empty(), "{off:#?}");
}
