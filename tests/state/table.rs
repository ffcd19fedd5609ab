//! A table with transactions as the target of a mirror, and short words for what is looked at.

use std::collections::BTreeMap;
use std::error::Error;

use esker::{
    Because, ChangeKind, Kind, Mirror, MirrorChanges, MirrorOutcome, MirrorRows, MirrorTarget, MirrorToken,
    Store,
};

use super::harbour::{VESSEL, Vessel, line};

/// Rows by key: version, sources and value; and how far that is, as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) rows: BTreeMap<String, (u64, u64, Vessel)>,
    pub(crate) token: Option<String>,
}

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    ErrorInToken,
    PanicInToken,
    /// Behind so many rows or changes.
    ErrorBehind(usize),
    PanicBehind(usize),
    ErrorBeforeCommit,
    ErrorAfterCommit,
    PanicAfterCommit,
    /// It answers that all is well.
    ForgetsToken,
    LeavesTheRest(usize),
}

/// A table with transactions.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) content: Content,
    pub(crate) fault: Option<Fault>,
    /// Called behind the first row or change of a transaction.
    pub(crate) during: Option<Box<dyn FnMut() + Send>>,
    /// What it was told.
    pub(crate) told: Vec<String>,
    /// The content behind each transaction.
    pub(crate) commits: Vec<Content>,
}

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

impl Table {
    fn goes_wrong(&mut self, fault: Fault) -> bool {
        let is_it = self.fault == Some(fault);
        if is_it {
            self.fault = None;
        }
        is_it
    }

    fn took(&mut self, taken: usize) -> Result<(), Failed> {
        if taken == 1
            && let Some(during) = &mut self.during
        {
            during();
        }
        if self.goes_wrong(Fault::PanicBehind(taken)) {
            panic!("in the middle");
        }
        if self.goes_wrong(Fault::ErrorBehind(taken)) { Err("in the middle".into()) } else { Ok(()) }
    }

    fn commit(&mut self, next: Content) -> Result<(), Failed> {
        if self.goes_wrong(Fault::ErrorBeforeCommit) {
            return Err("before the commit".into());
        }
        self.content = next.clone();
        self.commits.push(next);
        if self.goes_wrong(Fault::PanicAfterCommit) {
            panic!("behind the commit");
        }
        if self.goes_wrong(Fault::ErrorAfterCommit) { Err("behind the commit".into()) } else { Ok(()) }
    }
}

impl MirrorTarget<Vessel> for Table {
    type Error = Failed;

    fn token(&mut self) -> Result<Option<MirrorToken>, Failed> {
        if self.goes_wrong(Fault::PanicInToken) {
            panic!("at the token");
        }
        if self.goes_wrong(Fault::ErrorInToken) {
            return Err("at the token".into());
        }
        Ok(self.content.token.as_deref().map(str::parse).transpose()?)
    }

    fn replace_all(&mut self, rows: &mut MirrorRows<Vessel>) -> Result<(), Failed> {
        let mut next = Content::default();
        self.told.push("all".into());
        while let Some(row) = rows.next_row()? {
            let key = String::from_utf8(row.key().to_vec())?;
            let before = next.rows.insert(key, (row.version(), row.sources().bits(), row.value()?));
            assert!(before.is_none(), "a row comes once");
            self.took(next.rows.len())?;
            if self.goes_wrong(Fault::LeavesTheRest(next.rows.len())) {
                next.token = Some(rows.token()?.to_string());
                return self.commit(next);
            }
        }
        if self.goes_wrong(Fault::ForgetsToken) {
            return Ok(());
        }
        next.token = Some(rows.token()?.to_string());
        self.commit(next)
    }

    fn apply(&mut self, changes: &mut MirrorChanges<Vessel>) -> Result<(), Failed> {
        let mut next = self.content.clone();
        let mut taken = 0;
        while let Some(change) = changes.next_change()? {
            let key = String::from_utf8(change.key().to_vec())?;
            self.told.push(line(&change));
            let before = match change.value()? {
                Some(value) => next.rows.insert(key, (change.version(), change.sources().bits(), value)),
                None => next.rows.remove(&key),
            };
            assert_eq!(before.is_none(), change.kind() == ChangeKind::Created, "{change:?} over {before:?}");
            assert!(before.is_none_or(|(version, ..)| version <= change.version()), "{change:?}");
            taken += 1;
            self.took(taken)?;
        }
        next.token = Some(changes.token()?.to_string());
        self.commit(next)
    }
}

pub(crate) fn mirror(store: &Store) -> Mirror<Vessel, Table> {
    store.mirror(VESSEL).start(Table::default()).unwrap()
}

/// The rows as the store has them.
pub(crate) fn rows(store: &Store) -> BTreeMap<String, (u64, u64, Vessel)> {
    rows_of(store, VESSEL)
}

/// The same by another handle.
pub(crate) fn rows_of(store: &Store, kind: Kind<Vessel>) -> BTreeMap<String, (u64, u64, Vessel)> {
    let rows = store.scan(kind).unwrap().map(Result::unwrap);
    let key = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    rows.map(|row| (key(row.key()), (row.version(), row.sources().bits(), row.value().unwrap()))).collect()
}

/// Brings it up to now, and looks whether that is the state.
pub(crate) fn catch_up(store: &Store, mirror: &mut Mirror<Vessel, Table>) -> MirrorOutcome {
    let outcome = mirror.catch_up().unwrap();
    assert_eq!(mirror.target().content.rows, rows(store), "{outcome:?}");
    assert_eq!(mirror.target().content.token, Some(outcome.token().to_string()));
    outcome
}

pub(crate) fn because(outcome: &MirrorOutcome) -> Option<Because> {
    match outcome {
        MirrorOutcome::Replaced { because, .. } => *because,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn changes(outcome: &MirrorOutcome) -> u64 {
    match outcome {
        MirrorOutcome::Applied { changes, .. } => *changes,
        other => panic!("{other:?}"),
    }
}
