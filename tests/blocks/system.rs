//! Two calls that the standard library does not have.

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap()
}

#[allow(unsafe_code, reason = "there is no safe way to mount")]
pub(crate) fn mount(source: &Path, target: &Path, file_system: &str, options: &str) -> Result<()> {
    let (source, target) = (c_string(source.as_os_str().as_bytes()), c_string(target.as_os_str().as_bytes()));
    let (file_system, options) = (c_string(file_system.as_bytes()), c_string(options.as_bytes()));
    let flags = libc::MS_NOATIME | libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all four are strings that end with a zero and live as long as the call.
    let status = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), file_system.as_ptr(), flags, options.as_ptr().cast())
    };
    if status == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

#[allow(unsafe_code, reason = "there is no safe way to unmount")]
pub(crate) fn unmount(target: &Path, is_lazy: bool) -> Result<()> {
    let target = c_string(target.as_os_str().as_bytes());
    // SAFETY: a string that ends with a zero and lives as long as the call.
    let status = unsafe { libc::umount2(target.as_ptr(), if is_lazy { libc::MNT_DETACH } else { 0 }) };
    if status == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
