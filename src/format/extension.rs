//! Extensions: optional fields between a frame's header and its key.
//!
//! A row of `{id: u8, length: u8, value}` padded with zeros to eight bytes. Ids are given for
//! good; one that a reader does not know is passed over. They are covered by the head
//! checksum, so a header is judged together with them.

use crate::id::IdempotencyKey;

/// The end of the row, and the padding.
const END: u8 = 0;

/// The ids that are given. Those without a reader here are reserved from the first format on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(dead_code, reason = "the ids are part of the format, whether this build writes them or not")]
pub(crate) enum Id {
    /// 16 bytes: what the entry belongs to.
    Correlation = 1,
    /// The Seq of the cause (8) and the depth (1).
    Causation = 2,
    /// 16 bytes, on the first frame of a batch.
    IdempotencyKey = 3,
    /// `u16`: the version of the kind's schema.
    SchemaVersion = 4,
    /// 8 bytes: one bit a source.
    SourceSet = 5,
    /// 8 bytes: one bit a field.
    ChangedMask = 6,
    /// 8 bytes: one bit a field.
    PresenceMask = 7,
    /// 16 bytes: the store's and the kind's event sequence.
    EventSequence = 8,
    /// 16 bytes: a writer and its number.
    Writer = 9,
    /// 8 bytes: the version of a row, where that is not its frame's generation.
    Version = 10,
    /// 8 bytes: the version of a row before the window of an operation.
    VersionBefore = 11,
}

/// The row of extensions of one frame, built before it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extensions {
    bytes: [u8; Self::BYTES_MAX],
    used: usize,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { bytes: [0; Self::BYTES_MAX], used: 0 }
    }
}

impl Extensions {
    /// What this build writes at most: correlation, causation, key, stamp and schema version; or a key and
    /// what a row frame or an operation frame says.
    pub(crate) const BYTES_MAX: usize = 96;

    pub(crate) fn push(&mut self, id: Id, value: &[u8]) {
        let end = self.used + 2 + value.len();
        assert!(
            end <= Self::BYTES_MAX && value.len() <= usize::from(u8::MAX),
            "extensions outgrew their row"
        );
        if let Some([tag, length, space @ ..]) = self.bytes.get_mut(self.used..end) {
            *tag = id as u8;
            *length = u8::try_from(value.len()).unwrap_or(u8::MAX);
            space.copy_from_slice(value);
        }
        self.used = end;
    }

    /// As [`push`](Self::push), or in the place of the value with this id and length.
    pub(crate) fn set(&mut self, id: Id, value: &[u8]) {
        let mut at = 0;
        while let Some([tag, length]) =
            self.bytes.get(at..self.used).and_then(|row| row.first_chunk()).copied()
        {
            let end = at + 2 + usize::from(length);
            if tag == id as u8 && usize::from(length) == value.len() {
                if let Some(space) = self.bytes.get_mut(at + 2..end) {
                    space.copy_from_slice(value);
                }
                return;
            }
            at = end;
        }
        self.push(id, value);
    }

    /// The row of a frame that was written before; `None` if it is longer than this build writes.
    pub(crate) fn of_row(row: &[u8]) -> Option<Self> {
        let mut extensions = Self::default();
        extensions.bytes.get_mut(..row.len())?.copy_from_slice(row);
        extensions.used = row.len();
        Some(extensions)
    }

    /// The row as it stands on disk: padded to a multiple of eight.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.used.next_multiple_of(8)).unwrap_or_default()
    }
}

/// A short row of extensions: batches hold many frames, and few bytes are kept for each without memory of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShortExtensions {
    bytes: [u8; Self::BYTES_MAX],
    used: u8,
}

impl ShortExtensions {
    /// What a row frame says, at most.
    pub(crate) const BYTES_MAX: usize = 40;

    /// # Panics
    ///
    /// If they are more than fit.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let used = extensions.used;
        assert!(used <= Self::BYTES_MAX, "{used} bytes of extensions are no short row");
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.iter_mut().zip(&extensions.bytes).for_each(|(to, from)| *to = *from);
        Self { bytes, used: u8::try_from(used).unwrap_or(0) }
    }

    /// The same, with room for more.
    pub(crate) fn extensions(&self) -> Extensions {
        let written = self.bytes.get(..usize::from(self.used)).unwrap_or_default();
        Extensions::of_row(written).unwrap_or_default()
    }

    /// The row as it stands on disk: padded to a multiple of eight.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.used).next_multiple_of(8)).unwrap_or_default()
    }
}

const _: () = assert!(
    ShortExtensions::BYTES_MAX.is_multiple_of(8)
        && ShortExtensions::BYTES_MAX <= Extensions::BYTES_MAX
        && ShortExtensions::BYTES_MAX <= u8::MAX as usize
        && crate::format::row::ROW_EXTENSION_BYTES_MAX <= ShortExtensions::BYTES_MAX
);
const _: () = assert!(18 + crate::format::row::ROW_EXTENSION_BYTES_MAX - 6 <= Extensions::BYTES_MAX);
const _: () = assert!(18 + (4 + 5 * 10 + 18) <= Extensions::BYTES_MAX);
const _: () = assert!(
    (2 + 16) * 3 + (2 + 9) + (2 + 2) <= Extensions::BYTES_MAX && Extensions::BYTES_MAX.is_multiple_of(8)
);

/// Finds an extension in a frame's row.
pub(crate) fn find(mut row: &[u8], id: Id) -> Option<&[u8]> {
    while let [tag, length, rest @ ..] = row {
        if *tag == END {
            return None;
        }
        let (value, next) = rest.split_at_checked(usize::from(*length))?;
        if *tag == id as u8 {
            return Some(value);
        }
        row = next;
    }
    None
}

/// The cause in a row: its Seq, and how many causes stand behind each other.
pub(crate) fn causation(row: &[u8]) -> Option<(u64, u8)> {
    let [seq @ .., depth] = find(row, Id::Causation)? else { return None };
    Some((u64::from_le_bytes(seq.try_into().ok()?), *depth))
}

/// A cause, as it stands in a row.
pub(crate) fn causation_bytes((seq, depth): (u64, u8)) -> [u8; 9] {
    let mut bytes = [depth; 9];
    if let Some(space) = bytes.first_chunk_mut() {
        *space = seq.to_le_bytes();
    }
    bytes
}

/// The idempotency key in a row, if it has one.
pub(crate) fn idempotency_key(row: &[u8]) -> Option<IdempotencyKey> {
    find(row, Id::IdempotencyKey)?.try_into().ok().map(IdempotencyKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_back_what_was_pushed_and_passes_over_the_unknown() {
        let mut row = Extensions::default();
        assert!(row.as_bytes().is_empty());
        row.push(Id::Correlation, &[7; 16]);
        row.push(Id::SchemaVersion, &[3, 0]);
        assert_eq!(row.as_bytes().len() % 8, 0);
        assert_eq!(find(row.as_bytes(), Id::SchemaVersion), Some(&[3, 0][..]));
        assert_eq!(find(row.as_bytes(), Id::Correlation), Some(&[7; 16][..]));
        assert_eq!(find(row.as_bytes(), Id::Writer), None);
        row.set(Id::Correlation, &[8; 16]);
        row.set(Id::IdempotencyKey, &[9; 16]);
        assert_eq!(find(row.as_bytes(), Id::Correlation), Some(&[8; 16][..]));
        assert_eq!(find(row.as_bytes(), Id::SchemaVersion), Some(&[3, 0][..]));
        assert_eq!(find(row.as_bytes(), Id::IdempotencyKey), Some(&[9; 16][..]));
        assert_eq!(find(&[200, 1, 9, 4, 2, 5, 0, 0], Id::SchemaVersion), Some(&[5, 0][..]));
    }

    #[test]
    fn a_cause_is_read_as_it_was_written_and_a_short_one_is_none() {
        let mut row = Extensions::default();
        row.push(Id::Causation, &causation_bytes((0x0102_0304_0506_0708, 9)));
        assert_eq!(causation(row.as_bytes()), Some((0x0102_0304_0506_0708, 9)));
        assert_eq!(causation(&[2, 3, 1, 2, 3, 0, 0, 0]), None);
    }

    #[test]
    fn a_length_past_the_row_finds_nothing() {
        assert_eq!(find(&[3, 255, 1, 2], Id::IdempotencyKey), None);
        assert_eq!(find(&[3], Id::IdempotencyKey), None);
    }

    #[test]
    fn a_short_row_is_the_same_row_and_takes_more_behind_what_it_has() {
        let mut row = Extensions::default();
        row.push(Id::SchemaVersion, &[3, 0]);
        row.push(Id::SourceSet, &[1; 8]);
        let short = ShortExtensions::of(&row);
        assert_eq!(short.as_bytes(), row.as_bytes());
        let mut longer = short.extensions();
        longer.set(Id::IdempotencyKey, &[9; 16]);
        assert_eq!(find(longer.as_bytes(), Id::SourceSet), Some(&[1; 8][..]));
        assert_eq!(idempotency_key(longer.as_bytes()), Some(IdempotencyKey([9; 16])));
        assert!(ShortExtensions::of(&Extensions::default()).as_bytes().is_empty());
    }

    #[test]
    #[should_panic(expected = "no short row")]
    fn a_row_that_is_too_long_is_no_short_one() {
        let mut row = Extensions::default();
        (0..3).for_each(|_| row.push(Id::Correlation, &[7; 16]));
        ShortExtensions::of(&row);
    }

    #[test]
    fn a_row_that_was_written_before_is_taken_up_and_one_that_is_too_long_is_not() {
        let mut row = Extensions::default();
        row.push(Id::Correlation, &[7; 16]);
        let again = Extensions::of_row(row.as_bytes()).unwrap();
        assert_eq!(again.as_bytes(), row.as_bytes());
        assert!(Extensions::of_row(&[1; Extensions::BYTES_MAX]).is_some());
        assert!(Extensions::of_row(&[1; Extensions::BYTES_MAX + 1]).is_none());
    }
}
