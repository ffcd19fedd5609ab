//! What becomes of operations when the disk refuses.

use std::time::Duration;

use esker::{ErrorKind, Made, Options, Simulator, Store, Until, Window};

use super::harbour::{VESSEL, alive, knots, open, vessel};

#[test]
fn on_a_full_disk_what_is_pending_stays_and_is_appended_when_there_is_space() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    disk.limit_space(Some(0));
    // Until the segment is full there is room.
    let mut n = 1.0;
    let ticket = loop {
        n += 1.0;
        let ticket = radar.assert(VESSEL, "ada", &vessel("Ada", n)).unwrap();
        match ticket.wait(Until::Visible) {
            Ok(committed) => assert_eq!(committed.change, Made::Updated),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                break ticket;
            }
        }
    };
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::NoSpace, "as often as it is tried");
    assert_eq!(knots(&store, "ada"), Some(n - 1.0));
    assert_eq!(store.state_stats().unwrap().pending, 1);
    radar.assert(VESSEL, "grace", &vessel("Grace", 1.0)).unwrap();
    disk.limit_space(None);
    store.flush().unwrap();
    assert_eq!(ticket.wait(Until::Durable).unwrap().change, Made::Updated);
    assert_eq!(knots(&store, "ada"), Some(n));
    assert_eq!(alive(&store, "grace"), Some((1, vec![0])));
}

#[test]
fn behind_a_failed_sync_every_ticket_and_every_call_is_told() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    disk.fail_sync_after(0);
    let flushed = radar.assert(VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(
        flushed.wait(Until::Durable).unwrap_err().kind(),
        ErrorKind::Poisoned,
        "its outcome is unknown"
    );
    assert_eq!(radar.assert(VESSEL, "ada", &vessel("Ada", 3.0)).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(store.scan(VESSEL).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(store.subscribe(VESSEL).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(store.close().unwrap_err().kind(), ErrorKind::Poisoned);
    let cut = disk.crash(disk.events(), &mut |_| 0);
    assert_eq!(knots(&open(&cut), "ada"), Some(1.0), "what was acknowledged");
}

#[test]
fn a_close_that_cannot_append_what_is_pending_says_so() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    disk.limit_space(Some(0));
    let mut n = 0;
    while store.flush().is_ok() {
        radar.assert(VESSEL, format!("v{n}"), &vessel("V", 1.0)).unwrap();
        n += 1;
    }
    let lost = radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    assert_eq!(store.close().unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(lost.wait(Until::Visible).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_window_that_nobody_waits_for_and_that_fails_is_told_to_the_next_call() {
    let disk = Simulator::new();
    let every = Window::Every(Duration::from_millis(1));
    let store = Store::over(Options::new().segment_bytes(4096).window(every).open_in(&disk).unwrap());
    let radar = store.source("radar").unwrap();
    disk.limit_space(Some(0));
    let mut n = 0.0;
    let told = loop {
        n += 1.0;
        if let Err(error) = radar.assert(VESSEL, "ada", &vessel("Ada", n)) {
            break error;
        }
    };
    assert_eq!(told.kind(), ErrorKind::NoSpace, "{told}");
    disk.limit_space(None);
    // It is tried again by itself.
    while knots(&store, "ada") != Some(n - 1.0) {
        std::thread::yield_now();
    }
    let _ = store.flush();
    radar.assert(VESSEL, "ada", &vessel("Ada", 0.5)).unwrap();
    store.close().unwrap();
    assert_eq!(knots(&open(&disk), "ada"), Some(0.5));
}

#[test]
fn the_last_handle_that_is_dropped_appends_what_is_pending() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    drop(store);
    radar.assert(VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
    drop(radar);
    assert_eq!(knots(&open(&disk), "ada"), Some(2.0));
}

#[test]
fn a_row_that_panics_while_it_is_encoded_or_decoded_leaves_the_store_as_it_was() {
    use esker::Kind;
    use serde::{Deserialize, Serialize};
    #[derive(Serialize, Deserialize)]
    struct Touchy {
        #[serde(serialize_with = "write", deserialize_with = "read")]
        n: u8,
    }
    fn write<S: serde::Serializer>(n: &u8, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(*n != 13, "unlucky");
        serializer.serialize_u8(*n)
    }
    fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        let n = u8::deserialize(deserializer)?;
        assert!(n != 14, "unlucky too");
        Ok(n)
    }
    const TOUCHY: Kind<Touchy> = Kind::new("touchy");
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(TOUCHY, "a", &Touchy { n: 14 }).unwrap();
    let panics = |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
    assert!(panics(&|| drop(radar.assert(TOUCHY, "a", &Touchy { n: 13 }))));
    assert!(panics(&|| drop(radar.update(TOUCHY, "a", |row| row.unwrap()))));
    assert!(panics(&|| drop(radar.update(TOUCHY, "b", |_| panic!("unlucky as well")))));
    let patch = esker::Patch::new();
    assert!(panics(&|| drop(radar.patch(TOUCHY, "a", &patch))));
    store.flush().unwrap();
    assert!(panics(&|| drop(store.get(TOUCHY, "a").unwrap().unwrap().value())));
    radar.assert(TOUCHY, "a", &Touchy { n: 1 }).unwrap();
    store.flush().unwrap();
    let row = store.get(TOUCHY, "a").unwrap().unwrap();
    assert_eq!((row.version(), row.value().unwrap().n), (2, 1));
    assert!(store.get(TOUCHY, "b").unwrap().is_none());
}
