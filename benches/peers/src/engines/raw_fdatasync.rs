//! The hardware: 160 bytes stored into a mapped file, then `fdatasync`. No engine at all.
//!
//! The file is filled with zeros by writes of 4 KiB, because the page cache keeps what one write brought
//! in one piece, and each sync writes the whole piece.

use std::fs::File;
use std::io::Write;

use memmap2::MmapRaw;

use crate::engine::{Engine, Outcome, Setup, not_offered};
use crate::workload::{Event, Key};
use crate::works::Work;

const FILE_BYTES: usize = 4 << 20;
const STORE_BYTES: usize = 160;

pub struct RawFdatasync {
    file: File,
    map: MmapRaw,
    end: usize,
}

impl Engine for RawFdatasync {
    const CRATE: &'static str = "memmap2";

    fn offers(work: Work) -> bool {
        work == Work::DurableAppend
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(setup.dir.join("zeros"))?;
        for _ in 0..FILE_BYTES / 4096 {
            file.write_all(&[0; 4096])?;
        }
        file.sync_all()?;
        Ok(Self { map: MmapRaw::map_raw(&file)?, file, end: 0 })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        let mut bytes = [0; STORE_BYTES];
        bytes[..event.payload.len()].copy_from_slice(event.payload);
        if self.end + STORE_BYTES > FILE_BYTES {
            self.end = 0;
        }
        // SAFETY: the range lies in the map, whose file nobody else has, and no reference to it exists.
        unsafe { self.map.as_mut_ptr().add(self.end).copy_from_nonoverlapping(bytes.as_ptr(), STORE_BYTES) };
        self.end += STORE_BYTES;
        Ok(self.file.sync_data()?)
    }

    fn append_shared(&self, _event: &Event<'_>) -> Outcome {
        not_offered()
    }

    fn append_batch(&mut self, _events: &[Event<'_>]) -> Outcome {
        not_offered()
    }

    fn sync(&mut self) -> Outcome {
        Ok(self.file.sync_data()?)
    }

    fn scan(&mut self, _see: impl FnMut(&[u8])) -> Outcome {
        not_offered()
    }

    fn history(&mut self, _entity: u32, _key: &Key, _see: impl FnMut(&[u8])) -> Outcome {
        not_offered()
    }

    fn get(&mut self, _place: u64, _see: impl FnMut(&[u8])) -> Outcome {
        not_offered()
    }

    fn close(self) -> Outcome {
        Ok(())
    }
}
