use super::super::npz::write_npz;
use super::*;
use crate::engine::RunValue;
use crate::ir::{DType, Dim, GraphBuilder, Input, Tensor, Value, ValueType};

fn graph(dtype: DType, shape: Vec<Dim>) -> Graph {
    let mut builder = GraphBuilder::new();
    builder.input(
        Value::typed("x", ValueType::tensor(dtype, Some(shape.into_iter().collect()))),
        Input::default(),
    );
    builder.finish()
}

fn batch_of(size: Dim) -> Vec<Dim> {
    vec![size, Dim::Fixed(2)]
}

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let x = Tensor::from_slice::<f32>(&[5, 2], &(0..10).map(|v| v as f32).collect::<Vec<_>>()).unwrap();
        let y = Tensor::from_slice::<i64>(&[5], &[0, 1, 2, 3, 4]).unwrap();
        let u = Tensor::from_slice::<u8>(&[5, 2], &[0; 10]).unwrap();
        let bad =
            Tensor::from_slice::<f32>(&[5, 2], &[0., 1., f32::NAN, 0., 0., 0., 0., 0., 0., 0.]).unwrap();
        let short = Tensor::from_slice::<i64>(&[4], &[0; 4]).unwrap();
        let arrays = [("x", &x), ("y", &y), ("u", &u), ("bad", &bad), ("short", &short)];
        write_npz(&folder.path().join("d.npz"), arrays).unwrap();
        Self { folder }
    }

    fn open(&self, yaml: &str, shape: Vec<Dim>) -> Result<Dataset, DataError> {
        let spec: Spec = serde_yaml::from_str(yaml).unwrap();
        Dataset::open(&spec, self.folder.path(), &graph(DType::F32, shape))
    }
}

fn first_values(batch: &Batch) -> Vec<f32> {
    let RunValue::Tensor(tensor) = &batch.inputs["x"] else {
        panic!("not a tensor")
    };
    tensor.view::<f32>().unwrap().to_vec()
}

#[test]
fn a_fixed_batch_is_filled_and_counts_only_real_samples() {
    let data = Fixture::new()
        .open("npz: d.npz\nlabels: y", batch_of(Dim::Fixed(2)))
        .unwrap();
    assert_eq!((data.samples(), data.batches()), (5, 0..3));
    let last = data.batch(2).unwrap();
    assert_eq!(
        (last.first, last.count, first_values(&last)),
        (4, 1, vec![8., 9., 8., 9.])
    );
    assert_eq!(last.labels.unwrap().to_i64().unwrap(), [4]);
}

#[test]
fn shards_are_whole_batches_and_cover_everything_once() {
    let fixture = Fixture::new();
    let ranges: Vec<_> = (0..3)
        .map(|i| {
            fixture
                .open(
                    &format!("npz: d.npz\nbatch: 2\nshard: {i}/3"),
                    batch_of(Dim::symbol("N")),
                )
                .unwrap()
        })
        .map(|data| (data.sample_range(), data.digest().to_owned()))
        .collect();
    assert_eq!(
        ranges.iter().map(|r| r.0.clone()).collect::<Vec<_>>(),
        [0..2, 2..4, 4..5]
    );
    assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].1));
}

#[test]
fn chosen_samples_are_seeded() {
    let fixture = Fixture::new();
    let rows = |seed: u64| {
        let yaml = format!("npz: d.npz\nsamples: 3\nbatch: 3\nseed: {seed}");
        first_values(
            &fixture
                .open(&yaml, batch_of(Dim::symbol("N")))
                .unwrap()
                .batch(0)
                .unwrap(),
        )
    };
    assert_eq!(rows(1), rows(1));
    assert!((2..20).any(|seed| rows(seed) != rows(1)));
}

#[test]
fn each_defect_has_its_own_error() {
    let fixture = Fixture::new();
    for (yaml, shape, code) in [
        (
            "npz: d.npz\ninputs: {x: u}",
            batch_of(Dim::symbol("N")),
            "data-type",
        ),
        (
            "npz: d.npz\ninputs: {x: nothing}",
            batch_of(Dim::symbol("N")),
            "data-no-array",
        ),
        (
            "npz: d.npz\ninputs: {z: x}",
            batch_of(Dim::symbol("N")),
            "data-spec",
        ),
        (
            "npz: d.npz\nlabels: short",
            batch_of(Dim::symbol("N")),
            "data-length",
        ),
        ("npz: d.npz", vec![Dim::symbol("N"), Dim::Fixed(3)], "data-shape"),
        ("npz: missing.npz", batch_of(Dim::symbol("N")), "data-read"),
    ] {
        assert_eq!(fixture.open(yaml, shape).unwrap_err().code(), code, "{yaml}");
    }
    let data = fixture
        .open("npz: d.npz\ninputs: {x: bad}", batch_of(Dim::symbol("N")))
        .unwrap();
    assert!(matches!(
        data.batch(1),
        Err(DataError::NotFinite { sample: 1, .. })
    ));
}

#[test]
fn parts_are_apart_and_together_everything() {
    let fixture = Fixture::new();
    for source in [
        "npz: d.npz",
        "synthetic: {}\nsamples: 5",
        "npz: d.npz\nseed: 3\nsamples: 4",
    ] {
        let all = |part: Option<u64>| {
            let yaml = format!("{source}\nbatch: 2");
            let data = fixture.open(&yaml, batch_of(Dim::symbol("N"))).unwrap();
            let data = part.map_or_else(
                || fixture.open(&yaml, batch_of(Dim::symbol("N"))).unwrap(),
                |part| data.part(part, 2),
            );
            let values = data
                .batches()
                .flat_map(|at| first_values(&data.batch(at).unwrap()));
            values
                .collect::<Vec<f32>>()
                .chunks(2)
                .map(<[f32]>::to_vec)
                .collect::<Vec<_>>()
        };
        let (whole, first, second) = (all(None), all(Some(0)), all(Some(1)));
        assert_eq!(
            (first.len(), second.len()),
            (whole.len().div_ceil(2), whole.len() / 2)
        );
        for (at, row) in whole.iter().enumerate() {
            assert_eq!(Some(row), [&first, &second][at % 2].get(at / 2), "{source}");
        }
    }
}

#[test]
fn an_array_with_one_axis_more_holds_whole_inputs() {
    let data = Fixture::new().open("npz: d.npz", vec![Dim::Fixed(2)]).unwrap();
    assert_eq!(data.batches(), 0..5);
    assert_eq!(first_values(&data.batch(3).unwrap()), [6., 7.]);
}

#[test]
fn pixels_are_scaled_as_declared() {
    let yaml = "npz: d.npz\ninputs: {x: u}\npreprocess: { scale: 0.5, mean: [1], std: [2] }";
    let data = Fixture::new().open(yaml, batch_of(Dim::symbol("N"))).unwrap();
    assert_eq!(first_values(&data.batch(0).unwrap()), [-0.5, -0.5]);
}

#[test]
fn synthetic_samples_do_not_depend_on_the_batch() {
    let fixture = Fixture::new();
    let all = |batch: u64| {
        let yaml = format!("synthetic: {{}}\nsamples: 4\nseed: 7\nbatch: {batch}");
        let data = fixture.open(&yaml, batch_of(Dim::symbol("N"))).unwrap();
        data.batches()
            .flat_map(|i| first_values(&data.batch(i).unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(all(1), all(4));
}
