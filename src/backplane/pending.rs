//! Commits that nobody has waited for yet.

use std::fmt;
use std::sync::Arc;

use crate::backplane::step::Done;
use crate::error::Result;

/// A commit that is done, and will be as durable as its backplane promises:
/// [`commit_nowait`](super::Backplane::commit_nowait).
#[derive(Clone)]
#[must_use = "a commit that nobody waits for may be lost to a power cut"]
pub struct Pending {
    done: Done,
    /// `None`: it is.
    wait: Option<Arc<dyn Awaited>>,
}

/// How a backplane is asked whether a commit is durable: for those who implement one.
pub trait Awaited: Send + Sync {
    /// True once it is.
    fn is_durable(&self) -> bool;

    /// Waits until it is.
    ///
    /// # Errors
    ///
    /// As [`Pending::wait_durable`].
    fn wait_durable(&self) -> Result<()>;

    /// Waits as long as [`commit`](super::Backplane::commit) does, which may be less.
    ///
    /// # Errors
    ///
    /// As [`wait_durable`](Self::wait_durable).
    fn wait_acknowledged(&self) -> Result<()> {
        self.wait_durable()
    }
}

impl Pending {
    /// What was waited for.
    pub const fn durable(done: Done) -> Self {
        Self { done, wait: None }
    }

    /// What can be waited for.
    pub fn new(done: Done, wait: impl Awaited + 'static) -> Self {
        Self { done, wait: Some(Arc::new(wait)) }
    }

    /// What its steps came to.
    #[must_use]
    pub const fn done(&self) -> &Done {
        &self.done
    }

    /// True once it is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.wait.as_ref().is_none_or(|wait| wait.is_durable())
    }

    /// Waits until it is durable.
    ///
    /// # Errors
    ///
    /// `Poisoned` if that failed: it may be there or not. `Closed` if the backplane was closed before.
    pub fn wait_durable(&self) -> Result<&Done> {
        self.wait.as_ref().map_or(Ok(()), |wait| wait.wait_durable())?;
        Ok(&self.done)
    }

    /// Waits as long as [`commit`](super::Backplane::commit) does.
    ///
    /// # Errors
    ///
    /// As [`wait_durable`](Self::wait_durable).
    pub fn wait_acknowledged(&self) -> Result<&Done> {
        self.wait.as_ref().map_or(Ok(()), |wait| wait.wait_acknowledged())?;
        Ok(&self.done)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({:?}, durable: {})", self.done.steps, self.is_durable())
    }
}
