//! Who conflates has no backlog: the newest of each entity, however many changes there were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::{
    Behind, ChangeKind, CompactOptions, Durability, Marker, Options, Simulator, StateItem, Store,
    Subscription, Window,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::harbour::{VESSEL, Vessel, change_often, open, options, store, told, vessel};

fn conflating(store: &Store) -> Subscription<Vessel> {
    store.subscription(VESSEL).behind(Behind::Conflate).start().unwrap()
}

#[test]
fn a_slow_reader_is_told_the_newest_of_each_entity_in_the_order_in_which_it_was_written() {
    let store = store();
    let radar = store.source("radar").unwrap();
    for name in ["ada", "grace", "joan"] {
        radar.assert(VESSEL, name, &vessel(name, 1.0)).unwrap();
    }
    store.flush().unwrap();
    let mut newest = conflating(&store);
    told(&mut newest);
    // Far fewer than any capacity: `Resume` would tell each.
    change_often(&store, &radar, "joan", 3);
    change_often(&store, &radar, "ada", 3);
    change_often(&store, &radar, "ghost", 1);
    radar.retract(VESSEL, "ghost").unwrap();
    radar.retract(VESSEL, "grace").unwrap();
    store.flush().unwrap();
    change_often(&store, &radar, "joan", 1);
    assert_eq!(
        told(&mut newest),
        [r#"ada v4 updated ["knots", "heading"]"#, "grace v2 deleted", r#"joan v5 updated ["knots"]"#]
    );
    assert!(told(&mut newest).is_empty());
    // What is written while it reads comes behind that, and is one change again.
    change_often(&store, &radar, "ada", 2);
    change_often(&store, &radar, "joan", 2);
    assert!(newest.advance().unwrap());
    change_often(&store, &radar, "joan", 3);
    assert_eq!(told(&mut newest), [r#"joan v6 updated ["heading"]"#, r#"joan v9 updated ["heading"]"#],);
}

#[test]
fn in_a_mode_that_does_not_sync_nobody_syncs_for_who_conflates_and_a_token_is_durable() {
    let options = options().durability(Durability::Os).segment_bytes(16384);
    let store = Store::over(options.open_in(&Simulator::new()).unwrap());
    let radar = store.source("radar").unwrap();
    let mut newest = conflating(&store);
    told(&mut newest);
    let syncs = || store.journal().stats().syncs;
    let before = syncs();
    change_often(&store, &radar, "ada", 3);
    assert_eq!(told(&mut newest), ["ada v3 created"]);
    assert_eq!(syncs(), before);
    let token = newest.token().unwrap().unwrap();
    assert!(syncs() > before, "whoever takes a token away may rely on it");
    assert_eq!(token.seq(), store.journal().view().last_seq().unwrap());
}

#[test]
fn under_writers_a_fold_of_what_is_received_is_a_scan_and_less_is_received_than_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Os).window(Window::Every(Duration::from_millis(1)));
    let store = Store::over(options.open(directory.path().join("a.esker")).unwrap());
    let ended = AtomicBool::new(false);
    let (gathered, items) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut newest = conflating(&store);
            let (mut gathered, mut items) = (BTreeMap::new(), 0u64);
            loop {
                let is_last = ended.load(Ordering::Acquire);
                match newest.next_timeout(Duration::from_millis(20)).unwrap() {
                    Some(StateItem::Marker(Marker::BootstrapBegin { .. })) => gathered.clear(),
                    Some(StateItem::Change(change)) if change.kind() == ChangeKind::Deleted => {
                        assert!(gathered.remove(change.key()).is_some(), "{change:?} was not there");
                        items += 1;
                    }
                    Some(StateItem::Change(change)) => {
                        let before = gathered.insert(change.key().to_vec(), change.version());
                        assert_eq!(before.is_some(), change.kind() == ChangeKind::Updated, "{change:?}");
                        assert!(before.is_none_or(|before| before < change.version()), "{change:?}");
                        items += 1;
                    }
                    Some(_) => {}
                    None if is_last => return (gathered, items),
                    None => {}
                }
            }
        });
        let writers: Vec<_> = (0..4u16)
            .map(|writer| {
                let source = store.source(&format!("writer {writer}")).unwrap();
                let store = &store;
                scope.spawn(move || {
                    for n in 0..2000u16 {
                        let key = format!("v{}", n.wrapping_mul(7 + writer) % 5);
                        if n % 9 == 0 {
                            source.retract(VESSEL, &key).unwrap();
                        } else {
                            source.assert(VESSEL, &key, &Vessel { heading: n, ..vessel("v", 1.0) }).unwrap();
                        }
                        if n % 50 == 0 {
                            store.flush().unwrap();
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        store.flush().unwrap();
        ended.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    let expected: BTreeMap<_, _> =
        rows(&store).into_iter().map(|(key, (version, _))| (key, version)).collect();
    assert_eq!(gathered, expected);
    let written = store.journal().view().last_seq().unwrap().unwrap().get();
    assert!(items <= written, "{items} of {written}");
    store.close().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Assert { key: u8, heading: u16 },
    Retract { key: u8 },
    Flush,
    Read { items: usize },
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6, 0u16..4).prop_map(|(key, heading)| Step::Assert { key, heading }),
        2 => (0u8..6).prop_map(|key| Step::Retract { key }),
        6 => Just(Step::Flush),
        3 => (1usize..12).prop_map(|items| Step::Read { items }),
        1 => Just(Step::Compact),
    ]
}

/// Rows by key, with their versions.
type Rows = BTreeMap<Vec<u8>, (u64, Vessel)>;

fn rows(store: &Store) -> Rows {
    let rows = store.scan(VESSEL).unwrap().map(Result::unwrap);
    rows.map(|row| (row.key().to_vec(), (row.version(), row.value().unwrap()))).collect()
}

/// What a reader has been told, and what it has still to be told.
struct Reader {
    changes: Subscription<Vessel>,
    gathered: Rows,
    is_in_rows: bool,
    /// The rows when it began with the changes that it is told now,
    known: Rows,
    /// and the entities of which it has not been told theirs.
    changed: BTreeSet<Vec<u8>>,
    last: u64,
}

impl Reader {
    /// False: there was nothing more.
    fn read(&mut self, store: &Store) -> bool {
        let now = rows(store);
        let Some(item) = self.changes.try_next().unwrap() else {
            assert_eq!(self.gathered, now, "it has read all");
            let newest = store.journal().view().last_seq().unwrap();
            assert_eq!(self.changes.token().unwrap().unwrap().seq(), newest);
            return false;
        };
        let change = match item {
            StateItem::Marker(Marker::BootstrapBegin { .. }) => {
                self.gathered.clear();
                self.changed.clear();
                self.is_in_rows = true;
                return true;
            }
            StateItem::Marker(_) => {
                self.is_in_rows = false;
                self.known = self.gathered.clone();
                return true;
            }
            StateItem::Change(change) => change,
            other => panic!("{other:?}"),
        };
        if !self.is_in_rows {
            assert!(change.seq().get() > std::mem::replace(&mut self.last, change.seq().get()), "in order");
            if self.changed.is_empty() {
                // It has come to where the log ended when it began, and begins again with what came since.
                self.changed = differing(&self.known, &now);
                self.known = now;
            }
            assert!(self.changed.remove(change.key()), "{change:?} comes twice, or is none");
            let known = self.known.get(change.key()).map(|(version, _)| *version);
            assert_eq!(known.unwrap_or(change.version()), change.version(), "the newest of then");
        }
        let before = match change.kind() {
            ChangeKind::Deleted => self.gathered.remove(change.key()),
            _ => self
                .gathered
                .insert(change.key().to_vec(), (change.version(), change.value().unwrap().unwrap())),
        };
        match change.kind() {
            ChangeKind::Created | ChangeKind::Bootstrap => assert!(before.is_none(), "{change:?}"),
            _ => assert!(before.unwrap().0 < change.version(), "{change:?}"),
        }
        true
    }
}

fn differing(before: &Rows, now: &Rows) -> BTreeSet<Vec<u8>> {
    let keys = before.keys().chain(now.keys());
    keys.filter(|key| before.get(*key).map(|row| row.0) != now.get(*key).map(|row| row.0)).cloned().collect()
}

fn run(steps: &[Step]) {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let changes = conflating(&store);
    let (gathered, known, changed) = (Rows::new(), Rows::new(), BTreeSet::new());
    let mut reader = Reader { changes, gathered, is_in_rows: false, known, changed, last: 0 };
    for step in steps {
        match step {
            Step::Assert { key, heading } => {
                let row = Vessel { heading: *heading, ..vessel("v", 1.0) };
                radar.assert(VESSEL, [b'a' + key], &row).unwrap();
            }
            Step::Retract { key } => _ = radar.retract(VESSEL, [b'a' + key]).unwrap(),
            Step::Flush => store.flush().unwrap(),
            Step::Compact => {
                let options = CompactOptions::new().keep_tombstones_for(std::time::Duration::ZERO);
                store.journal().compact(&options).unwrap();
            }
            Step::Read { items } => {
                for _ in 0..*items {
                    if !reader.read(&store) {
                        break;
                    }
                }
            }
        }
    }
    while reader.read(&store) {}
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_who_conflates_gathers_is_the_state_and_no_entity_comes_twice(steps in vec(step(), 1..100)) {
        run(&steps);
    }
}
