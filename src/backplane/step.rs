//! What a commit consists of, and what it answers.

use crate::backplane::name::{Offset, Revision, Stamp};

/// One step of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step<'a> {
    /// Appends a record to a topic.
    Append(Append<'a>),
    /// Changes a cell.
    Put(Put<'a>),
}

/// A record that is to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Append<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The key of the topic.
    pub key: &'a [u8],
    /// What happened.
    pub payload: &'a [u8],
    /// By whom, and as the how manieth of the topic.
    pub stamp: Stamp,
    /// The offset that the newest record of the topic must have; [`Offset::BEGINNING`]: there must be none.
    pub expect: Option<Offset>,
    /// The version of what the payload is, for those who read it; 0: not said.
    pub schema: u16,
}

impl<'a> Append<'a> {
    /// A record that expects nothing.
    #[must_use]
    pub const fn new(stream: &'a str, key: &'a [u8], payload: &'a [u8], stamp: Stamp) -> Self {
        Self { stream, key, payload, stamp, expect: None, schema: 0 }
    }

    /// Only if the newest record of the topic is this one.
    #[must_use]
    pub const fn expect(mut self, newest: Offset) -> Self {
        self.expect = Some(newest);
        self
    }

    /// Says what version the payload is of.
    #[must_use]
    pub const fn schema(mut self, version: u16) -> Self {
        self.schema = version;
        self
    }
}

/// A change of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Put<'a> {
    /// The key of the cell.
    pub cell: &'a [u8],
    /// The revision that it must have.
    pub expect: Revision,
    /// What it is to hold; `None`: nothing. It keeps its revision all the same.
    pub value: Option<&'a [u8]>,
    /// By whom: the change is known by it when it is repeated.
    pub stamp: Stamp,
}

impl<'a> Put<'a> {
    /// A change from a revision on.
    #[must_use]
    pub const fn new(cell: &'a [u8], expect: Revision, value: Option<&'a [u8]>, stamp: Stamp) -> Self {
        Self { cell, expect, value, stamp }
    }
}

impl Step<'_> {
    pub(crate) const fn stamp(&self) -> Stamp {
        match self {
            Self::Append(append) => append.stamp,
            Self::Put(put) => put.stamp,
        }
    }
}

/// What the steps of a commit came to, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Done {
    /// One for each step.
    pub steps: Vec<StepDone>,
}

impl Done {
    /// Of these steps.
    #[must_use]
    pub const fn new(steps: Vec<StepDone>) -> Self {
        Self { steps }
    }

    /// The offset of the record that a step appended; `None` for one that appends none.
    #[must_use]
    pub fn offset(&self, step: usize) -> Option<Offset> {
        match self.steps.get(step)? {
            StepDone::Appended { offset, .. } => Some(*offset),
            StepDone::Put { .. } => None,
        }
    }

    /// The revision to which a step brought its cell; `None` for one that changes none.
    #[must_use]
    pub fn revision(&self, step: usize) -> Option<Revision> {
        match self.steps.get(step)? {
            StepDone::Put { revision, .. } => Some(*revision),
            StepDone::Appended { .. } => None,
        }
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDone {
    /// A record has been appended.
    Appended {
        /// Where it is.
        offset: Offset,
        /// It was there before.
        repeated: bool,
    },
    /// A cell has been changed.
    Put {
        /// Its revision then.
        revision: Revision,
        /// It was so before.
        repeated: bool,
    },
}
