//! Passes over whole models from outside of the repository.

use secateur::analysis::check;
use secateur::format::{ReadOptions, encode_to_bytes, lift, model_to_proto, read_proto};
use secateur::ir::Model;
use secateur::passes::{ConvertOpset, Pass, PassError, Simplify};
use secateur::rewrite::Safety;

use super::{Setting, run_pass};
use crate::corpus;

/// Bytes of models that are run through; the others are for the benches.
const LARGEST: u64 = 64 << 20;

struct Read {
    name: String,
    model: Model,
    external: secateur::format::ExternalFiles,
    bytes: usize,
}

/// Models of moderate size that are valid as they are.
fn readable(paths: Vec<std::path::PathBuf>) -> impl Iterator<Item = Read> {
    paths.into_iter().filter_map(|path| {
        if std::fs::metadata(&path).ok()?.len() > LARGEST {
            return None;
        }
        let decoded = read_proto(path.clone(), &ReadOptions::default()).ok()?;
        let model = lift(decoded.model, &decoded.origin.external).ok()?;
        check(&model).ok()?;
        let bytes = encode_to_bytes(&model_to_proto(&model, &decoded.origin.external).ok()?).len();
        Some(Read {
            name: path.display().to_string(),
            model,
            external: decoded.origin.external,
            bytes,
        })
    })
}

/// Runs a pass; the result has to be valid.
fn valid_after(pass: &dyn Pass, read: &Read) -> Result<Model, PassError> {
    let mut model = read.model.clone();
    run_pass(pass, &mut model, &Setting::default())?;
    check(&model).unwrap_or_else(|errors| panic!("{}: {}", read.name, errors[0]));
    Ok(model)
}

#[test]
fn simplified_models_are_valid_and_no_larger() {
    let (mut models, mut before, mut after, mut grown) = (0, 0, 0, Vec::new());
    for read in readable(corpus::models().into_iter().chain(corpus::node_tests()).collect()) {
        let pass = Simplify {
            safety: Safety::Rounding,
            ..Simplify::default()
        };
        let mut model = valid_after(&pass, &read).unwrap_or_else(|error| panic!("{}: {error}", read.name));
        models += 1;
        before += read.model.graph.operator_count();
        after += model.graph.operator_count();
        model.name_values();
        let bytes = encode_to_bytes(&model_to_proto(&model, &read.external).unwrap()).len();
        // New tensors of a model with external data are inside until it is saved.
        if bytes > read.bytes && read.external.is_empty() {
            grown.push(format!("{}: {} -> {bytes}", read.name, read.bytes));
        }
    }
    println!("{before} operators before and {after} after");
    corpus::ran(models, 1800);
    assert!(grown.is_empty(), "{grown:#?}");
}

#[test]
fn converted_models_are_valid_and_refusals_name_an_operator() {
    let (mut converted, mut refused) = (0, 0);
    for read in readable(corpus::models().into_iter().chain(corpus::node_tests()).collect()) {
        match valid_after(&ConvertOpset::to(26), &read) {
            Ok(_) => converted += 1,
            Err(PassError::Model { node, message, .. }) => {
                refused += 1;
                assert!(
                    !node.is_empty() && message.contains("cannot be converted"),
                    "{}: {message}",
                    read.name
                );
            }
            Err(error) => panic!("{}: {error}", read.name),
        }
    }
    println!("{refused} refused");
    corpus::ran(converted, 1700);
    assert!(
        refused * 10 <= converted,
        "{refused} refused, {converted} converted"
    );
}
