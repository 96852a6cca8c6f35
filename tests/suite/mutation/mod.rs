//! Models changed at random, with everything that reads one: no signal, no panic, no hang, no memory without bound.
//!
//! `SECATEUR_MUTATIONS` says how many (200 unless told otherwise), `SECATEUR_MUTATION_START` which number is the first,
//! `SECATEUR_MUTATION_CALLS` how many mutations there are for each call of the program. `SECATEUR_MUTATION_NODES` takes the ONNX node
//! tests of the corpus for seeds, too, `SECATEUR_MUTATION_EVERY_STEP` applies every step to each model; `SECATEUR_MUTATION_KEEP` is a
//! folder for models that fail, `SECATEUR_MUTATION_PROGRAM` another program than the one just built. The mutations run in a child
//! process, so that a signal or a hang of one of them is a finding like a panic, and the next one goes on.

mod mutate;
mod seeds;
mod verbs;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mutate::mutate;
use verbs::Reached;

/// The longest that anything may take with a small model.
const LONGEST: Duration = Duration::from_secs(20);
/// The most memory that anything may take with a small model, in KiB.
const LARGEST: u64 = 1 << 20;
/// Address space of a call of the program, in KiB: what is above it is an abort.
const ADDRESS_SPACE: u64 = 3 << 20;

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn mutated_models_are_survived_by_everything_that_reads_a_model() {
    let count = number_from("SECATEUR_MUTATIONS", 200);
    let first = number_from("SECATEUR_MUTATION_START", 0);
    let folder = tempfile::tempdir().unwrap();
    let (mut at, end) = (first, first + count);
    let mut findings = Vec::new();
    while at < end {
        match run_child(folder.path(), at, end, &mut findings) {
            // Its number is a finding; the others go on behind it.
            Some(broken) => at = broken + 1,
            None => at = end,
        }
    }
    let text = std::fs::read_to_string(folder.path().join("reached")).unwrap_or_default();
    let mut reached = [0u64; 3];
    for line in text.lines() {
        for (sum, part) in reached.iter_mut().zip(line.split(' ')) {
            *sum += part.parse::<u64>().unwrap();
        }
    }
    let [refused, checked, all] = reached;
    println!(
        "{count} mutations: {refused} are no models, {checked} are refused by a check, {all} went through; {} findings",
        findings.len()
    );
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(all * 10 > count && refused > 0, "{refused} refused, {all} whole");
}

/// Runs mutations in a child process. Answers the number that ended or stopped it.
fn run_child(folder: &Path, first: u64, end: u64, findings: &mut Vec<String>) -> Option<u64> {
    let progress = folder.join("progress");
    std::fs::write(&progress, format!("{first} start")).unwrap();
    let output = std::fs::File::create(folder.join("output")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "mutation::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("SECATEUR_MUTATE", format!("{first} {end} {}", folder.display()))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut last, mut since) = (String::new(), Instant::now());
    let ending = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break if status.success() {
                None
            } else {
                Some(format!("ended the process: {status}"))
            };
        }
        let now = std::fs::read_to_string(&progress).unwrap_or_default();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        // A call of the program has a bound of its own.
        if since.elapsed() > 2 * LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            break Some(format!("takes longer than {LONGEST:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let lines = std::fs::read_to_string(folder.join("output")).unwrap_or_default();
    findings.extend(
        lines
            .lines()
            .filter_map(|line| line.split_once("FINDING "))
            .map(|(_, text)| text.to_owned()),
    );
    let ending = ending?;
    let last = std::fs::read_to_string(&progress).unwrap().trim_end().to_owned();
    let number = last.split(' ').next().unwrap().parse().unwrap();
    findings.push(format!("{last}: {ending}"));
    keep(number);
    Some(number)
}

/// Writes the model of a finding where the caller wants it.
fn keep(number: u64) {
    if let Some(folder) = std::env::var_os("SECATEUR_MUTATION_KEEP") {
        std::fs::create_dir_all(&folder).unwrap();
        write(&PathBuf::from(folder).join(format!("{number}.onnx")), number);
    }
}

/// Writes a mutation with its data file.
fn write(path: &Path, number: u64) {
    let mutated = mutate(&seeds::all(), number);
    std::fs::write(path, &mutated.bytes).unwrap();
    if let Some((name, content)) = mutated.data {
        std::fs::write(path.with_file_name(name), content).unwrap();
    }
}

/// What [`run_child`] runs; a panic is a line on stdout.
#[test]
#[ignore = "the child process of mutated_models_are_survived_by_everything_that_reads_a_model"]
fn child() {
    let Ok(task) = std::env::var("SECATEUR_MUTATE") else {
        return;
    };
    let [first, end, folder] = task.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("{task}")
    };
    let folder = PathBuf::from(folder);
    let calls = number_from("SECATEUR_MUTATION_CALLS", 20);
    let every_step = std::env::var_os("SECATEUR_MUTATION_EVERY_STEP").is_some();
    static PANIC: Mutex<String> = Mutex::new(String::new());
    std::panic::set_hook(Box::new(|info| {
        *PANIC.lock().unwrap() = info.to_string().replace('\n', " ");
    }));
    let seeds = seeds::all();
    let model = folder.join("m.onnx");
    let mut reached = [0u64; 3];
    for number in first.parse().unwrap()..end.parse::<u64>().unwrap() {
        let mutated = mutate(&seeds, number);
        std::fs::write(&model, &mutated.bytes).unwrap();
        for data in ["w.data", "digits_mlp_external.data"] {
            let _ = std::fs::remove_file(folder.join(data));
        }
        if let Some((name, content)) = &mutated.data {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let doing = Mutex::new(String::new());
        let say = |what: &str| {
            let text = format!("{number} {what}");
            // In the place of what stands there, so that the parent never reads half of it.
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .open(folder.join("progress"))
                .unwrap();
            file.write_all(format!("{text:<120}").as_bytes()).unwrap();
            *doing.lock().unwrap() = text;
        };
        let started = Instant::now();
        let found = |text: String| {
            println!("\nFINDING {}: {text}", doing.lock().unwrap());
            keep(number);
        };
        match std::panic::catch_unwind(AssertUnwindSafe(|| {
            verbs::library(&model, number, every_step, &say)
        })) {
            Ok(end) => {
                reached[match end {
                    Reached::Refused => 0,
                    Reached::Checked => 1,
                    Reached::All => 2,
                }] += 1
            }
            Err(_) => found(PANIC.lock().unwrap().clone()),
        }
        if started.elapsed() > LONGEST {
            found(format!("{:?}", started.elapsed()));
        }
        let memory = peak();
        if memory > LARGEST {
            found(format!("{memory} KiB of memory"));
        }
        if calls > 0 && number % calls == 0 {
            let arguments = verbs::CALLS[(number / calls) as usize % verbs::CALLS.len()];
            say(arguments);
            if let Some(text) = call(&folder, arguments) {
                found(text);
            }
        }
    }
    let line = format!("{} {} {}\n", reached[0], reached[1], reached[2]);
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("reached"))
        .unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// The most memory since the last call, in KiB; 0 where the system does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Calls the program with bounds. Answers what it should not have done.
fn call(folder: &Path, arguments: &str) -> Option<String> {
    let words: Vec<&str> = arguments
        .split(' ')
        .map(|word| match word {
            "M" => "m.onnx",
            "O" => "out.onnx",
            other => other,
        })
        .collect();
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {ADDRESS_SPACE}; exec \"$0\" \"$@\"")])
        .arg(
            std::env::var("SECATEUR_MUTATION_PROGRAM")
                .unwrap_or_else(|_| env!("CARGO_BIN_EXE_secateur").to_owned()),
        )
        .args(words)
        .args(["--jobs", "1"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            return Some(format!("takes longer than {LONGEST:?}"));
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let stderr = String::from_utf8_lossy(&std::fs::read(folder.join("stderr")).unwrap()).replace('\n', " ");
    match status.code() {
        Some(0..=2) if !stderr.contains("panicked at") => None,
        _ => Some(format!("{status}: {stderr}")),
    }
}
