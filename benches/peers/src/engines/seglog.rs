//! seglog: segment files of records behind a buffer in the process.
//!
//! Configuration: segments of 256 MiB (allocated when created), the 12-byte key in seglog's fixed record
//! header, `commit` (marker and `fdatasync`) for durability. A plain append goes to a buffer of this
//! process, so it costs little, and a killed process loses it; so do records that no commit marker
//! follows. seglog has no index: this adapter keeps the offset of every record, as an application has to
//! that wants to read by place, and rebuilds it at open by reading everything.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use seglog::read::{ReadHint, Reader};
use seglog::write::{WriteError, Writer};

use crate::engine::{Durability, Engine, Outcome, Setup, not_offered};
use crate::workload::{Event, KEY_BYTES, Key};
use crate::works::Work;

const SEGMENT_BYTES: usize = 256 << 20;
/// Room for the commit marker that ends a segment.
const MARKER_BYTES: u64 = 64;

pub struct Seglog {
    log: Mutex<Log>,
    durability: Durability,
    readers: Vec<Reader<KEY_BYTES>>,
}

struct Log {
    dir: PathBuf,
    writer: Writer<KEY_BYTES>,
    segments: u32,
    /// Segment number and offset of every record.
    places: Vec<(u32, u32)>,
}

fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}.seglog"))
}

impl Log {
    fn append(&mut self, event: &Event<'_>) -> Outcome {
        if self.writer.remaining_bytes() < (8 + KEY_BYTES + event.payload.len()) as u64 + MARKER_BYTES {
            self.roll()?;
        }
        let (offset, _) = self.writer.append(&event.key, event.payload)?;
        self.places.push((self.segments - 1, offset as u32));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), WriteError> {
        self.writer.commit(self.places.len() as u64).map(|_| ())
    }

    fn roll(&mut self) -> Outcome {
        self.commit()?;
        self.writer = Writer::create(segment_path(&self.dir, self.segments), SEGMENT_BYTES, 0)?;
        self.segments += 1;
        Ok(())
    }
}

impl Seglog {
    fn append_to(log: &mut Log, durability: Durability, event: &Event<'_>) -> Outcome {
        log.append(event)?;
        if durability == Durability::Each {
            log.commit()?;
        }
        Ok(())
    }
}

impl Engine for Seglog {
    const CRATE: &'static str = "seglog";

    fn offers(work: Work) -> bool {
        work != Work::EntityHistory
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let mut places = Vec::new();
        let mut segments = 0;
        let mut last = None;
        while segment_path(&setup.dir, segments).exists() {
            let path = segment_path(&setup.dir, segments);
            let writer = Writer::<KEY_BYTES>::open(&path, SEGMENT_BYTES, 0)?;
            let mut reader = Reader::<KEY_BYTES>::open(&path, Some(writer.flushed_offset()))?;
            let mut records = reader.iter(0);
            while let Some(record) = records.next_record()? {
                places.push((segments, record.offset as u32));
            }
            last = Some(writer);
            segments += 1;
        }
        let writer = match last {
            Some(writer) => writer,
            None => {
                segments = 1;
                Writer::create(segment_path(&setup.dir, 0), SEGMENT_BYTES, 0)?
            }
        };
        let log = Log { dir: setup.dir.clone(), writer, segments, places };
        Ok(Self { log: Mutex::new(log), durability: setup.durability, readers: Vec::new() })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        Self::append_to(self.log.get_mut(), self.durability, event)
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        Self::append_to(&mut self.log.lock(), self.durability, event)
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let log = self.log.get_mut();
        for event in events {
            log.append(event)?;
        }
        match self.durability {
            Durability::Each => log.commit()?,
            Durability::None => log.writer.flush_writer()?,
        }
        Ok(())
    }

    fn sync(&mut self) -> Outcome {
        Ok(self.log.get_mut().commit()?)
    }

    fn start_reading(&mut self) -> Outcome {
        let log = self.log.get_mut();
        for number in 0..log.segments {
            let bound = (number + 1 == log.segments).then(|| log.writer.flushed_offset());
            self.readers.push(Reader::open_read_only(segment_path(&log.dir, number), bound)?);
        }
        Ok(())
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        if self.readers.is_empty() {
            self.start_reading()?;
        }
        for reader in &mut self.readers {
            let mut records = reader.iter(0);
            while let Some(record) = records.next_record()? {
                see(&record.data);
            }
        }
        Ok(())
    }

    fn history(&mut self, _entity: u32, _key: &Key, _see: impl FnMut(&[u8])) -> Outcome {
        not_offered()
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let (segment, offset) = self.log.get_mut().places[place as usize];
        let record = self.readers[segment as usize].read_record(u64::from(offset), ReadHint::Random)?;
        see(&record.data);
        Ok(())
    }

    fn close(self) -> Outcome {
        let mut log = self.log.into_inner();
        log.commit()?;
        Ok(log.writer.close()?)
    }
}
