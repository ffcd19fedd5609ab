//! `tokio::sync::broadcast`: one ring for all readers, in which the newest overwrites the oldest.
//!
//! Configuration: 8,192 entries; the payload is copied into one `Arc<[u8]>` an event. Readers are threads
//! without a runtime, in `blocking_recv`. Nothing holds the publisher up: who is too slow is told how many
//! it lost.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::engine::Outcome;
use crate::feed::{Feed, QUEUE_ENTRIES, Reader, Told, Waiting};
use crate::workload::Event;
use crate::works::Work;

pub struct TokioBroadcast(Sender<Arc<[u8]>>);

pub struct TokioReader {
    receiver: Receiver<Arc<[u8]>>,
    waiting: Waiting,
}

impl Feed for TokioBroadcast {
    const CRATE: &'static str = "tokio";
    const LOSES: bool = true;

    type Reader = TokioReader;

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(_dir: &Path, readers: usize, waiting: Waiting) -> Outcome<(Self, Vec<TokioReader>)> {
        let (sender, _) = channel(QUEUE_ENTRIES);
        let readers = (0..readers).map(|_| TokioReader { receiver: sender.subscribe(), waiting }).collect();
        Ok((Self(sender), readers))
    }

    fn publish(&mut self, event: &Event<'_>) -> Outcome {
        // It fails only with nobody there: whoever has seen enough has left.
        let _how_many = self.0.send(event.payload.into());
        Ok(())
    }

    fn close(self) -> Outcome {
        Ok(())
    }
}

impl Reader for TokioReader {
    fn next(&mut self, mut see: impl FnMut(&[u8])) -> Outcome<Told> {
        let received = match self.waiting {
            Waiting::Parks => self.receiver.blocking_recv(),
            Waiting::Spins => self.spin(),
        };
        Ok(match received {
            Ok(payload) => {
                see(&payload);
                Told::Entries
            }
            Err(RecvError::Lagged(count)) => Told::Lost(count),
            Err(RecvError::Closed) => Told::Ended,
        })
    }
}

impl TokioReader {
    fn spin(&mut self) -> Result<Arc<[u8]>, RecvError> {
        loop {
            match self.receiver.try_recv() {
                Ok(payload) => return Ok(payload),
                Err(TryRecvError::Lagged(count)) => return Err(RecvError::Lagged(count)),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
            }
        }
    }
}
