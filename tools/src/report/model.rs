//! What a report shows: everything is measured here, in one walk over the frames, and drawn elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use esker::dump::{FrameInfo, Lent, SegmentInfo, SegmentState, rfc3339};
use esker::{Check, CompactOptions, Compaction, CursorInfo, Damage, KindId, Severity, Verdict, Verification};

use super::counted::{COLUMNS, Columns, Hottest, Liveness, fold, hash_of};
use super::plane::Plane;
use crate::commands::info;
use crate::progress::Shown;
use crate::store::{self, Opened};

/// Bars of the segment map; of more segments, some share one.
const BARS_MAX: usize = 48;
/// Entities that have a row of their own.
pub(super) const ROWS_MAX: usize = 18;
/// Kinds that have a colour of their own.
pub(super) const SERIES_MAX: usize = 5;

/// Bytes of a bar's files, by what they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Bar {
    pub(super) segments: Vec<String>,
    pub(super) states: Vec<SegmentState>,
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: Option<u64>,
    /// Of what compaction kept: from where to where the log went that it stands for.
    pub(super) stands_for: Option<(u64, u64)>,
    pub(super) entries: u64,
    pub(super) file: u64,
    used: u64,
    in_parts: u64,
    in_segments: u64,
    pub(super) live: u64,
    pub(super) superseded: u64,
    pub(super) retracted: u64,
    pub(super) snapshot: u64,
    /// Headers, and what the log writes about itself.
    pub(super) own: u64,
    pub(super) free: u64,
    pub(super) damaged: u64,
}

impl Bar {
    fn add(&mut self, segment: &SegmentInfo) {
        self.segments.push(segment.name.clone());
        self.states.push(segment.state);
        self.file += segment.file_bytes;
        if matches!(segment.state, SegmentState::Dead | SegmentState::Spare) {
            return;
        }
        self.used += segment.bytes_used;
        self.entries += segment.entries;
        self.first_seq = self.first_seq.or(segment.first_seq);
        self.last_seq = segment.last_seq.or(self.last_seq);
        if let Some(stretch) = &segment.stands_for {
            let first = self.stands_for.map_or(stretch.first_seq, |(first, _)| first);
            self.stands_for = Some((first, stretch.last_seq));
        }
    }

    /// What its segments are called together.
    pub(super) fn name(&self) -> String {
        match (self.segments.first(), self.segments.last()) {
            (Some(first), Some(last)) if first != last => format!("{first} … {last}"),
            (Some(only), _) => only.clone(),
            _ => "-".to_owned(),
        }
    }

    /// Once the walk is over.
    fn conclude(&mut self) {
        self.snapshot = self.in_parts;
        self.damaged = self.damaged.min(self.file.saturating_sub(self.in_parts + self.in_segments));
        let counted = self.in_parts + self.in_segments;
        self.own = self.used.saturating_sub(counted + self.damaged);
        self.free = self.file.saturating_sub(counted + self.damaged + self.own);
    }
}

/// A kind over time.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) rates: [u64; COLUMNS],
    pub(super) sizes: [u64; COLUMNS],
}

/// An entity over time.
#[derive(Clone, Debug)]
pub(super) struct HeatRow {
    pub(super) name: String,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) last_seq: u64,
    pub(super) cells: [u64; COLUMNS],
}

/// The entities over time.
#[derive(Clone, Debug)]
pub(super) struct Heat {
    pub(super) rows: Vec<HeatRow>,
    /// All entities without a row, together.
    pub(super) rest: Option<HeatRow>,
    pub(super) entities: u64,
    pub(super) one_in: u64,
    /// So many entries of a row may be counted in the rest, at most.
    pub(super) error: u64,
}

/// A cursor, and what is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) info: CursorInfo,
    pub(super) region: String,
    /// Nanoseconds that its next entry waited until the newest was written.
    pub(super) waited: i64,
    /// Nobody can go on under it, and why.
    pub(super) stuck: Option<String>,
    /// A reset is what helps.
    pub(super) is_to_be_reset: bool,
}

/// What a report shows.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) path: PathBuf,
    pub(super) store: String,
    pub(super) head: Vec<(&'static str, String)>,
    pub(super) bars: Vec<Bar>,
    pub(super) one_in: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) newest: Option<i64>,
    pub(super) columns: Columns,
    pub(super) used_columns: usize,
    pub(super) series: Vec<Series>,
    pub(super) kinds: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) heat: Heat,
    pub(super) cursors: Vec<Cursor>,
    /// Why the cursors cannot be read, if so.
    pub(super) no_cursors: Option<String>,
    pub(super) plane: Plane,
    pub(super) plan: Compaction,
    pub(super) verification: Verification,
    pub(super) check: Check,
}

/// What the verification of the page found, in the words of `info`.
fn damage_text(verification: &Verification, check: Check) -> String {
    let damage = |finding: &&esker::Finding| finding.severity == Severity::Damage;
    match (verification.findings.iter().filter(damage).count(), check) {
        (0, Check::Quick) => "none seen (frames not read)".to_owned(),
        (0, _) => "none".to_owned(),
        (1, _) => "1 place".to_owned(),
        (places, _) => format!("{places} places"),
    }
}

impl Model {
    /// Measures a store.
    pub(super) fn of(opened: &Opened, check: Check, shown: &Shown<'_>) -> Result<Self> {
        let reader = &opened.reader;
        // Before anything is counted: it gives back its memory, and what is counted is of a moment after it.
        let verification = esker::verify_while(reader.path(), check, shown.half())?;
        let segments = opened.segments()?;
        let mut walk = Walk::over(&segments, times_of(opened));
        let mut frames = opened.survey.frames().heads();
        while let Some(item) = frames.lend() {
            match item? {
                Lent::Frame(frame) => {
                    shown.add(frame.frame_bytes);
                    walk.see(frame);
                }
                Lent::Damage(damage) => walk.see_damage(&damage),
            }
        }
        opened.survey.damage_at_end().iter().for_each(|damage| walk.see_damage(damage));
        walk.conclude();
        let (cursors, no_cursors) = match reader.cursors() {
            Err(error) if error.is_corruption() => (Vec::new(), Some(error.to_string())),
            cursors => (cursors?, None),
        };
        let newest = (walk.entries > 0).then_some(walk.newest);
        let cursors = cursors.into_iter().map(|info| cursor(info, opened, newest)).collect();
        // Not by the clock of whoever looks: a tombstone is taken to have had its time.
        let plan = CompactOptions::new().keep_tombstones_for(std::time::Duration::ZERO);
        let plan = match reader.plan_compaction(&plan) {
            Err(error) if error.is_corruption() => Compaction::default(),
            plan => plan?,
        };
        let one_in = walk.liveness.one_in();
        let (entries, bytes) = (walk.entries, walk.bytes);
        let kinds = walk.kinds.len() as u64;
        let columns = walk.columns;
        let used_columns = newest.and_then(|time| columns.of(time)).map_or(0, |column| column + 1);
        let series = series(std::mem::take(&mut walk.kinds), opened);
        let heat = heat(&walk.totals, walk.hottest, &walk.liveness, opened, (entries, bytes));
        Ok(Self {
            path: reader.path().to_owned(),
            store: reader.store_id().to_string(),
            head: info::pairs(opened, &damage_text(&verification, check))?,
            bars: walk.bars,
            one_in,
            first_seq: segments.iter().find_map(first_of).unwrap_or(1),
            last_seq: segments.iter().filter_map(last_of).max().unwrap_or(0),
            newest,
            columns,
            used_columns,
            series,
            kinds,
            entries,
            bytes,
            heat,
            cursors,
            no_cursors,
            plane: Plane::of(opened, newest)?,
            plan,
            verification,
            check,
        })
    }

    /// How long before the newest entry a time is, in words.
    pub(super) fn when(time: i64) -> String {
        let text = rfc3339(time);
        // Seconds are enough for a picture.
        match text.split_once('.') {
            Some((seconds, _)) => format!("{seconds}Z"),
            None => text,
        }
    }

    pub(super) fn count(&self, severity: Severity) -> usize {
        self.verification.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// True if something is wrong with the store or a cursor.
    pub(super) fn has_findings(&self) -> bool {
        self.verification.verdict != Verdict::Valid
            || self.no_cursors.is_some()
            || self.cursors.iter().any(|cursor| cursor.stuck.is_some())
            || self.plane.findings() > 0
    }
}

fn first_of(segment: &SegmentInfo) -> Option<u64> {
    segment.stands_for.map(|stretch| stretch.first_seq).or(segment.first_seq)
}

fn last_of(segment: &SegmentInfo) -> Option<u64> {
    segment.stands_for.map(|stretch| stretch.last_seq).max(segment.last_seq)
}

/// When the first and the last entry were written, if both can be read.
fn times_of(opened: &Opened) -> Option<(i64, i64)> {
    let view = opened.reader.view().ok()?;
    let mut entries = view.range(..);
    let first = entries.next()?.ok()?.time();
    let last = view.range(..).next_back()?.ok()?.time();
    Some((first, last))
}

fn cursor(info: CursorInfo, opened: &Opened, newest: Option<i64>) -> Cursor {
    let era = opened.reader.era();
    let stuck = if info.lost {
        Some("lost: compaction went past it".to_owned())
    } else if info.era != era {
        Some(format!("of era {}, where the store is of era {era}", info.era))
    } else if info.damaged > 0 {
        Some(format!("{} entries ahead of it cannot be read for damage", info.damaged))
    } else {
        None
    };
    let waited = newest.zip(info.next_time).map_or(0, |(newest, next)| newest.saturating_sub(next).max(0));
    Cursor {
        region: store::region(&info.region, &opened.dump),
        waited,
        stuck,
        is_to_be_reset: info.lost || info.era != era,
        info,
    }
}

#[derive(Debug)]
struct KindSum {
    entries: u64,
    bytes: u64,
    rates: [u64; COLUMNS],
    sizes: [u64; COLUMNS],
}

/// What is counted on the way over the frames.
struct Walk {
    bars: Vec<Bar>,
    /// The bar of each segment and part, by its number.
    places: BTreeMap<u32, usize>,
    ends: BTreeMap<u32, u64>,
    liveness: Liveness,
    hottest: Hottest,
    kinds: BTreeMap<KindId, KindSum>,
    totals: [u64; COLUMNS],
    columns: Columns,
    newest: i64,
    entries: u64,
    bytes: u64,
    /// Where the last frames stood: nearly always the same segment.
    last: (u32, usize),
}

impl Walk {
    fn over(segments: &[SegmentInfo], times: Option<(i64, i64)>) -> Self {
        let size = segments.len().div_ceil(BARS_MAX).max(1);
        let mut bars = vec![Bar::default(); segments.len().div_ceil(size)];
        let (mut places, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for (at, segment) in segments.iter().enumerate() {
            let at = at / size;
            if let Some(bar) = bars.get_mut(at) {
                bar.add(segment);
            }
            places.insert(segment.number, at);
            ends.insert(segment.number, segment.file_bytes);
        }
        let (first, last) = times.unwrap_or_default();
        Self {
            liveness: Liveness::new(bars.len()),
            bars,
            places,
            ends,
            hottest: Hottest::new(),
            kinds: BTreeMap::new(),
            totals: [0; COLUMNS],
            columns: Columns::over(first, last),
            newest: i64::MIN,
            entries: 0,
            bytes: 0,
            last: (0, usize::MAX),
        }
    }

    fn bar_of(&mut self, segment: u32) -> usize {
        if self.last.0 != segment || self.last.1 == usize::MAX {
            // One that came with a compaction meanwhile has no bar.
            self.last = (segment, self.places.get(&segment).copied().unwrap_or(usize::MAX));
        }
        self.last.1
    }

    fn see(&mut self, frame: &FrameInfo) {
        let at = self.bar_of(frame.position.segment());
        if !frame.body_good {
            if let Some(bar) = self.bars.get_mut(at) {
                bar.damaged += frame.frame_bytes;
            }
            return;
        }
        let Some(kind) = frame.kind else { return };
        let (bytes, hash) = (frame.frame_bytes, hash_of(kind, &frame.key));
        let column = self.column(frame.time);
        self.entries += 1;
        self.bytes += bytes;
        self.newest = self.newest.max(frame.time);
        if let Some(total) = self.totals.get_mut(column) {
            *total += 1;
        }
        self.hottest.see(hash, (kind, &frame.key), frame.seq, bytes, column);
        let sum = self.kinds.entry(kind).or_insert_with(|| KindSum {
            entries: 0,
            bytes: 0,
            rates: [0; COLUMNS],
            sizes: [0; COLUMNS],
        });
        sum.entries += 1;
        sum.bytes += bytes;
        if let (Some(rate), Some(size)) = (sum.rates.get_mut(column), sum.sizes.get_mut(column)) {
            *rate += 1;
            *size += bytes;
        }
        if frame.is_aside() {
            self.liveness.see_superseded(hash, at, bytes);
        } else {
            self.liveness.see(hash, at, bytes, frame.tombstone);
        }
        if let Some(bar) = self.bars.get_mut(at) {
            let is_kept = frame.position.is_in_part();
            *if is_kept { &mut bar.in_parts } else { &mut bar.in_segments } += bytes;
        }
    }

    fn column(&mut self, time: i64) -> usize {
        if self.entries == 0 {
            self.columns.origin = time;
        }
        loop {
            if let Some(column) = self.columns.of(time) {
                return column;
            }
            self.columns.double();
            self.hottest.double();
            fold(&mut self.totals);
            for sum in self.kinds.values_mut() {
                fold(&mut sum.rates);
                fold(&mut sum.sizes);
            }
        }
    }

    fn see_damage(&mut self, damage: &Damage) {
        let at = self.bar_of(damage.segment);
        let end = self.ends.get(&damage.segment).copied().unwrap_or(damage.offset);
        if let Some(bar) = self.bars.get_mut(at) {
            bar.damaged += damage.next_good.unwrap_or(end).saturating_sub(damage.offset);
        }
    }

    fn conclude(&mut self) {
        for (at, bar) in self.bars.iter_mut().enumerate() {
            // What stands in parts is a class of its own; a bar of both shares it out.
            let fates = self.liveness.of_bar(at);
            let whole = u128::from((bar.in_parts + bar.in_segments).max(1));
            let share = |bytes: u64| {
                let share = u128::from(bytes) * u128::from(bar.in_segments) / whole;
                u64::try_from(share).unwrap_or(bytes)
            };
            (bar.live, bar.retracted) = (share(fates.live), share(fates.retracted));
            bar.superseded = bar.in_segments.saturating_sub(bar.live + bar.retracted);
            bar.conclude();
        }
    }
}

fn series(kinds: BTreeMap<KindId, KindSum>, opened: &Opened) -> Vec<Series> {
    let named = |(kind, sum): (KindId, KindSum)| Series {
        name: opened.dump.kind_name(kind),
        entries: sum.entries,
        bytes: sum.bytes,
        rates: sum.rates,
        sizes: sum.sizes,
    };
    let mut all: Vec<Series> = kinds.into_iter().map(named).collect();
    all.sort_by_key(|series| std::cmp::Reverse(series.entries));
    if all.len() > SERIES_MAX + 1 {
        let others = all.split_off(SERIES_MAX);
        let name = format!("{} others", others.len());
        let mut rest = Series { name, entries: 0, bytes: 0, rates: [0; COLUMNS], sizes: [0; COLUMNS] };
        for other in others {
            rest.entries += other.entries;
            rest.bytes += other.bytes;
            rest.rates.iter_mut().zip(other.rates).for_each(|(sum, rate)| *sum += rate);
            rest.sizes.iter_mut().zip(other.sizes).for_each(|(sum, size)| *sum += size);
        }
        all.push(rest);
    }
    all
}

fn heat(
    totals: &[u64; COLUMNS],
    hottest: Hottest,
    liveness: &Liveness,
    opened: &Opened,
    (entries, bytes): (u64, u64),
) -> Heat {
    let (top, error) = hottest.top(ROWS_MAX);
    let rows: Vec<HeatRow> = top
        .into_iter()
        .map(|candidate| HeatRow {
            name: format!(
                "{}/{}",
                opened.dump.kind_name(candidate.kind),
                esker::dump::key_text(&candidate.key)
            ),
            entries: candidate.entries,
            bytes: candidate.bytes,
            last_seq: candidate.last_seq,
            cells: candidate.cells,
        })
        .collect();
    let mut rest = HeatRow { name: "all others".to_owned(), entries, bytes, last_seq: 0, cells: *totals };
    for row in &rows {
        rest.entries = rest.entries.saturating_sub(row.entries);
        rest.bytes = rest.bytes.saturating_sub(row.bytes);
        rest.cells.iter_mut().zip(row.cells).for_each(|(sum, cell)| *sum = sum.saturating_sub(cell));
    }
    let rest = (rest.entries > 0).then_some(rest);
    let (entities, one_in) = (liveness.entities(), liveness.one_in());
    Heat { rows, rest, entities, one_in, error }
}
