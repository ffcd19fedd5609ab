//! The fifth picture: how far each consumer is behind, and what holds it up; below it the folds over topics.

use std::cmp::Reverse;

use anyhow::Result;
use esker::dump::key_text;

use super::model::Model;
use super::page::section;
use super::svg::{Anchor, Area, Svg, Tenths, WIDTH, bytes, grouped, table, text};
use crate::commands::consumers::{Standing, consumed_part};
use crate::commands::health::is_gone;
use crate::commands::met::{self, Met};
use crate::commands::stuck::{self, Stuck};
use crate::outcome::text_of;
use crate::store::Opened;
use crate::typed::on;

const LEFT: u64 = 270;
const COLUMN: u64 = 300;
const TOP: u64 = 26;
const ROW: u64 = 24;
const ERROR: u64 = 16;
/// Consumers that are drawn; those that are stuck and the furthest behind come first.
const DRAWN_MAX: usize = 24;
/// Consumers and folds in the tables, and in memory.
const LISTED_MAX: usize = 200;

/// A consumer as it is drawn.
#[derive(Debug)]
pub(super) struct Consumer {
    name: String,
    of: String,
    offset: Option<u64>,
    behind: u64,
    waited: i64,
    waited_text: String,
    attempts: u32,
    parked: u64,
    given_up: u64,
    state: &'static str,
    pub(super) stuck: Vec<Stuck>,
}

/// A fold over a topic.
#[derive(Debug)]
struct Fold {
    topic: String,
    name: String,
    version: u32,
    behind: u64,
    image_bytes: Option<u64>,
    status: &'static str,
    is_halted: bool,
}

/// What stands on the backplane.
#[derive(Debug, Default)]
pub(super) struct Plane {
    /// Those that matter most, and so many in all.
    pub(super) consumers: Listed<Consumer>,
    folds: Listed<Fold>,
    pub(super) stuck: u64,
    pub(super) halted: u64,
    /// What could not be read of it, in words: the first, and how often.
    unread: Option<(String, u64)>,
}

/// As many as are shown of many, the first in an order.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) first: Vec<T>,
    count: usize,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Listed<T> {
    fn add<K: Ord>(&mut self, one: T, order: impl Fn(&T) -> K) {
        self.count += 1;
        self.first.push(one);
        if self.first.len() >= 2 * LISTED_MAX {
            self.cut(order);
        }
    }

    fn cut<K: Ord>(&mut self, order: impl Fn(&T) -> K) {
        // A stable sort: of equals, as they were met.
        self.first.sort_by_key(|one| order(one));
        self.first.truncate(LISTED_MAX);
    }

    fn more(&self, shown: usize) -> usize {
        self.count - shown.min(self.first.len())
    }
}

impl Plane {
    /// Looks at all that stands there; `newest`: when the newest entry was written, up to which what waits has waited.
    pub(super) fn of(opened: &Opened, newest: Option<i64>) -> Result<Self> {
        let mut plane = Self::default();
        let path = opened.reader.path();
        let looked = met::each(opened, newest.unwrap_or(0), |met| match met {
            Met::Fold { stream, topic, fold, status } => {
                let image = fold.image.as_ref();
                let behind = topic.generation.saturating_sub(image.map_or(0, |image| image.generation));
                plane.halted += u64::from(status.is_halted());
                let fold = Fold {
                    topic: format!("{stream}/{}", key_text(&topic.key)),
                    name: fold.fold.clone(),
                    version: fold.version,
                    behind,
                    image_bytes: image.map(|image| image.bytes),
                    status: status.word(),
                    is_halted: status.is_halted(),
                };
                plane.folds.add(fold, of_fold);
            }
            Met::Consumer(standing) => {
                let consumer = Consumer::of(&standing, stuck::of(&standing, path));
                plane.stuck += u64::from(!consumer.stuck.is_empty());
                plane.consumers.add(consumer, of_consumer);
            }
            Met::PartOf(stream) => {
                plane.note(&format!("which folds are registered with {stream:?} cannot be read in full"));
            }
            Met::Unread(error) => plane.note(&error.to_string()),
        });
        match looked {
            // Nobody has written it anew: a file that the manifest names is not there, and the page is to say so.
            Err(error) if is_gone(&error) && opened.writer.is_none() => plane.note(&text_of(&error)),
            looked => looked?,
        }
        plane.consumers.cut(of_consumer);
        plane.folds.cut(of_fold);
        Ok(plane)
    }

    fn note(&mut self, what: &str) {
        self.unread.get_or_insert_with(|| (what.to_owned(), 0)).1 += 1;
    }

    /// What somebody has to do something about.
    pub(super) fn findings(&self) -> u64 {
        self.stuck + self.halted + self.unread.as_ref().map_or(0, |(_, times)| *times)
    }
}

fn of_consumer(consumer: &Consumer) -> impl Ord + use<> {
    let is_halted = consumer.stuck.iter().any(|stuck| stuck.is_halted);
    Reverse((is_halted, !consumer.stuck.is_empty(), consumer.behind))
}

fn of_fold(fold: &Fold) -> impl Ord + use<> {
    Reverse((fold.is_halted, fold.behind))
}

impl Consumer {
    fn of(standing: &Standing, stuck: Vec<Stuck>) -> Self {
        let info = &standing.consumer.info;
        // Of a record that is newer than the newest entry that was counted, a writer is at work.
        let age = standing.age.as_ref();
        Self {
            name: info.name.clone(),
            of: consumed_part(&standing.consumer),
            offset: info.era.map(|_| info.position.raw()),
            behind: standing.behind.map_or(0, |behind| behind.records),
            waited: age.map_or(0, |age| i64::try_from(age.0.as_nanos()).unwrap_or(i64::MAX).max(0)),
            waited_text: age.map_or_else(|| "-".to_owned(), ToString::to_string),
            attempts: info.attempts,
            parked: info.parked,
            given_up: info.poisoned,
            state: standing.state(),
            stuck,
        }
    }

    pub(super) fn sentence(&self, stuck: &Stuck) -> String {
        format!("consumer {} of {} {}", self.name, self.of, stuck.what)
    }
}

pub(super) fn draw(model: &Model) -> String {
    let plane = &model.plane;
    let all = &plane.consumers.first;
    let drawn = all.get(..DRAWN_MAX.min(all.len())).unwrap_or_default();
    let behind = all.iter().map(|consumer| consumer.behind).max().unwrap_or(0);
    let waited = all.iter().map(|consumer| consumer.waited).max().unwrap_or(0);
    let figures = [
        ("consumers", plane.consumers.count.to_string()),
        ("stuck", plane.stuck.to_string()),
        ("behind", behind.to_string()),
        ("folds", plane.folds.count.to_string()),
        ("halted", plane.halted.to_string()),
    ];
    let reasons: usize = drawn.iter().map(|consumer| consumer.stuck.len()).sum();
    let height = TOP + drawn.len().max(1) as u64 * ROW + reasons as u64 * ERROR + 8;
    let label = format!("How far {} consumers are behind; {} are stuck", plane.consumers.count, plane.stuck);
    let mut svg = Svg::new("plane", &label, height, &figures);
    if drawn.is_empty() {
        svg.label("quiet", (Tenths::of(14), Tenths::of(20)), Anchor::Start, "no consumer");
    } else {
        for (at, name) in ["records behind", "next has waited"].into_iter().enumerate() {
            let x = Tenths::of(LEFT + at as u64 * COLUMN);
            svg.label("quiet", (x, Tenths::of(14)), Anchor::Start, name);
        }
    }
    let mut y = TOP;
    for consumer in drawn {
        draw_row(&mut svg, consumer, y, (behind, waited));
        y += ROW + consumer.stuck.len() as u64 * ERROR;
    }
    let content = svg.end() + &consumers(model) + &folds(model);
    section("plane", "Consumers and folds", &note(model, plane.consumers.more(drawn.len())), &content)
}

fn note(model: &Model, more: usize) -> String {
    let mut note = "What each consumer of topics has not done yet, as far as the files tell. Times are up to the newest entry. \
                    A consumer in a frame does not go on, fails again and again, or has parked what it could not do. A fold \
                    is behind by what is not in its newest image; what it has in memory only its process knows."
        .to_owned();
    if more > 0 {
        note += &format!(" {more} more consumers are not drawn.");
    }
    if let Some((first, times)) = &model.plane.unread {
        note += &format!(" Not all of it can be read ({times} places): {first}");
    }
    note
}

fn draw_row(svg: &mut Svg, consumer: &Consumer, y: u64, (behind, waited): (u64, i64)) {
    let title = format!("consumer {} of {}", consumer.name, consumer.of);
    if !consumer.stuck.is_empty() {
        let height = Tenths::of(ROW + consumer.stuck.len() as u64 * ERROR - 4);
        let area = Area { x: Tenths::of(1), y: Tenths::of(y), width: Tenths::of(WIDTH - 2), height };
        svg.area("outline", area, &format!("{title} is stuck"), &[("stuck", consumer.name.clone())]);
    }
    for (at, stuck) in consumer.stuck.iter().enumerate() {
        let below = Tenths::of(y + ROW + at as u64 * ERROR + 8);
        svg.cut_label("error", (Tenths::of(14), below), Anchor::Start, (&stuck.what, 110));
    }
    let baseline = Tenths::of(y + 14);
    let name = format!("{} of {}", consumer.name, consumer.of);
    svg.cut_label("name", (Tenths::of(14), baseline), Anchor::Start, (&name, 34));
    let non_negative = |nanos: i64| u64::try_from(nanos).unwrap_or(0);
    let bars = [
        ("lag events", "behind", consumer.behind, behind, grouped(consumer.behind)),
        (
            "lag time",
            "waited-ns",
            non_negative(consumer.waited),
            non_negative(waited),
            consumer.waited_text.clone(),
        ),
    ];
    for (at, (class, figure, value, most, words)) in bars.into_iter().enumerate() {
        let x = Tenths::of(LEFT + at as u64 * COLUMN);
        let width = Tenths::of(COLUMN - 92).share(value, most);
        let width = if value > 0 { width.max(Tenths::of(2)) } else { width };
        let area = Area { x, y: Tenths::of(y + 4), width, height: Tenths::of(13) };
        svg.area(class, area, &format!("{title}: {words}"), &[(figure, value.to_string())]);
        svg.label("", (x + width + Tenths::of(6), baseline), Anchor::Start, &words);
    }
}

fn consumers(model: &Model) -> String {
    let dash = || "-".to_owned();
    let row = |consumer: &Consumer| {
        let why: Vec<&str> = consumer.stuck.iter().map(|stuck| &*stuck.what).collect();
        let state = if why.is_empty() { consumer.state.to_owned() } else { why.join("; ") };
        vec![
            consumer.name.clone(),
            consumer.of.clone(),
            consumer.offset.map_or_else(dash, grouped),
            grouped(consumer.behind),
            consumer.waited_text.clone(),
            consumer.attempts.to_string(),
            grouped(consumer.parked),
            grouped(consumer.given_up),
            state,
        ]
    };
    let rows: Vec<Vec<String>> = model.plane.consumers.first.iter().map(row).collect();
    let heading =
        ["consumer", "of", "done up to", "behind", "waited", "retried", "parked", "given up", "state"];
    let out = table("consumers", "The consumers, those that are stuck first", &heading, &rows);
    out + &more(model.plane.consumers.more(LISTED_MAX), "consumers", model)
}

fn folds(model: &Model) -> String {
    let row = |fold: &Fold| {
        vec![
            fold.topic.clone(),
            fold.name.clone(),
            fold.version.to_string(),
            grouped(fold.behind),
            fold.image_bytes.map_or_else(|| "-".to_owned(), bytes),
            fold.status.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = model.plane.folds.first.iter().map(row).collect();
    let heading = ["topic", "fold", "version", "not in the image", "image", "status"];
    let out = table("folds", "The folds over topics, those that cannot go on first", &heading, &rows);
    out + &more(model.plane.folds.more(LISTED_MAX), "topics", model)
}

fn more(more: usize, command: &str, model: &Model) -> String {
    match more {
        0 => String::new(),
        more => {
            let command = text(&on(command, &model.path));
            format!("<p class=\"more\">{more} more: <code>{command}</code> lists all.</p>\n")
        }
    }
}
