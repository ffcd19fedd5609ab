//! The entries of a log and the damage between them, each entry with where its batch goes on.

use std::collections::VecDeque;

use esker::dump::{FrameInfo, Frames};
use esker::{Damage, Position};

use crate::exchange::ahead::{Ahead, Read};

/// What stands next.
#[derive(Debug)]
pub enum Next {
    /// An entry. `more` says whether the batch goes on with the next one of these entries.
    Entry(Box<FrameInfo>),
    /// A place where no frame validates.
    Damage(Damage),
    /// An entry whose content does not match its checksum.
    Content(Box<FrameInfo>),
}

/// The wanted ones of the entries among frames.
///
/// Other frames of a batch may stand between its entries (a cursor's), or not be wanted: what counts
/// is whether the next Seq is there, and of the same batch. The frames are read by a thread of its own, some ahead.
#[derive(Debug)]
pub struct Entries<F> {
    frames: Ahead,
    wanted: F,
    last: u64,
    held: Option<Box<FrameInfo>>,
    ready: VecDeque<Next>,
    skipped: Option<Position>,
    last_cut: Option<Position>,
    cut: u64,
    ended: bool,
}

impl<F: FnMut(&FrameInfo) -> bool> Entries<F> {
    /// Of these frames the wanted entries up to the Seq `last`.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread to read them.
    pub fn new(frames: Frames, last: u64, wanted: F) -> std::io::Result<Self> {
        let (frames, ready) = (Ahead::of(frames)?, VecDeque::new());
        let (held, skipped, last_cut) = (None, None, None);
        Ok(Self { frames, wanted, last, held, ready, skipped, last_cut, cut: 0, ended: false })
    }

    /// How many batches are not whole, because entries of them were not wanted or are damaged.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Takes the memory of an entry for a later one.
    pub fn take_back(&mut self, entry: Box<FrameInfo>) {
        self.frames.take_back(entry);
    }

    fn take(&mut self, item: Read) {
        match item {
            Read::Damage(damage) => {
                self.release(None);
                self.ready.push_back(Next::Damage(damage));
            }
            Read::Frame(frame) if frame.is_system() && frame.body_good => self.take_back(frame),
            // It is no entry, and ends no batch of such.
            Read::Frame(frame) if frame.is_system() => self.ready.push_back(Next::Content(frame)),
            Read::Frame(frame) if frame.seq > self.last => self.ended = true,
            // Whose it is nobody can say, nor whether it was wanted.
            Read::Frame(frame) if !frame.body_good => {
                self.release(None);
                self.skipped = frame.batch;
                self.ready.push_back(Next::Content(frame));
            }
            Read::Frame(frame) if !(self.wanted)(&frame) => {
                self.skipped = frame.batch;
                self.take_back(frame);
            }
            Read::Frame(frame) => {
                self.release(Some(&frame));
                if self.skipped.is_some() && self.skipped == frame.batch {
                    self.note_cut(frame.batch);
                }
                let goes_on = frame.more;
                self.held = Some(frame);
                // Of a batch that ends here nobody has to wait for what comes next, which may be large.
                if !goes_on {
                    self.release(None);
                }
            }
        }
    }

    /// What was held is complete, now that it is known what follows it.
    fn release(&mut self, next: Option<&FrameInfo>) {
        let Some(mut held) = self.held.take() else { return };
        let goes_on = held.more
            && next.is_some_and(|next| next.batch == held.batch && Some(next.seq) == held.seq.checked_add(1));
        if held.more && !goes_on {
            self.note_cut(held.batch);
        }
        held.more = goes_on;
        self.ready.push_back(Next::Entry(held));
    }

    fn note_cut(&mut self, batch: Option<Position>) {
        if self.last_cut != batch {
            self.last_cut = batch;
            self.cut += 1;
        }
    }
}

impl<F: FnMut(&FrameInfo) -> bool> Iterator for Entries<F> {
    type Item = esker::Result<Next>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.ended {
            match self.frames.next() {
                Some(Ok(item)) => self.take(item),
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => self.ended = true,
            }
        }
        if self.ready.is_empty() {
            self.release(None);
        }
        self.ready.pop_front().map(Ok)
    }
}
