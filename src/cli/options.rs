//! Options that several verbs share, and the values in them.

use std::collections::BTreeMap;

use clap::Args;

use super::global::Global;
use crate::ir::DType;
use crate::verify::{Sizes, Tolerances, VerifyOptions};

/// How outputs are compared.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Comparing {
    /// Size of a free dimension in runs, by symbol or as input[axis]
    #[arg(id = "size", long = "size", value_name = "NAME=SIZE", value_parser = size)]
    pub(super) sizes: Vec<(String, i64)>,
    /// Largest error of an element type, as a share of the largest magnitude of the reference
    #[arg(long, value_name = "DTYPE=SHARE", value_parser = tolerance)]
    pub(super) tolerance: Vec<(DType, f64)>,
    /// Rounds of synthetic inputs at each size; a round has one sample of each kind
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(super) rounds: u64,
    /// Run models without the engine's own optimisation: slower, but rewrites that keep every bit give equal bits
    #[arg(long)]
    pub(super) unoptimised: bool,
}

impl Comparing {
    /// The options of a comparison on synthetic inputs.
    pub(super) fn verify_options(&self, global: &Global) -> VerifyOptions {
        let mut tolerances = Tolerances::default();
        for (dtype, share) in &self.tolerance {
            tolerances.set(*dtype, *share);
        }
        VerifyOptions {
            seed: global.seed,
            tolerances,
            sizes: self.sizes(),
            data: None,
            rounds: self.rounds.max(1),
            optimise: !self.unoptimised,
            map: Vec::new(),
            every_size: false,
        }
    }

    /// The chosen sizes.
    pub(super) fn sizes(&self) -> Sizes {
        self.sizes.iter().cloned().collect::<BTreeMap<_, _>>()
    }
}

/// Reads `NAME=SIZE`.
pub(super) fn size(text: &str) -> Result<(String, i64), String> {
    let (name, size) = text
        .rsplit_once('=')
        .ok_or("write NAME=SIZE, for example batch=4 or x[0]=1")?;
    let size: i64 = size
        .trim()
        .parse()
        .map_err(|_| format!("{size:?} is not a size"))?;
    if size < 0 || name.is_empty() {
        return Err("write NAME=SIZE with a size of at least 0".to_owned());
    }
    Ok((name.to_owned(), size))
}

/// Reads `DTYPE=SHARE`; element types also by their short names.
pub(super) fn tolerance(text: &str) -> Result<(DType, f64), String> {
    let (name, share) = text
        .split_once('=')
        .ok_or("write DTYPE=SHARE, for example float=1e-3")?;
    let name = match name {
        "f64" | "float64" => "double",
        "f32" | "float32" => "float",
        "f16" => "float16",
        "bf16" => "bfloat16",
        other => other,
    };
    let dtype = DType::from_name(name).ok_or_else(|| format!("{name:?} is not an element type"))?;
    let share: f64 = share
        .trim()
        .parse()
        .map_err(|_| format!("{share:?} is not a number"))?;
    if share.is_nan() || share < 0.0 {
        return Err("a tolerance is at least 0".to_owned());
    }
    Ok((dtype, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tolerances_are_read_or_refused() {
        assert_eq!(size("x[0]=1"), Ok(("x[0]".to_owned(), 1)));
        assert_eq!(size("past + 1=5"), Ok(("past + 1".to_owned(), 5)));
        assert_eq!(tolerance("f32=1e-3"), Ok((DType::F32, 1e-3)));
        for wrong in ["x", "x=", "=1", "x=-1", "x=a"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["float", "flt=1", "float=-1", "float=nan"] {
            assert!(tolerance(wrong).is_err(), "{wrong}");
        }
    }
}
