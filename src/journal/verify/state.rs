//! What rows and operations of live state have to say, and what preambles say of them.

use std::collections::HashMap;

use crate::format::count::EventCount;
use crate::format::frame::{Frame, flag};
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{RowMark, RowOperation};
use crate::id::{KindId, Position};
use crate::journal::registry::Registry;
use crate::journal::verify::Checking;

/// The numbers of the last event that was met: of the store, and of each kind. Preambles may be ahead of them, where
/// a repair or an import has made the store.
#[derive(Debug, Default)]
pub(super) struct Met {
    store: u64,
    kinds: HashMap<KindId, u64>,
}

impl Checking<'_> {
    /// Looks at a frame of the state layer; others are passed over.
    pub(super) fn state_frame(&mut self, position: Position, frame: &Frame<'_>) {
        let operation = frame.header.operation;
        if let Some(operation) = RowOperation::of(operation) {
            self.row_frame(position, frame, operation);
        } else if let Some(operation) = EventOperation::of(operation) {
            self.operation_frame(position, frame, operation);
        }
    }

    fn row_frame(&mut self, position: Position, frame: &Frame<'_>, operation: RowOperation) {
        let mark = RowMark::read(frame.extensions());
        let is_gone = operation == RowOperation::Deleted;
        let is_wrong = mark.is_none_or(|mark| (mark.sources == 0) != is_gone);
        if is_wrong || frame.header.has(flag::TOMBSTONE) != is_gone || frame.header.has(flag::ASIDE) {
            let found = format!("{} with {mark:?}", operation.name());
            self.damage(position, "what a row says".into(), "sources unless it was deleted".into(), found);
        }
    }

    fn operation_frame(&mut self, position: Position, frame: &Frame<'_>, operation: EventOperation) {
        let mark = EventMark::read(frame.extensions());
        let header = frame.header;
        let retracts = operation == EventOperation::Retract;
        let is_whole = header.has(flag::ASIDE) && !header.has(flag::TOMBSTONE);
        let Some(mark) = mark.filter(|_| is_whole && retracts == frame.payload().is_empty()) else {
            let found = format!("{} with {mark:?} and {} bytes", operation.name(), frame.payload().len());
            let expected = "a row unless it was a retraction, beside the entries".into();
            return self.damage(position, "what an operation says".into(), expected, found);
        };
        let kind = KindId(header.kind.get());
        let is_event = !header.has(flag::SYNTHETIC) && !header.has(flag::IN_EPOCH);
        let known = self.met.kinds.insert(kind, mark.sequence.1).unwrap_or(0);
        let store = std::mem::replace(&mut self.met.store, mark.sequence.0);
        let behind = |number: u64| number.saturating_add(u64::from(is_event));
        let next = (behind(store), behind(known));
        // Preambles are ahead of what they precede where an import or a repair has made the store.
        let counted = (behind(self.registry.last_event()), behind(self.registry.last_event_of(kind)));
        let is_counted = is_event && mark.sequence == counted;
        let follows = |number: u64, next: u64, may_miss: bool| {
            number == next || is_counted || may_miss && number > next
        };
        let of_any = self.holes || self.kept.may_miss_any();
        let of_kind = self.holes || self.kept.may_miss(kind.0);
        if !follows(mark.sequence.0, next.0, of_any) || !follows(mark.sequence.1, next.1, of_kind) {
            let side = |(store, of_kind)| format!("number {store}, and {of_kind} of its kind");
            self.damage(position, "an event's place".into(), side(next), side(mark.sequence));
        }
        self.registry.learn_count(EventCount { kind, sequence: mark.sequence });
    }

    /// A preamble says how many events there were, so that none is numbered twice.
    pub(super) fn counts_are_restated(&mut self, position: Position, before: &Registry, restated: &Registry) {
        let said = |kind| restated.counts().find(|count| count.kind == kind);
        if let Some(count) =
            before.counts().find(|count| said(count.kind).is_none_or(|said| said.sequence < count.sequence))
        {
            let found = said(count.kind).map_or_else(|| "nothing".into(), |count| format!("{count:?}"));
            self.damage(position, "the events that a preamble counts".into(), format!("{count:?}"), found);
        }
    }
}
