//! What people read: tables and reports as the program prints them, in committed snapshots. `INSTA_UPDATE=always cargo test` renews them.
//! Times, and figures that depend on how a processor sums, are left out.

use std::path::Path;

use regex::Regex;

use super::Bench;

/// A name, and the calls whose answers make the snapshot.
const CASES: [(&str, &[&str]); 15] = [
    ("inspect", &["inspect digits_cnn_bn.onnx"]),
    (
        "check",
        &[
            "check digits_cnn_bn.onnx",
            "check digits_cnn_bn.onnx --only unfused-batch-norm --fix -o mended.onnx",
            "explain unfused-batch-norm",
        ],
    ),
    ("inspect_values", &["inspect digits_mlp.onnx --values"]),
    (
        "verify_exact",
        &["verify relu.onnx dead.onnx", "verify unknown.onnx unknown.onnx"],
    ),
    ("verify_different", &["verify relu.onnx scaled.onnx"]),
    (
        "simplify",
        &[
            "simplify digits_cnn_bn.onnx -o simple.onnx",
            "diff digits_cnn_bn.onnx simple.onnx",
        ],
    ),
    ("evaluate", &["evaluate digits_mlp.onnx --data digits_test.yaml"]),
    (
        "quantize_plan",
        &["quantize digits_cnn_bn.onnx --data digits_calib.npz --dry-run --no-verify"],
    ),
    (
        "quantize",
        &["quantize digits_mlp.onnx --data digits_calib.npz -o codes.onnx -v"],
    ),
    (
        "stats_left_out",
        &["stats digits_gru.onnx --for gram --data digits_calib.npz -o gram"],
    ),
    ("prune_explain", &["prune channels digits_cnn_bn.onnx --explain"]),
    (
        "prune",
        &["prune channels digits_mlp.onnx --ratio 0.5 -o thin.onnx"],
    ),
    (
        "transfer",
        &["transfer parameters digits_mlp.onnx digits_mlp.onnx -o own.onnx -v"],
    ),
    (
        "run",
        &["run small.yaml digits_mlp.onnx -o small.onnx --report small.md"],
    ),
    (
        "run_refused",
        &[
            "run tight.yaml digits_mlp.onnx -o tight.onnx",
            "run misspelt.yaml digits_mlp.onnx -o none.onnx",
        ],
    ),
];

fn bench() -> Bench {
    let bench = Bench::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for name in [
        "digits_mlp.onnx",
        "digits_cnn_bn.onnx",
        "digits_gru.onnx",
        "data/digits_test.yaml",
        "data/digits_test.npz",
        "data/digits_calib.npz",
    ] {
        let target = bench.path(name.rsplit('/').next().unwrap());
        std::fs::copy(fixtures.join(name), target).unwrap();
    }
    let pipeline = |steps: &str, size: &str| {
        format!(
            "version: 1\nsteps:\n{steps}data:\n  calibration: digits_calib.npz\ngates:\n  - size: {{ at-most: {size} }}\n"
        )
    };
    let steps = "  - simplify\n  - prune-channels: {ratio: 0.25}\n  - quantize\n";
    std::fs::write(bench.path("small.yaml"), pipeline(steps, "0.6")).unwrap();
    std::fs::write(bench.path("tight.yaml"), pipeline(steps, "0.1")).unwrap();
    std::fs::write(bench.path("misspelt.yaml"), pipeline("  - simplfy\n", "0.6")).unwrap();
    bench
}

/// The text without what differs from run to run and from processor to processor. Columns of a line that loses something are two
/// spaces apart.
fn redacted(text: &str) -> String {
    let replaced = [
        (r"\d+(\.\d+)? / \d+(\.\d+)? ms", "[times]"),
        (r"\d+(\.\d+)? (ms|s)\b", "[time]"),
        (r"(latency.*)[+-]\d+\.\d %", "$1[change]"),
        (r"(samples a second +\|? *)\d+(\.\d+)?", "$1[rate]"),
        (r"(peak memory +\|? *)\d+(\.\d+)? [KMG]iB", "$1[bytes]"),
        (r"-?\b\d+(\.\d+)?e-?\d+\b", "[figure]"),
        (r"-?\b\d+\.\d{5}\b", "[figure]"),
        (r"-?\b\d+\.\d+ dB", "[figure] dB"),
        // How much is compared depends on how long the steps took.
        (r"tract, \d+ (synthetic )?samples[^)]*", "tract, [samples]"),
    ]
    .map(|(pattern, becomes)| (Regex::new(pattern).unwrap(), becomes));
    let spaces = Regex::new(" {2,}").unwrap();
    let rule = Regex::new("-{4,}").unwrap();
    // The width of columns follows the times.
    let timed = text.contains(" latency ");
    let line = |line: &str| {
        let mut new = line.to_owned();
        for (pattern, becomes) in &replaced {
            new = pattern.replace_all(&new, *becomes).into_owned();
        }
        // Headings stand over what was left out.
        let heading = ["max abs", "| time", "|---"]
            .iter()
            .any(|part| line.contains(part));
        if new != line || heading || timed {
            new = spaces.replace_all(&new, "  ").into_owned();
            new = rule.replace_all(&new, "---").into_owned();
        }
        new
    };
    // Whether the result is slower depends on what else the machine does.
    let slower = Regex::new("(\n## Warnings\n)?\n- the result is slower[^\n]*").unwrap();
    let text = slower.replace_all(text, "");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("  with few samples at"))
        .filter(|line| !line.starts_with("warning: the result is slower"));
    lines.map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn tables_and_reports_are_as_committed() {
    let bench = bench();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        for (name, calls) in CASES {
            let mut text = String::new();
            for arguments in calls {
                let called = bench.call(arguments);
                text.push_str(&format!("$ secateur {arguments}\n{}", redacted(&called.text())));
                text.push_str(&format!("\n(stderr)\n{}\n(status {})\n\n", redacted(&called.stderr), called.code));
            }
            if let Ok(report) = std::fs::read_to_string(bench.path("small.md"))
                && name == "run"
            {
                text.push_str(&format!("small.md:\n{}", redacted(&report)));
            }
            insta::assert_snapshot!(name, text);
        }
    });
}
