//! Gradients: each rule against finite differences, whole models against PyTorch.

mod cases;
mod check;
mod interface;
mod losses;
mod pytorch;
mod random;
mod rules;
mod written_out;
