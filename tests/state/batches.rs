//! Operations, facts and cursors in one batch: all of them or none, through a crash at every point.

use esker::{
    Closing, ErrorKind, EventItem, Expect, Facts, IdempotencyKey, Patch, Reaction, Simulator, Start, Store,
    Until,
};

use super::events::LOGGED;
use super::harbour::{VESSEL, Vessel, alive, crashed, follow, knots, open, store, told, vessel};

const NOTE: Facts<String> = Facts::new("note");
const ORDER: Facts<f32> = Facts::new("order");

#[test]
fn a_batch_over_kinds_is_one_flush_and_sees_what_it_has_said_itself() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    let mut changes = follow(&store);
    // What was said before is before it.
    let before = radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    let mut batch = store.batch();
    batch.patch(&pilot, VESSEL, "ada", &Patch::new().set("knots", &2.0f32).unwrap()).unwrap();
    batch.patch(&pilot, VESSEL, "ada", &Patch::new().set("heading", &90u16).unwrap()).unwrap();
    batch.assert(&radar, VESSEL, "grace", &vessel("Grace", 3.0)).unwrap();
    batch.retract(&radar, VESSEL, "nobody").unwrap();
    batch.assert(&radar, LOGGED, "joan", &vessel("Joan", 4.0)).unwrap_err();
    batch.append(NOTE, "log", &"three vessels".to_owned()).unwrap();
    assert_eq!(batch.len(), 5, "a kind is used in one way at a time");
    let done = batch.commit().unwrap();
    assert!(before.is_flushed() && batch.is_empty());
    assert_eq!(done.receipts.len(), 1, "that of the fact");
    assert_eq!(done.receipts[0].seq.get(), 4, "behind the rows");
    assert_eq!(
        told(&mut changes),
        ["ada v1 created", "ada v2 updated [\"knots\", \"heading\"]", "grace v1 created"]
    );
    assert_eq!(alive(&store, "ada"), Some((2, vec![0, 1])));
    let (_, ticket) = {
        // It comes to nothing, which is no error.
        let mut batch = store.batch();
        batch.assert(&radar, VESSEL, "grace", &vessel("Grace", 3.0)).unwrap();
        batch.commit_nowait().unwrap()
    };
    assert!(ticket.is_durable() && told(&mut changes).is_empty());
}

#[test]
fn a_batch_that_is_refused_leaves_no_trace() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let end = store.journal().view().last_seq().unwrap();
    let refused = |refuse: &dyn Fn(&mut esker::StoreBatch<'_>), kind| {
        let mut batch = store.batch();
        batch.assert(&radar, VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
        refuse(&mut batch);
        let error = batch.commit().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(store.journal().view().last_seq().unwrap(), end, "{error}");
        assert_eq!(knots(&store, "ada"), Some(1.0));
        assert_eq!(store.state_stats().unwrap().pending, 0);
    };
    refused(
        &|batch| _ = batch.append_if(NOTE, "a", Expect::Exists, &"text".to_owned()).unwrap(),
        ErrorKind::Conflict,
    );
    let misfit = Patch::new().set("knots", "fast").unwrap();
    refused(&|batch| _ = batch.patch(&radar, VESSEL, "ada", &misfit).unwrap(), ErrorKind::TypeMismatch);
    let nameless = Patch::new().set("knots", &1.0f32).unwrap();
    refused(&|batch| _ = batch.patch(&radar, VESSEL, "new", &nameless).unwrap(), ErrorKind::TypeMismatch);
    let text = "x".repeat(10 << 20);
    let twice = |batch: &mut esker::StoreBatch<'_>| {
        ["a", "b"].iter().for_each(|key| _ = batch.append(NOTE, key, &text).unwrap());
    };
    refused(&twice, ErrorKind::BatchTooLarge);
    let gone = store.source("gone").unwrap();
    gone.clone().close(Closing::Retract).unwrap();
    let end_then = store.journal().view().last_seq().unwrap();
    let mut batch = store.batch();
    batch.assert(&gone, VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::SourceEnded);
    assert_eq!(store.journal().view().last_seq().unwrap(), end_then);

    let mut keyed = store.batch().idempotency_key(IdempotencyKey([7; 16]));
    keyed.assert(&radar, VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
    assert_eq!(keyed.commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    let other = super::harbour::store();
    let stranger = other.source("radar").unwrap();
    let mut batch = store.batch();
    batch.assert(&stranger, VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut batch = store.batch();
    assert_eq!(
        batch.patch(&radar, VESSEL, "a", &Patch::new().set("speed", &1).unwrap()).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert!(batch.is_empty());
}

#[test]
fn what_an_epoch_has_in_a_batch_is_said_in_it() {
    let store = store();
    let radar = store.source("radar").unwrap();
    for key in ["ada", "grace"] {
        radar.assert(LOGGED, key, &vessel(key, 1.0)).unwrap();
    }
    store.flush().unwrap();
    let epoch = radar.epoch(LOGGED).unwrap();
    let mut batch = store.batch();
    batch.patch(&radar, LOGGED, "ada", &Patch::new().set("knots", &2.0f32).unwrap()).unwrap();
    batch.commit().unwrap();
    assert_eq!(epoch.commit().unwrap().retracted, 1);
    let mut events = store.events(LOGGED).from(Start::Oldest).include_synthetic(true).start().unwrap();
    let mut suppressed = Vec::new();
    while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
        suppressed.push((event.is_in_epoch(), event.is_synthetic()));
    }
    assert_eq!(suppressed, [(false, false), (false, false), (true, false), (false, true)]);
}

#[test]
fn a_crash_leaves_a_batch_whole_or_not_at_all() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let mut orders = store.journal().watch("orders", store.region(ORDER).unwrap()).unwrap();
    store.append(ORDER, "a", &7.0).unwrap();
    orders.next().unwrap();
    let begun = disk.events();
    let mut batch = store.batch();
    batch.assert(&radar, VESSEL, "ada", &vessel("Ada", 7.0)).unwrap();
    batch.assert(&radar, LOGGED_BUOY, "b", &vessel("b", 7.0)).unwrap();
    batch.append(NOTE, "log", &"ordered".to_owned()).unwrap();
    batch.move_cursor(&orders, orders.position().unwrap()).unwrap();
    batch.commit().unwrap();
    let ended = disk.events();
    let mut seen = [0; 2];
    for events in begun..=ended {
        for seed in 0..20u64 {
            let crashed = crashed(&disk, events, seed);
            let store = open(&crashed);
            let orders = store.journal().watch("orders", store.region(ORDER).unwrap()).unwrap();
            let is_there = [
                knots(&store, "ada").is_some(),
                store.get(LOGGED_BUOY, "b").unwrap().is_some(),
                store.latest(NOTE, "log").unwrap().is_some(),
                orders.position().is_some(),
            ];
            assert!(is_there.iter().all(|there| *there == is_there[0]), "{is_there:?}");
            assert!(events < ended || is_there[0], "it was acknowledged");
            seen[usize::from(is_there[0])] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

const LOGGED_BUOY: esker::Kind<Vessel> = esker::Kind::new("buoy").events();

#[test]
fn a_reaction_puts_out_state_and_facts_together() {
    let store = Store::over(esker::Options::new().in_memory().unwrap());
    let radar = store.source("radar").unwrap();
    let source = radar.clone();
    let react = move |entry: esker::Entry<'_>, out: &mut esker::Out<'_>| -> Reaction {
        let Some(order) = out.fact(ORDER, entry)? else { return Ok(()) };
        let knots = order.value()?;
        if knots < 0.0 {
            out.retract(&source, VESSEL, entry.key())?;
        } else {
            out.assert(&source, VESSEL, entry.key(), &vessel("v", 0.0))?;
            out.patch(&source, VESSEL, entry.key(), &Patch::new().set("knots", &knots)?)?;
            out.append(NOTE, entry.key(), &format!("{knots}"))?;
        }
        Ok(())
    };
    let reactor = store.react("steering", store.region(ORDER).unwrap(), react).unwrap();
    for knots in [1.0, 2.0, 3.0, -1.0] {
        store.append(ORDER, "ada", &knots).unwrap();
    }
    let last = store.append(ORDER, "grace", &9.0).unwrap();
    let mut notes = store.journal().watch("notes", store.region(NOTE).unwrap()).unwrap();
    while notes.next().unwrap().unwrap().causation().unwrap().seq != last.seq {}
    assert_eq!(knots(&store, "ada"), None);
    assert_eq!(knots(&store, "grace"), Some(9.0));
    assert_eq!(store.history(NOTE, "ada").unwrap().len(), 3);
    let rows = store.versions(VESSEL, "ada").unwrap();
    assert_eq!(rows.len(), 4, "each reaction is a flush: {rows:?}");
    reactor.stop();
    reactor.join().unwrap();
    radar.retract(VESSEL, "grace").unwrap().wait(Until::Durable).unwrap();
}

#[test]
fn a_batch_of_operations_alone_takes_no_more_than_one_of_facts() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let filled = |operations: u8| {
        let mut batch = store.batch();
        for n in 0..operations {
            batch.assert(&radar, VESSEL, format!("v{n}"), &vessel(&"x".repeat(1000), 1.0)).unwrap();
        }
        batch
    };
    for operations in [4, 10] {
        let error = filled(operations).commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BatchTooLarge, "{error}");
        assert!(error.to_string().contains("4096"), "a quarter of a segment: {error}");
        assert_eq!(store.state_stats().unwrap().pending, 0);
        assert!(store.get(VESSEL, "v0").unwrap().is_none());
    }
    filled(3).commit().unwrap();
    assert_eq!(alive(&store, "v2"), Some((1, vec![0])));
    // What an epoch takes back may be more.
    let row = vessel(&"x".repeat(50), 1.0);
    for n in 0..100 {
        radar.assert(VESSEL, format!("w{n}"), &row).unwrap();
    }
    assert_eq!(radar.retract_all(VESSEL).unwrap().retracted, 103);
}
