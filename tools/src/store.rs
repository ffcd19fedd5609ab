//! Opening a store to look at it, and saying what state it is in.

use std::path::Path;

use anyhow::Result;
use esker::dump::{Dump, Survey};
use esker::{Damage, Reader};
use serde_json::{Value, json};

use crate::output::{self, Output};

/// A store that is looked at.
pub(crate) struct Opened {
    pub(crate) reader: Reader,
    pub(crate) survey: Survey,
    pub(crate) dump: Dump,
    /// The process that writes it now.
    pub(crate) writer: Option<u32>,
}

/// Opens a store for a command, says whether it is live, and writes the header.
pub(crate) fn open(path: &Path, command: &'static str, output: &mut Output) -> Result<Opened> {
    let opened = look(path)?;
    if let Some(pid) = opened.writer {
        output::note(&format!("live, writer pid {pid}"));
    }
    output.header(command, &opened.description())?;
    Ok(opened)
}

/// Beside a live writer the first look may catch the end of the log half written.
const LOOKS: usize = 3;

fn look(path: &Path) -> Result<Opened> {
    let mut looks = 1;
    loop {
        let reader = Reader::open(path)?;
        let writer = reader.writer().map(|holder| holder.pid);
        if writer.is_some() && !reader.recovery().damage.is_empty() && looks < LOOKS {
            looks += 1;
            continue;
        }
        let survey = Survey::of(&reader)?;
        // The kinds as of the survey: what is shown is not newer than it.
        let dump = Dump::new(reader.kinds());
        return Ok(Opened { reader, survey, dump, writer });
    }
}

impl Opened {
    /// What the header of JSON lines says of the store.
    pub(crate) fn description(&self) -> Value {
        json!({
            "path": self.reader.path().display().to_string(),
            "store": self.reader.store_id().to_string(),
            "format": esker::dump::FORMAT_VERSION,
            "era": self.reader.era(),
            "live": self.writer.map(|pid| json!({ "pid": pid })),
        })
    }

    /// Says what is damaged where no walk over the frames gets to; answers how much that is.
    pub(crate) fn report_damage_at_end(&self, output: &mut Output) -> Result<u64> {
        let damage = self.survey.damage_at_end();
        damage.iter().try_for_each(|damage| report(damage, output))?;
        Ok(damage.len() as u64)
    }
}

/// One finding: a JSON line among the data, else a line beside it.
pub(crate) fn report(damage: &Damage, output: &mut Output) -> Result<()> {
    if output.is_json() {
        output.typed("finding", damage)?;
    } else {
        output::finding(&describe(damage));
    }
    Ok(())
}

/// A damaged place in words.
pub(crate) fn describe(damage: &Damage) -> String {
    let Damage { segment, offset, first_seq, last_seq, what, .. } = damage;
    let lost = match last_seq.checked_sub(*first_seq) {
        Some(_) => format!("; seq {first_seq}..{last_seq} lost"),
        None => String::new(),
    };
    let next = match damage.next_good {
        Some(next) => format!("; the next good frame is at {segment}:{next}"),
        None => "; no good frame follows in this segment".to_owned(),
    };
    format!("{segment}:{offset}: {what}{lost}{next}")
}
