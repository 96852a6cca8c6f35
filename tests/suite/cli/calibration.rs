//! Calibration data that cannot be used is said for what it is, and nothing is written.

use secateur::data::write_npz;
use secateur::ir::Tensor;

use super::Bench;

/// A bench with a product of `x: float[batch, 3]`, an embedding of `ids: int64[batch, 2]` and a convolution of 8x8 images.
fn bench() -> Bench {
    let bench = Bench::new();
    let header = "<ir_version: 8, opset_import: [\"\" : 17]>";
    let weights = |count: usize| {
        (0..count)
            .map(|at| format!("{:.2}", (at % 7) as f32 * 0.3 - 0.9))
            .collect::<Vec<_>>()
            .join(",")
    };
    bench.model("product", &format!("{header} g (float[batch,3] x) => (float[batch,4] y) <float[3,4] w = {{{}}}> {{ y = MatMul(x, w) }}", weights(12)));
    bench.model("ids", &format!("{header} g (int64[batch,2] ids) => (float[batch,2,4] y) <float[5,4] table = {{{}}}, float[4,4] w = {{{}}}> {{ e = Gather(table, ids) y = MatMul(e, w) }}", weights(20), weights(16)));
    bench.model("image", &format!("{header} g (float[batch,3,8,8] x) => (float[batch,2,8,8] y) <float[2,3,1,1] w = {{{}}}> {{ y = Conv(x, w) }}", weights(6)));
    bench
}

#[test]
fn data_that_cannot_be_calibrated_with_is_said_for_what_it_is() {
    let bench = bench();
    let path = |name: &str| bench.path(name);
    write_npz(
        &path("zeros.npz"),
        [("x", &Tensor::from_slice(&[9, 3], &[0f32; 27]).unwrap())],
    )
    .unwrap();
    write_npz(
        &path("far.npz"),
        [("ids", &Tensor::from_slice(&[2, 2], &[1i64, 2, 3, 999]).unwrap())],
    )
    .unwrap();
    std::fs::write(path("state.pth"), b"PK\x03\x04\x00\x00archive/data.pkl").unwrap();
    std::fs::write(path("old.pt"), b"\x80\x02}q\x00.").unwrap();
    std::fs::write(path("renamed.npz"), b"\x80\x04\x95\x01").unwrap();
    std::fs::create_dir(path("images")).unwrap();
    let picture = image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([(x * 31) as u8, (y * 31) as u8, 7]));
    picture.save(path("images/whole.jpg")).unwrap();
    let whole = bench.read("images/whole.jpg");
    std::fs::write(path("images/cut.jpg"), &whole[..whole.len() - 20]).unwrap();
    std::fs::write(
        path("images.yaml"),
        "images: { folder: images }\npreprocess: torchvision\n",
    )
    .unwrap();
    for (model, data, words) in [
        (
            "product",
            "zeros.npz",
            &["zeros.npz", "x is 0 everywhere", "9 samples"][..],
        ),
        (
            "ids",
            "far.npz",
            &["far.npz", "999", "sample 1", "table", "0 to 4"],
        ),
        ("product", "state.pth", &["state.pth", "PyTorch checkpoint"]),
        ("product", "old.pt", &["old.pt", "pickle"]),
        ("product", "renamed.npz", &["renamed.npz", "pickle"]),
        ("image", "images.yaml", &["cut.jpg", "truncated"]),
    ] {
        for verb in ["quantize", "stats"] {
            let called = bench.call(&format!("{verb} {model}.onnx --data {data} -o never.onnx"));
            assert_eq!(called.code, 2, "{verb} with {data}: {}", called.stderr);
            let lines = called.stderr.split_whitespace().filter(|word| *word != "│");
            let said = lines.collect::<Vec<_>>().join(" ");
            for word in words {
                assert!(said.contains(word), "{verb}: no {word:?} in {}", called.stderr);
            }
            assert!(!bench.path("never.onnx").exists());
        }
    }
    let called = bench.call("transfer parameters state.pth product.onnx -o never.onnx");
    assert_eq!(called.code, 2, "{}", called.stderr);
    assert!(called.stderr.contains("PyTorch"), "{}", called.stderr);
}
