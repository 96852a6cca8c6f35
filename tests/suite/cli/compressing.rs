//! `compress` as a verb: which data it reads, what it says, and that sizes are those of the container.

use super::{Bench, fixtures};

fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::copy(fixtures().join("digits_cnn.onnx"), bench.path("digits.onnx")).unwrap();
    bench
}

fn calibration() -> String {
    fixtures().join("data/digits_calib.npz").display().to_string()
}

#[test]
fn data_without_a_role_are_those_that_codes_are_chosen_by() {
    let bench = bench();
    let data = calibration();
    let words = "compress digits.onnx --bits 3 --no-verify --no-provenance";
    for given in [format!("--data {data}"), format!("--data calibration={data}")] {
        let called = bench.call(&format!("{words} -o sole.onnx --force {given}"));
        assert_eq!(called.code, 0, "{}", called.stderr);
        assert!(!called.stderr.contains("there are no"), "{}", called.stderr);
    }
    let roles: Vec<Vec<u8>> = [
        format!("--data {data}"),
        format!("--data calibration={data}"),
        String::new(),
    ]
    .iter()
    .map(|given| {
        bench.call(&format!("{words} -o one.onnx --force {given}"));
        std::fs::read(bench.path("one.onnx")).unwrap()
    })
    .collect();
    assert_eq!(roles[0], roles[1]);
    assert_ne!(roles[0], roles[2]);
}

#[test]
fn bits_are_said_and_what_is_missing_is_a_warning() {
    let bench = bench();
    let data = calibration();
    let called = bench.call(&format!(
        "compress digits.onnx --bits 3 --data {data} --no-verify -o a.onnx"
    ));
    let said = called.stderr.clone();
    let bits = said
        .split("compress: ")
        .nth(1)
        .and_then(|words| words.split(' ').next());
    let bits: f64 = bits.expect(&said).parse().expect(&said);
    assert!(
        bits <= 3.0 && bits > 2.8 && said.contains("bits a weight once packed"),
        "{said}"
    );
    let without = bench.call("compress digits.onnx --bits 3 --no-verify -o b.onnx");
    assert!(
        without
            .stderr
            .contains("warning: compress: there are no calibration data"),
        "{}",
        without.stderr
    );
    bench.call(&format!("stats digits.onnx --for gram --data {data} -o grams"));
    let stats = bench.call("compress digits.onnx --bits 3 --no-verify --stats grams -o c.onnx");
    assert_eq!(stats.code, 0, "{}", stats.stderr);
    assert!(
        stats.stderr.contains("no calibration data to take gradients on"),
        "{}",
        stats.stderr
    );
    let chosen =
        bench.call("compress digits.onnx --bits 3 --no-verify --stats grams --importance outputs -o d.onnx");
    assert!(!chosen.stderr.contains("warning"), "{}", chosen.stderr);
    assert_eq!(
        secateur_bytes(&bench, "c.onnx"),
        secateur_bytes(&bench, "d.onnx"),
        "what the warning says is what was done"
    );
}

/// The weights of a written model: its container without what the pipeline is called.
fn secateur_bytes(bench: &Bench, name: &str) -> serde_json::Value {
    let packed = bench.call(&format!("pack {name} -o {name}.sct --force --json"));
    assert_eq!(packed.code, 0, "{}", packed.stderr);
    packed.json()["tensors"].clone()
}

#[test]
fn sizes_are_those_of_the_container() {
    let bench = bench();
    let data = calibration();
    let packed = |options: &str| -> u64 {
        let made = bench.call(&format!(
            "compress digits.onnx -o s.onnx --force --no-verify --data {data} {options}"
        ));
        assert_eq!(made.code, 0, "{options}: {}", made.stderr);
        let packed = bench.call("pack s.onnx -o s.sct --force --json");
        assert_eq!(packed.code, 0, "{}", packed.stderr);
        packed.json()["bytes"].as_u64().unwrap()
    };
    for most in [6000u64, 4500, 3500] {
        let found = packed(&format!("--max-bytes {most}"));
        assert!(found <= most && found > most * 3 / 4, "{found} of {most}");
    }
    let given = std::fs::metadata(bench.path("digits.onnx")).unwrap().len();
    let found = packed("--ratio 10");
    assert!(found <= given / 10 && found > given / 14, "{found} of {given}");
    let refused = bench.call(&format!(
        "compress digits.onnx -o never.onnx --no-verify --data {data} --max-bytes 900"
    ));
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("900 bytes cannot be reached"),
        "{}",
        refused.stderr
    );
    assert!(!bench.path("never.onnx").exists());
}
