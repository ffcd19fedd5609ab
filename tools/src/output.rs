//! What leaves the program: one locked stdout for data, stderr for everything else.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::sync::OnceLock;

use crate::exchange::SCHEMA;
use crate::fit::{BLANK, Column, fit};
use crate::progress;
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ColumnConstraint, Row, Table, Width};
use esker::dump::{LargePayload, Translators, one_line};
use serde::Serialize;

/// What the tool is called where nobody calls it otherwise.
pub(crate) const NAME: &str = "esker";

/// What this program is called: there is one in a process.
static CALLED: OnceLock<&'static str> = OnceLock::new();

/// Says what this program is called. The first name stays.
pub(crate) fn call_it(name: &'static str) {
    let _ = CALLED.set(name);
}

/// What this program is called.
pub(crate) fn name() -> &'static str {
    CALLED.get().copied().unwrap_or(NAME)
}

/// Commands of this program in a text that calls it by the name that it has without an application: the library's errors, and
/// the pages of `explain`.
pub(crate) fn called(text: &str) -> Cow<'_, str> {
    if name() == NAME {
        return text.into();
    }
    let own = format!("{} ", name());
    let at_start = text.strip_prefix("esker ").map(|rest| own.clone() + rest);
    at_start.as_deref().unwrap_or(text).replace("`esker ", &format!("`{own}")).into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// For eyes.
    Table,
    /// For pipes.
    Tabs,
    Json,
}

/// Where data goes, and in which form.
pub(crate) struct Output {
    out: BufWriter<Data>,
    mode: Mode,
    bold: Style,
    /// Columns have their names in a pipe, too.
    has_heading: bool,
    translators: Translators,
}

/// Where data goes; on a terminal whatever is drawn there goes first.
struct Data {
    out: StdoutLock<'static>,
    is_terminal: bool,
}

impl Write for Data {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_terminal {
            progress::give_way();
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The first of the JSON lines.
#[derive(Debug, Serialize)]
struct Header<'a> {
    #[serde(rename = "type")]
    what: &'static str,
    tool: &'static str,
    version: &'static str,
    schema: u32,
    command: &'static str,
    #[serde(flatten)]
    more: &'a serde_json::Map<String, serde_json::Value>,
}

/// A JSON line: what it is, and its fields.
#[derive(Debug, Serialize)]
struct Typed<'a, T> {
    #[serde(rename = "type")]
    what: &'static str,
    #[serde(flatten)]
    fields: &'a T,
}

impl Output {
    pub(crate) fn new(json: bool, has_heading: bool) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let colour = is_terminal && anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let mode = match (json, is_terminal) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Table,
            (false, false) => Mode::Tabs,
        };
        let bold = if colour { Style::new().bold() } else { Style::new() };
        let out = BufWriter::new(Data { out: stdout.lock(), is_terminal });
        Self { out, mode, bold, has_heading, translators: Translators::new() }
    }

    /// With the codecs that only an application knows.
    pub(crate) fn translating(mut self, translators: Translators) -> Self {
        self.translators = translators;
        self
    }

    pub(crate) fn translators(&self) -> &Translators {
        &self.translators
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// From here on, JSON lines.
    pub(crate) fn use_json(&mut self) {
        self.mode = Mode::Json;
    }

    /// The first line; nothing but where the lines are JSON.
    pub(crate) fn header(&mut self, command: &'static str, store: &serde_json::Value) -> io::Result<()> {
        if !self.is_json() {
            return Ok(());
        }
        let empty = serde_json::Map::new();
        let header = Header {
            what: "header",
            tool: "esker",
            version: env!("CARGO_PKG_VERSION"),
            schema: SCHEMA,
            command,
            more: store.as_object().unwrap_or(&empty),
        };
        self.json(&header)
    }

    /// One JSON line that says what it is.
    pub(crate) fn typed<T: Serialize>(&mut self, what: &'static str, fields: &T) -> io::Result<()> {
        self.json(&Typed { what, fields })
    }

    /// One JSON line.
    pub(crate) fn json<T: Serialize>(&mut self, line: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        writeln!(self.out)
    }

    /// One JSON line, with a large payload as its last members.
    pub(crate) fn json_with<T: Serialize>(&mut self, line: &T, payload: &LargePayload<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.pop();
        self.out.write_all(&line)?;
        write!(self.out, ",\"{}\":", payload.member())?;
        payload.write_json(&mut self.out)?;
        if let Some(error) = payload.decode_error() {
            write!(self.out, ",\"decode_error\":")?;
            serde_json::to_writer(&mut self.out, &error.to_string())?;
        }
        writeln!(self.out, "}}")
    }

    /// A line that ends with a large payload.
    pub(crate) fn line_with(&mut self, line: &str, payload: &LargePayload<'_>) -> io::Result<()> {
        write!(self.out, "{line}")?;
        payload.write_text(&mut self.out)?;
        writeln!(self.out)
    }

    /// Where whole lines can be written to.
    pub(crate) fn lines(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// Cells with tabs between them; what a cell may hold of tabs and line ends is escaped.
    pub(crate) fn tabs(&mut self, cells: &[String]) -> io::Result<()> {
        self.line(&tabbed(cells))
    }

    /// The same with a large payload as the last cell.
    pub(crate) fn tabs_with(&mut self, cells: &[String], payload: &LargePayload<'_>) -> io::Result<()> {
        self.line_with(&(tabbed(cells) + "\t"), payload)
    }

    /// The names of the columns above lines with tabs, where somebody asked for them.
    pub(crate) fn heading(&mut self, heading: &[&str]) -> io::Result<()> {
        if !self.has_heading || self.mode != Mode::Tabs {
            return Ok(());
        }
        self.tabs(&heading.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    /// Rows under a heading; JSON is written by who calls.
    pub(crate) fn table(&mut self, heading: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        self.heading(heading)?;
        match self.mode {
            Mode::Json => Ok(()),
            Mode::Tabs => rows.iter().try_for_each(|row| self.tabs(row)),
            Mode::Table if rows.is_empty() => self.nothing_under(heading),
            Mode::Table => {
                let left_out = self.lay_out(heading, rows)?;
                self.note_left_out(&left_out)
            }
        }
    }

    /// Says that a table would be empty.
    pub(crate) fn nothing_under(&mut self, heading: &[&str]) -> io::Result<()> {
        self.flush()?;
        note(&format!("nothing to show: no {}", plural(heading.first().unwrap_or(&"row"))));
        Ok(())
    }

    /// Rows for eyes, under a heading; answers the columns for which the terminal is too narrow.
    pub(crate) fn lay_out<'h>(
        &mut self,
        heading: &[&'h str],
        rows: Vec<Vec<String>>,
    ) -> io::Result<Vec<&'h str>> {
        let (table, left_out) = tabulate(heading, rows, self.places());
        // Blanks at the end of a line make it wrap where the terminal is narrow.
        table.to_string().lines().try_for_each(|line| writeln!(self.out, "{}", line.trim_end()))?;
        Ok(left_out)
    }

    /// Says which columns are not there, if any.
    pub(crate) fn note_left_out(&mut self, left_out: &[&str]) -> io::Result<()> {
        if left_out.is_empty() {
            return Ok(());
        }
        self.flush()?;
        let names = left_out.join(", ");
        note(&format!("the terminal is too narrow for {names}: in a pipe, and with --json, all is there"));
        Ok(())
    }

    /// How many places a line of the terminal has, if it says so.
    fn places(&self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_col)).filter(|places| *places > 0)
    }

    /// Names and values, one pair a line.
    pub(crate) fn pairs(&mut self, pairs: &[(&str, String)]) -> io::Result<()> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs {
            // That of a field is what the payload says.
            match self.mode {
                Mode::Json => {}
                Mode::Tabs => self.tabs(&[(*name).to_owned(), value.clone()])?,
                Mode::Table => {
                    let (bold, name, value) = (self.bold, one_line(name), one_line(value));
                    writeln!(self.out, "{bold}{name:width$}{bold:#}  {value}")?;
                }
            }
        }
        Ok(())
    }

    /// The same with a large payload as the last of them.
    pub(crate) fn pairs_with(
        &mut self,
        pairs: &[(&str, String)],
        name: &str,
        payload: &LargePayload<'_>,
    ) -> io::Result<()> {
        self.pairs(pairs)?;
        let (bold, width) = (self.bold, pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0));
        match self.mode {
            Mode::Json => Ok(()),
            Mode::Tabs => self.line_with(&format!("{name}\t"), payload),
            Mode::Table => self.line_with(&format!("{bold}{name:width$}{bold:#}  "), payload),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// True if nobody can read any more what would be written.
    pub(crate) fn is_closed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdout = io::stdout();
        let mut waiting = [PollFd::new(&stdout, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        poll(&mut waiting, Some(&now)).is_ok_and(|_| waiting.iter().any(|fd| fd.revents().intersects(gone)))
    }
}

/// Cells with tabs between them.
fn tabbed(cells: &[String]) -> String {
    cells.iter().map(|cell| one_line(cell)).collect::<Vec<_>>().join("\t")
}

/// Headings over numbers.
const NUMBERS: &[&str] = &[
    "segment",
    "first",
    "last",
    "entries",
    "used",
    "file",
    "bytes",
    "versions",
    "seq",
    "behind",
    "held bytes",
    "whole from",
    "offset",
    "head",
    "lag",
    "image bytes",
    "revision",
    "retried",
    "parked",
    "given up",
    "attempts",
];

/// What stands for what is not there for want of room.
const CUT: &str = "\u{2026}";

/// Rows under a heading, on lines of so many places, and the headings of the columns that do not fit.
fn tabulate<'h>(
    heading: &[&'h str],
    mut rows: Vec<Vec<String>>,
    places: Option<usize>,
) -> (Table, Vec<&'h str>) {
    rows.iter_mut().flatten().for_each(|cell| *cell = for_eyes(cell));
    let table = plain(heading, &rows);
    let natural: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
    // A blank on each side of a column, of which the last is cut off.
    let width = natural.iter().sum::<usize>() + 2 * natural.len() - 1;
    let Some(places) = places.filter(|places| width > *places) else { return (table, Vec::new()) };
    let column =
        |(at, width): (usize, &usize)| Column { width: *width, may_be_cut: !is_number(at, heading, &rows) };
    let columns: Vec<Column> = natural.iter().enumerate().map(column).collect();
    let widths = fit(&columns, places);
    let (shown, left_out) = heading.split_at(widths.len().min(heading.len()));
    let mark = (!left_out.is_empty()).then_some(CUT);
    for row in &mut rows {
        row.truncate(widths.len());
        row.extend(mark.map(str::to_owned));
    }
    let shown: Vec<&str> = shown.iter().copied().chain(mark).collect();
    let mut table = plain(&shown, &rows);
    table.set_truncation_indicator(CUT);
    table.row_iter_mut().for_each(|row| _ = row.max_height(1));
    for (column, width) in table.column_iter_mut().zip(widths.into_iter().chain([CUT.chars().count()])) {
        let width = u16::try_from(width + BLANK).unwrap_or(u16::MAX);
        column.set_padding((0, 1)).set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
    (table, left_out.to_vec())
}

/// The same without a look at the room that there is.
fn plain(heading: &[&str], rows: &[Vec<String>]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(Row::from(heading.to_vec()).max_height(1).clone());
    table.add_rows(rows);
    for at in 0..heading.len() {
        // Numbers stand to the right, below each other.
        if let Some(column) = table.column_mut(at).filter(|_| is_named_number(at, heading)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn is_named_number(at: usize, heading: &[&str]) -> bool {
    heading.get(at).is_some_and(|name| NUMBERS.contains(name))
}

/// A number that is cut is another one.
fn is_number(at: usize, heading: &[&str], rows: &[Vec<String>]) -> bool {
    let mut cells = rows.iter().filter_map(|row| row.get(at));
    is_named_number(at, heading) || cells.all(|cell| cell.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A cell of a table: a time to the second, which is what eyes compare and a terminal has the room for.
fn for_eyes(cell: &str) -> String {
    let to_the_second = |(second, rest): (&str, &str)| {
        let is_time = second.len() == SECOND.len()
            && second.bytes().zip(SECOND.bytes()).all(|(one, form)| match form {
                b'0' => one.is_ascii_digit(),
                _ => one == form,
            });
        let is_fraction =
            rest.strip_suffix('Z').is_some_and(|rest| rest.bytes().all(|one| one.is_ascii_digit()));
        (is_time && is_fraction).then(|| format!("{second}Z"))
    };
    cell.split_once('.').and_then(to_the_second).unwrap_or_else(|| one_line(cell))
}

/// The form of a time up to its seconds.
const SECOND: &str = "0000-00-00T00:00:00";

/// So many of something, in words.
pub(crate) fn count_of(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {}", plural(what)) }
}

fn plural(what: &str) -> String {
    what.strip_suffix('y').map_or_else(|| format!("{what}s"), |stem| format!("{stem}ies"))
}

/// Says something beside the data.
pub(crate) fn note(text: &str) {
    say(Style::new().fg_color(Some(AnsiColor::Cyan.into())), "note", text);
}

/// Says what is wrong with the store.
pub(crate) fn finding(text: &str) {
    say(Style::new().fg_color(Some(AnsiColor::Red.into())), "damage", text);
}

/// Says what is more than it may be.
pub(crate) fn over(text: &str) {
    say(Style::new().fg_color(Some(AnsiColor::Yellow.into())), "over", text);
}

/// Says why the command failed.
pub(crate) fn error(text: &str) {
    say(Style::new().fg_color(Some(AnsiColor::Red.into())).bold(), "error", text);
}

fn say(style: Style, label: &str, text: &str) {
    progress::above(|| {
        // Where stderr is gone there is nobody to tell.
        let _ =
            writeln!(anstream::stderr(), "{}: {style}{label}{style:#}: {}", name(), one_line(&called(text)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_second_and_nothing_else_is_cut() {
        assert_eq!(for_eyes("2026-11-20T10:00:01.123456789Z"), "2026-11-20T10:00:01Z");
        for whole in
            ["2026-11-20T10:00:01Z", "a.b", "2026-11-20T10:00:01.5", "1.5Z", "2026-11-20T10:00:01.x5Z", ""]
        {
            assert_eq!(for_eyes(whole), whole);
        }
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|count| count_of(count, "entry")), ["0 entries", "1 entry", "2 entries"]);
        assert_eq!(count_of(2, "place"), "2 places");
    }
}
