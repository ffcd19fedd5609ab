//! How a kind's rows change their shape.

use esker::{
    Behind, ErrorKind, EventItem, Kind, Made, MirrorChanges, MirrorRows, MirrorTarget, MirrorToken, Patch,
    Reader, Simulator, Start, StateItem, Store, StoreView, Until,
};
use serde::{Deserialize, Serialize};

use super::harbour::{open, options, store};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct First {
    name: String,
    speed: u32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Appended {
    name: String,
    speed: u32,
    #[serde(default)]
    flag: Option<String>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Other {
    title: String,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Second {
    name: String,
    knots: f64,
}

const FIRST: Kind<First> = Kind::new("vessel");
const APPENDED: Kind<Appended> = Kind::new("vessel");
const OTHER: Kind<Other> = Kind::new("vessel");
const SECOND: Kind<Second> = Kind::new("vessel").version(2).upcasts(SECOND_STEPS);
const SECOND_STEPS: &[(u16, esker::Upcaster)] = &[(1, |fields| {
    let speed: u32 = fields.get("speed")?.ok_or("no speed")?;
    fields.remove("speed");
    fields.remove("flag");
    fields.set("knots", &f64::from(speed))?;
    Ok(())
})];

fn begun(disk: &Simulator) {
    let store = open(disk);
    let radar = store.source("radar").unwrap();
    radar.assert(FIRST, "ada", &First { name: "Ada".into(), speed: 11 }).unwrap();
    store.close().unwrap();
}

#[test]
fn s28_fields_are_appended() {
    let disk = Simulator::new();
    begun(&disk);
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let row = store.get(APPENDED, "ada").unwrap().unwrap();
    assert_eq!(row.value().unwrap(), Appended { name: "Ada".into(), speed: 11, flag: None });
    let flagged = Appended { name: "Ada".into(), speed: 11, flag: Some("de".into()) };
    let mut changes = store.subscription(APPENDED).bootstrap(false).start().unwrap();
    radar.assert(APPENDED, "ada", &flagged).unwrap();
    store.flush().unwrap();
    let Some(StateItem::Change(change)) = changes.try_next().unwrap() else { panic!("a change") };
    assert_eq!(change.changed_fields().collect::<Vec<_>>(), ["flag"]);
    assert_eq!(change.changed_mask(), 0b100, "the new one is behind those that there were");
    drop((changes, radar));
    store.close().unwrap();
    // A program that does not know the field reads on.
    let store = open(&disk);
    assert_eq!(store.get(FIRST, "ada").unwrap().unwrap().value().unwrap().speed, 11);
}

#[test]
fn s28_a_clash_shows_both_lists() {
    let disk = Simulator::new();
    begun(&disk);
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let clash = radar.assert(OTHER, "ada", &Other { title: "Ada".into() }).unwrap_err();
    let shows_both = |clash: esker::Error| {
        assert_eq!(clash.kind(), ErrorKind::Schema, "{clash}");
        let text = clash.to_string();
        assert!(["name", "speed", "title"].iter().all(|field| text.contains(field)), "{text}");
    };
    shows_both(clash);
    // Whoever reads would have made it of its defaults.
    assert!(store.get(FIRST, "ada").unwrap().is_some());
    let view = store.view();
    shows_both(store.get(OTHER, "ada").unwrap_err());
    shows_both(store.status(OTHER, "ada").unwrap_err());
    shows_both(store.versions(OTHER, "ada").unwrap_err());
    shows_both(store.scan(OTHER).unwrap_err());
    shows_both(view.rows(OTHER).unwrap_err());
    shows_both(
        view.at(store.journal().view().last_seq().unwrap().unwrap()).unwrap().get(OTHER, "ada").unwrap_err(),
    );
    let reader = esker::Reader::open_on(&disk).unwrap();
    let beside = esker::StoreView::of(&reader).unwrap();
    shows_both(beside.get(OTHER, "ada").unwrap_err());
    shows_both(beside.rows(OTHER).unwrap_err());
    // Within one opening too.
    radar.assert(FIRST, "ada", &First { name: "Ada".into(), speed: 12 }).unwrap();
    let clash = radar.assert(SECOND, "ada", &Second { name: "Ada".into(), knots: 1.0 }).unwrap_err();
    assert_eq!(clash.kind(), ErrorKind::Schema);
}

#[test]
fn s28_a_row_of_an_older_version_is_brought_to_the_new_one_wherever_it_is_read() {
    let disk = Simulator::new();
    begun(&disk);
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let ada = Second { name: "Ada".into(), knots: 11.0 };
    assert_eq!(store.get(SECOND, "ada").unwrap().unwrap().value().unwrap(), ada);
    assert_eq!(store.scan(SECOND).unwrap().next().unwrap().unwrap().value().unwrap(), ada);
    let view = store.view();
    assert_eq!(view.get(SECOND, "ada").unwrap().unwrap().value().unwrap(), ada);
    let versions = store.versions(SECOND, "ada").unwrap();
    let [esker::Version::Row(row)] = &versions[..] else { panic!("{versions:?}") };
    assert_eq!(row.value().unwrap(), ada);
    let mut changes = store.subscription(SECOND).previous(true).start().unwrap();
    assert!(changes.advance().unwrap() && changes.advance().unwrap());
    let StateItem::Change(change) = changes.item() else { panic!("a row") };
    assert_eq!(change.value().unwrap().unwrap(), ada);
    assert!(changes.advance().unwrap(), "complete");

    // It is compared as what it is now: said again it is nothing new.
    let again = radar.assert(SECOND, "ada", &ada).unwrap().wait(Until::Durable).unwrap();
    assert_eq!((again.change, again.version), (Made::Nothing, 1));
    radar
        .update(SECOND, "ada", |row| Second { knots: row.unwrap().knots + 1.0, name: "Ada".into() })
        .unwrap();
    store.flush().unwrap();
    let Some(StateItem::Change(change)) = changes.try_next().unwrap() else { panic!("a change") };
    assert_eq!(change.previous().unwrap().value().unwrap(), ada);
    assert_eq!(change.value().unwrap().unwrap().knots, 12.0);
    // Who has only the older version may not write any more.
    drop((changes, radar));
    store.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let refused = radar.assert(FIRST, "ada", &First { name: "Ada".into(), speed: 1 }).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KindMismatch);
    drop(radar);
    store.close().unwrap();
    beside_behind_and_before();
    as_it_was_said();
}

/// A mirror's target that keeps what it was handed over.
#[derive(Default)]
struct Handed {
    rows: Vec<Second>,
    changes: Vec<Second>,
    token: Option<MirrorToken>,
}

impl MirrorTarget<Second> for Handed {
    type Error = esker::Error;

    fn token(&mut self) -> esker::Result<Option<MirrorToken>> {
        Ok(self.token)
    }

    fn replace_all(&mut self, rows: &mut MirrorRows<Second>) -> esker::Result<()> {
        while let Some(row) = rows.next_row()? {
            self.rows.push(row.value()?);
        }
        self.token = Some(rows.token()?);
        Ok(())
    }

    fn apply(&mut self, changes: &mut MirrorChanges<Second>) -> esker::Result<()> {
        while let Some(change) = changes.next_change()? {
            self.changes.extend(change.value()?);
        }
        self.token = Some(changes.token()?);
        Ok(())
    }
}

/// The values and the values before of all changes that there are now.
fn values(changes: &mut esker::Subscription<Second>) -> Vec<(Second, Option<Second>)> {
    let mut values = Vec::new();
    while let Some(item) = changes.try_next().unwrap() {
        if let StateItem::Change(change) = item {
            let before = change.previous().map(|row| row.value().unwrap());
            values.push((change.value().unwrap().unwrap(), before));
        }
    }
    values
}

/// The same row in another process, behind a token and a lag, in a mirror, patched, and as it was.
fn beside_behind_and_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = Store::over(options().open(&path).unwrap());
    let empty = store.subscription(FIRST).bootstrap(false).start().unwrap().token().unwrap().unwrap();
    let radar = store.source("radar").unwrap();
    radar.assert(FIRST, "ada", &First { name: "Ada".into(), speed: 11 }).unwrap();
    drop(radar);
    store.close().unwrap();
    let store = Store::over(options().open(&path).unwrap());
    let ada = |knots| Second { name: "Ada".into(), knots };
    let reader = Reader::open(&path).unwrap();
    let view = StoreView::of(&reader).unwrap();
    assert_eq!(view.get(SECOND, "ada").unwrap().unwrap().value().unwrap(), ada(11.0));
    assert_eq!(view.rows(SECOND).unwrap().next().unwrap().unwrap().value().unwrap(), ada(11.0));
    let follow = || [store.subscription(SECOND), reader.subscription(SECOND)].map(|door| door.previous(true));
    // Each change of before by itself, what they come to, and the rows that there are.
    let mut all: Vec<_> = [1, 0]
        .into_iter()
        .flat_map(|most| follow().map(|door| door.behind(Behind::Resume).resume(empty).capacity(most)))
        .chain(follow())
        .chain(follow().map(|door| door.behind(Behind::Conflate)))
        .map(|door| door.start().unwrap())
        .collect();
    all.iter_mut().for_each(|changes| assert_eq!(values(changes), [(ada(11.0), None)]));
    let mut mirrors =
        [store.mirror(SECOND), reader.mirror(SECOND)].map(|door| door.start(Handed::default()).unwrap());
    mirrors.iter_mut().for_each(|mirror| _ = mirror.catch_up().unwrap());
    // A frame that only says who asserts it too has the row as it was written.
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    let token = all[0].token().unwrap().unwrap();
    pilot.assert(SECOND, "ada", &ada(11.0)).unwrap();
    store.flush().unwrap();
    for (mut mirror, whose) in mirrors.into_iter().zip(["the store's", "the reader's"]) {
        let outcome = mirror.catch_up().unwrap();
        let Handed { rows, changes, .. } = mirror.into_target();
        assert_eq!((rows, changes), (vec![ada(11.0)], vec![ada(11.0)]), "{whose}: {outcome:?}");
    }
    let then = store.journal().view().last_seq().unwrap();
    radar.patch(SECOND, "ada", &Patch::new().set("knots", &12.0).unwrap()).unwrap();
    store.flush().unwrap();
    all.push(store.subscription(SECOND).previous(true).capacity(0).resume(token).start().unwrap());
    all.iter_mut().for_each(|changes| assert_eq!(values(changes), [(ada(12.0), Some(ada(11.0)))]));
    assert_eq!(store.at(then).unwrap().get(SECOND, "ada").unwrap().unwrap().value().unwrap(), ada(11.0));
}

/// The same of a kind with events.
fn as_it_was_said() {
    const FIRST: Kind<First> = Kind::new("spoken").events();
    const SPOKEN: Kind<Second> = Kind::new("spoken").version(2).upcasts(SECOND_STEPS).events();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = Store::over(options().open(&path).unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(FIRST, "ada", &First { name: "Ada".into(), speed: 11 }).unwrap();
    drop(radar);
    store.close().unwrap();
    let store = Store::over(options().open(&path).unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(SPOKEN, "ada", &Second { name: "Ada".into(), knots: 12.0 }).unwrap();
    store.flush().unwrap();
    let reader = Reader::open(&path).unwrap();
    for events in [store.events(SPOKEN), reader.events(SPOKEN)] {
        let mut events = events.from(Start::Oldest).start().unwrap();
        let mut told = Vec::new();
        while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
            let knots = |row: Option<Second>| row.map(|row| row.knots);
            told.push((knots(event.value().unwrap()), knots(event.previous().unwrap())));
        }
        assert_eq!(told, [(Some(11.0), None), (Some(12.0), Some(11.0))]);
    }
}

#[derive(Serialize, Deserialize)]
enum Variants {
    One { name: String },
}
#[derive(Serialize, Deserialize)]
struct Tuple(u8, u8);
#[derive(Serialize, Deserialize)]
struct Flattened {
    name: String,
    #[serde(flatten)]
    rest: First,
}
#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
struct Tagged {
    name: String,
}

/// A type that is no row is refused with the first operation on its kind, which then is none.
fn is_no_row<T: Serialize + serde::de::DeserializeOwned>(row: &T) -> String {
    let kind = Kind::<T>::new("berth");
    let store = store();
    let radar = store.source("radar").unwrap();
    let error = radar.assert(kind, "a", row).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    store.flush().unwrap();
    assert_eq!(store.state_stats().unwrap().rows, 0);
    error.to_string()
}

#[test]
fn an_enum_is_no_row() {
    assert!(is_no_row(&Variants::One { name: "a".into() }).contains("an enum"));
}

#[test]
fn a_tuple_is_no_row() {
    assert!(is_no_row(&Tuple(1, 2)).contains("a tuple"));
}

#[test]
fn a_flattened_struct_is_no_row() {
    let rest = First { name: "a".into(), speed: 1 };
    assert!(is_no_row(&Flattened { name: "a".into(), rest }).contains("flattened"));
}

#[test]
fn a_map_is_no_row() {
    assert!(is_no_row(&std::collections::BTreeMap::from([("a".to_owned(), 2u8)])).contains("a map"));
}

#[test]
fn a_number_is_no_row() {
    is_no_row(&7u64);
}

#[test]
fn a_tagged_struct_is_no_row() {
    // What it reads does not say so; what it writes has its tag.
    assert!(is_no_row(&Tagged { name: "a".into() }).contains("\"type\""));
}

#[test]
fn a_row_that_does_not_decode_is_named_and_others_are_not_affected() {
    #[derive(Serialize, Deserialize, Debug)]
    struct Strict {
        name: String,
        speed: u32,
        must: u8,
    }
    const STRICT: Kind<Strict> = Kind::new("vessel");
    let disk = Simulator::new();
    begun(&disk);
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(STRICT, "grace", &Strict { name: "Grace".into(), speed: 1, must: 7 }).unwrap();
    store.flush().unwrap();
    let values: Vec<_> = store.scan(STRICT).unwrap().map(|row| row.unwrap().value()).collect();
    let error = values[0].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.seqs()), (ErrorKind::Codec, Some(1..=1)));
    assert!(error.to_string().contains("must") && error.to_string().contains("vessel/ada"), "{error}");
    assert_eq!(values[1].as_ref().unwrap().must, 7);
}

/// Whose 13 is written, and is no value.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Picky {
    #[serde(deserialize_with = "picky")]
    n: u8,
}

fn picky<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let n = u8::deserialize(deserializer)?;
    if n == 13 { Err(serde::de::Error::custom("it is unlucky")) } else { Ok(n) }
}

const PICKY: Kind<Picky> = Kind::new("picky").events();

/// What does not decode names its entity and its place; what does is its number.
fn number(value: esker::Result<Picky>, key: &[u8], seq: esker::Seq) -> Option<u8> {
    let error = match value {
        Ok(value) => return Some(value.n),
        Err(error) => error,
    };
    assert_eq!((error.kind(), error.seqs()), (ErrorKind::Codec, Some(seq.get()..=seq.get())), "{error}");
    let (text, entity) = (error.to_string(), format!(" picky/{}", String::from_utf8_lossy(key)));
    assert!(text.contains(&entity) && text.contains("it is unlucky"), "{entity}: {text}");
    None
}

/// What comes of all changes that there are now: key, number and the number before, where there is one.
fn numbers(changes: &mut esker::Subscription<Picky>) -> Vec<(char, Option<u8>, Option<Option<u8>>)> {
    let mut numbers = Vec::new();
    while let Some(item) = changes.try_next().unwrap() {
        if let StateItem::Change(change) = item {
            let value = change.value().map(Option::unwrap);
            let before = change.previous().map(|row| number(row.value(), row.key(), row.seq()));
            numbers.push((change.key()[0].into(), number(value, change.key(), change.seq()), before));
        }
    }
    numbers
}

#[test]
fn a_value_that_does_not_decode_ends_no_subscription_and_others_are_told_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("picky.esker");
    let store = Store::over(options().open(&path).unwrap());
    let radar = store.source("radar").unwrap();
    let say = |key: &str, n: u8| {
        radar.assert(PICKY, key, &Picky { n }).unwrap();
        store.flush().unwrap();
    };
    let rows = [("a", 1), ("b", 13), ("c", 2)];
    rows.iter().for_each(|(key, n)| say(key, *n));
    let reader = Reader::open(&path).unwrap();
    let doors = || [store.subscription(PICKY), reader.subscription(PICKY)].map(|door| door.previous(true));
    let mut live = doors().map(|door| door.start().unwrap());
    let mut nets = doors().map(|door| door.behind(Behind::Conflate).start().unwrap());
    for changes in live.iter_mut().chain(&mut nets) {
        assert_eq!(numbers(changes), [('a', Some(1), None), ('b', None, None), ('c', Some(2), None)]);
    }
    let changed = [("a", 13), ("c", 3), ("d", 13), ("a", 4), ("b", 5), ("c", 13)];
    changed.iter().for_each(|(key, n)| say(key, *n));
    let each = [
        ('a', None, Some(Some(1))),
        ('c', Some(3), Some(Some(2))),
        ('d', None, None),
        ('a', Some(4), Some(None)),
        ('b', Some(5), Some(None)),
        ('c', None, Some(Some(3))),
    ];
    live.iter_mut().for_each(|changes| assert_eq!(numbers(changes), each));
    let net = [
        ('d', None, None),
        ('a', Some(4), Some(Some(1))),
        ('b', Some(5), Some(None)),
        ('c', None, Some(Some(2))),
    ];
    nets.iter_mut().for_each(|changes| assert_eq!(numbers(changes), net));
}

#[test]
fn a_value_that_does_not_decode_ends_no_stream_of_events() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let said = [("a", 1), ("b", 13), ("a", 13), ("b", 2), ("a", 3), ("c", 4)];
    for (key, n) in said {
        radar.assert(PICKY, key, &Picky { n }).unwrap();
        store.flush().unwrap();
    }
    let mut events = store.events(PICKY).from(Start::Oldest).start().unwrap();
    let mut told = Vec::new();
    while let Some(item) = events.try_next().unwrap() {
        let EventItem::Event(event) = item else { panic!("{item:?}") };
        let value = number(event.value().map(Option::unwrap), event.key(), event.seq());
        // That of the row before names the place where that stands.
        let before = match event.previous() {
            Ok(row) => row.map(|row| Some(row.n)),
            Err(error) => {
                let is_named = error.to_string().contains(&format!(" picky/{}", char::from(event.key()[0])));
                assert!(is_named && error.kind() == ErrorKind::Codec, "{error}");
                assert!(error.seqs().unwrap().end() < &event.seq().get(), "{error}");
                Some(None)
            }
        };
        told.push((char::from(event.key()[0]), value, before));
    }
    assert_eq!(
        told,
        [
            ('a', Some(1), None),
            ('b', None, None),
            ('a', None, Some(Some(1))),
            ('b', Some(2), Some(None)),
            ('a', Some(3), Some(None)),
            ('c', Some(4), None),
        ]
    );
}

#[test]
fn a_row_of_a_newer_version_is_no_value_of_an_older_type_wherever_it_is_read() {
    #[derive(Serialize, Deserialize, Debug, Default)]
    #[serde(default)]
    struct Lenient {
        name: String,
        speed: u32,
    }
    const LENIENT: Kind<Lenient> = Kind::new("vessel");
    let disk = Simulator::new();
    begun(&disk);
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(SECOND, "grace", &Second { name: "Grace".into(), knots: 12.0 }).unwrap();
    drop(radar);
    store.close().unwrap();
    let store = open(&disk);
    let refused = |value: esker::Result<Lenient>| {
        let error = value.unwrap_err();
        assert_eq!((error.kind(), error.seqs()), (ErrorKind::Schema, Some(2..=2)), "{error}");
        let text = error.to_string();
        assert!(text.contains("vessel/grace") && text.contains("version 2"), "{text}");
    };
    refused(store.get(LENIENT, "grace").unwrap().unwrap().value());
    refused(store.view().get(LENIENT, "grace").unwrap().unwrap().value());
    let versions = store.versions(LENIENT, "grace").unwrap();
    let [esker::Version::Row(row)] = &versions[..] else { panic!("{versions:?}") };
    refused(row.value());
    let mut rows = store.scan(LENIENT).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().value().unwrap().speed, 11, "nobody has written it anew");
    refused(rows.next().unwrap().unwrap().value());
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Default)]
struct Renamed {
    name: String,
    #[serde(alias = "speed")]
    knots: u32,
}

const RENAMED: Kind<Renamed> = Kind::new("vessel");

#[test]
fn a_field_that_was_renamed_with_an_alias_is_patched_in_rows_of_before() {
    let disk = Simulator::new();
    begun(&disk);
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let renamed = |knots| Renamed { name: "Ada".into(), knots };
    assert_eq!(store.get(RENAMED, "ada").unwrap().unwrap().value().unwrap(), renamed(11));
    let mut changes = store.subscription(RENAMED).bootstrap(false).start().unwrap();
    radar.patch(RENAMED, "ada", &Patch::new().set("knots", &12).unwrap()).unwrap();
    store.flush().unwrap();
    let row = store.get(RENAMED, "ada").unwrap().unwrap();
    assert_eq!((row.value().unwrap(), row.version()), (renamed(12), 2));
    let Some(StateItem::Change(change)) = changes.try_next().unwrap() else { panic!("a change") };
    assert_eq!(change.changed_fields().collect::<Vec<_>>(), ["speed", "knots"], "one is gone, one is there");
    // What its type does not take is refused as ever, and changes nothing.
    let wrong = radar.patch(RENAMED, "ada", &Patch::new().set("knots", "fast").unwrap()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::TypeMismatch, "{wrong}");
    assert!(wrong.to_string().contains("\"knots\""), "{wrong}");
}

#[test]
fn a_patch_names_a_field_as_its_type_writes_it() {
    #[derive(Serialize, Deserialize, Debug, PartialEq, Default)]
    #[serde(default)]
    struct Buoy {
        #[serde(alias = "colour")]
        color: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        light: Option<String>,
    }
    const BUOY: Kind<Buoy> = Kind::new("buoy").events();
    let store = store();
    let radar = store.source("radar").unwrap();
    let by_alias = Patch::new().set("colour", "red").unwrap();
    let mut events = store.events(BUOY).start().unwrap();
    for key in ["new", "there"] {
        let refused = radar.patch(BUOY, key, &by_alias).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TypeMismatch, "{key}: {refused}");
        assert!(refused.to_string().contains("\"colour\""), "{key}: {refused}");
        radar.assert(BUOY, "there", &Buoy::default()).unwrap();
    }
    store.flush().unwrap();
    assert!(store.get(BUOY, "new").unwrap().is_none());
    // A field that is left out of the row is one all the same.
    let patch = Patch::new().set("color", "green").unwrap().set("light", &None::<String>).unwrap();
    radar.patch(BUOY, "new", &patch).unwrap();
    store.flush().unwrap();
    let mut told = Vec::new();
    while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
        let names =
            event.patch().unwrap().map(|fields| fields.names().map(str::to_owned).collect::<Vec<_>>());
        told.push((event.key().to_vec(), names));
    }
    let green = Some(vec!["color".to_owned()]);
    assert_eq!(told, [(b"there".to_vec(), None), (b"there".to_vec(), None), (b"new".to_vec(), green)]);
}
