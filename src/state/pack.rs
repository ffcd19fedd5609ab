//! MessagePack as bytes: where a value ends, and what a row's fields are, without a type.
//!
//! A row is a map from field names to values. What is done with one without its type (to tell which
//! fields differ, to lay a patch over it) is done here, on encoded bytes: two values are equal where
//! their bytes are, which [`canonical`] makes true.

/// Splits the first value off. `None`: there is no whole value.
///
/// Without recursion: bytes from disk may nest as deep as they like.
#[inline]
pub(crate) fn split_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = Head::read(bytes)?;
    // As most are: one that holds no others.
    if head.values == 0 { bytes.split_at_checked(head.bytes) } else { split_nested(bytes) }
}

fn split_nested(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let mut left = 1u64;
    while left > 0 {
        let head = Head::read(rest)?;
        rest = rest.get(head.bytes..)?;
        left = (left - 1).checked_add(head.values)?;
        // Each value takes a byte or more.
        if left > rest.len() as u64 {
            return None;
        }
    }
    bytes.split_at_checked(bytes.len() - rest.len())
}

/// The first bytes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Marker, length and, of what holds no other values, the content.
    bytes: usize,
    /// The values that follow and belong to it.
    values: u64,
    /// The values are the keys and values of a map.
    is_map: bool,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (marker, rest) = bytes.split_first()?;
        let flat = |bytes: usize| Some(Self { bytes, values: 0, is_map: false });
        let sized = |width: usize, more: usize| {
            flat((1 + width + more).checked_add(usize::try_from(length(rest, width)?).ok()?)?)
        };
        let list = |width: usize, count: u64| Some(Self { bytes: 1 + width, values: count, is_map: false });
        let map = |width: usize, count: u64| Some(Self { bytes: 1 + width, values: count * 2, is_map: true });
        match *marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => flat(1),
            0x80..=0x8f => map(0, u64::from(marker & 0x0f)),
            0x90..=0x9f => list(0, u64::from(marker & 0x0f)),
            0xa0..=0xbf => flat(1 + usize::from(marker & 0x1f)),
            0xc4 | 0xd9 => sized(1, 0),
            0xc5 | 0xda => sized(2, 0),
            0xc6 | 0xdb => sized(4, 0),
            0xc7 => sized(1, 1),
            0xc8 => sized(2, 1),
            0xc9 => sized(4, 1),
            0xcc | 0xd0 => flat(2),
            0xcd | 0xd1 => flat(3),
            0xca | 0xce | 0xd2 => flat(5),
            0xcb | 0xcf | 0xd3 => flat(9),
            0xd4 => flat(3),
            0xd5 => flat(4),
            0xd6 => flat(6),
            0xd7 => flat(10),
            0xd8 => flat(18),
            0xdc => list(2, length(rest, 2)?),
            0xdd => list(4, length(rest, 4)?),
            0xde => map(2, length(rest, 2)?),
            0xdf => map(4, length(rest, 4)?),
            0xc1 => None,
        }
    }
}

/// A length of so many bytes; MessagePack has the most significant first.
fn length(bytes: &[u8], width: usize) -> Option<u64> {
    Some(bytes.get(..width)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
}

/// A field's name, and its value as it is encoded.
type Field<'a> = (&'a [u8], &'a [u8]);

/// The fields of a row: names and encoded values, in the order in which they stand.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    left: u64,
}

impl<'a> Fields<'a> {
    /// `None`: the bytes do not begin with a map. What is wrong further on ends the iterator early.
    pub(crate) fn of(row: &'a [u8]) -> Option<Self> {
        let head = Head::read(row).filter(|head| head.is_map)?;
        Some(Self { rest: row.get(head.bytes..)?, left: head.values / 2 })
    }

    /// How many are left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next field, and the same as it is encoded.
    pub(crate) fn next_encoded(&mut self) -> Option<(Field<'a>, &'a [u8])> {
        let before = self.rest;
        let field = self.next()?;
        Some((field, before.get(..before.len() - self.rest.len())?))
    }

    /// Steps over the next field if it is encoded so.
    pub(crate) fn skip_if(&mut self, encoded: &[u8]) -> bool {
        let (Some(rest), Some(left)) = (self.rest.strip_prefix(encoded), self.left.checked_sub(1)) else {
            return false;
        };
        (self.rest, self.left) = (rest, left);
        true
    }

    /// All of them were given, and nothing stands behind the last.
    pub(crate) fn is_whole(&self) -> bool {
        self.left == 0 && self.rest.is_empty()
    }
}

impl<'a> Iterator for Fields<'a> {
    /// The name is text as far as its marker says; whoever needs it as such looks at the bytes.
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.checked_sub(1)?;
        let (name, rest) = split_name(self.rest)?;
        let (value, rest) = split_value(rest)?;
        (self.rest, self.left) = (rest, left);
        Some((name, value))
    }
}

/// Splits the text of a field's name off.
#[inline]
fn split_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if let [marker @ 0xa0..=0xbf, rest @ ..] = bytes {
        // As most are: shorter than 32 bytes.
        return rest.split_at_checked(usize::from(marker & 0x1f));
    }
    let (name, rest) = split_value(bytes)?;
    Some((text(name)?, rest))
}

/// The bytes of a value that is text.
fn text(value: &[u8]) -> Option<&[u8]> {
    let head_bytes = match value.first()? {
        0xa0..=0xbf => 1,
        0xd9 => 2,
        0xda => 3,
        0xdb => 5,
        _ => return None,
    };
    value.get(head_bytes..)
}

/// Writes a row of these fields.
pub(crate) fn write_row(fields: &[(&[u8], &[u8])], row: &mut Vec<u8>) {
    match u8::try_from(fields.len()) {
        Ok(count) if count < 16 => row.push(0x80 | count),
        _ => {
            row.push(0xde);
            row.extend_from_slice(&number(u16::try_from(fields.len()).unwrap_or(u16::MAX)));
        }
    }
    for (name, value) in fields {
        match u8::try_from(name.len()) {
            Ok(length) if length < 32 => row.push(0xa0 | length),
            Ok(length) => row.extend_from_slice(&[0xd9, length]),
            Err(_) => {
                row.push(0xda);
                row.extend_from_slice(&number(u16::try_from(name.len()).unwrap_or(u16::MAX)));
            }
        }
        row.extend_from_slice(name);
        row.extend_from_slice(value);
    }
}

/// A length as MessagePack has it.
fn number(length: u16) -> [u8; 2] {
    let [low, high] = length.to_le_bytes();
    [high, low]
}

/// Puts the entries of every map inside the fields of a whole row in the order of their encoded keys, so that
/// equal values have equal bytes whatever order a hash map has them in. The row's own fields stay.
pub(crate) fn canonical(row: &mut Vec<u8>) {
    let Some(fields) = Fields::of(row) else { return };
    let mut sorted = Vec::with_capacity(row.len());
    let fields: Vec<(&[u8], Vec<u8>)> = fields.map(|(name, value)| (name, sorted_value(value))).collect();
    let borrowed: Vec<(&[u8], &[u8])> =
        fields.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    write_row(&borrowed, &mut sorted);
    *row = sorted;
}

/// False: there is no map in a value.
pub(crate) fn may_hold_a_map(value: &[u8]) -> bool {
    matches!(value.first(), Some(0x80..=0x9f | 0xdc..=0xdf))
}

/// A value of this process's own encoding, with its maps in order. Recursive, as the encoder was.
pub(crate) fn sorted_value(value: &[u8]) -> Vec<u8> {
    let Some(head) = Head::read(value).filter(|head| head.values > 0) else { return value.to_vec() };
    let Some((first, mut rest)) = value.split_at_checked(head.bytes) else { return value.to_vec() };
    let mut members = Vec::new();
    while let Some((member, behind)) = split_value(rest) {
        members.push(sorted_value(member));
        rest = behind;
    }
    let mut sorted = first.to_vec();
    if head.is_map {
        let mut entries: Vec<&[Vec<u8>]> = members.chunks(2).collect();
        entries.sort();
        entries.into_iter().flatten().for_each(|member| sorted.extend_from_slice(member));
    } else {
        members.iter().for_each(|member| sorted.extend_from_slice(member));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    #[derive(Serialize, Clone, Debug)]
    struct Wide {
        flag: bool,
        small: i8,
        large: u64,
        float: f32,
        text: String,
        #[serde(with = "bytes")]
        raw: Vec<u8>,
        list: Vec<Option<i64>>,
        map: HashMap<String, Vec<u16>>,
        nested: BTreeMap<u32, HashMap<u8, char>>,
    }

    mod bytes {
        pub(super) fn serialize<S: serde::Serializer>(
            bytes: &[u8],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(bytes)
        }
    }

    fn wide() -> impl Strategy<Value = Wide> {
        let map =
            proptest::collection::hash_map(".{0,40}", proptest::collection::vec(any::<u16>(), 0..20), 0..20);
        let inner = proptest::collection::hash_map(any::<u8>(), any::<char>(), 0..20);
        let nested = proptest::collection::btree_map(any::<u32>(), inner, 0..4);
        let scalars = (any::<bool>(), any::<i8>(), any::<u64>(), any::<f32>());
        let lists = (
            ".{0,300}",
            proptest::collection::vec(any::<u8>(), 0..300),
            proptest::collection::vec(any::<Option<i64>>(), 0..20),
        );
        (scalars, lists, map, nested).prop_map(
            |((flag, small, large, float), (text, raw, list), map, nested)| Wide {
                flag,
                small,
                large,
                float,
                text,
                raw,
                list,
                map,
                nested,
            },
        )
    }

    proptest! {
        #[test]
        fn a_value_ends_where_its_encoder_ended_and_every_truncation_is_none(value in wide(), tail in any::<[u8; 3]>()) {
            let bytes = encoded(&value);
            let with_tail = [&bytes[..], &tail].concat();
            prop_assert_eq!(split_value(&with_tail), Some((&bytes[..], &tail[..])));
            for cut in 0..bytes.len() {
                prop_assert_eq!(split_value(&bytes[..cut]), None);
            }
            let names: Vec<&[u8]> = Fields::of(&bytes).unwrap().map(|(name, _)| name).collect();
            let expected = ["flag", "small", "large", "float", "text", "raw", "list", "map", "nested"];
            prop_assert_eq!(names, expected.map(str::as_bytes));
        }

        #[test]
        fn equal_maps_have_equal_bytes_whatever_order_they_come_in(value in wide()) {
            let again = Wide { map: value.map.clone().into_iter().collect(), ..value.clone() };
            let (mut one, mut other) = (encoded(&value), encoded(&again));
            canonical(&mut one);
            canonical(&mut other);
            prop_assert_eq!(&one, &other);
            let back: serde::de::IgnoredAny = rmp_serde::from_slice(&one).unwrap();
            let _ = back;
            prop_assert_eq!(split_value(&one).map(|(value, rest)| (value.len(), rest.len())), Some((one.len(), 0)));
        }

        #[test]
        fn bytes_of_anybody_end_somewhere_or_nowhere(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((value, rest)) = split_value(&bytes) {
                prop_assert_eq!(value.len() + rest.len(), bytes.len());
            }
            let _ = Fields::of(&bytes).map(Iterator::count);
        }
    }

    #[test]
    fn a_row_is_written_as_its_encoder_writes_it() {
        let names: Vec<String> = (0..40).map(|at| format!("{}{at}", "n".repeat(at * 8))).collect();
        for count in [0, 1, 15, 16, 40] {
            let map: BTreeMap<&str, u64> = names.iter().take(count).map(|name| (name.as_str(), 7)).collect();
            let bytes = encoded(&map);
            let fields: Vec<(&[u8], &[u8])> = Fields::of(&bytes).unwrap().collect();
            assert_eq!(fields.len(), count);
            let mut row = Vec::new();
            write_row(&fields, &mut row);
            assert_eq!(row, bytes);
        }
    }

    #[test]
    fn counts_that_no_bytes_stand_behind_end_at_once() {
        assert_eq!(split_value(&[0xdf, 255, 255, 255, 255]), None);
        assert_eq!(split_value(&[0xdd, 255, 255, 255, 255, 0x91, 0x91]), None);
        assert_eq!(split_value(&[0x91; 10_000]), None);
        assert!(Fields::of(&[0xdf, 255, 255, 255, 255]).unwrap().next().is_none());
    }
}
