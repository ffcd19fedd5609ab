//! What cursors have not seen, counted for all of them together: a walk over the log for each would cost as many walks.
//!
//! Cursors over the same entries, or over key prefixes of one kind, share a walk, which begins behind the one that is furthest
//! back. What it meets counts for each that had not come so far.

use crate::error::{Error, Result};
use crate::format::cursor::CursorState;
use crate::id::Seq;
use crate::journal::cursors::region_of;
use crate::journal::entry::Entry;
use crate::journal::region::Region;
use crate::journal::scan::Scan;
use crate::journal::view::View;

/// What a cursor has not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    pub(super) entries: u64,
    pub(super) damaged: u64,
    /// The first one, and when it was appended.
    pub(super) first: Option<(Seq, i64)>,
}

/// What each of these cursors has not seen of a view.
pub(super) fn of_all(cursors: &[CursorState], view: &View) -> Result<Vec<Unseen>> {
    let walk = |region: &Region, from| Scan::new(region.clone(), view.clone(), from);
    let newest = view.last_seq().ok().map(|newest| newest.map_or(0, Seq::get));
    // Behind the newest that can be read may be what is missing, and only a walk tells that.
    count(cursors, newest.filter(|newest| view.check_end(*newest).is_ok()), walk)
}

/// The same, with walks over a region behind a Seq that are given. `newest`: where there is nothing more to see, if that is known.
fn count(
    cursors: &[CursorState],
    newest: Option<u64>,
    walk: impl Fn(&Region, u64) -> Scan,
) -> Result<Vec<Unseen>> {
    let mut found = vec![Unseen::default(); cursors.len()];
    let mut shared: Vec<(Region, Vec<Tally>)> = Vec::new();
    for (at, cursor) in cursors.iter().enumerate() {
        if newest.is_none_or(|newest| cursor.seq < newest) {
            join(&mut shared, region_of(cursor), (cursor.seq, at));
        }
    }
    for (region, mut tallies) in shared {
        tallies.iter_mut().for_each(Tally::begin);
        let from = tallies.iter().filter_map(Tally::from).min().unwrap_or(0);
        over(walk(&region, from), &mut tallies)?;
        for tally in tallies {
            tally.end(&mut found);
        }
    }
    Ok(found)
}

/// Puts a cursor with those whose walk it shares.
fn join(shared: &mut Vec<(Region, Vec<Tally>)>, region: Region, cursor: (u64, usize)) {
    let walked = match &region {
        Region::Prefix(kind, _) => Region::Kind(*kind),
        other => other.clone(),
    };
    let place = shared.iter().position(|(other, _)| *other == walked).unwrap_or_else(|| {
        shared.push((walked, Vec::new()));
        shared.len() - 1
    });
    let Some((_, tallies)) = shared.get_mut(place) else { return };
    match tallies.iter_mut().find(|tally| tally.region == region) {
        Some(tally) => tally.cursors.push(cursor),
        None => tallies.push(Tally { cursors: vec![cursor], ..Tally::of(region) }),
    }
}

/// Counts to the end of a walk. One damaged place may not hide where every cursor is.
fn over(mut scan: Scan, tallies: &mut [Tally]) -> Result<()> {
    loop {
        let looked = scan.looked();
        match scan.advance() {
            Ok(true) => {
                let Some(entry) = scan.entry() else { continue };
                let seq = entry.seq().get();
                let begun = tallies.iter_mut().filter(|tally| tally.from().is_some_and(|from| from < seq));
                begun.filter(|tally| tally.is_over(&entry)).for_each(|tally| tally.see(&entry));
            }
            Ok(false) => return Ok(()),
            Err(error) if error.is_corruption() && scan.pass_over(&error) => {
                tallies.iter_mut().for_each(|tally| tally.lose(&error, looked));
            }
            // What comes next is missing, and nobody knows how much that is.
            Err(error) if error.is_corruption() && scan.is_at_the_end() => {
                tallies.iter_mut().flat_map(|tally| &mut tally.damaged).for_each(|damaged| *damaged += 1);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// The cursors over one region.
#[derive(Debug)]
struct Tally {
    region: Region,
    /// Where each is, and the how manieth it is of all; the furthest back first.
    cursors: Vec<(u64, usize)>,
    /// So many of them have not seen what comes now.
    behind: usize,
    /// How many entries came while so many had not seen them, and one more.
    entries: Vec<u64>,
    firsts: Vec<Option<(Seq, i64)>>,
    damaged: Vec<u64>,
}

impl Tally {
    fn of(region: Region) -> Self {
        Self { region, cursors: vec![], behind: 0, entries: vec![], firsts: vec![], damaged: vec![] }
    }

    fn begin(&mut self) {
        self.cursors.sort_unstable();
        self.entries = vec![0; self.cursors.len()];
        self.firsts = vec![None; self.cursors.len()];
        self.damaged = vec![0; self.cursors.len()];
    }

    fn from(&self) -> Option<u64> {
        self.cursors.first().map(|(seq, _)| *seq)
    }

    /// True of an entry of its region, where that is smaller than what is walked over.
    fn is_over(&self, entry: &Entry<'_>) -> bool {
        match &self.region {
            Region::Prefix(_, prefix) => entry.key().starts_with(prefix),
            _ => true,
        }
    }

    fn see(&mut self, entry: &Entry<'_>) {
        let seq = entry.seq();
        while self.cursors.get(self.behind).is_some_and(|(at, _)| *at < seq.get()) {
            if let Some(first) = self.firsts.get_mut(self.behind) {
                *first = Some((seq, entry.time()));
            }
            self.behind += 1;
        }
        if let Some(count) = self.behind.checked_sub(1).and_then(|last| self.entries.get_mut(last)) {
            *count += 1;
        }
    }

    /// How many entries an error says are lost, of those behind a Seq: what was seen is no loss.
    fn lose(&mut self, error: &Error, looked: u64) {
        let Some(lost) = error.seqs() else { return };
        let before = looked.max(lost.start().saturating_sub(1));
        for ((at, _), damaged) in self.cursors.iter().zip(&mut self.damaged) {
            *damaged += lost.end().saturating_sub(before.max(*at));
        }
    }

    fn end(self, found: &mut [Unseen]) {
        let Self { cursors, entries, firsts, damaged, .. } = self;
        let mut sum = 0;
        // What one has not seen, those that are further back have not seen either.
        for ((((_, cursor), entries), first), damaged) in
            cursors.iter().zip(entries).zip(firsts).zip(damaged).rev()
        {
            sum += entries;
            if let Some(unseen) = found.get_mut(*cursor) {
                *unseen = Unseen { entries: sum, damaged, first };
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::format::cursor::Part;
    use crate::journal::record::Record;
    use crate::options::Options;

    fn cursor(part: Part, key: &[u8], seq: u64) -> CursorState {
        CursorState {
            name: format!("{part:?} {seq}"),
            revision: 1,
            seq,
            era: 1,
            hold: 0,
            time: 0,
            part,
            kind: if part == Part::All { 0 } else { 1 },
            key: key.into(),
            retired: false,
            lost: false,
        }
    }

    #[test]
    fn cursors_over_the_same_entries_share_a_walk_and_each_is_told_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Options::new().segment_bytes(4096).background(false).open(directory.path()).unwrap();
        let kinds = [journal.kind("note").unwrap(), journal.kind("doc").unwrap()];
        assert_eq!(kinds[0].0, 1);
        for n in 0..200_u64 {
            let key = [b'a' + u8::try_from(n % 3).unwrap(), b'0' + u8::try_from(n % 7).unwrap()];
            let kind = kinds[usize::from(n % 5 == 0)];
            journal.append(Record::new(kind, &key, &[0; 40])).unwrap();
        }
        let regions: [(Part, &[u8]); 7] = [
            (Part::All, b""),
            (Part::Kind, b""),
            (Part::Prefix, b"a"),
            (Part::Prefix, b"b"),
            (Part::Prefix, b"a1"),
            (Part::Entity, b"a1"),
            (Part::Entity, b"none"),
        ];
        let places = [150, 0, 199, 7, 7, 200, 90];
        let cursors: Vec<CursorState> =
            regions.iter().flat_map(|(part, key)| places.map(|seq| cursor(*part, key, seq))).collect();
        let view = journal.core().view();
        let walks = RefCell::new(Vec::new());
        let walk = |region: &Region, from| {
            walks.borrow_mut().push((region.clone(), from));
            Scan::new(region.clone(), view.clone(), from)
        };
        let together = count(&cursors, Some(200), walk).unwrap();
        let walks = walks.into_inner();
        assert_eq!(walks.len(), 4, "one over all, one over the kind, and one for each entity: {walks:?}");
        assert!(walks.iter().all(|(_, from)| *from == 0), "from the furthest back: {walks:?}");
        for (cursor, unseen) in cursors.iter().zip(&together) {
            let mut alone = Unseen::default();
            let mut scan = Scan::new(region_of(cursor), view.clone(), cursor.seq);
            while scan.advance().unwrap() {
                let entry = scan.entry().unwrap();
                alone.first = alone.first.or(Some((entry.seq(), entry.time())));
                alone.entries += 1;
            }
            assert_eq!(*unseen, alone, "{}: {:?}", cursor.name, cursor.key);
        }
        journal.close().unwrap();
    }

    /// A damaged end of a log is behind every cursor, also behind one that has seen all that can be read.
    #[test]
    fn a_cursor_at_the_last_readable_entry_is_told_that_the_end_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new().segment_bytes(4096).background(false);
        let journal = options.open(directory.path()).unwrap();
        let note = journal.kind("note").unwrap();
        while journal.stats().segments < 4 {
            journal.append(Record::new(note, b"a1", &[0; 400])).unwrap();
        }
        let last = journal.core().commit.visible().segment();
        journal.close().unwrap();
        std::fs::remove_file(directory.path().join(crate::format::segment::file_name(last))).unwrap();
        let reader = crate::journal::reader::Reader::open(directory.path()).unwrap();
        let view = reader.view().unwrap();
        let newest = view.last_seq().unwrap().unwrap().get();
        for (part, key) in
            [(Part::All, &b""[..]), (Part::Kind, b""), (Part::Prefix, b"a"), (Part::Entity, b"a1")]
        {
            let cursors = [cursor(part, key, newest), cursor(part, key, newest - 1)];
            let found = of_all(&cursors, &view).unwrap();
            let damaged: Vec<u64> = found.iter().map(|unseen| unseen.damaged).collect();
            assert_eq!(damaged, [1, 1], "{part:?}");
        }
    }
}
