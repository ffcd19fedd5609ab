//! Two calls that the standard library does not have.

use std::ffi::CString;
use std::io::Result;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

pub(crate) fn mount(source: &Path, target: &Path, file_system: &str, options: &str) -> Result<()> {
    let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV;
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(source, target, file_system, flags, options.as_c_str())?)
}

pub(crate) fn unmount(target: &Path, is_lazy: bool) -> Result<()> {
    let flags = if is_lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    Ok(rustix::mount::unmount(target, flags)?)
}
