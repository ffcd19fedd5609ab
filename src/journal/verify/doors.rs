//! Ways to ask for a verification.

use std::path::Path;

use crate::disk::Directory;
use crate::error::{Error, Result};
use crate::journal::finding::{Check, Verification};
use crate::journal::identity::{existing, identify};
use crate::journal::onlooker::{Meter, Onlooker};
use crate::journal::verify::{DOING, examine_as};

/// Verifies the store in a directory, also while another process writes it.
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
    let names = directory.list().map_err(|e| Error::io("list the store", e).at(directory.path()))?;
    let identity = identify(&*directory, &names)?;
    let meter = Meter::of(&onlooker);
    let found = examine_as(&*directory, &names, identity, check, &meter)?;
    meter.end();
    Ok(found)
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
    let names = directory.list().map_err(|e| Error::io("list the store", e).at(directory.path()))?;
    let identity = identify(directory, &names)?;
    examine_as(directory, &names, identity, check, &Meter::of(&|| true))
}
