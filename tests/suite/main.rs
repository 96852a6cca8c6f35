//! The integration tests, in one binary: a module for each area.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub
)]

mod analysis;
mod autodiff;
mod axes;
mod check;
mod cli;
mod corpus;
mod engine_corpus;
mod engine_nodes;
mod engines;
mod evaluate;
mod face;
mod fold;
mod format;
mod judging;
mod lowering;
mod malice;
mod mutation;
mod node_tests;
mod nodes;
mod passes;
mod pipeline;
mod rewriting;
mod rules;
mod shapes;
mod shapes_hostile;
mod specials;
mod stream;
mod text;
