//! `hex`: bytes with the names of their fields.

use anyhow::Result;
use esker::dump::annotate;
use serde_json::json;

use crate::args;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::store;

pub(crate) fn hex(args: &args::Hex, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.store.path, "hex", output)?;
    let (segment, offset) = args.place;
    let frames = args.limit.unwrap_or(if offset.is_some() { 1 } else { u64::MAX });
    let mut bytes = 0;
    for line in annotate(&opened.reader, segment, offset, frames)? {
        let line = line?;
        bytes += line.bytes.len();
        if output.is_json() {
            let fields = json!({
                "offset": line.offset,
                "bytes": esker::dump::hex(&line.bytes),
                "field": line.field,
                "value": line.value,
            });
            output.typed("bytes", &fields)?;
        } else {
            output.line(line.to_string().trim_end())?;
        }
    }
    if output.is_json() {
        output.typed("summary", &json!({ "bytes": bytes }))?;
    }
    Ok(Outcome::Fine)
}
