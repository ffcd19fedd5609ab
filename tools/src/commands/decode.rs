//! `verify --decode`: whether every payload is what its kind says.
//!
//! Frames are read once, in their order, and one payload is in memory.

use std::path::Path;

use anyhow::Result;
use esker::dump::{Dump, FrameInfo, Item, Payload, Value, segment_text};
use esker::{Codec, Owner};
use serde_json::json;

use crate::explain::Code;
use crate::output::{self, Output};
use crate::progress::{Shown, busy_with};
use crate::store::{self, Opened};

/// What decoding came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoded {
    pub(super) payloads: u64,
    pub(super) undecodable: u64,
}

/// Decodes what can be read. `None`: the store is too damaged to be opened, which is said.
pub(super) fn decode(path: &Path, output: &mut Output) -> Result<Option<Decoded>> {
    let opened = match store::look(path) {
        Err(error) if is_corruption(&error) => {
            output::note(&format!("payloads were not decoded: {error:#}"));
            return Ok(None);
        }
        opened => opened?,
    };
    busy_with("decoding", None, |shown| decode_all(&opened, shown, output)).map(Some)
}

fn decode_all(opened: &Opened, shown: &Shown<'_>, output: &mut Output) -> Result<Decoded> {
    let mut dump = opened.dump.clone().translators(output.translators().clone());
    let mut decoded = Decoded::default();
    shown.expect(opened.bytes_of_log());
    for item in opened.survey.frames() {
        // What is damaged the verification has named.
        let Item::Frame(frame) = item? else { continue };
        shown.add(frame.frame_bytes);
        if !frame.body_good {
            continue;
        }
        if frame.is_system() {
            dump.learn(&frame);
            continue;
        }
        decoded.payloads += 1;
        if let Some(why) = fault(&frame, &dump) {
            decoded.undecodable += 1;
            report(&frame, &why, &dump, output)?;
        }
    }
    Ok(decoded)
}

fn is_corruption(error: &anyhow::Error) -> bool {
    error.downcast_ref::<esker::Error>().is_some_and(esker::Error::is_corruption)
}

const NO_ROW: &str = "not the fields of a row";

/// Why a payload is not what its kind says.
fn fault(frame: &FrameInfo, dump: &Dump) -> Option<String> {
    let kind = frame.kind.and_then(|kind| dump.kind(kind))?;
    let is_row = kind.owner == Owner::State && kind.codec == Codec::MessagePack;
    let is_of_version = frame.schema_version.is_none_or(|version| version == kind.version);
    let other_field = |name: &Value| {
        is_of_version.then(|| format!("a field {name}, where the kind has: {}", kind.fields.join(", ")))
    };
    if let Some(large) = dump.large_payload(frame) {
        return match large.decode_error() {
            Some(error) => Some(error.to_string()),
            None if is_row => match large.find_name(|name| !has_field(&kind.fields, name)) {
                None => Some(NO_ROW.to_owned()),
                Some(name) => name.as_ref().and_then(other_field),
            },
            None => None,
        };
    }
    match dump.payload(frame) {
        Payload::Undecodable(_, error) => Some(error.to_string()),
        // A row says its fields by name; of another version of the kind they are others.
        Payload::Value(value) if is_row => {
            let Value::Map(fields) = value else { return Some(NO_ROW.to_owned()) };
            let unknown = fields.iter().map(|(name, _)| name).find(|name| !has_field(&kind.fields, name))?;
            other_field(unknown)
        }
        _ => None,
    }
}

/// Of a kind whose fields nobody told, all are.
fn has_field(fields: &[String], name: &Value) -> bool {
    fields.is_empty() || matches!(name, Value::Text(name) if fields.contains(name))
}

fn report(frame: &FrameInfo, why: &str, dump: &Dump, output: &mut Output) -> Result<()> {
    let segment = frame.position.segment();
    let (name, offset, seq) = (segment_text(segment), frame.position.offset(), frame.seq);
    if !output.is_json() {
        let entity = dump.entity(frame);
        let what = format!("{name}:{offset}: seq {seq}, {entity}: the payload does not decode: {why}");
        return Ok(output.tabs(&["payload".to_owned(), what])?);
    }
    let finding = json!({
        "severity": "payload",
        "code": Code::Undecodable.name(),
        "segment": segment,
        "name": name,
        "offset": offset,
        "seq": seq,
        "kind": frame.kind.map(|kind| dump.kind_name(kind)),
        "key": esker::dump::key_text(&frame.key),
        "what": "the payload does not decode",
        "why": why,
    });
    Ok(output.typed("finding", &finding)?)
}
