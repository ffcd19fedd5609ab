//! The frames of a log, read and checked by a thread of its own, some ahead of who goes through them.
#![allow(clippy::vec_box, reason = "a frame changes places as a pointer, not as some hundred bytes")]

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use esker::dump::{FrameInfo, Frames};
use esker::{Damage, Error};

/// So many frames change hands at once, or fewer that come to so many bytes.
const TOGETHER: usize = 256;
const TOGETHER_BYTES: u64 = 256 << 10;
/// So many times that may wait.
const WAITING: usize = 2;
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
    pieces: Receiver<Piece>,
    piece: Piece,
    /// Frames whose memory is free, until there are enough of them to send.
    free: Vec<Box<FrameInfo>>,
    given_back: Sender<Vec<Box<FrameInfo>>>,
    reader: Option<JoinHandle<()>>,
}

impl Ahead {
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub(super) fn of(frames: Frames) -> std::io::Result<Self> {
        let (sender, pieces) = sync_channel(WAITING);
        let (given_back, free) = channel();
        let reader =
            Builder::new().name("esker-read".to_owned()).spawn(move || read(frames, &sender, &free))?;
        let piece = Piece { frames: Vec::new().into_iter(), then: Then::More };
        Ok(Self { pieces, piece, free: Vec::new(), given_back, reader: Some(reader) })
    }

    /// The next one; `None` at the end, and behind an error.
    pub(super) fn next(&mut self) -> Option<esker::Result<Read>> {
        loop {
            if let Some(frame) = self.piece.frames.next() {
                return Some(Ok(Read::Frame(frame)));
            }
            match std::mem::replace(&mut self.piece.then, Then::End) {
                Then::More => self.piece = self.next_piece(),
                Then::Damage(damage) => {
                    self.piece.then = Then::More;
                    return Some(Ok(Read::Damage(damage)));
                }
                Then::Failed(error) => return Some(Err(error)),
                Then::End => return None,
            }
        }
    }

    fn next_piece(&mut self) -> Piece {
        if let Ok(piece) = self.pieces.recv() {
            return piece;
        }
        // It says when it is at its end: it ends before that by a bug only, which is not the end of a log.
        match self.reader.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            _ => unreachable!("the reader of the log ended without a word"),
        }
    }

    /// Takes the memory of a frame for a later one.
    pub(super) fn take_back(&mut self, frame: Box<FrameInfo>) {
        let FrameInfo { key, metadata, payload, .. } = &*frame;
        if [key, metadata, payload].iter().any(|bytes| bytes.capacity() > ROOM_KEPT) {
            return;
        }
        self.free.push(frame);
        if self.free.len() >= TOGETHER {
            // One that has come to its end needs none.
            let _ = self.given_back.send(std::mem::take(&mut self.free));
        }
    }
}

/// Reads frames until there are no more, or nobody wants them.
fn read(mut frames: Frames, out: &SyncSender<Piece>, free: &Receiver<Vec<Box<FrameInfo>>>) {
    let mut room = Vec::new();
    loop {
        if room.is_empty() {
            room = free.try_recv().unwrap_or_default();
        }
        let piece = read_piece(&mut frames, &mut room);
        let is_last = matches!(piece.then, Then::Failed(_) | Then::End);
        if out.send(piece).is_err() || is_last {
            return;
        }
    }
}

fn read_piece(frames: &mut Frames, room: &mut Vec<Box<FrameInfo>>) -> Piece {
    let (mut read, mut bytes, mut then) = (Vec::with_capacity(TOGETHER), 0, Then::More);
    while read.len() < TOGETHER && bytes < TOGETHER_BYTES {
        let mut frame = room.pop().unwrap_or_default();
        match frames.next_into(&mut frame) {
            Some(Ok(None)) => {
                bytes += frame.frame_bytes;
                read.push(frame);
                continue;
            }
            Some(Ok(Some(damage))) => then = Then::Damage(damage),
            Some(Err(error)) => then = Then::Failed(error),
            None => then = Then::End,
        }
        break;
    }
    Piece { frames: read.into_iter(), then }
}
