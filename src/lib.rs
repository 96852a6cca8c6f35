//! secateur

pub mod proto;
