//! crossbeam-channel: one bounded channel a reader.
//!
//! Configuration: 8,192 entries each. The payload is copied into one `Arc<[u8]>` an event, and each
//! channel gets a clone of the pointer: copying the bytes for every reader is slower from eight on. A
//! full channel makes the publisher wait, so that nothing is lost.

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::engine::Outcome;
use crate::feed::{Feed, QUEUE_ENTRIES, Reader, Told, Waiting};
use crate::workload::Event;
use crate::works::Work;

pub struct Crossbeam(Vec<Sender<Arc<[u8]>>>);

pub struct CrossbeamReader {
    receiver: Receiver<Arc<[u8]>>,
    waiting: Waiting,
}

impl Feed for Crossbeam {
    const CRATE: &'static str = "crossbeam-channel";

    type Reader = CrossbeamReader;

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(_dir: &Path, readers: usize, waiting: Waiting) -> Outcome<(Self, Vec<CrossbeamReader>)> {
        let channels = (0..readers).map(|_| crossbeam_channel::bounded(QUEUE_ENTRIES));
        let (senders, receivers): (Vec<_>, Vec<_>) = channels.unzip();
        let reader = |receiver| CrossbeamReader { receiver, waiting };
        Ok((Self(senders), receivers.into_iter().map(reader).collect()))
    }

    fn publish(&mut self, event: &Event<'_>) -> Outcome {
        let payload: Arc<[u8]> = event.payload.into();
        let Some((last, others)) = self.0.split_last() else { return Ok(()) };
        for sender in others {
            sender.send(Arc::clone(&payload))?;
        }
        Ok(last.send(payload)?)
    }

    fn close(self) -> Outcome {
        Ok(())
    }
}

impl Reader for CrossbeamReader {
    fn next(&mut self, mut see: impl FnMut(&[u8])) -> Outcome<Told> {
        let received = match self.waiting {
            Waiting::Parks => self.receiver.recv().ok(),
            Waiting::Spins => self.spin(),
        };
        Ok(received.map_or(Told::Ended, |payload| {
            see(&payload);
            Told::Entries
        }))
    }
}

impl CrossbeamReader {
    fn spin(&self) -> Option<Arc<[u8]>> {
        loop {
            match self.receiver.try_recv() {
                Ok(payload) => return Some(payload),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
            }
        }
    }
}
