//! What `diff` finds: each difference once.

use esker::{Record, Region, Seq, Start};
use serde_json::Value;

use super::place::{Place, export, options, small};
use crate::support::run;

#[test]
fn a_difference_is_named_once_and_counted() {
    let place = Place::new();
    let good = small(&place);
    let store = place.path("small.esker");
    let cases: [(&str, Value, &str, &str, &str); 9] = [
        ("key", "other".into(), "key", "k", "other"),
        (
            "payload_base64",
            "AP4=".into(),
            "payload",
            "2 bytes, from byte 1: hex:ff",
            "2 bytes, from byte 1: hex:fe",
        ),
        ("metadata", "m".into(), "metadata", "0 bytes, from byte 0: ", "1 bytes, from byte 0: m"),
        ("time_ns", "0".into(), "time", "", "1970-01-01T00:00:00.000000000Z"),
        ("source", 3.into(), "source", "0", "3"),
        ("more", true.into(), "more", "false", "true"),
        ("correlation", "07".repeat(16).into(), "correlation", "-", "07070707070707070707070707070707"),
        ("schema_version", 2.into(), "schema_version", "-", "2"),
        (
            "idempotency_key",
            "08".repeat(16).into(),
            "idempotency_key",
            "-",
            "08080808080808080808080808080808",
        ),
    ];
    for (at, (field, value, differs, a, b)) in cases.into_iter().enumerate() {
        let mut line: Value = serde_json::from_str(&good[1]).unwrap();
        line[field] = value;
        let mut lines = good.clone();
        lines[1] = line.to_string();
        if field == "key" {
            // The rest of the history, which begins later now.
            lines[2] = lines[2].replace("\"generation\":2", "\"generation\":1");
            lines[3] = lines[3].replace("\"generation\":3", "\"generation\":2");
        }
        let other = place.path(&format!("{at}.esker"));
        let made = place.import(lines.join("\n"), &other);
        assert_eq!(made.code, Some(0), "{field}: {}", made.stderr);
        let diff = run(&["diff", &store, &other, "--json"]);
        assert_eq!(diff.code, Some(1), "{field}");
        let differences = diff.of_type("difference");
        assert_eq!(differences.len(), 1, "{field}: {}", diff.stdout);
        let found = &differences[0];
        assert_eq!(
            (&found["of"], &found["name"], &found["field"]),
            (&"entry".into(), &"1".into(), &differs.into())
        );
        assert_eq!(found["b"], b, "{field}");
        assert!(found["a"] == a || field == "time_ns", "{field}: {found}");
        let counts = &diff.of_type("summary")[0];
        assert_eq!(counts["differing"], if field == "key" { 3 } else { 1 }, "{field}: {counts}");
    }
    let one_less = place.path("less.esker");
    assert_eq!(place.import(export(&store, &["--seq", "2..3"]), &one_less).code, Some(0));
    let diff = run(&["diff", &store, &one_less]);
    assert_eq!(diff.rows()[0], ["entry", "1", "presence", "note/k", "-"]);
    assert!(diff.rows().contains(&vec!["only in A", "1"]), "{}", diff.stdout);
    let diff = run(&["diff", &one_less, &store]);
    assert_eq!(diff.rows()[0], ["entry", "1", "presence", "-", "note/k"]);
    assert!(diff.rows().contains(&vec!["only in B", "1"]), "{}", diff.stdout);
}

#[test]
fn kinds_and_cursors_are_compared_by_their_names() {
    let place = Place::new();
    let [a, b] = ["a.esker", "b.esker"].map(|name| place.path(name));
    for (path, first, second, seq) in [(&a, "note", "doc", 1), (&b, "doc", "note", 2)] {
        let journal = options().open(path).unwrap();
        journal.kind(first).unwrap();
        journal.kind(second).unwrap();
        let note = journal.kind("note").unwrap();
        for n in 0..2_u8 {
            journal.append(Record::new(note, b"k", &[n]).metadata(first.as_bytes())).unwrap();
        }
        drop(journal.watch("audit", Region::all()).unwrap());
        journal.reset_cursor("audit", Start::After(Seq::new(seq).unwrap())).unwrap();
        if first == "doc" {
            journal.kind("more").unwrap();
        }
        journal.close().unwrap();
    }
    let diff = run(&["diff", &a, &b]);
    assert_eq!(diff.code, Some(1));
    let rows = diff.rows();
    assert_eq!(rows[0], ["kind", "more", "presence", "-", "there"]);
    assert_eq!(rows[1], ["cursor", "audit", "seq", "1", "2"]);
    // Their metadata differ, and it may be their times; their kinds' numbers do not count.
    assert_eq!(rows[2][..2], ["entry", "1"]);
    assert!(["time", "metadata"].contains(&rows[2][2]), "{rows:?}");
    assert!(rows.contains(&vec!["kinds and cursors", "2"]), "{}", diff.stdout);
    assert_eq!(run(&["diff", &a, &place.path("none")]).code, Some(3));
}
