//! Options that several verbs share, and the values in them.

use std::time::Duration;

use clap::Args;

use indexmap::IndexMap;
use serde_json::Value;

use crate::api::{Comparison, DType, Data, Error, Options, Size, parse_value};

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
    /// How long to compare: no further sample is begun after this time, and the first one at each set of sizes always runs
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) verify_time: Option<Duration>,
}

impl Comparing {
    /// Adds what these flags say.
    pub(super) fn apply(&self, mut options: Options) -> Options {
        options.comparison = Comparison {
            sizes: self.sizes.clone(),
            tolerance: self.tolerance.clone(),
            rounds: self.rounds.max(1),
            unoptimised: self.unoptimised,
            time: self.verify_time,
            ..options.comparison
        };
        options
    }
}

/// What a dimension becomes, or all of an input's, from one argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Binding(String, Size);

/// The dimensions of several arguments and what they become.
pub(super) fn sizes_of(bindings: &[Binding]) -> Vec<(String, Size)> {
    let pair = |Binding(name, size): &Binding| (name.clone(), size.clone());
    bindings.iter().map(pair).collect()
}

const EXAMPLES: &str =
    "write NAME=SIZE, for example batch=4, x[0]=1 or, for all axes of an input, x=1,3,224,224";

/// Reads `NAME=SIZE`, `INPUT=SIZE,SIZE,...` and `INPUT:SIZE,SIZE,...`. In a whole shape, -1 and ? leave an axis as it is.
pub(super) fn binding(text: &str) -> Result<Binding, String> {
    let colon = || text.rsplit_once(':').filter(|(_, sizes)| sizes.contains(','));
    let (name, sizes) = text.rsplit_once('=').or_else(colon).ok_or(EXAMPLES)?;
    let name = name.trim();
    if name.is_empty() {
        return Err(EXAMPLES.to_owned());
    }
    let parts: Vec<&str> = sizes.split(',').map(str::trim).collect();
    let entry = |part: &str| -> Result<Size, String> {
        if let Ok(size) = part.parse::<u64>() {
            return Ok(Size::Fixed(size));
        }
        let is_name = part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
        if is_name {
            Ok(Size::Symbol(part.to_owned()))
        } else {
            Err(format!("{part:?} is not a size; {EXAMPLES}"))
        }
    };
    if let [part] = parts.as_slice() {
        return Ok(Binding(name.to_owned(), entry(part)?));
    }
    for part in parts.iter().filter(|part| !matches!(**part, "-1" | "?")) {
        entry(part)?;
    }
    // How many axes the input has, only the model says.
    Ok(Binding(name.to_owned(), Size::Symbol(parts.join(","))))
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

/// A variable and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variable(String, Value);

/// Reads `NAME=VALUE`, the value as YAML on one line.
pub(super) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or("write NAME=VALUE, for example macs=0.7")?;
    let value = parse_value(value).ok_or_else(|| format!("{value:?} is no value in YAML"))?;
    Ok(Variable(name.trim().to_owned(), value))
}

/// The values of all variables, each of which may have one.
pub(super) fn values_of(variables: &[Variable]) -> Result<IndexMap<String, Value>, Error> {
    let mut values = IndexMap::new();
    for Variable(name, value) in variables {
        if values.insert(name.clone(), value.clone()).is_some() {
            return Err(Error::usage(&format!("variable `{name}` is given twice")));
        }
    }
    Ok(values)
}

/// The data of `--data [ROLE=]DATA`, with their roles.
pub(super) fn data_of(texts: &[String]) -> Result<Vec<(Option<String>, Data)>, Error> {
    let one = |text: &String| {
        let (role, data) = Data::flag(text)?;
        Ok((role.map(str::to_owned), data))
    };
    texts.iter().map(one).collect()
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    text.trim()
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{text:?} is not a number of seconds, such as 10 or 0.5"))
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
        for wrong in ["x", "x=", "=1", "x=-1", "x:3", "x=1,", "x=1,a b"] {
            assert!(binding(wrong).is_err(), "{wrong}");
        }
        let named = |name: &str, size: &str| -> Result<Binding, String> {
            Ok(Binding(name.to_owned(), Size::Symbol(size.to_owned())))
        };
        assert_eq!(binding("x=1,3,?,320"), named("x", "1,3,?,320"));
        assert_eq!(binding("x:1, 3,-1,320"), named("x", "1,3,-1,320"));
        assert_eq!(binding("x[0]=N"), named("x[0]", "N"));
        assert_eq!(binding("N=4"), Ok(Binding("N".to_owned(), Size::Fixed(4))));
        for wrong in ["float", "flt=1", "float=-1", "float=nan"] {
            assert!(tolerance(wrong).is_err(), "{wrong}");
        }
    }
}
