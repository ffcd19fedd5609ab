//! Positions that leave the store, and come back.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::format::checksum::crc;
use crate::format::manifest::Manifest;
use crate::id::{KindId, Seq, StoreId};
use crate::state::schema::Bound;

/// How far somebody has followed live state: a position that may be kept outside of the store, with what tells
/// whether it still means the same when it comes back.
///
/// It names a place that was durable when it was given out, and a backup that is [restored](crate::restore) begins an era of its own. What is
/// not noticed is a log that has lost a durable end without one, and has grown past the place again: on a disk that lies about
/// syncs, or where files were put back by hand. As text it is the store, the era and the
/// [`Seq`], for example `5e1f…:1:42`.
///
/// ```
/// use esker::Token;
/// let text = "00112233445566778899aabbccddeeff:1:42";
/// let token: Token = text.parse()?;
/// assert_eq!(token.to_string(), text);
/// assert!("42".parse::<Token>().is_err());
/// # Ok::<(), esker::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub(crate) store: StoreId,
    pub(crate) era: u64,
    /// Everything up to this Seq was seen; 0: nothing.
    pub(crate) seq: u64,
}

/// Why what a reader gathered is not good any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Because {
    /// It had fallen too far behind.
    Lagged,
    /// It asked for it.
    Asked,
    /// Compaction has dropped what would tell what has changed since.
    Compacted,
    /// The bootstrap held back as much of the log as it may.
    HeldTooMuch,
    /// The store was restored or repaired since, or lost what the position names.
    Rewound,
    /// The position is one of another store.
    OtherStore,
    /// What was mirrored there is another kind.
    OtherKind,
    /// What was mirrored there are values of another version of the kind's schema, of one with fewer fields, or of one to which
    /// other steps lead.
    OtherSchema,
}

impl Token {
    pub(crate) fn of(manifest: &Manifest, seq: u64) -> Self {
        Self { store: manifest.store, era: manifest.era, seq }
    }

    /// The last entry that was seen; `None`: there was none.
    #[must_use]
    pub const fn seq(&self) -> Option<Seq> {
        Seq::new(self.seq)
    }

    /// Why it means nothing here, if so: `newest` is the last Seq that the store has.
    pub(crate) fn trouble(&self, manifest: &Manifest, newest: u64) -> Option<Because> {
        if self.store != manifest.store {
            return Some(Because::OtherStore);
        }
        (self.era != manifest.era || self.seq > newest).then_some(Because::Rewound)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.store, self.era, self.seq)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let mut parts = text.split(':');
            let (store, era, seq) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let mut bytes = [0; 16];
            if parts.next().is_some() || store.len() != 32 || !store.is_ascii() {
                return None;
            }
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(store.get(at * 2..at * 2 + 2)?, 16).ok()?;
            }
            Some(Self { store: StoreId(bytes), era, seq })
        };
        read().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "read a token").sides("STORE:ERA:SEQ", format!("{text:?}"))
        })
    }
}

/// How far the target of a [`Mirror`](crate::Mirror) has come: a [`Token`], with what of the kind has to be the same for
/// going on from there. The target keeps it, as its text, beside the rows.
///
/// The values that a target holds are those of one version of the kind's schema. Under another one, or with a field more, the
/// same rows of the log have other values, and all of them are handed over again. So they are where a
/// [step](crate::Kind::upcasts) was added or left out. What a step does nobody can compare: one that is to do something else than
/// it did should lead to a new version.
///
/// As text it is the position, the kind, the version and the number of fields; of a version to which steps lead also a checksum of
/// where those begin.
///
/// ```
/// use esker::MirrorToken;
/// let text = "00112233445566778899aabbccddeeff:1:42:7:2:5";
/// let token: MirrorToken = text.parse()?;
/// assert_eq!(token.to_string(), text);
/// assert_eq!(token.token().seq().unwrap().get(), 42);
/// # Ok::<(), esker::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MirrorToken {
    token: Token,
    kind: KindId,
    /// The version of the kind's schema,
    schema: u16,
    /// how many fields that had,
    fields: u16,
    /// and which steps led to it; 0: none.
    steps: u32,
}

/// The steps that lead to a version, in one number: a checksum of the versions that they begin at; 0: there are none.
fn digest_of_steps(bound: &Bound) -> u32 {
    let mut versions: Vec<u16> =
        bound.steps.iter().map(|(from, _)| *from).filter(|from| *from < bound.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let bytes: Vec<u8> = versions.iter().flat_map(|from| from.to_le_bytes()).collect();
    if bytes.is_empty() { 0 } else { crc(&[&bytes]).max(1) }
}

impl MirrorToken {
    /// Everything of the kind up to this Seq was handed over.
    pub(crate) fn of(manifest: &Manifest, bound: &Bound, seq: u64) -> Self {
        // At most `FIELDS_MAX`.
        let fields = u16::try_from(bound.fields.len()).unwrap_or(u16::MAX);
        let (token, steps) = (Token::of(manifest, seq), digest_of_steps(bound));
        Self { token, kind: bound.id, schema: bound.version, fields, steps }
    }

    /// The position.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// Why nothing can be handed over from here on but all the rows, if so: `newest` is the last Seq that the store has.
    pub(crate) fn trouble(&self, manifest: &Manifest, bound: &Bound, newest: u64) -> Option<Because> {
        self.token.trouble(manifest, newest).or_else(|| {
            let now = Self::of(manifest, bound, self.token.seq);
            if self.kind == now.kind {
                (*self != now).then_some(Because::OtherSchema)
            } else {
                Some(Because::OtherKind)
            }
        })
    }
}

impl fmt::Display for MirrorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.token, self.kind.0, self.schema, self.fields)?;
        // A token without steps is as builds before them wrote and read it.
        if self.steps == 0 { Ok(()) } else { write!(f, ":{:x}", self.steps) }
    }
}

impl FromStr for MirrorToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            // A position has three parts.
            let behind = text.match_indices(':').nth(2)?.0;
            let (position, rest) = text.split_at_checked(behind)?;
            let mut parts = rest.split(':').skip(1);
            let mut number = || parts.next()?.parse().ok();
            let (kind, schema, fields) = (KindId(number()?), number()?, number()?);
            let steps = match parts.next() {
                Some(steps) => u32::from_str_radix(steps, 16).ok().filter(|steps| *steps != 0)?,
                None => 0,
            };
            let token = position.parse().ok()?;
            parts.next().is_none().then_some(Self { token, kind, schema, fields, steps })
        };
        read().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "read the token of a mirror")
                .sides("STORE:ERA:SEQ:KIND:VERSION:FIELDS, or that and :STEPS", format!("{text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let token = Token { store: StoreId([0xa5; 16]), era: u64::MAX, seq: 7 };
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        let good = token.to_string();
        for bad in
            ["", ":", "::", &good[1..], &format!("{good}:1"), &format!("{good}x"), &good.replace('a', "é")]
        {
            let error = bad.parse::<Token>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn the_token_of_a_mirror_is_read_as_it_was_written_and_nothing_else_is() {
        let token = Token { store: StoreId([0xa5; 16]), era: 1, seq: u64::MAX };
        let without = MirrorToken { token, kind: KindId(u16::MAX), schema: 2, fields: 64, steps: 0 };
        let with = MirrorToken { steps: u32::MAX, ..without };
        let good = without.to_string();
        assert_eq!(with.to_string(), format!("{good}:ffffffff"));
        for token in [without, with] {
            let good = token.to_string();
            assert_eq!(good.parse::<MirrorToken>().unwrap(), token);
            let position = token.token().to_string();
            for bad in ["", ":::::", &position, &good[1..], &good.replace(":64", ":65536")] {
                let error = bad.parse::<MirrorToken>().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
            }
        }
        for bad in [":", ":0", ":x", ":100000000", ":1:1"] {
            let error = format!("{good}{bad}").parse::<MirrorToken>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
