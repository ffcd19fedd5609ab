//! Importing live state: sources, and what its rows say of them.

use crate::error::{Error, ErrorKind, Result};
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{RowMark, RowOperation};
use crate::format::source::{DEADLINE_MAX, DEADLINE_MIN, SOURCE_NAME_BYTES_MAX, SOURCES_MAX, SourceInfo};
use crate::format::system::Owner;
use crate::journal::import::entry::ImportEntry;
use crate::journal::import::{Import, refused};

impl Import {
    /// Registers a source of live state, with the number that it had. Sources come before entries.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a number from 64 on, a name or a deadline over its limits, a number or name that was there
    /// before, or a source behind an entry.
    pub fn source(&mut self, source: SourceInfo) -> Result<()> {
        let done = self.try_source(source);
        self.failed |= done.is_err();
        done
    }

    fn try_source(&mut self, source: SourceInfo) -> Result<()> {
        let SourceInfo { id, ref name, liveness, .. } = source;
        let refused = |what: &str, expected: String, found: String| {
            Err(Error::new(ErrorKind::InvalidInput, format!("import the source {name:?}: {what}"))
                .sides(expected, found))
        };
        if usize::from(id) >= SOURCES_MAX {
            return refused("its number", format!("at most {}", SOURCES_MAX - 1), id.to_string());
        }
        if !(1..=SOURCE_NAME_BYTES_MAX).contains(&name.len()) {
            return refused(
                "its name",
                format!("1 to {SOURCE_NAME_BYTES_MAX} bytes"),
                name.len().to_string(),
            );
        }
        if !liveness.is_valid() {
            let limits = format!("{DEADLINE_MIN:?} to {DEADLINE_MAX:?} in whole milliseconds");
            return refused("its deadline", limits, format!("{liveness:?}"));
        }
        if self.last_seq > 0 || !self.batch.is_empty() {
            return refused("its place", "sources before entries".into(), "one behind an entry".into());
        }
        let mut registry = self.core.registry.write();
        if registry.sources().values().any(|known| known.id == id || known.name == *name) {
            return refused(
                "its number or its name",
                "those that no source has".into(),
                "one that is there".into(),
            );
        }
        registry.learn_source(source);
        Ok(())
    }

    /// What is wrong with a row beside the others: who asserts it, and by which schema it was written.
    pub(super) fn check_row(
        &mut self,
        seq: u64,
        version: u16,
        operation: RowOperation,
        mark: RowMark,
    ) -> Result<()> {
        if !(1..=version).contains(&mark.schema) {
            return Err(
                refused(seq, "the version of its schema").sides(format!("1 to {version}"), mark.schema)
            );
        }
        if (mark.sources == 0) != (operation == RowOperation::Deleted) {
            let found = format!("{} with the sources {:x}", operation.name(), mark.sources);
            return Err(
                refused(seq, "its sources").sides("none of what was deleted, and some of a row", found)
            );
        }
        self.unnamed |= mark.sources & !self.named();
        Ok(())
    }

    /// What is wrong with an operation beside the others. Its numbers rise like those of all events of its kind.
    pub(super) fn check_operation(&mut self, seq: u64, version: u16, entry: &ImportEntry) -> Result<()> {
        let Some((_, mark)) = entry.event else { return Ok(()) };
        if !(1..=version).contains(&mark.schema) {
            return Err(
                refused(seq, "the version of its schema").sides(format!("1 to {version}"), mark.schema)
            );
        }
        let (store, of_kind) = mark.sequence;
        let known = self.events.get(&entry.kind).copied().unwrap_or_default();
        // What is no event has the numbers of the one before it.
        let step = u64::from(entry.suppressed == 0);
        if store < known.0 + step || of_kind < known.1 + step || of_kind > store || store > seq {
            let expected = format!("numbers behind {} and {}", known.0, known.1);
            return Err(
                refused(seq, "its place among events").sides(expected, format!("{store} and {of_kind}"))
            );
        }
        self.events.insert(entry.kind, mark.sequence);
        Ok(())
    }

    /// The sources that are registered, one bit each.
    fn named(&self) -> u64 {
        self.core.registry.read().sources().keys().fold(0, |bits, id| bits | 1 << (id % 64))
    }

    /// Who asserts anything now has to be registered: another source would come to have its number, with all its rows. A row
    /// that another one has followed may name whoever was given up since.
    pub(super) fn check_who_asserts(&self) -> Result<()> {
        if self.unnamed == 0 {
            return Ok(());
        }
        let (view, named) = (self.core.view(), self.named());
        let registry = self.core.registry.read();
        for kind in registry.iter().filter(|kind| kind.owner == Owner::State) {
            for entry in view.kind(kind.id) {
                let entry = entry?;
                let sources = RowMark::read(entry.frame().extensions()).map_or(0, |mark| mark.sources);
                let newest = view.latest(kind.id, entry.key())?;
                if sources & !named != 0 && newest.is_some_and(|newest| newest.seq() == entry.seq()) {
                    return Err(refused(entry.seq().get(), "its sources").sides(
                        format!("some of those that were registered before: {named:x}"),
                        format!("{sources:x}"),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl ImportEntry {
    /// What is wrong with an operation by itself.
    pub(super) fn check_event(&self) -> Result<()> {
        let Some((operation, mark)) = self.event else { return Ok(()) };
        let (seq, retracts) = (self.seq.get(), operation == EventOperation::Retract);
        let is_patch = operation == EventOperation::Patch;
        if self.tombstone || retracts != self.payload.is_empty() {
            let found =
                format!("{}, tombstone {}, {} bytes", operation.name(), self.tombstone, self.payload.len());
            return Err(refused(seq, "what was said")
                .sides("a row unless it was a retraction, and no tombstone", found));
        }
        if retracts && mark.changed.is_some() || is_patch != mark.present.is_some() {
            let EventMark { changed, present, .. } = mark;
            return Err(refused(seq, "its fields").sides(
                "those that a patch names, and none that a retraction changes",
                format!("{} that changed {changed:x?} and named {present:x?}", operation.name()),
            ));
        }
        if mark.version.max(mark.version_before.unwrap_or(0)) > crate::id::SEQ_MAX {
            return Err(
                refused(seq, "its version").sides(format!("at most {}", crate::id::SEQ_MAX), mark.version)
            );
        }
        Ok(())
    }
}
