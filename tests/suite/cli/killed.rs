//! Kill -9 in the middle of a save: the old pair or the new pair loads, and the next save takes the rest away.
#![cfg(unix)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use secateur::format::{self, ReadOptions, WriteOptions, WriteTarget};
use secateur::proto::ModelProto;

/// The weight of the model `mark`.
fn weight(mark: u8, bytes: usize) -> Bytes {
    let block: Vec<u8> = (0..1u32 << 20)
        .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ mark)
        .collect();
    let mut content = block.repeat(bytes.div_ceil(block.len()));
    content.truncate(bytes);
    content.into()
}

/// A model with one weight, and a node that a save removes.
fn model(weight: &Bytes) -> ModelProto {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (uint8[1] x) => (uint8[1] y, uint8[?] v) <uint8[1] w = {1}> { y = Identity (x) v = Identity (w) z = Identity (x) }"#;
    let mut model = format::text::parse_model(text).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.initializer[0].dims = vec![weight.len() as i64];
    graph.initializer[0].int32_data.clear();
    graph.initializer[0].raw_data = Some(weight.clone());
    model
}

/// Which of the weights the model has, all of it.
fn mark(path: &Path, weights: &[Bytes; 2]) -> usize {
    let loaded = format::read(path, &ReadOptions::default())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value = loaded.model.graph.find_value("w").unwrap();
    let raw = loaded.model.graph.constant(value).unwrap().raw().unwrap();
    let found = weights.iter().position(|weight| weight[..] == raw[..]);
    found.unwrap_or_else(|| panic!("{}: a weight of neither model", path.display()))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn save(folder: &Path, input: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
    command
        .args([
            "eliminate-dead-code",
            input,
            "-o",
            "out.onnx",
            "--force",
            "--no-verify",
            "--quiet",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Starts a save and waits until its temporary file is there; `None` if it was faster.
fn saving(folder: &Path, input: &str) -> Option<Child> {
    let left = names(folder);
    let mut child = save(folder, input).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        let new = |name: &String| name.ends_with(".tmp") && !left.contains(name);
        if names(folder).iter().any(new) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Kills `kills` saves of `bytes` bytes at moments spread over their time, half of them with external data.
fn kill(kills: u32, bytes: usize) {
    let mut collected = 0;
    let weights = [weight(1, bytes), weight(2, bytes)];
    for external in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        for (mark, weight) in weights.iter().enumerate() {
            let options = WriteOptions {
                largest_message: if external { 1000 } else { i32::MAX as u64 },
                ..WriteOptions::default()
            };
            let path = folder.path().join(format!("in{mark}.onnx"));
            format::write_proto(model(weight), None, WriteTarget::File(&path), &options).unwrap();
        }
        let mut child = saving(folder.path(), "in0.onnx").unwrap();
        let started = Instant::now();
        assert!(child.wait().unwrap().success());
        let whole = started.elapsed();
        let clean = names(folder.path());
        let output = folder.path().join("out.onnx");
        let (mut old, mut new, mut left) = (0, 0, 0);
        for at in 0..kills / 2 {
            let before = mark(&output, &weights);
            let next = 1 - before;
            let Some(mut child) = saving(folder.path(), &format!("in{next}.onnx")) else {
                continue;
            };
            // Spread evenly, in another order than time's, a little beyond the end.
            let share = f64::from(at.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
            std::thread::sleep(whole.mul_f64(share * 1.05));
            child.kill().unwrap();
            child.wait().unwrap();
            let found = mark(&output, &weights);
            if found == before {
                old += 1;
            } else {
                new += 1;
            }
            left += usize::from(names(folder.path()).len() != clean.len());
        }
        // One save more, and nothing but its pair is there.
        assert!(save(folder.path(), "in0.onnx").status().unwrap().success());
        assert_eq!(names(folder.path()), clean, "external data: {external}");
        assert_eq!(mark(&output, &weights), 0);
        collected += left;
        println!(
            "{} kills while saving {bytes} bytes (external data: {external}): {old} left the old model, {new} the new one, {left} something to collect",
            old + new
        );
    }
    assert!(
        collected > 0,
        "no save was killed between its first file and its last"
    );
}

#[test]
fn a_save_that_is_killed_leaves_the_old_model_or_the_new_one() {
    kill(10, 20 << 20);
}

/// `cargo test --test suite -- --ignored two_hundred`
#[test]
#[ignore = "takes minutes: the figure in SECURITY.md"]
fn two_hundred_saves_of_200_mb_that_are_killed_leave_the_old_model_or_the_new_one() {
    kill(200, 200_000_000);
}
