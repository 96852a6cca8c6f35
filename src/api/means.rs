//! What work gets from its options: threads, an engine, data, somebody who listens.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adjust::known_role;
use super::data::Data;
use super::error::Error;
use super::files::Files;
use super::options::{Options, Runtime};
use crate::engine::{Cancellable, Engine, OrtEngine, TractEngine};
use crate::ir;
use crate::passes::Limits;
use crate::verify::{Bounds, Sizes, Tolerances, VerifyOptions, unknown_size};

impl Options {
    /// The files that every call with these options reads.
    pub(crate) fn files(&self) -> Files {
        Files::new(self.force, &self.rules)
    }

    /// Threads to use.
    pub(crate) fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.jobs.unwrap_or_else(all)
    }

    /// Does `work` on as many threads as there are to be.
    pub(crate) fn on_threads<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
        match self.jobs {
            Some(jobs) if jobs != rayon::current_num_threads() => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
                let pool = pool.map_err(|error| Error::new("threads", error.to_string()))?;
                Ok(pool.install(work))
            }
            _ => Ok(work()),
        }
    }

    /// How far steps may go.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_growth: self.max_growth,
            fuel: self.fuel,
            ..Limits::default()
        }
    }

    /// The engine, until the token is set.
    pub(crate) fn make_engine(&self) -> Result<Arc<dyn Engine>, Error> {
        let engine: Arc<dyn Engine> = match self.engine {
            Runtime::Tract => Arc::new(TractEngine),
            Runtime::OnnxRuntime => {
                let engine = OrtEngine::load()?;
                self.say(&format!("{}, {}", engine.describe(), engine.path().display()));
                Arc::new(engine)
            }
        };
        Ok(match &self.cancel {
            Some(token) => Arc::new(Cancellable::new(engine, token.clone())),
            None => engine,
        })
    }

    /// Makes a remark.
    pub(crate) fn say(&self, remark: &str) {
        if let Some(note) = &self.note {
            note(remark);
        }
    }

    /// Says what goes on.
    pub(crate) fn tell(&self, what: &str, done: u64, total: Option<u64>) {
        if let Some(report) = &self.progress {
            report(what, done, total);
        }
    }

    /// An error once the work is to end. What was found until then may be wrong: an engine that is refused looks like one that fails.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        match &self.cancel {
            Some(token) if token.is_cancelled() => Err(Error::cancelled()),
            _ => Ok(()),
        }
    }

    /// How to compare with a model, whose free dimensions the sizes have to name.
    pub(crate) fn comparing(&self, model: &ir::Model) -> Result<VerifyOptions, Error> {
        let how = &self.comparison;
        let sizes: Sizes = how.sizes.iter().cloned().collect::<BTreeMap<_, _>>();
        if let Some(message) = unknown_size(model, &sizes) {
            return Err(Error::usage(&format!("--size: {message}")));
        }
        let mut tolerances = Tolerances::default();
        for (dtype, share) in &how.tolerance {
            tolerances.set(*dtype, *share);
        }
        Ok(VerifyOptions {
            seed: self.seed,
            tolerances,
            sizes,
            data: None,
            rounds: how.rounds.max(1),
            optimise: !how.unoptimised,
            bounds: Bounds {
                time: how.time,
                ..Bounds::default()
            },
            map: how.map.clone(),
            every_size: false,
            timed: None,
        })
    }

    /// The data of the first of these roles that there is, else those without a role. A role that is none is refused.
    pub(crate) fn data_of(&self, roles: &[&str]) -> Result<Option<Data>, Error> {
        let given = self.data.iter().filter_map(|(role, _)| role.as_deref());
        given.map(known_role).collect::<Result<Vec<_>, _>>()?;
        let of = |role: Option<&str>| self.data.iter().rev().find(|(own, _)| own.as_deref() == role);
        let found = roles.iter().find_map(|role| of(Some(role))).or_else(|| of(None));
        Ok(found.map(|(_, data)| match &self.preprocess {
            Some(preprocess) => data.clone().preprocessed(preprocess.clone()),
            None => data.clone(),
        }))
    }
}
