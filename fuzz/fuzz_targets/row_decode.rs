//! Rows and operations whose bytes nobody vouches for: whatever their frames say, every way of reading it answers a value or an
//! error that names it, and none panics, hangs or takes memory that is not there.
//!
//! The frames are imported, so that their checksums are good: what is damaged is what they say.
#![no_main]

use std::collections::BTreeMap;

use esker::{
    Codec, Durability, EventItem, EventMark, EventOperation, Generation, Import, ImportEntry, ImportKind,
    Kind, Options, Origin, Owner, Patch, RowMark, RowOperation, Seq, Simulator, SourceInfo, Start, StateItem,
    Store, StoreId, Upcaster, Window,
};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug)]
struct Row {
    name: String,
    #[serde(default)]
    knots: f64,
    #[serde(default)]
    cargo: BTreeMap<String, Vec<Option<i32>>>,
}

const PLAIN: Kind<Row> = Kind::new("row");
const STEPS_TO_2: &[(u16, Upcaster)] = &[(1, |fields| {
    fields.rename("speed", "knots");
    let knots = fields.get::<f64>("knots")?.unwrap_or(1.0);
    fields.set("knots", &(knots * 2.0))?;
    Ok(())
})];
const STEPS: Kind<Row> = Kind::new("row").version(2).upcasts(STEPS_TO_2);

const LOGGED: Kind<Row> = Kind::new("logged").version(2).events().upcasts(STEPS_TO_2);

/// The bytes of a frame, up to this one.
const END: u8 = 0xfd;
const FRAMES_MAX: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let disk = Simulator::new();
    let origin = Origin::new(StoreId::from_bytes([7; 16]), 1, 0).segment_bytes(16 << 10);
    let mut import = Import::begin_on(&disk, origin).expect("an empty disk");
    for id in (0..8).chain(56..64) {
        import.source(SourceInfo::new(id, format!("source-{id}"), 0)).expect("a source");
    }
    let mut kind = |number, name: &str, owner| {
        let kind = ImportKind::new(number, name).version(2).codec(Codec::MessagePack).owner(owner);
        import.kind(kind.fields(vec!["name".into(), "knots".into(), "cargo".into()])).expect("a kind")
    };
    let (kind, _) = (kind(1, "row", Owner::State), kind(2, "logged", Owner::State));
    let operations = import
        .kind(
            ImportKind::new(3, "esker.events.logged")
                .version(2)
                .codec(Codec::MessagePack)
                .owner(Owner::Events)
                .fields(vec!["name".into(), "knots".into(), "cargo".into()]),
        )
        .expect("a kind");
    let (mut generations, mut said) = ([0u64; 4], [0u64; 4]);
    let (mut seq, mut events) = (0, 0);
    for frame in bytes.split(|byte| *byte == END).take(FRAMES_MAX) {
        let [what, key, sources, changed, schema, payload @ ..] = frame else { continue };
        let at = usize::from(key % 4);
        if what & 32 != 0 {
            let Some(operation) = EventOperation::of(6 + what % 3) else { continue };
            let retracts = operation == EventOperation::Retract;
            if !retracts && payload.is_empty() {
                continue;
            }
            let (in_epoch, synthetic) = (sources & 3 == 1, sources & 3 == 2);
            events += u64::from(!in_epoch && !synthetic);
            let mark = EventMark {
                schema: u16::from(schema % 2) + 1,
                sources: u64::from(*sources) << 30,
                changed: (!retracts && changed & 1 != 0).then_some(u64::from(*changed)),
                present: (operation == EventOperation::Patch).then_some(u64::from(*schema)),
                sequence: (events, events),
                version: u64::from(*changed),
                version_before: (sources & 4 != 0).then_some(u64::from(*what)),
            };
            let (next, generation) = (seq + 1, said[at] + 1);
            let numbers = (Seq::new(next).expect("from 1"), Generation::new(generation).expect("from 1"));
            let payload = if retracts { Vec::new() } else { payload.to_vec() };
            let entry = ImportEntry::new(numbers.0, numbers.1, operations, vec![b'a' + key % 4], payload);
            let entry = entry.schema_version(Some(mark.schema)).event(operation, mark);
            import.entry(entry.in_epoch(in_epoch).synthetic(synthetic)).expect("it is what operations are");
            (seq, said[at]) = (next, generation);
            continue;
        }
        let Some(operation) = RowOperation::of(2 + what % 4) else { continue };
        let is_gone = operation == RowOperation::Deleted;
        let mark = RowMark {
            schema: u16::from(schema % 2) + 1,
            sources: if is_gone {
                0
            } else {
                u64::from(sources | 1) | u64::from(sources.rotate_left(3)) << 56
            },
            changed: u64::from(*changed),
            version: (what & 64 != 0).then(|| u64::from(what % 3) + 1),
        };
        let (next, generation) = (seq + 1, generations[at] + 1);
        let numbers = (Seq::new(next).expect("from 1"), Generation::new(generation).expect("from 1"));
        let payload = if is_gone { Vec::new() } else { payload.to_vec() };
        let entry = ImportEntry::new(numbers.0, numbers.1, kind, vec![b'a' + key % 4], payload);
        let entry = entry.tombstone(is_gone).schema_version(Some(mark.schema)).row(operation, mark);
        // A version behind its generation is refused, and ends the import.
        if mark.version.is_some_and(|version| version > generation) || !is_gone && frame.len() == 5 {
            continue;
        }
        import.entry(entry).expect("it is what rows are");
        (seq, generations[at]) = (next, generation);
    }
    let finished = import.finish(Seq::new(seq));
    finished.expect("what was taken is finished");
    let verified = esker::verify_in(&disk, esker::Check::Full).expect("what was finished is read");
    assert_eq!(verified.verdict, esker::Verdict::Valid, "{:?}", verified.findings);
    let options = Options::new().durability(Durability::Os).background(false).window(Window::Manual);
    let store = Store::over(options.open_in(&disk).expect("what was finished opens"));
    let kind = if bytes.first().is_some_and(|byte| byte & 128 != 0) { STEPS } else { PLAIN };
    for key in ["a", "b", "c", "d"] {
        if let Ok(Some(row)) = store.get(kind, key) {
            let _ = row.value();
        }
        let _ = (store.status(kind, key), store.versions(kind, key));
    }
    for row in store.scan(kind).expect("a durable view") {
        let _ = row.and_then(|row| row.value());
    }
    if let Ok(mut changes) = store.subscription(kind).previous(true).start() {
        for _ in 0..200 {
            match changes.try_next() {
                Ok(Some(StateItem::Change(change))) => {
                    let _ = (change.value(), change.changed_fields().count());
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => assert!(error.seqs().is_some() || error.is_corruption(), "{error}"),
            }
        }
    }
    let stream = store.events(LOGGED).from(Start::Oldest).include_synthetic(true);
    let mut told = stream.start().expect("the kind fits");
    loop {
        match told.try_next() {
            Ok(Some(EventItem::Event(event))) => {
                let _ = (event.value(), event.previous(), event.patch());
                let _ = (event.changed_fields().count(), event.present_fields().count(), event.sequence());
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => assert!(error.seqs().is_some() || error.is_corruption(), "{error}"),
        }
    }
    let Ok(source) = store.source("fuzzer") else { return };
    for key in ["a", "b", "c", "d"] {
        let row = Row { name: "x".into(), knots: 0.0, cargo: BTreeMap::new() };
        source.assert(LOGGED, key, &row).expect("there is no row of it");
    }
    for key in ["a", "b", "c", "d"] {
        let _ = source.patch(kind, key, &Patch::new().set("knots", &1.5).expect("a number"));
        let _ = source.update(kind, key, |row| {
            row.unwrap_or(Row { name: "x".into(), knots: 0.0, cargo: BTreeMap::new() })
        });
        let _ = source.retract(kind, key);
    }
    store.flush().expect("whatever was there, what is said now is appended");
});
