//! Real models pass the check.

use secateur::analysis::check_as_read;
use secateur::format::{ReadOptions, lift, read_proto};

use super::corpus;

#[test]
fn every_corpus_model_and_node_test_passes() {
    let mut wrong = Vec::new();
    let files: Vec<_> = [corpus::models(), corpus::architectures(), corpus::node_tests()].concat();
    for path in &files {
        let decoded = read_proto(path, &ReadOptions::default()).unwrap();
        let model = lift(decoded.model, &decoded.origin.external).unwrap();
        if let Err(errors) = check_as_read(&model) {
            let errors: Vec<_> = errors
                .iter()
                .take(3)
                .map(|error| format!("{}: {error}", error.code()))
                .collect();
            wrong.push(format!("{}: {}", path.display(), errors.join("; ")));
        }
    }
    corpus::ran(files.len(), 1900);
    assert!(wrong.is_empty(), "{} refused:\n{}", wrong.len(), wrong.join("\n"));
}
