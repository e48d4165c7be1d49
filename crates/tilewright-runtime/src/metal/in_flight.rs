//! What was submitted to a GPU and may not be finished.

use super::system::Commands;
use super::{MetalError, Span};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Something that the GPU works on, or has finished.
#[derive(Clone)]
pub(super) struct Submitted {
    commands: Commands,
    /// For errors: a kernel's name.
    what: Arc<str>,
}

impl Submitted {
    pub fn new(commands: Commands, what: Arc<str>) -> Submitted {
        Submitted { commands, what }
    }

    /// Waits, and says when the GPU worked on it.
    ///
    /// # Errors
    /// [`MetalError::Failed`]: what it wrote is not to be used then.
    pub fn wait(&self) -> Result<Span, MetalError> {
        let failed = |message| MetalError::Failed { what: self.what.to_string(), message };
        self.commands.wait().map_err(failed)
    }

    fn succeeded(&self) -> bool {
        self.commands.done() && self.commands.wait().is_ok()
    }
}

/// All that was submitted to a stream or with a buffer, oldest first, without what has succeeded at its beginning.
#[derive(Default)]
pub(super) struct InFlight(Mutex<VecDeque<Submitted>>);

impl InFlight {
    pub fn push(&self, submitted: Submitted) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.front().is_some_and(Submitted::succeeded) {
            all.pop_front();
        }
        all.push_back(submitted);
    }

    /// What it holds now.
    pub fn now(&self) -> Vec<Submitted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Waits for all of it and forgets it. Others that push or wait do so after.
    ///
    /// # Errors
    /// The first failure.
    pub fn wait(&self) -> Result<(), MetalError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wait_for(std::mem::take(&mut *all).make_contiguous())
    }
}

/// Waits for all of these.
///
/// # Errors
/// The first failure.
pub(super) fn wait_for(all: &[Submitted]) -> Result<(), MetalError> {
    let mut outcome = Ok(());
    for submitted in all {
        outcome = outcome.and(submitted.wait().map(|_| ()));
    }
    outcome
}
