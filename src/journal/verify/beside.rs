//! What lies beside the log: other names, and the lock page.

use crate::disk::{Access, Directory, Name, read_whole};
use crate::error::Error;
use crate::format::header::{FileHeader, FileType};
use crate::format::lock::{self as lock_format, HOLDER_AT, Holder, PAGE_BYTES as LOCK_BYTES};
use crate::id::StoreId;
use crate::journal::finding::{Finding, Severity};
use crate::journal::identity::type_of;
use crate::journal::reserve::FILE_NAME as RESERVE;

/// What is no part of a store, and what only looks like one.
pub(super) fn look_at_names(names: &[Name], findings: &mut Vec<Finding>) {
    for Name { name, is_file } in names {
        let is_ours = type_of(name).is_some() || name == RESERVE;
        if is_ours && !is_file {
            let what = "a link, pipe, device or directory under the name of a store's file";
            findings.push(Finding::new(Severity::Damage, name, what));
        } else if !is_ours {
            let what = if name.ends_with(".tmp") { "left by a crash" } else { "no part of the store" };
            findings.push(Finding::new(Severity::Note, name, what));
        }
    }
}

/// The lock page holds hints, and nothing that is needed.
pub(super) fn look_at_lock(directory: &dyn Directory, store: StoreId, findings: &mut Vec<Finding>) {
    let name = lock_format::FILE_NAME;
    let read = directory.open(name, Access::Read).and_then(|file| {
        let page = read_whole(&*file, LOCK_BYTES)?;
        Ok((page, file.identity()?))
    });
    let (page, identity) = match read {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.push(Finding::new(Severity::Note, name, "not there; the next opening makes one"));
            return;
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            findings.push(Finding::new(Severity::Derived, name, error.to_string()).at(0));
            return;
        }
        Err(error) => {
            let error = Error::io("read the lock page", error);
            findings.push(Finding::of_error(Severity::Derived, name, &error));
            return;
        }
    };
    if page.len() != LOCK_BYTES {
        let finding = Finding::new(Severity::Derived, name, "the page's length").at(page.len() as u64);
        findings.push(finding.sides(LOCK_BYTES, page.len()));
    }
    match FileHeader::read_of(&page, FileType::Lock, store) {
        Err(error) => findings.push(Finding::of_error(Severity::Derived, name, &error)),
        Ok(header) if (header.word(0), header.word(1)) != identity => {
            let what = "this directory was copied, which is fine: the file says who held the original, and the next \
                        opening writes it anew";
            findings.push(Finding::new(Severity::Note, name, what));
        }
        Ok(_) => {}
    }
    let somebody = page.get(HOLDER_AT..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
    if somebody && Holder::read(&page).is_none() {
        findings.push(Finding::new(Severity::Derived, name, "the holder's checksum").at(HOLDER_AT as u64));
    }
}
