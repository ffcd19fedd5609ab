//! What is newest is the end of all there is, in pieces of any size, beside damage and a writer that compacts.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use esker::dump::Frames;
use esker::{CompactOptions, Durability, Journal, Keep, Options, Reader, Record};

use super::*;

/// Sizes of pieces: an item, a few, some of a segment, more than all.
const PIECES: [usize; 4] = [1, 3000, 20_000, KEPT_BYTES];

/// Remembers what it is shown. Every seventh entry does not pass, every fifth is hidden.
#[derive(Default)]
struct Seen {
    shown: Vec<String>,
    walked: usize,
    left: Option<usize>,
}

fn passes(item: &Item) -> bool {
    matches!(item, Item::Damage(_))
        || matches!(item, Item::Frame(frame) if frame.is_system() || !frame.seq.is_multiple_of(7))
}

fn counts(item: &Item) -> bool {
    matches!(item, Item::Frame(frame) if frame.is_system() || frame.seq % 5 != 0)
}

impl Viewer for Seen {
    fn accepts(&self, frame: &FrameInfo) -> bool {
        frame.is_system() || !frame.seq.is_multiple_of(7)
    }

    fn is_shown(&self, item: &Item) -> bool {
        counts(item)
    }

    fn walk_over(&mut self, _: &Item) {
        self.walked += 1;
    }

    fn show(&mut self, item: Item) -> Result<bool> {
        self.shown.push(text(&item));
        self.left = self.left.map(|left| left - usize::from(counts(&item)));
        Ok(self.left != Some(0))
    }
}

fn text(item: &Item) -> String {
    match item {
        Item::Frame(frame) => format!("{} {} {:?}", frame.position, frame.seq, frame.batch),
        Item::Damage(damage) => format!("{damage:?}"),
    }
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// Batches of a few entries over many small segments.
    fn new() -> (Self, Journal) {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        let options = Options::new().segment_bytes(16 << 10).durability(Durability::Os);
        let journal = options.open(place.path()).unwrap();
        let kind = journal.kind("note").unwrap();
        journal.keep(kind, Keep::Latest).unwrap();
        for n in 0..150_u64 {
            let mut batch = journal.batch();
            let keys: Vec<String> = (0..3).map(|m| ((n * 3 + m) % 400).to_string()).collect();
            for key in &keys {
                batch.push(Record::new(kind, key.as_bytes(), &[b'x'; 150]));
            }
            batch.commit().unwrap();
        }
        (place, journal)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("many.esker")
    }

    fn survey(&self) -> Survey {
        Survey::of(&Reader::open(self.path()).unwrap()).unwrap()
    }
}

/// Turns a byte over.
fn flip(store: &Path, position: Position) {
    let path = store.join(format!("{:010}.seg", position.segment()));
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position.offset() + 20).unwrap();
    file.write_all_at(&[byte[0] ^ 0xff], position.offset() + 20).unwrap();
}

fn look(survey: &Survey, frames: usize, is_reverse: bool, piece: usize, left: Option<usize>) -> Seen {
    let wanted = Wanted { below: u64::MAX, oldest: 1, frames, is_reverse, piece };
    let mut seen = Seen { left, ..Seen::default() };
    Back::over(survey, wanted).look(&mut seen).unwrap();
    seen
}

fn all_of(survey: &Survey) -> Vec<Item> {
    let frames: Vec<Frames> = survey.log().map(|segment| survey.frames_of(segment)).collect();
    frames.into_iter().flatten().map(std::result::Result::unwrap).filter(passes).collect()
}

/// From the last so many that count on.
fn last(all: &[Item], frames: usize) -> &[Item] {
    let counting = all.iter().enumerate().filter(|(_, item)| counts(item)).map(|(at, _)| at);
    let counting: Vec<usize> = counting.collect();
    match counting.len().checked_sub(frames) {
        Some(before) => &all[counting.get(before).copied().unwrap_or(all.len())..],
        None => all,
    }
}

fn check(survey: &Survey) {
    let all = all_of(survey);
    for piece in PIECES {
        for frames in [0, 1, 2, 3, 17, 40, 200, usize::MAX] {
            let mut expected: Vec<String> = last(&all, frames).iter().map(text).collect();
            let forward = look(survey, frames, false, piece, None);
            assert_eq!(forward.shown, expected, "the last {frames} by pieces of {piece}");
            assert!(forward.walked > 0);
            expected.reverse();
            let backward = look(survey, frames, true, piece, None);
            assert_eq!(backward.shown, expected, "the last {frames} backward by pieces of {piece}");
        }
    }
}

#[test]
fn what_is_newest_is_the_end_of_all_there_is() {
    let (place, journal) = Place::new();
    journal.close().unwrap();
    let survey = place.survey();
    assert!(survey.log().count() > 5);
    check(&survey);
    let few = look(&survey, usize::MAX, false, 1, Some(3));
    assert_eq!(few.shown.len(), last(&all_of(&survey), usize::MAX)[..].iter().take(few.shown.len()).count());
    assert!(few.shown.len() < 10, "{}", few.shown.len());
}

#[test]
fn damage_is_told_wherever_a_piece_begins() {
    let (place, journal) = Place::new();
    journal.close().unwrap();
    let positions: Vec<Position> = all_of(&place.survey()).iter().map(place_of).collect();
    for position in positions.iter().skip(10).step_by(9) {
        flip(&place.path(), *position);
    }
    let survey = place.survey();
    let damaged = all_of(&survey).iter().filter(|item| matches!(item, Item::Damage(_))).count();
    assert!(damaged > 20, "{damaged}");
    check(&survey);
}

#[test]
fn damage_stands_before_the_frame_at_its_place() {
    let (place, journal) = Place::new();
    journal.close().unwrap();
    let all = all_of(&place.survey());
    flip(&place.path(), place_of(&all[20]));
    let mut damaged = all_of(&place.survey()).into_iter().filter(|item| matches!(item, Item::Damage(_)));
    // As the damage of a frame before which entries are missing.
    let Some(Item::Damage(mut damage)) = damaged.next() else { panic!("no damage") };
    (damage.segment, damage.offset) = (place_of(&all[21]).segment(), place_of(&all[21]).offset());
    let (frame, damage) = (&all[21], &Item::Damage(damage));
    assert_eq!(Mark::of(frame).is_reached_by(damage), Some(false), "it belongs to the piece before");
    assert_eq!(Mark::of(damage).is_reached_by(frame), Some(true));
    assert_eq!(Mark::of(frame).is_reached_by(frame), Some(true));
    assert_eq!(Mark::of(frame).is_reached_by(&all[20]), Some(false));
}

#[test]
fn beside_a_writer_that_compacts_what_it_kept_is_shown_once() {
    let (place, journal) = Place::new();
    let survey = place.survey();
    let seqs = |items: &[Item]| {
        let entries = items.iter().filter_map(|item| match item {
            Item::Frame(frame) if !frame.is_system() && counts(item) => Some(frame.seq),
            _ => None,
        });
        entries.collect::<Vec<_>>()
    };
    // The first fifty were written again.
    let before: Vec<u64> = seqs(&all_of(&survey)).into_iter().filter(|seq| *seq > 50).collect();
    let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.parts_written > 0);
    assert!(
        fs::read_dir(place.path())
            .unwrap()
            .any(|file| { file.unwrap().path().extension().is_some_and(|extension| extension == "snap") })
    );
    let shown = |seen: &Seen| {
        let lines = seen.shown.iter().filter(|line| !line.starts_with("Damage"));
        let seqs = lines.map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
        seqs.filter(|seq| before.contains(seq)).collect::<Vec<_>>()
    };
    for piece in PIECES {
        // System frames may count among the last ones: those of a compacted segment are gone.
        for frames in [100, 250, usize::MAX] {
            let mut forward = shown(&look(&survey, frames, false, piece, None));
            forward.dedup();
            assert!(forward.is_sorted());
            assert!(before.ends_with(&forward), "the last {frames} by pieces of {piece}: {forward:?}");
            assert!(forward.len() + 20 > frames.min(before.len()), "{frames} {piece}: {}", forward.len());
            let mut backward = shown(&look(&survey, frames, true, piece, None));
            backward.reverse();
            // A system frame has the Seq of the entry behind it.
            backward.dedup();
            assert_eq!(backward, forward, "{frames} {piece}");
        }
    }
    journal.close().unwrap();
}
