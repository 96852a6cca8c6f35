//! Gradients of whole models against those that PyTorch computed: tract, and ONNX Runtime where one is installed.

use std::path::{Path, PathBuf};

use npyz::NpyFile;
use secateur::autodiff::{GradientOptions, InputIs, Loss, Wrt, gradients};
use secateur::engine::{CompileOptions, Engine, OrtEngine, RunValue, RunValues, TractEngine};
use secateur::format::{ReadOptions, read};
use secateur::ir::{Element, Tensor};
use secateur::lower;
use zip::ZipArchive;

use super::check::tensor;

const LOSS: Loss = Loss::CrossEntropy {
    input: InputIs::Auto,
    axis: None,
};

fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("SECATEUR_CORPUS").map(PathBuf::from);
    if root.is_none() {
        crate::corpus::skip("SECATEUR_CORPUS is not set");
    }
    root
}

fn array<T: Element + npyz::Deserialize>(
    archive: &mut ZipArchive<std::fs::File>,
    name: &str,
) -> (Vec<u64>, Vec<T>) {
    let entry = archive
        .by_name(&format!("{name}.npy"))
        .unwrap_or_else(|e| panic!("array {name}: {e}"));
    let file = NpyFile::new(entry).unwrap();
    (file.shape().to_vec(), file.into_vec().unwrap())
}

fn engines() -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(TractEngine)];
    match OrtEngine::load() {
        Ok(ort) => engines.push(Box::new(ort)),
        Err(error) => crate::corpus::skip(&format!("without ONNX Runtime: {error}")),
    }
    engines
}

fn compare(folder: &Path, model_path: &str, name: &str, tolerance: f64) {
    let loaded = read(folder.join("models").join(model_path), &ReadOptions::default())
        .unwrap()
        .model;
    let file = std::fs::File::open(folder.join("gradients").join(format!("{name}.npz"))).unwrap();
    let mut archive = ZipArchive::new(file).unwrap();
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|entry| {
            Some(
                entry
                    .ok()?
                    .strip_prefix("grad/")?
                    .strip_suffix(".npy")?
                    .to_owned(),
            )
        })
        .collect();
    let options = GradientOptions::default();
    let model =
        gradients(&loaded, &LOSS, &Wrt::Parameters, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (dims, x) = array::<f32>(&mut archive, "x");
    let (_, y) = array::<i64>(&mut archive, "y");
    let (_, loss) = array::<f32>(&mut archive, "loss");
    let input = loaded
        .graph
        .inputs()
        .first()
        .and_then(|id| loaded.graph.value(secateur::ir::ValueId::new(*id, 0)));
    let feeds: RunValues = [
        (
            input.unwrap().name.to_string(),
            Tensor::from_slice(&dims, &x).unwrap(),
        ),
        (
            "labels".to_owned(),
            Tensor::from_slice(&[y.len() as u64], &y).unwrap(),
        ),
    ]
    .into_iter()
    .map(|(name, tensor)| (name, RunValue::Tensor(tensor)))
    .collect();
    for engine in engines() {
        let lowered = lower::for_engine(&model, &*engine).unwrap();
        let compile = CompileOptions {
            optimise: true,
            ..CompileOptions::default()
        };
        let session = engine
            .compile(&lowered, &compile)
            .unwrap_or_else(|e| panic!("{name} {}: {e}", engine.name()));
        let result = session
            .run(&feeds)
            .unwrap_or_else(|e| panic!("{name} {}: {e}", engine.name()));
        let found = tensor(&result, "loss").single_f64().unwrap();
        assert!(
            (found - f64::from(loss[0])).abs() < 1e-5,
            "{name}: loss {found}, PyTorch's {}",
            loss[0]
        );
        let mut worst = (0.0f64, String::new());
        for initializer in &names {
            let gradient = tensor(&result, &format!("grad/{initializer}"));
            let (shape, expected) = array::<f32>(&mut archive, &format!("grad/{initializer}"));
            let all = gradient.to_f64().unwrap();
            let index = format!("index/{initializer}");
            let found: Vec<f64> = if archive.index_for_name(&format!("{index}.npy")).is_some() {
                let (_, places) = array::<i64>(&mut archive, &index);
                let (_, norm) = array::<f32>(&mut archive, &format!("norm/{initializer}"));
                let found_norm = all.iter().map(|v| v * v).sum::<f64>().sqrt();
                let norm = f64::from(norm[0]);
                assert!(
                    (found_norm - norm).abs() <= tolerance * norm,
                    "{name} {initializer}: norm {found_norm}, not {norm}"
                );
                places.iter().map(|at| all[*at as usize]).collect()
            } else {
                assert_eq!(gradient.dims(), shape, "{name} {initializer}");
                all
            };
            let length = expected.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let error = found
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - f64::from(*b)).powi(2))
                .sum::<f64>()
                .sqrt();
            assert_eq!(found.len(), expected.len());
            let relative = error / length.max(1e-12);
            if relative > worst.0 {
                worst = (relative, initializer.clone());
            }
        }
        println!(
            "{name}: {} tensors, {}: worst relative error {:.1e} ({})",
            names.len(),
            engine.name(),
            worst.0,
            worst.1
        );
        assert!(
            worst.0 <= tolerance,
            "{name} through {}: {} of {}",
            engine.name(),
            worst.0,
            worst.1
        );
    }
}

fn run(models: &[(&str, &str, f64)]) {
    let Some(folder) = corpus() else { return };
    for (model, name, tolerance) in models {
        compare(&folder, model, name, *tolerance);
    }
}

#[test]
fn perceptrons_and_convolutional_networks_have_pytorch_gradients() {
    run(&[
        ("trained/digits_mlp.onnx", "digits_mlp", 1e-4),
        ("trained/digits_cnn_bn.onnx", "digits_cnn_bn", 1e-4),
        ("trained/lenet_300_100_mnist.onnx", "lenet_300_100_mnist", 1e-4),
        ("trained/lenet5_mnist.onnx", "lenet5_mnist", 1e-4),
        ("trained/resnet8_cifar10_bn.onnx", "resnet8_cifar10_bn", 1e-4),
    ]);
}

#[test]
fn recurrent_networks_have_pytorch_gradients() {
    run(&[
        ("trained/digits_gru.onnx", "digits_gru", 1e-4),
        ("trained/lstm128_mnist.onnx", "lstm128_mnist", 1e-4),
    ]);
}

#[test]
fn transformers_have_pytorch_gradients() {
    run(&[
        ("trained/digits_vit.onnx", "digits_vit", 1e-4),
        ("trained/vit_d64x4_mnist.onnx", "vit_d64x4_mnist", 1e-4),
    ]);
}

/// Kinks of ReLU6 decide here: rounding alone is 2e-3.
#[test]
fn depthwise_networks_have_pytorch_gradients() {
    run(&[(
        "pretrained/mobilenet_v2_torchvision_bn.onnx",
        "mobilenet_v2_torchvision_bn",
        1e-2,
    )]);
}
