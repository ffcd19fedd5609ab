//! The frames of a log, read and checked by a thread of its own, some ahead of who goes through them.
#![allow(clippy::vec_box, reason = "a frame changes hands as a pointer, not as some hundred bytes")]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use esker::dump::{FrameInfo, Frames, Lent};
use esker::{Damage, Error};

/// So many frames change hands at once, in either direction, or fewer that hold so many bytes.
const TOGETHER: usize = 1024;
const TOGETHER_BYTES: usize = 256 << 10;
/// So many times that may wait, in either direction.
const WAITING: usize = 2;
/// Behind a piece that holds more bytes nothing is read before somebody asks for more.
const LARGE: usize = 1 << 20;
/// The memory of a frame whose key, metadata or payload has more room than this is not kept.
const ROOM_KEPT: usize = 4 << 10;

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    Frame(Box<FrameInfo>),
    /// A place where no frame validates.
    Damage(Damage),
}

/// Frames in their order, and what comes behind them.
#[derive(Debug)]
struct Piece {
    frames: std::vec::IntoIter<Box<FrameInfo>>,
    then: Then,
    /// The thread waits until it is asked for the next one.
    is_large: bool,
}

#[derive(Debug)]
enum Then {
    More,
    Damage(Damage),
    Failed(Error),
    End,
}

/// The frames of a log, one after the other.
#[derive(Debug)]
pub(super) struct Ahead {
    piece: Piece,
    /// Frames whose memory is free, until there are enough of them to give back.
    free: Vec<Box<FrameInfo>>,
    /// So many bytes they have room for.
    free_bytes: usize,
    reader: Option<Reader>,
}

/// The thread, and the ways from and to it.
#[derive(Debug)]
struct Reader {
    pieces: Receiver<Piece>,
    given_back: SyncSender<Vec<Box<FrameInfo>>>,
    goes_on: SyncSender<()>,
    thread: JoinHandle<()>,
}

/// Reads the next frame into a place for it.
trait Source: for<'a> FnMut(&'a mut FrameInfo) -> Option<esker::Result<Lent<'a>>> + Send + 'static {}
impl<F: for<'a> FnMut(&'a mut FrameInfo) -> Option<esker::Result<Lent<'a>>> + Send + 'static> Source for F {}

impl Ahead {
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub(super) fn of(mut frames: Frames) -> std::io::Result<Self> {
        Self::reading(move |frame| frames.next_into(frame))
    }

    fn reading(source: impl Source) -> std::io::Result<Self> {
        let (sender, pieces) = sync_channel(WAITING);
        let (given_back, free) = sync_channel(WAITING);
        let (goes_on, waiting) = sync_channel(1);
        let read = move || read(source, &sender, &free, &waiting);
        let thread = Builder::new().name("esker-read".to_owned()).spawn(read)?;
        let piece = Piece { frames: Vec::new().into_iter(), then: Then::More, is_large: false };
        let reader = Some(Reader { pieces, given_back, goes_on, thread });
        Ok(Self { piece, free: Vec::new(), free_bytes: 0, reader })
    }

    /// The next one; `None` at the end, and behind an error.
    pub(super) fn next(&mut self) -> Option<esker::Result<Read>> {
        loop {
            if let Some(frame) = self.piece.frames.next() {
                return Some(Ok(Read::Frame(frame)));
            }
            match std::mem::replace(&mut self.piece.then, Then::More) {
                Then::More => self.piece = self.next_piece(),
                Then::Damage(damage) => return Some(Ok(Read::Damage(damage))),
                then => {
                    self.piece.then = Then::End;
                    return if let Then::Failed(error) = then { Some(Err(error)) } else { None };
                }
            }
        }
    }

    fn next_piece(&mut self) -> Piece {
        if self.piece.is_large {
            // If it is not there any more, what follows tells.
            let _ = self.reader.as_ref().map(|reader| reader.goes_on.send(()));
        }
        if let Some(piece) = self.reader.as_ref().and_then(|reader| reader.pieces.recv().ok()) {
            return piece;
        }
        // It says when it is at its end: if it ends before, that is a bug, and not the end of the log.
        match self.reader.take().map(|reader| reader.thread.join()) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            _ => unreachable!("the reader of the log ended without a word"),
        }
    }

    /// Takes the memory of a frame for a later one.
    pub(super) fn take_back(&mut self, frame: Box<FrameInfo>) {
        if room(&frame) > ROOM_KEPT {
            return;
        }
        self.free_bytes += room(&frame);
        self.free.push(frame);
        if self.free.len() >= TOGETHER || self.free_bytes >= TOGETHER_BYTES {
            self.free_bytes = 0;
            let free = std::mem::take(&mut self.free);
            // What the reader has no use for by now is freed.
            let _ = self.reader.as_ref().map(|reader| reader.given_back.try_send(free));
        }
    }
}

/// The thread does not outlive who reads.
impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(Reader { pieces, given_back, goes_on, thread }) = self.reader.take() {
            // It ends when nobody takes what it sends. If it panicked that has been printed, and nobody waits for more.
            drop((pieces, given_back, goes_on));
            let _ = thread.join();
        }
    }
}

fn room(frame: &FrameInfo) -> usize {
    frame.key.capacity() + frame.metadata.capacity() + frame.payload.capacity()
}

/// Reads frames until there are no more, or nobody wants them.
fn read(
    mut source: impl Source,
    out: &SyncSender<Piece>,
    free: &Receiver<Vec<Box<FrameInfo>>>,
    goes_on: &Receiver<()>,
) {
    let mut places = Vec::new();
    let mut place = || {
        if places.is_empty() {
            places = free.try_recv().unwrap_or_default();
        }
        places.pop().unwrap_or_default()
    };
    loop {
        let piece = read_piece(&mut source, &mut place);
        let is_last = matches!(piece.then, Then::Failed(_) | Then::End);
        let is_large = piece.is_large;
        if out.send(piece).is_err() || is_last || is_large && goes_on.recv().is_err() {
            return;
        }
    }
}

fn read_piece(source: &mut impl Source, place: &mut impl FnMut() -> Box<FrameInfo>) -> Piece {
    let (mut read, mut bytes, mut then) = (Vec::with_capacity(TOGETHER), 0, Then::More);
    while read.len() < TOGETHER && bytes < TOGETHER_BYTES {
        let mut frame = place();
        match source(&mut frame) {
            Some(Ok(Lent::Frame(_))) => {
                bytes += room(&frame);
                read.push(frame);
                continue;
            }
            Some(Ok(Lent::Damage(damage))) => then = Then::Damage(damage),
            Some(Err(error)) => then = Then::Failed(error),
            None => then = Then::End,
        }
        break;
    }
    Piece { frames: read.into_iter(), then, is_large: bytes > LARGE }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use esker::Reader;
    use esker::dump::{Item, Survey};

    use super::*;

    const FRAMES: u64 = 20_000;

    /// So many frames with payloads of so many bytes; counts those for which new memory was taken.
    fn frames(count: u64, payload: usize, taken: &Arc<AtomicUsize>) -> impl Source + use<> {
        let (mut seq, taken) = (0, Arc::clone(taken));
        source(move |frame| {
            seq += 1;
            taken.fetch_add(usize::from(frame.payload.capacity() == 0), Ordering::Relaxed);
            frame.seq = seq;
            frame.payload.clear();
            frame.payload.resize(payload, 7);
            (seq <= count).then_some(Ok(Lent::Frame(frame)))
        })
    }

    /// Tells the compiler what is lent, and for how long.
    fn source<F: for<'a> FnMut(&'a mut FrameInfo) -> Option<esker::Result<Lent<'a>>>>(source: F) -> F {
        source
    }

    #[test]
    fn frames_come_in_their_order_and_their_memory_is_used_again() {
        for payload in [1, 100, 1_100, 3_000, 4_000] {
            let taken = Arc::default();
            let mut ahead = Ahead::reading(frames(FRAMES, payload, &taken)).unwrap();
            let mut most = 0;
            for seq in 1..=FRAMES {
                let Some(Ok(Read::Frame(frame))) = ahead.next() else { panic!("{seq} is not there") };
                assert_eq!((frame.seq, frame.payload.len()), (seq, payload));
                ahead.take_back(frame);
                most = most.max(ahead.free.len() * payload);
            }
            assert!(most < TOGETHER_BYTES, "{most} bytes lay here that the reader could have used");
            assert!(ahead.next().is_none() && ahead.next().is_none());
            // Those that are on the way, and now and then some that came back when there were enough.
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken < usize::try_from(FRAMES).unwrap() / 2, "{taken} of {payload} bytes");
            assert!(ahead.free.len() < TOGETHER);
            assert!(ahead.free.iter().map(|frame| room(frame)).sum::<usize>() < TOGETHER_BYTES);
        }
    }

    #[test]
    fn the_memory_of_what_waits_is_bounded_by_its_bytes() {
        // One each that waits, is read, and is held; of large ones none is read ahead.
        for (payload, most) in [(1 << 20, WAITING + 2), (LARGE + 1, 0)] {
            let taken = Arc::default();
            let mut ahead = Ahead::reading(frames(100, payload, &taken)).unwrap();
            for seq in 1..=100 {
                assert!(matches!(ahead.next(), Some(Ok(Read::Frame(_)))), "{seq}");
                let ahead_of_it = taken.load(Ordering::Relaxed) - seq;
                assert!(ahead_of_it <= most, "{ahead_of_it} of {payload} bytes are ahead of {seq}");
            }
        }
    }

    #[test]
    fn it_shows_what_the_frames_show_and_the_damage_where_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.esker");
        let journal = esker::Journal::open(&path).unwrap();
        let kind = journal.kind("note").unwrap();
        for n in 0..600_u32 {
            journal.append(esker::Record::new(kind, &[1], &n.to_le_bytes())).unwrap();
        }
        journal.close().unwrap();
        let segment = path.join("0000000001.seg");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[30_000..30_100].fill(0xa5);
        std::fs::write(&segment, bytes).unwrap();

        let survey = Survey::of(&Reader::open(&path).unwrap()).unwrap();
        let mut ahead = Ahead::of(survey.frames()).unwrap();
        let mut damage = 0;
        for expected in survey.frames() {
            match (ahead.next().unwrap().unwrap(), expected.unwrap()) {
                (Read::Frame(frame), Item::Frame(expected)) => {
                    assert_eq!(*frame, expected);
                    ahead.take_back(frame);
                }
                (Read::Damage(found), Item::Damage(expected)) => {
                    assert_eq!(found, expected);
                    damage += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(ahead.next().is_none() && damage == 1);
    }

    #[test]
    fn an_error_comes_where_it_stands_and_is_the_last() {
        let mut turn = 0;
        let source = source(move |frame| {
            turn += 1;
            let failed = || esker::Journal::open("/dev/null/no directory").unwrap_err();
            Some(if turn < 3 { Ok(Lent::Frame(frame)) } else { Err(failed()) })
        });
        let mut ahead = Ahead::reading(source).unwrap();
        for _ in 0..2 {
            assert!(matches!(ahead.next(), Some(Ok(Read::Frame(_)))));
        }
        assert!(matches!(ahead.next(), Some(Err(_))));
        assert!(ahead.next().is_none());
    }

    #[test]
    fn a_reader_that_panics_is_not_the_end_of_the_log() {
        let source = source(|_| panic!("as a bug does"));
        let mut ahead = Ahead::reading(source).unwrap();
        for _ in 0..2 {
            assert!(catch_unwind(AssertUnwindSafe(|| ahead.next().is_none())).is_err());
        }
    }

    #[test]
    fn the_thread_has_ended_when_who_reads_is_gone() {
        let taken = Arc::default();
        for payload in [10, LARGE + 1] {
            let mut ahead = Ahead::reading(frames(u64::MAX, payload, &taken)).unwrap();
            assert!(ahead.next().is_some());
            drop(ahead);
            // It held the other one.
            assert_eq!(Arc::strong_count(&taken), 1);
        }
    }
}
