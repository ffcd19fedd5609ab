//! Rows of a table that are written as they come.
//!
//! In a table the columns are as wide as what is in them, so that its rows have to be known: where there are many, it is
//! laid out piece by piece, each under its heading.

use anyhow::Result;

use crate::output::{Mode, Output};

/// So many rows are laid out together, or so many bytes of cells.
const ROWS_TOGETHER: usize = 4096;
const BYTES_TOGETHER: usize = 1 << 20;

/// Rows under a heading.
pub(crate) struct Rows {
    heading: &'static [&'static str],
    /// Those that are not laid out yet.
    rows: Vec<Vec<String>>,
    bytes: usize,
    pub(crate) count: u64,
    has_heading: bool,
    /// The columns for which the terminal is too narrow.
    left_out: Vec<&'static str>,
}

impl Rows {
    pub(crate) fn under(heading: &'static [&'static str]) -> Self {
        Self { heading, rows: Vec::new(), bytes: 0, count: 0, has_heading: false, left_out: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<String>, output: &mut Output) -> Result<()> {
        self.begin(output)?;
        self.count += 1;
        match output.mode() {
            Mode::Json => {}
            Mode::Tabs => output.tabs(&row)?,
            Mode::Table => {
                let bytes = row.iter().map(String::len).sum::<usize>();
                let is_full = self.rows.len() >= ROWS_TOGETHER || self.bytes + bytes > BYTES_TOGETHER;
                if is_full && !self.rows.is_empty() {
                    self.lay_out(output)?;
                }
                self.bytes += bytes;
                self.rows.push(row);
            }
        }
        Ok(())
    }

    pub(crate) fn end(mut self, output: &mut Output) -> Result<()> {
        self.begin(output)?;
        if output.mode() != Mode::Table {
            return Ok(());
        }
        if self.count == 0 {
            return Ok(output.nothing_under(self.heading)?);
        }
        self.lay_out(output)?;
        Ok(output.note_left_out(&self.left_out)?)
    }

    fn begin(&mut self, output: &mut Output) -> Result<()> {
        if !std::mem::replace(&mut self.has_heading, true) {
            output.heading(self.heading)?;
        }
        Ok(())
    }

    fn lay_out(&mut self, output: &mut Output) -> Result<()> {
        self.bytes = 0;
        let left_out = output.lay_out(self.heading, std::mem::take(&mut self.rows))?;
        // The narrowest piece leaves out what the others do, and more.
        if left_out.len() > self.left_out.len() {
            self.left_out = left_out;
        }
        Ok(())
    }
}
