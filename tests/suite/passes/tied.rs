//! Embeddings that are the weight of a product, too: one table of codes, whichever pass writes it.

use secateur::ir::{DType, Model};
use secateur::passes::{Form, PassReport, QuantizeDynamic, QuantizeWeights};
use secateur::quantize::Kind;

use super::quantizing::{check_near, operators};
use super::{lines, model};

/// Numbers of a table, rows of unlike size.
fn table(rows: usize, columns: usize) -> String {
    let number = |at: usize| {
        let (row, wave) = (at / columns, (at * 37 + 11) % 101);
        (wave as f64 / 50.0 - 1.0) * (1.0 + row as f64)
    };
    let numbers: Vec<String> = (0..rows * columns)
        .map(|at| format!("{:.4}", number(at)))
        .collect();
    format!("float[{rows},{columns}] w = {{{}}}", numbers.join(","))
}

/// A model whose output layer is its embedding, of indices that no pass folds.
fn tied(opset: i64, product: &str) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : {opset}]>
g (float[2,32] x) => (float[2,5] y, float[2,32] e) <{}, int64[2] i = {{3, 1}}, float[5] b = {{0.5, 0, 1, 2, -1}}> {{
  n = Neg(i)
  e = Gather(w, n)
  h = Add(e, x)
  {product}
}}"#,
        table(5, 32)
    )
}

const TURNED: &str = "t = Transpose<perm = [1, 0]>(w) y = MatMul(h, t)";
const GEMM: &str = "y = Gemm<transB = 1>(h, w, b)";

fn count(model: &Model, operator: &str) -> usize {
    operators(model).iter().filter(|name| *name == operator).count()
}

/// Elements of the constants that are codes.
fn codes(model: &Model) -> u64 {
    let graph = &model.graph;
    let constants = graph
        .node_ids()
        .filter_map(|id| graph.constant(secateur::ir::ValueId::new(id, 0)));
    let narrow = constants.filter(|tensor| matches!(tensor.dtype(), DType::I8 | DType::U8 | DType::I4));
    narrow
        .filter(|tensor| tensor.rank() == 2)
        .map(|tensor| tensor.byte_len())
        .sum()
}

fn dynamic() -> QuantizeDynamic {
    QuantizeDynamic {
        minimum_elements: 1,
        prepare: false,
        ..QuantizeDynamic::default()
    }
}

fn told(report: &PassReport) -> String {
    let left = report
        .left
        .iter()
        .map(|left| format!("{} {}", left.what, left.why));
    report
        .notes
        .iter()
        .cloned()
        .chain(left)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn scales_of_a_tied_table_are_stored_once() {
    for (opset, product) in [(13, TURNED), (17, TURNED), (17, GEMM)] {
        let pass = QuantizeWeights {
            minimum_elements: 1,
            prepare: false,
            ..QuantizeWeights::default()
        };
        let (after, _) = check_near(&pass, &tied(opset, product), 0.02);
        let text = lines(&after).join("\n");
        assert!(
            text.contains("float[5] = ") && !text.contains("float[5, 1]"),
            "{text}"
        );
        assert_eq!(codes(&after), 160, "{text}");
    }
}

#[test]
fn a_dynamic_product_and_a_lookup_share_codes() {
    for opset in [11, 13, 17] {
        for per_channel in [true, false] {
            for product in [TURNED, GEMM] {
                let pass = QuantizeDynamic {
                    per_channel,
                    ..dynamic()
                };
                let (after, report) = check_near(&pass, &tied(opset, product), 0.06);
                let text = lines(&after).join("\n");
                assert_eq!(count(&after, "MatMulInteger"), 1, "{text}");
                assert_eq!(codes(&after), 160, "{text}");
                assert!(!text.contains("float[5, 32]"), "{text}");
                let shared = report
                    .changes
                    .iter()
                    .find(|one| one.rule == "table-shared-with-product");
                assert_eq!(shared.map(|one| one.count), Some(1), "{report:#?}");
            }
        }
    }
}

#[test]
fn a_table_whose_rows_no_product_has_as_outputs_keeps_codes_of_its_own() {
    let text = tied(17, "s = MatMul(h, u) y = MatMul(s, w)")
        .replace("float[2,5] y", "float[2,32] y")
        .replace("float[5] b = {0.5, 0, 1, 2, -1}", "float[32,5] u");
    let numbers: Vec<String> = (0..160)
        .map(|at| format!("{}", (at % 7) as f64 * 0.1 - 0.3))
        .collect();
    let text = text.replace(
        "float[32,5] u",
        &format!("float[32,5] u = {{{}}}", numbers.join(",")),
    );
    let (after, report) = check_near(&dynamic(), &text, 0.08);
    assert_eq!(count(&after, "MatMulInteger"), 2);
    assert_eq!(codes(&after), 3 * 160);
    assert!(
        report
            .changes
            .iter()
            .all(|one| one.rule != "table-shared-with-product")
    );
}

#[test]
fn an_excluded_lookup_keeps_its_table_in_float() {
    let pass = QuantizeDynamic {
        exclude: vec!["^e$".to_owned()],
        ..dynamic()
    };
    let mut after = model(&tied(17, TURNED));
    let context =
        super::quantizing::context(&super::quantizing::Synthetic { samples: 2 }, Default::default());
    let report = secateur::passes::Pass::run(&pass, &mut after, &context).unwrap();
    assert_eq!(codes(&after), 0);
    assert!(told(&report).contains("reads its weight as float"), "{report:#?}");
}

#[test]
fn a_table_in_blocks_serves_lookups_and_products() {
    for (kind, bytes) in [(Kind::Int4, 80), (Kind::Uint4, 80), (Kind::Int8, 160)] {
        for symmetric in [true, false] {
            for product in [TURNED, GEMM] {
                let pass = QuantizeWeights {
                    kind,
                    symmetric,
                    block: 16,
                    form: Form::MatMulNBits,
                    minimum_elements: 1,
                    prepare: false,
                    ..QuantizeWeights::default()
                };
                let error = if bytes == 80 { 0.12 } else { 0.02 };
                let (after, report) = check_near(&pass, &tied(21, product), error);
                let text = lines(&after).join("\n");
                assert_eq!(count(&after, "GatherBlockQuantized"), 1, "{text}");
                assert_eq!(count(&after, "MatMulNBits"), 1, "{text}");
                assert_eq!(count(&after, "Reshape"), 1, "{text}");
                assert!(text.contains(&format!("uint8[5, {}]", bytes / 5)), "{text}");
                assert!(!told(&report).contains("form qdq"), "{report:#?}");
            }
        }
    }
}

#[test]
fn a_table_in_blocks_has_whole_blocks_and_no_other_readers() {
    let bodies = [
        // A row is no whole number of blocks.
        (64, "t = Transpose<perm = [1, 0]>(w) y = MatMul(h, t)"),
        // A bias for each element.
        (16, "y = Gemm<transB = 1, alpha = 0.5>(h, w, b)"),
    ];
    for (block, product) in bodies {
        let pass = QuantizeWeights {
            kind: Kind::Int4,
            block,
            form: Form::MatMulNBits,
            minimum_elements: 1,
            prepare: false,
            ..QuantizeWeights::default()
        };
        let (after, report) = check_near(&pass, &tied(21, product), 0.05);
        assert_eq!(count(&after, "GatherBlockQuantized"), 0);
        assert!(told(&report).contains("form qdq"), "{report:#?}");
    }
}
