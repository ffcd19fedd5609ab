//! What stands on a backplane, read over a reader: the same as its writer sees, at one moment, and nothing is written.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::time::Duration;

use esker::backplane::{
    Append, Backplane, Feed, Filter, Local, Offset, Put, ReadOnly, Revision, Stamp, Step, WriterId,
    WrittenCell, WrittenTopic,
};
use esker::{CompactOptions, Durability, ErrorKind, Journal, Keep, Options, Reader};

struct World {
    directory: tempfile::TempDir,
    journal: Journal,
    plane: Local,
    n: u64,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new().segment_bytes(8 << 10).background(false).durability(Durability::Os);
        let journal = options.open(directory.path().join("a.esker")).unwrap();
        let plane = Local::over(&journal).unwrap();
        Self { directory, journal, plane, n: 0 }
    }

    fn stamp(&mut self) -> Stamp {
        self.n += 1;
        Stamp::new(WriterId::from_raw(self.n), 1)
    }

    fn append(&mut self, key: &[u8], payload: &[u8]) -> Offset {
        let step = Step::Append(Append::new("order", key, payload, self.stamp()));
        self.plane.commit(&[step]).unwrap().offset(0).unwrap()
    }

    fn put(&mut self, key: &[u8], expect: u64, value: Option<&[u8]>) {
        let put = Put::new(key, Revision::from_raw(expect), value, self.stamp());
        self.plane.commit(&[Step::Put(put)]).unwrap();
    }

    fn read(&self) -> ReadOnly {
        ReadOnly::of(&Reader::open(self.directory.path().join("a.esker")).unwrap()).unwrap()
    }
}

fn payloads(mut feed: Box<dyn Feed>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(record) = feed.try_next().unwrap() {
        assert_eq!(feed.position(), record.offset());
        all.push(record.payload().to_vec());
    }
    all
}

#[test]
fn it_answers_what_the_backplane_itself_does_and_stays_as_it_is() {
    let mut world = World::new();
    let nothing = world.read();
    // Over several segments, and more than is read at a time.
    for n in 0..200_u8 {
        let key = [n % 3];
        world.append(&key, &[[n].as_slice(), &[0; 100]].concat());
    }
    world.put(b"c", 0, Some(b"1"));
    world.put(b"c", 1, Some(b"2"));
    world.put(b"d", 0, Some(b"x"));
    world.put(b"d", 1, None);
    let still = world.read();
    for filter in [
        Filter::stream("order"),
        Filter::topic("order", &[1]),
        Filter::topic("order", b"no"),
        Filter::stream("no"),
    ] {
        assert_eq!(still.head(filter).unwrap(), world.plane.head(filter).unwrap(), "{filter}");
        assert_eq!(still.lowest_retained(filter).unwrap(), world.plane.lowest_retained(filter).unwrap());
        let all = |plane: &dyn Backplane| payloads(plane.subscribe(filter, Offset::from_raw(100)).unwrap());
        assert_eq!(all(&still), all(&world.plane), "{filter}");
        let all = |plane: &dyn Backplane| payloads(plane.subscribe_oldest(filter).unwrap());
        assert_eq!(all(&still), all(&world.plane), "{filter}");
        assert!(payloads(nothing.subscribe(filter, Offset::BEGINNING).unwrap()).is_empty());
    }
    for cell in [&b"c"[..], b"d", b"no"] {
        assert_eq!(still.load(cell).unwrap(), world.plane.load(cell).unwrap());
    }
    assert_eq!(still.era().unwrap(), world.plane.era().unwrap());
    let behind_the_end = Offset::from_raw(1000);
    assert_eq!(
        still.subscribe(Filter::stream("order"), behind_the_end).map(drop).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );

    let head = still.head(Filter::stream("order")).unwrap();
    world.append(&[1], b"later");
    world.put(b"c", 2, None);
    assert_eq!(still.head(Filter::stream("order")).unwrap(), head);
    assert_eq!(still.load(b"c").unwrap().bytes.as_deref(), Some(&b"2"[..]));
    world.journal.close().unwrap();
}

#[test]
fn nothing_is_written_and_nobody_waits() {
    let mut world = World::new();
    world.append(b"a", b"1");
    let still = world.read();
    let put = Put::new(b"c", Revision::NEVER, Some(b"1"), world.stamp());
    let error = still.commit(&[Step::Put(put)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert!(error.to_string().contains("open the store for writing"), "{error}");
    assert_eq!(still.broadcast("news", b"1").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(still.listen("news").map(drop).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert!(still.compactor().is_none());
    let mut feed = still.subscribe(Filter::stream("order"), Offset::BEGINNING).unwrap();
    assert_eq!(feed.next().unwrap().payload(), b"1");
    assert!(feed.next_timeout(Duration::from_secs(3600)).unwrap().is_none());
    assert_eq!(feed.next().map(drop).unwrap_err().kind(), ErrorKind::Closed);
    still.close().unwrap();
    assert_eq!(still.head(Filter::stream("order")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        still.subscribe(Filter::stream("order"), Offset::BEGINNING).map(drop).unwrap_err().kind(),
        ErrorKind::Closed
    );
    world.append(b"a", b"2");
    world.journal.close().unwrap();
}

#[test]
fn what_a_floor_hides_is_shown_to_nobody_and_what_was_dropped_is_lost() {
    let mut world = World::new();
    for n in 0..60_u8 {
        world.append(&[n % 2], &[[n].as_slice(), &[0; 300]].concat());
    }
    let first = world.plane.subscribe_oldest(Filter::topic("order", &[0])).unwrap().next().unwrap().offset();
    let floor = Offset::from_raw(first.raw() + 20);
    world.plane.compactor().unwrap().compact("order", &[0], floor).unwrap();
    let kind = world.journal.kind_named("order").unwrap().id;
    for is_dropped in [false, true] {
        if is_dropped {
            world.journal.keep(kind, Keep::Latest).unwrap();
            world.journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        }
        let still = world.read();
        for filter in [Filter::stream("order"), Filter::topic("order", &[0]), Filter::topic("order", &[1])] {
            assert_eq!(still.lowest_retained(filter).unwrap(), world.plane.lowest_retained(filter).unwrap());
            let outcome = |plane: &dyn Backplane| {
                plane
                    .subscribe(filter, Offset::BEGINNING)
                    .map(payloads)
                    .map_err(|error| (error.kind(), error.floor()))
            };
            let (found, expected) = (outcome(&still), outcome(&world.plane));
            assert_eq!(found, expected, "{filter}");
            if filter.key == Some(&[0]) {
                assert_eq!(found.unwrap_err().0, ErrorKind::Lost);
            }
        }
    }
    world.journal.close().unwrap();
}

#[test]
fn cells_and_topics_are_walked_over_each_once_as_they_are_now() {
    let mut world = World::new();
    assert_eq!(world.read().cells().count(), 0);
    for n in 0..30_u64 {
        world.put(b"often", n, Some(&[0; 200]));
    }
    world.put(b"once", 0, Some(b"1"));
    world.put(b"often", 30, None);
    for n in 0..90_u8 {
        world.append(&[n % 3], &[n; 100]);
    }
    let still = world.read();
    let cells: Vec<WrittenCell> = still.cells().collect::<esker::Result<_>>().unwrap();
    let found: Vec<_> =
        cells.iter().map(|cell| (&*cell.key, cell.revision.raw(), cell.bytes.as_deref())).collect();
    assert_eq!(found, [(&b"once"[..], 1, Some(&b"1"[..])), (b"often", 31, None)]);
    let topics: Vec<WrittenTopic> = still.topics("order").unwrap().collect::<esker::Result<_>>().unwrap();
    assert_eq!(
        topics.iter().map(|topic| (topic.key[0], topic.generation)).collect::<Vec<_>>(),
        [(0, 30), (1, 30), (2, 30)]
    );
    for topic in &topics {
        assert_eq!(topic.head, world.plane.head(Filter::topic("order", &topic.key)).unwrap());
    }
    assert_eq!(still.topics("nothing").unwrap().count(), 0);
    assert_eq!(still.topics("esker.cells").map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
    let behind = still.count_behind(Filter::stream("order"), topics[0].head, |key| key != [1]).unwrap();
    assert_eq!((behind.records, behind.next.unwrap().0), (1, topics[2].head));
    world.journal.close().unwrap();
}
