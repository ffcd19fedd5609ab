//! What is written of cells and topics, for who looks from outside: the newest entry of each, one behind the other.

use crate::backplane::local::cells;
use crate::backplane::name::{Offset, Revision};
use crate::error::{Error, Result};
use crate::journal::entry::Entry;
use crate::journal::region::Region;
use crate::journal::view::{Entries, View};

/// A cell as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenCell {
    /// Its key, as the backplane has it.
    pub key: Vec<u8>,
    /// The bytes; `None`: what it held was taken out.
    pub bytes: Option<Vec<u8>>,
    /// How often it was changed.
    pub revision: Revision,
    /// The entry that says so.
    pub offset: Offset,
    /// When it was written, in nanoseconds since 1970.
    pub time: i64,
}

/// What a store's [`Cells`](crate::Cells) made a key of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CellName<'c> {
    /// The scopes, the outermost first.
    pub scopes: Vec<&'c [u8]>,
    /// The key in the innermost.
    pub key: &'c [u8],
}

impl WrittenCell {
    pub(super) fn of(entry: &Entry<'_>) -> Result<Self> {
        Ok(Self {
            key: entry.key().to_vec(),
            bytes: cells::value_of(entry)?.map(<[u8]>::to_vec),
            revision: Revision::from_raw(entry.generation().get()),
            offset: Offset::from_raw(entry.seq().get()),
            time: entry.time(),
        })
    }

    /// Its scopes and its key, if a store's [`Cells`](crate::Cells) made it: then the bytes are a value in MessagePack. `None`:
    /// somebody else did, on the [backplane](super::Local) itself, or it is the library's own, of a consumer.
    #[must_use]
    pub fn named(&self) -> Option<CellName<'_>> {
        let (mut rest, mut scopes) = (self.key.as_slice(), Vec::new());
        loop {
            match rest.split_first()? {
                (0, []) => return None,
                (0, key) => return Some(CellName { scopes, key }),
                (length, behind) => {
                    let (scope, behind) = behind.split_at_checked(usize::from(*length))?;
                    scopes.push(scope);
                    rest = behind;
                }
            }
        }
    }

    /// True for what the library itself writes, of consumers.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.key.starts_with(b"\xffesker.")
    }
}

/// A topic, as far as its newest record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenTopic {
    /// Its key.
    pub key: Vec<u8>,
    /// The offset of the newest record.
    pub head: Offset,
    /// The how manieth that is, of all that there ever were.
    pub generation: u64,
    /// When it was appended, in nanoseconds since 1970.
    pub time: i64,
}

impl WrittenTopic {
    pub(super) fn of(entry: &Entry<'_>) -> Self {
        Self {
            key: entry.key().to_vec(),
            head: Offset::from_raw(entry.seq().get()),
            generation: entry.generation().get(),
            time: entry.time(),
        }
    }
}

/// The newest entry of each entity of a region, in the order of the log. Nothing is remembered: each entry is asked whether
/// there is a newer one. What cannot be read comes as an error, and the next behind it.
pub(super) struct Newest<'v> {
    view: &'v View,
    region: Region,
    entries: Entries<'v>,
    /// Up to here nothing is read again.
    looked: u64,
    ended: bool,
}

impl<'v> Newest<'v> {
    pub(super) fn of(view: &'v View, region: Region) -> Self {
        let entries = view.region_behind(&region, 0);
        Self { view, region, entries, looked: 0, ended: false }
    }

    /// Goes on behind damage, if it is known where that ends.
    fn go_on_behind(&mut self, error: &Error) {
        match error.seqs().map(|seqs| *seqs.end()).filter(|last| *last > self.looked) {
            Some(last) => {
                self.looked = last;
                self.entries = self.view.region_behind(&self.region, last);
            }
            None => self.ended = true,
        }
    }
}

impl<'v> Iterator for Newest<'v> {
    type Item = Result<Entry<'v>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => {
                    self.go_on_behind(&error);
                    return Some(Err(error));
                }
            };
            self.looked = entry.seq().get();
            match self.view.latest(entry.kind(), entry.key()) {
                Ok(Some(newest)) if newest.seq() == entry.seq() => return Some(Ok(entry)),
                Ok(_) => {}
                // The walk itself comes to what is damaged, and says so once.
                Err(error) if error.is_corruption() => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(key: &[u8]) -> WrittenCell {
        let (revision, offset) = (Revision::from_raw(1), Offset::from_raw(1));
        WrittenCell { key: key.to_vec(), bytes: None, revision, offset, time: 0 }
    }

    #[test]
    fn a_key_is_taken_apart_only_where_it_was_put_together_so() {
        let known = [
            (&b"\0limit"[..], vec![], &b"limit"[..]),
            (b"\x01a\0k", vec![&b"a"[..]], b"k"),
            (b"\x02ab\x01c\0\0", vec![b"ab", b"c"], b"\0"),
        ];
        for (bytes, scopes, key) in known {
            assert_eq!(cell(bytes).named(), Some(CellName { scopes, key }), "{bytes:?}");
        }
        for other in [&b""[..], b"\0", b"\x01a", b"\x09a\0k", b"cursor of shipping", b"\xffesker.consumer 1"]
        {
            assert_eq!(cell(other).named(), None, "{other:?}");
        }
        assert!(cell(b"\xffesker.consumer 1").is_internal() && !cell(b"\0limit").is_internal());
    }
}
