//! The resources of a step, with a place for what its candidates measure on data.

use std::path::Path;

use crate::data::Dataset;
use crate::engine::Engine;
use crate::ir::{Graph, Model, Tensor};
use crate::parts::Ledger;
use crate::passes::{Kept, ResourceError, Resources};

/// The same resources for every candidate.
pub(super) struct Shared<'a> {
    own: &'a dyn Resources,
    kept: Kept,
}

impl<'a> Shared<'a> {
    pub(super) fn new(own: &'a dyn Resources) -> Self {
        Self {
            own,
            kept: Kept::default(),
        }
    }
}

impl Resources for Shared<'_> {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        self.own.engine()
    }

    fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        self.own.data(role, graph)
    }

    fn describes(&self, role: &str) -> bool {
        self.own.describes(role)
    }

    fn model(&self, path: &Path) -> Result<Model, ResourceError> {
        self.own.model(path)
    }

    fn tensors(&self, path: &Path) -> Result<Vec<(String, Tensor)>, ResourceError> {
        self.own.tensors(path)
    }

    fn text(&self, path: &Path) -> Result<Option<String>, ResourceError> {
        self.own.text(path)
    }

    fn original(&self) -> Option<&Model> {
        self.own.original()
    }

    fn kept(&self) -> Option<&Kept> {
        Some(&self.kept)
    }

    fn ledger(&self) -> Option<&Ledger> {
        self.own.ledger()
    }

    fn jobs(&self) -> usize {
        self.own.jobs()
    }
}
