//! The value of a fold over a topic on its way, alone or beside a second one that has to come to the same.

use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::backplane::StreamRecord;
use crate::codec;
use crate::codec::fields::{Shape, shape};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::{At, Fold};

/// The value, and the second one of a fold that is verified.
pub(super) struct Value<F: Fold> {
    pub(super) first: F::State,
    second: Option<F::State>,
}

impl<F: Fold> Value<F> {
    /// The second is a clone: what a map is ordered by in memory is then the same in both.
    pub(super) fn new(first: F::State, is_verified: bool) -> Self {
        Self { second: is_verified.then(|| first.clone()), first }
    }

    pub(super) fn decode(bytes: &[u8], is_verified: bool) -> Result<Self, rmp_serde::decode::Error> {
        codec::decode_bytes(bytes).map(|first| Self::new(first, is_verified))
    }

    /// Takes a record in, which is decoded for each.
    pub(super) fn take(&mut self, record: &StreamRecord, at: &At, schema: u16) -> Result<(), Unfit> {
        let event = decode::<F::Event>(record, schema)?;
        F::fold(&mut self.first, event, at);
        if let Some(second) = &mut self.second {
            F::fold(second, decode::<F::Event>(record, schema)?, at);
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        encoded(&self.first)
    }

    /// False if the two are not the same: the fold is no pure function.
    pub(super) fn agrees(&self) -> Result<bool> {
        let Some(second) = &self.second else { return Ok(true) };
        let (first, second) = (encoded(&self.first)?, encoded(second)?);
        if first == second {
            return Ok(true);
        }
        let sorted = |bytes: &[u8]| codec::decode_bytes::<Sorted>(bytes).map(|sorted| sorted.0);
        match (sorted(&first), sorted(&second)) {
            (Ok(first), Ok(second)) => Ok(first == second),
            (Err(cause), _) | (_, Err(cause)) => {
                Err(Error::new(ErrorKind::Codec, format!("compare values of the fold {:?}", F::NAME))
                    .because(cause))
            }
        }
    }
}

fn encoded<S: Serialize>(state: &S) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode("esker.images", state, &mut bytes)?;
    Ok(bytes)
}

/// Why a record is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A later build wrote it: its version is higher, or it has a variant that this one does not know.
    Newer(String),
    /// It is a whole value, and not of this type.
    Schema(String),
    /// The same, written as an earlier version: this build lacks what makes it one of this type.
    Older(String),
    /// It is no whole value: no build can have written it.
    Undecodable(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, text) = match self {
            Self::Newer(text) => ("a later build wrote it", text),
            Self::Schema(text) => ("it is of another type", text),
            Self::Older(text) => ("it is of an earlier version", text),
            Self::Undecodable(text) => ("it is no value", text),
        };
        write!(f, "{why}: {text}")
    }
}

/// Reads a record as an event, as of a version: the one answer of folds and of whoever reads the topic.
pub(crate) fn decode<'r, T: Deserialize<'r>>(record: &'r StreamRecord, schema: u16) -> Result<T, Unfit> {
    if record.schema() > schema {
        return Err(Unfit::Newer(format!(
            "written as version {}, read as version {schema}",
            record.schema()
        )));
    }
    let decoded = codec::decode_bytes(record.payload()).map_err(|error| {
        let text = format!("written as version {}, read as version {schema}: {error}", record.schema());
        match codec::decode_bytes::<serde::de::IgnoredAny>(record.payload()) {
            Err(_) => Unfit::Undecodable(text),
            Ok(_) if codec::is_unknown_variant(&error) => Unfit::Newer(text),
            // Of what does not say its version nothing is known but that it is no such value.
            Ok(_) if (1..schema).contains(&record.schema()) => Unfit::Older(text),
            Ok(_) => Unfit::Schema(text),
        }
    });
    match decoded {
        Err(unfit @ (Unfit::Schema(_) | Unfit::Older(_))) => as_other(record.payload()).ok_or(unfit),
        other => other,
    }
}

/// An event of a variant that its type does not know and has a `#[serde(other)]` for, where it has content: serde leaves that
/// to be read as nothing, and the decoder refuses to.
///
/// Only of a type that says which variants it has, and is not asked for one of those: whatever else takes a name for a
/// value, such as a string, would take it for an event.
fn as_other<'r, T: Deserialize<'r>>(payload: &'r [u8]) -> Option<T> {
    const MAP_OF_ONE: u8 = 0x81;
    let Shape::Enum(variants) = shape::<T>() else { return None };
    let (&[MAP_OF_ONE, marker], rest) = payload.split_first_chunk::<2>()? else { return None };
    let length = match marker {
        0xa0..=0xbf => usize::from(marker & 0x1f),
        0xd9 => 1 + usize::from(*rest.first()?),
        _ => return None,
    };
    let name = payload.get(1..2 + length)?;
    let is_known = variants.contains(&codec::decode_bytes::<&str>(name).ok()?);
    codec::decode_bytes(name).ok().filter(|_| !is_known)
}

/// An encoded value with the entries of each map in one order.
struct Sorted(Vec<u8>);

impl Sorted {
    fn of(tag: u8, bytes: &[u8]) -> Self {
        let mut sorted = vec![tag];
        sorted.extend((bytes.len() as u64).to_le_bytes());
        sorted.extend(bytes);
        Self(sorted)
    }
}

impl<'de> Deserialize<'de> for Sorted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SortedVisitor)
    }
}

struct SortedVisitor;

macro_rules! leaves {
    ($($visit:ident($type:ty) $tag:literal $bytes:expr;)*) => {$(
        fn $visit<E>(self, value: $type) -> Result<Sorted, E> {
            let bytes: fn($type) -> Vec<u8> = $bytes;
            Ok(Sorted::of($tag, &bytes(value)))
        }
    )*};
}

impl<'de> Visitor<'de> for SortedVisitor {
    type Value = Sorted;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    leaves! {
        visit_bool(bool) 1 |value| vec![u8::from(value)];
        visit_u64(u64) 2 |value| i128::from(value).to_le_bytes().to_vec();
        visit_i64(i64) 2 |value| i128::from(value).to_le_bytes().to_vec();
        visit_f32(f32) 3 |value| value.to_le_bytes().to_vec();
        visit_f64(f64) 4 |value| value.to_le_bytes().to_vec();
        visit_str(&str) 5 |value| value.as_bytes().to_vec();
        visit_bytes(&[u8]) 6 |value| value.to_vec();
    }

    fn visit_unit<E>(self) -> Result<Sorted, E> {
        Ok(Sorted::of(7, &[]))
    }

    fn visit_none<E>(self) -> Result<Sorted, E> {
        Ok(Sorted::of(7, &[]))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Sorted, D::Error> {
        let inner = Vec::<Sorted>::deserialize(inner)?;
        Ok(Sorted::of(8, &inner.into_iter().flat_map(|part| part.0).collect::<Vec<u8>>()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Sorted, A::Error> {
        let mut all = Vec::new();
        while let Some(Sorted(part)) = parts.next_element()? {
            all.extend(part);
        }
        Ok(Sorted::of(9, &all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Sorted, A::Error> {
        let mut all = Vec::new();
        while let Some((Sorted(key), Sorted(value))) = entries.next_entry()? {
            all.push([key, value].concat());
        }
        all.sort_unstable();
        Ok(Sorted::of(10, &all.concat()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::backplane::Offset;

    #[derive(Deserialize, Debug, PartialEq)]
    enum Known {
        Placed(u32),
    }

    #[derive(Deserialize, Debug, PartialEq)]
    enum Tolerant {
        Placed(u32),
        Known,
        #[serde(other)]
        Other,
    }

    #[derive(Deserialize, Debug, PartialEq)]
    struct Wrapped(Option<Tolerant>);

    #[derive(Deserialize, Debug, PartialEq)]
    struct Named(String);

    #[derive(Serialize)]
    enum Later {
        Placed(u32),
        Shipped,
        Pair { first: u32 },
        Known(u32),
    }

    fn record(payload: Vec<u8>, schema: u16) -> StreamRecord {
        StreamRecord::new(Offset::from_raw(1), None, 0, &b"k"[..], payload).with_schema(schema)
    }

    #[test]
    fn what_a_later_build_wrote_is_told_from_what_is_of_another_type_and_from_what_nobody_wrote() {
        let placed = encoded(&Later::Placed(3)).unwrap();
        let shipped = encoded(&Later::Shipped).unwrap();
        assert_eq!(decode::<Known>(&record(placed.clone(), 1), 1), Ok(Known::Placed(3)));
        assert!(matches!(decode::<Known>(&record(placed, 2), 1), Err(Unfit::Newer(_))));
        assert!(matches!(decode::<Known>(&record(shipped.clone(), 1), 1), Err(Unfit::Newer(_))));
        assert_eq!(decode::<Tolerant>(&record(shipped.clone(), 1), 1), Ok(Tolerant::Other));
        assert!(matches!(decode::<u32>(&record(shipped.clone(), 1), 1), Err(Unfit::Schema(_))));
        let pair = encoded(&Later::Pair { first: 1 }).unwrap();
        assert_eq!(decode::<Tolerant>(&record(pair.clone(), 1), 1), Ok(Tolerant::Other));
        assert!(matches!(decode::<Known>(&record(pair, 1), 1), Err(Unfit::Newer(_))));
        let known = encoded(&Later::Known(5)).unwrap();
        assert!(matches!(decode::<Tolerant>(&record(known, 1), 1), Err(Unfit::Schema(_))), "it is no other");
        let placed = record(encoded(&Later::Placed(3)).unwrap(), 1);
        let schema = |unfit: Option<Unfit>| matches!(unfit, Some(Unfit::Schema(_)));
        assert!(schema(decode::<String>(&placed, 1).err()), "a name is no text");
        assert!(schema(decode::<Option<String>>(&placed, 1).err()));
        assert!(schema(decode::<Named>(&placed, 1).err()));
        let pair = record(encoded(&Later::Pair { first: 1 }).unwrap(), 1);
        assert_eq!(decode::<Wrapped>(&pair, 1), Ok(Wrapped(Some(Tolerant::Other))));
        assert!(schema(decode::<Wrapped>(&record(encoded(&Later::Known(5)).unwrap(), 1), 1).err()));
        let cut = shipped[..shipped.len() - 1].to_vec();
        assert!(matches!(decode::<Known>(&record(cut, 1), 1), Err(Unfit::Undecodable(_))));
        let longer = [shipped, vec![1]].concat();
        assert!(matches!(decode::<Known>(&record(longer, 1), 1), Err(Unfit::Undecodable(_))));
    }

    #[test]
    fn maps_are_the_same_in_any_order_and_lists_are_not() {
        let sorted = |bytes: &[u8]| codec::decode_bytes::<Sorted>(bytes).unwrap().0;
        let maps = [[("a", Some(-1)), ("b", None)], [("b", None), ("a", Some(-1))]];
        let bytes = maps.map(|entries| {
            let map: Vec<u8> = [
                vec![0x82],
                entries.map(|(key, value)| encoded(&(key, value)).unwrap()[1..].to_vec()).concat(),
            ]
            .concat();
            assert!(codec::decode_bytes::<HashMap<String, Option<i64>>>(&map).is_ok());
            map
        });
        assert_ne!(bytes[0], bytes[1]);
        assert_eq!(sorted(&bytes[0]), sorted(&bytes[1]));
        assert_ne!(sorted(&encoded(&[1, 2]).unwrap()), sorted(&encoded(&[2, 1]).unwrap()));
        assert_ne!(sorted(&encoded(&(1.5, "a")).unwrap()), sorted(&encoded(&(1.5, "b")).unwrap()));
    }
}
