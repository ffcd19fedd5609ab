//! Marks: that a fold over a topic came to two values. They stand beside the images of the topic, under a key of it alone.

use serde::{Deserialize, Serialize};

use crate::backplane::{Backplane, Filter, IMAGES_STREAM, Offset};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::image::{Subject, append_whole, marks_key, read_all, repeated};
use crate::format::chunk::Chunk;

/// What to do about one.
pub(super) const WAY_ON: &str = "mend the fold, and raise its VERSION";

/// A fold diverged.
#[derive(Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) fold: String,
    pub(super) version: u32,
    pub(super) offset: u64,
}

/// Marks that a fold diverged.
pub(super) fn mark(plane: &dyn Backplane, subject: &Subject, offset: Offset) -> Result<()> {
    let mark = Mark { fold: subject.fold.to_owned(), version: subject.version, offset: offset.raw() };
    let mut bytes = Vec::new();
    codec::encode(IMAGES_STREAM, &mark, &mut bytes)?;
    append_whole(plane, &marks_key(subject.filter()), &bytes)
}

/// Goes over the marks of a topic; `None`: one that cannot be read. Answers how many records are damaged.
///
/// With each, where it was written down.
fn each(plane: &dyn Backplane, topic: Filter<'_>, each: &mut dyn FnMut(Option<Mark>, Offset)) -> Result<u64> {
    read_all(plane, &marks_key(topic), &mut |record| {
        let chunk = Chunk::read(record.payload());
        each(chunk.and_then(|chunk| codec::decode_bytes(chunk.bytes).ok()), record.offset());
    })
}

/// Behind which record a fold diverged, if it did. A mark that cannot be read is one of every fold.
pub(super) fn marked(plane: &dyn Backplane, subject: &Subject) -> Result<Option<Offset>> {
    let mut at = None;
    let damaged = each(plane, subject.filter(), &mut |mark, _| match mark {
        Some(mark) if (&*mark.fold, mark.version) != (subject.fold, subject.version) => {}
        mark => at = Some(Offset::from_raw(mark.map_or(0, |mark| mark.offset))),
    })?;
    Ok(at.or((damaged > 0).then_some(Offset::BEGINNING)))
}

/// Refuses to drop records of a topic of which a fold diverged: they are what shows why, and what a mended one has to begin with.
/// `is_over` says of a mark, and where it stands, that another version has taken the place of that one since.
pub(super) fn check_not_marked(
    plane: &dyn Backplane,
    topic: Filter<'_>,
    is_over: &dyn Fn(&Mark, Offset) -> Result<bool>,
) -> Result<()> {
    if repeated(|| plane.head(Filter::topic(IMAGES_STREAM, &marks_key(topic))))? == Offset::BEGINNING {
        return Ok(());
    }
    let mut marks = Vec::new();
    let damaged = each(plane, topic, &mut |mark, at| marks.push((mark, at)))?;
    let mut diverged =
        (damaged > 0).then(|| "one of which one did, as a mark says that cannot be read".to_owned());
    for (mark, at) in marks {
        let is_of_now = !mark.as_ref().map_or(Ok(false), |mark| is_over(mark, at))?;
        if is_of_now {
            diverged = Some(mark.map_or_else(
                || "one of which one did, as a mark says that cannot be read".to_owned(),
                |mark| {
                    format!("version {} of {:?} did, behind offset {}", mark.version, mark.fold, mark.offset)
                },
            ));
        }
    }
    let Some(diverged) = diverged else { return Ok(()) };
    let way_on = match plane.registrations() {
        Some(_) => format!("{WAY_ON}, and take it up: till then its records are kept"),
        None => "its records are kept".to_owned(),
    };
    Err(Error::new(ErrorKind::Halted, format!("compact {topic}"))
        .sides("a topic of which no fold has diverged", diverged)
        .noting(way_on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::InMemory;

    fn subject() -> Subject {
        Subject { fold: "total", version: 1, stream: "order".to_owned(), key: b"8812".to_vec() }
    }

    #[test]
    fn a_mark_is_of_one_fold_and_keeps_the_topic_until_that_is_over() {
        let plane = InMemory::new();
        let never = |_: &Mark, _: Offset| Ok(false);
        check_not_marked(&plane, subject().filter(), &never).unwrap();
        assert_eq!(marked(&plane, &subject()).unwrap(), None);
        mark(&plane, &subject(), Offset::from_raw(5)).unwrap();
        assert_eq!(marked(&plane, &subject()).unwrap(), Some(Offset::from_raw(5)));
        assert_eq!(marked(&plane, &Subject { fold: "other", ..subject() }).unwrap(), None);
        assert_eq!(marked(&plane, &Subject { version: 2, ..subject() }).unwrap(), None);
        let refused = check_not_marked(&plane, subject().filter(), &never).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Halted);
        assert!(refused.to_string().contains("version 1 of \"total\" did, behind offset 5"), "{refused}");
        check_not_marked(&plane, Filter::topic("order", b"8813"), &never).unwrap();
        let is_over = |mark: &Mark, at: Offset| {
            Ok((&*mark.fold, mark.version) == ("total", 1) && at > Offset::BEGINNING)
        };
        check_not_marked(&plane, subject().filter(), &is_over).unwrap();
        // What cannot be read may be of any.
        append_whole(&plane, &marks_key(subject().filter()), b"no mark").unwrap();
        check_not_marked(&plane, subject().filter(), &is_over).unwrap_err();
    }
}
