//! Gram matrices against the engine's own products: for weights `w` the sum of squared outputs is `w G wᵀ`, their sum `w·sum`.

use secateur::data::{Dataset, Spec, SyntheticSpec};
use secateur::statistics::gram::{GramOptions, Grams, collect, layers};

use super::*;

const LAYERS: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4,9,7] x, float[N,5,6] s) => (float[N,6,a,b] y0, float[N,4,c,d] y1, float[N,2,e,f] y2, float[N,2,h,i] y3, float[N,5,3] y4, float[N,5,3] y5)
<float[6,2,3,2] w0, float[4,1,3,3] w1, float[2,4,4,3] w2, float[2,4,2,2] w3, float[6,3] w4, float[6,3] w5> {
  y0 = Conv<group = 2, strides = [2, 1], pads = [1, 0, 2, 1]>(x, w0)
  y1 = Conv<group = 4, dilations = [2, 2], pads = [2, 2, 2, 2]>(x, w1)
  y2 = Conv<auto_pad = "SAME_UPPER", strides = [3, 2]>(x, w2)
  y3 = Conv<auto_pad = "SAME_LOWER">(x, w3)
  y4 = MatMul(s, w4)
  y5 = MatMul(s, w5)
}"#;

fn with_weights() -> Model {
    let mut text = LAYERS.to_owned();
    for (name, count) in [
        ("w0", 72),
        ("w1", 36),
        ("w2", 96),
        ("w3", 32),
        ("w4", 18),
        ("w5", 18),
    ] {
        let values: Vec<String> = (0..count)
            .map(|at| format!("{:.2}", (at * 37 % 23) as f64 / 10.0 - 1.1))
            .collect();
        text = text.replacen(
            &format!("] {name}"),
            &format!("] {name} = {{{}}}", values.join(",")),
            1,
        );
    }
    model(&text)
}

fn data(model: &Model, samples: u64) -> Dataset {
    let spec = Spec {
        synthetic: Some(SyntheticSpec::default()),
        samples: Some(samples),
        seed: Some(3),
        batch: Some(2),
        ..Spec::default()
    };
    Dataset::open(&spec, std::path::Path::new(""), &model.graph).unwrap()
}

fn gather(model: &Model, rows_per_sample: usize, jobs: usize) -> Grams {
    let (found, _) = layers(&model.graph);
    let options = GramOptions { rows_per_sample };
    collect(
        model,
        &found,
        options,
        &data(model, 5),
        &TractEngine,
        jobs,
        &|_| {},
    )
    .unwrap()
}

#[test]
fn quadratic_forms_of_gram_matrices_are_the_sums_of_the_engines_outputs() {
    let model = with_weights();
    let grams = gather(&model, usize::MAX, 2);
    let (found, skipped) = layers(&model.graph);
    assert_eq!((found.len(), skipped.len(), grams.by_key.len()), (6, 0, 5));
    let session = TractEngine.compile(&model, &CompileOptions::default()).unwrap();
    let data = data(&model, 5);
    let outputs: Vec<RunValues> = data
        .batches()
        .map(|index| session.run(&data.batch(index).unwrap().inputs).unwrap())
        .collect();
    for layer in &found {
        let name = &layer.label;
        let output = &model.graph.get(layer.node).unwrap().outputs()[0].name;
        let weights = layer
            .matrices(model.graph.constant(layer.weight).unwrap())
            .unwrap();
        let gram = grams.of(layer).unwrap();
        let channels = layer.groups * layer.outputs;
        let mut sums = vec![(0.0, 0.0, 0u64); channels];
        for values in &outputs {
            let RunValue::Tensor(tensor) = &values[output.as_ref() as &str] else {
                panic!("{name}")
            };
            let inner = if tensor.rank() == 3 {
                1
            } else {
                tensor.dims()[2..].iter().product::<u64>()
            };
            for (at, value) in tensor.to_f64().unwrap().iter().enumerate() {
                let sum = &mut sums[at / inner as usize % channels];
                *sum = (sum.0 + value, sum.1 + value * value, sum.2 + 1);
            }
        }
        for (channel, (sum, squares, count)) in sums.into_iter().enumerate() {
            let (group, row) = (channel / layer.outputs, channel % layer.outputs);
            let w = weights.slice(ndarray::s![group, row, ..]);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * squares.max(1.0);
            assert_eq!(gram[group].rows, count, "{name}");
            assert!(
                near(w.dot(&gram[group].matrix.dot(&w)), squares),
                "{name} {channel}"
            );
            assert!(near(w.dot(&gram[group].sum), sum), "{name} {channel}");
        }
    }
}

#[test]
fn chosen_rows_do_not_depend_on_threads_and_are_as_many_as_asked_for() {
    let model = with_weights();
    let one = gather(&model, 4, 1);
    assert_eq!(one, gather(&model, 4, 3));
    assert!(one.by_key.values().flatten().all(|gram| gram.rows == 20));
}

#[test]
fn nodes_without_rows_are_named_with_the_reason() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,4,4] x, float[3,2] a) => (float[1,2,5,5] y, float[2,2] z, float[2,2] t)
<float[2,2,2,2] w = {1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0}, float[2,3] v = {1.0,2.0,3.0,4.0,5.0,6.0},
 float[3,2] u = {1.0,2.0,3.0,4.0,5.0,6.0}> {
  y = ConvTranspose(x, w)
  z = MatMul(v, a)
  t = Gemm<transA = 1>(a, u)
}"#;
    let (found, skipped) = layers(&model(text).graph);
    assert!(found.is_empty());
    let reasons: Vec<String> = skipped.iter().map(|one| one.reason.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "a transposed convolution has no rows",
            "the constant is the first operand",
            "its first operand is transposed"
        ]
    );
}
