//! A log as plain as can be: a vector of what was said, to hold the real one against.

use std::collections::BTreeMap;

use esker::{Entry, IdempotencyKey, Journal, KindId, Region, Seq, View};

/// The names that kinds are drawn from.
pub(crate) const KINDS: [&str; 3] = ["note", "order", "vessel"];

/// One entry, as it must be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) kind: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) generation: u64,
    /// The batch goes on behind it.
    pub(crate) more: bool,
    /// The name of its batch, on the first entry.
    pub(crate) named: Option<IdempotencyKey>,
}

/// An entry that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saying {
    pub(crate) kind: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// The log, its entities and its keyed batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain {
    pub(crate) entries: Vec<Said>,
    pub(crate) generations: BTreeMap<(&'static str, Vec<u8>), u64>,
    /// Where each named batch begins, and how many entries it has.
    pub(crate) named: BTreeMap<IdempotencyKey, (usize, usize)>,
}

impl Plain {
    pub(crate) fn append(&mut self, batch: &[Saying], named: Option<IdempotencyKey>) {
        if let Some(key) = named {
            self.named.insert(key, (self.entries.len(), batch.len()));
        }
        for (at, saying) in batch.iter().enumerate() {
            let Saying { kind, key, metadata, payload } = saying.clone();
            let generation = self.generations.entry((kind, key.clone())).or_default();
            *generation += 1;
            self.entries.push(Said {
                kind,
                key,
                metadata,
                payload,
                generation: *generation,
                more: at + 1 < batch.len(),
                named: named.filter(|_| at == 0),
            });
        }
    }

    /// What a crash left: the first `count` entries.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
        self.generations.clear();
        for said in &self.entries {
            self.generations.insert((said.kind, said.key.clone()), said.generation);
        }
        self.named.retain(|_, (start, _)| *start < count);
    }

    /// True if no batch is cut in two by ending behind `count` entries.
    pub(crate) fn ends_a_batch(&self, count: usize) -> bool {
        count == 0 || self.entries.get(count - 1).is_some_and(|last| !last.more)
    }
}

/// The kinds that a journal knows, by number.
pub(crate) fn kinds_of(journal: &Journal) -> BTreeMap<KindId, &'static str> {
    let named = |name: &str| KINDS.iter().copied().find(|known| *known == name);
    journal.kinds().iter().filter_map(|kind| Some((kind.id, named(&kind.name)?))).collect()
}

/// Compares the entries of a view, in order, with what must be there.
pub(crate) fn same_entries(
    view: &View,
    kinds: &BTreeMap<KindId, &'static str>,
    expected: &[Said],
) -> Result<(), String> {
    let mut count = 0;
    for found in view.range(..) {
        let found = found.map_err(|error| format!("entry {}: {error}", count + 1))?;
        count += 1;
        is_as_said(&found, count, kinds, expected)?;
    }
    if count == expected.len() { Ok(()) } else { Err(format!("{count} of {} entries", expected.len())) }
}

/// Compares an entry with what was said at its place.
pub(crate) fn is_as_said(
    found: &Entry<'_>,
    place: usize,
    kinds: &BTreeMap<KindId, &'static str>,
    expected: &[Said],
) -> Result<(), String> {
    let Some(said) = place.checked_sub(1).and_then(|at| expected.get(at)) else {
        return Err(format!("{found:?} was never appended, behind {} entries", expected.len()));
    };
    let same = found.seq().get() == place as u64
        && kinds.get(&found.kind()) == Some(&said.kind)
        && found.key() == said.key
        && found.metadata() == said.metadata
        && found.payload() == said.payload
        && found.generation().get() == said.generation
        && found.is_first() == (said.generation == 1)
        && found.has_more() == said.more
        && found.idempotency_key() == said.named;
    if same { Ok(()) } else { Err(format!("{found:?} in the place of entry {place}, {said:?}")) }
}

/// Compares everything that can be read from a view with what must be there: each entry by its
/// number, ranges, kinds, prefixes and histories, from both ends.
pub(crate) fn same_reads(
    view: &View,
    kinds: &BTreeMap<KindId, &'static str>,
    expected: &[Said],
) -> Result<(), String> {
    same_entries(view, kinds, expected)?;
    let seqs = |entries: &mut dyn Iterator<Item = esker::Result<esker::Entry<'_>>>| {
        entries.map(|entry| entry.map(|entry| entry.seq().get())).collect::<esker::Result<Vec<_>>>()
    };
    let which = |wanted: &dyn Fn(&Said) -> bool| {
        let numbered = (1u64..).zip(expected);
        numbered.filter(|(_, said)| wanted(said)).map(|(seq, _)| seq).collect::<Vec<_>>()
    };
    let backward = |mut seqs: Vec<u64>| {
        seqs.reverse();
        seqs
    };
    let is = |what: &str, found: esker::Result<Vec<u64>>, wanted: Vec<u64>| {
        let found = found.map_err(|error| format!("{what}: {error}"))?;
        if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
    };
    let newest = view.last_seq().map_err(|error| error.to_string())?.map_or(0, Seq::get);
    is("last_seq", Ok(vec![newest]), vec![expected.len() as u64])?;
    is("range backward", seqs(&mut view.range(..).rev()), backward(which(&|_| true)))?;
    for seq in 1..=newest + 2 {
        let found = view.get(Seq::new(seq).ok_or("zero")?).map_err(|error| format!("get {seq}: {error}"))?;
        let found = found.map(|entry| entry.seq().get());
        is("get", Ok(found.into_iter().collect()), (seq <= newest).then_some(seq).into_iter().collect())?;
    }
    let third = newest / 3 + 1;
    if let (Some(from), Some(to)) = (Seq::new(third), Seq::new(2 * third)) {
        let wanted: Vec<u64> = (third..=(2 * third).min(newest)).collect();
        is("part", seqs(&mut view.range(from..=to)), wanted.clone())?;
        is("part backward", seqs(&mut view.range(from..=to).rev()), backward(wanted))?;
        // From both ends at once, until they meet.
        let mut both = view.range(..);
        let mut met = Vec::new();
        while let Some(front) = both.next() {
            met.push(front.map(|entry| entry.seq().get()));
            met.extend(both.next_back().map(|entry| entry.map(|entry| entry.seq().get())));
        }
        let met = met.into_iter().collect::<esker::Result<Vec<_>>>().map(|mut met| {
            met.sort_unstable();
            met
        });
        is("both ends", met, which(&|_| true))?;
    }
    for (id, kind) in kinds {
        let of_kind = which(&|said| said.kind == *kind);
        is("kind", seqs(&mut view.kind(*id)), of_kind.clone())?;
        is("kind backward", seqs(&mut view.kind(*id).rev()), backward(of_kind))?;
        let prefixed = which(&|said| said.kind == *kind && said.key.starts_with(b"k1"));
        let region = Region::prefix(*id, b"k1");
        is("prefix", seqs(&mut view.region(&region)), prefixed.clone())?;
        is("prefix backward", seqs(&mut view.region(&region).rev()), backward(prefixed))?;
        let mut keys: Vec<&[u8]> = expected.iter().map(|said| &*said.key).collect();
        keys.push(b"never written");
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let history = which(&|said| said.kind == *kind && said.key == key);
            is("history", seqs(&mut view.entity(*id, key)), history.clone())?;
            is("history backward", seqs(&mut view.entity(*id, key).rev()), backward(history.clone()))?;
            let latest = view.latest(*id, key).map_err(|error| format!("latest: {error}"))?;
            let latest = latest.map(|entry| entry.seq().get());
            is("latest", Ok(latest.into_iter().collect()), history.last().copied().into_iter().collect())?;
        }
    }
    Ok(())
}
