//! secateur rewrites ONNX models before deployment and proves that the result still computes what it should.

pub mod analysis;
pub mod autodiff;
pub mod axes;
pub mod cli;
pub mod data;
pub mod engine;
pub mod evaluate;
pub mod features;
pub mod finetune;
pub mod fold;
pub mod format;
pub mod ir;
pub mod linalg;
pub mod lower;
pub mod ops;
pub mod passes;
pub mod pipeline;
pub mod proto;
pub mod quantize;
pub mod report;
pub mod rewrite;
pub mod schema;
pub mod statistics;
pub mod transfer;
pub mod verify;
pub mod yaml;
