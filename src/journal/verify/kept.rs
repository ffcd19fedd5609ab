//! What compaction kept: parts, their indexes, and what it left behind.

use std::collections::BTreeSet;

use crate::disk::{Directory, Name};
use crate::error::Result;
use crate::format::compacted::{Compacted, Cover};
use crate::format::frame::Frame;
use crate::format::index::{self as index_format, EntityHash};
use crate::format::segment::{file_name, part_number_of};
use crate::id::{EntryAt, KindId, Position, StoreId};
use crate::index::EntityHasher;
use crate::index::part::read_part;
use crate::journal::finding::{Finding, Severity};
use crate::journal::verify::Checking;
use crate::journal::verify::index_file::IndexFile;
use crate::log::chain::Chain;
use crate::log::part::open_part_file;
use crate::log::report::Damage;
use crate::log::salvage::{Salvaged, salvage_part};

/// The part that is being read.
pub(super) struct InPart {
    cover: Cover,
    ordinal: u32,
}

/// What is known of compacted stretches while a log is read.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) compacted: Compacted,
    pub(super) here: Option<InPart>,
    /// The segment that was read last.
    last_segment: u32,
    /// What the log said of its cursors may have been dropped before the segment that is read.
    pub(super) is_behind_a_cover: bool,
    /// Kinds that entries in parts are of: their registration comes later in the log.
    kinds: BTreeSet<u16>,
}

impl Kept {
    pub(super) fn of(compacted: Compacted) -> Self {
        Self { compacted, ..Self::default() }
    }

    /// The frames that follow stand in this segment, or part.
    pub(super) fn enter(&mut self, number: u32) {
        let cover = self.compacted.parts().find(|(_, part)| part.number == number);
        self.here = cover.map(|(cover, _)| InPart { cover: *cover, ordinal: 0 });
        if self.here.is_none() {
            let is_between = |cover: &Cover| self.last_segment < cover.first && cover.last < number;
            self.is_behind_a_cover = self.compacted.covers.iter().any(is_between);
            self.last_segment = number;
        }
    }

    /// Entries of this kind may be missing before one that is there.
    pub(super) fn may_miss(&self, kind: u16) -> bool {
        self.compacted.floor(kind) > 0
    }

    /// So may entries of some kind.
    pub(super) fn may_miss_any(&self) -> bool {
        self.compacted.floor_of_all() > 0
    }
}

impl Checking<'_> {
    /// An entry in a part: it has its numbers, and gaps before it.
    pub(super) fn kept_frame(
        &mut self,
        entity: EntityHash,
        position: Position,
        frame: &Frame<'_>,
        found_before: usize,
    ) {
        let header = frame.header;
        let kind = header.kind.get();
        self.counts.entries += 1;
        self.counts.first_seq.get_or_insert(header.seq.get());
        self.kept.kinds.insert(kind);
        self.state_frame(position, frame);
        if self.findings.len() > found_before {
            self.judge_arrivals_before(found_before);
        }
        let Some(here) = self.kept.here.as_mut() else { return };
        let newest = EntryAt::new(here.cover.last, here.ordinal);
        here.ordinal += 1;
        self.arrive_at(entity, position, frame, newest, false);
    }

    /// Entries are lost: so many of those numbers, where compaction had dropped the rest.
    pub(super) fn note_lost(&mut self, damage: &Damage, entries: u64) {
        // Those before it have no hole before them.
        self.judge_arrivals();
        let severity = if damage.unreadable { Severity::Unread } else { Severity::Damage };
        let lost = damage.first_seq..=damage.last_seq;
        let numbers = (damage.last_seq + 1).saturating_sub(damage.first_seq);
        self.counts.lost += entries;
        let finding = Finding::new(severity, file_name(damage.segment), &*damage.what).at(damage.offset);
        let finding = Finding {
            segment: Some(damage.segment),
            lost: (!lost.is_empty()).then_some(lost),
            lost_entries: (entries < numbers).then_some(entries),
            next_good: damage.next_good,
            ..finding
        };
        // Of a header whoever looked at headers has told: the walk knows what was lost with it.
        let is_same = |told: &&mut Finding| {
            let is_of_header = told.offset == Some(0) && told.lost.is_none() && told.next_good.is_none();
            is_of_header && (&told.file, told.severity) == (&finding.file, finding.severity)
        };
        let told = if damage.offset == 0 { self.findings.iter_mut().find(is_same) } else { None };
        match told {
            Some(told) => *told = finding,
            None => self.findings.push(finding),
        }
        self.holes = true;
    }

    /// By the end of the log every kind was registered.
    pub(super) fn finish_kept(&mut self) {
        let unknown = |kind: &&u16| self.registry.get(KindId(**kind)).is_none();
        let unknown: Vec<u16> = self.kept.kinds.iter().filter(unknown).copied().collect();
        for kind in unknown.into_iter().filter(|_| !self.holes) {
            let finding = Finding::new(Severity::Damage, "MANIFEST", "the kind of entries that were kept");
            self.findings.push(finding.sides("a kind that is registered", format!("kind {kind}")));
        }
    }
}

/// Parts by their headers, for a quick look.
pub(super) fn look_at_part_headers(
    directory: &dyn Directory,
    store: StoreId,
    compacted: &Compacted,
    findings: &mut Vec<Finding>,
) {
    for (cover, part) in compacted.parts() {
        let name = file_name(part.number);
        match open_part_file(directory, store, part.number) {
            Ok((_, found, _)) if found == *cover => {}
            Ok((_, found, _)) => {
                let finding = Finding::new(Severity::Damage, name, "not the part that the manifest means");
                findings.push(finding.sides(format!("{cover:?}"), format!("{found:?}")));
            }
            Err(error) => findings.push(Finding::of_error(Severity::Damage, name, &error)),
        }
    }
}

/// The index of each part says what the part says.
pub(super) fn look_at_part_indexes(
    directory: &dyn Directory,
    store: StoreId,
    compacted: &Compacted,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let hasher = EntityHasher::new(store);
    for (cover, part) in compacted.parts() {
        let name = index_format::file_name(part.number);
        let index = match IndexFile::read_with(directory, store, part.number, Some(part.salt)) {
            IndexFile::None => continue,
            IndexFile::Bad(error, _) => {
                findings.push(Finding::of_error(Severity::Derived, name, &error));
                continue;
            }
            IndexFile::Good(_, bytes) => bytes,
        };
        // One that is damaged was reported when its frames were read.
        let Ok(Salvaged { segment, bytes, .. }) = salvage_part(directory, store, cover, part) else {
            continue;
        };
        let (mut expected, damage) = read_part(&hasher, &segment, &bytes, cover);
        drop(bytes);
        let differs = index.differs_from(&mut expected, store).filter(|_| damage.is_none());
        if let Some(differs) = differs {
            let what = "it does not say what its part says";
            findings.push(Finding::new(Severity::Derived, name, what).at(differs));
        }
    }
    Ok(())
}

/// Files that a compaction replaced, or had not come to use.
pub(super) fn look_at_what_is_left(
    chain: &Chain,
    compacted: &Compacted,
    names: &[Name],
    findings: &mut Vec<Finding>,
) {
    for number in &chain.left {
        let what = "replaced by a compaction, and removed by the next opening that writes";
        findings.push(Finding::new(Severity::Note, file_name(*number), what));
    }
    for name in names {
        let number = part_number_of(&name.name).or_else(|| index_format::part_number_of(&name.name));
        let is_known = |number| compacted.parts().any(|(_, part)| part.number == number);
        if number.is_some_and(|number| !is_known(number)) {
            let what = "of a part that is not in use, and removed by the next opening that writes";
            findings.push(Finding::new(Severity::Note, &name.name, what));
        }
    }
}
