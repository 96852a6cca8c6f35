//! Which units went, in a form that another export of the same model understands: by the names and axes of constants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::axes::{Group, Solution};

/// Why a history does not say which units of a model go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Another form than this program reads.
    #[error("the history has version {found}, this program reads {VERSION}")]
    Version {
        /// The version of the history.
        found: u32,
    },
    /// The model lacks a group.
    #[error("the model has no group of units like the one of {constant}")]
    NoGroup {
        /// The first constant of the group.
        constant: String,
    },
    /// A group of the model lacks a unit.
    #[error("{constant} has no unit with the indices {indices:?}")]
    NoUnit {
        /// The first constant of the group.
        constant: String,
        /// Its indices.
        indices: Vec<u32>,
    },
}

/// The removed units of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Version of this form.
    pub version: u32,
    /// Groups that lost units, in graph order.
    pub groups: Vec<HistoryGroup>,
    /// What went in further rounds, from what the rounds before left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Vec<HistoryGroup>>,
}

/// A group that lost units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryGroup {
    /// What its units cut.
    pub members: Vec<HistoryMember>,
    /// For each removed unit the indices that it takes along the axis of the first member.
    pub removed: Vec<Vec<u32>>,
}

/// An axis of a constant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryMember {
    /// Name of the constant.
    pub name: String,
    /// The axis.
    pub axis: usize,
    /// Its size before.
    pub size: u32,
    /// Elements that a unit takes.
    pub per_unit: u32,
}

/// The form that this version writes.
const VERSION: u32 = 1;

fn members(group: &Group) -> Vec<HistoryMember> {
    group
        .members
        .iter()
        .map(|m| HistoryMember {
            name: m.name.clone(),
            axis: m.axis,
            size: m.size,
            per_unit: m.per_unit,
        })
        .collect()
}

fn first_slices(group: &Group, unit: usize) -> Vec<u32> {
    let slices = group
        .units
        .get(unit)
        .map(|unit| unit.slices.as_slice())
        .unwrap_or_default();
    slices
        .iter()
        .filter(|(member, _)| *member == 0)
        .map(|(_, index)| *index)
        .collect()
}

impl History {
    /// What a choice removes.
    pub(super) fn of(solution: &Solution, chosen: &[(usize, usize)]) -> Self {
        let mut groups: Vec<HistoryGroup> = Vec::new();
        for chunk in chosen.chunk_by(|a, b| a.0 == b.0) {
            let Some(group) = chunk.first().and_then(|(at, _)| solution.groups().get(*at)) else {
                continue;
            };
            let removed = chunk.iter().map(|(_, unit)| first_slices(group, *unit)).collect();
            groups.push(HistoryGroup {
                members: members(group),
                removed,
            });
        }
        Self {
            version: VERSION,
            groups,
            further: Vec::new(),
        }
    }

    /// One history a round.
    pub(super) fn rounds(&self) -> impl Iterator<Item = Self> + '_ {
        let first = std::iter::once(&self.groups);
        first.chain(&self.further).map(|groups| Self {
            version: self.version,
            groups: groups.clone(),
            further: Vec::new(),
        })
    }

    /// The same choice of the first round in another solution.
    ///
    /// # Errors
    /// When the solution lacks a group or a unit.
    pub fn find(&self, solution: &Solution) -> Result<Vec<(usize, usize)>, HistoryError> {
        if self.version != VERSION {
            return Err(HistoryError::Version { found: self.version });
        }
        let mut chosen = Vec::new();
        for wanted in &self.groups {
            let name = wanted.members.first().map_or("", |member| member.name.as_str());
            let found = solution
                .groups()
                .iter()
                .enumerate()
                .filter(|(_, group)| group.pin.is_none());
            let mut found = found
                .filter(|(_, group)| members(group) == wanted.members)
                .peekable();
            if found.peek().is_none() {
                return Err(HistoryError::NoGroup {
                    constant: name.to_owned(),
                });
            }
            let units: Vec<(usize, usize)> = found
                .flat_map(|(at, group)| (0..group.units.len()).map(move |unit| (at, unit)))
                .collect();
            for slices in &wanted.removed {
                let unit = units.iter().find(|(at, unit)| {
                    solution
                        .groups()
                        .get(*at)
                        .is_some_and(|group| first_slices(group, *unit) == *slices)
                });
                match unit {
                    Some(unit) => chosen.push(*unit),
                    None => {
                        return Err(HistoryError::NoUnit {
                            constant: name.to_owned(),
                            indices: slices.clone(),
                        });
                    }
                }
            }
        }
        chosen.sort_unstable();
        Ok(chosen)
    }
}
