//! Who keeps events of topics of a kind that keeps what its folds need: folds without an image that has them, and consumers
//! that have not done them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use esker::backplane::{Backplane, Filter, Offset, ReadOnly, WrittenTopic};
use esker::{Keep, KindInfo, StreamFolds, WrittenConsumer, WrittenFold};
use serde_json::{Value, json};

use super::consumers::consumed;
use crate::store::Opened;
use crate::typed::{on, quoted};

/// What keeps events of topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Fold {
        name: String,
        version: u32,
    },
    /// By what it consumes, and its part.
    Consumer {
        name: String,
        of: String,
        shard: Option<(u32, u32)>,
    },
    Divergence {
        name: String,
        version: u32,
    },
}

/// How much of it.
#[derive(Debug, Default)]
struct Sum {
    topics: u64,
    without_image: u64,
    /// The first offset that is kept for it.
    from: Option<Offset>,
}

/// Who keeps events, by kind.
#[derive(Debug, Default)]
pub(super) struct Holding {
    by_kind: BTreeMap<String, BTreeMap<By, Sum>>,
    /// Kinds with which no fold is registered.
    unfolded: Vec<String>,
}

impl Holding {
    /// Walks over the topics of all kinds that keep what folds need; what is damaged is left out.
    pub(super) fn of(opened: &Opened) -> Result<Self> {
        let (mut holding, kinds) = (Self::default(), opened.reader.kinds());
        let mut kinds = kinds.iter().filter(|kind| kind.keep == Keep::Fold).peekable();
        if kinds.peek().is_none() {
            return Ok(holding);
        }
        let plane = ReadOnly::of(&opened.reader)?;
        for kind in kinds {
            match holding.add_kind(&plane, kind) {
                Err(error) if !error.is_corruption() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(holding)
    }

    fn add_kind(&mut self, plane: &ReadOnly, kind: &KindInfo) -> esker::Result<()> {
        let name = &kind.name;
        let folds = StreamFolds::of(plane, name)?;
        if folds.registered().next().is_none() {
            self.unfolded.push(name.clone());
            return Ok(());
        }
        let of_all = WrittenConsumer::of(plane, Filter::stream(name))?;
        let sums = self.by_kind.entry(name.clone()).or_default();
        for topic in plane.topics(name)?.flatten().filter(|topic| topic.generation > 1) {
            for fold in folds.over(plane, name, &topic)? {
                add_fold(sums, &fold, &topic);
            }
            let own = WrittenConsumer::of(plane, Filter::topic(name, &topic.key))?;
            let own = own.into_iter().filter(|consumer| consumer.key.is_some());
            for consumer in own.chain(of_all.iter().cloned()) {
                add_consumer(sums, plane, &consumer, &topic)?;
            }
        }
        Ok(())
    }

    fn each(&self) -> impl Iterator<Item = (&str, &By, &Sum)> {
        self.by_kind
            .iter()
            .flat_map(|(kind, sums)| sums.iter().map(move |(by, sum)| (kind.as_str(), by, sum)))
    }

    /// A line of text for each.
    pub(super) fn texts(&self) -> Vec<String> {
        self.each().map(|(kind, by, sum)| by.text(kind, sum)).collect()
    }

    /// The same for JSON lines.
    pub(super) fn lines(&self, path: &Path) -> Vec<Value> {
        self.each().map(|(kind, by, sum)| by.line(kind, sum, path)).collect()
    }

    /// What to do about each.
    pub(super) fn advice(&self, path: &Path) -> Vec<String> {
        let unfolded = self.unfolded.iter().map(|kind| {
            let command = format!("{} {}", on("keep", path), quoted(kind));
            format!(
                "no fold is registered with {kind}, which keeps what folds need: all of it stays; {command} \
                 latest|nothing says otherwise"
            )
        });
        unfolded.chain(self.each().map(|(kind, by, _)| by.advice(kind, path))).collect()
    }
}

fn add_fold(sums: &mut BTreeMap<By, Sum>, fold: &WrittenFold, topic: &WrittenTopic) {
    let (name, version) = (fold.fold.clone(), fold.version);
    if fold.diverged.is_some() {
        return add(sums, By::Divergence { name, version }, Offset::BEGINNING, false);
    }
    let offset = fold.image.as_ref().map(|image| image.offset);
    let has = fold.image.as_ref().map_or(0, |image| image.generation);
    // The newest stays anyhow.
    if fold.is_registered && topic.generation.saturating_sub(has) > 1 {
        let from =
            offset.map_or(Offset::BEGINNING, |offset| Offset::from_raw(offset.raw().saturating_add(1)));
        add(sums, By::Fold { name, version }, from, offset.is_none());
    }
}

fn add_consumer(
    sums: &mut BTreeMap<By, Sum>,
    plane: &ReadOnly,
    consumer: &WrittenConsumer,
    topic: &WrittenTopic,
) -> esker::Result<()> {
    let era = plane.era()?;
    let is_known = consumer.info.era == Some(era);
    let behind = if is_known { consumer.info.position } else { Offset::BEGINNING };
    if behind >= topic.head {
        return Ok(());
    }
    let left = plane.count_behind(Filter::topic(&consumer.stream, &topic.key), behind, |_| true)?;
    if left.records > 1 {
        let by = By::Consumer {
            name: consumer.info.name.clone(),
            of: consumed(consumer),
            shard: consumer.info.shard,
        };
        add(sums, by, Offset::from_raw(behind.raw().saturating_add(1)), false);
    }
    Ok(())
}

fn add(sums: &mut BTreeMap<By, Sum>, by: By, from: Offset, is_without_image: bool) {
    let sum = sums.entry(by).or_default();
    sum.topics += 1;
    sum.without_image += u64::from(is_without_image);
    sum.from = Some(sum.from.map_or(from, |known| known.min(from)));
}

impl By {
    fn text(&self, kind: &str, sum: &Sum) -> String {
        let Sum { topics, without_image, from } = sum;
        let from = from.unwrap_or_default();
        match self {
            Self::Fold { name, version } => format!(
                "fold {name} version {version} over {kind}: of {topics} topics it has not all that could go in an image, of \
                 {without_image} nothing"
            ),
            Self::Consumer { name, of, .. } => {
                format!(
                    "consumer {name} of {of}: it has not done what is in {topics} topics from offset {from} on"
                )
            }
            Self::Divergence { name, version } => {
                format!(
                    "fold {name} version {version} over {kind}: it diverged over {topics} topics, which keep all"
                )
            }
        }
    }

    fn advice(&self, kind: &str, path: &Path) -> String {
        match self {
            Self::Fold { name, .. } => format!(
                "fold {name} over {kind}: let the application save images (`TopicFold::save_image`), or retire the fold \
                 (`Store::retire_fold`) if nobody folds by it any more; {} --kind {} lists them",
                on("topics", path),
                quoted(kind)
            ),
            Self::Consumer { name, of, shard } => {
                let part = shard.map(|(i, n)| format!(" --shard {i}/{n}")).unwrap_or_default();
                let (name, of) = (quoted(name), quoted(of));
                let command = on("consumer retire", path);
                format!("{command} {name} --of {of}{part}, if nobody consumes under it any more")
            }
            Self::Divergence { name, .. } => {
                let command = on("topics", path);
                format!("fold {name} over {kind} diverged: {command} --halted says where")
            }
        }
    }

    fn line(&self, kind: &str, sum: &Sum, path: &Path) -> Value {
        let (by, name, version) = match self {
            Self::Fold { name, version } => ("fold", name, Some(*version)),
            Self::Consumer { name, .. } => ("consumer", name, None),
            Self::Divergence { name, version } => ("divergence", name, Some(*version)),
        };
        let (of, shard) = match self {
            Self::Consumer { of, shard, .. } => (Some(of), *shard),
            _ => (None, None),
        };
        json!({
            "by": by,
            "name": name,
            "kind": kind,
            "version": version,
            "of": of,
            "shard": shard,
            "topics": sum.topics,
            "without_image": sum.without_image,
            "from": sum.from.map(Offset::raw),
            "advice": self.advice(kind, path),
        })
    }
}
