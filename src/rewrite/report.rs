//! What a run of the driver did, and why a rule did not fire.

use std::collections::BTreeMap;
use std::fmt;

use crate::ir::GraphPath;

/// One rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The rule.
    pub rule: String,
    /// The graph.
    pub graph: GraphPath,
    /// The node at the root of the pattern, as it was called before.
    pub node: String,
    /// The new nodes.
    pub after: Vec<String>,
}

/// A rule that matched and was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule.
    pub rule: String,
    /// Why: the cost, the size, the name of an output, a protected name, an operator that cannot be evaluated.
    pub reason: String,
    /// How often, over all sweeps.
    pub count: u64,
}

/// What a run of the driver did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewriteReport {
    /// Every rewrite in order.
    pub fired: Vec<Fired>,
    /// Rules that matched without effect.
    pub refused: Vec<Refused>,
    /// Rewrites that would still have been allowed.
    pub fuel_left: u64,
    /// Whether the driver stopped for want of fuel.
    pub exhausted: bool,
}

impl RewriteReport {
    pub(crate) fn new(fuel: u64) -> Self {
        Self {
            fuel_left: fuel,
            exhausted: fuel == 0,
            ..Self::default()
        }
    }

    pub(crate) fn fire(&mut self, fired: Fired) {
        self.fuel_left = self.fuel_left.saturating_sub(1);
        self.fired.push(fired);
    }

    pub(crate) fn refuse(&mut self, rule: String, reason: String, count: u64) {
        match self
            .refused
            .iter_mut()
            .find(|known| known.rule == rule && known.reason == reason)
        {
            Some(known) => known.count += count,
            None => self.refused.push(Refused { rule, reason, count }),
        }
    }

    /// How often each rule fired, by name.
    pub fn counts(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for fired in &self.fired {
            *counts.entry(fired.rule.as_str()).or_default() += 1;
        }
        counts
    }
}

/// What a rule does at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It fires.
    Fires,
    /// The operators, attributes or constants are not those of the pattern.
    NoMatch(String),
    /// The operators fit, but a clause of `where` does not hold.
    CheckFailed {
        /// The clause.
        clause: String,
        /// Why it does not hold.
        reason: String,
    },
    /// The pattern fits, but the rewrite would not pay or is not possible.
    NoEffect(String),
}

impl WhyNot {
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::NoMatch(_) => 0,
            Self::CheckFailed { .. } => 1,
            Self::NoEffect(_) => 2,
            Self::Fires => 3,
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fires => f.write_str("the rule fires here"),
            Self::NoMatch(reason) => write!(f, "no match: {reason}"),
            Self::CheckFailed { clause, reason } => write!(f, "`{clause}` fails: {reason}"),
            Self::NoEffect(reason) => write!(f, "no effect: {reason}"),
        }
    }
}
