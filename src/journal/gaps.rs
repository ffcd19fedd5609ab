//! Where a view shows nothing: whether there was something that a reader could not read.

use crate::error::{Error, Result};
use crate::id::Seq;
use crate::index::catalog::Section;
use crate::index::entities::Known;
use crate::journal::opening::read_manifest;
use crate::journal::view::{View, compacted};

impl View {
    /// Why a section of the row cannot be opened, with what was in it; `Compacted` if its file was removed for that.
    #[cold]
    pub(crate) fn unopened(&self, at: usize, section: &Section, error: Error) -> Error {
        let error = if error.is_not_found() { self.missing(section, error) } else { error };
        if error.is_passing() || error.seqs().is_some() || error.floor().is_some() {
            return error;
        }
        match self.catalog.lost_with(at) {
            Some(lost) => error.lost(lost),
            None => error,
        }
    }

    /// Why the file of a section is not there.
    fn missing(&self, section: &Section, error: Error) -> Error {
        let place = &self.index().place;
        let now = match read_manifest(&*place.directory) {
            Ok(Some(now)) => now,
            Err(unsure) if unsure.is_passing() => return unsure,
            _ => return error,
        };
        // A view of another process's log may be older than a compaction there.
        if now.compacted.covering(section.number).is_some_and(|cover| section.cover.as_ref() != Some(cover)) {
            let doing = format!("read on in segment {}", section.number);
            return compacted(doing, now.compacted.floor_of_all());
        }
        let path =
            error.path().map_or_else(|| place.directory.path().to_path_buf(), std::path::Path::to_path_buf);
        Error::corrupt("open a segment").at(path).place(section.number, 0).sides("its file", "no such file")
    }

    /// Between two Seqs there is nothing: an error where a reader goes on without what may have stood there.
    pub(crate) fn check_gap(&self, after: u64, before: u64) -> Result<()> {
        if self.catalog.holes.is_empty() || before <= after.saturating_add(1) {
            return Ok(());
        }
        self.catalog.unread_between(&self.index().place, after, before).map_or(Ok(()), Err)
    }

    /// The Seq up to which the view is asked: that of its last entry, and one more, with which what is missing behind that would
    /// begin; or that of its moment.
    pub(crate) fn asked_through(&self) -> u64 {
        match self.last_seq() {
            Ok(last) => self.through.min(last.map_or(0, Seq::get).saturating_add(1)),
            // Where nobody can tell, everything is asked.
            Err(_) => self.through,
        }
    }

    /// Why nobody can tell the newest of an entity in this view, if so.
    pub(crate) fn unread(&self, known: Option<Known>) -> Option<Error> {
        if !self.catalog.may_be_unread(known) {
            return None;
        }
        self.catalog.unread(&self.index().place, known, (0, self.asked_through()), false)
    }

    /// Behind all that there is, and behind a Seq: an error where something is missing there.
    pub(crate) fn check_end(&self, behind: u64) -> Result<()> {
        if self.catalog.holes.is_empty() {
            return Ok(());
        }
        let through = self.asked_through();
        self.check_gap(behind.max(through.saturating_sub(1)), through.saturating_add(1))
    }
}
