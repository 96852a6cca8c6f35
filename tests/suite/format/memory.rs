//! Weights stay in the mapped file: reading and writing take no memory for them.

use std::path::Path;

use secateur::format::{ReadOptions, WriteOptions, WriteTarget, encode, read, write, write_proto};

use super::samples::{model, tensor};

const CHILD: &str = "SECATEUR_MEMORY_CHILD";
const WEIGHTS: u64 = 256 << 20;

/// Anonymous memory of this process in bytes: what is mapped from files does not count.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Runs in a process of its own, because other tests would take memory at the same time.
#[test]
#[ignore = "run by weights_take_no_memory"]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    let before = anonymous();
    let loaded = read(folder.join("m.onnx"), &ReadOptions::default()).unwrap();
    let clone = loaded.model.clone();
    for (name, largest_message) in [("inline.onnx", u64::MAX), ("split.onnx", 1 << 20)] {
        let options = WriteOptions {
            largest_message,
            ..WriteOptions::default()
        };
        let target = folder.join(name);
        let saved = write(&clone, Some(&loaded.origin), WriteTarget::File(&target), &options).unwrap();
        assert!(saved.bytes() > WEIGHTS);
    }
    let pieces =
        encode(&secateur::format::model_to_proto(&clone, &loaded.origin.external).unwrap()).into_pieces();
    // Everything above is still alive here.
    let taken = anonymous().saturating_sub(before);
    assert!(pieces.iter().map(|piece| piece.len() as u64).sum::<u64>() > WEIGHTS);
    println!("{taken} bytes of memory for {WEIGHTS} bytes of weights");
    assert!(taken < 16 << 20, "{taken}");
}

#[test]
fn weights_take_no_memory() {
    if !Path::new("/proc/self/status").exists() {
        crate::corpus::skip("no /proc/self/status");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let part = vec![1u8; (WEIGHTS / 64) as usize];
    let parts = (0..64).map(|index| tensor(&format!("w{index}"), &part)).collect();
    write_proto(
        model(parts),
        None,
        WriteTarget::File(&folder.path().join("m.onnx")),
        &WriteOptions::default(),
    )
    .unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "format::memory::child", "--nocapture", "--ignored"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text.lines().find(|line| line.contains("bytes of memory"));
    println!("{}", line.unwrap());
}
