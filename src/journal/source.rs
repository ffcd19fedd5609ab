//! Where the log of a follower is: in this process, or written by another one.
//!
//! | | in this process | in another one |
//! | --- | --- | --- |
//! | what is visible becomes durable | when somebody asks for a sync | when the writer says so |
//! | what a follower has not seen yet | may be pinned | is there as long as it is mapped |
//! | the log | is one | may have to be opened again: compaction has left the reader behind, or a crash rewound it |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::id::Position;
use crate::index::finder::Index;
use crate::journal::core::Core;
use crate::journal::pins::Pins;
use crate::journal::reader::{LOOKS, Reader};
use crate::journal::view::View;
use crate::journal::waiting::Until;
use crate::meter::Meter;

/// Where a follower's log is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In this process: whoever moves a mark wakes who waits for it.
    Engine(Arc<Core>),
    /// Written by another process, which knows of nobody: the reader looks again and again.
    Reader(Reader),
}

impl Source {
    /// Counts what became of a reader of this process. What is read in another one, its writer knows nothing of.
    pub(crate) fn count(&self, counter: impl FnOnce(&Meter) -> &AtomicU64, more: u64) {
        if let Self::Engine(core) = self {
            counter(&core.meter).fetch_add(more, Ordering::Relaxed);
        }
    }

    /// How far a reader may see now.
    #[inline]
    pub(crate) fn limit(&self, until: Until) -> Result<Position> {
        match (self, until) {
            (Self::Engine(core), Until::Durable) => Ok(core.commit.durable()),
            (Self::Engine(core), Until::Visible) => Ok(core.commit.readable()),
            (Self::Reader(reader), Until::Visible) => reader.refresh(),
            (Self::Reader(reader), Until::Durable) => reader.refresh_durable(),
        }
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
        match self {
            Self::Engine(core) => &core.index,
            Self::Reader(reader) => reader.index(),
        }
    }

    /// Which store it is, and of which era.
    pub(crate) fn manifest(&self) -> &Manifest {
        match self {
            Self::Engine(core) => &core.manifest,
            Self::Reader(reader) => reader.manifest(),
        }
    }

    /// Where a follower says what it has not seen; another process has nobody to say it to.
    pub(crate) fn pins(&self) -> Option<&Arc<Pins>> {
        match self {
            Self::Engine(core) => Some(&core.pins),
            Self::Reader(_) => None,
        }
    }

    /// The log as it is now.
    pub(crate) fn view(&self) -> Result<View> {
        match self {
            Self::Engine(core) => Ok(core.view()),
            Self::Reader(reader) => reader.view(),
        }
    }

    /// Makes durable what there is; another process cannot be asked for that.
    pub(crate) fn sync(&self) -> Result<()> {
        match self {
            Self::Engine(core) => core.wait_durable(core.commit.visible()),
            Self::Reader(_) => Ok(()),
        }
    }

    /// False: what is visible becomes durable when another process says so.
    pub(crate) fn can_sync(&self) -> bool {
        matches!(self, Self::Engine(_))
    }

    /// The log up to what is durable.
    pub(crate) fn durable_view(&self) -> Result<View> {
        self.view_until(Until::Durable)
    }

    pub(crate) fn view_until(&self, until: Until) -> Result<View> {
        match self {
            Self::Engine(core) => Ok(View::new(Arc::clone(&core.index), self.limit(until)?)),
            Self::Reader(reader) => reader.view_until(until),
        }
    }

    /// Sees to it that compaction takes nothing of a view behind a Seq away while somebody has it. In this process it is given what
    /// its sections have mapped; what another one has unlinked stays as long as it is mapped here.
    ///
    /// # Errors
    ///
    /// `Compacted` if something was taken away before it could be mapped: a later view has what was kept of it.
    pub(crate) fn keep_whole(&self, view: &View, behind: u64) -> Result<()> {
        match self {
            Self::Engine(_) => Ok(()),
            Self::Reader(_) => view.map_behind(behind),
        }
    }

    /// The log up to what is durable, of which compaction takes nothing away.
    pub(crate) fn whole_durable_view(&self) -> Result<View> {
        let mut looks = 0;
        loop {
            looks += 1;
            let view = self.durable_view()?;
            match self.keep_whole(&view, 0) {
                Err(error) if error.kind() == ErrorKind::Compacted && looks < LOOKS => {}
                kept => return kept.map(|()| view),
            }
        }
    }

    /// True of an error after which the log of another process's writer may be [opened again](Self::open_again).
    pub(crate) fn has_lost_its_place(&self, error: &Error) -> bool {
        matches!(self, Self::Reader(_)) && matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Rewound)
    }

    /// Opens the log of another process's writer again, as it is now. False: it is this process's.
    pub(crate) fn open_again(&mut self) -> Result<bool> {
        let Self::Reader(reader) = self else { return Ok(false) };
        *reader = reader.opened_again()?;
        Ok(true)
    }

    /// Makes durable what there is before a place. False: it is not, and nobody here can.
    pub(crate) fn makes_durable(&self, end: Position) -> Result<bool> {
        match self {
            Self::Engine(_) => self.sync().map(|()| true),
            Self::Reader(reader) => Ok(reader.was_durable() >= end || reader.refresh_durable()? >= end),
        }
    }

    /// True if everything before a place was known to be durable when the log was last looked at: it is the same whenever
    /// the log is opened again.
    pub(crate) fn was_durable(&self, end: Position) -> bool {
        match self {
            Self::Engine(core) => end <= core.commit.durable(),
            Self::Reader(reader) => end <= reader.was_durable(),
        }
    }

    pub(crate) fn has_stopped(&self) -> bool {
        matches!(self, Self::Engine(core) if core.commit.stopped().is_some())
    }

    /// Why nothing more will come, if so. Behind one writer of another process the next may come.
    pub(crate) fn stopped(&self, doing: &str) -> Option<Error> {
        match self {
            Self::Engine(core) => core.commit.stopped().map(|stopped| core.stopped(stopped, doing)),
            Self::Reader(_) => None,
        }
    }

    pub(crate) fn check_not_forked(&self, doing: &str) -> Result<()> {
        match self {
            Self::Engine(core) => core.check_not_forked(doing),
            Self::Reader(_) => Ok(()),
        }
    }
}
