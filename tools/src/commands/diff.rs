//! `diff`: where two stores differ first, or everywhere, and how much.
//!
//! Both logs are read once, side by side, and an entry of each is in memory. Compared is what an entry
//! says; where it lies, and which life wrote it, is not.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::exchange::{Entries, Next};
use anyhow::{Context, Result};
use esker::dump::{Dump, FrameInfo, hex, key_text, rfc3339};
use esker::{CursorInfo, Hold, KindInfo, Reader, Seq, SourceInfo};
use serde::Serialize;
use serde_json::json;

use crate::args;
use crate::commands::dump::report_content;
use crate::commands::keep::word;
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::progress::{Shown, busy_with};
use crate::store::{self, Opened};

pub(crate) fn diff(args: &args::Diff, output: &mut Output) -> Result<Outcome> {
    let opened = [store::look(&args.a)?, store::look(&args.b)?];
    opened.iter().for_each(Opened::note_live);
    let [one, other] = &opened;
    output.header("diff", &json!({ "a": one.description(), "b": other.description() }))?;
    let mut found = Found::default();
    let named = kinds(&one.reader, &other.reader).into_iter().chain(sources(&one.reader, &other.reader));
    for difference in named.chain(cursors(one, other)?) {
        found.kinds_and_cursors += 1;
        difference.show(output)?;
    }
    let most = if args.all { u64::MAX } else { args.limit.unwrap_or(1) };
    busy_with("comparing", None, |shown| -> Result<()> {
        shown.expect(one.bytes_of_log() + other.bytes_of_log());
        let sides = [Side::new(one, shown)?, Side::new(other, shown)?];
        Walk { sides, found: &mut found, most }.walk(output)
    })?;
    for opened in &opened {
        found.damaged += opened.report_damage_at_end(output)?;
    }
    let (is_equal, verdict) = (found.is_equal(), found.verdict());
    if output.is_json() {
        let mut summary = serde_json::to_value(&found)?;
        if let Some(fields) = summary.as_object_mut() {
            fields.insert("verdict".to_owned(), verdict.into());
            fields.insert("is_equal".to_owned(), is_equal.into());
        }
        output.typed("summary", &summary)?;
    } else {
        let fields = found.fields.iter().map(|(field, count)| format!("{field} {count}"));
        let fields = fields.collect::<Vec<_>>().join(", ");
        let mut pairs = vec![
            ("verdict", verdict.to_owned()),
            ("equal", found.equal.to_string()),
            ("differing", found.differing.to_string()),
            ("differing in", fields),
            ("only in A", found.only_in_a.to_string()),
            ("only in B", found.only_in_b.to_string()),
            ("not compared", found.not_compared()),
            ("kinds and cursors", found.kinds_and_cursors.to_string()),
            ("damaged", found.damaged.to_string()),
        ];
        pairs.retain(|(_, value)| !value.is_empty());
        output.pairs(&pairs)?;
        found.note_more();
        if verdict == INCOMPLETE {
            output::note("what could be compared is equal; what is damaged could not be");
        }
    }
    Ok(if is_equal { Outcome::Fine } else { Outcome::Findings })
}

/// How much of what there is.
#[derive(Debug, Default, Serialize)]
struct Found {
    /// Entries that are the same in both.
    equal: u64,
    /// Entries of the same Seq that are not.
    differing: u64,
    /// How many of those differ in which field: the first one, in the order in which a person would look.
    fields: BTreeMap<&'static str, u64>,
    /// The Seq of the first entry that is not the same in both.
    first_seq: Option<u64>,
    /// How many entries that are not the same in both were shown.
    shown: u64,
    only_in_a: u64,
    only_in_b: u64,
    /// Entries of one of which the other has lost its own.
    uncompared: u64,
    /// Fields of kinds and cursors.
    kinds_and_cursors: u64,
    /// Places in either that cannot be read.
    damaged: u64,
}

/// The verdict where nothing differs, and not everything could be compared.
const INCOMPLETE: &str = "incomplete";

impl Found {
    fn is_equal(&self) -> bool {
        self.verdict() == "equal"
    }

    fn verdict(&self) -> &'static str {
        match self.entries() + self.kinds_and_cursors {
            0 if self.damaged + self.uncompared == 0 => "equal",
            0 => INCOMPLETE,
            _ => "different",
        }
    }

    /// Nothing where all was.
    fn not_compared(&self) -> String {
        if self.uncompared == 0 { String::new() } else { self.uncompared.to_string() }
    }

    /// Entries that are not the same in both.
    fn entries(&self) -> u64 {
        self.differing + self.only_in_a + self.only_in_b
    }

    /// Says so where there are entries that differ, and were not shown.
    fn note_more(&self) {
        let more = self.entries() - self.shown;
        if more > 0 {
            let more = output::count_of(more, "more entry");
            output::note(&format!("{more} not the same in both; --all shows all, --limit N as many"));
        }
    }
}

/// One field that is not the same.
#[derive(Debug, Serialize)]
struct Difference {
    /// `kind`, `cursor` or `entry`.
    of: &'static str,
    /// Its name, or its Seq.
    name: String,
    field: &'static str,
    a: String,
    b: String,
}

impl Difference {
    fn show(&self, output: &mut Output) -> Result<()> {
        let Self { of, name, field, a, b } = self;
        if output.is_json() {
            output.typed("difference", self)?;
        } else {
            output.tabs(&[(*of).to_owned(), name.clone(), (*field).to_owned(), a.clone(), b.clone()])?;
        }
        Ok(())
    }
}

/// How what is not there is written.
const ABSENT: &str = "-";

/// The fields that differ of things with names, which may be in one of the stores only.
fn by_name<const N: usize>(
    of: &'static str,
    fields: [&'static str; N],
    a: &BTreeMap<String, [String; N]>,
    b: &BTreeMap<String, [String; N]>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let only_in_b = b.keys().filter(|name| !a.contains_key(*name));
    for name in a.keys().chain(only_in_b) {
        let difference = |field, a: &str, b: &str| Difference {
            of,
            name: name.clone(),
            field,
            a: a.to_owned(),
            b: b.to_owned(),
        };
        match (a.get(name), b.get(name)) {
            (Some(one), Some(other)) => {
                let pairs = fields.iter().zip(one.iter().zip(other));
                let differing = pairs.filter(|(_, (one, other))| one != other);
                differences.extend(differing.map(|(field, (one, other))| difference(field, one, other)));
            }
            (one, _) => {
                let (a, b) = if one.is_some() { ("there", ABSENT) } else { (ABSENT, "there") };
                differences.push(difference("presence", a, b));
            }
        }
    }
    differences
}

/// A kind is known by its name: its number is its store's own.
fn kinds(a: &Reader, b: &Reader) -> Vec<Difference> {
    let row = |kind: &KindInfo| {
        let KindInfo { version, codec, owner, fields, keep, .. } = kind;
        let [codec, owner] = [format!("{codec:?}"), format!("{owner:?}")];
        [version.to_string(), codec, owner, fields.join(" "), word(*keep).to_owned()]
    };
    let [a, b] = [a, b].map(|reader| {
        reader.kinds().iter().map(|kind| (kind.name.clone(), row(kind))).collect::<BTreeMap<_, _>>()
    });
    by_name("kind", ["version", "codec", "owner", "fields", "keeps"], &a, &b)
}

/// A source is known by its number, which rows name.
fn sources(a: &Reader, b: &Reader) -> Vec<Difference> {
    let [a, b] = [a, b].map(|reader| {
        let row = |source: SourceInfo| {
            let deadline = source.liveness.deadline();
            let deadline = deadline.map_or_else(|| "none".to_owned(), |deadline| format!("{deadline:?}"));
            let settled = source.settled.to_string();
            (source.id.to_string(), [source.name, source.claimed.to_string(), deadline, settled])
        };
        reader.sources().into_iter().map(row).collect::<BTreeMap<_, _>>()
    });
    by_name("source", ["name", "claimed", "deadline", "settled"], &a, &b)
}

fn cursors(a: &Opened, b: &Opened) -> Result<Vec<Difference>> {
    let rows = |opened: &Opened| -> Result<BTreeMap<String, [String; 3]>> {
        let row = |cursor: &CursorInfo| {
            let seq = cursor.seq.map_or_else(|| ABSENT.to_owned(), |seq: Seq| seq.to_string());
            let hold = match cursor.hold {
                Hold::UpTo(bytes) => format!("up to {bytes} bytes"),
                other => format!("{other:?}").to_lowercase(),
            };
            [store::region(&cursor.region, &opened.dump), seq, hold]
        };
        Ok(opened.reader.cursors()?.iter().map(|cursor| (cursor.name.clone(), row(cursor))).collect())
    };
    Ok(by_name("cursor", ["region", "seq", "hold"], &rows(a)?, &rows(b)?))
}

/// One store on the way.
struct Side<'a> {
    dump: &'a Dump,
    entries: Entries<fn(&FrameInfo) -> bool>,
    path: String,
    /// The Seqs that are lost before the entry that was read last.
    lost: Option<RangeInclusive<u64>>,
    /// The same of damage that no walk over the entries meets.
    lost_at_end: Vec<RangeInclusive<u64>>,
    shown: &'a Shown<'a>,
}

impl<'a> Side<'a> {
    fn new(opened: &'a Opened, shown: &'a Shown<'a>) -> Result<Self> {
        let all: fn(&FrameInfo) -> bool = |_| true;
        let entries = Entries::new(opened.survey.frames(), u64::MAX, all);
        let entries = entries.context("start a thread to read the log")?;
        let at_end = opened.survey.damage_at_end().into_iter();
        let lost_at_end = at_end.map(|damage| lost_at_end(damage.first_seq, damage.last_seq)).collect();
        let path = opened.reader.path().display().to_string();
        Ok(Self { dump: &opened.dump, entries, path, lost: None, lost_at_end, shown })
    }

    /// True if an entry that is not here may be one that was lost.
    fn has_lost(&self, seq: u64) -> bool {
        self.lost.iter().chain(&self.lost_at_end).any(|lost| lost.contains(&seq))
    }

    fn note_lost(&mut self, lost: RangeInclusive<u64>) {
        if !lost.is_empty() {
            let first = self.lost.take().map_or(*lost.start(), |before| *before.start().min(lost.start()));
            self.lost = Some(first..=*lost.end());
        }
    }

    /// The entry behind this one. What cannot be read on the way is said, and counted.
    fn next(
        &mut self,
        before: Option<Box<FrameInfo>>,
        found: &mut Found,
        output: &mut Output,
    ) -> Result<Option<Box<FrameInfo>>> {
        before.into_iter().for_each(|entry| self.entries.take_back(entry));
        self.lost = None;
        let mut with_no_end = None;
        while let Some(next) = self.entries.next() {
            match next? {
                Next::Entry(frame) => {
                    self.shown.add(frame.frame_bytes);
                    return Ok(Some(frame));
                }
                Next::Damage(damage) => {
                    output::note(&format!("damage in {}", self.path));
                    store::report(&damage, output)?;
                    self.note_lost(damage.first_seq..=damage.last_seq);
                    // Behind a place where it goes on nothing was lost that no number names.
                    let has_no_end = damage.last_seq < damage.first_seq && damage.next_good.is_none();
                    with_no_end = with_no_end.or(has_no_end.then_some(damage.first_seq));
                }
                Next::Content(frame) => {
                    output::note(&format!("damage in {}", self.path));
                    report_content(&frame, output)?;
                    self.note_lost(frame.seq..=frame.seq);
                }
            }
            found.damaged += 1;
        }
        // No entry behind it says how much that was.
        self.lost_at_end.extend(with_no_end.map(|first| lost_at_end(first, 0)));
        Ok(None)
    }
}

/// What damage at the end of a log has lost: where no number says how much, it may be all that there could be.
fn lost_at_end(first: u64, last: u64) -> RangeInclusive<u64> {
    if last < first { first..=u64::MAX } else { first..=last }
}

struct Walk<'a> {
    sides: [Side<'a>; 2],
    found: &'a mut Found,
    /// So many entries that differ are shown.
    most: u64,
}

impl Walk<'_> {
    /// Both logs in the order of their Seqs; the first differences are shown.
    fn walk(self, output: &mut Output) -> Result<()> {
        let Self { sides: [mut a, mut b], found, most } = self;
        let (mut one, mut other) = (a.next(None, found, output)?, b.next(None, found, output)?);
        loop {
            let order = match (&one, &other) {
                (None, None) => return Ok(()),
                (Some(one), Some(other)) => one.seq.cmp(&other.seq),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
            };
            let difference = match order {
                std::cmp::Ordering::Less if one.as_ref().is_some_and(|one| b.has_lost(one.seq)) => {
                    found.uncompared += 1;
                    None
                }
                std::cmp::Ordering::Greater if other.as_ref().is_some_and(|other| a.has_lost(other.seq)) => {
                    found.uncompared += 1;
                    None
                }
                std::cmp::Ordering::Less => {
                    found.only_in_a += 1;
                    one.as_ref().map(|one| presence(one, [a.dump.entity(one), ABSENT.to_owned()]))
                }
                std::cmp::Ordering::Greater => {
                    found.only_in_b += 1;
                    other.as_ref().map(|other| presence(other, [ABSENT.to_owned(), b.dump.entity(other)]))
                }
                std::cmp::Ordering::Equal => {
                    let both = one.as_ref().zip(other.as_ref());
                    let difference = both.and_then(|(one, other)| compare((one, a.dump), (other, b.dump)));
                    match &difference {
                        Some(difference) => {
                            found.differing += 1;
                            *found.fields.entry(difference.field).or_default() += 1;
                        }
                        None => found.equal += 1,
                    }
                    difference
                }
            };
            if let Some(difference) = difference {
                let seqs = [&one, &other].map(|side| side.as_ref().map(|frame| frame.seq));
                found.first_seq = found.first_seq.or(seqs.into_iter().flatten().min());
                if found.shown < most {
                    found.shown += 1;
                    difference.show(output)?;
                }
            }
            if order.is_le() {
                one = a.next(one, found, output)?;
            }
            if order.is_ge() {
                other = b.next(other, found, output)?;
            }
        }
    }
}

fn presence(frame: &FrameInfo, [a, b]: [String; 2]) -> Difference {
    Difference { of: "entry", name: frame.seq.to_string(), field: "presence", a, b }
}

/// The flag that says whether a batch goes on. Where a cursor stands in the batch too, it is not
/// about entries alone, as `more` is.
const MORE: u16 = 1;

/// A field of an entry, as it is compared and shown.
type Field<'a> = (&'static str, &'a dyn Fn(&FrameInfo, &Dump) -> String);

/// True for entries that say the same. Their kinds are compared by name.
fn same((one, dump): (&FrameInfo, &Dump), (other, its_dump): (&FrameInfo, &Dump)) -> bool {
    let numbers =
        |frame: &FrameInfo| (frame.generation, frame.time, frame.source, frame.flags & !MORE, frame.more);
    let said = |frame: &FrameInfo| {
        let named = (frame.idempotency_key, frame.correlation, frame.causation, frame.stamp);
        (frame.operation, named, frame.schema_version, frame.row, frame.event)
    };
    numbers(one) == numbers(other)
        && said(one) == said(other)
        && (&one.key, &one.metadata, &one.payload) == (&other.key, &other.metadata, &other.payload)
        && name(one, dump) == name(other, its_dump)
}

/// The name of an entry's kind. One that the log does not name is only as equal as its number.
fn name<'a>(frame: &FrameInfo, dump: &'a Dump) -> Option<(&'a str, u16)> {
    let kind = frame.kind?;
    Some(dump.kind(kind).map_or(("", kind.get()), |kind| (kind.name.as_str(), 0)))
}

/// The first field that differs, in the order in which a person would look.
fn compare((one, dump): (&FrameInfo, &Dump), (other, its_dump): (&FrameInfo, &Dump)) -> Option<Difference> {
    if same((one, dump), (other, its_dump)) {
        return None;
    }
    let kind =
        |frame: &FrameInfo, dump: &Dump| frame.kind.map(|kind| dump.kind_name(kind)).unwrap_or_default();
    let said = |value: Option<String>| value.unwrap_or_else(|| ABSENT.to_owned());
    let fields: [Field<'_>; 16] = [
        ("kind", &kind),
        ("key", &|frame, _| key_text(&frame.key)),
        ("generation", &|frame, _| said(frame.generation.map(|generation| generation.to_string()))),
        ("operation", &|frame, _| frame.operation_name()),
        ("time", &|frame, _| rfc3339(frame.time)),
        ("source", &|frame, _| frame.source.to_string()),
        ("more", &|frame, _| frame.more.to_string()),
        ("first", &|frame, _| frame.first.to_string()),
        ("flags", &|frame, _| format!("{:#x}", frame.flags & !MORE)),
        ("idempotency_key", &|frame, _| said(frame.idempotency_key.map(|key| key.to_string()))),
        ("correlation", &|frame, _| said(frame.correlation.map(|id| hex(&id)))),
        ("cause", &|frame, _| said(frame.causation.map(|(seq, depth)| format!("{seq} at depth {depth}")))),
        ("schema_version", &|frame, _| said(frame.schema_version.map(|version| version.to_string()))),
        ("stamp", &|frame, _| said(frame.stamp.map(|stamp| stamp.to_string()))),
        ("row", &|frame, _| said(frame.row.map(|row| format!("{row:x?}")))),
        ("event", &|frame, _| said(frame.event.map(|event| format!("{event:x?}")))),
    ];
    let difference = |field, a, b| Difference { of: "entry", name: one.seq.to_string(), field, a, b };
    for (field, text) in fields {
        let (a, b) = (text(one, dump), text(other, its_dump));
        if a != b {
            return Some(difference(field, a, b));
        }
    }
    let bytes = [("metadata", &one.metadata, &other.metadata), ("payload", &one.payload, &other.payload)];
    let (field, a, b) = bytes.into_iter().find(|(_, a, b)| a != b)?;
    let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    Some(difference(field, from(a, at), from(b, at)))
}

/// The length of bytes, and some of them from a place on.
fn from(bytes: &[u8], at: usize) -> String {
    const SHOWN: usize = 40;
    let shown = bytes.iter().skip(at).take(SHOWN).copied().collect::<Vec<_>>();
    format!("{} bytes, from byte {at}: {}", bytes.len(), key_text(&shown))
}
