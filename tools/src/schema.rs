//! The shape of the JSON lines: a JSON Schema with an alternative for each type of line.
//!
//! A type is a file: `schema/NAME.json`, the schema of a line whose `type` is NAME, and a word in the list below. A test
//! refuses a file that is not in the list, and a line of any command that its file does not allow.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

pub(crate) const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

macro_rules! types {
    ($($name:literal,)*) => {
        /// Each type of line, and its schema.
        const TYPES: &[(&str, &str)] = &[$(($name, include_str!(concat!("schema/", $name, ".json"))),)*];
    };
}

types! {
    "header",
    "store",
    "segment",
    "kind",
    "entity",
    "entry",
    "system",
    "bytes",
    "stats",
    "pin",
    "cursor",
    "compaction",
    "plan",
    "held",
    "finding",
    "lost",
    "lost_cursor",
    "lost_kind",
    "gap",
    "difference",
    "explanation",
    "row",
    "assertion",
    "source",
    "event",
    "topic",
    "cell",
    "life",
    "consumer",
    "parked",
    "letter",
    "trouble",
    "summary",
}

/// The types of lines that there are.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}

/// The schema of a line of a type: its file, with `type` put in.
pub(crate) fn of(name: &str) -> Result<Option<Value>> {
    let Some((name, text)) = TYPES.iter().find(|(known, _)| *known == name) else { return Ok(None) };
    let mut schema: Value =
        serde_json::from_str(text).with_context(|| format!("read the schema of lines of type {name}"))?;
    let properties = schema.pointer_mut("/properties").and_then(Value::as_object_mut);
    let properties = properties.with_context(|| format!("the schema of {name} has no properties"))?;
    properties.insert("type".to_owned(), json!({ "const": name }));
    let required = schema.pointer_mut("/required").and_then(Value::as_array_mut);
    required.with_context(|| format!("the schema of {name} requires nothing"))?.insert(0, "type".into());
    Ok(Some(schema))
}

/// All of them in one document: a line is exactly one of the types.
pub(crate) fn document() -> Result<Value> {
    let mut types = Map::new();
    let mut any = Vec::new();
    for name in names() {
        types.extend(of(name)?.map(|schema| (name.to_owned(), schema)));
        any.push(json!({ "$ref": format!("#/$defs/{name}") }));
    }
    Ok(json!({
        "$schema": DIALECT,
        "title": "A line of what esker prints with --json",
        "oneOf": any,
        "$defs": types,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_a_type_is_in_the_list_and_says_all_of_its_fields() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schema");
        let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
        let files: BTreeSet<String> =
            files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        let listed: BTreeSet<String> = names().map(str::to_owned).collect();
        assert_eq!(files, listed, "schema/*.json, and the list in schema.rs");
        for name in names() {
            let schema = of(name).unwrap().unwrap();
            assert_eq!(schema["additionalProperties"], false, "{name}: no field is left unsaid");
            assert!(schema["title"].is_string(), "{name} has no title");
        }
    }
}
