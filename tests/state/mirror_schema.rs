//! Mirrors of rows whose values are others under another schema, or none.

use std::collections::BTreeMap;

use esker::{
    Because, ErrorKind, Kind, MirrorChanges, MirrorOutcome, MirrorRows, MirrorTarget, MirrorToken, Simulator,
};
use serde::{Deserialize, Serialize};

use super::harbour::{VESSEL, Vessel, fill, open, vessel};
use super::table::{because, catch_up, changes, mirror};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
struct Renamed {
    title: String,
    #[serde(default)]
    knots: f32,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
struct Longer {
    name: String,
    #[serde(default)]
    knots: f32,
    #[serde(default)]
    heading: u16,
    #[serde(default)]
    cargo: Vec<String>,
    #[serde(default)]
    flag: Option<String>,
    #[serde(default = "unknown")]
    owner: String,
}

fn unknown() -> String {
    "unknown".into()
}

const LONGER: Kind<Longer> = Kind::new("vessel");
const RENAMED: Kind<Renamed> = Kind::new("vessel").version(2).upcasts(&[(1, |fields| {
    fields.rename("name", "title");
    if fields.get::<f32>("knots")? == Some(13.0) {
        return Err("no row of the second version".into());
    }
    Ok(())
})]);

/// What a target makes of values that it does not look into.
#[derive(Default)]
struct Values<T> {
    values: BTreeMap<Vec<u8>, Result<T, ErrorKind>>,
    token: Option<MirrorToken>,
}

impl<T: serde::de::DeserializeOwned + Clone> MirrorTarget<T> for Values<T> {
    type Error = esker::Error;

    fn token(&mut self) -> esker::Result<Option<MirrorToken>> {
        Ok(self.token)
    }

    fn replace_all(&mut self, rows: &mut MirrorRows<T>) -> esker::Result<()> {
        self.values.clear();
        while let Some(row) = rows.next_row()? {
            self.values.insert(row.key().to_vec(), row.value().map_err(|error| error.kind()));
        }
        self.token = Some(rows.token()?);
        Ok(())
    }

    fn apply(&mut self, changes: &mut MirrorChanges<T>) -> esker::Result<()> {
        while let Some(change) = changes.next_change()? {
            match change.value().transpose() {
                Some(value) => self.values.insert(change.key().to_vec(), value.map_err(|error| error.kind())),
                None => self.values.remove(change.key()),
            };
        }
        self.token = Some(changes.token()?);
        Ok(())
    }
}

#[test]
fn s27_rows_that_nobody_touches_have_their_values_under_a_new_schema_too() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 2);
    let mut first = mirror(&store);
    catch_up(&store, &mut first);
    let token = first.status().token;
    drop((first, radar));
    store.close().unwrap();

    // A field more, whose default is a value.
    let store = open(&disk);
    let target = Values { token, ..Values::default() };
    let mut longer = store.mirror(LONGER).start(target).unwrap();
    assert_eq!(because(&longer.catch_up().unwrap()), Some(Because::OtherSchema));
    assert!(longer.target().values.values().all(|row| row.as_ref().unwrap().owner == "unknown"));
    let token = longer.status().token;
    drop(longer);
    store.close().unwrap();

    let store = open(&disk);
    let target = Values { token, ..Values::default() };
    let mut renamed = store.mirror(RENAMED).start(target).unwrap();
    assert_eq!(because(&renamed.catch_up().unwrap()), Some(Because::OtherSchema));
    let titles: Vec<_> =
        renamed.target().values.values().map(|row| row.as_ref().unwrap().title.as_str()).collect();
    assert_eq!(titles, ["v", "v"]);
}

#[test]
fn s27_a_row_that_does_not_decode_is_the_targets_decision_and_others_are_not_affected() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 2);
    let begun = {
        let mut mirror = mirror(&store);
        catch_up(&store, &mut mirror);
        mirror.status().token
    };
    // No step brings this one to the second version, and the one before it neither.
    for (heading, knots) in [(1, 13.0), (2, 13.0), (3, 13.0)] {
        radar.assert(VESSEL, "v00", &Vessel { heading, ..vessel("v", knots) }).unwrap();
        store.flush().unwrap();
    }
    radar.assert(VESSEL, "v01", &vessel("w", 2.0)).unwrap();
    store.flush().unwrap();
    drop(radar);
    store.close().unwrap();

    let store = open(&disk);
    let mut renamed = store.mirror(RENAMED).start(Values::default()).unwrap();
    renamed.catch_up().unwrap();
    let undecodable = |values: &BTreeMap<Vec<u8>, Result<Renamed, ErrorKind>>| {
        assert_eq!(values[&b"v00"[..]], Err(ErrorKind::Codec));
        assert_eq!(values[&b"v01"[..]].as_ref().unwrap().title, "w");
    };
    undecodable(&renamed.target().values);
    // As a change it is one too: what cannot be compared has changed all the same.
    let text = renamed.status().token.unwrap().to_string();
    let schema = text.splitn(4, ':').last().unwrap();
    let token = format!("{}:{schema}", begun.unwrap().token());
    renamed.target_mut().token = Some(token.parse().unwrap());
    renamed.target_mut().values.clear();
    assert_eq!(changes(&renamed.catch_up().unwrap()), 2);
    undecodable(&renamed.target().values);
}

#[test]
fn s27_where_a_step_is_added_at_the_same_version_the_rows_that_it_brings_are_handed_over_again() {
    const BARE: Kind<Lenient> = Kind::new("vessel").version(2);
    const STEPS: Kind<Lenient> = BARE.upcasts(&[(1, |fields| {
        fields.rename("name", "title");
        Ok(())
    })]);
    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
    #[serde(default)]
    struct Lenient {
        title: String,
    }
    let disk = Simulator::new();
    let store = open(&disk);
    fill(&store, &store.source("radar").unwrap(), 2);
    store.close().unwrap();
    let mut token = None;
    let mut caught_up = |kind: Kind<Lenient>| {
        let store = open(&disk);
        let mut mirror = store.mirror(kind).start(Values { token, ..Values::default() }).unwrap();
        let outcome = mirror.catch_up().unwrap();
        token = mirror.target().token.map(|token| token.to_string().parse().unwrap());
        let titles: Vec<_> =
            mirror.target().values.values().map(|row| row.as_ref().unwrap().title.clone()).collect();
        drop(mirror);
        store.close().unwrap();
        (outcome, titles)
    };
    let (_, titles) = caught_up(BARE);
    assert_eq!(titles, ["", ""], "no step has brought them");
    let (again, _) = caught_up(BARE);
    assert!(matches!(again, MirrorOutcome::Nothing { .. }), "{again:?}");
    let (brought, titles) = caught_up(STEPS);
    assert_eq!((because(&brought), titles), (Some(Because::OtherSchema), vec!["v".to_owned(); 2]));
    let (again, _) = caught_up(STEPS);
    assert!(matches!(again, MirrorOutcome::Nothing { .. }), "{again:?}");
    let (bare, titles) = caught_up(BARE);
    assert_eq!((because(&bare), titles), (Some(Because::OtherSchema), vec![String::new(); 2]));
}
