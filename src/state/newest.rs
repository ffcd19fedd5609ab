//! Whether a frame of a kind is the newest of its entity in a view.

use crate::error::Result;
use crate::format::index::EntityHash;
use crate::id::KindId;
use crate::journal::entry::Entry;
use crate::journal::latest::is_known;
use crate::journal::view::View;

/// Tells of frames of a kind whether they are the newest of their entities in a view.
///
/// An entity that is written all the time has many frames in a view, and behind it; to find the newest one before the
/// view's end is to step back over all that came since. Who does that for each frame falls behind the faster the further
/// behind it is. So what was found is remembered.
///
/// It is for walks forward, which ask of the newest frame of an entity behind all others of it: what is known of it at that
/// moment is then as good as what was remembered. That a frame has the generation of the newest says that it is the newest:
/// in a log that was made up, two frames of an entity may have one generation, and both are told then.
#[derive(Debug)]
pub(crate) struct Newest {
    id: KindId,
    view: View,
    found: Found,
}

impl Newest {
    /// For a walk over so many frames.
    pub(crate) fn new(view: View, id: KindId, frames: u64) -> Self {
        Self { id, view, found: Found::for_frames(frames) }
    }

    /// The entry is one of the view and the kind.
    pub(crate) fn is(&mut self, entry: &Entry<'_>) -> Result<bool> {
        let hash = self.view.index().hash(self.id.0, entry.key());
        let seq = entry.seq().get();
        if let Some(newest) = self.found.get(hash) {
            return Ok(newest == seq);
        }
        let known = self.view.index().last_known(hash)?;
        if let Some(error) = self.view.unread(known) {
            // The walk goes on behind a row that may not be the newest.
            return Err(error.concerning(seq));
        }
        // As most are of a kind that is not written all the time: then nothing else is looked up, nor remembered, for no
        // other frame of it comes behind this one.
        if known.is_some_and(|known| is_known(entry, known)) {
            return Ok(true);
        }
        let newest = self.view.latest_known(known, hash, self.id, entry.key())?;
        let newest = newest.map(|newest| newest.seq().get());
        if let Some(newest) = newest {
            self.found.put(hash, newest);
        }
        Ok(newest == Some(seq))
    }
}

/// The Seqs of some entities' newest frames. An entity has a set of places that its hash names; the one that was
/// looked for longest ago is forgotten for another.
///
/// With one place for each, two entities of a hundred that share it would be looked up for each of their frames.
#[derive(Debug)]
struct Found {
    /// Of each set, the one that was looked for last stands first. Empty until something is put.
    sets: Vec<[(EntityHash, u64); WAYS]>,
    count: usize,
}

const WAYS: usize = 4;
/// 64 Ki entities at most, in 2 MiB.
const SETS_MAX: usize = 16 * 1024;
const SETS_MIN: usize = 16;
/// No frame has this Seq.
const NONE: u64 = 0;

impl Found {
    /// Of no more entities than there are frames.
    fn for_frames(frames: u64) -> Self {
        let frames = usize::try_from(frames).unwrap_or(usize::MAX).min(SETS_MAX * WAYS);
        Self { sets: Vec::new(), count: (frames / WAYS).next_power_of_two().max(SETS_MIN) }
    }

    fn place(&self, hash: EntityHash) -> usize {
        usize::try_from(hash % self.count as EntityHash).unwrap_or(0)
    }

    fn get(&mut self, hash: EntityHash) -> Option<u64> {
        let place = self.place(hash);
        let set = self.sets.get_mut(place)?;
        let way = set.iter().position(|&(known, newest)| newest != NONE && known == hash)?;
        set.get_mut(..=way)?.rotate_right(1);
        set.first().map(|&(_, newest)| newest)
    }

    fn put(&mut self, hash: EntityHash, newest: u64) {
        if self.sets.is_empty() {
            // Zeros come from the system a page at a time: a short scan of a long log touches few.
            self.sets = vec![[(0, NONE); WAYS]; self.count];
        }
        let place = self.place(hash);
        if let Some(set) = self.sets.get_mut(place) {
            set.rotate_right(1);
            set[0] = (hash, newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::journal::record::Record;

    /// Numbers that look as if drawn: as hashes do.
    fn hashes(seed: u64) -> impl Iterator<Item = EntityHash> {
        let mut state = EntityHash::from(seed) << 64 | 1;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(0x9E37_79B9);
            state >> 32
        })
    }

    #[test]
    fn what_came_behind_the_view_takes_nothing_from_what_is_its_newest() {
        let journal = Journal::in_memory().unwrap();
        let note = journal.kind("note").unwrap();
        let append = |key: &[u8]| journal.append(Record::new(note, key, b"x")).unwrap();
        for key in [&b"ada"[..], b"ada", b"bob", b"ada", b"eve"] {
            append(key);
        }
        let view = journal.view();
        for key in [&b"ada"[..], b"eve", b"eve"] {
            append(key);
        }
        let mut newest = Newest::new(view.clone(), note, 5);
        let mut told =
            || -> Vec<bool> { view.range(..).map(|entry| newest.is(&entry.unwrap()).unwrap()).collect() };
        assert_eq!(told(), [false, false, true, true, true]);
        assert_eq!(told(), [false, false, true, true, true], "by what is remembered");
    }

    #[test]
    fn what_was_put_last_is_found_and_nothing_else() {
        let mut found = Found::for_frames(1000);
        assert_eq!(found.get(7), None);
        found.put(7, 70);
        found.put(7 + found.count as EntityHash, 71);
        assert_eq!(found.get(7), Some(70));
        assert_eq!(found.get(7 + found.count as EntityHash), Some(71));
        assert_eq!(found.get(7 + 2 * found.count as EntityHash), None, "of the same set");
        assert_eq!(found.get(0), None, "of a set that has nothing");
    }

    #[test]
    fn the_one_that_was_looked_for_longest_ago_is_forgotten() {
        let mut found = Found::for_frames(0);
        let same = |n: usize| (n * SETS_MIN) as EntityHash;
        (1..=WAYS).for_each(|n| found.put(same(n), n as u64));
        assert_eq!(found.get(same(1)), Some(1));
        found.put(same(9), 9);
        assert_eq!(found.get(same(1)), Some(1), "it was looked for since");
        assert_eq!(found.get(same(2)), None);
        assert_eq!(found.get(same(9)), Some(9));
    }

    #[test]
    fn of_a_few_that_are_written_all_the_time_none_is_looked_up_again_and_again() {
        for seed in 0..200 {
            let hot: Vec<_> = hashes(seed).take(500).collect();
            let mut found = Found::for_frames(50_000);
            let mut looked_up = 0;
            for _ in 0..20 {
                for &hash in &hot {
                    if found.get(hash).is_none() {
                        looked_up += 1;
                        found.put(hash, 1);
                    }
                }
            }
            assert_eq!(looked_up, hot.len(), "with seed {seed}");
        }
    }

    #[test]
    fn it_takes_what_its_frames_need_and_no_more_than_its_bound() {
        assert_eq!(Found::for_frames(0).count, SETS_MIN);
        assert_eq!(Found::for_frames(50_000).count, 16 * 1024);
        assert_eq!(Found::for_frames(u64::MAX).count, SETS_MAX);
        assert!(size_of::<[(EntityHash, u64); WAYS]>() * SETS_MAX <= 2 << 20);
        assert!(Found::for_frames(u64::MAX).sets.is_empty(), "until something is put");
    }
}
