//! A segment that is counted in two halves is what it is as one, whatever stands around its middle.

use std::collections::BTreeMap;

use tempfile::TempDir;
use zerocopy::IntoBytes;

use super::*;
use crate::disk::Access;
use crate::disk::memory::MemoryDirectory;
use crate::disk::refusing::Refusing;
use crate::dump::survey::Survey;
use crate::format::compacted::{Cover, Part};
use crate::format::frame::{FACT, FrameFields, FrameHeader, Lengths, body_crc};
use crate::format::header::HEADER_BYTES;
use crate::format::system::Preamble;
use crate::id::{Life, Position};
use crate::journal::reader::Reader;
use crate::journal::record::Record;
use crate::log::segment::open_header;
use crate::options::Options;

const STORE: StoreId = StoreId([7; 16]);
const SALT: u64 = 91;
const ENDS: [Ends; 2] = [Ends::Sealed, Ends::Anywhere];

fn as_one(directory: &Arc<dyn Directory>, store: StoreId, stretch: &Stretch) -> Result<Counted> {
    Counting::of(directory, store, stretch.clone()).go_to_the_end()
}

/// Asserts that it is the same both ways; true if the second half was counted by itself.
fn same_both_ways(directory: &Arc<dyn Directory>, store: StoreId, stretch: &Stretch) -> bool {
    let (counted, halved) = in_halves(directory, store, stretch, 1).unwrap();
    assert_eq!(counted, as_one(directory, store, stretch).unwrap());
    halved
}

/// The bytes of a frame that stands there.
fn frame(at: u64, operation: u8, kind: u16, seq: u64, payload: &[u8]) -> Vec<u8> {
    let key: &[u8] = if kind == 0 { &[] } else { b"k" };
    let lengths = Lengths { extensions: 0, key: key.len(), metadata: 0, payload: payload.len() };
    let fields = FrameFields {
        operation,
        kind,
        flags: 0,
        source: 0,
        life: Life(5),
        seq,
        generation: u64::from(kind != 0),
        time: 0,
        durable: Position::ZERO,
        lengths,
        body_crc: body_crc(lengths, key, &[], payload),
    };
    let header = FrameHeader::seal(&fields, &[], SALT, Position::new(1, at));
    let mut bytes = [header.as_bytes(), key, payload].concat();
    bytes.resize(lengths.frame(), 0);
    bytes
}

/// The frames of a segment that is being made.
struct Made(Vec<u8>);

impl Made {
    fn new() -> Self {
        Self(vec![0; usize::try_from(FIRST_FRAME).unwrap()])
    }

    fn at(&self) -> u64 {
        self.0.len() as u64
    }

    fn add(mut self, operation: u8, kind: u16, seq: u64, payload: &[u8]) -> Self {
        let frame = frame(self.at(), operation, kind, seq, payload);
        self.0.extend(frame);
        self
    }

    fn entries(self, seqs: std::ops::RangeInclusive<u64>, bytes: usize) -> Self {
        seqs.fold(self, |made, seq| made.add(FACT, 3, seq, &vec![7; bytes]))
    }

    fn system(self, system: System, seq: u64, payload: &[u8]) -> Self {
        self.add(system as u8, 0, seq, payload)
    }

    fn preamble(self, seq: u64, next_seq: u64, lost: u64) -> Self {
        let payload = Preamble { next_seq, lost, ..Preamble::default() }.encode();
        self.system(System::Preamble, seq, &payload)
    }

    fn seal(self, seq: u64) -> Self {
        self.system(System::Seal, seq, &[])
    }

    /// Its file, with zeros behind its frames, so long that this is its middle.
    fn around(&self, middle: u64) -> (MemoryDirectory, Stretch) {
        let bytes = 2 * middle - FIRST_FRAME;
        assert!(self.at() <= bytes, "the frames behind the middle take less than those before");
        let header = SegmentHeader { number: 1, salt: SALT, follows: Position::ZERO, bytes, created: 0 };
        let mut file = self.0.clone();
        file[..HEADER_BYTES].copy_from_slice(header.encode(STORE).as_bytes());
        file.resize(usize::try_from(bytes).unwrap(), 0);
        let files = MemoryDirectory::with(BTreeMap::from([(file_name(1), file)]), None);
        let (from, ends, header) = (FIRST_FRAME, Ends::Sealed, Ok(header));
        (files, Stretch { number: 1, header, rest_of: None, from, ends, cover: None, in_log: false })
    }

    /// Counts it both ways: what it comes to, and whether the second half was counted by itself, which begins there.
    fn halved(&self, middle: u64, ends: Ends) -> (Counted, bool) {
        let (files, stretch) = self.around(middle);
        let (stretch, directory) = (Stretch { ends, ..stretch }, Arc::new(files) as Arc<dyn Directory>);
        let (header, about, until) = about_the_middle(&stretch, 1).unwrap();
        assert_eq!(good_from(&*directory, header, about, until).unwrap(), Some(middle));
        let halved = same_both_ways(&directory, STORE, &stretch);
        (as_one(&directory, STORE, &stretch).unwrap(), halved)
    }
}

/// Ten entries, and where they end.
fn ten() -> (Made, u64) {
    let made = Made::new().entries(1..=10, 40);
    let middle = made.at();
    (made, middle)
}

#[test]
fn a_segment_without_a_gap_at_its_middle_is_counted_in_halves() {
    let (made, middle) = ten();
    let made = made.entries(11..=15, 40);
    let end = made.at();
    for (ends, damaged) in [(Ends::Sealed, 1), (Ends::Anywhere, 0), (Ends::At(end), 0)] {
        // A log that ends there has its middle elsewhere.
        let halved = if ends == Ends::At(end) {
            let (files, stretch) = made.around(middle);
            same_both_ways(&(Arc::new(files) as _), STORE, &Stretch { ends, ..stretch })
        } else {
            let (counted, halved) = made.halved(middle, ends);
            assert_eq!((counted.entries, counted.damaged), (15, damaged), "{ends:?}");
            assert_eq!((counted.first_seq, counted.last_seq), (Some(1), Some(15)));
            halved
        };
        assert!(halved, "{ends:?}");
    }
    let (counted, halved) = made.seal(15).halved(middle, Ends::Sealed);
    assert!(halved && counted.is_sealed && counted.damaged == 0, "{counted:?}");
}

#[test]
fn entries_that_are_missing_right_at_the_middle_are_damage() {
    for ends in ENDS {
        let (made, middle) = ten();
        let (counted, halved) = made.entries(13..=16, 40).halved(middle, ends);
        assert_eq!((counted.entries, halved), (14, false));
        assert_eq!(counted.damaged, if ends == Ends::Sealed { 2 } else { 1 });
        // Anywhere else each half knows of it by itself.
        let made = Made::new().entries(3..=5, 40).entries(9..=15, 40);
        let middle = made.at();
        let (counted, halved) = made.entries(16..=17, 40).entries(20..=21, 40).halved(middle, ends);
        assert_eq!((counted.entries, halved), (14, true));
        assert_eq!(counted.damaged, if ends == Ends::Sealed { 3 } else { 2 });
    }
}

#[test]
fn a_preamble_at_the_middle_says_itself_what_was_before_it() {
    for ends in ENDS {
        let zeros = u64::from(ends == Ends::Sealed);
        // Its header does not tell that ten are missing before it; or that they had been lost before a repair.
        for (lost, damaged) in [(0, 1), (10, 0)] {
            let (made, middle) = ten();
            let (counted, halved) = made.preamble(10, 21, lost).entries(21..=22, 40).halved(middle, ends);
            assert_eq!((counted.entries, counted.damaged, halved), (12, damaged + zeros, false));
        }
        // One that stands right before it tells what is next.
        let made = ten().0.preamble(10, 21, 10);
        let middle = made.at();
        let (counted, halved) = made.entries(21..=22, 40).halved(middle, ends);
        assert_eq!((counted.entries, counted.damaged, halved), (12, zeros, true));
    }
}

#[test]
fn nothing_counts_behind_a_seal_wherever_that_stands() {
    for ends in ENDS {
        let made = ten().0.seal(10);
        let (sealed_at, middle) = (made.at(), made.at());
        let (counted, halved) = made.entries(11..=15, 40).halved(middle, ends);
        assert_eq!((counted.entries, counted.end, halved), (10, Some(sealed_at), false));
        let made = Made::new().entries(1..=4, 40).seal(4);
        let sealed_at = made.at();
        let made = made.entries(5..=10, 40);
        let middle = made.at();
        let (counted, halved) = made.entries(11..=15, 40).halved(middle, ends);
        assert_eq!((counted.entries, counted.end, halved), (4, Some(sealed_at), false));
    }
}

#[test]
fn a_payload_over_the_middle_may_hold_what_looks_like_a_frame() {
    for ends in ENDS {
        let made = ten().0;
        // The next one but one, as if it began in the payload of the next one, behind its header and its key.
        let middle = made.at() + 200;
        let mut payload = vec![7; 400];
        let nested = frame(middle, FACT, 3, 12, b"nested");
        payload[143..143 + nested.len()].copy_from_slice(&nested);
        let (counted, halved) = made.add(FACT, 3, 11, &payload).entries(12..=13, 40).halved(middle, ends);
        assert_eq!((counted.entries, counted.last_seq, halved), (13, Some(13), false));
    }
}

#[test]
fn a_part_is_counted_as_one_for_it_says_how_much_is_in_it() {
    let (made, middle) = ten();
    let (files, stretch) = made.entries(11..=15, 40).around(middle);
    let part = Part { number: 1, salt: SALT, bytes: 2 * middle - FIRST_FRAME, entries: 16 };
    let follows = Position::ZERO;
    let cover = Cover { first: 1, last: 1, follows, first_seq: 1, last_seq: 20, part: Some(part) };
    let stretch = Stretch { cover: Some(cover), ends: Ends::At(part.bytes), ..stretch };
    assert!(!same_both_ways(&(Arc::new(files) as _), STORE, &stretch));
}

/// Counts a segment of some pieces, of which the device refuses this; answers how often it was asked for that, too.
fn refused(made: &Made, middle: u64, ends: Ends, at: u64) -> (Result<(Counted, bool)>, u64) {
    let (files, stretch) = made.around(middle);
    let refused = std::iter::once(at..at + 4096).collect();
    let refusing = Refusing::of(files, file_name(1), refused);
    let refusals = Arc::clone(&refusing.refusals);
    let counted = in_halves(&(Arc::new(refusing) as _), STORE, &Stretch { ends, ..stretch }, 1);
    (counted, refusals.load(Ordering::Relaxed))
}

const MIB: u64 = 1 << 20;

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn what_the_device_refuses_is_told_at_once_and_not_asked_for_again() {
    let first = Made::new().entries(1..=400, 10_000);
    let middle = first.at();
    let made = first.entries(401..=750, 10_000);
    for ends in ENDS {
        for at in [MIB / 2, MIB * 5 / 2, middle + 4096, middle + MIB * 5 / 2] {
            let (counted, asked) = refused(&made, middle, ends, at);
            let error = counted.unwrap_err();
            assert_eq!((error.kind(), asked), (crate::error::ErrorKind::Io, 1), "{at} of {middle}");
            assert!(error.path().unwrap().ends_with(file_name(1)), "{error}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn what_cannot_be_read_behind_a_seal_is_nobodys_matter() {
    let first = Made::new().entries(1..=100, 1000).seal(100);
    let first = first.entries(101..=300, 10_000);
    let middle = first.at();
    let made = first.entries(301..=500, 10_000 - 1000);
    for at in [middle + 4096, middle + MIB * 3 / 2] {
        let (counted, asked) = refused(&made, middle, Ends::Sealed, at);
        let (counted, halved) = counted.unwrap();
        assert_eq!((counted.entries, counted.is_sealed, halved), (100, true, false));
        assert!(asked <= 1);
    }
}

/// A segment of entries of many lengths, in batches and with system frames between them, up to where its frames end.
fn segment(place: &TempDir) -> (Arc<dyn Directory>, StoreId, Stretch) {
    let options = Options::new().segment_bytes(256 << 10).background(false);
    let journal = options.open(place.path()).unwrap();
    for n in 0..60_u8 {
        let kind = journal.kind(&format!("kind-{}", n / 7)).unwrap();
        let (key, payload) = ([n % 5 + 1], [n; 300]);
        let mut batch = journal.batch();
        for length in 0..usize::from(n % 9 + 1) {
            batch.push(Record::new(kind, &key, &payload[..length * 30 + usize::from(n)]));
        }
        batch.commit().unwrap();
    }
    drop(journal);
    let reader = Reader::open(place.path()).unwrap();
    let (directory, store) = (Arc::clone(reader.directory()), reader.store_id());
    let (_, header) = open_header(&*directory, store, 1, Access::Read).unwrap();
    let (from, ends, header) = (FIRST_FRAME, Ends::Anywhere, Ok(header));
    let all = Stretch { number: 1, header, rest_of: None, from, ends, cover: None, in_log: true };
    let end = as_one(&directory, store, &all).unwrap().end.unwrap();
    (directory, store, Stretch { ends: Ends::At(end), ..all })
}

#[test]
#[cfg_attr(miri, ignore = "on a disk")]
fn a_segment_in_two_halves_is_what_it_is_as_one() {
    let place = tempfile::tempdir().unwrap();
    let (directory, store, stretch) = segment(&place);
    assert!(same_both_ways(&directory, store, &stretch));
    // Wherever it ends, and with that wherever its middle is.
    let (mut frames, mut ends) = (Counting::of(&directory, store, stretch.clone()).frames, Vec::new());
    while let Some(Ok(Lent::Frame(frame))) = frames.lend() {
        ends.push(frame.position.offset() + frame.frame_bytes);
    }
    let halved =
        |end: &&u64| same_both_ways(&directory, store, &Stretch { ends: Ends::At(**end), ..stretch.clone() });
    let halved = ends.iter().filter(halved).count();
    assert!(ends.len() > 100 && halved > ends.len() - 10, "{halved} of {}", ends.len());
}

#[test]
#[cfg_attr(miri, ignore = "on a disk")]
fn whichever_byte_is_wrong_a_segment_is_what_it_is_as_one() {
    let place = tempfile::tempdir().unwrap();
    let (directory, store, stretch) = segment(&place);
    let Ends::At(end) = stretch.ends else { unreachable!("so it was made") };
    let file = directory.open(&file_name(1), Access::Write).unwrap();
    let (mut halved, mut as_one) = (0, 0);
    let middle = u64::midpoint(FIRST_FRAME, end);
    for at in (FIRST_FRAME..end).step_by(97).chain(middle - 700..middle + 700) {
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[!byte[0]], at).unwrap();
        match same_both_ways(&directory, store, &stretch) {
            true => halved += 1,
            false => as_one += 1,
        }
        file.write_at(&byte, at).unwrap();
    }
    // Only where the frame before the middle is damaged the guess was wrong.
    assert!(halved > 10 && as_one > 10, "{halved} and {as_one}");
}

/// Asserts that the segments of a store are summed up as what their frames come to; answers the states of the large ones.
fn sums_are_those_of_the_frames(path: &std::path::Path) -> Vec<u32> {
    let reader = Reader::open(path).unwrap();
    let survey = Survey::of(&reader).unwrap();
    let mut large = Vec::new();
    for info in survey.segments() {
        let info = info.unwrap();
        let (mut frames, mut counted) = (survey.frames_of(info.number).heads(), Counted::default());
        while let Some(item) = frames.lend() {
            match item.unwrap() {
                Lent::Frame(frame) => counted.add(frame),
                Lent::Damage(_) => counted.damaged += 1,
            }
        }
        let summed = (info.first_seq, info.last_seq, info.entries, info.damaged);
        assert_eq!(summed, (counted.first_seq, counted.last_seq, counted.entries, counted.damaged));
        assert_eq!(info.bytes_used, counted.end.unwrap_or(FIRST_FRAME));
        if info.bytes_used > WORTH_A_THREAD + FIRST_FRAME {
            assert!(info.entries > 100, "{info:?}");
            large.push(info.number);
        }
    }
    large
}

#[test]
#[cfg_attr(miri, ignore = "on a disk")]
fn large_segments_are_summed_up_as_what_their_frames_come_to() {
    let place = tempfile::tempdir().unwrap();
    let journal = Options::new().segment_bytes(12 << 20).open(place.path()).unwrap();
    let kind = journal.kind("note").unwrap();
    for n in 0..700_u16 {
        let payload = vec![7; 50_000 + usize::from(n % 100)];
        journal.append(Record::new(kind, &n.to_le_bytes(), &payload)).unwrap();
    }
    let not_indexed = || {
        let names = std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().path());
        let indexes = names.filter(|path| path.extension().is_some_and(|extension| extension == "idx"));
        indexes.for_each(|path| std::fs::remove_file(path).unwrap());
    };
    not_indexed();
    assert!(!sums_are_those_of_the_frames(place.path()).is_empty(), "beside who writes");
    drop(journal);
    not_indexed();
    let large = sums_are_those_of_the_frames(place.path());
    for at in [MIB, 6 * MIB, 9 * MIB] {
        let path = place.path().join(file_name(large[0]));
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 100], at).unwrap();
        assert_eq!(sums_are_those_of_the_frames(place.path()).len(), large.len());
    }
}
