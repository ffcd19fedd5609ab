//! What is shown of small parts, made entry by entry, and what is said to be lost of them.
#![allow(clippy::single_range_in_vec_init, reason = "a list of one range of bytes")]

use super::*;
use crate::disk::memory::MemoryDirectory;
use crate::disk::refusing::Refusing;
use crate::format::checksum;
use crate::id::{IdempotencyKey, PART};
use crate::log::recovery_tests::{Made, STORE};

const NUMBER: u32 = PART | 4;

/// A part of segments 2 to 3, which held the Seqs 11 to 30.
struct Kept {
    files: MemoryDirectory,
    cover: Cover,
    /// Where each frame stands, and where the last one ends.
    places: Vec<u64>,
}

fn entries(entries: &[(u64, bool)]) -> Vec<(Made, u16)> {
    let made = |seq| Made::empty(2, Position::new(1, 0), 4096).entry(seq);
    entries.iter().map(|(seq, more)| (made(*seq), if *more { flag::MORE } else { 0 })).collect()
}

fn keyed() -> Keyed {
    Keyed { key: IdempotencyKey([3; 16]), first_seq: 12, frames: 1, digest: 5, time: 6 }
}

impl Kept {
    /// With these frames, and as many entries more in the header as are not there; behind them an answer.
    fn of(frames: &[(Made, u16)], missing: u64, has_answer: bool) -> Self {
        let files = MemoryDirectory::new();
        let mut part = PartWriter::begin(&files, NUMBER, 77).unwrap();
        let mut places = Vec::new();
        for (made, flags) in frames {
            places.push(part.end());
            part.push(&made.first_frame(), *flags).unwrap();
        }
        if has_answer {
            places.push(part.end());
            write_answer(&mut part, keyed(), &[1], 30).unwrap();
        }
        places.push(part.end());
        part.entries += missing;
        let cover = Cover {
            first: 2,
            last: 3,
            follows: Position::new(1, 0),
            first_seq: 11,
            last_seq: 30,
            part: None,
        };
        let cover = part.finish(STORE, cover, 0, |_, _| Ok(())).unwrap();
        Self { files, cover, places }
    }

    /// Five entries in four batches: 12, 15 and 16, 20, 25; and an answer.
    fn usual() -> Self {
        Self::of(&entries(&[(12, false), (15, true), (16, false), (20, false), (25, false)]), 0, true)
    }

    /// The content of a frame is not as it was.
    fn rot(&self, frame: usize) {
        self.write(self.places[frame] + 60, &[0xff]);
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.files.open(&file_name(NUMBER), Access::Write).unwrap().write_at(bytes, at).unwrap();
    }

    fn seen(&self) -> Seen {
        self.seen_in(&self.files).unwrap()
    }

    fn seen_in(&self, directory: &dyn Directory) -> Result<Seen> {
        let mut seen = Seen { places: self.places.clone(), ..Seen::default() };
        let damage = visit_kept(directory, STORE, &self.cover, &mut seen)?;
        assert_eq!(damage, seen.damage, "what is answered is shown");
        Ok(seen)
    }
}

/// Where, the next good frame, the first and the last Seq in between, and how many entries they were.
type Lost = (usize, Option<usize>, u64, u64, u64);

/// What is shown: which frames, by their number, and what is lost.
#[derive(Default)]
struct Seen {
    places: Vec<u64>,
    frames: Vec<usize>,
    entered: Option<(u32, u64, u64)>,
    damage: Vec<Damage>,
    entries: Vec<u64>,
}

impl Visitor for Seen {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        self.entered = Some((segment.number(), from, last_seq));
        Ok(())
    }

    fn frame(&mut self, position: Position, _: &Frame<'_>) -> Result<()> {
        assert_eq!(position.segment(), NUMBER);
        self.frames.push(self.places.iter().position(|place| *place == position.offset()).unwrap());
        Ok(())
    }

    fn lost_of_part(&mut self, damage: &Damage, entries: u64) {
        assert_eq!((damage.segment, damage.lost_from), (NUMBER, damage.offset));
        self.damage.push(damage.clone());
        self.entries.push(entries);
    }
}

impl Seen {
    fn lost(&self) -> Vec<Lost> {
        let number = |at: u64| self.places.iter().position(|place| *place == at).unwrap();
        let one = |(damage, entries): (&Damage, &u64)| {
            (number(damage.offset), damage.next_good.map(number), damage.first_seq, damage.last_seq, *entries)
        };
        self.damage.iter().zip(&self.entries).map(one).collect()
    }
}

#[test]
fn all_frames_of_a_part_are_shown() {
    let seen = Kept::usual().seen();
    assert_eq!((seen.frames, seen.entered), (vec![0, 1, 2, 3, 4, 5], Some((NUMBER, FIRST_FRAME, 10))));
    assert_eq!(seen.damage, []);
    let nothing = Cover { part: None, ..Kept::usual().cover };
    assert_eq!(visit_kept(&MemoryDirectory::new(), STORE, &nothing, &mut Seen::default()).unwrap(), []);
}

#[test]
fn a_bad_entry_takes_its_batch_and_each_place_is_given_the_entries_that_it_lost() {
    let cases: [(&[usize], &[usize], &[Lost]); 6] = [
        (&[0], &[1, 2, 3, 4, 5], &[(0, Some(1), 11, 14, 1)]),
        (&[1], &[0, 2, 3, 4, 5], &[(1, Some(2), 13, 15, 1)]),
        (&[2], &[0, 3, 4, 5], &[(2, Some(3), 13, 19, 2)]),
        (&[4], &[0, 1, 2, 3, 5], &[(4, Some(5), 21, 30, 1)]),
        (&[0, 4], &[1, 2, 3, 5], &[(0, Some(1), 11, 14, 2), (4, Some(5), 21, 30, 0)]),
        (&[3, 4], &[0, 1, 2, 5], &[(3, Some(5), 17, 30, 2)]),
    ];
    for (rotten, shown, lost) in cases {
        let kept = Kept::usual();
        rotten.iter().for_each(|frame| kept.rot(*frame));
        let seen = kept.seen();
        assert_eq!((&seen.frames[..], &seen.lost()[..]), (shown, lost), "{rotten:?}");
        assert!(seen.damage.iter().all(|damage| damage.what == "a frame that does not validate"));
        assert!(seen.damage.iter().all(|damage| !damage.unreadable));
    }
}

#[test]
fn what_is_bad_at_the_end_of_a_part_goes_to_its_last_seq() {
    let of =
        |last: &[(u64, bool)], missing| Kept::of(&entries(&[&[(12, false)], last].concat()), missing, false);
    // Alone, and with the batch that it ends.
    for (last, lost) in [
        (&[(15, false), (20, false)][..], (2, None, 16, 30, 1)),
        (&[(15, true), (20, false)][..], (2, None, 13, 30, 2)),
    ] {
        let kept = of(last, 0);
        kept.rot(2);
        assert_eq!(kept.seen().lost(), [lost]);
    }
    // All validate, and there should be more.
    let missing = of(&[(15, false), (20, false)], 2).seen();
    assert_eq!((missing.frames.len(), missing.lost()), (3, vec![(3, None, 21, 30, 2)]));
    assert_eq!(missing.damage[0].what, "3 of 5 entries are there");
    // A batch that is open at the end was cut by nobody.
    let open = of(&[(15, false), (20, true)], 0).seen();
    assert_eq!((open.frames.len(), open.damage.len()), (3, 0));
    // What is missing where something was found to be bad is that.
    let kept = of(&[(15, false), (20, false)], 2);
    kept.rot(1);
    assert_eq!(kept.seen().lost(), [(1, Some(2), 13, 19, 3)]);
}

#[test]
fn a_frame_that_cannot_have_been_kept_here_is_no_entry_of_the_part() {
    let empty = || Made::empty(2, Position::new(1, 0), 4096);
    let with = |made: Made| {
        let mut frames = entries(&[(12, false), (25, false)]);
        frames.insert(1, (made, 0));
        Kept::of(&frames, 0, false).seen().frames
    };
    let entry =
        |kind, seq, generation, key: &[u8]| with(empty().frame(1, kind, (seq, generation), key, b"payload"));
    for good in [entry(1, 13, 1, b"k"), entry(4096, 24, 24, b"k")] {
        assert_eq!(good, [0, 1, 2]);
    }
    let bad = [
        entry(4097, 20, 1, b"k"),
        entry(1, 20, 0, b"k"),
        entry(1, 20, 21, b"k"),
        entry(1, 20, 1, b""),
        entry(1, 12, 1, b"k"),
        entry(1, 31, 1, b"k"),
    ];
    assert!(bad.iter().all(|frames| frames == &[0, 2]), "{bad:?}");
    // The first and the last Seq of the stretch can be there.
    let ends = Kept::of(&entries(&[(11, false), (30, false)]), 0, false).seen();
    assert_eq!((ends.frames, ends.damage.len()), (vec![0, 1], 0));
    let first_and_last = Kept::of(&entries(&[(11, false), (30, false)]), 0, false);
    first_and_last.rot(1);
    assert_eq!(first_and_last.seen().lost(), [(1, None, 12, 30, 1)]);
    assert_eq!(Kept::of(&entries(&[(10, false), (30, false)]), 0, false).seen().frames, [1]);
}

#[test]
fn of_a_part_that_is_not_there_all_is_lost_and_one_from_the_future_is_refused() {
    let all = |seen: &Seen| {
        assert_eq!((seen.frames.len(), seen.entered), (0, None));
        let damage = &seen.damage[0];
        assert_eq!((damage.offset, damage.next_good, damage.first_seq, damage.last_seq), (0, None, 11, 30));
        assert_eq!(seen.entries, [5]);
        damage.unreadable
    };
    let gone = Kept::usual();
    gone.files.remove(&file_name(NUMBER)).unwrap();
    assert!(!all(&gone.seen()));
    let damaged = Kept::usual();
    damaged.write(40, &[0x55]);
    assert!(!all(&damaged.seen()));
    for length in [0, 100, HEADER_BYTES as u64 - 1] {
        let short = Kept::usual();
        short.files.open(&file_name(NUMBER), Access::Write).unwrap().truncate(length).unwrap();
        assert!(!all(&short.seen()), "{length}");
    }
    let newer = Kept::usual();
    newer.write(10, &[2]);
    let mut header = [0; 124];
    newer.files.open(&file_name(NUMBER), Access::Read).unwrap().read_at(&mut header, 0).unwrap();
    newer.write(124, &checksum::crc(&[&header]).to_le_bytes());
    let refused = newer.seen_in(&newer.files).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::FormatTooNew);
}

#[test]
fn what_the_device_refuses_of_a_part_is_said_and_what_it_took_is_unreadable() {
    let many: Vec<(u64, bool)> = (11..=30).flat_map(|seq| [(seq, false)]).collect();
    let frames: Vec<(Made, u16)> = many
        .iter()
        .map(|(seq, _)| {
            (Made::empty(2, Position::new(1, 0), 4096).frame(1, 3, (*seq, 1), b"k", &[1; 1000]), 0)
        })
        .collect();
    let Kept { files, cover, places } = Kept::of(&frames, 0, false);
    let (name, refused) = (file_name(NUMBER), vec![4096..8192]);
    let refusing = Refusing::of(files, name, refused);
    let mut seen = Seen { places: places.clone(), ..Seen::default() };
    visit_kept(&refusing, STORE, &cover, &mut seen).unwrap();
    let first = places.iter().position(|place| place + 1064 > 4096).unwrap();
    let next = places.iter().position(|place| *place >= 8192).unwrap();
    let told: Vec<_> =
        seen.damage.iter().map(|d| (d.offset, d.next_good, d.first_seq, d.last_seq, d.unreadable)).collect();
    let seqs = (11 + first as u64, 10 + next as u64);
    let frame = (places[first], Some(places[next]), seqs.0, seqs.1, true);
    assert_eq!(told, [(4096, Some(8192), 11, 10, true), frame]);
    assert_eq!(seen.damage[0].what, "4096 bytes cannot be read: the device refuses");
    assert_eq!(seen.entries, [0, (next - first) as u64]);
    assert_eq!(seen.frames.len(), frames.len() - (next - first));
    // What is bad beside what was refused is not.
    let Kept { files, cover, places } = Kept::of(&frames, 0, false);
    files.open(&file_name(NUMBER), Access::Write).unwrap().write_at(&[9], places[1] + 100).unwrap();
    files.open(&file_name(NUMBER), Access::Write).unwrap().write_at(&[9], places[next] + 100).unwrap();
    let at = places[next + 1].next_multiple_of(4096);
    let refusing = Refusing::of(files, file_name(NUMBER), vec![at..at + 4096]);
    let mut seen = Seen { places, ..Seen::default() };
    visit_kept(&refusing, STORE, &cover, &mut seen).unwrap();
    let unreadable: Vec<bool> = seen.damage.iter().map(|damage| damage.unreadable).collect();
    assert_eq!(unreadable, [true, false, false, true], "{:#?}", seen.damage);
}

#[test]
fn a_part_that_did_not_come_to_be_leaves_nothing_and_one_that_did_is_as_it_was_written() {
    let files = MemoryDirectory::new();
    files.create(&temporary_name(&file_name(NUMBER))).unwrap();
    drop(PartWriter::begin(&files, NUMBER, 77).unwrap());
    assert_eq!(files.list().unwrap(), [], "nor what was left of another");
    let Kept { files, cover, places } = Kept::usual();
    assert_eq!(files.list().unwrap().len(), 1);
    let part = cover.part.unwrap();
    assert_eq!((part.bytes, part.entries), (*places.last().unwrap(), 5));
    let segment = Segment::open_part(&files, STORE, &cover, part).unwrap();
    let mut frames = PartFrames::of(&segment, segment.map.slice(0..segment.map.bytes()).unwrap());
    let walked: Vec<u64> = std::iter::from_fn(|| frames.step()).map(|(at, _)| at).collect();
    assert_eq!(walked, places[..6]);
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of thousands of numbers take it a quarter of an hour")]
fn an_answer_of_more_generations_than_one_frame_holds_is_written_in_order() {
    let files = MemoryDirectory::new();
    let mut part = PartWriter::begin(&files, NUMBER, 77).unwrap();
    let generations: Vec<u64> = (1..=GENERATIONS_AT_ONCE as u64 * 2 + 3).collect();
    let frames = u32::try_from(generations.len()).unwrap();
    let keyed = Keyed { frames, ..keyed() };
    write_answer(&mut part, keyed, &generations, 30).unwrap();
    assert!(part.written > 0, "what is large enough is not kept in memory");
    let cover =
        Cover { first: 2, last: 3, follows: Position::new(1, 0), first_seq: 11, last_seq: 30, part: None };
    let cover = part.finish(STORE, cover, 0, |_, _| Ok(())).unwrap();
    let segment = Segment::open_part(&files, STORE, &cover, cover.part.unwrap()).unwrap();
    let mut pieces = PartFrames::of(&segment, segment.map.slice(0..segment.map.bytes()).unwrap());
    let mut told = Vec::new();
    while let Some((_, frame)) = pieces.step() {
        let answer = Answer::read(frame.unwrap().payload()).unwrap();
        assert_eq!((answer.keyed, answer.from as usize), (keyed, told.len()));
        told.extend(answer.generations);
    }
    assert!(told == generations);
}
