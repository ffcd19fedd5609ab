//! What stands on the backplane, for a check: folds that cannot go on, consumers that do not.

use std::rc::Rc;

use anyhow::Result;
use esker::backplane::{ReadOnly, WrittenTopic};
use esker::dump::key_text;
use esker::{ErrorKind, Owner, StreamFolds, WrittenConsumer};
use serde::Serialize;

use super::places::Places;
use super::{Gravity, Trouble, name};
use crate::args::Limits;
use crate::commands::consumers::{Over, Standing, consumed, consumed_part};
use crate::commands::cursor::quoted;
use crate::commands::topics::Status;
use crate::store::Opened;

/// What was looked at.
#[derive(Debug, Default, Serialize)]
pub(super) struct OnPlane {
    folds: u64,
    pub(super) halted: u64,
    consumers: u64,
    pub(super) suspended: u64,
    pub(super) max_consumer_lag: u64,
}

struct Looking<'a> {
    opened: &'a Opened,
    plane: Rc<ReadOnly>,
    places: &'a mut Places,
    /// The store's directory as a word of a command.
    path: String,
    numbers: OnPlane,
    troubles: Vec<Trouble>,
}

/// Looks at every fold over every topic, and at every consumer. A damaged frame that is met is one of the damaged places.
pub(super) fn look(
    opened: &Opened,
    limits: Limits,
    now: i64,
    places: &mut Places,
) -> Result<(OnPlane, Vec<Trouble>)> {
    let plane = Rc::new(ReadOnly::of(&opened.reader)?);
    let (path, numbers) = (name(opened.reader.path()), OnPlane::default());
    let mut looking = Looking { opened, plane, places, path, numbers, troubles: Vec::new() };
    looking.folds()?;
    looking.consumers(limits, now)?;
    Ok((looking.numbers, looking.troubles))
}

impl Looking<'_> {
    fn trouble(&mut self, gravity: Gravity, about: &'static str, what: String, next: String) {
        self.troubles.push(Trouble { gravity, about, what, next });
    }

    /// What cannot be read does not end a check: it is one of the things that it looks for.
    fn unread(&mut self, error: &esker::Error) -> bool {
        match error.kind() {
            // Compaction went over it meanwhile: the next look may find it otherwise.
            ErrorKind::Lost | ErrorKind::Compacted => true,
            ErrorKind::Corrupt | ErrorKind::Codec | ErrorKind::FormatTooNew => {
                self.places.meet(error);
                true
            }
            _ => false,
        }
    }

    fn take<T>(&mut self, found: esker::Result<T>) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if self.unread(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn folds(&mut self) -> Result<()> {
        let (plane, kinds) = (Rc::clone(&self.plane), self.opened.reader.kinds());
        let is_stream = |name: &str| !name.starts_with("esker.");
        for kind in kinds.iter().filter(|kind| kind.owner == Owner::Facts && is_stream(&kind.name)) {
            let stream = &*kind.name;
            let Some(folds) = self.take(StreamFolds::of(&*plane, stream))? else { continue };
            if folds.is_partial() {
                let what = format!("which folds are registered with {stream:?} cannot be read in full");
                let next = format!("esker topics {}", self.path);
                self.trouble(Gravity::Critical, "fold", what, next);
            }
            if folds.is_empty() {
                continue;
            }
            for topic in plane.topics(stream)? {
                let Some(topic) = self.take(topic)? else { continue };
                self.topic(stream, &topic, &folds)?;
            }
        }
        Ok(())
    }

    fn topic(&mut self, stream: &str, topic: &WrittenTopic, folds: &StreamFolds) -> Result<()> {
        let found = folds.over(&*self.plane, stream, topic);
        for fold in self.take(found)?.unwrap_or_default() {
            let status = Status::of(&fold, topic);
            self.numbers.folds += 1;
            if !status.is_halted() {
                continue;
            }
            self.numbers.halted += 1;
            let what = format!(
                "the fold {:?} over {stream}/{} cannot go on: {}",
                fold.fold,
                key_text(&topic.key),
                status.word()
            );
            let next = format!("esker topics {} --halted", self.path);
            self.trouble(Gravity::Critical, "fold", what, next);
        }
        Ok(())
    }

    fn consumers(&mut self, limits: Limits, now: i64) -> Result<()> {
        let plane = Rc::clone(&self.plane);
        for consumer in WrittenConsumer::all(&plane) {
            let Some(consumer) = self.take(consumer)? else { continue };
            self.consumer(consumer, limits, now)?;
        }
        Ok(())
    }

    fn consumer(&mut self, consumer: WrittenConsumer, limits: Limits, now: i64) -> Result<()> {
        let mut unread = Vec::new();
        let standing = Standing::measure(consumer, &self.plane, now, |error| {
            unread.push(error);
            Ok(())
        })?;
        for error in unread {
            self.take::<()>(Err(error))?;
        }
        let records = standing.behind.map_or(0, |behind| behind.records);
        self.numbers.consumers += 1;
        self.numbers.max_consumer_lag = self.numbers.max_consumer_lag.max(records);
        let suspended = standing.consumer.info.suspended.clone();
        let mut what: Vec<String> = suspended.iter().map(|why| format!("is suspended: {why}")).collect();
        let over = standing.excesses(limits.max_lag, limits.max_age).into_iter();
        // Being suspended is said already.
        what.extend(over.filter(|(over, _)| *over != Over::Suspended).map(|(_, text)| text));
        if what.is_empty() {
            return Ok(());
        }
        let (path, named, of) = (&self.path, &standing.consumer.info.name, consumed_part(&standing.consumer));
        let what = format!("consumer {named:?} of {of} {}", what.join("; "));
        let (gravity, next) = match suspended {
            Some(_) => {
                self.numbers.suspended += 1;
                let (named, of) = (quoted(named), quoted(&consumed(&standing.consumer)));
                (Gravity::Critical, format!("esker consumer resume {path} {named} --of {of}"))
            }
            None => (Gravity::Warning, format!("esker consumers {path}")),
        };
        self.trouble(gravity, "consumer", what, next);
        Ok(())
    }
}
