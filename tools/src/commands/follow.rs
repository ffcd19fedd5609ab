//! `-f`: goes on with what is appended, until it was interrupted, or nothing that may come can pass.

use std::time::Duration;

use anyhow::Result;
use esker::dump::{FrameInfo, Item, Survey};
use esker::{ErrorKind, Position, Reader, Seq};
use serde_json::json;

use super::dump::Show;
use crate::home::Home;
use crate::outcome::{Interrupt, Outcome};
use crate::output::{self, Output};
use crate::store::{self, Opened};

/// How long a follower waits before it looks whether somebody still reads what it prints.
const WAIT: Duration = Duration::from_millis(100);

/// So long after `--until` nothing comes any more that was written before.
const LATE_NS: i128 = 1_000_000_000;

impl Show<'_> {
    /// Goes on with what is appended, as long as the store is there.
    pub(super) fn follow(
        &mut self,
        opened: Opened,
        position: Position,
        output: &mut Output,
        interrupt: &Interrupt,
    ) -> Result<Outcome> {
        let mut home = Home::of(&opened.reader)?;
        let outcome = match self.follow_while_there(opened, position, &mut home, output, interrupt) {
            // What cannot be read of one that was taken away says nothing about it.
            Err(_) if home.is_gone() => Outcome::Gone,
            outcome => outcome?,
        };
        if outcome == Outcome::Gone {
            output.flush()?;
            let what = "the store is not there any more: it was removed or replaced";
            output::error(&format!("follow {}: {what}", home.path().display()));
        }
        Ok(outcome)
    }

    fn follow_while_there(
        &mut self,
        opened: Opened,
        mut position: Position,
        home: &mut Home,
        output: &mut Output,
        interrupt: &Interrupt,
    ) -> Result<Outcome> {
        let Opened { mut reader, mut dump, .. } = opened;
        output.flush()?;
        loop {
            // Looked at before the log is: what was written until then is shown.
            let is_over = self.is_over();
            if interrupt.is_set() {
                return Ok(Outcome::Interrupted);
            }
            if home.is_gone() {
                return Ok(Outcome::Gone);
            }
            if output.is_closed() {
                return Ok(Outcome::Fine);
            }
            // A place in a part is where to begin, and behind it there is something.
            let is_due = if position.is_in_part() { Ok(true) } else { reader.wait_behind(position, WAIT) };
            let survey = match is_due {
                Ok(true) => Survey::of(&reader),
                Ok(false) if is_over => return Ok(Outcome::of_findings(self.damaged)),
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            let survey = match survey {
                Ok(survey) => survey,
                Err(error) if error.kind() == ErrorKind::Rewound => {
                    (reader, position) = self.rewound(reader, &error, output)?;
                    continue;
                }
                // Compaction went past what was to be read next: it goes on with what was kept.
                Err(error) if error.kind() == ErrorKind::Compacted => {
                    reader = Reader::open(reader.path())?;
                    position = match Seq::new(self.walked + 1) {
                        Some(next) => Survey::of(&reader)?.before(next),
                        None => Position::ZERO,
                    };
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut frames = survey.frames_from(position);
            for item in frames.by_ref() {
                let item = item?;
                if let Item::Frame(frame) = &item {
                    if !frame.is_system() && frame.seq <= self.walked {
                        continue;
                    }
                    dump.learn(frame);
                    self.filter.learn(frame);
                    self.tell_of_a_gap(frame, &survey, output)?;
                }
                if self.is_past(&Ok(item.clone())) || !self.item(item, &dump, output)? {
                    return Ok(Outcome::of_findings(self.damaged));
                }
            }
            position = frames.resume();
            output.flush()?;
            if is_over || self.is_done(&survey) {
                return Ok(Outcome::of_findings(self.damaged));
            }
        }
    }

    /// True once nothing that is written from now on is before `--until`. Times in the log may go back: an append takes its
    /// own before it waits for its turn, and clocks are set. So no entry tells that, and the clock only somewhat later.
    fn is_over(&self) -> bool {
        let now = jiff::Timestamp::now().as_nanosecond();
        self.args.filter.until.is_some_and(|until| i128::from(until.0) + LATE_NS <= now)
    }

    /// The writer crashed, and went on before what was shown here: says so, and goes on there.
    fn rewound(
        &mut self,
        reader: Reader,
        error: &esker::Error,
        output: &mut Output,
    ) -> Result<(Reader, Position)> {
        let what = format!("{error}; entries behind the last durable one were taken back");
        if output.is_json() {
            output
                .typed("gap", &json!({ "reason": "rewound", "last_shown": self.last_seq, "what": what }))?;
        } else {
            output::note(&format!("gap: {what}"));
        }
        // Numbers are given again.
        (self.walked, self.told) = (0, 0);
        let again = Reader::open(reader.path())?;
        let place = match (error.segment(), error.offset()) {
            (Some(segment), Some(offset)) => Position::new(segment, offset),
            _ => again.refresh()?,
        };
        Ok((again, place))
    }

    /// Says so where compaction dropped what a follower had yet to see.
    fn tell_of_a_gap(&mut self, frame: &FrameInfo, survey: &Survey, output: &mut Output) -> Result<()> {
        let first = self.walked + 1;
        let has_gap = self.walked > 0 && !frame.is_system() && frame.seq > first;
        let gone = Seq::new(first).filter(|_| has_gap && first > self.told);
        let Some(compacted) = gone.and_then(|gone| survey.compacted(gone)) else { return Ok(()) };
        let last = *compacted.end();
        self.told = last;
        if output.is_json() {
            let gap = json!({
                "reason": "compacted",
                "last_shown": self.last_seq,
                "first_seq": first,
                "last_seq": last,
                "what": "compaction came before this follower: of these entries only what was kept follows",
            });
            output.typed("gap", &gap)?;
        } else {
            let seqs = store::seqs(first, last);
            output::note(&format!(
                "gap: compaction came before this follower; of seq {seqs} only what was kept follows"
            ));
        }
        Ok(())
    }
}
