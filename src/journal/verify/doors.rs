//! Ways to ask for a verification.

use std::path::Path;

use crate::disk::Directory;
use crate::error::{Error, Result};
use crate::journal::finding::{Check, Verdict, Verification};
use crate::journal::identity::{existing, identify};
use crate::journal::onlooker::{Meter, Onlooker};
use crate::journal::opening::read_manifest;
use crate::journal::verify::histories::ROOM;
use crate::journal::verify::{DOING, Recover, in_pieces, look};

/// Verifies the store in a directory, also while another process writes it. A large log is read by a thread that ends with
/// this call; up to four of its pieces of 1 MiB are in memory, or one that is as large as the largest batch, or two, with a list of
/// 16 bytes for each entry in it. [`Check`] says what else that takes.
///
/// # Errors
///
/// `NotFound`, `NotADirectory`, `NotAStore`, `FormatTooNew`, `PermissionDenied` and `Io` where
/// the directory itself cannot be read. Damage is not an error: it is what is looked for.
pub fn verify(path: impl AsRef<Path>, check: Check) -> Result<Verification> {
    verify_while(path, check, || true)
}

/// As [`verify`], for as long as it is to go on: it asks the [onlooker](Onlooker) that before each frame, and tells how far it
/// is.
///
/// # Errors
///
/// As [`verify`]; `Io`, with an interruption as its source, once it is not to go on.
pub fn verify_while(path: impl AsRef<Path>, check: Check, onlooker: impl Onlooker) -> Result<Verification> {
    let directory = existing(path.as_ref(), DOING)?;
    examine_while(&*directory, check, &onlooker, ROOM, &mut in_pieces(&*directory, check))
}

/// Verifies the store on a simulated disk.
///
/// # Errors
///
/// As [`verify`].
#[cfg(feature = "simulator")]
pub fn verify_in(disk: &crate::disk::simulator::Simulator, check: Check) -> Result<Verification> {
    examine(&*disk.directory(), check)
}

pub(crate) fn examine(directory: &dyn Directory, check: Check) -> Result<Verification> {
    examine_while(directory, check, &|| true, ROOM, &mut in_pieces(directory, check))
}

/// Beside a live writer that compacts, files go that were to be looked at: look again so often.
const LOOKS: usize = 5;

/// As [`examine`], with an onlooker, room for so many entities, and the log shown by whoever is given.
pub(super) fn examine_while(
    directory: &dyn Directory,
    check: Check,
    onlooker: &dyn Onlooker,
    room: usize,
    recover: &mut impl Recover,
) -> Result<Verification> {
    let compacted = || read_manifest(directory).ok().flatten().map(|now| now.compacted);
    let mut looks = 0;
    loop {
        looks += 1;
        let before = compacted();
        let meter = Meter::of(onlooker);
        let names = directory.list().map_err(|e| Error::io("list the store", e).at(directory.path()))?;
        let found = look(directory, &names, identify(directory, &names)?, check, &meter, room, recover);
        let is_well = found.as_ref().is_ok_and(|found| found.verdict == Verdict::Valid);
        if is_well || looks == LOOKS || compacted() == before {
            meter.end();
            return found;
        }
    }
}
