//! Streams and signals: full and closed pipes, pipes as inputs, and what signals leave behind.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Bench, call_with};

fn program(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
    command
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a line of shell with the program as `$0`.
fn shell(folder: &Path, line: &str) -> (i32, String) {
    let output = Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_secateur")])
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn an_answer_that_does_not_fit_is_an_error_and_one_that_nobody_reads_is_none() {
    let bench = Bench::new();
    if Path::new("/dev/full").exists() {
        for arguments in [
            "inspect relu.onnx",
            "inspect relu.onnx --json",
            "print relu.onnx",
            "verify relu.onnx relu.onnx",
            "rules list",
            "completions bash",
            "man",
            "schema",
            "--help",
            "run clean.yaml --print-pipeline",
            "eliminate-dead-code dead.onnx -o -",
        ] {
            let (code, stderr) = shell(bench.folder(), &format!("\"$0\" {arguments} > /dev/full"));
            assert_eq!(code, 2, "{arguments}: {stderr}");
            assert!(stderr.contains("cannot write"), "{arguments}: {stderr}");
        }
    }
    for arguments in [
        "inspect relu.onnx",
        "print relu.onnx",
        "rules list",
        "completions bash",
        "--help",
    ] {
        let mut child = program(bench.folder(), arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert!(output.stderr.is_empty(), "{arguments}");
    }
}

#[test]
fn inputs_may_be_pipes_and_a_stream_without_end_is_refused() {
    let bench = Bench::new();
    assert!(
        Command::new("mkfifo")
            .arg(bench.path("pipe"))
            .status()
            .unwrap()
            .success()
    );
    for (content, line) in [
        ("relu.onnx", "\"$0\" verify pipe relu.onnx"),
        ("clean.yaml", "\"$0\" run pipe dead.onnx -o out.onnx"),
    ] {
        let (code, stderr) = shell(
            bench.folder(),
            &format!("timeout 60 cat {content} > pipe 2> /dev/null & {line}"),
        );
        assert_eq!(code, 0, "{line}: {stderr}");
    }
    let started = Instant::now();
    let (code, stderr) = shell(bench.folder(), "\"$0\" inspect - < /dev/zero");
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("not a valid ONNX model"), "{stderr}");
    let (code, stderr) = shell(bench.folder(), "\"$0\" run /dev/zero relu.onnx -o never.onnx");
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("more than"), "{stderr}");
    assert!(started.elapsed() < Duration::from_secs(20));
    let twice = call_with(bench.folder(), "verify - - --json", &bench.read("relu.onnx"));
    assert_eq!((twice.code, twice.error_code().as_str()), (2, "usage"));
    assert!(twice.text().contains("stdin"), "{}", twice.text());
}

/// A model with an unused node and 48 MB of weights, so that a save takes a while.
fn large(bench: &Bench) {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) <float[4, 2] w = {1,2,3,4,5,6,7,8}> { y = Relu (x) z = Exp (x) k = Neg (w) }"#;
    let mut model = secateur::format::text::parse_model(text).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let bytes: Vec<u8> = (0..48u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    graph.initializer[0].dims = vec![12 << 20];
    graph.initializer[0].float_data.clear();
    graph.initializer[0].raw_data = Some(bytes.into());
    graph.output.push(secateur::proto::ValueInfoProto {
        name: Some("k".to_owned()),
        ..graph.output[0].clone()
    });
    if let Some(secateur::proto::type_proto::Value::TensorType(tensor)) =
        graph.output[1].r#type.as_mut().and_then(|ty| ty.value.as_mut())
    {
        tensor.shape = None;
    }
    std::fs::write(
        bench.path("large.onnx"),
        secateur::format::encode_to_bytes(&model),
    )
    .unwrap();
}

/// Starts a save and waits until a temporary file is there.
fn saving(bench: &Bench, prefix: &str) -> Option<Child> {
    let line = format!(
        "{prefix} exec \"$0\" eliminate-dead-code large.onnx -o out.onnx --force --no-verify --no-provenance"
    );
    let mut child = Command::new("sh")
        .args(["-c", &line, env!("CARGO_BIN_EXE_secateur")])
        .current_dir(bench.folder())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() {
        let large = |name: &String| {
            name.ends_with(".tmp")
                && bench
                    .path(name)
                    .metadata()
                    .is_ok_and(|found| found.len() > 1 << 20)
        };
        if bench.names().iter().any(large) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Sends a signal without starting a program for it, which would take as long as the save.
fn send(child: &Child, signal: Signal) {
    let process = Pid::from_child(child);
    // A child that is over has nothing to hear.
    let _ = kill_process(process, signal);
}

/// Whether this process was started to ignore a signal, which what it starts inherits.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal.as_raw() - 1)) & 1 == 1)
}

#[test]
fn signals_remove_what_is_half_written() {
    let bench = Bench::new();
    large(&bench);
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        if is_ignored(signal) {
            println!(
                "{signal:?} is ignored where the tests were started, as under nohup, and so it is by every program that they start"
            );
            continue;
        }
        let mut stopped = false;
        for _ in 0..100 {
            let Some(mut child) = saving(&bench, "") else {
                continue;
            };
            send(&child, signal);
            let code = child.wait().unwrap().code();
            let left: Vec<String> = bench
                .names()
                .into_iter()
                .filter(|name| name.contains("tmp"))
                .collect();
            assert!(left.is_empty(), "{signal:?}: {left:?}");
            let _ = std::fs::remove_file(bench.path("out.onnx"));
            if code == Some(130) {
                stopped = true;
                break;
            }
        }
        assert!(stopped, "{signal:?}: every save was over before the signal");
    }
    // What the program was started to ignore, it ignores.
    let mut child = (0..100).find_map(|_| saving(&bench, "trap '' HUP;")).unwrap();
    send(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(bench.path("out.onnx").exists());
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_that_leaves_nothing() {
    let bench = Bench::new();
    large(&bench);
    let names = bench.names();
    let (code, stderr) = shell(
        bench.folder(),
        "ulimit -f 2000; exec \"$0\" eliminate-dead-code large.onnx -o out.onnx --no-verify",
    );
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("cannot write out.onnx"), "{stderr}");
    assert_eq!(bench.names(), names);
}
