//! Every malicious file is refused with its code, or read, where it is harmless; nothing panics.

use std::path::{Path, PathBuf};

use secateur::analysis::{check_as_read, cost, infer};
use secateur::format::{ReadOptions, lift, read_proto};

/// The files with their expected codes.
fn expected() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/malice");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let rows = table.lines().skip(1).filter(|line| !line.is_empty());
    rows.map(|line| {
        let mut fields = line.split('\t');
        (
            folder.join(fields.next().unwrap()),
            fields.next().unwrap().to_owned(),
        )
    })
    .collect()
}

/// What reading, lifting and checking say; `ok` if nothing is wrong.
fn verdict(path: &Path) -> Vec<String> {
    let decoded = match read_proto(path, &ReadOptions::default()) {
        Ok(decoded) => decoded,
        Err(error) => return vec![error.code().to_owned()],
    };
    let mut model = match lift(decoded.model, &decoded.origin.external) {
        Ok(model) => model,
        Err(error) => return vec![error.code().to_owned()],
    };
    let found = match check_as_read(&model) {
        Ok(()) => vec!["ok".to_owned()],
        Err(errors) => errors.iter().map(|error| error.code().to_owned()).collect(),
    };
    // Analysis survives whatever a check refuses.
    infer(&mut model);
    assert!(cost(&model, &|_| None).nodes < 10_000);
    found
}

#[test]
fn every_malicious_file_gets_its_code() {
    let mut wrong = Vec::new();
    let files = expected();
    for (path, code) in &files {
        let found = verdict(path);
        if found.first() != Some(code) {
            wrong.push(format!(
                "{}: expected {code}, found {}",
                path.file_name().unwrap().to_string_lossy(),
                found.join(" ")
            ));
        }
    }
    println!("{} files, {} with another code", files.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
