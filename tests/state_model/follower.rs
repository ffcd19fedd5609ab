//! Who follows: each item that he is told is checked against what he has gathered, and against what there is.

use std::collections::BTreeMap;

use esker::{
    Because, Behind, Change, ChangeKind, ErrorKind, Marker, Seq, StateItem, Subscription, SubscriptionStatus,
    Version,
};

use super::oracle::Row;
use super::{KEYS, World, ensure, met, text};

/// A row with its version, where it stands, and the version of the schema that wrote it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    version: u64,
    seq: Seq,
    row: Row,
    schema: u16,
}

impl PartialEq for Known {
    /// With who asserts it the row is written anew, by whichever version does that, and is the same one.
    fn eq(&self, other: &Self) -> bool {
        (self.version, &self.row) == (other.version, &other.row)
    }
}

type Moment = BTreeMap<&'static str, Known>;

/// What somebody has gathered who does as he is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    rows: Moment,
    /// The last version of each entity that it was told of, deletions too.
    last: BTreeMap<&'static str, u64>,
}

impl Gathered {
    /// As the next version of the kind has it.
    pub(super) fn age(&mut self) {
        self.rows.values_mut().for_each(|known| known.row.age());
    }

    /// The rows were other ones: each that differs, with what it is now, if it is there.
    fn differing(&self, now: &Moment) -> BTreeMap<&'static str, Option<Known>> {
        let version = |moment: &Moment, key: &str| moment.get(key).map(|known| known.version);
        let differs = |key: &&&str| version(&self.rows, key) != version(now, key);
        KEYS.iter().filter(differs).map(|key| (*key, now.get(key).cloned())).collect()
    }
}

/// What comes now.
#[derive(Debug)]
enum Due {
    /// All the rows of a moment: these are left.
    Rows(Moment),
    /// What changes come to: of these entities, if of any.
    Net(BTreeMap<&'static str, Option<Known>>),
}

pub(super) struct Follower {
    changes: Subscription<Row>,
    gathered: Gathered,
    due: Due,
}

impl World {
    pub(super) fn follow(&mut self, behind: Behind, capacity: u64, resume: bool) -> Result<(), String> {
        self.leave();
        let builder = self.store.subscription(self.kind).behind(behind).capacity(capacity);
        let (builder, gathered) = match self.left.take().filter(|_| resume) {
            Some((token, gathered)) => (builder.resume(token), gathered),
            None => (builder, Gathered::default()),
        };
        let changes = builder.start().map_err(text)?;
        self.follower = Some(Follower { changes, gathered, due: Due::Net(BTreeMap::new()) });
        Ok(())
    }

    /// Ends the follower; what it has gathered can be resumed from its token.
    pub(super) fn leave(&mut self) {
        if let Some(Follower { changes, gathered, .. }) = self.follower.take()
            && let Some(token) = changes.token().unwrap()
        {
            met("a follower left with a token");
            self.left = Some((token, gathered));
        }
    }

    /// Reads on. What it has gathered when there is nothing more is the state.
    pub(super) fn read(&mut self, items: usize) -> Result<(), String> {
        if self.follower.is_none() {
            return Ok(());
        }
        // A window that ended for the next one's sake is visible, and durable with the next sync.
        self.store.journal().sync().map_err(text)?;
        self.all_is_durable()?;
        let now = self.known()?;
        let Some(mut follower) = self.follower.take() else { return Ok(()) };
        for _ in 0..items {
            if !follower.changes.advance().map_err(text)? {
                met("a follower caught up");
                let gathered = &follower.gathered.rows;
                ensure(*gathered == now, &format!("gathered {gathered:?}, expected {now:?}"))?;
                break;
            }
            self.heed(&mut follower, &now)?;
        }
        self.follower = Some(follower);
        Ok(())
    }

    /// What there is.
    fn known(&self) -> Result<Moment, String> {
        let mut now = Moment::new();
        for key in KEYS {
            if let Some(row) = self.store.get(self.kind, key).map_err(text)? {
                let (version, seq, schema) = (row.version(), row.seq(), row.row().schema_version());
                now.insert(key, Known { version, seq, row: row.value().map_err(text)?, schema });
            }
        }
        Ok(now)
    }

    fn heed(&self, follower: &mut Follower, now: &Moment) -> Result<(), String> {
        let Follower { changes, gathered, due } = follower;
        let status = changes.status();
        let change = match changes.item() {
            StateItem::Change(change) => change,
            StateItem::Marker(Marker::BootstrapBegin { rebootstrap, because }) => {
                if rebootstrap {
                    met("a follower began anew");
                }
                if because == Some(Because::Compacted) {
                    met("what a token needs was compacted");
                }
                gathered.rows.clear();
                *due = Due::Rows(now.clone());
                return Ok(());
            }
            StateItem::Marker(Marker::BootstrapComplete { .. }) => {
                let left = std::mem::replace(due, Due::Net(BTreeMap::new()));
                let is_all = matches!(&left, Due::Rows(rows) if rows.is_empty());
                return ensure(is_all, &format!("all rows were told, but for {left:?}"));
            }
            other => return Err(format!("{other:?}")),
        };
        let key = *KEYS.iter().find(|key| key.as_bytes() == change.key()).unwrap();
        let told = self.told(&change, now.get(key))?;
        let is = match due {
            Due::Rows(rows) => {
                let row = rows.remove(key);
                ensure(row.is_some() && row == told, &format!("{change:?} is {told:?}, expected {row:?}"))?;
                ensure(change.kind() == ChangeKind::Bootstrap, &format!("{change:?} among the rows"))
            }
            Due::Net(due) if status == SubscriptionStatus::CatchingUp => {
                if due.is_empty() {
                    *due = gathered.differing(now);
                }
                met("what changes come to was told");
                let expected = due.remove(key).ok_or(format!("{change:?} comes twice, or is none"))?;
                ensure(told == expected, &format!("{change:?} is {told:?}, expected {expected:?}"))
            }
            Due::Net(due) => {
                ensure(due.is_empty(), &format!("{change:?}, and not {due:?}"))?;
                let before = gathered.rows.get(key).map(|known| known.version);
                let next = before.is_none_or(|before| before + 1 == change.version());
                ensure(next, &format!("{change:?} is the next behind {before:?}"))
            }
        };
        is.and_then(|()| self.check_change(gathered.rows.get(key), &change, told.as_ref()))
            .and_then(|()| gathered.take(key, &change, told))
    }

    /// The row of a change.
    fn told(&self, change: &Change<'_, Row>, now: Option<&Known>) -> Result<Option<Known>, String> {
        let Some(row) = change.value().map_err(text)? else { return Ok(None) };
        let version = change.version();
        let schema = match now {
            Some(now) if now.version == version => now.schema,
            _ => self.schema_of(change)?,
        };
        Ok(Some(Known { version, seq: change.seq(), row, schema }))
    }

    /// Which version of the schema wrote a row that is not the newest one. 0: compaction has dropped what would tell.
    fn schema_of(&self, change: &Change<'_, Row>) -> Result<u16, String> {
        if self.kind.schema_version() == 1 {
            return Ok(1);
        }
        let versions = match self.store.versions(self.kind, change.key()) {
            Err(error) if error.kind() == ErrorKind::Compacted => return Ok(0),
            versions => versions.map_err(text)?,
        };
        let schema = versions.iter().find_map(|version| match version {
            Version::Row(row) if row.version() == change.version() => Some(row.row().schema_version()),
            _ => None,
        });
        schema.ok_or_else(|| format!("{change:?} is not there"))
    }

    /// True if compaction has left that entry of an entity.
    fn is_left(&self, key: &[u8], seq: Seq) -> bool {
        let journal = self.store.journal();
        let (view, rows) = (journal.view(), journal.kind_named(self.kind.name()).unwrap());
        view.entity(rows.id, key).rev().map_while(Result::ok).any(|entry| entry.seq() == seq)
    }

    /// A change is one of what the follower has.
    fn check_change(
        &self,
        before: Option<&Known>,
        change: &Change<'_, Row>,
        now: Option<&Known>,
    ) -> Result<(), String> {
        let (Some(before), Some(now)) = (before, now) else {
            let mask = if change.kind() == ChangeKind::Deleted { 0 } else { u64::MAX };
            return ensure(change.changed_mask() == mask, &format!("{change:?}: all fields, or none"));
        };
        let differs = [
            ("a", before.row.a != now.row.a),
            ("b", before.row.b != now.row.b),
            ("c", before.row.c != now.row.c),
        ];
        let is_exact = differs.iter().all(|(field, differs)| change.has(field) == *differs);
        let names_all = differs.iter().all(|(field, differs)| change.has(field) || !*differs);
        // Rows of other versions are not compared, nor is one that compaction has dropped: it is every field that any of the
        // changes since has changed, or each.
        let version = self.kind.schema_version();
        let is_comparable =
            before.schema == version && now.schema == version && self.is_left(change.key(), before.seq);
        ensure(is_exact || !is_comparable && names_all, &format!("{change:?} from {before:?} to {now:?}"))
    }
}

impl Gathered {
    fn take(
        &mut self,
        key: &'static str,
        change: &Change<'_, Row>,
        told: Option<Known>,
    ) -> Result<(), String> {
        let version = change.version();
        let last = self.last.insert(key, version);
        let before = match told {
            Some(known) => self.rows.insert(key, known),
            None => self.rows.remove(key),
        };
        let (was_there, is_newer) = (before.is_some(), last.is_none_or(|last| last < version));
        let fits = match change.kind() {
            ChangeKind::Bootstrap => !was_there && last.is_none_or(|last| last <= version),
            ChangeKind::Created => !was_there && is_newer,
            ChangeKind::Updated | ChangeKind::Deleted => was_there && is_newer,
            _ => false,
        };
        ensure(fits, &format!("{change:?} behind {before:?}, whose last version was {last:?}"))
    }
}
