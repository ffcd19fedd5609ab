//! What the commands about the backplane have in common: what stands on it, read without the store's lock.

use std::path::Path;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use esker::ErrorKind;
use esker::backplane::ReadOnly;
use serde_json::json;

use super::listing::over_all;
use crate::output::{self, Output};
use crate::store::{self, Opened};

/// A store, and what stands on its backplane at one moment.
pub(super) struct Looked {
    pub(super) opened: Opened,
    pub(super) plane: Rc<ReadOnly>,
    /// A frame could not be read: the whole log is read then, to name the damage as every command does.
    met_damage: bool,
    /// What was read, and is not what was written.
    bad: u64,
}

impl Looked {
    pub(super) fn open(path: &Path, command: &'static str, output: &mut Output) -> Result<Self> {
        let opened = store::open(path, command, output)?;
        let plane = Rc::new(ReadOnly::of(&opened.reader)?);
        Ok(Self { opened, plane, met_damage: false, bad: 0 })
    }

    /// What cannot be read does not end a command: it is told here, if the rest can be.
    pub(super) fn take<T>(&mut self, found: esker::Result<T>, output: &mut Output) -> Result<Option<T>> {
        let error = match found {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Codec | ErrorKind::FormatTooNew) {
            return Err(error.into());
        }
        if error.segment().is_some() {
            self.met_damage = true;
            return Ok(None);
        }
        self.finding(&error.to_string(), output)?;
        Ok(None)
    }

    /// Something that can be read, and is not as it should be.
    pub(super) fn finding(&mut self, what: &str, output: &mut Output) -> Result<()> {
        self.bad += 1;
        if output.is_json() {
            output.typed("finding", &json!({ "what": what }))?;
        } else {
            output::finding(what);
        }
        Ok(())
    }

    /// Names the damage that was met; answers how much that is, with what else was found.
    pub(super) fn report_damage(&self, output: &mut Output) -> Result<u64> {
        let was_met = self.met_damage || !self.opened.reader.recovery().damage.is_empty();
        let damaged = if was_met {
            over_all(&self.opened, output, |_| {})?
        } else {
            self.opened.report_damage_at_end(output)?
        };
        Ok(damaged + self.bad)
    }
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Text, or a dash where there is none.
pub(super) fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}
