//! The program as a user calls it: exit statuses, JSON, what is written and what is not.

mod baking;
mod batch;
mod calibration;
mod checking;
mod compare;
mod compressing;
mod data;
mod documents;
mod exit;
mod external;
mod families;
mod figures;
mod files;
mod flags;
mod generated;
mod judging;
mod killed;
mod naming;
mod outputs;
mod plans;
mod reading;
mod reports;
mod searching;
mod sharing;
mod snapshots;
mod streams;
mod sweeping;
mod unchanged;
mod verbs;
mod workers;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a call of the program gave.
struct Called {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Called {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.text(), self.stderr))
    }

    /// The code of the error document on stdout.
    fn error_code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Holds it to exit status 2 with this code.
    fn is_refused(&self, code: &str, context: &str) {
        assert_eq!(
            (self.code, self.error_code().as_str()),
            (2, code),
            "{context}: {}{}",
            self.text(),
            self.stderr
        );
    }
}

/// The folder of the project's own models and data.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Calls the program in `folder` with arguments apart by spaces.
fn call(folder: &Path, arguments: &str) -> Called {
    call_with(folder, arguments, &[])
}

/// Calls the program with arguments that may hold spaces.
fn call_words(folder: &Path, arguments: &[&str]) -> Called {
    run(folder, arguments, &[])
}

/// The same as `call` with bytes on stdin.
fn call_with(folder: &Path, arguments: &str, stdin: &[u8]) -> Called {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    run(folder, &words, stdin)
}

fn run(folder: &Path, arguments: &[&str], stdin: &[u8]) -> Called {
    let mut child = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        // The program may end without reading.
        let _ = pipe.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Called {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A folder with small models: `relu`, `sigmoid` (another function), `scaled` (1 % off), `dead` (relu with an unused node), `unknown` (an operator that
/// no engine has), `random`, `broken` (no model) and a pipeline `clean.yaml`.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let header = "<ir_version: 8, opset_import: [\"\" : 17, \"acme\" : 1]>";
        let body =
            |nodes: &str| format!("{header} g (float[batch, 3] x) => (float[batch, 3] y) {{ {nodes} }}");
        for (name, nodes) in [
            ("relu", "y = Relu(x)"),
            ("sigmoid", "y = Sigmoid(x)"),
            ("dead", "y = Relu(x) unused = Exp(x)"),
            ("unknown", "a = acme.Magic(x) y = Relu(a)"),
            ("random", "r = RandomNormalLike(x) y = Add(x, r)"),
            ("chain", "a = Neg(x) b = Abs(a) y = Exp(b)"),
            ("fork", "a = Neg(x) b = Sqrt(a) y = Exp(b)"),
        ] {
            bench.model(name, &body(nodes));
        }
        let text = format!(
            "{header} g (float[batch, 3] x) => (float[batch, 3] y) <float k = {{1.01}}> {{ a = Relu(x) y = Mul(a, k) }}"
        );
        bench.model("scaled", &text);
        std::fs::write(bench.path("broken.onnx"), b"not a model").unwrap();
        std::fs::write(
            bench.path("clean.yaml"),
            "version: 1\nsteps:\n  - eliminate-dead-code\n",
        )
        .unwrap();
        bench
    }

    fn model(&self, name: &str, text: &str) {
        let message =
            secateur::format::text::parse_model(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        std::fs::write(
            self.path(&format!("{name}.onnx")),
            secateur::format::encode_to_bytes(&message),
        )
        .unwrap();
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn call(&self, arguments: &str) -> Called {
        call(self.folder(), arguments)
    }

    /// Names in the folder that a test did not expect.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}
