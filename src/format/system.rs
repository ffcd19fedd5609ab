//! System frames: what the log says about itself. Kind 0, no Seq of their own.
//!
//! Every segment begins with one batch of them, the *preamble*, which restates the next Seq,
//! every kind and every cursor: any suffix of the log is whole without what stood before it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::frame::FRAME_BYTES;
use crate::id::{FRAME_ALIGN, Life, Position};

/// The operation byte of a system frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum System {
    /// The first frame of a segment.
    Preamble = 1,
    /// The first frame of a life.
    Open = 2,
    /// The last frame of a life that ended in order.
    Closed = 3,
    /// The last frame of a segment that rotation left.
    Seal = 4,
    /// Names the durable mark when the log went idle.
    Mark = 5,
    /// Registers a kind, or says more of one.
    Kind = 6,
    /// Says how far a cursor has come.
    Cursor = 7,
    /// In a part: what a batch was answered whose idempotency key is still remembered.
    Answer = 8,
    /// Says who has a source's number.
    Source = 9,
    /// Says how many events there were of a kind.
    Count = 10,
}

impl System {
    /// What a segment's index lists, so that an opening reads it: what preambles restate.
    pub(crate) fn is_restated(self) -> bool {
        matches!(self, Self::Preamble | Self::Kind | Self::Cursor | Self::Source | Self::Count)
    }

    pub(crate) fn of(operation: u8) -> Option<Self> {
        Some(match operation {
            1 => Self::Preamble,
            2 => Self::Open,
            3 => Self::Closed,
            4 => Self::Seal,
            5 => Self::Mark,
            6 => Self::Kind,
            7 => Self::Cursor,
            8 => Self::Answer,
            9 => Self::Source,
            10 => Self::Count,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Preamble => "preamble",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Seal => "seal",
            Self::Mark => "mark",
            Self::Kind => "kind",
            Self::Cursor => "cursor",
            Self::Answer => "answer",
            Self::Source => "source",
            Self::Count => "count",
        }
    }
}

/// The payload of a preamble frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PreambleBytes {
    next_seq: U64,
    log_bytes: U64,
    keyed_from: U64,
    lost: U64,
    forgot: U64,
    reserved: [U64; 3],
}

/// What a segment's first frame restates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preamble {
    /// The Seq of the next user frame.
    pub(crate) next_seq: u64,
    /// The bytes of log before this segment.
    pub(crate) log_bytes: u64,
    /// The first segment that holds a batch whose idempotency key is still remembered; zero: none.
    pub(crate) keyed_from: u64,
    /// How many user frames before this one a repair could not save.
    pub(crate) lost: u64,
    /// True once an entity was forgotten: an unknown one then starts at its Seq.
    pub(crate) forgot: bool,
}

impl Preamble {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = PreambleBytes {
            next_seq: U64::new(self.next_seq),
            log_bytes: U64::new(self.log_bytes),
            keyed_from: U64::new(self.keyed_from),
            lost: U64::new(self.lost),
            forgot: U64::new(u64::from(self.forgot)),
            reserved: [U64::ZERO; 3],
        };
        bytes.as_bytes().to_vec()
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (bytes, _) = PreambleBytes::read_from_prefix(payload).ok()?;
        Some(Self {
            next_seq: bytes.next_seq.get(),
            log_bytes: bytes.log_bytes.get(),
            keyed_from: bytes.keyed_from.get(),
            lost: bytes.lost.get(),
            forgot: bytes.forgot.get() != 0,
        })
    }
}

/// The payload of an open frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OpenBytes {
    previous_life: U32,
    pid: U32,
    recovered_end: U64,
}

/// The bytes of an open frame.
pub(crate) const OPEN_BYTES: u64 = (FRAME_BYTES + size_of::<OpenBytes>()) as u64;
const _: () = assert!(OPEN_BYTES.is_multiple_of(FRAME_ALIGN));

/// What the first frame of a life says: whose life went before, and where the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) previous_life: Life,
    pub(crate) pid: u32,
    pub(crate) recovered_end: Position,
}

impl Open {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = OpenBytes {
            previous_life: U32::new(self.previous_life.0),
            pid: U32::new(self.pid),
            recovered_end: U64::new(self.recovered_end.word()),
        };
        bytes.as_bytes().to_vec()
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (bytes, _) = OpenBytes::read_from_prefix(payload).ok()?;
        Some(Self {
            previous_life: Life(bytes.previous_life.get()),
            pid: bytes.pid.get(),
            recovered_end: Position::from_word(bytes.recovered_end.get()),
        })
    }
}

/// How the payloads of a kind are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Codec {
    /// Opaque bytes.
    Bytes,
    /// MessagePack with field names: the default of typed facts.
    MessagePack,
    /// JSON text.
    Json,
}

/// Who writes a kind, for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Owner {
    /// Immutable facts: any door may append.
    Facts,
    /// Live state: only the state layer writes.
    State,
    /// What sources have said of a kind of live state, operation by operation; the state layer writes it beside the
    /// rows.
    Events,
}

/// What compaction keeps of a kind, below the point up to which it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Keep {
    /// Every entry.
    #[default]
    All,
    /// The newest entry of each entity, and nothing of one whose newest entry is a tombstone that has
    /// had its time.
    Latest,
    /// Nothing.
    Nothing,
    /// Of facts that are a [`Topic`](crate::Topic)'s, those that its folds still need: every event behind the last that is in the newest
    /// image of each [registered](crate::TopicHandle::fold) fold, and every event of a key of which one of them has none. The
    /// newest event always. A topic keeps [all](Self::All) unless it is told this: it may go where everybody who makes a value of the
    /// events is a registered fold.
    ///
    /// So it excludes [`Store::project`](crate::Store::project) and
    /// [`watch_projection_durable`](crate::Store::watch_projection_durable) over the same events: they register nothing and have no
    /// images, and behind a compaction they answer `Compacted`, for ever.
    ///
    /// In a store that was [restored](crate::restore), or [repaired](crate::repair()) with its manifest whole, images count as before. In
    /// one that was imported none does, nor where a repair found no manifest: a fold over a topic of which something went
    /// halts there ([`EraChanged`](crate::HaltReason::EraChanged)), and the value of the events that went is lost to it.
    Fold,
}

impl Keep {
    /// Nothing goes but what a floor of its topic hides.
    pub(crate) const fn goes_by_floors(self) -> bool {
        matches!(self, Self::All | Self::Fold)
    }
}

/// What the registry says of a kind: enough to decode its payloads without the application.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct KindInfo {
    /// The number in this store.
    pub id: crate::id::KindId,
    /// The name that the application gives it.
    pub name: String,
    /// The version of its schema, from 1.
    pub version: u16,
    /// How its payloads are encoded.
    pub codec: Codec,
    /// Who may write it.
    pub owner: Owner,
    /// What compaction keeps of it.
    pub keep: Keep,
    /// The names of its fields, in the order of declaration; empty where they are not known.
    pub fields: Vec<String>,
}

/// A kind's name is at most this many bytes.
pub const KIND_NAME_BYTES_MAX: usize = 255;
/// A kind has at most this many fields.
pub const FIELDS_MAX: usize = 64;
/// A field's name is at most this many bytes.
pub(crate) const FIELD_NAME_BYTES_MAX: usize = 255;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct KindBytes {
    id: U16,
    version: U16,
    codec: u8,
    owner: u8,
    keep: u8,
    field_count: u8,
}

impl KindInfo {
    /// The fixed part, then the name and each field's name behind a length byte.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let fixed = KindBytes {
            id: U16::new(self.id.0),
            version: U16::new(self.version),
            codec: match self.codec {
                Codec::Bytes => 0,
                Codec::MessagePack => 1,
                Codec::Json => 2,
            },
            owner: match self.owner {
                Owner::Facts => 0,
                Owner::State => 1,
                Owner::Events => 2,
            },
            keep: match self.keep {
                Keep::All => 0,
                Keep::Latest => 1,
                Keep::Nothing => 2,
                Keep::Fold => 3,
            },
            field_count: u8::try_from(self.fields.len()).unwrap_or(u8::MAX),
        };
        let mut bytes = fixed.as_bytes().to_vec();
        for text in std::iter::once(&self.name).chain(&self.fields) {
            bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (fixed, mut rest) = KindBytes::read_from_prefix(payload).ok()?;
        let name = take_text(&mut rest)?;
        let fields = (0..fixed.field_count).map(|_| take_text(&mut rest)).collect::<Option<Vec<_>>>()?;
        Some(Self {
            id: crate::id::KindId(fixed.id.get()),
            name,
            version: fixed.version.get(),
            codec: match fixed.codec {
                0 => Codec::Bytes,
                1 => Codec::MessagePack,
                2 => Codec::Json,
                _ => return None,
            },
            owner: match fixed.owner {
                0 => Owner::Facts,
                1 => Owner::State,
                2 => Owner::Events,
                _ => return None,
            },
            keep: match fixed.keep {
                0 => Keep::All,
                1 => Keep::Latest,
                2 => Keep::Nothing,
                3 => Keep::Fold,
                _ => return None,
            },
            fields,
        })
    }
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_system_frames_give_back_what_was_written_and_refuse_every_truncation() {
        let kind = KindInfo {
            id: crate::id::KindId(9),
            name: "vessel".into(),
            version: 2,
            codec: Codec::MessagePack,
            owner: Owner::Facts,
            keep: Keep::Latest,
            fields: vec!["name".into(), "knots".into()],
        };
        let bytes = kind.encode();
        assert_eq!(KindInfo::read(&bytes), Some(kind));
        assert!((0..bytes.len()).all(|cut| KindInfo::read(&bytes[..cut]).is_none()));

        let preamble = Preamble { next_seq: 4, log_bytes: 9, keyed_from: 2, lost: 1, forgot: true };
        assert_eq!(Preamble::read(&preamble.encode()), Some(preamble));
        let open = Open { previous_life: Life(3), pid: 77, recovered_end: Position::new(2, 64) };
        assert_eq!(Open::read(&open.encode()), Some(open));
        assert!(Preamble::read(&[0; 63]).is_none() && Open::read(&[]).is_none());
    }

    #[test]
    fn a_kind_gives_back_each_way_to_encode_to_own_and_to_keep_it() {
        let kind = |codec, owner, keep| KindInfo {
            id: crate::id::KindId(1),
            name: "k".into(),
            version: 1,
            codec,
            owner,
            keep,
            fields: vec![],
        };
        for codec in [Codec::Bytes, Codec::MessagePack, Codec::Json] {
            for owner in [Owner::Facts, Owner::State, Owner::Events] {
                for keep in [Keep::All, Keep::Latest, Keep::Nothing, Keep::Fold] {
                    let kind = kind(codec, owner, keep);
                    assert_eq!(KindInfo::read(&kind.encode()), Some(kind));
                }
            }
        }
        let bytes = kind(Codec::Bytes, Owner::Facts, Keep::All).encode();
        for at in 4..7 {
            let mut unknown = bytes.clone();
            unknown[at] = 4;
            assert_eq!(KindInfo::read(&unknown), None, "byte {at}");
        }
    }

    #[test]
    fn every_operation_of_a_system_frame_is_known_by_its_number_and_has_a_name_of_its_own() {
        let known: Vec<System> = (0..=u8::MAX).filter_map(System::of).collect();
        assert!(known.iter().map(|system| *system as u8).eq(1..=10));
        let names: std::collections::BTreeSet<&str> = known.iter().map(|system| system.name()).collect();
        assert!(names.len() == known.len() && !names.contains(""));
        let restated = known.iter().filter(|system| system.is_restated()).map(|system| system.name());
        assert!(restated.eq(["preamble", "kind", "cursor", "source", "count"]));
    }
}
