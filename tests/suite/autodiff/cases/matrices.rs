//! Matrix products.

use super::{Case, Generator, Random};

pub(in crate::autodiff) const MATRICES: &[(&str, Generator)] = &[
    ("Einsum", |r| {
        let equation = r.pick(&[
            "ij,jk->ik",
            "bij,bjk->bik",
            "bhid,bhjd->bhij",
            "i,j->ij",
            "ij->ji",
            "ij->i",
            "ij,jk,kl->il",
            "bi,bi->b",
            "ij,jk",
            "bc,bchw->bchw",
        ]);
        let sizes: Vec<i64> = r.dims(26, 2, 3);
        let mut case = Case::new("Einsum", 12).with("equation", equation);
        for term in equation.split("->").next().unwrap().split(',') {
            let dims: Vec<i64> = term.bytes().map(|label| sizes[(label - b'a') as usize]).collect();
            case = case.random(r, &dims);
        }
        case
    }),
    ("Gemm", gemm),
    ("MatMul", |r| {
        let (m, k, n) = (r.int(1, 3), r.int(1, 3), r.int(1, 3));
        let batch = r.dims(r.pick(&[0, 0, 1, 2]), 2, 3);
        let join = |batch: Vec<i64>, tail: &[i64]| [batch.as_slice(), tail].concat();
        let (a, b) = match r.int(0, 5) {
            0 => (vec![k], join(batch, &[k, n])),
            1 => (join(batch, &[m, k]), vec![k]),
            2 => (vec![k], vec![k]),
            3 => (join(batch, &[m, k]), vec![k, n]),
            4 => (join(r.narrower(&batch), &[m, k]), join(batch, &[k, n])),
            _ => (join(batch.clone(), &[m, k]), join(r.narrower(&batch), &[k, n])),
        };
        Case::new("MatMul", r.pick(&[9, 13])).random(r, &a).random(r, &b)
    }),
];

fn gemm(r: &Random) -> Case {
    let (m, k, n) = (r.int(1, 4), r.int(1, 4), r.int(1, 4));
    let (ta, tb) = (r.bool(), r.bool());
    let a = if ta { [k, m] } else { [m, k] };
    let b = if tb { [n, k] } else { [k, n] };
    let opset = r.pick(&[9, 11, 13]);
    let mut case = Case::new("Gemm", opset).random(r, &a).random(r, &b);
    if ta {
        case = case.with("transA", 1i64);
    }
    if tb {
        case = case.with("transB", 1i64);
    }
    if r.bool() {
        case = case.with("alpha", r.uniform(0.3, 2.0) as f32);
    }
    if opset < 11 || r.int(0, 3) > 0 {
        let c = r.pick(&[vec![], vec![1], vec![n], vec![1, n], vec![m, 1], vec![m, n]]);
        if r.bool() {
            case = case.with("beta", r.uniform(0.3, 2.0) as f32);
        }
        case = case.random(r, &c);
    }
    case
}
