//! The compiled half of the Python package: the face of secateur for Python objects.
//!
//! Reports, options and errors cross as JSON, weights and samples as bytes that nobody copies. Everything that takes time runs on a
//! thread of its own ([`work`]), so that Python's other threads go on and Ctrl-C is answered. The other half, `python/secateur`, makes
//! of it what a Python user expects; nothing here is meant to be called by anybody else.

mod arrays;
mod calls;
mod container;
mod data;
mod error;
mod external;
mod model;
mod options;
mod pipeline;
mod plan;
mod process;
mod sweep;
mod work;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::arrays::Array;
    #[pymodule_export]
    use crate::calls::{
        Outcome, Stats, bisect, check, compare_reports, difference, evaluate, explain, explain_why_not,
        features, merge_stats, presets, run, schema, stats, step_names, verify,
    };
    #[pymodule_export]
    use crate::container::{Container, pack, unpack};
    #[pymodule_export]
    use crate::data::Data;
    #[pymodule_export]
    use crate::external::{convert_external, share, single_file};
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::options::Options;
    #[pymodule_export]
    use crate::pipeline::Pipeline;
    #[pymodule_export]
    use crate::plan::Plan;
    #[pymodule_export]
    use crate::process::{cli, engines_in_processes, engines_inside, limit_engine_calls};
    #[pymodule_export]
    use crate::sweep::Sweep;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
