//! The integration tests, in one binary: a module for each area.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub
)]

mod analysis;
mod autodiff;
mod check;
mod cli;
mod axes;
mod corpus;
mod engine_corpus;
mod engine_nodes;
mod engines;
mod evaluate;
mod fold;
mod format;
mod malice;
mod passes;
mod pipeline;
mod shapes;
mod shapes_hostile;
mod text;
mod lowering;
mod node_tests;
mod rewriting;
mod rules;
