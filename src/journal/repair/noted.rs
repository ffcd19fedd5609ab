//! What damaged places said of cursors and kinds, and the repaired store does not say.
//!
//! A batch is saved whole or not at all, so a frame about a cursor may be lost whose own bytes are good, or all but one
//! of them. What such frames say is remembered until the log says it again: a preamble restates everything, and what is
//! not in it any more was retired before it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::disk::Directory;
use crate::format::cursor::CursorState;
use crate::format::frame::Frame;
use crate::format::manifest::CursorTable;
use crate::format::system::{Keep, KindInfo, System};
use crate::id::{FRAME_ALIGN, KINDS_MAX, KindId, Position, Seq, StoreId};
use crate::journal::cursors::region_of;
use crate::journal::region::Region;
use crate::journal::registry::Registry;
use crate::log::report::Damage;
use crate::log::salvage::{Salvaged, salvage};

/// What became of a cursor of which a damaged place has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CursorFate {
    /// The new store has none of that name.
    Gone,
    /// It is where it was before: its reader will see again what it had seen.
    Behind,
    /// It had been put back, and is where it was before: its reader will not see what it was to see again.
    Ahead,
    /// It had been retired, and is there again: it holds back what nobody reads.
    Back,
}

/// A cursor of which a damaged place says something that the new store does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostCursor {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub fate: CursorFate,
    /// Which entries it is about.
    pub region: Region,
    /// Up to where it had seen everything, as the damaged place says; `None`: it had seen nothing.
    pub had: Option<Seq>,
    /// The same in the new store.
    pub kept: Option<Seq>,
    /// What the damaged place says matches its checksum: it was lost for its frame's header, or with its batch. Else some
    /// byte of it is wrong, and it may say anything.
    pub content_good: bool,
    /// Where in the damaged store it says so.
    #[serde(serialize_with = "crate::journal::stats::as_text")]
    pub position: Position,
}

/// A kind of which the new store does not know what the damaged one had said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostKind {
    /// Its number.
    pub kind: KindId,
    /// What it is called in the new store; `None`: it is not there, and no entry is of it.
    pub name: Option<String>,
    /// What compaction keeps of it there.
    pub keep: Option<Keep>,
    /// What it was called, as the damaged place says; `None`: nothing says so any more.
    pub had_name: Option<String>,
    /// What compaction kept of it, as the damaged place says.
    pub had_keep: Option<Keep>,
    /// As of a [cursor](LostCursor::content_good); false where nothing says so any more.
    pub content_good: bool,
    /// Where in the damaged store it says so.
    #[serde(serialize_with = "place_as_text")]
    pub position: Option<Position>,
}

fn place_as_text<S: serde::Serializer>(place: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    match place {
        Some(place) => serializer.collect_str(place),
        None => serializer.serialize_none(),
    }
}

/// Something that a damaged place says.
#[derive(Debug)]
struct Said<T> {
    what: T,
    content_good: bool,
    position: Position,
}

impl Said<CursorState> {
    /// True if a frame behind it says the same or more. Where some byte of it is wrong, nothing in it counts against one
    /// that is good, not even its revision.
    fn gives_way_to(&self, cursor: &CursorState, content_good: bool) -> bool {
        self.what.revision <= cursor.revision || content_good && !self.content_good
    }

    /// What became of the cursor, of which the new store says this; `None`: nothing was lost of it.
    fn fate(&self, known: Option<&CursorState>) -> Option<CursorFate> {
        let Some(known) = known else {
            return (!self.what.retired).then_some(CursorFate::Gone);
        };
        if self.content_good && known.revision >= self.what.revision {
            return None;
        }
        if self.what.retired {
            return Some(CursorFate::Back);
        }
        match self.what.seq.cmp(&known.seq) {
            Ordering::Greater => Some(CursorFate::Behind),
            Ordering::Less => Some(CursorFate::Ahead),
            Ordering::Equal => None,
        }
    }
}

/// What damaged places have said so far, and nothing good behind them has said again.
#[derive(Default)]
pub(super) struct Noted {
    cursors: BTreeMap<String, Said<CursorState>>,
    kinds: BTreeMap<KindId, Said<KindInfo>>,
    /// The segment that was read last for this: damage comes in the order of the log.
    read: Option<Salvaged>,
}

impl Noted {
    /// A preamble restates all that there is.
    pub(super) fn restated(&mut self) {
        self.cursors.clear();
        self.kinds.clear();
    }

    /// A good frame says so.
    pub(super) fn learn_frame(&mut self, frame: &Frame<'_>) {
        match System::of(frame.header.operation) {
            Some(System::Cursor) => {
                if let Some(cursor) = CursorState::read(frame.payload())
                    && self.cursors.get(&cursor.name).is_some_and(|said| said.gives_way_to(&cursor, true))
                {
                    self.cursors.remove(&cursor.name);
                }
            }
            Some(System::Kind) => {
                if let Some(kind) = KindInfo::read(frame.payload()) {
                    self.kinds.remove(&kind.id);
                }
            }
            _ => {}
        }
    }

    /// The manifest's table says so, of where the log ended then.
    pub(super) fn learn_table(&mut self, table: &CursorTable) {
        for cursor in &table.cursors {
            let is_before = |said: &Said<CursorState>| said.position < table.at && !said.content_good;
            if self.cursors.get(&cursor.name).is_some_and(is_before) {
                self.cursors.remove(&cursor.name);
            }
        }
    }

    /// Looks at the bytes of a damaged place, from the start of its batch to where good frames begin again.
    pub(super) fn look_at(&mut self, directory: &dyn Directory, store: StoreId, damage: &Damage) {
        if Position::new(damage.segment, 0).is_in_part()
            || !self.read_segment(directory, store, damage.segment)
        {
            return;
        }
        let Some(read) = self.read.take() else { return };
        let end = damage.next_good.unwrap_or(read.bytes.len() as u64).min(read.bytes.len() as u64);
        for (position, frame, content_good) in statements(&read, damage.lost_from..end) {
            if let Some(cursor) = CursorState::read(frame.payload())
                && frame.header.operation == System::Cursor as u8
            {
                let known = self.cursors.get(&cursor.name);
                if known.is_none_or(|known| known.gives_way_to(&cursor, content_good)) {
                    let said = Said { what: cursor, content_good, position };
                    self.cursors.insert(said.what.name.clone(), said);
                }
            } else if let Some(kind) = KindInfo::read(frame.payload())
                && frame.header.operation == System::Kind as u8
                && (1..=KINDS_MAX).contains(&kind.id.0)
            {
                self.kinds.insert(kind.id, Said { what: kind, content_good, position });
            }
        }
        self.read = Some(read);
    }

    fn read_segment(&mut self, directory: &dyn Directory, store: StoreId, number: u32) -> bool {
        if self.read.as_ref().is_none_or(|read| read.segment.number() != number) {
            self.read = salvage(directory, store, number).ok();
        }
        self.read.is_some()
    }

    /// What of it is not in the new store.
    pub(super) fn lost_cursors(&self, registry: &Registry) -> Vec<LostCursor> {
        let lost = self.cursors.values().filter_map(|said| {
            let known = registry.cursors.get(&said.what.name);
            let fate = said.fate(known)?;
            Some(LostCursor {
                name: said.what.name.clone(),
                fate,
                region: region_of(&said.what),
                had: Seq::new(said.what.seq),
                kept: known.and_then(|known| Seq::new(known.seq)),
                content_good: said.content_good,
                position: said.position,
            })
        });
        lost.collect()
    }

    /// Kinds of which the new store does not say the same; `nameless` are those that it has a stand-in for.
    pub(super) fn lost_kinds(&self, registry: &Registry, nameless: &[KindId]) -> Vec<LostKind> {
        let mut lost: BTreeMap<KindId, LostKind> = BTreeMap::new();
        for (kind, said) in &self.kinds {
            let known = registry.get(*kind);
            if known.is_some_and(|known| known.name == said.what.name && known.keep == said.what.keep) {
                continue;
            }
            lost.insert(
                *kind,
                LostKind {
                    kind: *kind,
                    name: known.map(|known| known.name.clone()),
                    keep: known.map(|known| known.keep),
                    had_name: Some(said.what.name.clone()),
                    had_keep: Some(said.what.keep),
                    content_good: said.content_good,
                    position: Some(said.position),
                },
            );
        }
        for kind in nameless {
            let known = registry.get(*kind);
            lost.entry(*kind).or_insert_with(|| LostKind {
                kind: *kind,
                name: known.map(|known| known.name.clone()),
                keep: known.map(|known| known.keep),
                had_name: None,
                had_keep: None,
                content_good: false,
                position: None,
            });
        }
        lost.into_values().collect()
    }
}

/// The frames about cursors and kinds in a range of a segment of which at least one checksum matches.
fn statements(
    read: &Salvaged,
    range: Range<u64>,
) -> impl Iterator<Item = (Position, Frame<'_>, bool)> + use<'_> {
    let mut at = range.start.next_multiple_of(FRAME_ALIGN);
    std::iter::from_fn(move || {
        while at < range.end {
            let here = at;
            let place = usize::try_from(here).ok().and_then(|at| read.bytes.get(at..));
            let frame = place.and_then(Frame::parse).filter(is_statement);
            let position = read.segment.position(here);
            let sums = frame
                .map(|frame| (frame.head_is_good(read.segment.header.salt, position), frame.body_is_good()));
            let (Some(frame), Some((head, body))) = (frame, sums.filter(|(head, body)| *head || *body))
            else {
                at += FRAME_ALIGN;
                continue;
            };
            at += if head { frame.len() as u64 } else { FRAME_ALIGN };
            return Some((position, frame, body));
        }
        None
    })
}

/// True if this may be a frame about a cursor or a kind of which some byte is wrong. It has nothing but a payload.
fn is_statement(frame: &Frame<'_>) -> bool {
    const LONGEST: usize = 1 << 15;
    let header = frame.header;
    let lengths = header.lengths();
    let is_bare = lengths.extensions == 0 && lengths.key == 0 && lengths.metadata == 0;
    let is_about = header.operation == System::Cursor as u8 || header.operation == System::Kind as u8;
    is_about && is_bare && (1..=LONGEST).contains(&lengths.payload)
}
