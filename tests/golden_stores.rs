//! The promise about formats: stores that older builds wrote are opened by this one, and what a newer one
//! wrote is refused before a byte is changed.
//!
//! `tests/data/format-N/` has stores as a build of that format left them, and beside each, as text, what is
//! in it. They are never made again: `cargo test --test golden_stores -- --ignored` adds those that are
//! missing, of the format of this build. A format that changes gets a directory of its own. Where only the
//! words of the text change, `UPDATE_GOLDEN=1` writes it anew, to be read like any other change.
//!
//! The lock page is left out: it names the machine, and a store needs none.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::backplane::IMAGES_STREAM;
use esker::dump::{Dump, FORMAT_VERSION, Item, Survey};
use esker::{
    BackupBy, Check, CompactOptions, ErrorKind, EventItem, Facts, Hold, IdempotencyKey, Journal, Keep, Kind,
    Options, Owner, Patch, Reader, Record, Region, Start, Store, Verdict, WatchOptions, Window, repair,
    restore, verify,
};

#[path = "golden_stores/folds.rs"]
mod folds;

/// No sample is greater.
const SAMPLE_BYTES_MAX: u64 = 100 << 10;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

fn names(path: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in names(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Every store of every format, by its place under `tests/data`.
fn samples() -> Vec<(String, PathBuf)> {
    let mut samples = Vec::new();
    for format in names(&data()) {
        for name in names(&data().join(&format)) {
            let path = data().join(&format).join(&name);
            if path.is_dir() {
                samples.push((format!("{format}/{name}"), path));
            }
        }
    }
    assert!(samples.len() >= 6, "the samples are gone: {samples:?}");
    samples
}

/// A copy of a sample, in a directory of its own.
struct Copied {
    scratch: tempfile::TempDir,
}

impl Copied {
    fn of(sample: &Path) -> Self {
        let copied = Self { scratch: tempfile::tempdir().unwrap() };
        copy(sample, &copied.path());
        copied
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("copy.esker")
    }
}

/// All that a reader sees of a store: the same bytes give the same text, by whichever build.
fn describe(path: &Path) -> String {
    let reader = Reader::open(path).unwrap();
    let survey = Survey::of(&reader).unwrap();
    let dump = Dump::new(reader.kinds()).physical(true);
    let mut text = String::new();
    let (store, era, created) = (reader.store_id(), reader.era(), reader.created());
    let _ = writeln!(text, "store {store} era {era} created {created} backup {}", reader.is_backup());
    for kind in reader.kinds() {
        let (id, name, version, fields) = (kind.id, &kind.name, kind.version, &kind.fields);
        let _ = writeln!(text, "kind {id} {name} v{version} {:?} {:?} {fields:?}", kind.codec, kind.owner);
    }
    for source in reader.sources() {
        let _ = writeln!(text, "source {} {} claimed {}", source.id, source.name, source.claimed);
    }
    for cursor in reader.cursors().unwrap() {
        let (seq, era, behind) = (cursor.seq.map_or(0, |seq| seq.get()), cursor.era, cursor.behind);
        let region = match &cursor.region {
            Region::All => "all".to_owned(),
            other => format!("{other:?}"),
        };
        let _ = write!(text, "cursor {} {region} {:?} seq {seq} ", cursor.name, cursor.hold);
        let _ = writeln!(text, "revision {} era {era} behind {behind}", cursor.revision);
    }
    let images = reader.kinds().into_iter().find(|kind| kind.name == IMAGES_STREAM).map(|kind| kind.id);
    for item in survey.frames() {
        match item.unwrap() {
            Item::Frame(frame) => {
                let _ = writeln!(text, "{}", dump.line(&frame));
                if !frame.is_system() {
                    let (metadata, key) = (esker::dump::hex(&frame.metadata), frame.idempotency_key);
                    let correlation = frame.correlation.map(|id| esker::dump::hex(&id));
                    let _ = write!(text, "  metadata {metadata} key {key:?} correlation {correlation:?} ");
                    let _ = writeln!(text, "cause {:?} schema {:?}", frame.causation, frame.schema_version);
                    if let Some(stamp) = frame.stamp {
                        let _ = writeln!(text, "  stamp {stamp}");
                    }
                    if frame.kind.is_some() && frame.kind == images {
                        let _ = writeln!(text, "  piece {}", esker::dump::hex(&frame.payload));
                    }
                    if let Some(event) = frame.event {
                        let _ = writeln!(text, "  {event:x?}");
                    }
                    if let Some(row) = frame.row {
                        let (sources, changed, version) = (row.sources, row.changed, row.version);
                        let _ =
                            writeln!(text, "  sources {sources:x} changed {changed:x} version {version:?}");
                    }
                }
            }
            Item::Damage(damage) => _ = writeln!(text, "damage {damage:?}"),
        }
    }
    text
}

/// What an entry says: Seq, generation, entity, metadata and payload.
type Said = (u64, u64, String, Vec<u8>, Vec<u8>);

/// What the entries of a store say, but for where they lie.
fn entries(path: &Path) -> Vec<Said> {
    let reader = Reader::open(path).unwrap();
    let dump = Dump::new(reader.kinds());
    let frames = Survey::of(&reader).unwrap().frames().map(|item| match item.unwrap() {
        Item::Frame(frame) => frame,
        Item::Damage(damage) => panic!("{damage:?}"),
    });
    let entries = frames.filter(|frame| !frame.is_system());
    entries
        .map(|one| (one.seq, one.generation.unwrap().get(), dump.entity(&one), one.metadata, one.payload))
        .collect()
}

#[test]
fn every_sample_is_small_names_no_machine_and_has_its_expectation() {
    let mut sizes = BTreeMap::new();
    for (name, path) in samples() {
        let expectation = path.with_extension("txt");
        assert!(expectation.is_file(), "{name} is tested by nothing: {} is not there", expectation.display());
        let files = names(&path);
        assert!(!files.contains("LOCK") && files.contains("MANIFEST"), "{name}: {files:?}");
        let bytes: u64 = files.iter().map(|file| path.join(file).metadata().unwrap().len()).sum();
        assert!(bytes <= SAMPLE_BYTES_MAX, "{name}: {bytes} bytes");
        sizes.insert(name, bytes);
    }
    for format in names(&data()) {
        let number = format.strip_prefix("format-").and_then(|number| number.parse().ok());
        assert!(number.is_some_and(|number: u16| number <= FORMAT_VERSION), "{format} is no format");
        for name in names(&data().join(&format)).iter().filter_map(|name| name.strip_suffix(".txt")) {
            assert!(sizes.contains_key(&format!("{format}/{name}")), "{format}/{name}.txt is about nothing");
        }
    }
    let own = format!("format-{FORMAT_VERSION}/");
    assert!(sizes.keys().any(|name| name.starts_with(&own)), "the present format has no sample");
}

#[test]
fn what_is_in_a_sample_is_what_was_put_there() {
    for (name, path) in samples() {
        let copied = Copied::of(&path);
        let found = describe(&copied.path());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path.with_extension("txt"), &found).unwrap();
        }
        let expected = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let lines = expected.lines().zip(found.lines()).position(|(one, other)| one != other);
        assert_eq!(found, expected, "{name}: line {:?} differs", lines.map(|at| at + 1));
        let verified = verify(copied.path(), Check::Full).unwrap();
        assert_eq!(verified.verdict, Verdict::Valid, "{name}: {:#?}", verified.findings);
        assert_eq!(names(&copied.path()), names(&path), "{name}: reading changed something");
    }
}

#[test]
fn a_sample_is_written_on_and_keeps_what_it_had() {
    for (name, path) in samples() {
        let copied = Copied::of(&path);
        let before = entries(&copied.path());
        let mut store = copied.path();
        if Reader::open(&store).unwrap().is_backup() {
            assert_eq!(options().open(&store).unwrap_err().kind(), ErrorKind::IsBackup, "{name}");
            store = copied.scratch.path().join("restored.esker");
            restore(copied.path(), &store).unwrap();
        }
        let journal = options().open(&store).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Of live state only sources write.
        let facts = journal.kinds().into_iter().find(|kind| kind.owner == Owner::Facts);
        let kind = facts.map_or_else(|| journal.kind("more").unwrap(), |kind| kind.id);
        let last = before.last().unwrap();
        for entry in journal.view().range(..) {
            entry.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let appended = journal.append(Record::new(kind, b"of this build", b"on")).unwrap();
        assert!(appended.seq.get() > last.0, "{name}");
        let big = vec![7; 800];
        (0..8).for_each(|_| _ = journal.append(Record::new(kind, b"of this build", &big)).unwrap());
        journal.close().unwrap();
        let verified = verify(&store, Check::Full).unwrap();
        assert_eq!(verified.verdict, Verdict::Valid, "{name}: {:#?}", verified.findings);
        let after = entries(&store);
        assert_eq!((&after[..before.len()], after.len()), (&before[..], before.len() + 9), "{name}");
        let again = options().open(&store).unwrap();
        let newest = again.latest(kind, b"of this build").unwrap().unwrap();
        assert_eq!(newest.generation().get(), appended.generation.get() + 8, "{name}");
    }
}

#[test]
fn an_idempotency_key_and_cursors_of_an_older_build_still_count() {
    let copied = Copied::of(&data().join("format-1/plain"));
    let journal = options().open(copied.path()).unwrap();
    assert!(journal.remembers(KEY));
    let copied = Copied::of(&data().join("format-1/cursors"));
    let journal = options().open(copied.path()).unwrap();
    let mut audit = journal.watch("audit", Region::all()).unwrap();
    assert!(audit.advance().unwrap());
    assert_eq!(audit.entry().seq().get(), 4);
}

/// The header of every file is 128 bytes: the version at 10, incompatible features at 20, a CRC-32 at 124.
fn change_header(path: &Path, (at, value): (usize, u8), fits: bool) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] = value;
    let crc = !bytes[..124].iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    });
    let crc = if fits { crc } else { crc ^ 0x00ff_ff00 };
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// Names, inodes, times of change and bytes of a directory.
fn image(path: &Path) -> BTreeMap<String, (u64, i64, i64, Vec<u8>)> {
    let describe = |name: &String| {
        let found = path.join(name).metadata().unwrap();
        (found.ino(), found.mtime(), found.mtime_nsec(), std::fs::read(path.join(name)).unwrap())
    };
    names(path).into_iter().map(|name| (name.clone(), describe(&name))).collect()
}

#[test]
fn a_newer_file_of_every_type_is_refused_and_nothing_is_changed() {
    const VERSION_2: (usize, u8) = (10, 2);
    const FEATURE: (usize, u8) = (20, 0x40);
    let sample = data().join("format-1/many_segments");
    let files = names(&sample);
    let newest = |suffix: &str| files.iter().rfind(|name| name.ends_with(suffix)).unwrap().clone();
    let first = files.iter().find(|name| name.ends_with(".seg")).unwrap().clone();
    // Those without which there is no log; a checksum of tomorrow may be another one.
    let log = ["MANIFEST".to_owned(), newest(".seg")].map(|name| (name, true));
    // Those that are made anew where they are damaged: they have to say so with a checksum that fits.
    let derived = ["LOCK".to_owned(), newest(".idx"), "entities".to_owned()].map(|name| (name, false));
    for (file, is_log) in log.into_iter().chain(derived) {
        for (change, fits) in [(VERSION_2, true), (VERSION_2, false), (FEATURE, true)] {
            let copied = Copied::of(&sample);
            // A store in use has a lock page.
            options().open(copied.path()).unwrap().close().unwrap();
            change_header(&copied.path().join(&file), change, fits);
            let before = image(&copied.path());
            let opened = options().open(copied.path());
            if !is_log && !fits {
                opened.unwrap_or_else(|error| panic!("a damaged {file} stands in the way: {error}"));
                continue;
            }
            let error = opened.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FormatTooNew, "{file} {change:?}: {error}");
            assert!(error.expected().is_some() && error.actual().is_some(), "{file}: {error}");
            assert!(error.path().unwrap().ends_with(&file), "{file}: {error}");
            assert_eq!(image(&copied.path()), before, "{file} {change:?}");
            if is_log {
                let target = copied.scratch.path().join("new");
                let tries = [
                    Reader::open(copied.path()).map(drop),
                    repair(copied.path(), &target).map(drop),
                    esker::upgrade(copied.path(), &target).map(drop),
                ];
                for tried in tries {
                    let error = tried.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::FormatTooNew, "{file} {change:?}: {error}");
                }
                assert!(!target.exists());
            } else {
                // Whoever writes nothing needs none of them.
                assert!(entries(&copied.path()).len() > 5, "{file}");
            }
            assert_eq!(image(&copied.path()), before, "{file} {change:?}");
        }
    }
    // A segment that an opening does not touch is found when it is read.
    let copied = Copied::of(&sample);
    change_header(&copied.path().join(&first), VERSION_2, true);
    let error = esker::upgrade(copied.path(), "nowhere").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FormatTooNew, "{error}");
}

const KEY: IdempotencyKey = IdempotencyKey(*b"a key of sixteen");

#[derive(serde::Serialize, serde::Deserialize)]
struct Vessel {
    name: String,
    knots: f32,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Vessel2 {
    name: String,
    knots: f32,
    #[serde(default)]
    flag: Option<String>,
}

const LIVE: Kind<Vessel> = Kind::new("live");
const LIVE_2: Kind<Vessel2> = Kind::new("live").version(2);
const LOGGED: Kind<Vessel> = Kind::new("logged").events();
const VESSELS: Facts<Vessel> = Facts::new("vessel");
const ORDERS: Facts<u32> = Facts::new("order");
const INVOICES: Facts<String> = Facts::new("invoice");

/// Makes a store at a path.
type Make = fn(&Path);

/// Adds the samples that are missing, and what is in them.
#[test]
#[ignore = "makes samples of the format of this build; those that are there stay as they are"]
fn make_the_samples_that_are_missing() {
    let folder = data().join(format!("format-{FORMAT_VERSION}"));
    std::fs::create_dir_all(&folder).unwrap();
    let makers: [(&str, Make); 9] = [
        ("plain", plain),
        ("many_segments", many_segments),
        ("cursors", cursors),
        ("torn", torn),
        ("backup", backup),
        ("repaired", repaired),
        ("live_state", live_state),
        ("events", events),
        ("folds", folds::folds),
    ];
    for (name, make) in makers {
        let sample = folder.join(name);
        if sample.exists() {
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a.esker");
        make(&path);
        copy(&path, &sample);
        _ = std::fs::remove_file(sample.join("LOCK"));
        std::fs::write(sample.with_extension("txt"), describe(&sample)).unwrap();
    }
}

/// Two lives that closed in order; keys and payloads of any bytes, a batch with a key, two codecs.
fn plain(path: &Path) {
    let store = Store::over(options().open(path).unwrap());
    let journal = store.journal();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"a", b"one").metadata(b"by hand").correlation([7; 16])).unwrap();
    journal.append(Record::new(note, b"\0\xff/", &[0, 0xfe, 0xff])).unwrap();
    store.append(VESSELS, "mmsi:2190", &Vessel { name: "Ada".into(), knots: 11.25 }).unwrap();
    store.close().unwrap();
    let store = Store::over(options().open(path).unwrap());
    let mut batch = store.journal().batch().idempotency_key(KEY);
    batch.push(Record::new(note, b"a", b"two")).push(Record::new(note, b"b", b"")).commit().unwrap();
    store.append(VESSELS, "mmsi:2190", &Vessel { name: "Zürich".into(), knots: 0.0 }).unwrap();
    store.close().unwrap();
}

/// Rows of two sources in every state that there is, an older version of a schema among them, and a part, which a
/// compaction made of rows.
fn live_state(path: &Path) {
    let open = || Store::over(options().window(Window::Manual).open(path).unwrap());
    let store = open();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("Lotse").unwrap());
    let say = |key: &str, knots: f32| {
        radar.assert_with(LIVE, key, &Vessel { name: key.into(), knots }, b"seen").unwrap();
        store.flush().unwrap();
    };
    say("old", 1.0);
    say("Ada", 1.0);
    pilot.patch(LIVE, "Ada", &Patch::new()).unwrap();
    store.flush().unwrap();
    for n in 0..60_u8 {
        say("busy", f32::from(n));
    }
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().parts_written > 0);
    say("Ada", 2.0);
    radar.retract(LIVE, "Ada").unwrap();
    store.flush().unwrap();
    say("gone", 1.0);
    radar.retract(LIVE, "gone").unwrap();
    store.flush().unwrap();
    drop((radar, pilot));
    store.close().unwrap();
    let store = open();
    let radar = store.source("radar").unwrap();
    radar.assert(LIVE_2, "new", &Vessel2 { name: "new".into(), knots: 3.0, flag: None }).unwrap();
    drop(radar);
    store.close().unwrap();
}

/// Every operation in every state of its entity, in an epoch and out of one; a part holds what compaction kept of them, and
/// the last segments know of the first ones only from their preambles.
fn events(path: &Path) {
    let store = Store::over(options().window(Window::Manual).open(path).unwrap());
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("Lotse").unwrap());
    store.keep_events(LOGGED, Keep::Latest).unwrap();
    let vessel = |knots: f32| Vessel { name: "Ada".into(), knots };
    radar.assert(LOGGED, "old", &vessel(0.0)).unwrap();
    for n in 0..60_u8 {
        radar.assert_with(LOGGED, "busy", &vessel(f32::from(n)), b"seen").unwrap();
        store.flush().unwrap();
    }
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().parts_written > 0);
    radar.assert(LOGGED, "Ada", &vessel(1.0)).unwrap();
    pilot.patch(LOGGED, "Ada", &Patch::new().set("knots", &2.0_f32).unwrap()).unwrap();
    radar.retract(LOGGED, "Ada").unwrap();
    store.flush().unwrap();
    let epoch = radar.epoch(LOGGED).unwrap();
    radar.assert(LOGGED, "Grace", &vessel(3.0)).unwrap();
    epoch.commit().unwrap();
    pilot.retract(LOGGED, "nobody").unwrap();
    drop((radar, pilot));
    store.close().unwrap();
}

#[test]
fn events_of_an_older_build_are_read_and_their_numbers_go_on() {
    for format in names(&data()) {
        let copied = Copied::of(&data().join(format).join("events"));
        let store = Store::over(options().window(Window::Manual).open(copied.path()).unwrap());
        let radar = store.source("radar").unwrap();
        radar.assert(LOGGED, "Ada", &Vessel { name: "Ada".into(), knots: 9.0 }).unwrap();
        store.flush().unwrap();
        let stream = store.events(LOGGED).from(Start::Oldest).include_synthetic(true);
        let mut events = stream.start().unwrap();
        let mut told = Vec::new();
        while let Some(item) = events.try_next().unwrap() {
            if let EventItem::Event(event) = item
                && event.key() != b"busy"
            {
                let knots = event.value().unwrap().map(|vessel| vessel.knots);
                told.push((event.kind(), event.sequence(), knots, event.version()));
            }
        }
        use esker::EventKind::{Created, Retracted, Updated};
        assert_eq!(
            told,
            [
                (Created, Some(1), Some(0.0), 1),
                // What compaction may have forgotten begins at its Seq.
                (Created, Some(62), Some(1.0), 123),
                (Updated, Some(63), Some(2.0), 124),
                (Retracted, Some(64), None, 124),
                (Created, None, Some(3.0), 129),
                (Retracted, None, None, 2),
                (Retracted, Some(65), None, 0),
                (Updated, Some(66), Some(9.0), 125),
            ]
        );
    }
}

/// A close that does not say how many events there were, as this build's does: they are looked for, and what cannot be
/// read may have been one.
#[test]
fn events_that_cannot_be_read_leave_their_numbers_out() {
    let copied = Copied::of(&data().join("format-1/events"));
    let last = names(&copied.path()).into_iter().rfind(|name| name.ends_with(".seg")).unwrap();
    let mut bytes = std::fs::read(copied.path().join(&last)).unwrap();
    let at = bytes.windows(6).rposition(|word| word == b"nobody").unwrap();
    bytes[at] ^= 1;
    std::fs::write(copied.path().join(&last), bytes).unwrap();
    let store = Store::over(options().window(Window::Manual).open(copied.path()).unwrap());
    let radar = store.source("radar").unwrap();
    let mut events = store.events(LOGGED).start().unwrap();
    radar.assert(LOGGED, "Ada", &Vessel { name: "Ada".into(), knots: 9.0 }).unwrap();
    store.flush().unwrap();
    let Some(EventItem::Event(event)) = events.try_next().unwrap() else { panic!("an event") };
    assert_eq!(event.sequence(), Some(66), "65 was that of the one that is damaged");
}

#[test]
fn live_state_of_an_older_build_is_read_and_goes_on() {
    for format in names(&data()) {
        let copied = Copied::of(&data().join(format).join("live_state"));
        let store = Store::over(options().window(Window::Manual).open(copied.path()).unwrap());
        let row = |key: &str| {
            store.get(LIVE_2, key).unwrap().map(|row| (row.version(), row.value().unwrap().knots))
        };
        // What compaction may have forgotten begins at its Seq.
        assert_eq!((row("old"), row("Ada"), row("new")), (Some((1, 1.0)), Some((2, 2.0)), Some((68, 3.0))));
        assert_eq!((row("busy"), row("gone")), (Some((60, 59.0)), None));
        let sources = |key: &str| store.get(LIVE_2, key).unwrap().unwrap().sources().bits();
        assert_eq!((sources("old"), sources("Ada")), (0b01, 0b10));
        let pilot = store.source("Lotse").unwrap();
        assert_eq!(pilot.id(), 1);
        pilot.retract(LIVE_2, "Ada").unwrap();
        pilot.assert(LIVE_2, "gone", &Vessel2 { name: "again".into(), knots: 4.0, flag: None }).unwrap();
        store.flush().unwrap();
        assert!(row("Ada").is_none() && row("gone").is_some_and(|(version, _)| version > 2));
    }
}

/// So many segments that there are indexes, and a directory of the entities.
fn many_segments(path: &Path) {
    let journal = options().open(path).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..70_u8 {
        journal.append(Record::new(note, &[b'a' + n % 5], &[n; 500])).unwrap();
    }
    journal.close().unwrap();
    assert!(path.join("entities").exists() && path.join("0000000003.idx").exists());
}

/// Cursors over all kinds of regions, one that was forgotten, and entries that a reactor put out.
fn cursors(path: &Path) {
    let store = Store::over(options().open(path).unwrap());
    let journal = store.journal().clone();
    for cents in [5, 990, 12] {
        store.append(ORDERS, "8812", &cents).unwrap();
    }
    let orders = store.region(ORDERS).unwrap();
    let put = |name: &str, region: Region, hold, at| {
        drop(journal.watch_with(name, region, WatchOptions::new().hold(hold)).unwrap());
        journal.reset_cursor(name, at).unwrap();
    };
    let at = |seq| Start::After(esker::Seq::new(seq).unwrap());
    put("audit", Region::all(), Hold::Forever, at(3));
    put("small", orders.clone(), Hold::UpTo(1 << 20), at(1));
    put("prefix", store.prefix(ORDERS, "88").unwrap(), Hold::Forever, Start::Oldest);
    put("räumung", store.entity(ORDERS, "8812").unwrap(), Hold::Forever, at(2));
    put("gone", Region::all(), Hold::Forever, at(1));
    journal.retire_cursor("gone").unwrap();
    let invoicing = store
        .react("invoicing", orders, |entry, out| {
            let Some(order) = out.fact(ORDERS, entry)? else { return Ok(()) };
            out.append(INVOICES, "8812", &format!("{} cents", order.value()?))?;
            Ok(())
        })
        .unwrap();
    let mut watcher = journal.follow(store.region(INVOICES).unwrap(), WatchOptions::new()).unwrap();
    for _ in 0..3 {
        watcher.next_timeout(Duration::from_secs(30)).unwrap().expect("an invoice");
    }
    drop(watcher);
    invoicing.stop();
    invoicing.join().unwrap();
    store.close().unwrap();
}

/// As a crash leaves it: nobody closed it, and of the last batch the disk has its beginning.
fn torn(path: &Path) {
    let live = path.with_extension("live");
    let journal = options().open(&live).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..5_u8 {
        journal.append(Record::new(note, b"a", &[n; 40])).unwrap();
    }
    let mut batch = journal.batch();
    for payload in [&[0x51; 64], &[0x52; 64], &[0x53; 64]] {
        batch.push(Record::new(note, b"torn", payload));
    }
    batch.commit().unwrap();
    copy(&live, path);
    journal.close().unwrap();
    let segment = path.join("0000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last =
        bytes.windows(64).position(|window| window == [0x53; 64]).expect("the last entry of the batch");
    // From the middle of its payload on.
    bytes[last + 32..].fill(0);
    std::fs::write(&segment, bytes).unwrap();
}

fn backup(path: &Path) {
    let store = path.with_extension("store");
    many(&store, 20).backup(path, BackupBy::Copy).unwrap();
}

/// What a repair makes of a store of which a segment is lost: a gap, and an era of its own.
fn repaired(path: &Path) {
    let store = path.with_extension("store");
    many(&store, 30).close().unwrap();
    std::fs::write(store.join("0000000002.seg"), [0; 4096]).unwrap();
    assert!(repair(&store, path).unwrap().entries_lost > 0);
}

fn many(path: &Path, count: u8) -> Journal {
    let journal = options().open(path).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..count {
        journal.append(Record::new(note, &[b'a' + n % 3], &[n; 300])).unwrap();
    }
    journal
}
