//! External data of outputs: every file is named, and none of a replaced model stays. The case `external_data_orphans`.

use super::Bench;

/// A model `m.onnx` with its weights in `m.onnx.data` and an unused node.
fn bench() -> Bench {
    let bench = Bench::new();
    // Every file that is called a model may be one that reads the data.
    std::fs::remove_file(bench.path("broken.onnx")).unwrap();
    write(&bench, 1);
    bench
}

fn write(bench: &Bench, seed: u8) {
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 512] x) => (float[N, 512] y)
        <float[512] w = [\"location\": \"m.onnx.data\", \"length\": \"2048\"]>
        { y = Mul (x, w) unused = Exp (x) }";
    let message = secateur::format::text::parse_model(text).unwrap();
    std::fs::write(bench.path("m.onnx"), secateur::format::encode_to_bytes(&message)).unwrap();
    let floats: Vec<u8> = (0..512u32)
        .flat_map(|index| (index as f32 * f32::from(seed)).to_le_bytes())
        .collect();
    std::fs::write(bench.path("m.onnx.data"), floats).unwrap();
}

fn data(bench: &Bench) -> Vec<String> {
    let mut names = bench.names();
    names.retain(|name| name.contains(".data"));
    names
}

#[test]
fn external_data_orphans_do_not_pile_up() {
    let bench = bench();
    for (round, force) in [(1, ""), (2, "--force"), (3, "--force")] {
        write(&bench, round);
        let called = bench.call(&format!("eliminate-dead-code m.onnx -o out.onnx {force} --json"));
        assert_eq!(called.code, 0, "{}\n{}", called.text(), called.stderr);
        let files: Vec<String> = called.json()["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file.as_str().unwrap().to_owned())
            .collect();
        let found = data(&bench);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(files, ["out.onnx".to_owned(), found[1].clone()]);
        assert_eq!(bench.call("inspect out.onnx --strict").code, 0);
        assert_eq!(
            called.json()["warnings"].to_string().contains("removed"),
            round > 1,
            "{}",
            called.text()
        );
    }
    let shown = bench.call("eliminate-dead-code m.onnx -o other.onnx");
    assert!(
        shown.text().contains("written: other.onnx, other."),
        "{}",
        shown.text()
    );
}

#[test]
fn data_that_others_wrote_or_use_stays_and_is_named() {
    let bench = bench();
    let before = bench.read("m.onnx.data");
    let called = bench.call("eliminate-dead-code m.onnx --in-place --json");
    assert_eq!(called.code, 0, "{}\n{}", called.text(), called.stderr);
    assert_eq!(bench.read("m.onnx.data"), before);
    let warnings = called.json()["warnings"].to_string();
    assert!(
        warnings.contains("m.onnx.data") && warnings.contains("it is left"),
        "{warnings}"
    );
    // A second model reads the data file that secateur wrote for the first.
    write(&bench, 2);
    assert_eq!(bench.call("eliminate-dead-code m.onnx -o out.onnx").code, 0);
    std::fs::copy(bench.path("out.onnx"), bench.path("twin.onnx")).unwrap();
    write(&bench, 3);
    let called = bench.call("eliminate-dead-code m.onnx -o out.onnx --force --json");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(!called.json()["warnings"].to_string().contains("removed"));
    assert_eq!(bench.call("inspect twin.onnx --strict").code, 0);
    // What cannot be read may be a reader: then nothing is removed, and that is said.
    std::fs::remove_file(bench.path("twin.onnx")).unwrap();
    std::fs::write(bench.path("broken.onnx"), b"not a model").unwrap();
    write(&bench, 4);
    let called = bench.call("eliminate-dead-code m.onnx -o out.onnx --force --json");
    let warnings = called.json()["warnings"].to_string();
    assert!(
        warnings.contains("it is left") && !warnings.contains("removed"),
        "{warnings}"
    );
    // The input's own data is never touched, whatever the replaced model says.
    std::fs::copy(bench.path("m.onnx"), bench.path("copy.onnx")).unwrap();
    assert_eq!(
        bench.call("eliminate-dead-code m.onnx -o copy.onnx --force").code,
        0
    );
    assert_eq!(bench.call("inspect m.onnx --strict").code, 0);
}
