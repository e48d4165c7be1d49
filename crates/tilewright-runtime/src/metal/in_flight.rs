//! What was submitted to a GPU and may not be finished.

use super::system::Commands;
use super::{MetalError, Span};
use std::sync::{Arc, Mutex, PoisonError};

/// Something that the GPU works on, or has finished.
#[derive(Clone)]
pub(super) struct Submitted(Arc<Work>);

struct Work {
    commands: Commands,
    /// For errors: a kernel's name.
    what: Arc<str>,
}

impl Submitted {
    pub fn new(commands: Commands, what: Arc<str>) -> Submitted {
        Submitted(Arc::new(Work { commands, what }))
    }

    /// Waits, and says when the GPU worked on it.
    ///
    /// # Errors
    /// [`MetalError::Failed`]: what it wrote is not to be used then.
    pub fn wait(&self) -> Result<Span, MetalError> {
        let failed = |message| MetalError::Failed { what: self.0.what.to_string(), message };
        self.0.commands.wait().map_err(failed)
    }

    /// What [`wait`](Self::wait) gives where that does not block.
    pub fn outcome(&self) -> Option<Result<Span, MetalError>> {
        self.0.commands.done().then(|| self.wait())
    }

    fn is_in(&self, all: &[Submitted]) -> bool {
        all.iter().any(|other| Arc::ptr_eq(&self.0, &other.0))
    }
}

/// What was submitted to a stream or with a buffer and is not finished, oldest first, and the first failure before it.
#[derive(Default)]
pub(super) struct InFlight(Mutex<Vec<Submitted>>);

impl InFlight {
    /// Adds what it does not hold yet, and drops what is finished but for the first failure.
    pub fn add(&self, new: &[Submitted]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for submitted in new {
            if !submitted.is_in(&all) {
                all.push(submitted.clone());
            }
        }
        let mut failed = false;
        all.retain(|submitted| match submitted.outcome() {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(_)) => !std::mem::replace(&mut failed, true),
        });
    }

    /// What it holds now.
    pub fn now(&self) -> Vec<Submitted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops these.
    pub fn forget(&self, these: &[Submitted]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|submitted| !submitted.is_in(these));
    }

    /// Waits for what it holds now, and forgets that. Nobody else is held up meanwhile.
    ///
    /// # Errors
    /// The first failure.
    pub fn wait(&self) -> Result<(), MetalError> {
        let all = self.now();
        let outcome = wait_for(&all);
        self.forget(&all);
        outcome
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

#[cfg(all(test, not(target_vendor = "apple")))]
mod tests {
    use super::*;

    fn finished(outcome: Result<Span, String>, what: &str) -> Submitted {
        Submitted::new(Commands::finished(outcome), Arc::from(what))
    }

    #[test]
    fn of_what_is_finished_only_the_first_failure_is_held_until_somebody_waits() {
        let all = InFlight::default();
        for i in 0..100 {
            let outcome = if i % 10 == 3 { Err("a page fault".into()) } else { Ok(Span { start: 0.0, end: 1.0 }) };
            all.add(&[finished(outcome, &format!("launch {i}"))]);
        }
        assert_eq!(all.now().len(), 1);
        let failed = MetalError::Failed { what: "launch 3".into(), message: "a page fault".into() };
        assert_eq!(all.wait(), Err(failed));
        assert_eq!((all.wait(), all.now().len()), (Ok(()), 0));
    }
}
