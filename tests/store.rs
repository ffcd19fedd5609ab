//! The typed door: what a `Store` promises over the log of bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;

use esker::{
    Codec, Durability, ErrorKind, Expect, Facts, IdempotencyKey, Journal, Options, Owner, Reader, Record,
    Region, Result, Simulator, Store, StoreView, With,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
enum OrderEvent {
    Placed { item: String, quantity: u32 },
    Paid(u64),
    Shipped,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Vessel {
    name: String,
    knots: f32,
    cargo: Option<Vec<String>>,
}

const ORDERS: Facts<OrderEvent> = Facts::new("order");
const VESSELS: Facts<Vessel> = Facts::new("vessel").version(3);

fn placed(quantity: u32) -> OrderEvent {
    OrderEvent::Placed { item: "lamp".to_owned(), quantity }
}

fn ada(knots: f32) -> Vessel {
    Vessel { name: "Ada".to_owned(), knots, cargo: None }
}

#[test]
fn what_was_appended_is_read_back_with_its_numbers_also_after_a_reopen() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.esker");
    let events = [placed(2), OrderEvent::Paid(1999), OrderEvent::Shipped];
    let store = Store::open(&path)?;
    for (event, n) in events.iter().zip(1..) {
        let receipt = store.append(ORDERS, "8812", event)?;
        assert_eq!((receipt.seq.get(), receipt.generation.get()), (n, n));
    }
    store.append(ORDERS, "8813", &placed(1))?;
    store.close()?;

    let store = Store::open(&path)?;
    let history = store.history(ORDERS, "8812")?;
    let values = history.iter().map(|fact| fact.value()).collect::<Result<Vec<_>>>()?;
    assert_eq!(values, events);
    assert!(history.iter().all(|fact| fact.key() == b"8812" && fact.version() == 1 && fact.time() > 0));
    let latest = store.latest(ORDERS, b"8812")?.unwrap();
    assert_eq!((latest.seq().get(), latest.generation().get()), (3, 3));
    assert_eq!(latest.value()?, OrderEvent::Shipped);
    let all = store.facts(ORDERS)?;
    assert_eq!(all.iter().map(|fact| fact.seq().get()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    store.append(ORDERS, "8812", &placed(9))?;
    assert_eq!(store.history(ORDERS, "8812")?.len(), 4);
    store.close()
}

#[test]
fn facts_of_lives_that_were_all_killed_are_read_by_the_next() -> Result<()> {
    let mut disk = Simulator::new();
    let options = Options::new().segment_bytes(16 << 10).background(false);
    for life in 0..5 {
        let store = Store::over(options.open_in(&disk)?);
        let history = store.history(ORDERS, "8812")?;
        let values = history.iter().map(|fact| fact.value()).collect::<Result<Vec<_>>>()?;
        assert_eq!(values, (0..life * 60).map(placed).collect::<Vec<_>>(), "life {life}");
        for n in life * 60..(life + 1) * 60 {
            store.append(ORDERS, "8812", &placed(n))?;
            store.append(VESSELS, format!("{n}"), &ada(1.0))?;
        }
        assert_eq!(store.journal().kinds().len(), 2);
        disk = disk.kill(disk.events());
    }
    Ok(())
}

#[test]
fn a_view_is_read_from_both_ends_and_does_not_see_later_facts() -> Result<()> {
    let store = Store::in_memory()?;
    for n in 1..=5 {
        store.append(ORDERS, format!("{}", n % 2), &OrderEvent::Paid(n))?;
        store.append(VESSELS, "mmsi:2190", &ada(1.0))?;
    }
    let view = store.view();
    store.append(ORDERS, "1", &OrderEvent::Shipped)?;
    let paid = |fact: Result<esker::Fact<'_, OrderEvent>>| match fact.and_then(|fact| fact.value()) {
        Ok(OrderEvent::Paid(n)) => n,
        other => panic!("{other:?}"),
    };
    assert_eq!(view.facts(ORDERS).map(paid).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(view.facts(ORDERS).rev().map(paid).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    assert_eq!(view.history(ORDERS, "1").map(paid).collect::<Vec<_>>(), [1, 3, 5]);
    let mut both = view.history(ORDERS, "1");
    assert_eq!((both.next().map(paid), both.next_back().map(paid)), (Some(1), Some(5)));
    assert_eq!((both.next().map(paid), both.next().is_none(), both.next().is_none()), (Some(3), true, true));
    assert_eq!(paid(Ok(view.latest(ORDERS, "1")?.unwrap())), 5);

    // Several kinds in the order of the log.
    let mut orders = 0;
    for entry in view.entries().range(..) {
        let entry = entry?;
        match view.fact(ORDERS, entry)? {
            Some(order) => orders += paid(Ok(order)),
            None => assert_eq!(view.fact(VESSELS, entry)?.unwrap().value()?, ada(1.0)),
        }
    }
    assert_eq!(orders, 15);
    Ok(())
}

#[test]
fn a_view_outlives_its_store_and_does_not_keep_it_open() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("a.esker"))?;
    store.append(VESSELS, "a", &ada(2.0))?;
    let view = store.view();
    let owned = store.latest(VESSELS, "a")?.unwrap();
    drop(store);
    let again = Store::open(directory.path().join("a.esker"))?;
    assert_eq!(view.latest(VESSELS, "a")?.unwrap().value()?, ada(2.0));
    assert_eq!(owned.value()?, ada(2.0));
    again.close()
}

#[test]
fn a_reader_beside_the_writer_sees_facts_of_kinds_that_it_did_not_know() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let store = Store::open(&path)?;
    store.append(ORDERS, "1", &placed(1))?;
    let reader = Reader::open(&path)?;
    let before = StoreView::of(&reader)?;
    assert_eq!((before.facts(ORDERS).count(), before.facts(VESSELS).count()), (1, 0));
    store.append(VESSELS, "a", &ada(2.0))?;
    let after = StoreView::of(&reader)?;
    assert_eq!(after.latest(VESSELS, "a")?.unwrap().value()?, ada(2.0));
    assert_eq!(before.facts(VESSELS).count(), 0, "a view does not change");
    store.close()
}

#[test]
fn a_kind_that_was_never_registered_has_no_facts_and_reading_registers_nothing() -> Result<()> {
    let store = Store::in_memory()?;
    assert!(store.history(ORDERS, "8812")?.is_empty() && store.facts(ORDERS)?.is_empty());
    assert!(store.latest(ORDERS, "8812")?.is_none());
    let view = store.view();
    assert!(view.facts(ORDERS).next_back().is_none());
    assert!(store.journal().kinds().is_empty());
    Ok(())
}

#[test]
fn a_kind_is_registered_once_with_version_codec_and_field_names() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    for opening in 0..3 {
        let store = Store::open(&path)?;
        store.append(VESSELS, "a", &ada(1.0))?;
        store.append(ORDERS, "a", &placed(1))?;
        let kinds = store.journal().kinds();
        let told = kinds
            .iter()
            .map(|kind| (kind.name.as_str(), kind.version, kind.fields.join(" ")))
            .collect::<Vec<_>>();
        assert_eq!(
            told,
            [("vessel", 3, "name knots cargo".to_owned()), ("order", 1, "Placed Paid Shipped".to_owned())],
            "opening {opening}"
        );
        assert!(kinds.iter().all(|kind| (kind.codec, kind.owner) == (Codec::MessagePack, Owner::Facts)));
        store.close()?;
    }
    Ok(())
}

#[test]
fn every_entry_carries_the_version_that_wrote_it() -> Result<()> {
    let journal = Journal::in_memory()?;
    Store::over(journal.clone()).append(Facts::<Vessel>::new("vessel").version(1), "a", &ada(1.0))?;
    let store = Store::over(journal.clone());
    store.append(VESSELS, "a", &ada(2.0))?;
    let versions = store.history(VESSELS, "a")?.iter().map(|fact| fact.version()).collect::<Vec<_>>();
    assert_eq!(versions, [1, 3]);
    assert_eq!(journal.view().latest(journal.kinds()[0].id, b"a")?.unwrap().schema_version(), Some(3));
    Ok(())
}

#[test]
fn an_older_version_may_read_and_may_not_append() -> Result<()> {
    let journal = Journal::in_memory()?;
    Store::over(journal.clone()).append(VESSELS, "a", &ada(2.0))?;
    let old = Facts::<Vessel>::new("vessel").version(2);
    let store = Store::over(journal);
    assert_eq!(store.latest(old, "a")?.unwrap().value()?, ada(2.0));
    let error = store.append(old, "a", &ada(3.0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KindMismatch);
    assert!(error.expected().unwrap().contains("version 2") && error.actual().unwrap().contains("version 3"));
    assert_eq!(store.history(VESSELS, "a")?.len(), 1);
    Ok(())
}

#[test]
fn two_types_share_a_name_only_if_they_tell_the_same() -> Result<()> {
    #[derive(Serialize, Deserialize)]
    struct Boat {
        name: String,
        oars: u8,
    }
    #[derive(Serialize, Deserialize)]
    struct Same<'a> {
        name: &'a str,
        knots: f32,
        cargo: Option<Vec<String>>,
    }
    let store = Store::in_memory()?;
    store.append(VESSELS, "a", &ada(1.0))?;

    let boats = Facts::<Boat>::new("vessel").version(3);
    let error = store.append(boats, "b", &Boat { name: "Eve".into(), oars: 2 }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KindMismatch);
    assert!(error.to_string().contains("oars") && error.to_string().contains("cargo"), "{error}");
    let newer = Facts::<Vessel>::new("vessel").version(4);
    assert_eq!(store.append(newer, "a", &ada(1.0)).unwrap_err().kind(), ErrorKind::KindMismatch);

    let same = Facts::<Same<'_>>::new("vessel").version(3);
    let name = String::from("Grace");
    store.append(same, "c", &Same { name: &name, knots: 2.0, cargo: None })?;
    assert_eq!(store.latest(VESSELS, "c")?.unwrap().value()?.name, "Grace");
    assert_eq!(store.journal().kinds().len(), 1);
    Ok(())
}

#[test]
fn a_kind_of_bytes_is_neither_written_nor_read_as_facts() -> Result<()> {
    let store = Store::in_memory()?;
    let raw = store.journal().kind("order")?;
    store.journal().append(Record::new(raw, b"8812", b"not MessagePack"))?;
    let append = store.append(ORDERS, "8812", &placed(1)).unwrap_err();
    let latest = store.latest(ORDERS, "8812").unwrap_err();
    let view = store.view();
    let mut facts = view.facts(ORDERS);
    let first = facts.next().unwrap().unwrap_err();
    for error in [append, latest, first] {
        assert_eq!(error.kind(), ErrorKind::KindMismatch, "{error}");
        assert!(error.to_string().contains("Bytes") && error.to_string().contains("MessagePack"), "{error}");
    }
    assert!(facts.next().is_none(), "an iterator ends with its error");
    Ok(())
}

#[test]
fn a_type_that_borrows_is_read_in_place() -> Result<()> {
    #[derive(Serialize, Deserialize)]
    struct Line<'a> {
        text: &'a str,
    }
    const LINES: Facts<Line<'static>> = Facts::new("line");
    let store = Store::in_memory()?;
    let text = String::from("borrowed from the map");
    store.append(LINES, "a", &Line { text: &text })?;
    let view = store.view();
    let fact = view.latest(LINES, "a")?.unwrap();
    let line = fact.value()?;
    assert_eq!(line.text, text);
    let payload = fact.entry().payload().as_ptr_range();
    assert!(payload.contains(&line.text.as_ptr()), "the text was copied");
    let owned = fact.to_owned();
    assert_eq!(owned.value()?.text, text);
    Ok(())
}

#[test]
fn payloads_are_messagepack_maps_by_field_name() -> Result<()> {
    let store = Store::in_memory()?;
    store.append(VESSELS, "a", &ada(2.5))?;
    let latest = store.latest(VESSELS, "a")?.unwrap();
    let bytes = latest.fact().entry().payload();
    let mut expected = vec![0x83, 0xa4];
    expected.extend(b"name\xa3Ada\xa5knots\xca\x40\x20\x00\x00\xa5cargo\xc0");
    assert_eq!(bytes, expected);
    Ok(())
}

#[test]
fn a_type_may_gain_optional_fields_lose_fields_and_be_read_in_part() -> Result<()> {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Changed {
        knots: f32,
        #[serde(default)]
        flag: Option<String>,
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let store = Store::open(&path)?;
    store.append(VESSELS, "a", &ada(1.5))?;
    store.close()?;

    let store = Store::open(&path)?;
    let changed = Facts::<Changed>::new("vessel").version(4);
    store.append(changed, "a", &Changed { knots: 3.0, flag: Some("nl".into()) })?;
    let read = store.history(changed, "a")?.iter().map(|fact| fact.value()).collect::<Result<Vec<_>>>()?;
    assert_eq!(read, [Changed { knots: 1.5, flag: None }, Changed { knots: 3.0, flag: Some("nl".into()) }]);
    assert_eq!(store.journal().kinds()[0].fields, ["knots", "flag"]);
    // The old type lacks a field in the new fact: its history breaks there and says so.
    let error = store.history(VESSELS, "a")?[1].value().unwrap_err();
    assert_eq!((error.kind(), error.seqs()), (ErrorKind::Codec, Some(2..=2)));
    let text = error.to_string();
    assert!(text.contains("\"vessel\"") && text.contains("name"), "{text}");
    assert!(text.contains("written as version 4, read as version 3"), "{text}");
    store.close()
}

#[test]
fn a_payload_that_is_no_value_is_a_codec_error_with_seq_kind_and_cause() -> Result<()> {
    let store = Store::in_memory()?;
    store.append(VESSELS, "good", &ada(1.0))?;
    let id = store.journal().kinds()[0].id;
    let good = store.latest(VESSELS, "good")?.unwrap().fact().entry().payload().to_vec();
    let longer = [&good[..], &[0xc0]].concat();
    let bad: [&[u8]; 6] =
        [b"", b"\xc1", b"\xa3Ada", &good[..good.len() - 1], &longer, b"\xdf\xff\xff\xff\xff"];
    for payload in bad {
        let seq = store.journal().append(Record::new(id, b"bad", payload))?.seq.get();
        let error = store.latest(VESSELS, "bad")?.unwrap().value().unwrap_err();
        assert_eq!((error.kind(), error.seqs()), (ErrorKind::Codec, Some(seq..=seq)), "{payload:?}");
        assert!(!error.is_corruption() && std::error::Error::source(&error).is_some());
        assert!(error.to_string().contains("\"vessel\""), "{error}");
    }
    // The facts around it are read all the same.
    let view = store.view();
    let decoded = view.facts(VESSELS).filter(|fact| fact.as_ref().is_ok_and(|fact| fact.value().is_ok()));
    assert_eq!((decoded.count(), view.facts(VESSELS).count()), (1, 7));
    Ok(())
}

#[test]
fn a_value_that_cannot_be_encoded_changes_nothing() -> Result<()> {
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    impl<'de> Deserialize<'de> for Stubborn {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    let store = Store::in_memory()?;
    let kind = Facts::<Stubborn>::new("stubborn");
    let error = store.append(kind, "a", &Stubborn).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(error.to_string().contains("not today") && error.to_string().contains("stubborn"), "{error}");
    assert!(store.journal().kinds().is_empty());

    let mut batch = store.batch();
    batch.append(VESSELS, "a", &ada(1.0))?;
    assert_eq!(batch.append(kind, "a key", &Stubborn).unwrap_err().kind(), ErrorKind::Codec);
    batch.append(VESSELS, "b", &ada(2.0))?;
    assert_eq!((batch.len(), batch.commit()?.receipts.len()), (2, 2));
    assert_eq!(store.latest(VESSELS, "b")?.unwrap().value()?, ada(2.0));
    Ok(())
}

#[test]
fn a_serializer_may_append_while_it_is_being_appended() -> Result<()> {
    thread_local! {
        static LOG: std::cell::RefCell<Option<Store>> = const { std::cell::RefCell::new(None) };
    }
    #[derive(Deserialize)]
    struct Noted(u32);
    impl Serialize for Noted {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let noted = LOG.with_borrow(|log| {
                log.as_ref().unwrap().append(Facts::<String>::new("note"), "n", &"serialising".to_owned())
            });
            noted.map_err(serde::ser::Error::custom)?;
            serializer.serialize_u32(self.0)
        }
    }
    let store = Store::in_memory()?;
    LOG.set(Some(store.clone()));
    let kind = Facts::<Noted>::new("noted");
    store.append(kind, "a", &Noted(7))?;
    LOG.set(None);
    assert_eq!(store.latest(kind, "a")?.unwrap().value()?.0, 7);
    assert_eq!(store.facts(Facts::<String>::new("note"))?.len(), 1);
    Ok(())
}

#[test]
fn names_and_keys_over_their_limits_are_refused() -> Result<()> {
    let store = Store::in_memory()?;
    for name in ["", "esker.mine"] {
        let error = store.append(Facts::<u8>::new(name), "a", &1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
    }
    let no_version = Facts::<u8>::new("n").version(0);
    assert_eq!(store.append(no_version, "a", &1).unwrap_err().kind(), ErrorKind::InvalidInput);
    for key in [&[][..], &[0; 256]] {
        assert_eq!(store.append(VESSELS, key, &ada(1.0)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    store.append(VESSELS, [0; 255], &ada(1.0))?;
    assert!(store.latest(VESSELS, "")?.is_none() && store.latest(VESSELS, [0; 300])?.is_none());
    Ok(())
}

#[test]
fn an_expectation_that_is_not_met_appends_nothing_and_gives_both_numbers() -> Result<()> {
    let store = Store::in_memory()?;
    let first = store.append_if(ORDERS, "1", Expect::New, &placed(1))?;
    let error = store.append_if(ORDERS, "1", Expect::New, &placed(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!((error.expected(), error.actual()), (Some("no entry"), Some("generation 1")));
    assert!(error.to_string().starts_with("append to order/1:"), "{error}");

    let mut batch = store.batch();
    batch.append(VESSELS, "a", &ada(1.0))?;
    batch.append_if(ORDERS, "1", Expect::Generation(first.generation), &OrderEvent::Shipped)?;
    batch.append_if(ORDERS, "1", Expect::Generation(first.generation), &OrderEvent::Shipped)?;
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert!(store.facts(VESSELS)?.is_empty() && store.history(ORDERS, "1")?.len() == 1);

    store.append_if(ORDERS, "1", Expect::Generation(first.generation), &OrderEvent::Shipped)?;
    Ok(())
}

#[test]
fn a_batch_over_several_kinds_is_appended_once_under_its_key() -> Result<()> {
    let store = Store::in_memory()?;
    let key = IdempotencyKey(*b"a request's name");
    let commit = |item: u32, metadata: &[u8]| {
        let mut batch = store.batch().idempotency_key(key);
        batch.append_with(ORDERS, "1", &placed(item), With::new().metadata(metadata).correlation([7; 16]))?;
        batch.append(VESSELS, "a", &ada(1.0))?;
        batch.append(ORDERS, "1", &OrderEvent::Paid(5))?;
        batch.commit()
    };
    let first = commit(1, b"user 7")?;
    let again = commit(1, b"user 7")?;
    assert_eq!((first.repeated, again.repeated), (false, true));
    assert_eq!(first.receipts, again.receipts);
    assert_eq!(commit(2, b"user 7").unwrap_err().kind(), ErrorKind::KeyReused);
    assert_eq!(commit(1, b"user 8").unwrap_err().kind(), ErrorKind::KeyReused);

    let history = store.history(ORDERS, "1")?;
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].metadata(), history[1].metadata()), (&b"user 7"[..], &b""[..]));
    assert_eq!(history[0].fact().entry().correlation(), Some([7; 16]));
    assert_eq!(history[0].fact().entry().idempotency_key(), Some(key));
    assert!(store.batch().is_empty());
    assert_eq!(store.batch().commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    Ok(())
}

#[test]
fn appends_that_do_not_wait_are_visible_at_once_and_durable_when_asked() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Os);
    let store = Store::over(options.open(directory.path().join("a.esker"))?);
    let ticket = store.append_nowait(VESSELS, "a", &ada(1.0))?;
    assert_eq!(store.latest(VESSELS, "a")?.unwrap().seq(), ticket.seq());
    let mut batch = store.batch();
    batch.append(VESSELS, "a", &ada(2.0))?;
    let (_, second) = batch.commit_nowait()?;
    assert_eq!(second.wait_durable()?.generation.get(), 2);
    assert!(ticket.is_durable() && store.sync()? == store.journal().durable());
    store.close()
}

#[test]
fn a_closed_store_refuses_appends_of_known_and_new_kinds_and_still_reads() -> Result<()> {
    let store = Store::in_memory()?;
    store.append(VESSELS, "a", &ada(1.0))?;
    store.close()?;
    assert_eq!(store.append(VESSELS, "a", &ada(1.0)).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.append(ORDERS, "a", &placed(1)).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.latest(VESSELS, "a")?.unwrap().value()?, ada(1.0));
    Ok(())
}

#[test]
fn threads_that_use_a_kind_for_the_first_time_together_register_it_once() -> Result<()> {
    let store = Store::in_memory()?;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                for n in 0..50 {
                    store.append(ORDERS, format!("{thread}"), &placed(n)).unwrap();
                    store.append(VESSELS, format!("{thread}"), &ada(1.0)).unwrap();
                }
            });
        }
    });
    assert_eq!(store.journal().kinds().len(), 2);
    let view = store.view();
    assert_eq!((view.facts(ORDERS).count(), view.facts(VESSELS).count()), (400, 400));
    for thread in 0..8 {
        let values = view.history(ORDERS, format!("{thread}")).map(|fact| fact?.value());
        assert_eq!(values.collect::<Result<Vec<_>>>()?, (0..50).map(placed).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn every_shape_that_serde_knows_makes_the_round_trip() -> Result<()> {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Flat {
        id: u64,
        #[serde(flatten)]
        rest: BTreeMap<String, i32>,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    #[serde(tag = "type")]
    enum Tagged {
        One { value: u8 },
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Newtype(Vessel);
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Unit;

    fn round_trip<T>(store: &Store, name: &'static str, value: T, fields: &[&str]) -> Result<()>
    where
        T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug,
    {
        let kind = Facts::<T>::new(name);
        store.append(kind, "k", &value)?;
        assert_eq!(store.latest(kind, "k")?.unwrap().value()?, value, "{name}");
        let kinds = store.journal().kinds();
        assert_eq!(kinds.iter().find(|kind| kind.name == name).unwrap().fields, fields, "{name}");
        Ok(())
    }
    let store = Store::in_memory()?;
    let rest = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), -2)]);
    round_trip(&store, "flat", Flat { id: 7, rest: rest.clone() }, &[])?;
    round_trip(&store, "tagged", Tagged::One { value: 3 }, &[])?;
    round_trip(&store, "newtype", Newtype(ada(1.0)), &["name", "knots", "cargo"])?;
    round_trip(&store, "option", Some(ada(1.0)), &["name", "knots", "cargo"])?;
    round_trip(&store, "none", None::<Vessel>, &["name", "knots", "cargo"])?;
    round_trip(&store, "unit", Unit, &[])?;
    round_trip(&store, "tuple", (1u8, "two".to_owned(), [3.0f64; 2]), &[])?;
    round_trip(&store, "map", rest, &[])?;
    round_trip(&store, "text", "x".repeat(70_000), &[])?;
    round_trip(&store, "wide", (u64::MAX, i64::MIN, u128::MAX, i128::MIN, 'ß', f32::MIN_POSITIVE), &[])?;
    round_trip(&store, "empty", Vec::<u8>::new(), &[])
}

#[test]
fn a_typed_region_is_that_of_the_kind_an_entity_or_a_prefix_and_a_reader_s_is_none_before_its_first_use()
-> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.esker");
    let store = Store::open(&path)?;
    let reader = Reader::open(&path)?;
    assert_eq!(StoreView::of(&reader)?.region(ORDERS)?, None);
    for key in ["a1", "a2", "b1"] {
        store.append(ORDERS, key, &placed(1))?;
        store.append(VESSELS, key, &ada(1.0))?;
    }
    let keys = |region: Region| -> Result<Vec<Vec<u8>>> {
        let entries = store.journal().region(&region)?;
        Ok(entries.iter().map(|entry| entry.key().to_vec()).collect())
    };
    assert_eq!(keys(store.region(ORDERS)?)?, [b"a1", b"a2", b"b1"]);
    assert_eq!(keys(store.entity(ORDERS, "a2")?)?, [b"a2"]);
    assert_eq!(keys(store.prefix(ORDERS, "a")?)?, [b"a1", b"a2"]);
    assert_eq!(StoreView::of(&reader)?.region(ORDERS)?, Some(store.region(ORDERS)?));
    store.close()
}
