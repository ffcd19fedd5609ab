//! Where the files of a store stand on its disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::blocks::device::Device;
use crate::blocks::disk::SECTOR;

pub(crate) const PAGE: usize = 4096;

/// A sector of a file of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sector {
    pub(crate) file: String,
    /// Where in the file it begins.
    pub(crate) offset: usize,
    /// Which of the disk's it is.
    pub(crate) on_disk: usize,
}

impl Sector {
    /// Where the page begins that the kernel reads or writes as a whole.
    pub(crate) const fn page(&self) -> usize {
        self.offset / PAGE * PAGE
    }
}

/// All sectors that the files of the mounted store have on the disk. What was never written has none, nor has what the file
/// system keeps among its own records.
pub(crate) fn sectors(device: &Device) -> std::io::Result<BTreeSet<Sector>> {
    let mut sectors = BTreeSet::new();
    let mut memory = vec![0; 2 * PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    let buffer = &mut memory[start..start + PAGE];
    for entry in std::fs::read_dir(device.place().store())? {
        let path = entry?.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".tmp") {
            // What a crash left half made nobody reads.
            continue;
        }
        // Past the cache: so the disk is asked each time, and the second time for nothing else.
        let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap();
        for page in (0..length).step_by(PAGE) {
            file.read_at(buffer, page as u64)?;
            device.disk().reads = Some(Vec::new());
            file.read_at(buffer, page as u64)?;
            let reads = device.disk().reads.take().unwrap();
            let &[(at, bytes)] = &reads[..] else { continue };
            let within = bytes.min(PAGE).min((length - page).next_multiple_of(SECTOR));
            for offset in (0..within).step_by(SECTOR) {
                sectors.insert(Sector {
                    file: name.clone(),
                    offset: page + offset,
                    on_disk: (at + offset) / SECTOR,
                });
            }
        }
    }
    Ok(sectors)
}
