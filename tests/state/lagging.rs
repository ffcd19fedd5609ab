//! Who stands still while others write: as many changes as it may leave unread it is told one by one, of one more what they
//! come to.

use std::collections::{BTreeMap, BTreeSet};

use esker::{
    Behind, Durability, ErrorKind, Made, Reader, Source, Store, SubscriptionBuilder, Until, Version,
};

use super::following::scanned;
use super::harbour::{VESSEL, Vessel, options, told, vessel};
use super::under_writers::committed;

/// What a subscription may leave unread that does not say otherwise.
const CAPACITY: u64 = 4096;
const WRITERS: u64 = 8;
const VESSELS: u64 = 16;

fn keys() -> impl Iterator<Item = String> {
    (0..WRITERS).flat_map(|writer| (0..VESSELS).map(move |vessel| format!("{writer}/{vessel}")))
}

/// So many operations of one writer on vessels of its own, each of which changes a row, and in a flush of its own.
fn write(store: &Store, source: &Source, writer: u64, operations: u64) {
    let mut drawn = writer * 2 + operations;
    for n in 0..operations {
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("{writer}/{}", n % VESSELS);
        let before = store.get(VESSEL, &key).unwrap().map(|row| row.value().unwrap().heading);
        let ticket = match before {
            Some(_) if (drawn >> 40).is_multiple_of(4) => source.retract(VESSEL, &key),
            // Of so few some come back to where they were.
            before => {
                let step = u16::try_from(drawn >> 50 & 1).unwrap();
                let heading = before.map_or(0, |heading| (heading + 1 + step) % 3);
                source.assert(VESSEL, &key, &Vessel { heading, ..vessel("v", f32::from(heading / 2)) })
            }
        };
        let committed = ticket.unwrap().wait(Until::Visible).unwrap();
        assert!(!matches!(committed.change, Made::Nothing | Made::SourcesOnly), "{committed:?}");
    }
}

/// So many changes, by all writers at once. They come to an end although nobody reads.
fn write_at_once(store: &Store, sources: &[Source], changes: u64) {
    let last = || store.journal().view().last_seq().unwrap().map_or(0, |seq| seq.get());
    let before = last();
    std::thread::scope(|scope| {
        for (writer, source) in (0..).zip(sources) {
            // The first one makes what is over.
            let over = if writer == 0 { changes % WRITERS } else { 0 };
            scope.spawn(move || write(store, source, writer, changes / WRITERS + over));
        }
    });
    assert_eq!(last() - before, changes, "nothing but changes was written");
}

/// What a moment shows: versions and rows.
type Moment = BTreeMap<Vec<u8>, (u64, Vessel)>;

/// What lies between two scans, entity by entity, in the order in which each was written last.
fn net(store: &Store, before: &Moment, now: &Moment) -> Vec<String> {
    let mut net = Vec::new();
    for key in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        let name = String::from_utf8_lossy(key);
        let (seq, version) = match store.versions(VESSEL, key).unwrap().pop().unwrap() {
            Version::Row(row) => (row.seq(), row.version()),
            Version::Deleted { seq, version } => (seq, version),
            other => panic!("{other:?}"),
        };
        net.extend(match (before.get(key), now.get(key)) {
            (None, Some(_)) => Some((seq, format!("{name} v{version} created"))),
            (Some(_), None) => Some((seq, format!("{name} v{version} deleted"))),
            (Some(before), Some(now)) if before.0 != now.0 => {
                let fields = differing(&before.1, &now.1);
                Some((seq, format!("{name} v{version} updated {fields:?}")))
            }
            _ => None,
        });
    }
    net.sort();
    net.into_iter().map(|(_, line)| line).collect()
}

fn differing(before: &Vessel, now: &Vessel) -> Vec<&'static str> {
    let fields = [("knots", before.knots != now.knots), ("heading", before.heading != now.heading)];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
}

#[test]
fn s25_4096_unread_changes_are_told_and_of_one_more_exactly_what_they_come_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let inside = Store::over(options().durability(Durability::Os).open(&path).unwrap());
    let beside = Reader::open(&path).unwrap();
    stands_still(
        &inside,
        &[&|| inside.subscription(VESSEL), &|| beside.subscription(VESSEL).until(Until::Visible)],
    );
}

fn stands_still(store: &Store, doors: &[&dyn Fn() -> SubscriptionBuilder<Vessel>]) {
    let sources: Vec<Source> =
        (0..WRITERS).map(|writer| store.source(&format!("source-{writer}")).unwrap()).collect();
    write_at_once(store, &sources, 700);
    let behind = [Behind::End, Behind::Resume, Behind::Conflate];
    let of_a_door = |door: &&dyn Fn() -> SubscriptionBuilder<Vessel>| {
        behind.map(|behind| {
            let mut changes = door().behind(behind).start().unwrap();
            told(&mut changes);
            changes
        })
    };
    let mut doors: Vec<_> = doors.iter().map(of_a_door).collect();

    let before = scanned(store);
    write_at_once(store, &sources, CAPACITY);
    let then = scanned(store);
    let net_then = net(store, &before, &then);
    let mut all = committed(store, keys());
    let each: Vec<_> = all.split_off(all.len() - 4096).iter().map(|told| (told.seq, told.version)).collect();
    for [ends, resumes, conflates] in &mut doors {
        for changes in [ends, resumes] {
            let mut told = Vec::new();
            while let Some(item) = changes.try_next().unwrap() {
                let esker::StateItem::Change(change) = item else { panic!("{item:?}") };
                told.push((change.seq(), change.version()));
            }
            assert_eq!(told.len(), 4096);
            assert!(told == each, "each comes once, in order");
        }
        assert_eq!(told(conflates), net_then);
    }

    write_at_once(store, &sources, CAPACITY + 1);
    let net_now = net(store, &then, &scanned(store));
    for what in ["created", "deleted", "updated []", r#"updated ["heading"]"#, r#"["knots", "heading"]"#] {
        assert!(net_now.iter().any(|line| line.contains(what)), "{what}: {net_now:?}");
    }
    for [ends, resumes, conflates] in &mut doors {
        assert_eq!(ends.advance().unwrap_err().kind(), ErrorKind::Lagged);
        assert_eq!(told(resumes), net_now);
        assert_eq!(told(conflates), net_now);
    }
}
