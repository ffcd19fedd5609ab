//! Where a cursor is to go: the words for it, and the entry that they come to.

use std::ops::ControlFlow;
use std::str::FromStr;

use anyhow::Result;
use esker::{CursorInfo, Entry, Item, Reader, Region, Seq, Start, SubscribeOptions};

use crate::filter::Moment;
use crate::outcome::Usage;

/// Where a cursor is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before everything.
    Oldest,
    /// Behind everything that there is.
    Newest,
    /// Behind this entry.
    Behind(Seq),
    /// Before the first entry of that time or a later one.
    At(Moment),
    /// So many entries of its own region further.
    Forward(u64),
    /// So many entries of its own region back.
    Back(u64),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = |digits: &str| digits.parse().map_err(|_| format!("{text:?} is no number of entries"));
        match text {
            "oldest" => return Ok(Self::Oldest),
            "newest" => return Ok(Self::Newest),
            _ => {}
        }
        if let Some(digits) = text.strip_prefix('+') {
            return count(digits).map(Self::Forward);
        }
        if let Some(digits) = text.strip_prefix('-') {
            return count(digits).map(Self::Back);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let seq = text.parse().map_err(|_| format!("{text} is no Seq"))?;
            let seq = Seq::new(seq).ok_or("entries are numbered from 1; before all of them is `oldest`")?;
            return Ok(Self::Behind(seq));
        }
        text.parse().map(Self::At).map_err(|_| {
            format!(
                "{text:?} is none of: oldest, newest, a Seq, a time (2026-11-20T10:00Z, 2h ago as 2h), +N, -N"
            )
        })
    }
}

impl Place {
    /// The Seq of the entry behind which that is, in a log that ends with `last`; zero: before all.
    pub(crate) fn seq(self, cursor: &CursorInfo, reader: &Reader, last: u64) -> Result<u64> {
        // Of a store that was repaired, a cursor may be ahead.
        let at = cursor.seq.map_or(0, Seq::get).min(last);
        // Where entries were dropped nobody can begin, but for before all of them.
        let floor = reader.view()?.floor(&cursor.region).map_or(0, |floor| floor.get() - 1).min(last);
        match self {
            Self::Oldest => Ok(0),
            Self::Newest => Ok(last),
            Self::Behind(seq) if seq.get() < floor => {
                let whole = format!(
                    "compaction went through {floor}, and {} is whole from behind that on",
                    cursor.name
                );
                Err(Usage(format!("entry {seq} may be gone: {whole}; `oldest` is before all that is left"))
                    .into())
            }
            Self::Behind(seq) if seq.get() <= last => Ok(seq.get()),
            Self::Behind(seq) => {
                let end =
                    if last == 0 { "it has none".to_owned() } else { format!("the last one is {last}") };
                Err(Usage(format!("entry {seq} is behind the end of the log: {end}")).into())
            }
            Self::At(Moment(time)) => {
                let found = nth(reader, &Region::All, (0, last), 0, |entry| entry.time() >= time)?;
                let before = found.map_or(last, |seq| seq - 1);
                Ok(if before < floor { 0 } else { before })
            }
            // Where compaction went past it, that is before all that is left.
            Self::Forward(0) | Self::Back(0) => Ok(if at < floor { 0 } else { at }),
            Self::Forward(count) => {
                let found = nth(reader, &cursor.region, (at, last), count - 1, |_| true)?;
                found.ok_or_else(|| too_far("+", count, "has not seen", cursor, cursor.behind))
            }
            Self::Back(count) => {
                let mut seen = 0;
                walk(reader, &cursor.region, (0, at), |_| {
                    seen += 1;
                    ControlFlow::Continue(())
                })?;
                let Some(before) = u64::checked_sub(seen, count) else {
                    return Err(too_far("-", count, "has seen", cursor, seen));
                };
                let found = nth(reader, &cursor.region, (0, at), before, |_| true)?;
                Ok(found.map_or(0, |seq| seq - 1))
            }
        }
    }
}

fn too_far(sign: &str, count: u64, what: &str, cursor: &CursorInfo, there: u64) -> anyhow::Error {
    let name = &cursor.name;
    Usage(format!("{sign}{count} is too far: the cursor {name:?} {what} {there} entries of its region"))
        .into()
}

/// The Seq of an entry of a region, behind `skip` others that are wanted.
fn nth(
    reader: &Reader,
    region: &Region,
    between: (u64, u64),
    mut skip: u64,
    is_wanted: impl Fn(&Entry<'_>) -> bool,
) -> Result<Option<u64>> {
    let mut found = None;
    walk(reader, region, between, |entry| {
        if is_wanted(entry) {
            if skip == 0 {
                found = Some(entry.seq().get());
                return ControlFlow::Break(());
            }
            skip -= 1;
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Shows the entries of a region behind one Seq and up to another, in order. What damage took is
/// passed over, as by every reader; answers how many entries that was, of whatever region.
pub(crate) fn walk(
    reader: &Reader,
    region: &Region,
    (behind, last): (u64, u64),
    mut see: impl FnMut(&Entry<'_>) -> ControlFlow<()>,
) -> Result<u64> {
    // Of what compaction went through, what is left is looked at from its beginning.
    let floor = reader.view()?.floor(region).map_or(0, |floor| floor.get() - 1);
    let start = Seq::new(behind).filter(|_| behind >= floor).map_or(Start::Oldest, Start::After);
    let mut entries = reader.subscribe(region.clone(), SubscribeOptions::new().from(start))?;
    let mut damaged = 0;
    loop {
        match entries.try_next() {
            Ok(Some(Item::Entry(entry))) if entry.seq().get() <= behind => {}
            Ok(Some(Item::Entry(entry))) if entry.seq().get() <= last => {
                if see(&entry).is_break() {
                    return Ok(damaged);
                }
            }
            Ok(_) => return Ok(damaged),
            // Behind one that says what it took, the next call goes on.
            Err(error) => match error.seqs().filter(|_| error.is_corruption()) {
                Some(lost) => {
                    let before = behind.max(lost.start().saturating_sub(1));
                    damaged += (*lost.end()).min(last).saturating_sub(before);
                }
                None => return Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_a_seq_a_time_or_a_step() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!((place("oldest"), place("newest")), (Ok(Place::Oldest), Ok(Place::Newest)));
        assert_eq!(place("300"), Ok(Place::Behind(Seq::new(300).unwrap())));
        assert_eq!((place("+5"), place("-5")), (Ok(Place::Forward(5)), Ok(Place::Back(5))));
        assert_eq!(place("1970-01-01T00:00:01Z"), Ok(Place::At(Moment(1_000_000_000))));
        assert!(matches!(place("2h"), Ok(Place::At(_))));
        for wrong in ["", "0", "+", "-2h", "+x", "latest", "99999999999999999999"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
