//! A disk in memory that remembers what was written to it and when it was told to flush.

use std::collections::HashMap;
use std::fmt;

use rustix::io::Errno;

use super::fault::Fault;

/// What a disk writes as a whole or not at all.
pub(crate) const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// What came to the disk, in the order in which it came.
#[derive(Debug)]
pub(crate) enum Event {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    /// All that was written before is durable.
    Flush,
    /// Something that happened outside: who says it has waited for the answer to all that it rests on.
    Mark(String),
}

/// Pages that differ from those below.
pub(crate) type Layer = HashMap<usize, Box<[u8]>>;

/// When the power of a disk goes.
pub(crate) struct Power {
    /// So many writes, flushes and marks come before; what comes behind them has never happened.
    pub(crate) left: usize,
    /// Called when it goes.
    pub(crate) told: Box<dyn Fn() + Send>,
}

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power for {} events", self.left)
    }
}

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) base: Vec<u8>,
    pub(crate) over: Layer,
    pub(crate) log: Vec<Event>,
    pub(crate) is_recorded: bool,
    pub(crate) fault: Option<Fault>,
    /// Where it never goes there is none.
    pub(crate) power: Option<Power>,
    /// Where it was read, and how much, if somebody wants to know.
    pub(crate) reads: Option<Vec<(usize, usize)>>,
}

impl Disk {
    pub(crate) fn new(base: Vec<u8>) -> Self {
        let (over, log) = (Layer::new(), Vec::new());
        Self { base, over, log, is_recorded: true, fault: None, power: None, reads: None }
    }

    pub(crate) fn read(&self, at: usize, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let (page, offset) = ((at + done) / PAGE, (at + done) % PAGE);
            let length = (PAGE - offset).min(out.len() - done);
            let from = match self.over.get(&page) {
                Some(bytes) => &bytes[offset..offset + length],
                None => &self.base[at + done..at + done + length],
            };
            out[done..done + length].copy_from_slice(from);
            done += length;
        }
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        if !self.happens() {
            return;
        }
        put(&mut self.over, &self.base, at, bytes);
        if self.is_recorded {
            self.log.push(Event::Write { at, bytes: bytes.to_vec() });
        }
    }

    /// A request to read, which may fail.
    pub(crate) fn asked(&mut self, at: usize, out: &mut [u8]) -> Result<(), Errno> {
        if let Some(reads) = &mut self.reads {
            reads.push((at, out.len()));
        }
        match self.fault.as_mut().and_then(|fault| fault.meets(false, at, out.len())) {
            Some((error, _)) => Err(error),
            None => {
                self.read(at, out);
                Ok(())
            }
        }
    }

    /// A request to write, which may fail: then what comes before the sector that fails is there, and the rest is not.
    pub(crate) fn told(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        let Some((error, written)) = self.fault.as_mut().and_then(|fault| fault.meets(true, at, bytes.len()))
        else {
            self.write(at, bytes);
            return Ok(());
        };
        if written > 0 {
            self.write(at, &bytes[..written]);
        }
        Err(error)
    }

    pub(crate) fn flush(&mut self) {
        if self.happens() && self.is_recorded {
            self.log.push(Event::Flush);
        }
    }

    pub(crate) fn mark(&mut self, line: &str) {
        if self.happens() && self.is_recorded {
            self.log.push(Event::Mark(line.trim_end().to_owned()));
        }
    }

    /// Whether the disk has power for what comes now; whoever it is the last for takes it away.
    fn happens(&mut self) -> bool {
        let Some(power) = &mut self.power else { return true };
        if power.left == 0 {
            return false;
        }
        power.left -= 1;
        if power.left == 0 {
            (power.told)();
        }
        true
    }

    /// From here on what is there now is what was there always.
    pub(crate) fn settle(&mut self) {
        for (page, bytes) in self.over.drain() {
            self.base[page * PAGE..page * PAGE + bytes.len()].copy_from_slice(&bytes);
        }
        self.log.clear();
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.base.len()];
        self.read(0, &mut image);
        image
    }
}

/// Writes into a layer above a base.
pub(crate) fn put(layer: &mut Layer, base: &[u8], at: usize, bytes: &[u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let (page, offset) = ((at + done) / PAGE, (at + done) % PAGE);
        let length = (PAGE - offset).min(bytes.len() - done);
        let first = page * PAGE;
        let into = layer
            .entry(page)
            .or_insert_with(|| base[first..(first + PAGE).min(base.len())].to_vec().into_boxed_slice());
        into[offset..offset + length].copy_from_slice(&bytes[done..done + length]);
        done += length;
    }
}
