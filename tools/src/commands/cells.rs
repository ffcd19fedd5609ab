//! `cells`: what is compared and swapped, each cell as it is.

use std::rc::Rc;

use anyhow::Result;
use esker::Codec;
use esker::backplane::WrittenCell;
use esker::dump::{Payload as Shown, PayloadFields, PayloadStyle, key_text, rfc3339};
use serde::Serialize;
use serde_json::json;

use super::plane::Looked;
use crate::args;
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::rows::Rows;

/// The cells: what each holds, how often it was changed, and when last
///
/// It reads the segments that hold cells
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// Only cells of this scope and of those in it: the names of scopes, from the outermost on, with slashes between them
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Those, too, in which the library keeps how far consumers have come (`esker consumers` says what is in them)
    #[arg(long, conflicts_with = "scope")]
    internal: bool,
    #[command(flatten)]
    payload: args::ShownPayload,
}

/// A cell for JSON lines.
#[derive(Debug, Serialize)]
struct CellLine {
    /// The names of its scopes, the outermost first; `null`: the key is as somebody gave it to the backplane itself.
    scopes: Option<Vec<String>>,
    key: String,
    revision: u64,
    /// The entry that says so.
    seq: u64,
    /// `null`: it holds nothing.
    bytes: Option<u64>,
    written: String,
    written_ns: String,
    #[serde(flatten)]
    payload: PayloadFields,
}

pub(crate) fn cells(args: &Args, output: &mut Output) -> Result<Outcome> {
    let mut looked = Looked::open(&args.store.path, "cells", output)?;
    let mut rows = Rows::under(&["scope", "cell", "revision", "bytes", "written", "value"]);
    let plane = Rc::clone(&looked.plane);
    for cell in plane.cells() {
        let Some(cell) = looked.take(cell, output)? else { continue };
        if args.wants(&cell) {
            show(&cell, args.payload.style(), &mut rows, output)?;
        }
    }
    let count = rows.count;
    rows.end(output)?;
    if let Some(scope) = args.scope.as_ref().filter(|_| count == 0) {
        output::note(&format!("no cell is of the scope {scope:?}, or of one in it"));
    }
    let damaged = looked.report_damage(output)?;
    if output.is_json() {
        output.typed("summary", &json!({ "cells": count, "damaged": damaged }))?;
    }
    Ok(Outcome::of_findings(damaged))
}

impl Args {
    fn wants(&self, cell: &WrittenCell) -> bool {
        if cell.is_internal() {
            return self.internal;
        }
        let Some(wanted) = &self.scope else { return true };
        let scopes = scopes_of(cell).unwrap_or_default();
        let path = scopes.join("/");
        path == *wanted || path.strip_prefix(wanted).is_some_and(|inner| inner.starts_with('/'))
    }
}

fn scopes_of(cell: &WrittenCell) -> Option<Vec<String>> {
    cell.named().map(|named| named.scopes.into_iter().map(key_text).collect())
}

fn show(cell: &WrittenCell, style: PayloadStyle, rows: &mut Rows, output: &mut Output) -> Result<()> {
    let named = cell.named();
    let key = key_text(named.as_ref().map_or(&*cell.key, |named| named.key));
    let scopes = scopes_of(cell);
    let is_value = named.is_some() || cell.is_internal();
    let codec = if is_value { Some(Codec::MessagePack) } else { None };
    let shown = cell.bytes.as_deref().map(|bytes| Shown::of_value(bytes, codec, style));
    if output.is_json() {
        let bytes = cell.bytes.as_deref().unwrap_or_default();
        rows.count += 1;
        let line = CellLine {
            scopes,
            key,
            revision: cell.revision.raw(),
            seq: cell.offset.raw(),
            bytes: cell.bytes.as_ref().map(|bytes| bytes.len() as u64),
            written: rfc3339(cell.time),
            written_ns: cell.time.to_string(),
            payload: shown.unwrap_or(Shown::Absent).fields(bytes, style),
        };
        return Ok(output.typed("cell", &line)?);
    }
    let size = cell.bytes.as_ref().map_or_else(|| "nothing".to_owned(), |bytes| bytes.len().to_string());
    let row = vec![
        scopes.filter(|scopes| !scopes.is_empty()).map_or_else(|| "-".to_owned(), |scopes| scopes.join("/")),
        key,
        cell.revision.to_string(),
        size,
        rfc3339(cell.time),
        shown.map_or_else(String::new, |shown| shown.text()),
    ];
    rows.push(row, output)
}
