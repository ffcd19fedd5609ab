//! Appending what cannot be appended: each its own error, with both sides, and nothing written.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed, which is what it is for"
)]

use esker::{
    ErrorKind, Expect, Generation, IdempotencyKey, Journal, KEY_BYTES_MAX, METADATA_BYTES_MAX, Options,
    PAYLOAD_BYTES_MAX, Record, Simulator,
};

fn options() -> Options {
    Options::new().segment_bytes(64 << 10).background(false)
}

fn journal() -> Journal {
    options().in_memory().unwrap()
}

#[test]
fn a_key_has_between_1_and_255_bytes() {
    let journal = journal();
    let kind = journal.kind("note").unwrap();
    for (key, fits) in [(0, false), (1, true), (KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
        let key = vec![7; key];
        let outcome = journal.append(Record::new(kind, &key, b""));
        assert_eq!(outcome.is_ok(), fits, "{} bytes", key.len());
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(
                (error.expected(), error.actual()),
                (Some("1 to 255 bytes"), Some(&*key.len().to_string()))
            );
        }
    }
    assert_eq!(journal.stats().entries, 2);
}

#[test]
fn metadata_and_payloads_have_their_limits() {
    let journal = Options::new().segment_bytes(128 << 20).background(false).in_memory().unwrap();
    let kind = journal.kind("note").unwrap();
    let metadata = vec![1; METADATA_BYTES_MAX + 1];
    let record = Record::new(kind, b"a", b"");
    journal.append(record.metadata(&metadata[1..])).unwrap();
    assert_eq!(journal.append(record.metadata(&metadata)).unwrap_err().kind(), ErrorKind::InvalidInput);
    let payload = vec![1; PAYLOAD_BYTES_MAX + 1];
    journal.append(Record::new(kind, b"a", &payload[1..])).unwrap();
    let error = journal.append(Record::new(kind, b"a", &payload)).unwrap_err();
    assert_eq!((error.kind(), error.actual()), (ErrorKind::InvalidInput, Some("16773121")));
    assert_eq!(journal.latest(kind, b"a").unwrap().unwrap().payload(), &payload[1..]);
}

#[test]
fn a_batch_is_not_empty_and_takes_at_most_a_quarter_of_a_segment() {
    let journal = journal();
    let kind = journal.kind("note").unwrap();
    assert_eq!(journal.batch().commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    let payload = vec![1; 4 << 10];
    let mut batch = journal.batch();
    (0..4).for_each(|_| {
        batch.push(Record::new(kind, b"a", &payload));
    });
    let error = batch.commit().unwrap_err();
    assert_eq!((error.kind(), error.expected()), (ErrorKind::BatchTooLarge, Some("at most 16384 bytes")));
    let whole = vec![1; 16 << 10];
    assert_eq!(journal.append(Record::new(kind, b"a", &whole)).unwrap_err().kind(), ErrorKind::BatchTooLarge);
    let mut batch = journal.batch();
    (0..3).for_each(|_| {
        batch.push(Record::new(kind, b"a", &payload));
    });
    batch.commit().unwrap();
    assert_eq!(journal.stats().entries, 3);
}

#[test]
fn an_expectation_that_is_not_met_says_both_numbers_and_appends_nothing() {
    let journal = journal();
    let kind = journal.kind("note").unwrap();
    let record = |expect| Record::new(kind, b"a", b"1").expect(expect);
    let conflict = |expect| {
        let error = journal.append(record(expect)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        (error.expected().unwrap().to_owned(), error.actual().unwrap().to_owned())
    };
    assert_eq!(conflict(Expect::Exists), ("an entry".into(), "no entry".into()));
    let seventh = Expect::Generation(Generation::new(7).unwrap());
    assert_eq!(conflict(seventh), ("generation 7".into(), "no entry".into()));
    journal.append(record(Expect::New)).unwrap();
    journal.append(record(Expect::Exists)).unwrap();
    assert_eq!(conflict(Expect::New), ("no entry".into(), "generation 2".into()));
    assert_eq!(conflict(seventh), ("generation 7".into(), "generation 2".into()));
    // One that is not met takes the whole batch with it.
    let mut batch = journal.batch();
    batch.push(Record::new(kind, b"b", b"1"));
    batch.push(record(Expect::New));
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert!(journal.latest(kind, b"b").unwrap().is_none());
    assert_eq!(journal.stats().entries, 2);
}

#[test]
fn an_error_about_a_key_shows_control_characters_and_does_not_send_them() {
    let journal = journal();
    let kind = journal.kind("note").unwrap();
    let key = b"line\n\x1b[31mred";
    let error = journal.append(Record::new(kind, key, b"1").expect(Expect::Exists)).unwrap_err();
    assert!(error.to_string().contains("note/line\\n\\u{1b}[31mred"), "{error}");
    assert!(!error.to_string().contains(char::is_control), "{error}");
}

#[test]
fn a_reused_key_gives_the_first_receipts_or_an_error_also_after_reopening() {
    let disk = Simulator::new();
    let key = IdempotencyKey([3; 16]);
    let append = |journal: &Journal, payload: &[u8]| {
        let kind = journal.kind("note").unwrap();
        let mut batch = journal.batch().idempotency_key(key);
        batch.push(Record::new(kind, b"a", payload).expect(Expect::New));
        batch.commit()
    };
    let journal = options().open_in(&disk).unwrap();
    let first = append(&journal, b"1").unwrap();
    for _ in 0..3 {
        let again = append(&journal, b"1").unwrap();
        assert!(again.repeated && again.receipts == first.receipts);
        let error = append(&journal, b"2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyReused);
        assert!(error.expected().is_some() && error.actual().is_some(), "{error}");
    }
    journal.close().unwrap();
    let journal = options().open_in(&disk).unwrap();
    assert_eq!(append(&journal, b"1").unwrap().receipts, first.receipts);
    assert_eq!(append(&journal, b"2").unwrap_err().kind(), ErrorKind::KeyReused);
    assert_eq!(journal.stats().entries, 1);
}

#[test]
fn a_kind_of_another_store_is_unknown() {
    let kinds: Vec<_> = {
        let other = journal();
        (0..3).map(|n| other.kind(&format!("kind-{n}")).unwrap()).collect()
    };
    let journal = journal();
    let error = journal.append(Record::new(kinds[2], b"a", b"")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKind);
    assert_eq!(journal.kind("").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(journal.kind(&"x".repeat(256)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(journal.kind("esker.own").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn after_close_everything_that_writes_says_so_and_what_was_read_stays() {
    let journal = journal();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"a", b"1")).unwrap();
    let (clone, view) = (journal.clone(), journal.view());
    journal.close().unwrap();
    journal.close().unwrap();
    let record = Record::new(kind, b"a", b"2");
    assert_eq!(clone.append(record).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(clone.append_nowait(record).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(clone.kind("other").unwrap_err().kind(), ErrorKind::Closed);
    let mut batch = clone.batch();
    batch.push(record);
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(view.latest(kind, b"a").unwrap().unwrap().payload(), b"1");
}

#[test]
fn after_a_failed_sync_nothing_is_appended_and_only_what_is_durable_is_read() {
    let disk = Simulator::new();
    let journal = options().open_in(&disk).unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"a", b"1")).unwrap();
    disk.fail_sync_after(0);
    let first = journal.append(Record::new(kind, b"a", b"2")).unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Poisoned);
    for _ in 0..2 {
        let later = journal.append(Record::new(kind, b"a", b"3")).unwrap_err();
        assert_eq!(later.kind(), ErrorKind::Poisoned);
        assert!(later.to_string().contains("simulated failure"), "{later}");
    }
    assert_eq!(journal.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(journal.kind("other").unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(journal.latest(kind, b"a").unwrap().unwrap().payload(), b"1");
    assert_eq!(journal.close().unwrap_err().kind(), ErrorKind::Poisoned);
    let mut nothing_unsynced = |_: usize| 0;
    let after = disk.crash(disk.events(), &mut nothing_unsynced);
    let journal = options().open_in(&after).unwrap();
    assert_eq!(journal.latest(kind, b"a").unwrap().unwrap().payload(), b"1");
}

#[test]
fn a_batch_that_was_not_appended_can_be_committed_again_and_one_that_was_is_empty() {
    let journal = esker::Journal::in_memory().unwrap();
    let kind = journal.kind("note").unwrap();
    let mut batch = journal.batch().idempotency_key(IdempotencyKey(*b"again and again!"));
    batch.extend([Record::new(kind, b"a", b"1").expect(Expect::Exists), Record::new(kind, b"b", b"2")]);
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::Conflict);
    journal.append(Record::new(kind, b"a", b"0")).unwrap();
    assert_eq!(batch.len(), 2);
    let done = batch.commit().unwrap();
    assert_eq!((done.receipts[1].seq.get(), done.repeated), (3, false));
    assert!(batch.is_empty());
    let named = journal.get(done.receipts[0].seq).unwrap().unwrap();
    assert_eq!(named.entry().idempotency_key(), Some(IdempotencyKey(*b"again and again!")));

    // One record that is over its limits holds back all of them, and stays where it is.
    batch.extend([
        Record::new(kind, b"a", b"3"),
        Record::new(kind, b"", b"4"),
        Record::new(kind, b"a", b"5"),
    ]);
    for _ in 0..2 {
        assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(batch.len(), 3);
    }
    assert_eq!(journal.stats().entries, 3);
}

#[test]
fn of_a_long_key_an_error_says_that_it_shows_the_beginning_whatever_bytes_it_is_of() {
    let journal = Journal::in_memory().unwrap();
    let kind = journal.kind("k").unwrap();
    let shown = |key: &[u8]| {
        journal.append(Record::new(kind, key, b"")).unwrap();
        journal.append(Record::new(kind, key, b"").expect(Expect::New)).unwrap_err().to_string()
    };
    for byte in [b'x', 0xff] {
        assert!(shown(&[byte; 100]).contains("\u{2026} (100 bytes)"), "of {byte}");
        assert!(!shown(&[byte; 64]).contains('\u{2026}'), "of {byte}");
    }
    assert!(!shown("\u{e4}".repeat(64).as_bytes()).contains('\u{2026}'));
}
