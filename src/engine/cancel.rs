//! Ending work from outside: a token that anybody may set, and an engine that begins no further call once it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{CompileOptions, Engine, EngineError, HeldSession, Look, RunValues, Session};
use crate::ir::{Model, Tensor};

/// Asks work to end. Clones are one token; it cannot be taken back.
///
/// What is looked at is the token, between the steps of a pipeline and between the samples that an engine runs: a single run of the
/// model, and what a step computes without running it, are not cut short.
///
/// # Examples
///
/// ```
/// let token = secateur::CancelToken::new();
/// let other = token.clone();
/// std::thread::spawn(move || other.cancel()).join().unwrap();
/// assert!(token.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that has this token to end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// What is set once work is to end, for those who know no engines.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    fn admit(&self) -> Result<(), EngineError> {
        if self.is_cancelled() {
            Err(EngineError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// An engine whose calls are refused once a token is set.
pub struct Cancellable<E> {
    engine: E,
    token: CancelToken,
}

impl<E: Engine> Cancellable<E> {
    /// `engine`, until `token` is set.
    pub fn new(engine: E, token: CancelToken) -> Self {
        Self { engine, token }
    }
}

impl<E: Engine> Engine for Cancellable<E> {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn release(&self) -> String {
        self.engine.release()
    }

    fn describe(&self) -> String {
        self.engine.describe()
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        self.token.admit()?;
        Ok(Box::new(Watched {
            session: self.engine.compile(model, options)?,
            token: self.token.clone(),
        }))
    }
}

impl Engine for Arc<dyn Engine> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn release(&self) -> String {
        (**self).release()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        (**self).compile(model, options)
    }
}

/// A session of a [`Cancellable`] engine.
struct Watched {
    session: Box<dyn Session>,
    token: CancelToken,
}

impl Session for Watched {
    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        self.token.admit()?;
        self.session.run(inputs)
    }

    fn observe(&self, inputs: &RunValues, names: &[String], look: Look<'_>) -> Result<(), EngineError> {
        self.token.admit()?;
        self.session.observe(inputs, names, look)
    }

    fn time(&self, inputs: &RunValues) -> Result<Duration, EngineError> {
        self.token.admit()?;
        self.session.time(inputs)
    }

    fn holding(&self, held: &[(String, Tensor)]) -> Option<Result<Box<dyn HeldSession + '_>, EngineError>> {
        if let Err(cancelled) = self.token.admit() {
            return Some(Err(cancelled));
        }
        self.session.holding(held)
    }
}
