//! What stands on the backplane, one after the other, for who looks at all of it.

use anyhow::Result;
use esker::backplane::{ReadOnly, WrittenTopic};
use esker::{ErrorKind, Owner, StreamFolds, WrittenConsumer, WrittenFold};

use super::consumers::Standing;
use super::topics::Status;
use crate::store::Opened;

/// Something that stands there.
pub(crate) enum Met<'a> {
    Fold {
        stream: &'a str,
        topic: &'a WrittenTopic,
        fold: &'a WrittenFold,
        status: Status,
    },
    Consumer(Box<Standing>),
    /// Which folds are registered with a stream cannot be read in full.
    PartOf(&'a str),
    /// What cannot be read does not end a look.
    Unread(esker::Error),
}

/// Shows every fold over every topic, and then every consumer. `now`: until when the next record of one has waited.
pub(crate) fn each(opened: &Opened, now: i64, mut see: impl FnMut(Met<'_>)) -> Result<()> {
    let plane = ReadOnly::of(&opened.reader)?;
    folds(opened, &plane, &mut see)?;
    for consumer in WrittenConsumer::all(&plane) {
        let Some(consumer) = take(consumer, &mut see)? else { continue };
        let standing =
            Standing::measure(consumer, &plane, now, |error| take::<()>(Err(error), &mut see).map(drop))?;
        see(Met::Consumer(Box::new(standing)));
    }
    Ok(())
}

fn folds(opened: &Opened, plane: &ReadOnly, see: &mut impl FnMut(Met<'_>)) -> Result<()> {
    let kinds = opened.reader.kinds();
    let is_stream = |name: &str| !name.starts_with("esker.");
    for kind in kinds.iter().filter(|kind| kind.owner == Owner::Facts && is_stream(&kind.name)) {
        let stream = &*kind.name;
        let Some(folds) = take(StreamFolds::of(plane, stream), see)? else { continue };
        if folds.is_partial() {
            see(Met::PartOf(stream));
        }
        if folds.is_empty() {
            continue;
        }
        for topic in plane.topics(stream)? {
            let Some(topic) = take(topic, see)? else { continue };
            let found = take(folds.over(plane, stream, &topic), see)?;
            for fold in found.unwrap_or_default() {
                let status = Status::of(&fold, &topic);
                see(Met::Fold { stream, topic: &topic, fold: &fold, status });
            }
        }
    }
    Ok(())
}

fn take<T>(found: esker::Result<T>, see: &mut impl FnMut(Met<'_>)) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        // Compaction went over it meanwhile: the next look may find it otherwise.
        Err(error) if matches!(error.kind(), ErrorKind::Lost | ErrorKind::Compacted) => Ok(None),
        Err(error) => match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Codec | ErrorKind::FormatTooNew => {
                see(Met::Unread(error));
                Ok(None)
            }
            _ => Err(error.into()),
        },
    }
}
