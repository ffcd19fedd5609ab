//! Who comes and goes: facts of the kind `esker.sessions`, which the library itself writes.

use serde::{Deserialize, Serialize};

use crate::codec::{encoded, fields};
use crate::error::Result;
use crate::format::system::{Codec, Owner};
use crate::id::KindId;
use crate::journal::core::Core;
use crate::journal::registry::{KindSpec, SESSIONS_NAME, check_own};

const VERSION: u16 = 1;

/// What became of a source that has a deadline: a fact of the kind [`SESSIONS`](crate::SESSIONS), about the entity that
/// has the source's name.
///
/// What cannot be written, on a full disk, is written later: of each source the four events that came last.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEvent {
    /// It is there: somebody claimed it, or it gave a sign of life after its deadline. Behind another one: the store
    /// was closed in between, or the process ended.
    Begun {
        /// Its number.
        source: u8,
    },
    /// Its session ended, or what it asserted.
    Ended {
        /// Its number.
        source: u8,
        /// Why.
        because: SessionEnd,
    },
}

/// Why a source is not there any more.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The last clone of its session was dropped: from now on it has the time of its deadline to come back.
    Dropped,
    /// Its session was closed ([`Source::close`](crate::Source::close)).
    Closed,
    /// It was silent for longer than its deadline: what it asserted is taken back. It may be told again if the process
    /// ended meanwhile.
    Deadline,
}

/// The number of a kind of the library's own.
///
/// # Errors
///
/// `InvalidInput` if the name is reserved and there is no such kind.
pub(crate) fn register(core: &Core, name: &str) -> Result<KindId> {
    let fields = fields::names::<SessionEvent>().iter().map(|field| (*field).to_owned()).collect();
    let (codec, owner) = (Codec::MessagePack, Owner::Facts);
    let spec = KindSpec { name: name.to_owned(), version: VERSION, codec, owner, fields };
    check_own(&spec)?;
    Ok(core.register_any(spec)?.id)
}

/// Says what became of a source.
pub(crate) fn append(core: &Core, source: &str, event: SessionEvent) -> Result<()> {
    let kind = register(core, SESSIONS_NAME)?;
    encoded(SESSIONS_NAME, &event, |payload| core.append_own(kind, VERSION, source.as_bytes(), payload))
}
