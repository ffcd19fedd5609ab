//! `dump` and `get`: entries, one line each, and what stands in their way.

mod backward;

use anyhow::Result;
use esker::dump::{Dump, EntityFrames, Fields, FrameInfo, Item, LargePayload, Survey, escaped};
use esker::{KindId, Position, Seq, View};
use serde_json::json;

use super::events::Telling;
use crate::args;
use crate::filter::{Filter, Range};
use crate::outcome::{Interrupt, Outcome};
use crate::output::{self, Mode, Output};
use crate::store::{self, Opened};
use crate::translate::Payloads;

pub(crate) fn dump(args: &args::Dump, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    let mut opened = store::open(&args.store.path, "dump", output)?;
    let dump = std::mem::take(&mut opened.dump);
    opened.dump = dump.payloads(args.payload.style()).physical(args.physical);
    let filter = Filter::new(&args.filter, args.system, &opened.reader)?;
    opened.note_unknown(&filter, args.follow);
    let show = Show::new(args, filter, None)?;
    show.all(opened, output, interrupt)
}

/// What the cells of a line are.
const COLUMNS: [&str; 8] = ["seq", "time", "operation", "kind", "key", "generation", "flags", "payload"];

/// What a dump shows, and how far it got.
pub(super) struct Show<'a> {
    pub(super) args: &'a args::Dump,
    pub(super) filter: Filter<'a>,
    payloads: Payloads,
    /// Entries are shown as what they did, and some are hidden.
    events: Option<&'a Telling>,
    hidden: u64,
    shown: u64,
    pub(super) last_seq: Option<u64>,
    /// The last entry that was looked at, wanted or not.
    pub(super) walked: u64,
    /// Up to here it was said that entries may be missing.
    pub(super) told: u64,
    pub(super) damaged: u64,
}

/// One entity, and the log at one moment.
struct One {
    view: View,
    kind: KindId,
    key: Vec<u8>,
}

impl One {
    fn behind(&self, seq: u64) -> EntityFrames<'_> {
        EntityFrames::behind(&self.view, self.kind, &self.key, seq)
    }
}

impl<'a> Show<'a> {
    pub(super) fn new(args: &'a args::Dump, filter: Filter<'a>, events: Option<&'a Telling>) -> Result<Self> {
        let payloads = Payloads::of(&args.payload)?;
        Ok(Self {
            args,
            filter,
            payloads,
            events,
            hidden: 0,
            shown: 0,
            last_seq: None,
            walked: 0,
            told: 0,
            damaged: 0,
        })
    }

    pub(super) fn all(
        mut self,
        opened: Opened,
        output: &mut Output,
        interrupt: &Interrupt,
    ) -> Result<Outcome> {
        match self.events {
            Some(_) => output.heading(&Telling::COLUMNS)?,
            None if !self.args.physical => output.heading(&COLUMNS)?,
            None => {}
        }
        let resume = self.now(&opened, output)?;
        if !self.is_full() {
            self.damaged += opened.report_damage_at_end(output)?;
        }
        if self.shown == 0 && self.hidden == 0 && self.damaged == 0 && !self.args.follow {
            opened.note_nothing(&self.filter, self.events.map(Telling::kind))?;
        }
        let outcome = match resume {
            Some(position) if self.args.follow && !self.is_done(&opened.survey) => {
                self.follow(opened, position, output, interrupt)?
            }
            _ => Outcome::of_findings(self.damaged),
        };
        self.end(output)?;
        Ok(outcome)
    }

    fn end(&self, output: &mut Output) -> Result<()> {
        let Self { shown, hidden, damaged, .. } = self;
        match self.events {
            Some(_) if output.is_json() => {
                let summary = json!({ "shown": shown, "hidden": hidden, "damaged": damaged });
                output.typed("summary", &summary)?;
            }
            Some(_) if *hidden > 0 => output::note(&format!(
                "{hidden} operations of epochs, and of ends of epochs and sources, are not shown; --synthetic shows them"
            )),
            None if output.is_json() => {
                output.typed("summary", &json!({ "shown": shown, "damaged": damaged }))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// True for what is shown.
    fn wants(&mut self, frame: &FrameInfo, dump: &Dump) -> bool {
        if !self.filter.accepts(frame, dump) {
            return false;
        }
        let is_hidden = self.events.is_some_and(|telling| telling.hides(frame));
        self.hidden += u64::from(is_hidden);
        !is_hidden
    }
}

impl Show<'_> {
    /// Shows what is there. Answers where the log goes on, if all of it was looked at.
    fn now(&mut self, opened: &Opened, output: &mut Output) -> Result<Option<Position>> {
        if let Some(one) = self.one_entity(opened) {
            self.history(&one, opened, output)?;
            return Ok(None);
        }
        if self.args.reverse || self.args.last.is_some() {
            return self.backward(u64::MAX, opened, output).map(Some);
        }
        self.forward(self.filter.seqs().first, opened, output)
    }

    /// From a Seq on.
    fn forward(&mut self, first: u64, opened: &Opened, output: &mut Output) -> Result<Option<Position>> {
        let start = Seq::new(first).map(|seq| opened.survey.before(seq));
        let mut frames = opened.survey.frames_from(start.unwrap_or(Position::ZERO));
        for item in frames.by_ref() {
            if self.is_past(&item) {
                return Ok(None);
            }
            let item = item?;
            if matches!(&item, Item::Frame(frame) if !frame.is_system() && frame.seq < first) {
                self.walk_over(&item);
            } else if !self.item(item, &opened.dump, output)? {
                return Ok(None);
            }
        }
        Ok(Some(frames.resume()))
    }

    /// The one entity that is asked for, if its index alone can answer; `None` where all frames have to be read.
    fn one_entity(&self, opened: &Opened) -> Option<One> {
        let entity = self.args.filter.entity.as_ref()?;
        if self.args.follow || self.filter.shows_system() || !opened.reader.recovery().damage.is_empty() {
            return None;
        }
        let (kind, key) = entity.exact(&opened.reader)?;
        Some(One { view: opened.reader.view().ok()?, kind, key })
    }

    /// What is asked for of one entity, a frame at a time. Where that comes to damage, reading everything from there on finds
    /// what is left.
    fn history(&mut self, one: &One, opened: &Opened, output: &mut Output) -> Result<()> {
        if self.args.reverse {
            return self.history_reversed(one, opened, output);
        }
        let Some(count) = self.args.last else {
            return self.history_from(self.filter.seqs().first, one, opened, output);
        };
        let Some(first) = self.place_of_last(count, one, opened) else {
            return self.backward(u64::MAX, opened, output).map(drop);
        };
        // Those were counted when the place was looked for.
        let hidden = self.hidden;
        self.history_from(first, one, opened, output)?;
        self.hidden = hidden;
        Ok(())
    }

    fn history_from(&mut self, first: u64, one: &One, opened: &Opened, output: &mut Output) -> Result<()> {
        let last = self.filter.seqs().last;
        for frame in one.behind(first.saturating_sub(1)) {
            let Ok(frame) = frame else {
                return self.forward(first.max(self.walked.saturating_add(1)), opened, output).map(drop);
            };
            if frame.seq > last || !self.item(Item::Frame(frame), &opened.dump, output)? {
                break;
            }
        }
        Ok(())
    }

    fn history_reversed(&mut self, one: &One, opened: &Opened, output: &mut Output) -> Result<()> {
        let Range { first, last } = self.filter.seqs();
        let mut lowest = u64::MAX;
        for frame in one.behind(first.saturating_sub(1)).rev() {
            if self.has_last() {
                break;
            }
            let Ok(frame) = frame else { return self.backward(lowest, opened, output).map(drop) };
            lowest = frame.seq;
            if frame.seq <= last && !self.item(Item::Frame(frame), &opened.dump, output)? {
                break;
            }
        }
        Ok(())
    }

    /// The Seq of the first of the last so many that are wanted; `None` where damage stands before it.
    fn place_of_last(&mut self, count: usize, one: &One, opened: &Opened) -> Option<u64> {
        let Range { first, last } = self.filter.seqs();
        let (mut left, mut place) = (count, u64::MAX);
        for frame in one.behind(first.saturating_sub(1)).rev() {
            if left == 0 {
                break;
            }
            let Ok(frame) = frame else {
                self.hidden = 0;
                return None;
            };
            if frame.seq <= last && self.wants(&frame, &opened.dump) {
                (left, place) = (left - 1, frame.seq);
            }
        }
        Some(place)
    }

    /// True for a frame that is not hidden.
    fn is_shown(&self, item: &Item) -> bool {
        matches!(item, Item::Frame(frame) if !self.events.is_some_and(|telling| telling.hides(frame)))
    }

    pub(super) fn walk_over(&mut self, item: &Item) {
        let last = match item {
            Item::Frame(frame) if frame.is_system() => return,
            Item::Frame(frame) => frame.seq,
            Item::Damage(damage) => damage.last_seq,
        };
        self.walked = self.walked.max(last);
    }

    /// True behind the last Seq that can pass.
    pub(super) fn is_past(&self, item: &esker::Result<Item>) -> bool {
        matches!(item, Ok(Item::Frame(frame)) if frame.seq > self.filter.seqs().last)
    }

    fn is_full(&self) -> bool {
        self.args.limit.is_some_and(|limit| self.shown >= limit)
    }

    fn has_last(&self) -> bool {
        self.args.last.is_some_and(|last| self.shown >= last as u64)
    }

    /// True if nothing can pass that is behind what was looked at: the last Seq was met, or compaction went over it.
    pub(super) fn is_done(&self, survey: &Survey) -> bool {
        let last = self.filter.seqs().last;
        let is_compacted = || Seq::new(last).is_some_and(|last| survey.compacted(last).is_some());
        self.is_full() || self.walked >= last || last != u64::MAX && is_compacted()
    }

    /// Shows one item, if it passes. False: that was the last one that is wanted.
    pub(super) fn item(&mut self, item: Item, dump: &Dump, output: &mut Output) -> Result<bool> {
        self.walk_over(&item);
        match item {
            Item::Damage(damage) => {
                self.damaged += 1;
                store::report(&damage, output)?;
            }
            // Of what is damaged nobody can say whether it was wanted.
            Item::Frame(frame) if !self.wants(&frame, dump) => {
                if !frame.body_good {
                    self.damaged += 1;
                    report_content(&frame, output)?;
                }
            }
            Item::Frame(_) if self.is_full() => {}
            Item::Frame(frame) => {
                if !frame.body_good {
                    self.damaged += 1;
                    report_content(&frame, output)?;
                }
                self.shown += 1;
                self.last_seq = Some(frame.seq);
                match self.events {
                    Some(telling) => telling.show(&frame, dump, &mut self.payloads, output)?,
                    None => show(&frame, dump, &mut self.payloads, output, self.args.physical)?,
                }
            }
        }
        Ok(!self.is_full())
    }
}

/// Everything about a frame, with what a program says that the payload means.
pub(super) fn fields_with(translated: Option<String>, frame: &FrameInfo, dump: &Dump) -> Fields {
    let mut fields = dump.fields(frame);
    fields.shown.payload_text = translated.or(fields.shown.payload_text);
    fields
}

/// One frame, in the form of the output.
fn show(
    frame: &FrameInfo,
    dump: &Dump,
    payloads: &mut Payloads,
    output: &mut Output,
    physical: bool,
) -> Result<()> {
    let translated = payloads.translated(frame, dump)?;
    let large = large(translated.as_ref(), frame, dump);
    let payload = || match &translated {
        Some(text) => escaped(text, false),
        None => dump.payload(frame).text(),
    };
    match (output.mode(), &large) {
        (Mode::Json, Some(large)) => output.json_with(&dump.head_fields(frame), large)?,
        (Mode::Json, None) => output.json(&fields_with(translated, frame, dump))?,
        (Mode::Tabs, _) if !physical => {
            let mut cells = cells(&dump.head_fields(frame), frame, dump).to_vec();
            match &large {
                Some(large) => output.tabs_with(&cells, large)?,
                None => {
                    cells.push(payload());
                    output.tabs(&cells)?;
                }
            }
        }
        (_, Some(large)) => output.line_with(&(dump.head(frame) + " "), large)?,
        _ if translated.is_some() => output.line(&format!("{} {}", dump.head(frame), payload()))?,
        _ => output.line(&dump.line(frame))?,
    }
    Ok(())
}

/// The payload of a frame that is too large to be held once more, if no program has said what it means.
fn large<'f>(translated: Option<&String>, frame: &'f FrameInfo, dump: &Dump) -> Option<LargePayload<'f>> {
    if translated.is_none() { dump.large_payload(frame) } else { None }
}

/// The cells of a line before its payload.
fn cells(fields: &Fields, frame: &FrameInfo, dump: &Dump) -> [String; 7] {
    let text = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "-".to_owned());
    let flags = [fields.flags.clone(), dump.standing(frame)].concat();
    [
        fields.seq.to_string(),
        fields.time.clone(),
        fields.operation.clone(),
        text(&fields.kind),
        text(&fields.key),
        text(&fields.generation.map(|generation| generation.to_string())),
        flags.join(","),
    ]
}

/// A frame whose header is good and whose content is not.
pub(crate) fn report_content(frame: &FrameInfo, output: &mut Output) -> Result<()> {
    let what = "a frame's content does not match its checksum";
    let next = frame.position.offset() + frame.frame_bytes;
    if output.is_json() {
        let finding = json!({
            "segment": frame.position.segment(),
            "name": esker::dump::segment_text(frame.position.segment()),
            "offset": frame.position.offset(),
            "next_good": next,
            "first_seq": frame.seq,
            "last_seq": if frame.is_system() { frame.seq.saturating_sub(1) } else { frame.seq },
            "what": what,
        });
        output.typed("finding", &finding)?;
    } else {
        output::finding(&format!("{}: {what} (seq {})", frame.position, frame.seq));
    }
    Ok(())
}

pub(crate) fn get(args: &args::Get, output: &mut Output) -> Result<Outcome> {
    let mut opened = store::open(&args.store.path, "get", output)?;
    opened.dump = std::mem::take(&mut opened.dump).payloads(args.payload.style());
    let payloads = Payloads::of(&args.payload)?;
    let mut got = Got { payloads, shown: 0, gaps: 0, missing: 0, damaged: 0, gone: None, is_end_told: false };
    for range in &args.seqs {
        got.range(*range, &opened, output)?;
    }
    let Got { shown, gaps, missing, damaged, .. } = got;
    if output.is_json() {
        let summary = json!({ "shown": shown, "gaps": gaps, "missing": missing, "damaged": damaged });
        output.typed("summary", &summary)?;
    }
    Ok(if damaged > 0 {
        Outcome::Findings
    } else if missing > 0 {
        Outcome::Missing
    } else {
        Outcome::Fine
    })
}

/// What `get` came across.
struct Got {
    payloads: Payloads,
    shown: u64,
    /// Stretches of what was asked for and is not in the log, and how many entries that is.
    gaps: u64,
    missing: u64,
    damaged: u64,
    /// The segments that are not there, once somebody has asked.
    gone: Option<Vec<(String, Range)>>,
    /// What is damaged behind the last good frame was told.
    is_end_told: bool,
}

impl Got {
    /// Shows entries by reading the segments that should hold them: no index has to be right.
    fn range(&mut self, range: Range, opened: &Opened, output: &mut Output) -> Result<()> {
        let Some(first) = Seq::new(range.first) else { return Ok(()) };
        // The first that was not met yet; `None` behind the greatest number.
        let mut next = Some(range.first);
        for item in opened.survey.frames_from(opened.survey.before(first)) {
            let item = item?;
            let (met, last) = match &item {
                Item::Frame(frame) if frame.seq > range.last => break,
                Item::Frame(frame) if !frame.is_system() => (frame.seq, frame.seq),
                Item::Damage(damage) if damage.first_seq <= range.last => (damage.first_seq, damage.last_seq),
                _ => continue,
            };
            if last < range.first {
                continue;
            }
            if let Some(next) = next.filter(|next| *next < met) {
                self.gap(Range { first: next, last: met - 1 }, opened, output)?;
            }
            match item {
                Item::Frame(frame) => self.entry(&frame, opened, output)?,
                Item::Damage(damage) => {
                    self.damaged += 1;
                    store::report(&damage, output)?;
                }
            }
            next = next.max(last.checked_add(1));
            if last >= range.last {
                return Ok(());
            }
        }
        match next {
            Some(next) => {
                self.rest(Range { first: next, last: range.last }, next > range.first, opened, output)
            }
            None => Ok(()),
        }
    }

    fn entry(&mut self, frame: &FrameInfo, opened: &Opened, output: &mut Output) -> Result<()> {
        if !frame.body_good {
            self.damaged += 1;
            report_content(frame, output)?;
        }
        let translated = self.payloads.translated(frame, &opened.dump)?;
        if !output.is_json() && self.shown > 0 {
            output.line("")?;
        }
        one(frame, translated, &opened.dump, output)?;
        self.shown += 1;
        Ok(())
    }

    /// What of a range is behind all that was met: it is lost, or it never was. An open range ends where the log does, if
    /// something of it was there.
    fn rest(
        &mut self,
        range: Range,
        is_some_there: bool,
        opened: &Opened,
        output: &mut Output,
    ) -> Result<()> {
        let lost = if self.is_end_told { 0 } else { opened.report_damage_at_end(output)? };
        self.is_end_told = true;
        if lost > 0 {
            self.damaged += lost;
            output::error(&format!("no entry {} can be read", seqs_from(range)));
            return Ok(());
        }
        let last = opened.reader.view()?.last_seq()?.map_or(0, Seq::get);
        // What a repair lost behind the last entry was written.
        let lost = opened.reader.lost_to_repair().last().map_or(0, |lost| lost.last_seq);
        let end = last.max(lost);
        if range.first <= end {
            self.gap(Range { first: range.first, last: range.last.min(end) }, opened, output)?;
        }
        if range.last <= end || is_some_there && range.last == u64::MAX {
            return Ok(());
        }
        let what = match last {
            0 => "the store has none".to_owned(),
            last => format!("the last one is {last}"),
        };
        let range = Range { first: range.first.max(end + 1), last: range.last };
        self.tell(range, "not_written", &what, output)
    }

    /// Entries that are not there, and others behind them are.
    fn gap(&mut self, range: Range, opened: &Opened, output: &mut Output) -> Result<()> {
        let gone = match self.gone.take() {
            Some(gone) => gone,
            None => super::gaps::missing_from(opened)?,
        };
        let gaps = super::gaps::of(range, &gone, opened);
        self.gone = Some(gone);
        for gap in gaps {
            self.damaged += u64::from(gap.reason == super::gaps::MISSING);
            self.tell(gap.range, gap.reason, &gap.what, output)?;
        }
        Ok(())
    }

    fn tell(&mut self, range: Range, reason: &str, what: &str, output: &mut Output) -> Result<()> {
        self.gaps += 1;
        // Nobody knows how many an open range asks for.
        let count = if range.last == u64::MAX { 1 } else { range.last - range.first + 1 };
        self.missing = self.missing.saturating_add(count);
        if output.is_json() {
            // Where an open range ends nobody knows.
            let last = Some(range.last).filter(|last| *last != u64::MAX);
            let gap = json!({
                "reason": reason,
                "last_shown": null,
                "first_seq": range.first,
                "last_seq": last,
                "what": what,
            });
            output.typed("gap", &gap)?;
        }
        output::error(&format!("no entry {}: {what}", seqs_from(range)));
        Ok(())
    }
}

/// A range as it was asked for.
fn seqs_from(range: Range) -> String {
    if range.last == u64::MAX { format!("{}..", range.first) } else { store::seqs(range.first, range.last) }
}

/// One entry with everything that there is to say of it.
pub(super) fn one(
    frame: &FrameInfo,
    translated: Option<String>,
    dump: &Dump,
    output: &mut Output,
) -> Result<()> {
    let large = large(translated.as_ref(), frame, dump);
    if output.is_json() {
        let written = match &large {
            Some(large) => output.json_with(&dump.head_fields(frame), large),
            None => output.json(&fields_with(translated, frame, dump)),
        };
        return Ok(written?);
    }
    let mut pairs = pairs_of(frame, dump);
    if large.is_none() {
        pairs.push(("payload", translated.unwrap_or_else(|| dump.payload(frame).text())));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    let written = match &large {
        Some(large) => output.pairs_with(&pairs, "payload", large),
        None => output.pairs(&pairs),
    };
    Ok(written?)
}

fn pairs_of(frame: &FrameInfo, dump: &Dump) -> Vec<(&'static str, String)> {
    let fields = dump.head_fields(frame);
    let lengths = format!(
        "{} bytes: {} of extensions, {} of key, {} of metadata, {} of payload",
        frame.frame_bytes,
        frame.extension_bytes,
        frame.key.len(),
        frame.metadata.len(),
        frame.payload.len()
    );
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let by = fields.asserted_by.map(|names| store::names(&names)).unwrap_or_default();
    vec![
        ("seq", fields.seq.to_string()),
        ("operation", fields.operation),
        ("kind", fields.kind.unwrap_or_default()),
        ("key", fields.key.unwrap_or_default()),
        ("generation", fields.generation.map(|generation| generation.to_string()).unwrap_or_default()),
        ("time", fields.time),
        ("time_ns", fields.time_ns),
        ("position", fields.position),
        ("batch", fields.batch.unwrap_or_default()),
        ("durable", fields.durable),
        ("life", fields.life),
        ("source", fields.source.to_string()),
        ("flags", fields.flags.join(" ")),
        ("lengths", lengths),
        ("checksums", if fields.checksums_good { "good" } else { "do not match" }.to_owned()),
        ("metadata", fields.metadata.or(fields.metadata_base64).unwrap_or_default()),
        ("idempotency_key", fields.idempotency_key.unwrap_or_default()),
        ("correlation", fields.correlation.unwrap_or_default()),
        ("cause", fields.cause.map(|seq| seq.to_string()).unwrap_or_default()),
        ("depth", fields.depth.map(|depth| depth.to_string()).unwrap_or_default()),
        ("schema_version", fields.schema_version.map(|version| version.to_string()).unwrap_or_default()),
        ("stamp", fields.stamp.unwrap_or_default()),
        ("version", number(fields.version)),
        ("version_before", number(fields.version_before)),
        ("said by", fields.said_by.unwrap_or_default()),
        ("asserted by", by),
        ("changed", fields.changed.unwrap_or_default().join(" ")),
        ("present", fields.present.unwrap_or_default().join(" ")),
        ("sequence", number(fields.sequence)),
        ("kind_sequence", number(fields.kind_sequence)),
    ]
}
