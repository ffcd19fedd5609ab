//! Reading the lines of a store, which anybody may have changed, and making a store of them.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, Read};

use anyhow::{Result, anyhow};
use esker::{ErrorKind, Import, Imported, KindId, Origin, Seq};
use serde::Deserialize;

use crate::exchange::line::{Entry, Header, LINE_BYTES_MAX, Line, SCHEMA, Summary};

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no export of a store.
    NotAnExport,
    /// A newer tool made it.
    TooNew,
    /// It is a part of an export, or was changed.
    Damaged,
}

/// A file of which no store can be made, and the line that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    /// What is wrong with it.
    pub fault: Fault,
    /// The number of the line, from 1.
    pub line: u64,
    what: String,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.fault {
            Fault::NotAnExport => "give a file that `esker export` made",
            Fault::TooNew => "import it with the version that made it, or a later one",
            Fault::Damaged => "make the export again, or mend that line",
        };
        write!(f, "line {}: {}; {advice}", self.line, self.what)
    }
}

impl std::error::Error for BadFile {}

/// An export or an import was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// What an import came to.
#[derive(Clone, Debug)]
pub struct Done {
    /// The store that was made.
    pub imported: Imported,
    /// What the export said of itself.
    pub summary: Summary,
}

/// Makes a store of lines. `go_on` is asked at each line.
///
/// # Errors
///
/// [`BadFile`] with the line for whatever is wrong with the lines, [`Interrupted`], and what reading and
/// making a store can come to. Nothing of the store is left then.
pub fn import(
    from: impl BufRead,
    begin: impl FnOnce(Origin) -> esker::Result<Import>,
    mut go_on: impl FnMut() -> bool,
) -> Result<Done> {
    let mut lines = Lines::new(from);
    let Some(Line::Header(header)) = lines.next_line()? else {
        return Err(lines.bad(Fault::NotAnExport, "no header").into());
    };
    let origin = header.origin().map_err(|what| lines.damaged(what))?;
    let kinds = header.kinds().map_err(|what| lines.damaged(what))?;
    let sources = header.sources().map_err(|what| lines.damaged(what))?;
    let mut import = begin(origin)?;
    for kind in kinds {
        import.kind(kind).map_err(|error| lines.refused(error))?;
    }
    for source in sources {
        import.source(source).map_err(|error| lines.refused(error))?;
    }
    loop {
        let next = lines.next_line();
        // Whoever interrupts a pipe cuts its lines off too: that is no fault of theirs.
        if !go_on() {
            return Err(Interrupted.into());
        }
        let Some(line) = next? else { break };
        match line {
            Line::Entry(entry) => import.entry(entry).map_err(|error| lines.refused(error))?,
            Line::Summary(summary) => {
                let last = Seq::new(summary.log_last_seq);
                let imported = import.finish(last).map_err(|error| lines.refused(error))?;
                return Ok(Done { imported, summary });
            }
            Line::Header(_) | Line::Finding => {}
        }
    }
    Err(lines.damaged("the file ends without a summary: it is a part of an export").into())
}

/// What every line has.
#[derive(Deserialize)]
struct Start {
    #[serde(rename = "type")]
    what: String,
}

/// What tells an export of any schema.
#[derive(Deserialize)]
struct HeaderStart {
    tool: String,
    schema: u32,
    command: String,
}

/// The lines of a file, each judged by itself, and their order.
///
/// After an error there are no more.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    number: u64,
    kinds: Option<HashMap<String, KindId>>,
    entries: u64,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// The lines that `from` has.
    pub fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), number: 0, kinds: None, entries: 0, ended: false }
    }

    /// The next line; `None` at the end, which is fine behind a summary only.
    ///
    /// # Errors
    ///
    /// [`BadFile`], and what reading comes to.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        self.buffer.clear();
        self.number += 1;
        let most = LINE_BYTES_MAX as u64 + 1;
        let length = self.from.by_ref().take(most).read_until(b'\n', &mut self.buffer)?;
        if length == 0 {
            return Ok(None);
        }
        if length > LINE_BYTES_MAX {
            return Err(self.damaged(format!("a line of more than {LINE_BYTES_MAX} bytes")).into());
        }
        if self.ended {
            return Err(self.damaged("something stands behind the summary").into());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let line = self.parse(&buffer);
        self.buffer = buffer;
        let line = line?;
        if let Line::Summary(summary) = &line {
            self.ended = true;
            if summary.entries != self.entries {
                let (said, found) = (summary.entries, self.entries);
                return Err(self
                    .damaged(format!("the summary counts {said} entries, and {found} are there"))
                    .into());
            }
            // Whatever stands behind is not of this export; it is looked at before a store is made of it.
            if !self.from.fill_buf()?.is_empty() {
                self.number += 1;
                return Err(self.damaged("something stands behind the summary").into());
            }
        }
        Ok(Some(line))
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Line, BadFile> {
        let is_first = self.kinds.is_none();
        let start: Start =
            self.json(bytes).map_err(|bad| if is_first { self.no_export(bad) } else { bad })?;
        match (start.what.as_str(), &self.kinds) {
            ("header", None) => self.header(bytes).map(Line::Header),
            ("header", Some(_)) => Err(self.damaged("a second header: two exports in one file")),
            (_, None) => Err(self.bad(Fault::NotAnExport, "the first line is no header of an export")),
            ("entry", Some(kinds)) => {
                let entry: Entry<'_> = self.json(bytes)?;
                let Some(kind) = kinds.get(entry.kind()) else {
                    return Err(self.damaged(format!("the header has no kind {:?}", entry.kind())));
                };
                let entry = entry.to_import(*kind).map_err(|what| self.damaged(what))?;
                self.entries += 1;
                Ok(Line::Entry(entry))
            }
            ("finding", Some(_)) => Ok(Line::Finding),
            ("summary", Some(_)) => self.json(bytes).map(Line::Summary),
            (other, Some(_)) => {
                Err(self.damaged(format!("a line of the type {other:?}, which no export has")))
            }
        }
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Header, BadFile> {
        let start: HeaderStart = self.json(bytes).map_err(|bad| self.no_export(bad))?;
        if start.tool != "esker" || start.command != "export" {
            return Err(self.bad(Fault::NotAnExport, "the header is not that of an export"));
        }
        if start.schema > SCHEMA {
            let what = format!("its schema is {}, and this build reads {SCHEMA}", start.schema);
            return Err(self.bad(Fault::TooNew, what));
        }
        let header: Header = self.json(bytes)?;
        let kinds = header.kinds().map_err(|what| self.damaged(what))?;
        let kinds = kinds.into_iter().map(|kind| (kind.name, KindId::new(kind.number)));
        let known = kinds.map(|(name, number)| number.map(|number| (name, number)));
        let known: Option<HashMap<_, _>> = known.collect();
        let known = known.ok_or_else(|| self.damaged("a kind has the number 0"))?;
        self.kinds = Some(known);
        Ok(header)
    }

    fn json<'de, T: Deserialize<'de>>(&self, bytes: &'de [u8]) -> Result<T, BadFile> {
        serde_json::from_slice(bytes).map_err(|error| {
            // It counts lines of its own, and there is only one.
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default().to_owned();
            self.damaged(format!("column {}: {text}", error.column()))
        })
    }

    fn no_export(&self, bad: BadFile) -> BadFile {
        BadFile { fault: Fault::NotAnExport, ..bad }
    }

    fn bad(&self, fault: Fault, what: impl Into<String>) -> BadFile {
        BadFile { fault, line: self.number, what: what.into() }
    }

    fn damaged(&self, what: impl Into<String>) -> BadFile {
        self.bad(Fault::Damaged, what)
    }

    /// What a store makes of a line: the line is wrong, or the store cannot be written.
    fn refused(&self, error: esker::Error) -> anyhow::Error {
        match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::UnknownKind | ErrorKind::BatchTooLarge => {
                self.damaged(error.to_string()).into()
            }
            _ => anyhow!(error).context(format!("line {}", self.number)),
        }
    }
}
