//! Stores to draw.

use std::time::Duration;

use esker::{CompactOptions, Durability, Journal, Keep, ManualClock, Options, Record, Region, Seq, Start};

use crate::support::Sample;

/// The last Seq of [`busy`].
pub(crate) const LAST: u64 = 3000;
pub(crate) const WIDE_ENTITIES: u64 = 5000;
pub(crate) const WIDE_CURSORS: u64 = 40;

/// A store of some hours with a bit of everything: parts, tombstones, cursors behind, and one that is lost.
pub(crate) fn busy() -> Sample {
    let sample = Sample::empty();
    let clock = ManualClock::new();
    let options = || Options::new().segment_bytes(32 << 10).durability(Durability::Os).clock(clock.clone());
    let journal = options().open(sample.path()).unwrap();
    let kinds = ["reading", "order", "audit", "session"].map(|name| journal.kind(name).unwrap());
    journal.keep(kinds[0], Keep::Latest).unwrap();
    journal.keep(kinds[3], Keep::Nothing).unwrap();
    let mut n = 0;
    write(&journal, &clock, kinds, &mut n, LAST / 2);
    let small = esker::WatchOptions::new().hold(esker::Hold::UpTo(1000));
    drop(journal.watch_with("thumbnailer", Region::all(), small).unwrap());
    journal.reset_cursor("thumbnailer", Start::After(Seq::new(20).unwrap())).unwrap();
    let all = CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true).keep_entries(300);
    assert!(journal.compact(&all).unwrap().parts_written > 0);
    write(&journal, &clock, kinds, &mut n, LAST);
    let at = |seq| Start::After(Seq::new(seq).unwrap());
    sample.put(&journal, "search-index", Region::all(), at(LAST - 4));
    sample.put(&journal, "billing", Region::kind(kinds[1]), at(LAST - 700));
    sample.put(&journal, "warehouse-export", Region::all(), at(LAST - 1290));
    sample.put(&journal, "mailer", Region::kind(kinds[2]), at(LAST - 240));
    journal.close().unwrap();
    sample
}

fn write(journal: &Journal, clock: &ManualClock, kinds: [esker::KindId; 4], n: &mut u64, until: u64) {
    let mut seed = *n + 7;
    while *n < until {
        *n += 1;
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = seed >> 33;
        // Quiet and busy hours.
        let quiet = if *n % 700 < 120 { 90_000 } else { 2_500 };
        clock.advance(Duration::from_millis(quiet + drawn % 3000));
        let (kind, key, size) = match drawn % 10 {
            0..5 => (kinds[0], format!("station-{:02}", (drawn / 10 % 12).min(drawn / 120 % 12)), 60),
            5..8 => (kinds[1], format!("2026-{:04}", *n / 9), 180 + drawn as usize % 300),
            8 => (kinds[2], "who".to_owned(), 90),
            _ => (kinds[3], format!("user-{}", drawn % 25), 40),
        };
        let payload = "x".repeat(size);
        let is_end = drawn % 97 == 3 && kind == kinds[0];
        let record = Record::new(kind, key.as_bytes(), payload.as_bytes());
        let end = Record::tombstone(kind, key.as_bytes());
        journal.append(if is_end { end } else { record }).unwrap();
    }
    // One that is gone for sure.
    clock.advance(Duration::from_secs(1));
}

/// Names that try to be markup, to turn the line, and to be no text at all.
pub(crate) fn hostile() -> Sample {
    let sample = Sample::empty();
    let journal = sample.open();
    let keys: [&[u8]; 8] = [
        b"<script>alert(1)</script>",
        b"\"><img src=x onerror=alert(1)>",
        &[0xff, 0x00, 0xfe],
        "\u{202e}turned".as_bytes(),
        b"&amp;]]><!--",
        b"' onmouseover='x",
        b"</title></style></svg>",
        &[b'k'; 255],
    ];
    let kind = journal.kind("</style><b>kind").unwrap_or_else(|_| journal.kind("kind").unwrap());
    for round in 0..40 {
        for key in keys.iter().take(1 + round % keys.len()) {
            journal.append(Record::new(kind, key, b"{}")).unwrap();
        }
    }
    sample.put(&journal, "<b>cursor & 'co'", Region::all(), Start::Oldest);
    sample.put(
        &journal,
        "a-cursor-whose-name-is-far-too-long-for-any-flag-on-any-ruler",
        Region::all(),
        Start::Oldest,
    );
    journal.close().unwrap();
    sample
}

/// Thousands of entities in hundreds of segments, and many cursors and kinds.
pub(crate) fn wide() -> Sample {
    let sample = Sample::empty();
    let clock = ManualClock::new();
    let options = Options::new().segment_bytes(16 << 10).durability(Durability::Os).clock(clock.clone());
    let journal = options.open(sample.path()).unwrap();
    let kinds: Vec<_> = (0..12).map(|n| journal.kind(&format!("kind-{n:02}")).unwrap()).collect();
    let payload = [b'x'; 120];
    for n in 0..3 * WIDE_ENTITIES {
        clock.advance(Duration::from_secs(n % 13));
        let key = format!("entity-{:05}", n % WIDE_ENTITIES);
        let kind = kinds[(n % WIDE_ENTITIES) as usize % kinds.len()];
        journal.append(Record::new(kind, key.as_bytes(), &payload)).unwrap();
        if n % 3 == 0 {
            let hot = format!("entity-{:05}", n % 24);
            journal
                .append(Record::new(kinds[(n % 24) as usize % kinds.len()], hot.as_bytes(), &payload))
                .unwrap();
        }
    }
    for n in 0..WIDE_CURSORS {
        let at = Seq::new(100 + n * 471).unwrap();
        sample.put(&journal, &format!("worker-{n:02}"), Region::all(), Start::After(at));
    }
    journal.close().unwrap();
    sample
}
