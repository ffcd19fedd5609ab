//! The directory of a store: whose it is, and who may write to it.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Refuses a directory in which somebody else may replace what is there.
pub(crate) fn refuse_shared(path: &Path, directory: &std::fs::Metadata) -> Result<()> {
    let (mode, owner, we) = (directory.mode() & 0o7777, directory.uid(), rustix::process::geteuid().as_raw());
    if mode & 0o022 == 0 && owner == we {
        return Ok(());
    }
    Err(Error::new(ErrorKind::PermissionDenied, "open the store: others may write to its directory")
        .at(path)
        .sides(
            format!("owner {we}, and no right to write for group and others (chmod go-w)"),
            format!("owner {owner}, mode {mode:04o}"),
        ))
}

/// Makes it, for its owner alone.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)
}
