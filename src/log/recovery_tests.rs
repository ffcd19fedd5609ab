//! What is said of small logs that are made frame by frame: where they end, what was lost, and how much was read.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::disk::memory::{Event, MemoryDirectory, Recorder};
use crate::disk::refusing::Refusing;
use crate::error::{Error, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::frame::{Frame, FrameFields, FrameHeader, Lengths, body_crc, flag};
use crate::format::header::HEADER_BYTES;
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::format::system::{Open, Preamble, System};
use crate::id::{Life, Position, SEQ_MAX, StoreId};
use crate::log::chain::{Chain, find_chain};
use crate::log::recovery::recover;
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::log::visitor::{Covered, End, Purpose, Visitor};

pub(super) const STORE: StoreId = StoreId([7; 16]);
pub(super) const OLD: Life = Life(5);
pub(super) const NEW: Life = Life(9);
pub(super) const PURPOSES: [Purpose; 3] = [Purpose::Write, Purpose::Read, Purpose::Salvage];
pub(super) const LOOKING: [Purpose; 2] = [Purpose::Read, Purpose::Salvage];

/// A segment that is being made.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) number: u32,
    pub(super) bytes: Vec<u8>,
    /// Where the next frame will stand.
    pub(super) at: u64,
    life: Life,
    durable: Position,
    more: bool,
    /// Where each frame stands.
    pub(super) places: Vec<u64>,
}

impl Made {
    pub(super) fn empty(number: u32, follows: Position, bytes: u64) -> Self {
        let header = SegmentHeader { number, salt: u64::from(number) + 90, follows, bytes, created: 0 };
        let mut file = vec![0; usize::try_from(bytes).unwrap()];
        file[..HEADER_BYTES].copy_from_slice(header.encode(STORE).as_bytes());
        let (at, places) = (FIRST_FRAME, Vec::new());
        Self { number, bytes: file, at, life: OLD, durable: Position::ZERO, more: false, places }
    }

    /// A file of as many zeros.
    pub(super) fn zeroed(mut self) -> Self {
        self.bytes.fill(0);
        self
    }

    pub(super) fn begin(number: u32, follows: Position, next_seq: u64) -> Self {
        Self::empty(number, follows, 4096).preamble(next_seq, 0)
    }

    pub(super) fn by(mut self, life: Life) -> Self {
        self.life = life;
        self
    }

    /// From here on frames name this place as durable.
    pub(super) fn naming(mut self, durable: Position) -> Self {
        self.durable = durable;
        self
    }

    /// The next frame is not the last of its batch.
    pub(super) fn more(mut self) -> Self {
        self.more = true;
        self
    }

    pub(super) fn frame(
        mut self,
        operation: u8,
        kind: u16,
        (seq, generation): (u64, u64),
        key: &[u8],
        payload: &[u8],
    ) -> Self {
        let lengths = Lengths { extensions: 0, key: key.len(), metadata: 0, payload: payload.len() };
        let flags = if std::mem::take(&mut self.more) { flag::MORE } else { 0 };
        let fields = FrameFields {
            operation,
            kind,
            flags,
            source: 0,
            life: self.life,
            seq,
            generation,
            time: 0,
            durable: self.durable,
            lengths,
            body_crc: body_crc(lengths, key, &[], payload),
        };
        let header = FrameHeader::seal(&fields, &[], u64::from(self.number) + 90, self.end());
        let frame = [header.as_bytes(), key, payload].concat();
        let at = usize::try_from(self.at).unwrap();
        self.bytes[at..at + frame.len()].copy_from_slice(&frame);
        self.places.push(self.at);
        self.at += lengths.frame() as u64;
        self
    }

    pub(super) fn entry(self, seq: u64) -> Self {
        self.frame(1, 3, (seq, 1), b"k", b"payload")
    }

    pub(super) fn system(self, system: System, seq: u64, payload: &[u8]) -> Self {
        self.frame(system as u8, 0, (seq, 0), &[], payload)
    }

    pub(super) fn preamble(self, next_seq: u64, lost: u64) -> Self {
        let payload = Preamble { next_seq, lost, ..Preamble::default() }.encode();
        self.system(System::Preamble, next_seq.saturating_sub(1), &payload)
    }

    fn open(self, previous_life: Life, seq: u64) -> Self {
        let payload = Open { previous_life, pid: 1, recovered_end: Position::ZERO }.encode();
        self.system(System::Open, seq, &payload)
    }

    pub(super) fn seal(self, seq: u64) -> Self {
        self.system(System::Seal, seq, &[])
    }

    pub(super) fn closed(self, seq: u64) -> Self {
        self.system(System::Closed, seq, &[])
    }

    pub(super) fn first_frame(&self) -> Frame<'_> {
        Frame::parse(&self.bytes[HEADER_BYTES..]).unwrap()
    }

    /// Space in which nothing was written.
    pub(super) fn skip(mut self, bytes: u64) -> Self {
        self.at += bytes;
        self
    }

    /// The last byte of the content of a frame is another one.
    pub(super) fn rotten(self, frame: usize) -> Self {
        let at = self.places[frame] + 63;
        self.with_byte(at, 0xff)
    }

    pub(super) fn with_byte(mut self, at: u64, byte: u8) -> Self {
        self.bytes[usize::try_from(at).unwrap()] = byte;
        self
    }

    pub(super) fn end(&self) -> Position {
        Position::new(self.number, self.at)
    }

    pub(super) fn at(&self, frame: usize) -> Position {
        Position::new(self.number, self.places[frame])
    }
}

/// Remembers what it is shown.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) frames: Vec<Position>,
    /// The segments that were entered: from where, and with which last Seq.
    pub(super) entered: Vec<(u32, u64, u64)>,
    /// How many segments had been entered when it was told of each cover.
    pub(super) covers: Vec<usize>,
    pub(super) lost: Vec<Damage>,
    /// How far the map could be read when the last segment was left.
    limits: BTreeMap<u32, Arc<Segment>>,
}

impl Visitor for Seen {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        self.entered.push((segment.number(), from, last_seq));
        self.limits.insert(segment.number(), Arc::clone(segment));
        Ok(())
    }

    fn frame(&mut self, position: Position, _: &Frame<'_>) -> Result<()> {
        self.frames.push(position);
        Ok(())
    }

    fn kept(&mut self, _: &Cover) -> Result<()> {
        self.covers.push(self.entered.len());
        Ok(())
    }

    fn lost(&mut self, damage: &Damage) {
        self.lost.push(damage.clone());
    }
}

pub(super) fn directory(made: &[&Made]) -> MemoryDirectory {
    let file = |made: &&Made| (file_name(made.number), made.bytes.clone());
    MemoryDirectory::with(made.iter().map(file).collect(), None)
}

pub(super) fn chain_of(made: &[&Made], purpose: Purpose, compacted: &Compacted) -> Result<Chain> {
    find_chain(&directory(made), STORE, purpose, compacted, |_| false)
}

fn look_behind(made: &[&Made], covered: Option<Covered>, purpose: Purpose) -> (Seen, Result<End>) {
    let mut seen = Seen::default();
    let end = chain_of(made, purpose, &Compacted::default())
        .and_then(|chain| recover(&directory(made), STORE, &chain, covered, purpose, &mut seen));
    (seen, end)
}

/// What is seen of segments, and where they end.
pub(super) fn look(made: &[&Made], purpose: Purpose) -> (Seen, End) {
    let (seen, end) = look_behind(made, None, purpose);
    (seen, end.unwrap_or_else(|error| panic!("{purpose:?}: {error}")))
}

/// Why a writer refuses segments.
pub(super) fn refusal(made: &[&Made]) -> Error {
    look_behind(made, None, Purpose::Write).1.unwrap_err()
}

/// What is lost: from the bad place and from where on, up to where, and which.
pub(super) fn lost(end: &End) -> Vec<(u32, u64, u64, Option<u64>, u64, u64)> {
    let place = |d: &Damage| (d.segment, d.offset, d.lost_from, d.next_good, d.first_seq, d.last_seq);
    end.report.damage.iter().map(place).collect()
}

/// Two segments of one life; the second goes on behind the seal of the first, and names its end.
pub(super) fn two() -> (Made, Made) {
    let first = Made::begin(1, Position::ZERO, 1).open(Life(0), 0).entry(1).more().entry(2).entry(3).seal(3);
    let second = Made::begin(2, Position::new(1, 0), 4).naming(first.end()).entry(4).entry(5);
    (first, second)
}

#[test]
fn a_log_is_read_to_its_end_and_what_it_took_is_said() {
    let (first, second) = two();
    let second = second.closed(5);
    for purpose in PURPOSES {
        let (seen, end) = look(&[&first, &second], purpose);
        assert_eq!((end.position, end.last_seq, end.life), (second.end(), 5, Some(OLD)), "{purpose:?}");
        assert_eq!((end.sealed, end.durable >= first.end()), (false, true));
        if purpose != Purpose::Salvage {
            assert_eq!(end.durable, first.end());
        }
        assert_eq!((end.report.clean, end.report.ambiguous, end.report.cut), (true, false, 0));
        assert_eq!((end.report.segments_scanned, end.report.cache_not_verified), (2, false));
        let bytes = if purpose == Purpose::Salvage { 8192 } else { first.bytes.len() as u64 * 2 };
        assert_eq!(end.report.bytes_scanned, bytes - 2 * FIRST_FRAME);
        assert_eq!(seen.frames.len(), first.places.len() + second.places.len());
        assert_eq!(seen.entered[..1], [(1, FIRST_FRAME, 0)]);
        if purpose != Purpose::Salvage {
            let limits: Vec<usize> = seen.limits.values().map(|segment| segment.map.limit()).collect();
            assert_eq!(limits, [first.at, second.at].map(|at| usize::try_from(at).unwrap()));
        }
    }
}

#[test]
fn behind_an_index_that_ends_with_a_seal_only_the_next_segment_is_read() {
    let (first, second) = two();
    let covered =
        Covered { segment: 1, end: first.at, last_seq: 3, last_life: OLD, last: Some(System::Seal) };
    for purpose in PURPOSES {
        let (seen, end) = look_behind(&[&first, &second], Some(covered), purpose);
        let end = end.unwrap();
        assert_eq!((end.position, end.last_seq, end.life), (second.end(), 5, Some(OLD)), "{purpose:?}");
        assert_eq!(seen.frames.len(), second.places.len(), "{purpose:?}");
        assert_eq!(end.report.segments_scanned, 1);
        assert_eq!(seen.entered, [(1, first.at, 3), (2, FIRST_FRAME, 3)]);
        assert!(!end.report.clean);
    }
}

#[test]
fn behind_a_clean_close_nothing_is_read_where_nothing_can_follow() {
    let closed = Made::empty(1, Position::ZERO, 3 * 4096).preamble(1, 0).entry(1).closed(1);
    let covered =
        Covered { segment: 1, end: closed.at, last_seq: 1, last_life: OLD, last: Some(System::Closed) };
    let found = |made: &Made, covered| {
        let (_, end) = look_behind(&[made], Some(covered), Purpose::Write);
        let End { position, report, .. } = end.unwrap();
        assert_eq!(position, closed.end());
        (report.segments_scanned, report.cut, report.clean)
    };
    assert_eq!(found(&closed, covered), (0, 0, true));
    // Something in the same page, and in another one.
    for behind in [closed.at + 8, 4096, 9000] {
        let dirty = closed.clone().with_byte(behind, 1);
        assert_eq!(found(&dirty, covered), (1, behind + 1 - closed.at, false), "{behind}");
    }
    // Nobody said that it was closed.
    let open = Covered { last: None, ..covered };
    assert_eq!(found(&closed, open), (1, 0, false));
}

#[test]
fn what_lies_behind_the_end_is_counted_here_and_in_later_segments() {
    let (first, second) = two();
    // A frame was lost on the way, two behind it were not.
    let torn = second.clone().skip(64).entry(7).entry(8);
    let spare = Made::empty(3, Position::new(2, 0), 4096);
    for purpose in PURPOSES {
        let (seen, end) = look(&[&first, &torn, &spare], purpose);
        assert_eq!((end.position, end.last_seq), (second.end(), 5), "{purpose:?}");
        let report = &end.report;
        // The payload of the last frame fills its last word.
        assert_eq!((report.cut, report.valid_after_hole), (torn.at - second.at, 2), "{purpose:?}");
        assert!(report.ambiguous && !report.clean && report.damage.is_empty());
        assert_eq!(seen.frames.last(), Some(&second.at(2)));
        let later = Made::begin(3, Position::new(2, 0), 6).entry(6).entry(7);
        let (_, end) = look(&[&first, &torn, &later], purpose);
        let report = &end.report;
        assert_eq!(report.cut, torn.at - second.at + later.at - FIRST_FRAME, "{purpose:?}");
        assert_eq!(report.valid_after_hole, 2 + 3, "{purpose:?}");
    }
}

#[test]
fn a_batch_without_its_end_is_cut_off_as_a_whole() {
    let (first, second) = two();
    let torn = second.clone().more().entry(6).more().entry(7);
    for purpose in PURPOSES {
        let (seen, end) = look(&[&first, &torn], purpose);
        assert_eq!((end.position, end.last_seq), (second.end(), 5), "{purpose:?}");
        assert_eq!((end.report.cut, end.report.valid_after_hole), (128, 2), "{purpose:?}");
        assert_eq!(seen.frames.last(), Some(&second.at(2)));
    }
}

#[test]
fn a_bad_place_is_damage_where_a_frame_behind_it_says_that_it_was_durable_and_else_the_end() {
    let (first, second) = two();
    let bad = second.at(2);
    for (named, is_damage) in [(bad, false), (Position::new(2, bad.offset() + 8), true)] {
        // In the same segment, in the next, or in a spare that was begun.
        let same = second.clone().naming(named).entry(6);
        let spare = Made::begin(3, Position::new(2, 0), 6).naming(named).entry(6);
        for rows in
            [vec![first.clone(), same.rotten(2)], vec![first.clone(), second.clone().rotten(2), spare]]
        {
            let rows: Vec<&Made> = rows.iter().collect();
            if !is_damage {
                for purpose in PURPOSES {
                    let (_, end) = look(&rows, purpose);
                    assert_eq!((end.position, end.last_seq), (bad, 4), "{purpose:?}");
                    assert!(end.report.ambiguous && end.report.damage.is_empty());
                }
                continue;
            }
            let error = refusal(&rows);
            let next = (rows.len() == 2).then(|| rows[1].places[3]);
            assert_eq!(
                (error.segment(), error.offset(), error.next_good()),
                (Some(2), Some(bad.offset()), next)
            );
            assert_eq!(error.seqs(), Some(5..=5), "{error}");
            for purpose in LOOKING {
                let (seen, end) = look(&rows, purpose);
                assert_eq!(lost(&end), [(2, bad.offset(), bad.offset(), next, 5, 5)], "{purpose:?}");
                assert_eq!(seen.lost, end.report.damage);
                assert!(!end.report.damage[0].unreadable);
                if next.is_some() {
                    assert_eq!((end.position, end.last_seq), (rows[1].end(), 6), "{purpose:?}");
                }
            }
        }
    }
}

#[test]
fn damage_within_a_batch_takes_all_of_it_and_what_is_lost_is_numbered() {
    let first = Made::begin(1, Position::ZERO, 1).entry(1).more().entry(2).more().entry(3).entry(4).entry(5);
    let end = first.end();
    let last = first.naming(end).entry(6);
    // The frame in the middle, and the first of the batch.
    for (bad, from) in [(3, 2), (2, 2)] {
        let made = last.clone().rotten(bad);
        let error = refusal(&[&made]);
        assert_eq!(
            (error.offset(), error.next_good()),
            (Some(made.places[from]), Some(made.places[bad + 1]))
        );
        for purpose in LOOKING {
            let (seen, end) = look(&[&made], purpose);
            let (at, from, next) = (made.places[bad], made.places[from], made.places[5]);
            assert_eq!(lost(&end), [(1, at, from, Some(next), 2, 4)], "{purpose:?}");
            assert_eq!((end.last_seq, end.position), (6, made.end()));
            assert_eq!(seen.frames, [0, 1, 5, 6].map(|frame| made.at(frame)));
        }
    }
}

#[test]
fn frames_of_another_life_follow_only_where_it_says_which_one_it_follows() {
    let (first, second) = two();
    let end_of = |made: &Made| look(&[&first, made], Purpose::Write).1;
    let other = second.clone().by(NEW);
    // Without a word, with the right word, and with a wrong one.
    let wordless = other.clone().entry(6);
    assert_eq!((end_of(&wordless).position, end_of(&wordless).report.valid_after_hole), (second.end(), 1));
    let right = other.clone().open(OLD, 5).entry(6);
    assert_eq!((end_of(&right).position, end_of(&right).life), (right.end(), Some(NEW)));
    let wrong = other.clone().open(Life(6), 5).entry(6);
    assert_eq!((end_of(&wrong).position, end_of(&wrong).life), (second.end(), Some(OLD)));
    // A preamble says nothing but at the start of a segment.
    let amid = other.clone().preamble(6, 0).entry(6);
    assert_eq!(end_of(&amid).position, second.end());
    let third = Made::empty(3, second.end(), 4096).by(NEW).preamble(6, 0).entry(6);
    let (seen, end) = look(&[&first, &second, &third], Purpose::Write);
    assert_eq!((end.position, end.last_seq, end.life), (third.end(), 6, Some(NEW)));
    assert_eq!(seen.frames.last(), Some(&third.at(1)));
    // In a batch all are of one life.
    let mixed = second.clone().more().entry(6).by(NEW).entry(7);
    assert_eq!((end_of(&mixed).position, end_of(&mixed).last_seq), (second.end(), 5));
}

/// True if a frame is taken for the next one behind those of [`two`]; else it is said that it is out of order.
fn is_taken(push: impl Fn(Made) -> Made) -> bool {
    let (first, second) = two();
    let made = push(second);
    match look_behind(&[&first, &made], None, Purpose::Write).1 {
        Ok(end) => {
            assert_eq!(end.position, made.end());
            true
        }
        Err(error) => {
            assert!(error.is_corruption(), "{error}");
            false
        }
    }
}

#[test]
fn a_frame_has_the_next_number_a_key_a_kind_and_a_generation_up_to_its_number() {
    assert!(is_taken(|made| made.entry(6)));
    assert!(!is_taken(|made| made.entry(5)) && !is_taken(|made| made.entry(7)));
    let entry = |kind, generation, key: &'static [u8]| {
        is_taken(move |made| made.frame(1, kind, (6, generation), key, b"payload"))
    };
    assert!(entry(1, 1, b"k") && entry(4096, 6, b"k"));
    assert!(!entry(1, 0, b"k") && !entry(1, 7, b"k") && !entry(1, 1, b"") && !entry(4097, 1, b"k"));
    // In a batch each counts.
    assert!(is_taken(|made| made.more().entry(6).entry(7)));
    assert!(
        !is_taken(|made| made.more().entry(6).entry(6)) && !is_taken(|made| made.more().entry(6).entry(8))
    );
    // Those of the system have that of the last entry.
    assert!(is_taken(|made| made.system(System::Mark, 5, &[])));
    assert!(
        !is_taken(|made| made.system(System::Mark, 4, &[]))
            && !is_taken(|made| made.system(System::Mark, 6, &[]))
    );
    assert!(is_taken(|made| made.more().entry(6).system(System::Cursor, 6, &[])));
    assert!(!is_taken(|made| made.more().entry(6).system(System::Cursor, 5, &[])));
    // A preamble says how many are missing before it.
    assert!(is_taken(|made| made.preamble(6, 0)) && is_taken(|made| made.preamble(10, 4)));
    assert!(!is_taken(|made| made.preamble(10, 3)) && !is_taken(|made| made.preamble(5, 0)));
    assert!(!is_taken(|made| made.preamble(0, 0)));
    let past_the_end = Preamble { next_seq: SEQ_MAX + 2, lost: SEQ_MAX - 4, ..Preamble::default() }.encode();
    assert!(!is_taken(|made| made.system(System::Preamble, 5, &past_the_end)));
}

#[test]
fn no_number_is_over_the_greatest() {
    for (next_seq, good) in [(SEQ_MAX, true), (SEQ_MAX + 1, false)] {
        let made = Made::begin(1, Position::ZERO, next_seq).frame(1, 3, (next_seq, 1), b"k", b"payload");
        let (_, end) = look_behind(&[&made], None, Purpose::Write);
        assert_eq!(end.is_ok_and(|end| (end.position, end.last_seq) == (made.end(), next_seq)), good);
    }
    // The greatest that a preamble can name is behind the greatest entry.
    let full = Made::begin(1, Position::ZERO, SEQ_MAX + 1).closed(SEQ_MAX);
    assert_eq!(look(&[&full], Purpose::Write).1.last_seq, SEQ_MAX);
}

#[test]
fn behind_a_seal_the_next_segment_has_to_be_there() {
    let (first, second) = two();
    let sealed = second.seal(5);
    let error = refusal(&[&first, &sealed]);
    assert_eq!((error.segment(), error.is_corruption()), (Some(3), true), "{error}");
    for purpose in LOOKING {
        let (_, end) = look(&[&first, &sealed], purpose);
        assert_eq!(lost(&end), [(3, 0, 0, None, 6, 5)], "{purpose:?}");
        assert_eq!((end.position, end.sealed, end.last_seq), (sealed.end(), true, 5));
        // It came after the directory was listed.
        let all = directory(&[&first, &sealed, &Made::empty(3, Position::new(2, 0), 4096)]);
        let chain = chain_of(&[&first, &sealed], purpose, &Compacted::default()).unwrap();
        let end = recover(&all, STORE, &chain, None, purpose, &mut Seen::default()).unwrap();
        assert!(end.report.damage.is_empty(), "{purpose:?}");
    }
}

#[test]
fn a_segment_ends_where_the_next_one_says_and_what_stands_behind_is_dead() {
    let (first, second) = two();
    // A later life went on behind the first frame of the second; the others had not been acknowledged.
    let limit = second.at(2);
    let third = Made::empty(3, limit, 4096).by(NEW).preamble(5, 0).naming(limit).entry(5);
    for purpose in PURPOSES {
        let (seen, end) = look(&[&first, &second, &third], purpose);
        assert_eq!((end.position, end.last_seq, end.report.cut), (third.end(), 5, 0), "{purpose:?}");
        assert!(!seen.frames.contains(&limit) && seen.frames.contains(&third.at(1)), "{purpose:?}");
        assert!(end.report.damage.is_empty());
    }
    // All below the limit was durable, and nothing behind it replaces what is not there.
    let bad = second.clone().rotten(1);
    let error = refusal(&[&first, &bad, &third]);
    assert_eq!((error.segment(), error.offset()), (Some(2), Some(second.places[1])), "{error}");
    for purpose in LOOKING {
        let (_, end) = look(&[&first, &bad, &third], purpose);
        let at = second.places[1];
        assert_eq!(lost(&end), [(2, at, at, None, 4, 4)], "{purpose:?}");
        assert_eq!((end.position, end.last_seq), (third.end(), 5), "{purpose:?}");
    }
    // A frame does not reach over the limit.
    let short = Made::empty(3, Position::new(2, limit.offset() + 8), 4096).by(NEW).preamble(5, 0).entry(5);
    assert!(refusal(&[&first, &second, &short]).is_corruption());
}

#[test]
fn a_reader_goes_on_behind_a_segment_of_which_the_header_is_damaged() {
    let (first, second) = two();
    let third = Made::begin(3, Position::new(2, 0), 6).entry(6);
    let bad = second.seal(5).with_byte(40, 0x55);
    assert!(refusal(&[&first, &bad, &third]).is_corruption());
    for purpose in LOOKING {
        let (seen, end) = look(&[&first, &bad, &third], purpose);
        assert_eq!((end.position, end.last_seq), (third.end(), 6), "{purpose:?}");
        assert_eq!(lost(&end), [(2, 0, 0, Some(FIRST_FRAME), 4, 3)], "{purpose:?}");
        assert_eq!(
            seen.frames.iter().filter(|at| at.segment() == 2).count(),
            bad.places.len(),
            "{purpose:?}"
        );
        assert_eq!(end.report.segments_scanned, 3);
        // All of it is gone.
        let empty = Made { bytes: vec![0; 4096], ..bad.clone() };
        let (_, end) = look(&[&first, &empty, &third], purpose);
        assert_eq!(lost(&end), [(2, 0, 0, None, 4, 5)], "{purpose:?}");
        assert_eq!((end.position, end.last_seq), (third.end(), 6), "{purpose:?}");
    }
}

#[test]
fn behind_damage_of_unknown_extent_numbers_only_rise() {
    let (first, second) = two();
    let empty = Made { bytes: vec![0; 4096], ..second };
    let missing = |third: &Made, purpose| look(&[&first, &empty, third], purpose);
    for purpose in LOOKING {
        // Any number above, of an entry or of what a preamble says; none at or below.
        let third = Made::empty(3, Position::new(2, 0), 4096).entry(30).entry(31);
        let (_, end) = missing(&third, purpose);
        assert_eq!((lost(&end), end.last_seq), (vec![(2, 0, 0, None, 4, 29)], 31), "{purpose:?}");
        let third = Made::empty(3, Position::new(2, 0), 4096).system(System::Mark, 30, &[]).entry(31);
        let (_, end) = missing(&third, purpose);
        assert_eq!((lost(&end), end.last_seq), (vec![(2, 0, 0, None, 4, 30)], 31), "{purpose:?}");
        let third = Made::empty(3, Position::new(2, 0), 4096).entry(3).entry(4);
        let (_, end) = missing(&third, purpose);
        assert_eq!(end.last_seq, 4, "{purpose:?}: {:?}", end.report.damage);
        assert!(lost(&end).iter().any(|lost| lost.0 == 3), "{purpose:?}: {:?}", end.report.damage);
    }
}

/// One segment of some pages with large entries, of which the device refuses some bytes.
fn refused(refused: Range<u64>, rotten: Option<usize>) -> (Made, Vec<Position>, End) {
    let mut made = Made::empty(1, Position::ZERO, 4 * 4096).preamble(1, 0);
    for seq in 1..=10 {
        made = made.frame(1, 3, (seq, 1), b"k", &[1; 1000]);
    }
    if let Some(frame) = rotten {
        made = made.rotten(frame);
    }
    let (files, name) = (directory(&[&made]), file_name(1));
    let refusing = Refusing::of(files, name, vec![refused]);
    let chain = find_chain(&refusing, STORE, Purpose::Salvage, &Compacted::default(), |_| false).unwrap();
    let mut seen = Seen::default();
    let end = recover(&refusing, STORE, &chain, None, Purpose::Salvage, &mut seen).unwrap();
    (made, seen.frames, end)
}

#[test]
fn around_bytes_that_the_device_refuses_all_is_served_and_they_are_told_from_damage() {
    let (made, frames, end) = refused(4096..8192, None);
    let first = made.places.iter().position(|place| place + 1064 > 4096).unwrap();
    let next = made.places.iter().position(|place| *place >= 8192).unwrap();
    let (at, to) = (made.places[first], made.places[next]);
    let seqs = (first as u64, next as u64 - 1);
    assert_eq!(lost(&end), [(1, 4096, 4096, Some(8192), 1, 0), (1, at, at, Some(to), seqs.0, seqs.1)]);
    assert!(end.report.damage.iter().all(|damage| damage.unreadable));
    assert_eq!(end.report.damage[0].what, "4096 bytes cannot be read: the device refuses");
    assert_eq!((end.report.unreadable, end.last_seq, end.position), (4096, 10, made.end()));
    assert_eq!(frames.len(), made.places.len() - (next - first));
    // A bad place before is no part of that.
    let (made, _, end) = refused(4096..8192, Some(1));
    let told = end.report.damage.iter().find(|damage| damage.offset == made.places[1]).unwrap();
    assert!(!told.unreadable && end.report.damage.len() == 3, "{:?}", end.report.damage);
    // The rest, of which nobody knows what it holds, is no end.
    let (made, frames, end) = refused(4096..4 * 4096, None);
    let at = made.places[first];
    assert_eq!(lost(&end), [(1, 4096, 4096, Some(4 * 4096), 1, 0), (1, at, at, None, seqs.0, seqs.0 - 1)]);
    assert_eq!((frames.len(), end.report.cut, end.report.unreadable), (first, 0, 3 * 4096));
    // A header, and with it the page.
    let (_, frames, end) = refused(0..4 * 4096, None);
    assert_eq!((lost(&end), frames.len()), (vec![(1, 0, 0, None, 1, 0)], 0));
    assert!(end.report.damage[0].unreadable && end.report.unreadable > 0);
}

/// Past the cache, this is what every file holds.
struct OnDisk(Vec<u8>);

impl Recorder for OnDisk {
    fn record(&self, _: Event) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, _: u64, _: usize, bytes: &[u8]) -> (usize, io::Result<()>) {
        (bytes.len(), Ok(()))
    }
    fn grow(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn free(&self, _: usize) {}
    fn past_the_cache(&self, _: u64) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_writer_judges_what_the_disk_has_and_those_who_look_what_the_cache_holds() {
    let end_of = |cache: &Made, disk: &Made, purpose| {
        let files = [(file_name(1), cache.bytes.clone())].into();
        let directory = MemoryDirectory::with(files, Some(Arc::new(OnDisk(disk.bytes.clone()))));
        let chain = find_chain(&directory, STORE, purpose, &Compacted::default(), |_| false).unwrap();
        recover(&directory, STORE, &chain, None, purpose, &mut Seen::default()).map(|end| end.position)
    };
    let disk = Made::begin(1, Position::ZERO, 1).entry(1);
    let cache = disk.clone().entry(2);
    assert_eq!(end_of(&cache, &disk, Purpose::Write).unwrap(), disk.end());
    for purpose in LOOKING {
        assert_eq!(end_of(&cache, &disk, purpose).unwrap(), cache.end(), "{purpose:?}");
    }
    // What the disk lost of what was durable is lost, whatever the cache still holds.
    let named = disk.end();
    let cache = disk.naming(named).entry(2);
    let rotten = cache.clone().rotten(1);
    assert!(end_of(&cache, &rotten, Purpose::Write).unwrap_err().is_corruption());
    assert_eq!(end_of(&rotten, &cache, Purpose::Write).unwrap(), cache.end());
}
