//! What was said, operation by operation, and whether the store tells it so.

use std::collections::{BTreeMap, BTreeSet};

use esker::{Event, EventItem, EventKind, EventOperation, Start};

use super::oracle::Row;
use super::{KEYS, World, ensure, met};

/// Why an operation is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suppressed {
    No,
    InEpoch,
    Synthetic,
}

/// An operation, with what it did to the row as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) key: &'static str,
    source: usize,
    operation: EventOperation,
    kind: EventKind,
    before: Option<Row>,
    after: Option<Row>,
    sources: BTreeSet<usize>,
    suppressed: Suppressed,
    /// The version of the kind's schema that wrote it.
    schema: u16,
}

impl Told {
    /// The rows that it has.
    pub(crate) fn rows(&mut self) -> impl Iterator<Item = &mut Row> {
        self.before.iter_mut().chain(&mut self.after)
    }
}

impl World {
    /// Takes note of an operation that was applied.
    pub(super) fn tell(
        &mut self,
        key: &'static str,
        source: usize,
        operation: EventOperation,
        before: Option<Row>,
        suppressed: Suppressed,
    ) {
        if !self.kind.has_events() {
            return;
        }
        if suppressed != Suppressed::No {
            met("events were suppressed");
        }
        let kind = match (operation, &before) {
            (EventOperation::Retract, _) => EventKind::Retracted,
            (_, None) => EventKind::Created,
            (_, Some(_)) => EventKind::Updated,
        };
        let entity = self.oracle.now.get(key);
        let after = entity.filter(|_| operation != EventOperation::Retract).map(|entity| entity.row.clone());
        let sources = entity.map(|entity| entity.sources.clone()).unwrap_or_default();
        let schema = self.kind.schema_version();
        self.oracle.told.push(Told {
            key,
            source,
            operation,
            kind,
            before,
            after,
            sources,
            suppressed,
            schema,
        });
    }

    /// How many operations the store has, if it logs them.
    pub(super) fn count_told(&self) -> Option<usize> {
        if !self.kind.has_events() {
            return None;
        }
        let journal = self.store.journal();
        let operations = journal.kinds().into_iter().find(|kind| kind.name == "esker.events.row");
        Some(operations.map_or(0, |kind| journal.view().kind(kind.id).count()))
    }

    /// The store tells what was said, from the beginning, and what it tells comes to what is there.
    pub(super) fn check_told(&mut self) -> Result<(), String> {
        if !self.kind.has_events() {
            return Ok(());
        }
        // A window that ended for the next one's sake is visible, and durable with the next sync.
        self.store.journal().sync().map_err(|error| error.to_string())?;
        self.all_is_durable()?;
        let stream = self.store.events(self.kind).from(Start::Oldest).include_synthetic(true);
        let mut events = stream.start().map_err(|error| error.to_string())?;
        let mut expected = self.oracle.told[..self.oracle.visible().told].to_vec();
        let mut at = 0;
        let (mut projected, mut number) = (BTreeMap::new(), 0);
        while let Some(item) = events.try_next().map_err(|error| error.to_string())? {
            let EventItem::Event(event) = item else { return Err(format!("{item:?}")) };
            // What the end of an epoch or a deadline retracts comes in any order of entities.
            let block = expected[at..].iter().take_while(|told| told.suppressed == Suppressed::Synthetic);
            if let Some(found) = block.into_iter().position(|told| told.key.as_bytes() == event.key()) {
                expected[at..=at + found].rotate_right(1);
            }
            let told = expected.get(at).ok_or_else(|| format!("{event:?} was never said"))?;
            at += 1;
            number += u64::from(told.suppressed == Suppressed::No);
            let numbered = Some(number).filter(|_| told.suppressed == Suppressed::No);
            ensure(
                (event.sequence(), event.kind_sequence()) == (numbered, numbered),
                &format!("{event:?} is number {numbered:?}"),
            )?;
            same(&event, told, self.kind.schema_version())
                .map_err(|error| format!("{event:?}, expected {told:?}: {error}"))?;
            project(&mut projected, told.key, &event);
        }
        ensure(at == expected.len(), "everything that was said is told")?;
        met("events were told again");
        for key in KEYS {
            let row = self.store.get(self.kind, key).map_err(|error| error.to_string())?;
            let row = row.map(|row| {
                (row.version(), row.sources().ids().map(usize::from).collect(), row.value().unwrap())
            });
            let found = projected.remove(key);
            ensure(found == row, &format!("{key}: events come to {found:?}, and there is {row:?}"))?;
        }
        Ok(())
    }
}

fn same(event: &Event<'_, Row>, told: &Told, schema: u16) -> Result<(), String> {
    let text = |error: esker::Error| error.to_string();
    ensure(event.key() == told.key.as_bytes() && usize::from(event.source()) == told.source, "who and what")?;
    ensure((event.operation(), event.kind()) == (told.operation, told.kind), "what it did")?;
    ensure(event.value().map_err(text)? == told.after, "the row behind it")?;
    let before = told.before.clone().filter(|_| told.kind == EventKind::Updated);
    ensure(event.previous().map_err(text)? == before, "the row before it")?;
    ensure(event.sources().ids().map(usize::from).collect::<BTreeSet<_>>() == told.sources, "its sources")?;
    ensure(event.is_in_epoch() == (told.suppressed == Suppressed::InEpoch), "in an epoch")?;
    ensure(event.is_synthetic() == (told.suppressed == Suppressed::Synthetic), "by an epoch or a deadline")?;
    if let (Some(before), Some(after)) = (&before, &told.after) {
        let differs = [("a", before.a != after.a), ("b", before.b != after.b), ("c", before.c != after.c)];
        ensure(
            differs.iter().all(|(field, differs)| event.has(field) == (*differs || told.schema != schema)),
            "the fields that changed",
        )?;
    }
    Ok(())
}

/// What somebody has who knows nothing but events.
fn project(
    projected: &mut BTreeMap<&'static str, (u64, BTreeSet<usize>, Row)>,
    key: &'static str,
    event: &Event<'_, Row>,
) {
    let sources: BTreeSet<usize> = event.sources().ids().map(usize::from).collect();
    if sources.is_empty() {
        projected.remove(key);
        return;
    }
    let value = event.value().ok().flatten();
    let row = value.or_else(|| projected.remove(key).map(|(_, _, row)| row));
    if let Some(row) = row {
        projected.insert(key, (event.version(), sources, row));
    }
}
