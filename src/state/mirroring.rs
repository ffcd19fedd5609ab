//! What a mirror hands to its target: all the rows of one moment, or what has changed since another.
//!
//! Both are walks over a view that ends at a durable place behind a whole flush, so that what is compacted or written
//! meanwhile does not show. No row is gathered: one is held when it comes up. Each ends with the token of
//! its place, which is given to nobody who has not taken everything before it: **a target that
//! stores the token has the rows that belong to it**.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::format::row::RowOperation;
use crate::journal::entry::Entry;
use crate::journal::view::View;
use crate::state::change::{Change, ChangeKind};
use crate::state::kind::Kind;
use crate::state::net::Net;
use crate::state::reading::{Row, Walk};
use crate::state::schema::Bound;
use crate::state::subscribing::{Behind, Choice};
use crate::state::token::MirrorToken;

/// What a [`Mirror`](crate::Mirror) keeps equal to a kind: a database, an index, a file.
///
/// Each call of [`replace_all`](Self::replace_all) and [`apply`](Self::apply) is one transaction of the target, and stores the
/// token that it ends with in the same transaction. That is all there is to it: the token says what the rows are, however
/// either side was interrupted. Every round begins with asking for it anew.
///
/// ```
/// use std::collections::BTreeMap;
/// use esker::{Kind, MirrorChanges, MirrorRows, MirrorTarget, MirrorToken, Store};
/// # #[derive(serde::Serialize, serde::Deserialize, Clone)]
/// # struct Vessel { name: String, knots: f32 }
/// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
///
/// /// Names by key. A copy that takes the place of this one stands for a transaction.
/// #[derive(Clone, Default)]
/// struct Names {
///     names: BTreeMap<Vec<u8>, String>,
///     token: Option<MirrorToken>,
/// }
///
/// impl MirrorTarget<Vessel> for Names {
///     type Error = esker::Error;
///
///     fn token(&mut self) -> esker::Result<Option<MirrorToken>> {
///         Ok(self.token)
///     }
///
///     fn replace_all(&mut self, rows: &mut MirrorRows<Vessel>) -> esker::Result<()> {
///         let mut next = Names::default();
///         while let Some(row) = rows.next_row()? {
///             next.names.insert(row.key().to_vec(), row.value()?.name);
///         }
///         next.token = Some(rows.token()?);
///         *self = next;
///         Ok(())
///     }
///
///     fn apply(&mut self, changes: &mut MirrorChanges<Vessel>) -> esker::Result<()> {
///         let mut next = self.clone();
///         while let Some(change) = changes.next_change()? {
///             match change.value()? {
///                 Some(vessel) => next.names.insert(change.key().to_vec(), vessel.name),
///                 None => next.names.remove(change.key()),
///             };
///         }
///         next.token = Some(changes.token()?);
///         *self = next;
///         Ok(())
///     }
/// }
///
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let radar = store.source("radar")?;
/// radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into(), knots: 11.2 })?;
/// store.flush()?;
///
/// let mut mirror = store.mirror(VESSEL).start(Names::default())?;
/// mirror.catch_up()?;
/// assert_eq!(mirror.target().names[&b"mmsi:2190"[..]], "Ada");
/// # Ok(()) }
/// ```
pub trait MirrorTarget<T> {
    /// Why a call failed.
    type Error: Into<Box<dyn std::error::Error + Send + Sync>>;

    /// The token of the last transaction that was committed; `None`: there is none, and nothing is known of the rows. To have all
    /// of them handed over again, for example because the target's own layout is another one, answer `None`.
    ///
    /// It is the first call of every round, also behind an error or a panic of another call: the place to connect again.
    ///
    /// # Errors
    ///
    /// The round has failed, and is tried again.
    fn token(&mut self) -> Result<Option<MirrorToken>, Self::Error>;

    /// Makes these the rows, whatever was there before, and stores [`rows.token()`](MirrorRows::token): all of it, or nothing.
    ///
    /// # Errors
    ///
    /// The round has failed, and is tried again.
    fn replace_all(&mut self, rows: &mut MirrorRows<T>) -> Result<(), Self::Error>;

    /// Applies these changes to the rows of the stored token, and stores [`changes.token()`](MirrorChanges::token): all of it, or
    /// nothing. There may be no change, and only another token.
    ///
    /// # Errors
    ///
    /// The round has failed, and is tried again.
    fn apply(&mut self, changes: &mut MirrorChanges<T>) -> Result<(), Self::Error>;
}

/// What is known of something while it is handed over.
#[derive(Debug)]
struct Handing {
    /// The place that it ends with.
    token: MirrorToken,
    /// So much of it was taken.
    taken: u64,
    /// All of it was.
    has_ended: bool,
    /// The token was too.
    is_signed: bool,
    /// Where nobody can read on, the token is not given out.
    failure: Option<(ErrorKind, String)>,
}

impl Handing {
    fn of(token: MirrorToken) -> Self {
        Self { token, taken: 0, has_ended: false, is_signed: false, failure: None }
    }

    /// Takes note of a step. `None`: there is no more.
    fn note<N>(&mut self, stepped: Result<Option<N>>) -> Result<Option<N>> {
        match &stepped {
            Ok(Some(_)) => self.taken += 1,
            Ok(None) => self.has_ended = true,
            Err(error) => self.failure = Some((error.kind(), error.to_string())),
        }
        stepped
    }

    /// What was passed over for an error is missing, however far somebody reads on.
    fn check(&self) -> Result<()> {
        self.failure().map_or(Ok(()), Err)
    }

    fn failure(&self) -> Option<Error> {
        let (kind, text) = self.failure.as_ref()?;
        Some(Error::new(*kind, "hand over to the target of a mirror").because(text.clone()))
    }

    fn sign(&mut self) -> Result<MirrorToken> {
        self.check()?;
        if !self.has_ended {
            let found = format!("{} of it so far", self.taken);
            return Err(Error::new(ErrorKind::InvalidInput, "give out the token of a mirror")
                .sides("that everything before it was taken", found));
        }
        self.is_signed = true;
        Ok(self.token)
    }
}

/// Something that is handed over: what the mirror wants to know of it afterwards.
pub(crate) trait Handed {
    /// How much of it was taken.
    fn taken(&self) -> u64;
    /// All of it was taken, and the token with it.
    fn is_signed(&self) -> bool;
    /// Why it could not be read on.
    fn failure(&self) -> Option<Error>;
    /// The entity that was taken last, if the target has not come to the end.
    fn last(&self) -> Option<String>;
}

/// The rows of a kind as of one moment, once each, for a target that takes them all; then the token of that moment.
pub struct MirrorRows<T> {
    kind: Kind<T>,
    walk: Walk,
    handing: Handing,
}

impl<T> MirrorRows<T> {
    /// All there are in a view, which ends where the token says.
    pub(crate) fn new(kind: Kind<T>, bound: &Bound, view: View, token: MirrorToken) -> Self {
        Self { kind, walk: Walk::new(view, bound.id), handing: Handing::of(token) }
    }

    /// The next row, in the order in which they were written last; `None`: there is no more. Its
    /// [`value`](Row::value) may be an error that names it: what becomes of it then is the target's decision, and others are
    /// not affected. What a target has of its metadata, its Seq and its time is that of one frame of it, not always the newest.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if the log cannot be read on. There is no token then, and the transaction cannot be completed.
    pub fn next_row(&mut self) -> Result<Option<Row<'_, T>>> {
        self.handing.check()?;
        let stepped = self.walk.advance().map(|found| found.then_some(()));
        match self.handing.note(stepped)? {
            Some(()) => self.walk.entry().map(|entry| Row::of(self.kind, entry)).transpose(),
            None => Ok(None),
        }
    }

    /// The token that is stored with the rows, once [`next_row`](Self::next_row) has answered `None`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` before that; and what `next_row` has answered.
    pub fn token(&mut self) -> Result<MirrorToken> {
        self.handing.sign()
    }
}

impl<T> Handed for MirrorRows<T> {
    fn taken(&self) -> u64 {
        self.handing.taken
    }

    fn is_signed(&self) -> bool {
        self.handing.is_signed
    }

    fn failure(&self) -> Option<Error> {
        self.handing.failure()
    }

    fn last(&self) -> Option<String> {
        last(self.kind, &self.handing, self.walk.entry())
    }
}

impl<T> fmt::Debug for MirrorRows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MirrorRows({:?}, {} taken)", self.kind, self.handing.taken)
    }
}

/// What has become of the entities of a kind since the stored token, once for each of which something has changed, in the order
/// of their newest frames; then the token to be stored.
///
/// However often an entity changed in between, it is one change, or none where it was not there before and is not
/// there now. Changes only of who asserts an entity are updates of no field.
pub struct MirrorChanges<T> {
    kind: Kind<T>,
    bound: Arc<Bound>,
    net: Net,
    handing: Handing,
}

impl<T> MirrorChanges<T> {
    /// What a view comes to behind a Seq, up to its end, where the token is.
    pub(crate) fn new(kind: Kind<T>, bound: &Arc<Bound>, view: View, from: u64, token: MirrorToken) -> Self {
        let choice = Choice {
            bootstrap: false,
            previous: false,
            // What a target has of a row is to be what a row says of itself, who asserts it included.
            sources: true,
            metadata: true,
            behind: Behind::Resume,
            capacity: 0,
            bootstrap_hold: 0,
        };
        let through = token.token().seq;
        let net = Net::new(view, Arc::clone(bound), (from, through), &choice);
        Self { kind, bound: Arc::clone(bound), net, handing: Handing::of(token) }
    }

    /// The next change; `None`: there is no more. Its [`value`](Change::value) may be an error that names it, as of
    /// [`MirrorRows::next_row`].
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if the log cannot be read on. There is no token then, and the transaction cannot be completed.
    pub fn next_change(&mut self) -> Result<Option<Change<'_, T>>> {
        self.handing.check()?;
        let stepped = self.net.advance();
        let Some(netted) = self.handing.note(stepped)? else { return Ok(None) };
        let what = match netted.operation {
            RowOperation::Created => ChangeKind::Created,
            RowOperation::Deleted => ChangeKind::Deleted,
            RowOperation::Updated | RowOperation::Sources => ChangeKind::Updated,
        };
        let Some(entry) = self.net.entry() else { return Ok(None) };
        let row = Row::of(self.kind, entry)?;
        Ok(Some(Change {
            metadata: row.metadata(),
            row,
            kind: self.kind,
            what,
            changed: netted.changed,
            recreated: netted.recreated,
            fields: &self.bound.fields,
            previous: None,
        }))
    }

    /// The token that is stored with the changes, once [`next_change`](Self::next_change) has answered `None`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` before that; and what `next_change` has answered.
    pub fn token(&mut self) -> Result<MirrorToken> {
        self.handing.sign()
    }
}

impl<T> Handed for MirrorChanges<T> {
    fn taken(&self) -> u64 {
        self.handing.taken
    }

    fn is_signed(&self) -> bool {
        self.handing.is_signed
    }

    fn failure(&self) -> Option<Error> {
        self.handing.failure()
    }

    fn last(&self) -> Option<String> {
        last(self.kind, &self.handing, self.net.entry())
    }
}

impl<T> fmt::Debug for MirrorChanges<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MirrorChanges({:?}, {} taken)", self.kind, self.handing.taken)
    }
}

fn last<T>(kind: Kind<T>, handing: &Handing, entry: Option<Entry<'_>>) -> Option<String> {
    let entry = entry.filter(|_| handing.taken > 0 && !handing.has_ended && handing.failure.is_none())?;
    let entity = entity_text(kind.name(), entry.key());
    Some(format!("the last that it took was {entity}, entry {}", entry.seq()))
}
