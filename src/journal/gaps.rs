//! Where a view shows nothing: whether there was something that a reader could not read.

use crate::error::{Error, Result};
use crate::index::entities::Known;
use crate::journal::view::View;

impl View {
    /// Between two Seqs there is nothing: an error where a reader goes on without what may have stood there.
    pub(crate) fn check_gap(&self, after: u64, before: u64) -> Result<()> {
        if before <= after.saturating_add(1) {
            return Ok(());
        }
        self.catalog.unread_between(&self.index().place, after, before).map_or(Ok(()), Err)
    }

    /// Why nobody can tell the newest of an entity in this view, if so.
    pub(crate) fn unread(&self, known: Option<Known>) -> Option<Error> {
        self.catalog.unread(&self.index().place, known, self.through)
    }

    /// Behind all that there is: an error where something is missing there.
    pub(crate) fn check_end(&self) -> Result<()> {
        self.catalog.unread_at_the_end(&self.index().place, self.through).map_or(Ok(()), Err)
    }
}
