//! Gradients: each rule against finite differences, whole models against PyTorch.

mod cases;
mod check;
mod random;
mod rules;
