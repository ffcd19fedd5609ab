//! What is wrong with what stands on the backplane: folds that cannot go on, and consumers that do not.

use anyhow::Result;
use esker::backplane::{Behind, ReadOnly, WrittenTopic};
use esker::dump::key_text;
use esker::{ErrorKind, Owner, StreamFolds, WrittenConsumer};

use super::super::consumers::{consumed_part, is_of_era};
use super::super::plane::now;
use super::super::topics::Status;
use super::{Gravity, Trouble, name};
use crate::args::Limits;
use crate::span::Span;
use crate::store::Opened;

/// What was looked at on the backplane, and what is not as it should be.
#[derive(Debug, Default)]
pub(super) struct Plane {
    pub(super) troubles: Vec<Trouble>,
    pub(super) halted_folds: u64,
    pub(super) consumers: u64,
    pub(super) suspended: u64,
    pub(super) max_lag: u64,
}

/// Looks at all folds and all consumers. What cannot be read is a trouble, and ends nothing.
pub(super) fn look(opened: &Opened, limits: &Limits) -> Result<Plane> {
    let mut look = Look { opened, limits, found: Plane::default() };
    if let Some(plane) = look.take("the backplane", ReadOnly::of(&opened.reader))? {
        look.folds(&plane)?;
        look.consumers(&plane)?;
    }
    Ok(look.found)
}

struct Look<'a> {
    opened: &'a Opened,
    limits: &'a Limits,
    found: Plane,
}

impl Look<'_> {
    fn take<T>(&mut self, of: &str, found: esker::Result<T>) -> Result<Option<T>> {
        let error = match found {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Codec | ErrorKind::FormatTooNew => {}
            // A live writer went on meanwhile: the next look sees it.
            ErrorKind::Lost | ErrorKind::Compacted if self.opened.writer.is_some() => return Ok(None),
            _ => return Err(error.into()),
        }
        // One place may stand in the way of many.
        if !self.found.troubles.iter().any(|trouble| trouble.about == "unread") {
            self.found.troubles.push(Trouble {
                gravity: Gravity::Critical,
                about: "unread",
                what: format!("{of} cannot be read: {error}"),
                next: format!("esker verify --full {}", name(self.opened.reader.path())),
            });
        }
        Ok(None)
    }

    fn folds(&mut self, plane: &ReadOnly) -> Result<()> {
        let kinds = self.opened.reader.kinds();
        let streams =
            kinds.iter().filter(|kind| kind.owner == Owner::Facts && !kind.name.starts_with("esker."));
        for kind in streams {
            let stream = &*kind.name;
            let folds = StreamFolds::of(plane, stream)?;
            if folds.is_empty() {
                continue;
            }
            let of = format!("the topics of {stream:?}");
            for topic in plane.topics(stream)? {
                let Some(topic) = self.take(&of, topic)? else { break };
                self.topic(plane, stream, &folds, &topic)?;
            }
        }
        Ok(())
    }

    fn topic(
        &mut self,
        plane: &ReadOnly,
        stream: &str,
        folds: &StreamFolds,
        topic: &WrittenTopic,
    ) -> Result<()> {
        let of = format!("{stream}/{}", key_text(&topic.key));
        let found = self.take(&format!("the folds over {of}"), folds.over(plane, stream, topic))?;
        for fold in found.unwrap_or_default() {
            let status = Status::of(&fold, topic);
            if !status.is_halted() {
                continue;
            }
            self.found.halted_folds += 1;
            let why = match status {
                Status::Lost => "lost: it would need what was dropped",
                _ => "diverged: what it makes of the records is not what its image has",
            };
            self.found.troubles.push(Trouble {
                gravity: Gravity::Critical,
                about: "fold",
                what: format!("fold {:?} version {} over {of} is {why}", fold.fold, fold.version),
                next: format!("esker topics --halted {}", name(self.opened.reader.path())),
            });
        }
        Ok(())
    }

    fn consumers(&mut self, plane: &ReadOnly) -> Result<()> {
        for consumer in WrittenConsumer::all(plane) {
            let Some(consumer) = self.take("a consumer", consumer)? else { continue };
            self.found.consumers += 1;
            let of = format!("consumer {:?} of {}", consumer.info.name, consumed_part(&consumer));
            let same_era = is_of_era(&consumer, plane)?;
            let behind = match same_era {
                true => {
                    let filter = consumer.filter();
                    let from = consumer.info.position;
                    let counted = plane.count_behind(filter, from, |key| consumer.consumes(key));
                    self.take(&format!("what {of} has before it"), counted)?
                }
                false => None,
            };
            self.consumer(&consumer, &of, same_era, behind);
        }
        Ok(())
    }

    fn consumer(&mut self, consumer: &WrittenConsumer, of: &str, same_era: bool, behind: Option<Behind>) {
        let mut what = Vec::new();
        if !same_era {
            what.push("its offset is of another era of the store".to_owned());
        }
        if let Some(why) = &consumer.info.suspended {
            self.found.suspended += 1;
            what.push(format!("suspended: {why}"));
        }
        let gravity = if what.is_empty() { Gravity::Warning } else { Gravity::Critical };
        let lag = behind.map_or(0, |behind| behind.records);
        self.found.max_lag = self.found.max_lag.max(lag);
        if let Some(limit) = self.limits.max_lag.filter(|limit| lag > *limit) {
            what.push(format!("{lag} records behind, over {limit}"));
        }
        let age = behind.and_then(|behind| behind.next).map(|(_, time)| Span::between(time, now()));
        if let Some((limit, age)) = self.limits.max_age.zip(age).filter(|(limit, age)| age > limit) {
            what.push(format!("its next record has waited {age}, over {limit}"));
        }
        if !what.is_empty() {
            self.found.troubles.push(Trouble {
                gravity,
                about: "consumer",
                what: format!("{of}: {}", what.join("; ")),
                next: format!("esker consumers {}", name(self.opened.reader.path())),
            });
        }
    }
}
