//! Which entries a command is about: the same words in every command.

use std::str::FromStr;

use esker::dump::{Dump, FrameInfo, key_bytes, key_text, rfc3339};
use esker::{EventOperation, KindId, Reader, RowOperation, SourceInfo};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::args::{self, Operation};
use crate::outcome::Usage;
use crate::span::Span;

/// A name in which `*` stands for any characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl FromStr for Pattern {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Entity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.0, self.key.0)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Pattern {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut at, mut place) = (0, 0);
        // Where the last star stands, and how much it swallows so far.
        let mut star: Option<(usize, usize)> = None;
        while place < text.len() {
            match (pattern.get(at), text.get(place)) {
                (Some('*'), _) => {
                    star = Some((at, place));
                    at += 1;
                }
                (Some('?'), Some(_)) => (at, place) = (at + 1, place + 1),
                (Some(wanted), Some(found)) if wanted == found => (at, place) = (at + 1, place + 1),
                _ => match star {
                    Some((stands, swallowed)) => {
                        star = Some((stands, swallowed + 1));
                        (at, place) = (stands + 1, swallowed + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern.get(at..).unwrap_or_default().iter().all(|rest| *rest == '*')
    }

    /// True for a kind by its name, or by its number as `#7`: so kinds are shown that nobody registered.
    pub(crate) fn matches_kind(&self, name: &str, number: KindId) -> bool {
        self.matches(name) || self.0.strip_prefix('#').is_some_and(|digits| digits == number.to_string())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    fn exact(&self) -> Option<&str> {
        (!self.0.contains(['*', '?'])).then_some(&*self.0)
    }
}

/// `KIND/KEY`; the first slash divides them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entity {
    kind: Pattern,
    key: Pattern,
}

impl FromStr for Entity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, key) = text.split_once('/').ok_or_else(|| {
            format!("an entity is KIND/KEY; {text:?} is one of them: '*/{text}' is a key of any kind, '{text}/*' all of a kind")
        })?;
        if let Some(key) = key.strip_prefix("hex:").filter(|key| !key.contains(['*', '?'])) {
            key_bytes(&format!("hex:{key}"))
                .ok_or("an odd number of digits, or none that are hexadecimal")?;
        }
        // Digits as this tool prints them, so that a pattern over them works as well.
        let key = match key.strip_prefix("hex:") {
            Some(digits) => format!("hex:{}", digits.to_lowercase()),
            None => key.to_owned(),
        };
        Ok(Self { kind: Pattern(kind.to_owned()), key: Pattern(key) })
    }
}

impl Entity {
    /// All entities of a kind.
    pub(crate) fn all_of(kind: &str) -> Self {
        Self { kind: Pattern(kind.to_owned()), key: Pattern("*".to_owned()) }
    }

    pub(crate) fn kind(&self) -> &Pattern {
        &self.kind
    }

    /// The kind's name, if one kind is meant.
    pub(crate) fn kind_name(&self) -> Option<&str> {
        self.kind.exact()
    }

    /// The key, if one is meant.
    pub(crate) fn key(&self) -> Option<Vec<u8>> {
        key_bytes(self.key.exact()?)
    }

    /// The key as it was asked for.
    pub(crate) fn key_pattern(&self) -> &str {
        self.key.text()
    }

    pub(crate) fn matches_key(&self, key: &[u8]) -> bool {
        self.key.matches(&key_text(key))
    }

    /// The same keys of another kind.
    pub(crate) fn of_kind(&self, kind: &str) -> Self {
        Self { kind: Pattern(kind.to_owned()), key: self.key.clone() }
    }

    /// The one entity that is meant, if it is one and the store knows its kind.
    pub(crate) fn exact(&self, reader: &Reader) -> Option<(KindId, Vec<u8>)> {
        let kind = reader.kind_named(self.kind.exact()?)?;
        Some((kind.id, key_bytes(self.key.exact()?)?))
    }

    pub(crate) fn matches(&self, kind: &str, key: &[u8]) -> bool {
        self.kind.matches(kind) && self.matches_its_key(key)
    }

    fn matches_its_key(&self, key: &[u8]) -> bool {
        match self.key.exact() {
            Some(text) => key_bytes(text).as_deref() == Some(key),
            None => self.key.matches(&key_text(key)),
        }
    }
}

/// A range of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str, open: u64| match text.trim_start_matches('=') {
            "" => Ok(open),
            digits => digits.parse().map_err(|_| format!("{digits:?} is not a number")),
        };
        let range = match text.split_once("..") {
            Some((first, last)) => Self { first: number(first, 0)?, last: number(last, u64::MAX)? },
            None => {
                let only = text.parse().map_err(|_| format!("{text:?} is neither a number nor A..B"))?;
                Self { first: only, last: only }
            }
        };
        if range.first > range.last {
            return Err(format!("{text} is empty: the first number is the greater one"));
        }
        Ok(range)
    }
}

impl Range {
    fn contains(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// A moment, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) i64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let nanoseconds = |time: Timestamp| {
            let nanoseconds = time.as_nanosecond();
            Self(i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX }))
        };
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(nanoseconds(time));
        }
        if let Ok(time) = text.parse::<Zoned>() {
            return Ok(nanoseconds(time.timestamp()));
        }
        // With a zone that is not known it would be taken for UTC.
        if !text.contains('[')
            && let Ok(time) = text.parse::<DateTime>().and_then(|time| time.to_zoned(TimeZone::UTC))
        {
            return Ok(nanoseconds(time.timestamp()));
        }
        let ago = text.parse::<Span>().ok().and_then(|span| Timestamp::now().checked_sub(span.0).ok());
        ago.map(nanoseconds).ok_or_else(|| {
            format!("{text:?} is neither a time (2026-11-20T10:00Z, UTC without a zone) nor a span (2h, 3d)")
        })
    }
}

/// The filters of a command line, with the names of the store's kinds.
pub(crate) struct Filter<'a> {
    args: &'a args::Filter,
    system: bool,
    /// The number of the source that is wanted, if the store knows one.
    source: Option<u8>,
    /// The store knows that source.
    is_source_known: bool,
}

/// What nothing can pass is a slip, and no filter.
fn refuse_impossible(args: &args::Filter) -> Result<(), Usage> {
    if let (Some(op @ (Operation::Fact | Operation::System)), Some(source)) = (args.op, &args.source) {
        let what = if op == Operation::Fact { "facts" } else { "what the log writes about itself" };
        return Err(Usage(format!(
            "--source {source:?} keeps out all that --op asks for: nobody in particular says {what}"
        )));
    }
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since.0 >= until.0
    {
        let (since, until) = (rfc3339(since.0), rfc3339(until.0));
        return Err(Usage(format!("--since {since} is not before --until {until}: nothing is between them")));
    }
    Ok(())
}

impl<'a> Filter<'a> {
    /// Entries, and system frames where `system` says so.
    ///
    /// # Errors
    ///
    /// `Usage` for filters of which one keeps out all that another asks for.
    pub(crate) fn new(args: &'a args::Filter, system: bool, reader: &Reader) -> Result<Self, Usage> {
        refuse_impossible(args)?;
        let system = system || args.op == Some(Operation::System);
        let mut filter = Self { args, system, source: None, is_source_known: false };
        // As this tool shows one of which it knows no name.
        filter.source = args.source.as_ref().and_then(|name| name.strip_prefix('#')?.parse().ok());
        reader.sources().iter().for_each(|source| filter.learn_source(source));
        Ok(filter)
    }

    /// Learns of a source that was claimed meanwhile.
    pub(crate) fn learn(&mut self, frame: &FrameInfo) {
        if let Some(source) = frame.source_info() {
            self.learn_source(&source);
        }
    }

    fn learn_source(&mut self, source: &SourceInfo) {
        if self.args.source.as_ref() == Some(&source.name) {
            self.source = Some(source.id);
        }
        self.is_source_known |= self.source == Some(source.id);
    }

    /// The source that is wanted, if the store knows none of that name or number.
    pub(crate) fn unknown_source(&self) -> Option<&str> {
        self.args.source.as_deref().filter(|_| !self.is_source_known)
    }

    pub(crate) fn entity(&self) -> Option<&'a Entity> {
        self.args.entity.as_ref()
    }

    /// What the kind has to match.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Pattern> {
        self.args.kind.iter().chain(self.args.entity.iter().map(Entity::kind))
    }

    /// True if an entry may be kept out.
    pub(crate) fn is_any(&self) -> bool {
        let args::Filter { entity, kind, op, source, seq, generation, since, until } = self.args;
        entity.is_some()
            || kind.is_some()
            || op.is_some()
            || source.is_some()
            || seq.is_some()
            || generation.is_some()
            || since.is_some()
            || until.is_some()
    }

    pub(crate) fn shows_system(&self) -> bool {
        self.system
    }

    /// The first and last Seq that can pass.
    pub(crate) fn seqs(&self) -> Range {
        self.args.seq.unwrap_or(Range { first: 0, last: u64::MAX })
    }

    pub(crate) fn accepts(&self, frame: &FrameInfo, dump: &Dump) -> bool {
        let args::Filter { entity, kind, op, generation, since, until, .. } = self.args;
        let is_wanted = match op {
            Some(Operation::System) => frame.is_system(),
            Some(Operation::Fact) => {
                !frame.is_system() && frame.row_operation().is_none() && frame.event_operation().is_none()
            }
            Some(Operation::Event) => frame.event_operation().is_some(),
            Some(Operation::Assert) => frame.event_operation() == Some(EventOperation::Assert),
            Some(Operation::Patch) => frame.event_operation() == Some(EventOperation::Patch),
            Some(Operation::Retract) => frame.event_operation() == Some(EventOperation::Retract),
            Some(Operation::Row) => frame.row_operation().is_some(),
            Some(Operation::Created) => frame.row_operation() == Some(RowOperation::Created),
            Some(Operation::Updated) => frame.row_operation() == Some(RowOperation::Updated),
            Some(Operation::Deleted) => frame.row_operation() == Some(RowOperation::Deleted),
            Some(Operation::Sources) => frame.row_operation() == Some(RowOperation::Sources),
            None => self.system || !frame.is_system(),
        };
        let of_kind = |pattern: &Pattern| {
            frame.kind.is_some_and(|number| pattern.matches_kind(&dump.kind_name(number), number))
        };
        let of_entity = |entity: &Entity| of_kind(&entity.kind) && entity.matches_its_key(&frame.key);
        let of_generation =
            |range: Range| frame.generation.is_some_and(|generation| range.contains(generation.get()));
        is_wanted
            && self.seqs().contains(frame.seq)
            && kind.as_ref().is_none_or(of_kind)
            && entity.as_ref().is_none_or(of_entity)
            && self.is_of_source(frame)
            && generation.is_none_or(of_generation)
            && since.is_none_or(|since| frame.time >= since.0)
            && until.is_none_or(|until| frame.time < until.0)
    }

    /// Nobody in particular says facts.
    fn is_of_source(&self, frame: &FrameInfo) -> bool {
        self.args.source.is_none()
            || self.source == Some(frame.source)
                && (frame.row_operation().is_some() || frame.event_operation().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_like_a_shell_s() {
        let cases = [
            ("a", "a", true),
            ("a", "b", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*b*b*", "abcb", true),
            ("?b", "ab", true),
            ("?b", "b", false),
            ("a**", "a", true),
            ("*aab", "aaab", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern(pattern.to_owned()).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn an_entity_is_divided_at_the_first_slash_and_keys_come_in_both_forms() {
        let entity: Entity = "file/src/*.rs".parse().unwrap();
        assert!(entity.matches("file", b"src/lib.rs") && !entity.matches("file", b"lib.rs"));
        let entity: Entity = "file/hex:00FF".parse().unwrap();
        assert!(entity.matches("file", &[0, 255]) && !entity.matches("file", b"hex:00FF"));
        assert!("file".parse::<Entity>().is_err() && "file/hex:0".parse::<Entity>().is_err());
    }

    #[test]
    fn a_range_has_both_its_ends_and_may_be_open() {
        let range = |text: &str| text.parse::<Range>();
        assert_eq!(range("3..5"), Ok(Range { first: 3, last: 5 }));
        assert_eq!(range("3..=5"), Ok(Range { first: 3, last: 5 }));
        assert_eq!(range("3.."), Ok(Range { first: 3, last: u64::MAX }));
        assert_eq!(range("..5"), Ok(Range { first: 0, last: 5 }));
        assert_eq!(range("7"), Ok(Range { first: 7, last: 7 }));
        assert!(range("5..3").is_err() && range("x").is_err() && range("1..y").is_err());
    }

    #[test]
    fn a_named_zone_is_taken_for_what_it_is_or_refused() {
        let moment = |text: &str| text.parse::<Moment>();
        assert_eq!(moment("2026-11-20T10:00[Asia/Karachi]"), moment("2026-11-20T10:00+05:00"));
        assert!(moment("2026-11-20T10:00+05:00").is_ok());
        assert!(moment("2026-11-20T10:00[Nowhere/AtAll]").is_err());
    }

    #[test]
    fn a_moment_is_a_time_with_or_without_seconds_a_day_or_a_span() {
        let hour = 3_600_000_000_000;
        assert_eq!("1970-01-01T01:00Z".parse(), Ok(Moment(hour)));
        assert_eq!("1970-01-01T01:00:00+01:00".parse(), Ok(Moment(0)));
        assert_eq!("1970-01-02".parse(), Ok(Moment(24 * hour)));
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
        let Moment(ago) = "1d".parse().unwrap();
        assert!(ago < now - 23 * hour && ago > now - 25 * hour);
        assert!("yesterday".parse::<Moment>().is_err());
    }
}
