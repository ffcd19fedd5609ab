//! Which number a typed handle has in one store: looked up on every append, registered once.

use std::any::type_name;
use std::collections::HashMap;

use parking_lot::RwLock;
use serde::Deserialize;

use crate::codec::fields;
use crate::error::{Error, ErrorKind, Result};
use crate::format::system::{Codec, KindInfo, Owner};
use crate::id::KindId;
use crate::journal::Journal;
use crate::journal::registry::{KindSpec, is_reserved};
use crate::state::presence;
use crate::store::facts::Facts;

/// The handles that were used to append.
///
/// One name means one version and one list of fields in a store that is open: two types may
/// share a name only where they tell the same.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    bound: RwLock<Bound>,
}

#[derive(Debug, Default)]
struct Bound {
    /// Found by address, so that an append hashes five words and no text. A text that the
    /// compiler laid down twice is here twice.
    by_handle: HashMap<Handle, KindId>,
    by_name: HashMap<&'static str, Meaning>,
}

/// A handle's name and Rust type, each as the place and length of its static text.
type Handle = (usize, usize, usize, usize, u16);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Meaning {
    id: KindId,
    version: u16,
    fields: &'static [&'static str],
}

impl Kinds {
    /// The number of a kind that is to be appended to, registered if this is its first use.
    #[inline]
    pub(crate) fn bind<'t, T: Deserialize<'t>>(&self, journal: &Journal, kind: Facts<T>) -> Result<KindId> {
        let handle = handle(kind);
        if let Some(id) = self.bound.read().by_handle.get(&handle) {
            return Ok(*id);
        }
        // The probe runs code of `T`: not under the lock.
        self.bind_first(journal, handle, kind.name(), kind.schema_version(), fields::names::<T>())
    }

    #[cold]
    fn bind_first(
        &self,
        journal: &Journal,
        handle: Handle,
        name: &'static str,
        version: u16,
        fields: &'static [&'static str],
    ) -> Result<KindId> {
        let mut bound = self.bound.write();
        let id = match bound.by_name.get(name) {
            Some(known) if (known.version, known.fields) == (version, fields) => known.id,
            Some(known) => return Err(differs(name, (known.version, known.fields), (version, fields))),
            None => {
                let id = register(journal, name, version, fields)?;
                bound.by_name.insert(name, Meaning { id, version, fields });
                id
            }
        };
        bound.by_handle.insert(handle, id);
        Ok(id)
    }
}

fn handle<T>(kind: Facts<T>) -> Handle {
    let (name, rust) = (kind.name(), type_name::<T>());
    (name.as_ptr().addr(), name.len(), rust.as_ptr().addr(), rust.len(), kind.schema_version())
}

fn register(journal: &Journal, name: &str, version: u16, fields: &[&str]) -> Result<KindId> {
    if is_reserved(name) {
        // Whatever type it is read as: it is the library that says what it is.
        return presence::register(journal.core(), name);
    }
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    let (codec, owner) = (Codec::MessagePack, Owner::Facts);
    let spec = KindSpec { name: name.to_owned(), version, codec, owner, fields };
    Ok(journal.register(spec)?.id)
}

type Told = (u16, &'static [&'static str]);

fn differs(name: &str, known: Told, asked: Told) -> Error {
    let side = |(version, fields): Told| format!("version {version} with the fields {fields:?}");
    Error::new(ErrorKind::KindMismatch, format!("append to the kind {name:?}, which another type uses"))
        .sides(side(known), side(asked))
}

/// The number of a kind that is to be read as facts.
pub(crate) fn readable(known: &KindInfo) -> Result<KindId> {
    let (codec, owner) = (known.codec, known.owner);
    if (codec, owner) == (Codec::MessagePack, Owner::Facts) {
        return Ok(known.id);
    }
    let side = |codec: Codec, owner: Owner| format!("codec {codec:?}, owner {owner:?}");
    Err(Error::new(ErrorKind::KindMismatch, format!("read the kind {:?} as facts", known.name))
        .sides(side(Codec::MessagePack, Owner::Facts), side(codec, owner)))
}
