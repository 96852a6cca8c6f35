//! What a rule or pass preserves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a rule or pass preserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Safety {
    /// The same bits.
    Exact,
    /// The same real-number function; floating-point results may differ by rounding.
    Rounding,
    /// Another function, close enough by a stated measure: judged by gates.
    Approximate,
}

impl Safety {
    /// The word that files and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Rounding => "rounding",
            Self::Approximate => "approximate",
        }
    }
}
