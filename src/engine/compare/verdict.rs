//! Verdicts and the tolerances behind them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ir::DType;

/// The answer to "do both compute the same", from best to worst. A combined verdict is the worst of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The same bits.
    Equal,
    /// Every output is within its tolerance.
    Within,
    /// At least one part could not be checked, and nothing else differs.
    NotChecked,
    /// At least one output differs by more than its tolerance.
    Different,
}

impl Verdict {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Within => "within",
            Self::NotChecked => "not-checked",
            Self::Different => "different",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest error an output may have, as a share of the largest magnitude of the reference.
/// Types that are not listed must agree exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerances(BTreeMap<DType, f64>);

impl Default for Tolerances {
    fn default() -> Self {
        Self(BTreeMap::from([
            (DType::F64, 1e-9),
            (DType::F32, 1e-4),
            (DType::F16, 1e-2),
            (DType::BF16, 5e-2),
        ]))
    }
}

impl Tolerances {
    /// The tolerance of an element type; complex types have that of their parts.
    pub fn of(&self, dtype: DType) -> f64 {
        let part = match dtype {
            DType::Complex64 => DType::F32,
            DType::Complex128 => DType::F64,
            other => other,
        };
        self.0.get(&part).copied().unwrap_or(0.0)
    }

    /// Sets the tolerance of an element type.
    pub fn set(&mut self, dtype: DType, tolerance: f64) {
        self.0.insert(dtype, tolerance);
    }
}
