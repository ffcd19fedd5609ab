//! `hex`: bytes with the names of their fields.

use anyhow::Result;
use esker::ErrorKind;
use esker::dump::{annotate, segment_text};
use serde_json::json;

use crate::args;
use crate::outcome::{Outcome, Usage};
use crate::output::{self, Output};
use crate::store;
use crate::typed::on;

pub(crate) fn hex(args: &args::Hex, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.store.path, "hex", output)?;
    let (segment, offset) = args.place;
    let frames = args.limit.unwrap_or(if offset.is_some() { 1 } else { u64::MAX });
    let (mut bytes, mut damaged) = (0, 0);
    let lines = annotate(&opened.reader, segment, offset, frames).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let mut log = opened.survey.log();
            let oldest = log.next().unwrap_or(0);
            let newest = log.next_back().unwrap_or(oldest);
            let [segment, oldest, newest] = [segment, oldest, newest].map(segment_text);
            Usage(format!("no segment {segment}; the log has {oldest} to {newest}")).into()
        }
        _ => anyhow::Error::from(error),
    })?;
    for line in lines {
        let line = line?;
        bytes += line.bytes.len();
        damaged += u64::from(line.is_damage);
        if output.is_json() {
            let fields = json!({
                "offset": line.offset,
                "bytes": esker::dump::hex(&line.bytes),
                "field": line.field,
                "value": line.value,
                "damage": line.is_damage,
            });
            output.typed("bytes", &fields)?;
        } else {
            output.line(line.to_string().trim_end())?;
        }
    }
    if output.is_json() {
        output.typed("summary", &json!({ "bytes": bytes, "damaged": damaged }))?;
    } else if damaged > 0 {
        let places = output::count_of(damaged, "damaged place");
        output::finding(&format!(
            "{places} among these bytes; {} says what is lost",
            on("verify", &args.store.path)
        ));
    }
    Ok(Outcome::of_findings(damaged))
}
