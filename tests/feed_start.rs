//! Where a reader begins that may not yet see all that there is.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use esker::{
    Durability, Item, Options, Record, Region, Seq, Simulator, Start, SubscribeOptions, Until, WatchOptions,
};

/// Three entries, of which none is durable; behind them a reader begins, and then comes a fourth.
#[test]
fn what_was_appended_before_is_not_new_to_who_waits_for_what_is_durable() {
    for start in [Start::Newest, Start::After(Seq::new(3).unwrap()), Start::At(i64::MAX)] {
        let options = Options::new().background(false).durability(Durability::Os);
        let journal = options.open_in(&Simulator::new()).unwrap();
        let kind = journal.kind("a").unwrap();
        let append = |payload: &[u8]| journal.append(Record::new(kind, b"k", payload)).unwrap();
        ["one", "two", "three"].iter().for_each(|text| _ = append(text.as_bytes()));

        let options = SubscribeOptions::new().until(Until::Durable).from(start);
        let mut subscriber = journal.subscribe_with(Region::all(), options).unwrap();
        let mut watcher =
            journal.watch_with("audit", Region::all(), WatchOptions::new().from(start)).unwrap();
        append(b"four");
        journal.sync().unwrap();

        let item = subscriber.try_next().unwrap();
        assert!(
            matches!(item, Some(Item::Entry(entry)) if entry.payload() == b"four"),
            "{start:?}: {item:?}"
        );
        assert_eq!(watcher.try_next().unwrap().unwrap().payload(), b"four", "{start:?}");
    }
}
