//! An event: one operation of a source, as it was said, and what it did to the row as it was then.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::flag;
use crate::format::operation::{EventMark, EventOperation};
use crate::id::{KindId, Seq};
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::source::Source;
use crate::journal::view::View;
use crate::state::field::FieldOf;
use crate::state::kind::{Kind, RowFields};
use crate::state::net::follows;
use crate::state::reading::SourceSet;
use crate::state::row::{ALL_FIELDS, Said, value};
use crate::state::schema::Bound;

/// What an operation did to the row as it was with everything that had been said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// There was none.
    Created,
    /// There was one, whether it is another one now or not.
    Updated,
    /// A source says that it is not there, whether it said before that it was or not. Whether the entity is gone with that [`Event::sources`] tells.
    Retracted,
}

/// One operation of a source on an entity, borrowed from mapped memory: what an
/// [event stream](crate::Store::events) tells.
pub struct Event<'e, T> {
    pub(crate) kind: Kind<T>,
    pub(crate) log: &'e Source,
    pub(crate) bound: &'e Bound,
    pub(crate) entry: Entry<'e>,
    pub(crate) told: Told,
}

/// What an operation frame says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) operation: EventOperation,
    pub(crate) mark: EventMark,
    flags: u16,
}

impl Told {
    /// # Errors
    ///
    /// `Corrupt` if the entry is no operation frame: only the state layer writes such a kind.
    pub(crate) fn of(entry: &Entry<'_>) -> Result<Self> {
        let frame = entry.frame();
        let operation = EventOperation::of(frame.header.operation);
        let (Some(operation), Some(mark)) = (operation, EventMark::read(frame.extensions())) else {
            return Err(Error::corrupt(format!("read an operation of kind {}", entry.kind()))
                .concerning(entry.seq().get())
                .sides("an operation frame", format!("operation {}", frame.header.operation)));
        };
        Ok(Self { operation, mark, flags: frame.header.flags() })
    }

    /// Neither said in an epoch nor made up by one.
    pub(crate) fn is_event(&self) -> bool {
        self.flags & (flag::SYNTHETIC | flag::IN_EPOCH) == 0
    }

    /// There was a row, and there is one behind it.
    pub(crate) fn is_update(&self) -> bool {
        self.event() == EventKind::Updated
    }

    fn event(&self) -> EventKind {
        match (self.operation, self.mark.changed) {
            (EventOperation::Retract, _) => EventKind::Retracted,
            (_, None) => EventKind::Created,
            (_, Some(_)) => EventKind::Updated,
        }
    }
}

/// The frame with the row that an operation goes on from, and the version of its schema. `rows`: the kind of its rows.
pub(crate) fn row_before(
    log: &Source,
    rows: KindId,
    operation: &Entry<'_>,
) -> Result<Option<(OwnedEntry, u16)>> {
    let position = operation.position();
    // The log as it was: what came later is not walked over. No view ends in a part.
    let view = if position.is_in_part() { log.view()? } else { View::new(Arc::clone(log.index()), position) };
    let mut next = operation.to_owned();
    for before in view.entity_behind(operation.kind(), operation.key(), 0).rev() {
        let Some(before) = unless_compacted(before)? else { return Ok(None) };
        if before.seq() >= operation.seq() {
            continue;
        }
        if !follows(&next.entry(), &before) {
            return Ok(None);
        }
        let told = Told::of(&before)?;
        if told.operation != EventOperation::Retract {
            return Ok(Some((before.to_owned(), told.mark.schema)));
        }
        // One source of several: the row stayed as it was.
        next = before.to_owned();
    }
    if !next.entry().is_first() {
        return Ok(None);
    }
    committed_row_before(log, &view, rows, operation)
}

/// `None`: compaction has dropped it. Beside a writer of another process that may be known by its file alone, which is gone.
fn unless_compacted(found: Result<Entry<'_>>) -> Result<Option<Entry<'_>>> {
    match found {
        Err(error) if error.kind() == ErrorKind::Compacted => Ok(None),
        found => found.map(Some),
    }
}

/// The row that the log had before the first operation that is there, if nothing of it is missing.
fn committed_row_before(
    log: &Source,
    view: &View,
    rows: KindId,
    operation: &Entry<'_>,
) -> Result<Option<(OwnedEntry, u16)>> {
    let (key, seq) = (operation.key(), operation.seq());
    let mut before = view.entity_behind(rows, key, 0).rev();
    let before = before.find(|row| row.as_ref().map_or(true, |row| row.seq() < seq));
    let Some(row) = before.map(unless_compacted).transpose()?.flatten() else { return Ok(None) };
    let now = log.view()?;
    let is_next = match now.entity_behind(rows, key, seq.get()).next().map(unless_compacted).transpose()? {
        Some(next) => next.is_some_and(|next| follows(&next, &row)),
        None => true,
    };
    let said = Said::of(&row)?;
    Ok((is_next && said.is_alive()).then(|| (row.to_owned(), said.mark.schema)))
}

impl<'e, T> Event<'e, T> {
    /// What it did, as far as had been said until then: behind a retraction of the last source the next assertion
    /// creates, also where both are in one window.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.told.event()
    }

    /// What was said.
    #[must_use]
    pub fn operation(&self) -> EventOperation {
        self.told.operation
    }

    /// The key of its entity.
    #[must_use]
    pub fn key(&self) -> &'e [u8] {
        self.entry.key()
    }

    /// The number of the source that said it; see [`Journal::sources`](crate::Journal::sources).
    #[must_use]
    pub fn source(&self) -> u8 {
        self.entry.frame().header.source()
    }

    /// Who asserts the entity behind it.
    #[must_use]
    pub fn sources(&self) -> SourceSet {
        SourceSet(self.told.mark.sources)
    }

    /// Its number among the events of all kinds of the store, from 1, without a hole. `None`: it is none, see
    /// [`is_synthetic`](Self::is_synthetic) and [`is_in_epoch`](Self::is_in_epoch).
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.told.is_event().then_some(self.told.mark.sequence.0)
    }

    /// Its number among the events of its kind, from 1, without a hole.
    #[must_use]
    pub fn kind_sequence(&self) -> Option<u64> {
        self.told.is_event().then_some(self.told.mark.sequence.1)
    }

    /// No source said it: the end of an epoch, or of a source, takes back what was said before.
    #[must_use]
    pub fn is_synthetic(&self) -> bool {
        self.told.flags & flag::SYNTHETIC != 0
    }

    /// It was said in an epoch of its source.
    #[must_use]
    pub fn is_in_epoch(&self) -> bool {
        self.told.flags & flag::IN_EPOCH != 0
    }

    /// The version of the entity when its window was flushed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.told.mark.version
    }

    /// The version before that window; 0: the entity was not there. The same as [`version`](Self::version) if the window
    /// came to nothing.
    #[must_use]
    pub fn version_before(&self) -> u64 {
        self.told.mark.version_before.unwrap_or(self.told.mark.version)
    }

    /// True if this field of the row is another one than before the operation. Of an entity that was created all are; of
    /// one that a source retracted, none. Where another version of the schema wrote the event, all are too. A name that is no
    /// field is never one of them.
    #[must_use]
    pub fn has(&self, field: impl FieldOf<T>) -> bool {
        self.bound.bits_of(std::iter::once(field.field_name())) & self.changed_mask() != 0
    }

    /// The fields that are others than before the operation, by name.
    pub fn changed_fields(&self) -> impl Iterator<Item = &'e str> {
        self.bound.names_of(self.changed_mask())
    }

    /// The same as one bit a field, in the order in which the store came to know them.
    #[must_use]
    pub fn changed_mask(&self) -> u64 {
        match self.kind() {
            EventKind::Created => ALL_FIELDS,
            EventKind::Retracted => 0,
            EventKind::Updated => self.bits(self.told.mark.changed),
        }
    }

    /// The fields that the operation named: those of a patch, none of a retraction, else all. Of a patch that was written by
    /// another version of the schema nobody can tell which they are in this one: all of them.
    pub fn present_fields(&self) -> impl Iterator<Item = &'e str> {
        let present = match self.operation() {
            EventOperation::Retract => 0,
            _ => self.bits(self.told.mark.present),
        };
        self.bound.names_of(present)
    }

    /// Bits of another version of the schema say nothing of this one's fields.
    fn bits(&self, mask: Option<u64>) -> u64 {
        mask.filter(|_| self.told.mark.schema == self.bound.version).unwrap_or(ALL_FIELDS)
    }

    /// The row behind the operation, a patch's with what it left as it was; `None` of a retraction.
    ///
    /// # Errors
    ///
    /// `Codec` with the Seq, the kind and the cause, if it is not a value of `T`; `Schema` if a newer version of the kind wrote
    /// it. Other events are not affected.
    pub fn value(&self) -> Result<Option<T>>
    where
        T: DeserializeOwned,
    {
        match self.operation() {
            EventOperation::Retract => Ok(None),
            _ => value(self.kind, &self.entry, self.told.mark.schema).map(Some),
        }
    }

    /// What a patch said, and no more: the fields that it named. `None`: it is no patch.
    ///
    /// # Errors
    ///
    /// `Schema` if another version of the schema wrote it, whose fields are not this one's; [`value`](Self::value) is the whole row
    /// behind it.
    pub fn patch(&self) -> Result<Option<RowFields>> {
        if self.operation() != EventOperation::Patch {
            return Ok(None);
        }
        let (Bound { name, version, .. }, schema) = (self.bound, self.told.mark.schema);
        if schema != *version {
            return Err(Error::new(ErrorKind::Schema, format!("read a patch of the kind {name:?}"))
                .concerning(self.seq().get())
                .sides(format!("one that version {version} wrote"), format!("one of version {schema}")));
        }
        let Some(mut fields) = RowFields::read(self.entry.payload()) else {
            return Err(
                Error::corrupt(format!("read a patch of the kind {name:?}")).concerning(self.seq().get())
            );
        };
        let present: Vec<&str> = self.present_fields().collect();
        fields.retain(|field| present.contains(&field));
        Ok(Some(fields))
    }

    /// The row before an update, as it was with everything that had been said until then. `None`: it is no update, or
    /// compaction has dropped that row.
    ///
    /// Looked up when asked for, by the entity's history.
    ///
    /// # Errors
    ///
    /// As [`value`](Self::value); `Corrupt` or `Io` if the row cannot be read.
    pub fn previous(&self) -> Result<Option<T>>
    where
        T: DeserializeOwned,
    {
        if self.kind() != EventKind::Updated {
            return Ok(None);
        }
        match row_before(self.log, self.bound.id, &self.entry)? {
            Some((row, schema)) => value(self.kind, &row.entry(), schema).map(Some),
            None => Ok(None),
        }
    }

    /// The bytes that came with the operation.
    #[must_use]
    pub fn metadata(&self) -> &'e [u8] {
        self.entry.metadata()
    }

    /// Its place in the log: a key under which another system may know it.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.entry.seq()
    }

    /// When its window was flushed; see [`Entry::time`].
    #[must_use]
    pub fn time(&self) -> i64 {
        self.entry.time()
    }
}

impl<T> Clone for Event<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Event<'_, T> {}

impl<T> fmt::Debug for Event<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("kind", &self.kind())
            .field("operation", &self.operation())
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("source", &self.source())
            .field("sequence", &self.sequence())
            .field("version", &self.version())
            .field("changed", &self.changed_fields().collect::<Vec<_>>())
            .field("seq", &self.seq())
            .finish()
    }
}
