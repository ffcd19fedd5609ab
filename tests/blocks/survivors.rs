//! What a power cut leaves of the writes that no flush covers.

use super::disk::{Event, Layer, put};
use super::random::Random;

/// A write: where, and what.
pub(crate) type Write<'a> = (usize, &'a [u8]);

/// How a disk chooses among what it has not flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// In thousandths: how many of the writes reached it.
    pub(crate) kept: u64,
    /// One in four of those has a part of it there only, in units of this.
    pub(crate) atom: Option<usize>,
}

/// Those of these writes that are there.
pub(crate) fn survivors<'a>(flying: &[Write<'a>], choice: Choice, random: &mut Random) -> Vec<Write<'a>> {
    flying.iter().filter_map(|write| survivor(*write, choice, random)).collect()
}

fn survivor<'a>((at, bytes): Write<'a>, choice: Choice, random: &mut Random) -> Option<Write<'a>> {
    if random.below(1000) >= choice.kept {
        return None;
    }
    let Some(atom) = choice.atom else { return Some((at, bytes)) };
    let atoms = bytes.len() / atom;
    if atoms < 2 || random.below(4) != 0 {
        return Some((at, bytes));
    }
    // A part: neither nothing nor all of it.
    let cut = usize::try_from(1 + random.below(atoms as u64 - 1)).unwrap() * atom;
    let is_first = random.below(2) == 0;
    Some(if is_first { (at, &bytes[..cut]) } else { (at + cut, &bytes[cut..]) })
}

/// Whether of one of them a part is there.
pub(crate) fn is_torn(flying: &[Write<'_>], survivors: &[Write<'_>]) -> bool {
    survivors.iter().any(|there| !flying.contains(there))
}

/// The writes of a log behind its last flush; those before it go into the base.
pub(crate) fn settle<'a>(log: &'a [Event], base: &mut [u8]) -> Vec<Write<'a>> {
    let flying_from =
        log.iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |flush| flush + 1);
    let writes = |events: &'a [Event]| {
        events.iter().filter_map(|event| match event {
            Event::Write { at, bytes } => Some((*at, &bytes[..])),
            _ => None,
        })
    };
    let (covered, flying) = log.split_at(flying_from);
    for (at, bytes) in writes(covered) {
        base[at..at + bytes.len()].copy_from_slice(bytes);
    }
    writes(flying).collect()
}

/// These writes, above a base.
pub(crate) fn layer(writes: &[Write<'_>], base: &[u8]) -> Layer {
    let mut layer = Layer::new();
    for (at, bytes) in writes {
        put(&mut layer, base, *at, bytes);
    }
    layer
}
