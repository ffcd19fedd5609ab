//! Records of the stream of images that say anything: a fold that begins with them comes to the value of its topic or halts,
//! and never to a value that was not saved.
//!
//! Pieces of images that a fold saved are cut, damaged, left out, put in another order or said twice. A checksum finds up to
//! three flipped bits for certain, so that what the fold comes to is known. Others are forged, with checksums that are good:
//! nobody can tell those from saved ones, and they may neither panic nor hang nor take memory that is not there.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use esker::backplane::{
    Append, Backplane, Filter, IMAGES_STREAM, Local, Offset, Stamp, Step, StreamRecord, WriterId,
};
use esker::{At, ErrorKind, Fold, FoldOptions, FoldStatus, HaltReason, Options, Store, Topic};
use esker_fuzz::wait_for_threads_that_fold;
use libfuzzer_sys::fuzz_target;

const NUMBERS: Topic<u64> = Topic::new("number");
const KEY: &[u8] = b"k";
const RECORDS: u64 = 12;
const CHANGES_MAX: usize = 16;
const PATIENCE: Duration = Duration::from_secs(15);
const NO_IMAGES: FoldOptions = FoldOptions::new().images_every(0);

#[derive(Debug, Arbitrary)]
struct Input {
    /// Behind which records images are saved.
    saved: Vec<u8>,
    /// Whether the records before the last image go.
    compacts: bool,
    changes: Vec<Change>,
}

#[derive(Debug, Arbitrary)]
enum Change {
    /// A piece once more, with up to three bits that are others.
    Flipped { piece: u8, bits: Vec<u16> },
    /// A piece once more, cut short.
    Cut { piece: u8, length: u16 },
    /// A piece as it was.
    Again { piece: u8 },
    /// Any bytes.
    Bytes(Vec<u8>),
    /// A piece that says this, with good checksums.
    Forged { value: u64, index: u8, count: u8, whole_fits: bool, bytes: Vec<u8> },
    /// An image whose head says this, and whose checksums are good.
    ForgedHead { piece: u8, at: u16, bytes: Vec<u8> },
}

/// Everything that came, in its order, and a text that makes an image of several pieces.
struct All;
impl Fold for All {
    type State = (Vec<u64>, String);
    type Event = u64;
    const NAME: &'static str = "all";
    const VERSION: u32 = 1;
    fn fold((all, text): &mut Self::State, number: u64, _: &At) {
        all.push(number);
        text.push_str(&number.to_string().repeat(300));
    }
}

fuzz_target!(|input: Input| {
    run(&input);
    wait_for_threads_that_fold();
});

fn run(input: &Input) {
    let journal = Options::new().segment_bytes(8 << 10).background(false).in_memory().unwrap();
    let plane = Arc::new(Local::over(&journal).unwrap());
    let store = Store::over(journal.clone()).with_backplane(plane.clone());
    let topic = store.topic(NUMBERS, KEY).unwrap();
    let (mut wanted, mut last, mut saved) = (Default::default(), Offset::BEGINNING, None);
    for number in 1..=RECORDS {
        last = topic.append(&number).unwrap();
        fold(&mut wanted, number);
        if input.saved.iter().any(|saved| u64::from(*saved) % RECORDS + 1 == number) {
            let fold = topic.fold_with::<All>(NO_IMAGES).unwrap();
            fold.read_after(last, PATIENCE).unwrap();
            saved = Some(fold.save_image().unwrap());
        }
    }
    let pieces = pieces(&plane);
    let mut is_forged = false;
    for change in input.changes.iter().take(CHANGES_MAX) {
        is_forged |= apply(&plane, &pieces, change);
    }
    if let Some(saved) = saved.filter(|_| input.compacts) {
        topic.compact(saved).unwrap();
    }
    // In another process: nothing is left of the fold that saved them.
    let store = Store::over(journal).with_backplane(plane);
    let fold = store.topic(NUMBERS, KEY).unwrap().fold_with::<All>(NO_IMAGES).unwrap();
    match fold.read_after(last, PATIENCE) {
        Ok(folded) => {
            assert!(is_forged || folded.value == wanted, "{folded:?}: {:?}", fold.stats());
            assert_eq!(folded.offset, last);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Halted, "{error}: {:?}", fold.stats());
            if let Ok(FoldStatus::Halted(halt)) = fold.read().map(|folded| folded.status) {
                assert_ne!(halt.why, HaltReason::Panicked, "{halt}");
            }
            // The pieces that were saved are still there, so that nothing else may stand in the way of them.
            assert!(is_forged, "{error}: {:?}", fold.stats());
        }
    }
}

fn fold(state: &mut <All as Fold>::State, number: u64) {
    state.0.push(number);
    state.1.push_str(&number.to_string().repeat(300));
}

fn pieces(plane: &Local) -> Vec<StreamRecord> {
    let mut feed = plane.subscribe(Filter::stream(IMAGES_STREAM), Offset::BEGINNING).unwrap();
    std::iter::from_fn(|| feed.try_next().unwrap()).collect()
}

/// Appends what a change says to the images. True: it could be one that was saved.
fn apply(plane: &Local, pieces: &[StreamRecord], change: &Change) -> bool {
    let piece = |piece: &u8| pieces.get(usize::from(*piece) % pieces.len().max(1));
    let Some(any) = pieces.first() else { return false };
    let append = |payload: &[u8]| {
        let stamp = Stamp::new(WriterId::random().unwrap(), 1);
        let append = Append::new(IMAGES_STREAM, any.key(), payload, stamp);
        plane.commit(&[Step::Append(append)]).expect("any bytes are a record");
    };
    match change {
        Change::Flipped { piece: which, bits } => {
            let Some(piece) = piece(which) else { return false };
            let mut payload = piece.payload().to_vec();
            let mut flipped: Vec<usize> =
                bits.iter().map(|bit| usize::from(*bit) % (payload.len() * 8)).collect();
            flipped.sort_unstable();
            flipped.dedup();
            flipped.iter().take(3).for_each(|bit| payload[bit / 8] ^= 1 << (bit % 8));
            append(&payload);
        }
        Change::Cut { piece: which, length } => {
            let Some(piece) = piece(which) else { return false };
            append(&piece.payload()[..usize::from(*length) % piece.payload().len()]);
        }
        Change::Again { piece: which } => {
            let Some(piece) = piece(which) else { return false };
            append(piece.payload());
        }
        Change::Bytes(bytes) => {
            append(bytes);
            return bytes.len() > HEAD_BYTES;
        }
        Change::Forged { value, index, count, whole_fits, bytes } => {
            let whole_crc = if *whole_fits { crc32(bytes) } else { 7 };
            append(&chunk(*value, u32::from(*index), u32::from(*count), whole_crc, bytes));
            return true;
        }
        Change::ForgedHead { piece: which, at, bytes } => {
            let Some(piece) = piece(which) else { return false };
            let mut content = piece.payload()[HEAD_BYTES..].to_vec();
            let at = usize::from(*at) % content.len().max(1);
            content.iter_mut().skip(at).zip(bytes).for_each(|(byte, forged)| *byte = *forged);
            append(&chunk(u64::from(*which) + 1, 0, 1, crc32(&content), &content));
            return true;
        }
    }
    false
}

const HEAD_BYTES: usize = 32;

/// A piece as it is written.
fn chunk(value: u64, index: u32, count: u32, whole_crc: u32, bytes: &[u8]) -> Vec<u8> {
    let mut chunk = b"eimg\x01\0\0\0".to_vec();
    chunk.extend(value.to_le_bytes());
    [index, count, whole_crc, 0].iter().for_each(|word| chunk.extend(word.to_le_bytes()));
    chunk.extend(bytes);
    let crc = crc32(&chunk);
    chunk[28..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    chunk
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}
