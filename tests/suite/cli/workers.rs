//! Engines in processes of their own: what ends, hangs or exhausts one is a verdict, and nothing stays behind.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use secateur::data::write_npz;
use secateur::engine::OrtEngine;
use secateur::ir::Tensor;

use super::Bench;

/// Long enough for the slowest verb on a loaded machine, too short for anything that waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A bench with `heavy`, whose runs take seconds, `data.npz` for it, and an empty folder for temporary files.
fn bench() -> Bench {
    deep(8)
}

/// The same with more layers, for a faster engine.
fn deep(layers: usize) -> Bench {
    let bench = Bench::new();
    let channels = 32;
    let mut weights = Vec::new();
    let mut nodes = String::new();
    for layer in 0..layers {
        let values: Vec<String> = (0..channels * channels * 9)
            .map(|at| format!("{:.3}", ((at * 7 + layer * 3) % 23) as f32 * 0.004 - 0.04))
            .collect();
        weights.push(format!(
            "float[{channels},{channels},3,3] w{layer} = {{{}}}",
            values.join(",")
        ));
        nodes += &format!(
            "c{layer} = Conv<pads = [1,1,1,1]>(r{layer}, w{layer}) r{} = Relu(c{layer}) ",
            layer + 1
        );
    }
    let text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,{channels},384,384] r0) => (float[1,{channels},1,1] y) <{}> \
         {{ {nodes} y = GlobalAveragePool(r{layers}) }}",
        weights.join(", ")
    );
    bench.model("heavy", &text);
    let inputs: Vec<f32> = (0..channels * 384 * 384)
        .map(|at| (at % 251) as f32 * 0.008 - 1.0)
        .collect();
    let inputs = Tensor::from_slice(&[1, channels as u64, 384, 384], &inputs).unwrap();
    let labels = Tensor::from_slice(&[1], &[3i64]).unwrap();
    write_npz(&bench.path("data.npz"), [("r0", &inputs), ("y", &labels)]).unwrap();
    std::fs::write(
        bench.path("eval.yaml"),
        "npz: data.npz\ninputs: { r0: r0 }\nlabels: y\n",
    )
    .unwrap();
    std::fs::write(
        bench.path("steps.yaml"),
        "version: 1\nsteps:\n  - quantize\ndata:\n  calibration: { npz: data.npz, inputs: { r0: r0 } }\n",
    )
    .unwrap();
    std::fs::create_dir(bench.path("tmp")).unwrap();
    bench
}

/// The program at work.
struct Running {
    child: Child,
    folder: std::path::PathBuf,
}

fn start(folder: &Path, arguments: &str) -> Running {
    let child = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("TMPDIR", folder.join("tmp"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Running {
        child,
        folder: folder.to_owned(),
    }
}

/// Parent and clock ticks of work of a process; `None` if it is gone or only its status is left.
fn process(id: u32) -> Option<(u32, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| (fields[1].parse().unwrap(), fields[11].parse::<u64>().unwrap()))
}

fn children(of: u32) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id| process(*id).is_some_and(|(parent, _)| parent == of))
        .collect()
}

impl Running {
    /// A worker in the middle of its work.
    fn busy_worker(&mut self) -> u32 {
        let until = Instant::now() + PATIENCE;
        loop {
            let busy = children(self.child.id())
                .into_iter()
                .find(|id| process(*id).is_some_and(|(_, ticks)| ticks > 10));
            if let Some(id) = busy {
                return id;
            }
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "it ended before its worker was busy"
            );
            assert!(Instant::now() < until, "no worker is busy");
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Waits for the end: no worker outlives the program, and no temporary file.
    fn finish(mut self) -> (i32, String, String) {
        let until = Instant::now() + PATIENCE;
        let mut workers = Vec::new();
        while self.child.try_wait().unwrap().is_none() {
            for id in children(self.child.id()) {
                if !workers.contains(&id) {
                    workers.push(id);
                }
            }
            if Instant::now() > until {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let folder = self.folder.clone();
        let Output {
            status,
            stdout,
            stderr,
        } = self.child.wait_with_output().unwrap();
        leave_nothing(&workers, &folder);
        (
            status.code().unwrap_or(-1),
            String::from_utf8_lossy(&stdout).into_owned(),
            String::from_utf8_lossy(&stderr).into_owned(),
        )
    }
}

fn leave_nothing(workers: &[u32], folder: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    while workers.iter().any(|id| process(*id).is_some()) {
        assert!(Instant::now() < until, "a worker outlives the program");
        std::thread::sleep(Duration::from_millis(10));
    }
    let left: Vec<_> = std::fs::read_dir(folder.join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // ONNX Runtime's own.
        .filter(|path| path.file_name().is_none_or(|name| name != ".ses"))
        .collect();
    assert!(left.is_empty(), "{left:?} stay");
}

fn signal(id: u32, signal: Signal) {
    kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
}

/// Calls of the program on `heavy`, the exit status when the engine is lost, and a file that must not appear.
const CALLS: [(&str, i32, &str); 5] = [
    ("verify heavy.onnx heavy.onnx --json", 1, ""),
    ("evaluate heavy.onnx --data eval.yaml --json", 2, ""),
    (
        "quantize heavy.onnx --data data.npz -o out.onnx --json",
        2,
        "out.onnx",
    ),
    (
        "prune channels heavy.onnx --ratio 0.2 --criterion reconstruction --data data.npz -o out.onnx --json",
        2,
        "out.onnx",
    ),
    ("run steps.yaml heavy.onnx -o out.onnx --json", 2, "out.onnx"),
];

/// Ends the engine of each call with `lose` and looks for `words` in what the call says.
fn losing(bench: &Bench, extra: &str, lose: &dyn Fn(&mut Running), words: &str) {
    for (arguments, status, output) in CALLS {
        let mut running = start(bench.folder(), &format!("{arguments} {extra}"));
        lose(&mut running);
        let (code, stdout, stderr) = running.finish();
        assert_eq!(code, status, "{arguments}: {stdout}{stderr}");
        assert!(
            stdout.contains(words),
            "{arguments}: no {words:?} in {stdout}{stderr}"
        );
        let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        if status == 1 {
            assert_eq!(document["verdict"], "not-checked", "{document}");
        } else {
            assert!(document["error"]["code"].is_string(), "{document}");
        }
        assert!(
            output.is_empty() || !bench.path(output).exists(),
            "{arguments} writes {output}"
        );
    }
}

#[test]
fn a_worker_that_is_killed_is_an_answer_of_every_verb() {
    losing(
        &bench(),
        "",
        &|running| signal(running.busy_worker(), Signal::KILL),
        "ended by signal 9",
    );
}

#[test]
fn a_worker_that_is_stopped_is_given_up() {
    losing(
        &bench(),
        "--engine-time 15",
        &|running| signal(running.busy_worker(), Signal::STOP),
        "took longer than 15 s",
    );
}

/// Whether there is an ONNX Runtime to test; where there is none, the test says so.
fn has_onnxruntime() -> bool {
    let found = OrtEngine::load();
    if let Err(error) = &found {
        crate::corpus::skip(&format!("without ONNX Runtime: {error}"));
    }
    found.is_ok()
}

#[test]
fn a_worker_of_onnxruntime_that_is_killed_or_stopped_is_an_answer_of_every_verb() {
    if !has_onnxruntime() {
        return;
    }
    let bench = deep(64);
    losing(
        &bench,
        "--engine ort",
        &|running| signal(running.busy_worker(), Signal::KILL),
        "ended by signal 9",
    );
    losing(
        &bench,
        "--engine ort --engine-time 20",
        &|running| signal(running.busy_worker(), Signal::STOP),
        "took longer than 20 s",
    );
}

#[test]
fn a_worker_of_onnxruntime_that_needs_too_much_memory_is_an_answer_of_every_verb() {
    if has_onnxruntime() {
        losing(
            &wide(),
            "--engine ort --engine-memory 1",
            &|_| {},
            "more than 1 MB of memory",
        );
    }
}

#[test]
fn a_worker_that_needs_too_much_memory_is_an_answer_of_every_verb() {
    losing(&wide(), "--engine-memory 1", &|_| {}, "more than 1 MB of memory");
}

/// A bench whose `heavy` has little work on a value that is much larger than what goes in.
fn wide() -> Bench {
    let bench = bench();
    let weights: Vec<String> = (0..64).map(|at| format!("0.{}", at % 7 + 1)).collect();
    let copies = vec!["c"; 64].join(", ");
    bench.model(
        "heavy",
        &format!(
            "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,8,384,384] r0) => (float[1,512,1,1] y) \
             <float[8,8,1,1] w = {{{0}}}, float[8,8,1,1] v = {{{0}}}> \
             {{ a = Conv(r0, w) b = Relu(a) c = Conv(b, v) d = Concat<axis = 1>({copies}) y = GlobalAveragePool(d) }}",
            weights.join(",")
        ),
    );
    let inputs: Vec<f32> = (0..8 * 384 * 384)
        .map(|at| (at % 251) as f32 * 0.008 - 1.0)
        .collect();
    let inputs = Tensor::from_slice(&[1, 8, 384, 384], &inputs).unwrap();
    let labels = Tensor::from_slice(&[1], &[3i64]).unwrap();
    write_npz(&bench.path("data.npz"), [("r0", &inputs), ("y", &labels)]).unwrap();
    bench
}

#[test]
fn a_program_that_is_killed_leaves_no_worker() {
    let bench = bench();
    for stopped in [false, true] {
        let mut running = start(bench.folder(), "verify heavy.onnx heavy.onnx");
        let worker = running.busy_worker();
        if stopped {
            signal(worker, Signal::STOP);
        }
        let workers = children(running.child.id());
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        leave_nothing(&workers, bench.folder());
    }
}

#[test]
fn a_crash_is_named_by_signal_and_node() {
    let bench = Bench::new();
    // Valid, but tract's rules for a BatchNormalization of rank 1 end the process.
    bench.model(
        "crash",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[4] i) => (float[4] z) \
         <float[1] k = {1}, float[4] x = {1, 1, 1, 1}> { y = BatchNormalization(x, k, k, k, k) z = Add(y, i) }",
    );
    write_npz(
        &bench.path("data.npz"),
        [("i", &Tensor::from_slice(&[1, 4], &[1f32, 2.0, 3.0, 4.0]).unwrap())],
    )
    .unwrap();
    for (arguments, status) in [
        ("verify crash.onnx crash.onnx", 1),
        ("simplify crash.onnx -o simple.onnx", 0),
        ("prune channels crash.onnx --explain", 0),
        ("bisect crash.onnx", 0),
        ("quantize crash.onnx --data data.npz -o small.onnx", 1),
    ] {
        let called = bench.call(arguments);
        assert_eq!(
            called.code,
            status,
            "{arguments}: {}{}",
            called.text(),
            called.stderr
        );
    }
    let called = bench.call("verify crash.onnx crash.onnx --json");
    let document = called.json();
    assert_eq!(document["verdict"], "not-checked");
    let reason = document["not_checked"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("ended by signal") && reason.contains("on node y"),
        "{reason}"
    );
    // The library's choice: the same process, for whoever wants it.
    let inside = bench.call("verify relu.onnx relu.onnx --engine-inside");
    assert_eq!(inside.code, 0, "{}", inside.stderr);
}

#[test]
fn results_are_the_same_bits_in_a_worker_and_inside() {
    let bench = Bench::new();
    let names = ["relu", "sigmoid", "chain", "fork", "random", "unknown"];
    for (a, b) in names.iter().flat_map(|a| names.iter().map(move |b| (a, b))) {
        let call = |extra: &str| bench.call(&format!("verify {a}.onnx {b}.onnx --json {extra}"));
        let (worker, inside) = (call(""), call("--engine-inside"));
        assert_eq!(worker.code, inside.code, "{a} {b}");
        assert_eq!(worker.text(), inside.text(), "{a} {b}");
    }
}

#[test]
fn the_verb_of_workers_is_nobodys() {
    let bench = Bench::new();
    let called = bench.call("engine-worker");
    assert_eq!((called.code, called.text().as_str()), (2, ""));
    assert!(!bench.call("--help").text().contains("engine-worker"));
    // A number that is not the parent's: nobody to serve.
    assert_eq!(bench.call("engine-worker 1 0").code, 2);
}

#[test]
fn where_files_may_not_grow_values_go_through_the_sockets() {
    let bench = Bench::new();
    bench.model(
        "image",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,3,128,128] x) => (float[1,3,128,128] y) { y = Relu(x) }",
    );
    let secateur = env!("CARGO_BIN_EXE_secateur");
    let called = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -f 16; exec {secateur} verify image.onnx image.onnx"),
        ])
        .current_dir(bench.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&called.stderr);
    assert_eq!(called.status.code(), Some(0), "{said}");
}
