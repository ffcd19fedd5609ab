//! By which door live state is followed: that of the process which writes it, or of one beside that.
//!
//! What follows is the same for both. What differs is here, and in [`Source`]: who says what a kind means, and
//! how far a follower sees.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{ErrorKind, Result};
use crate::journal::Journal;
use crate::journal::reader::Reader;
use crate::journal::region::Region;
use crate::journal::source::Source;
use crate::journal::subscriber::{SubscribeOptions, Subscriber};
use crate::journal::waiting::Until;
use crate::state::engine::State;
use crate::state::kind::Kind;
use crate::state::schema::Bound;

/// Where somebody begins to follow.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Store(Journal),
    Reader(Reader),
}

impl Door {
    /// Looks for what is new. A reader with which nobody has looked for long may have been left behind by compaction, or have
    /// seen what a crash took back: then it is opened again.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        let Self::Reader(reader) = self else { return Ok(()) };
        match reader.refresh() {
            Err(error) if matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Rewound) => {
                *reader = reader.opened_again()?;
            }
            looked => drop(looked?),
        }
        Ok(())
    }

    /// What a kind means here. The process that writes registers it; beside one it is what it is.
    pub(crate) fn bind<T: DeserializeOwned>(&self, doing: &str, kind: Kind<T>) -> Result<Arc<Bound>> {
        match self {
            Self::Store(journal) => {
                let core = journal.appending();
                core.check_not_forked(doing)?;
                State::of(core).schemas.bind(core, kind)
            }
            Self::Reader(reader) => Bound::found(&reader.registry().read(), kind).map(Arc::new),
        }
    }

    /// Where the log is, for who reads it himself.
    pub(crate) fn source(&self) -> Result<Source> {
        match self {
            Self::Store(journal) => {
                let core = journal.appending();
                core.check_writable()?;
                Ok(Source::Engine(Arc::clone(core)))
            }
            Self::Reader(reader) => Ok(Source::Reader(reader.clone())),
        }
    }

    /// Follows the entries of a kind. What is told of another process's log no power cut takes back, unless it was asked
    /// for: who is told of it may be there longer than the log's end.
    pub(crate) fn subscribe(
        &self,
        region: Region,
        options: SubscribeOptions,
        until: Option<Until>,
    ) -> Result<Subscriber> {
        match (self, until) {
            (Self::Store(journal), None) => journal.subscribe_with(region, options),
            (Self::Store(journal), Some(until)) => journal.subscribe_with(region, options.until(until)),
            (Self::Reader(reader), until) => {
                reader.subscribe(region, options.until(until.unwrap_or(Until::Durable)))
            }
        }
    }
}

/// What a kind means by now, if that has changed: beside a writer it may come to be, and gain fields.
pub(crate) fn renewed(source: &Source, bound: &Bound) -> Result<Option<Arc<Bound>>> {
    match source {
        // One process uses one type for a kind as long as it has the store open.
        Source::Engine(_) => Ok(None),
        Source::Reader(reader) => Ok(bound.renewed(&reader.registry().read())?.map(Arc::new)),
    }
}
