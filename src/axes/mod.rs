//! The axis solver: which elements of which tensor axes can only be removed together, and which cannot be removed at all.
//!
//! Every axis of every value of the main graph is either *fixed* (it keeps its size) or a run of *elements*. Rules, one file an
//! operator family under `rules`, say which elements are the same ([`elements`]), which are a product of two factors
//! ([`elements::Product`]: an axis that a Reshape split or joined), and which are pinned, by which operator and axis.
//! [`units`] closes each element under these constraints: the result is the removal unit. [`rewrite`] removes units from a
//! model, and [`masked`](rewrite::masked) builds the model that must give the same outputs as the cut one.
//!
//! Invariant: a union of closed sets of elements is closed, so any choice of unpinned units that empties no axis is valid.
//! An operator without a rule pins what it reads. Depends on [`crate::analysis`], [`crate::ops`] and [`crate::ir`].

mod elements;
mod pins;
mod rule;
mod rules;
mod sizes;
mod solve;
mod units;

pub mod rewrite;

pub use elements::Axis;
pub use pins::Pin;
pub use rules::operators;
pub use solve::{Solution, solve};
pub use units::{Group, Member, Placed, Removal, RemovalError, Unit};
