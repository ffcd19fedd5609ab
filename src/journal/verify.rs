//! Verifying a store: every byte that something can be said about, and what is wrong with it.
//!
//! Takes no lock and changes nothing. Works from copies that were read with calls, never through
//! a mapping, so that a bad sector is a finding and not a signal; beside a live writer, whose
//! unfinished tail is in progress and not damaged; and on a store that is damaged in any way.
//!
//! The log is walked by the same recovery that opens a store, with the purpose of salvage, and as far
//! as nothing is wrong with it through a window, in little memory; what
//! stands here is what an opening takes for granted: that the histories are dense, that the
//! preambles restate what was said before, and that the derived files say what the log says.

mod beside;
mod doors;
mod entity_pages;
mod histories;
#[cfg(test)]
mod histories_tests;
mod index_file;
mod indexed;
mod judge;
mod kept;
mod links;
#[cfg(test)]
mod moving_tests;
mod put_away;
#[cfg(test)]
mod put_away_tests;
mod settling;
mod state;
mod straight;
#[cfg(test)]
pub(crate) mod straight_tests;
pub(crate) mod window;

use std::sync::Arc;

use crate::disk::{Access, Directory, Name};
use crate::error::Result;
use crate::format::cursor::CursorState;
use crate::format::directory as entities_format;
use crate::format::frame::{FRAME_BYTES, Frame, flag};
use crate::format::index::{EntityHash, IndexParts};
use crate::format::segment::{FIRST_FRAME, file_name, number_of};
use crate::format::system::{KindInfo, Preamble, System};
use crate::format::{index as index_format, manifest};
use crate::id::{PART, Position, StoreId};
use crate::index::EntityHasher;
use crate::index::live::units;
use crate::journal::finding::{Check, Finding, Severity, Verdict, Verification};
use crate::journal::identity::Identity;
use crate::journal::onlooker::{Meter, While, bytes_of};
use crate::journal::registry::Registry;
use crate::journal::verify::beside::{look_at_lock, look_at_names};
use crate::journal::verify::entity_pages::{Comparison, EntityPages};
use crate::journal::verify::histories::{Histories, ROOM};
use crate::journal::verify::index_file::IndexFile;
use crate::journal::verify::indexed::{InSegment, Room};
use crate::journal::verify::judge::Pieces;
use crate::journal::verify::kept::{Kept, look_at_part_headers, look_at_part_indexes, look_at_what_is_left};
use crate::journal::verify::settling::SAYS_OTHERWISE;
use crate::journal::verify::straight::recover_in_pieces;
use crate::journal::verify::window::PIECE;
use crate::log::chain::{Chain, find_chain};
use crate::log::lock::SeenLock;
use crate::log::report::Damage;
use crate::log::salvage::index_says;
use crate::log::segment::{Segment, open_header};
use crate::log::visitor::{Covered, End, Purpose, Visitor};

pub(crate) use crate::journal::verify::doors::examine;
#[cfg(feature = "simulator")]
pub use crate::journal::verify::doors::verify_in;
pub use crate::journal::verify::doors::{verify, verify_while};

/// What a verification is called in errors.
const DOING: &str = "verify the store";

/// Verifies what is in a directory as the store that it is known to be, or to become.
pub(crate) fn examine_as(
    directory: &dyn Directory,
    names: &[Name],
    identity: Identity,
    check: Check,
    meter: &Meter<'_>,
) -> Result<Verification> {
    look(directory, names, identity, check, meter, ROOM, &mut in_pieces(directory, check))
}

/// Shows the log to a visitor: `recover`, or what is to be as good.
trait Recover: FnMut(StoreId, &Chain, Option<Covered>, &mut dyn Visitor) -> Result<End> {}
impl<F: FnMut(StoreId, &Chain, Option<Covered>, &mut dyn Visitor) -> Result<End>> Recover for F {}

fn in_pieces(directory: &dyn Directory, check: Check) -> impl Recover {
    // A log of fewer pieces is not worth a thread.
    let has_indexes = check == Check::Full;
    let pieces = Pieces { bytes: PIECE, for_a_thread: 8, has_indexes };
    move |store: StoreId, chain: &Chain, covered: Option<Covered>, visitor: &mut dyn Visitor| {
        recover_in_pieces(directory, store, chain, covered, pieces, visitor)
    }
}

fn look(
    directory: &dyn Directory,
    names: &[Name],
    identity: Identity,
    check: Check,
    meter: &Meter<'_>,
    room: usize,
    recover: &mut impl Recover,
) -> Result<Verification> {
    let Identity { store, manifest, compacted } = identity;
    let live = SeenLock::look(directory, store)?.filter(|lock| lock.marks().is_some());
    let live = live.and_then(|lock| lock.holder());
    let mut findings = Vec::new();
    if let Err(error) = &manifest {
        findings.push(Finding::of_error(Severity::Damage, manifest::FILE_NAME, error));
    }
    look_at_names(names, &mut findings);
    look_at_lock(directory, store, &mut findings);

    let chain = find_chain(directory, store, Purpose::Salvage, &compacted, |_| false)?;
    let mut chain = chain.of_copy(manifest.as_ref().ok().and_then(|manifest| manifest.backup));
    look_at_chain(directory, store, (&chain, names), &mut findings);
    look_at_what_is_left(&chain, &compacted, names, &mut findings);
    let covered = match check {
        Check::Quick => {
            look_at_headers(directory, store, (&chain, live.is_some()), &mut findings);
            look_at_part_headers(directory, store, &compacted, &mut findings);
            // What is in them is not looked at.
            chain.covers.iter_mut().for_each(|cover| cover.part = None);
            last_indexed(directory, store, &chain)
        }
        Check::Full => {
            look_at_part_indexes(directory, store, &compacted, &mut findings)?;
            None
        }
    };
    let mut checking = Checking::new(directory, store, check, findings, room);
    // Without a manifest nobody knows what was dropped.
    checking.holes |= manifest.is_err() && !compacted.covers.is_empty();
    checking.kept = Kept::of(compacted);
    checking.open_entities(names);
    meter.expect(bytes_of(directory, &chain));
    let mut watched = While::of(&mut checking, meter, DOING);
    let end = recover(store, &chain, covered, &mut watched)?;
    if check == Check::Full {
        checking.look_behind(&end, (&chain, live.is_some()));
    }
    checking.finish(&end, live.is_some());
    let entities = checking.settle(meter)?;

    let Checking { mut findings, counts, registry, .. } = checking;
    findings.dedup();
    let any = |severity| findings.iter().any(|finding| finding.severity == severity);
    let verdict = if any(Severity::Damage) || any(Severity::Derived) {
        Verdict::Invalid
    } else if any(Severity::Unread) {
        Verdict::Incomplete
    } else {
        Verdict::Valid
    };
    Ok(Verification {
        verdict,
        findings,
        store: store.to_string(),
        live,
        clean: end.report.clean,
        segments: chain.live.len() as u64,
        entities,
        kinds: registry.iter().count() as u64,
        last_seq: end.last_seq,
        frames: counts.frames,
        entries: counts.entries,
        batches: counts.batches,
        bytes: counts.bytes,
        lost: counts.lost,
        first_seq: counts.first_seq,
    })
}

/// The finding of what is not as it should be in the log.
fn damage(position: Position, what: String, expected: String, found: String) -> Finding {
    let finding = Finding::new(Severity::Damage, file_name(position.segment()), what);
    let finding = finding.at(position.offset()).sides(expected, found);
    Finding { segment: Some(position.segment()), ..finding }
}

fn look_at_chain(
    directory: &dyn Directory,
    store: StoreId,
    (chain, names): (&Chain, &[Name]),
    findings: &mut Vec<Finding>,
) {
    let is_there = |number: &u32| names.iter().any(|entry| number_of(&entry.name) == Some(*number));
    // Of one that is gone and has left an index the walk tells what was in it.
    let is_told = |number: &u32| is_there(number) || index_says(directory, store, *number).is_some();
    if !chain.live.iter().any(is_told) {
        findings.push(Finding::new(Severity::Damage, file_name(1), "there is no segment"));
    }
    for number in &chain.dead {
        let what = "behind a torn end: dead, and removed by the next opening that writes";
        findings.push(Finding::new(Severity::Note, file_name(*number), what));
    }
    let of_nothing = |name: &&Name| {
        let is_gone = |number| !chain.live.contains(&number) && !chain.left.contains(&number);
        index_format::number_of(&name.name).is_some_and(is_gone)
    };
    for name in names.iter().filter(of_nothing) {
        findings.push(Finding::new(Severity::Note, &name.name, "the index of a segment that is not there"));
    }
}

fn look_at_headers(
    directory: &dyn Directory,
    store: StoreId,
    (chain, is_live): (&Chain, bool),
    findings: &mut Vec<Finding>,
) {
    for number in &chain.live {
        findings.extend(wrong_header(directory, store, (chain, is_live), *number));
        if let IndexFile::Bad(error, _) = IndexFile::read(directory, store, *number) {
            findings.push(Finding::of_error(Severity::Derived, index_format::file_name(*number), &error));
        }
    }
}

/// What is wrong with the header of a segment.
fn wrong_header(
    directory: &dyn Directory,
    store: StoreId,
    (chain, is_live): (&Chain, bool),
    number: u32,
) -> Option<Finding> {
    // A writer may be at it; what the walk finds of the log it tells all the same.
    let is_being_made = is_live && chain.live.last() == Some(&number);
    let error = open_header(directory, store, number, Access::Read).err().filter(|_| !is_being_made)?;
    Some(Finding::of_error(Severity::Damage, file_name(number), &error))
}

/// The newest segment whose index checks out, and whose last covered frame is there.
fn last_indexed(directory: &dyn Directory, store: StoreId, chain: &Chain) -> Option<Covered> {
    chain.live.iter().rev().find_map(|number| {
        let (file, header) = open_header(directory, store, *number, Access::Read).ok()?;
        let IndexFile::Good(layout, _) = IndexFile::read(directory, store, *number) else { return None };
        let at = layout.end.checked_sub(FRAME_BYTES as u64).filter(|_| layout.end <= header.bytes)?;
        let mut bytes = [0; FRAME_BYTES];
        file.read_at(&mut bytes, at).ok()?;
        let frame = Frame::parse(&bytes).filter(Frame::body_is_good);
        let frame = frame.filter(|frame| frame.head_is_good(header.salt, Position::new(*number, at)));
        let last = frame.filter(|frame| frame.header.is_system());
        Some(Covered {
            segment: *number,
            end: layout.end,
            last_seq: (layout.first_seq + layout.frames as u64).checked_sub(1)?,
            last_life: layout.last_life,
            last: last.and_then(|frame| System::of(frame.header.operation)),
        })
    })
}

#[derive(Default)]
struct Counts {
    frames: u64,
    entries: u64,
    batches: u64,
    bytes: u64,
    lost: u64,
    first_seq: Option<u64>,
}

/// What is known when recovery shows a frame.
struct Checking<'a> {
    directory: &'a dyn Directory,
    store: StoreId,
    check: Check,
    hasher: EntityHasher,
    findings: Vec<Finding>,
    counts: Counts,
    registry: Registry,
    histories: Histories,
    /// Entries are missing before here: a history may have a hole.
    holes: bool,
    entity_pages: Option<EntityPages>,
    segment: Option<InSegment>,
    /// What a segment took, for the next one.
    room: Room,
    kept: Kept,
    met: state::Met,
}

impl<'a> Checking<'a> {
    fn new(
        directory: &'a dyn Directory,
        store: StoreId,
        check: Check,
        findings: Vec<Finding>,
        room: usize,
    ) -> Self {
        Self {
            directory,
            store,
            check,
            hasher: EntityHasher::new(store),
            findings,
            counts: Counts::default(),
            registry: Registry::default(),
            histories: Histories::with_room_for(room),
            holes: check == Check::Quick,
            entity_pages: None,
            segment: None,
            room: Room::default(),
            kept: Kept::default(),
            met: state::Met::default(),
        }
    }

    /// Looks at segments behind the end of the log: nobody has come to them, but whoever opens the store asks what they follow.
    fn look_behind(&mut self, end: &End, chain: (&Chain, bool)) {
        for number in chain.0.live.iter().filter(|number| **number > end.position.segment()) {
            let is_told = self.findings.iter().any(|finding| {
                finding.segment == Some(*number)
                    && matches!(finding.severity, Severity::Damage | Severity::Unread)
            });
            // One that is gone a writer has taken back meanwhile, or the walk has missed it.
            let is_there = self.directory.open(&file_name(*number), Access::Read).is_ok();
            if is_there && !is_told {
                self.findings.extend(wrong_header(self.directory, self.store, chain, *number));
            }
        }
    }

    /// The directory of entities, every page of it; its slots are compared on the way.
    fn open_entities(&mut self, names: &[Name]) {
        let name = entities_format::FILE_NAME;
        if !names.iter().any(|entry| entry.name == name && entry.is_file) {
            return;
        }
        match EntityPages::open(self.directory, self.store) {
            Ok((pages, damaged)) => {
                let is_good = damaged.is_empty();
                let of_page = |at| Finding::new(Severity::Derived, name, "a page's checksum").at(at);
                self.findings.extend(damaged.into_iter().map(of_page));
                self.entity_pages = Some(pages).filter(|_| is_good && self.check == Check::Full);
            }
            Err(error) => self.findings.push(Finding::of_error(Severity::Derived, name, &error)),
        }
    }

    /// Compares the directory of entities with the log as far as it covers it.
    fn compare_entities(&mut self) {
        let Some(pages) = self.entity_pages.take().filter(|_| !self.holes) else { return };
        let compacted = self.kept.compacted.last_segment();
        if pages.covered.segment() <= compacted {
            // It is of a log that is not there any more.
            return;
        }
        let mut comparison = Comparison::new(pages, compacted);
        if self.histories.runs.is_empty() {
            comparison.look_for(&self.histories.recent);
            self.findings.extend(comparison.findings());
        } else {
            // It is compared with what was put away up to here.
            self.histories.put_away();
            self.histories.comparison = Some((self.histories.moment(self.findings.len()), comparison));
        }
    }

    /// What is known about the end of the log, once it was reached.
    fn finish(&mut self, end: &End, live: bool) {
        self.leave_segment();
        // No segment follows, and what comes now takes memory of its own.
        self.room = Room::default();
        self.finish_kept();
        if let Some(pages) = &self.entity_pages
            && pages.covered.segment() > end.position.segment()
            && !self.holes
        {
            let finding = Finding::new(Severity::Derived, entities_format::FILE_NAME, "what it covers").at(0);
            self.findings.push(finding.sides(format!("at most {}", end.position), pages.covered.segment()));
        } else {
            self.compare_entities();
        }
        let report = &end.report;
        if report.cut > 0 || report.valid_after_hole > 0 {
            let what = if live {
                "a batch in progress: the store is being written".to_owned()
            } else {
                format!(
                    "the end of the log: {} bytes behind it of a batch that was torn, {} whole frames \
                     among them; nothing says that they had been durable",
                    report.cut, report.valid_after_hole
                )
            };
            let finding = Finding::new(Severity::Note, file_name(end.position.segment()), what);
            let segment = Some(end.position.segment());
            self.findings.push(Finding { segment, ..finding.at(end.position.offset()) });
        }
    }

    fn damage(&mut self, position: Position, what: String, expected: String, found: String) {
        self.findings.push(damage(position, what, expected, found));
    }

    /// Of what stands before it, `found_before` findings are known.
    fn user_frame(&mut self, entity: EntityHash, position: Position, frame: &Frame<'_>, found_before: usize) {
        let header = frame.header;
        let kind = header.kind.get();
        self.counts.entries += 1;
        self.counts.first_seq.get_or_insert(header.seq.get());
        self.state_frame(position, frame);
        self.compare_entities_before(position);
        if self.check == Check::Full && self.registry.get(crate::id::KindId(kind)).is_none() && !self.holes {
            let expected = "a kind that was registered before".into();
            self.damage(position, "an entry's kind".into(), expected, format!("kind {kind}"));
        }
        if self.findings.len() > found_before {
            self.judge_arrivals_before(found_before);
        }
        self.arrive(entity, position, frame);
    }

    fn system_frame(&mut self, position: Position, frame: &Frame<'_>) {
        let operation = System::of(frame.header.operation);
        self.registry.learn_frame(frame);
        if operation == Some(System::Preamble) {
            let Some(preamble) = Preamble::read(frame.payload()) else {
                let found = format!("{} bytes", frame.payload().len());
                return self.damage(position, "a preamble".into(), "all its fields".into(), found);
            };
            if let Some(here) = self.segment.as_mut().filter(|here| here.parts.offsets.is_empty()) {
                here.parts.first_seq = preamble.next_seq;
            }
            self.holes |= preamble.lost > 0;
            if preamble.keyed_from > u64::from(position.segment()) {
                let expected = format!("at most {}", position.segment());
                let found = preamble.keyed_from.to_string();
                self.damage(position, "a preamble's first keyed segment".into(), expected, found);
            }
        }
        let Some(here) = self.segment.as_mut() else { return };
        if operation.is_some_and(System::is_restated) && position.offset() < here.covered_end() {
            let at = units(position.offset());
            here.parts.system.push(at);
            if operation == Some(System::Cursor)
                && let Some(cursor) = CursorState::read(frame.payload())
                && let Some(before) = here.cursors.insert(cursor.name, at)
            {
                // An index lists only the last frame about a cursor.
                here.superseded.insert(before);
            }
        }
        let Some((_, restated)) = here.to_restate.as_mut() else { return };
        restated.learn_frame(frame);
        if operation == Some(System::Cursor) {
            let cursor = CursorState::read(frame.payload()).filter(|cursor| cursor.retired);
            here.retired.extend(cursor.map(|cursor| cursor.name));
        }
        if frame.header.has(flag::MORE) {
            return;
        }
        let Some((before, restated)) = here.to_restate.take() else { return };
        let retired = std::mem::take(&mut here.retired);
        let is_other = |kind: &&Arc<KindInfo>| match restated.named(&kind.name) {
            // What has changed it since may have stood in what was compacted; which one it is does not change.
            Some(now) if here.is_behind_a_cover => {
                (now.id, now.owner) != (kind.id, kind.owner) || now.version < kind.version
            }
            now => now != Some(*kind),
        };
        if let Some(kind) = before.iter().find(is_other) {
            let found = restated.named(&kind.name).map_or_else(|| "nothing".into(), |k| format!("{k:?}"));
            self.damage(position, "a kind that a preamble restates".into(), format!("{kind:?}"), found);
        }
        let sources = restated.sources();
        if let Some(source) = before.sources().values().find(|source| sources.get(&source.id) != Some(source))
        {
            let found = sources.get(&source.id).map_or_else(|| "nothing".into(), |s| format!("{s:?}"));
            self.damage(position, "a source that a preamble restates".into(), format!("{source:?}"), found);
        }
        self.counts_are_restated(position, &before, &restated);
        let restated = |name: &str| restated.cursors.get(name);
        // One that moved while the log could not grow has a greater revision.
        let is_wrong = |cursor: &&CursorState| match restated(&cursor.name) {
            Some(now) => now != *cursor && now.revision <= cursor.revision,
            None => !retired.contains(&cursor.name),
        };
        if let Some(cursor) = before.cursors.iter().find(is_wrong) {
            let found = restated(&cursor.name).map_or_else(|| "nothing".into(), |c| format!("{c:?}"));
            self.damage(position, "a cursor that a preamble restates".into(), format!("{cursor:?}"), found);
        }
    }

    /// The log goes on behind a segment in which it never began: a log that is cut there, as
    /// compaction does, would have nothing that restates what was said before. The last
    /// segment may be empty: a store is young, or was killed before its first preamble.
    fn look_at_a_beginning_that_never_came(&mut self) {
        let never_began = |here: &&InSegment| here.end == FIRST_FRAME && here.whole;
        let Some(here) = self.segment.as_ref().filter(never_began) else { return };
        let start = here.segment.position(FIRST_FRAME);
        let is_known = |finding: &Finding| {
            finding.segment == Some(start.segment())
                && matches!(finding.severity, Severity::Damage | Severity::Unread)
        };
        if !self.findings.iter().any(is_known) {
            let what = "a segment's beginning, and the log goes on behind it".into();
            self.damage(start, what, "a preamble".into(), "no frame".into());
        }
    }

    fn leave_segment(&mut self) {
        self.judge_arrivals();
        let Some(mut here) = self.segment.take() else { return };
        self.look_at_index(&mut here);
        self.room = here.into_room();
    }

    /// What is wrong with the index of a segment whose frames are known.
    fn look_at_index(&mut self, here: &mut InSegment) {
        let name = index_format::file_name(here.segment.number());
        let comparable = here.whole && !self.holes && self.check == Check::Full;
        let error = match &here.index {
            IndexFile::None => return,
            IndexFile::Good(layout, _) if layout.end > here.end && here.whole => {
                let finding = Finding::new(Severity::Derived, name, "how much of the segment it covers");
                self.findings.push(finding.at(0).sides(format!("at most {}", here.end), layout.end));
                return;
            }
            IndexFile::Good(..) => None,
            IndexFile::Bad(error, _) => Some(Finding::of_error(Severity::Derived, &*name, error)),
        };
        let differs = || here.index_differs(self.store, &self.kept.compacted, &mut self.histories.links);
        match (error, comparable.then(differs).flatten()) {
            (Some(finding), Some(at)) => self.findings.push(finding.at(at)),
            (Some(finding), None) => self.findings.push(finding),
            (None, Some(at)) => {
                self.findings.push(Finding::new(Severity::Derived, name, SAYS_OTHERWISE).at(at));
            }
            (None, None) => self.compare_links_later(here, comparable),
        }
    }

    /// The index of a segment is right, but for what is not known yet.
    fn compare_links_later(&mut self, here: &InSegment, comparable: bool) {
        if let IndexFile::Good(layout, _) = &here.index
            && comparable
        {
            let (number, at) = (here.segment.number(), layout.entities_place().start as u64);
            let moment = self.histories.moment(self.findings.len());
            self.histories.links.compare(number, at, moment);
        }
    }
}

impl Visitor for Checking<'_> {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        let is_here = |here: &InSegment| here.segment.number() == segment.number() && here.end == from;
        if self.segment.as_ref().is_some_and(is_here) {
            // Recovery goes on with it where there was a doubt.
            return Ok(());
        }
        let (number, salt) = (segment.number(), segment.header.salt);
        // Before anything else is read: the longer ago a segment was, the more its index may have grown beyond it.
        let index = match self.check {
            Check::Full if number & PART == 0 => {
                IndexFile::read_with(self.directory, self.store, number, Some(salt))
            }
            _ => IndexFile::None,
        };
        self.look_at_a_beginning_that_never_came();
        self.leave_segment();
        self.kept.enter(number);
        if self.kept.here.is_some() {
            return Ok(());
        }
        let parts =
            IndexParts { number, salt, first_seq: last_seq.saturating_add(1), ..IndexParts::default() };
        if self.kept.is_behind_a_cover {
            self.registry.begin_anew();
        }
        let before = self.registry.clone();
        let room = std::mem::take(&mut self.room);
        let mut here = InSegment::new(Arc::clone(segment), index, parts, from, room);
        here.to_restate = (from == FIRST_FRAME).then(|| (before, Registry::default()));
        here.is_behind_a_cover = self.kept.is_behind_a_cover;
        self.segment = Some(here);
        Ok(())
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        self.frame_of(self.hasher.of_frame(frame), position, frame)
    }

    fn frame_of(&mut self, entity: Option<EntityHash>, position: Position, frame: &Frame<'_>) -> Result<()> {
        let (bytes, found_before) = (frame.len() as u64, self.findings.len());
        self.counts.frames += 1;
        self.counts.bytes += bytes;
        self.counts.batches += u64::from(!frame.header.has(flag::MORE));
        if frame.header.durable() > position && self.kept.here.is_none() {
            let found = frame.header.durable().to_string();
            self.damage(position, "a frame's durable mark".into(), format!("at most {position}"), found);
        }
        if self.kept.here.is_some() {
            if let Some(entity) = entity {
                self.kept_frame(entity, position, frame, found_before);
            }
            return Ok(());
        }
        let unknown = frame.header.flags() & !flag::KNOWN;
        if unknown != 0 {
            let what = format!("flags {unknown:#x}, which this build does not know");
            let finding = Finding::new(Severity::Note, file_name(position.segment()), what);
            self.findings
                .push(Finding { segment: Some(position.segment()), ..finding.at(position.offset()) });
        }
        let is_preamble = frame.header.is_system() && frame.header.operation == System::Preamble as u8;
        if position.offset() == FIRST_FRAME && !is_preamble {
            let found = format!("operation {}", frame.header.operation);
            self.damage(position, "a segment's first frame".into(), "a preamble".into(), found);
        }
        if let Some(entity) = entity {
            self.user_frame(entity, position, frame, found_before);
        } else {
            self.judge_arrivals_before(found_before);
            self.system_frame(position, frame);
        }
        if let Some(here) = self.segment.as_mut() {
            here.end = position.offset() + bytes;
            if position.offset() < here.covered_end() {
                here.parts.last_life = Some(frame.header.life());
            }
        }
        Ok(())
    }

    fn lost(&mut self, damage: &Damage) {
        self.lost_of_part(damage, (damage.last_seq + 1).saturating_sub(damage.first_seq));
        if let Some(here) = self.segment.as_mut().filter(|here| here.segment.number() == damage.segment) {
            here.whole = false;
            here.to_restate = None;
        }
    }

    fn lost_of_part(&mut self, damage: &Damage, entries: u64) {
        self.note_lost(damage, entries);
    }
}
