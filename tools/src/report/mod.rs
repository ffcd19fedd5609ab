//! A store as one page: seven pictures, the numbers below each, and what to do next.
//!
//! The page is the same for the same store, byte for byte: it knows nothing of the time or the machine it was made
//! on. It has no script and asks for nothing.

mod checked;
mod counted;
mod heat;
mod lag;
mod model;
mod page;
mod plane;
mod rate;
mod ruler;
mod segments;
mod svg;

use anyhow::Result;
use esker::Check;

use crate::progress::Shown;
use crate::store::Opened;

/// A page, and what it comes to.
pub(crate) struct Report {
    pub(crate) page: String,
    pub(crate) entries: u64,
    pub(crate) findings: u64,
}

/// Measures a store and draws it, and shows how far that is.
pub(crate) fn report(opened: &Opened, check: Check, shown: &Shown<'_>) -> Result<Report> {
    let model = model::Model::of(opened, check, shown)?;
    Ok(Report { page: page::page(&model), entries: model.entries, findings: page::findings(&model) })
}
