//! `cells`: each as it is.

use esker::backplane::{Backplane, Put, Revision, Stamp, Step, WriterId};
use serde_json::{Value, json};

use crate::support::{flip, place};
use crate::world::{NUMBERS, World, append, done, failing, options};

fn put_raw(plane: &dyn Backplane, key: &[u8], expect: u64, value: Option<&[u8]>) {
    let stamp = Stamp::new(WriterId::random().unwrap(), 1);
    plane.commit(&[Step::Put(Put::new(key, Revision::from_raw(expect), value, stamp))]).unwrap();
}

#[test]
fn cells_are_shown_by_scope_and_key_as_they_are_now_with_their_values() {
    let world = World::new();
    let store = world.store();
    let cells = store.cells();
    for n in 1..=3_u64 {
        cells.cell::<u64>("limit").unwrap().update(|_| Ok(Some(n * 10))).unwrap();
    }
    let session = cells.scope("session 7").unwrap();
    session.cell::<Vec<String>>("basket").unwrap().update(|_| Ok(Some(vec!["lamp".to_owned()]))).unwrap();
    session.scope([0xff]).unwrap().cell::<u64>([0, 1]).unwrap().update(|_| Ok(Some(1))).unwrap();
    let gone = session.cell::<u64>("gone").unwrap();
    gone.update(|_| Ok(Some(1))).unwrap();
    gone.update(|_| Ok(None)).unwrap();
    put_raw(&**store.backplane().unwrap(), b"cursor of shipping", 0, Some(b"as it is"));
    // The library's own.
    let last = append(&store, "a", [1]);
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options(), failing(9)).unwrap(), last);

    let run = world.tool(&["cells"], &["--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let lines = run.of_type("cell");
    let shown: Vec<Value> = lines
        .iter()
        .map(|line| json!([line["scopes"], line["key"], line["revision"], line["bytes"], line["payload"]]))
        .collect();
    let expected = [
        json!([[], "limit", 3, 1, 30]),
        json!([["session 7"], "basket", 1, 6, ["lamp"]]),
        json!([["session 7", "hex:ff"], "hex:0001", 1, 1, 1]),
        json!([["session 7"], "gone", 2, null, null]),
        json!([null, "cursor of shipping", 1, 8, "as it is"]),
    ];
    assert_eq!(shown, expected);
    assert!(lines.iter().all(|line| line["written"].is_string() && line["written_ns"].is_string()));
    assert_eq!(run.of_type("summary")[0]["cells"], 5);

    let run = world.tool(&["cells"], &["--scope", "session 7"]);
    let rows = run.rows();
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), ["basket", "hex:0001", "gone"]);
    assert_eq!((rows[0][0], rows[0][5], rows[2][3]), ("session 7", r#"["lamp"]"#, "nothing"));
    assert_eq!(world.tool(&["cells"], &["--scope", "session"]).stdout, "", "a scope is no prefix of letters");
    let run = world.tool(&["cells"], &["--internal", "--json"]);
    let internal = run.of_type("cell").iter().filter(|line| line["scopes"].is_null()).count();
    assert_eq!(internal, 1 + 2, "the place of a consumer, and the list of those of its topic");
    assert_eq!(run.of_type("cell").len(), 7);
    store.close().unwrap();
    let info = world.tool(&["info"], &["--json"]).of_type("store");
    assert_eq!(info[0]["backplane"], json!(["esker.cells"]));
    let info = world.tool(&["info"], &[]).stdout;
    assert!(info.contains("backplane\tcells (esker cells, esker consumers)\n"), "{info}");
}

#[test]
fn a_cell_that_is_damaged_is_a_finding_and_the_others_are_shown() {
    let world = World::new();
    let store = world.store();
    for key in ["a", "b", "c"] {
        store.cells().cell::<String>(key).unwrap().update(|_| Ok(Some("x".repeat(40)))).unwrap();
    }
    let cells = store.journal().kind_named("esker.cells").unwrap().id;
    // One that says nothing of whether there is a value.
    store.journal().append(esker::Record::new(cells, b"odd", &[9])).unwrap_err();
    store.close().unwrap();
    let seq = world.tool(&["cells"], &["--json"]).of_type("cell")[1]["seq"].as_u64().unwrap();
    let (segment, offset) = place(&world.path(), seq);
    flip(world.path().as_ref(), segment, offset + 90);
    let run = world.tool(&["cells"], &["--json"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let keys: Vec<Value> = run.of_type("cell").iter().map(|line| line["key"].clone()).collect();
    assert_eq!(keys, ["a", "c"]);
    assert!(run.of_type("finding").iter().any(|finding| finding["first_seq"] == seq), "{}", run.stdout);
    assert_eq!(run.of_type("summary")[0]["damaged"], 1);
}

#[test]
fn a_store_without_any_has_a_header_and_a_summary() {
    let world = World::new();
    world.store().close().unwrap();
    for command in ["cells", "topics", "consumers"] {
        let run = world.tool(&[command], &["--json"]);
        assert_eq!((run.code, run.json().len()), (Some(0), 2), "{command}: {}", run.stdout);
        assert_eq!(world.tool(&[command], &[]).stdout, "");
    }
}
