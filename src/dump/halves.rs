//! The frames of a segment, counted: those of a large one from its beginning and from its middle at once.
//!
//! Where the second half begins is a guess. What was counted there counts only if the first half ends right before it,
//! and nothing is wrong with either; else the segment is counted from its beginning on, as one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{Builder, scope};

use crate::disk::Directory;
use crate::dump::frame::FrameInfo;
use crate::dump::walk::{Ends, Frames, Lent, Stretch, good_from};
use crate::error::Result;
use crate::format::segment::FIRST_FRAME;
use crate::format::system::System;
use crate::id::{FRAME_ALIGN, StoreId};

/// A segment with fewer bytes of frames is not worth a thread.
const WORTH_A_THREAD: u64 = 8 << 20;

/// What is counted of the frames of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// The Seq of the first entry whose content is good.
    pub(super) first_seq: Option<u64>,
    /// The Seq of the last one.
    pub(super) last_seq: Option<u64>,
    /// How many there are.
    pub(super) entries: u64,
    /// Where the last frame ends.
    pub(super) end: Option<u64>,
    /// Places where no frame validates, and frames whose content does not.
    pub(super) damaged: u64,
    /// Where no frame validates, or where Seqs are missing.
    has_holes: bool,
    /// The last Seq before its frames, and up to their end, if the first and the last of them say so.
    seqs: Option<(Option<u64>, Option<u64>)>,
}

impl Counted {
    /// Counts the frames of a stretch, in two halves if it is worth it.
    pub(super) fn of(directory: &Arc<dyn Directory>, store: StoreId, stretch: &Stretch) -> Result<Self> {
        match in_halves(directory, store, stretch, WORTH_A_THREAD) {
            Some(counted) => Ok(counted),
            None => Self::of_frames(walk(directory, store, stretch.clone())),
        }
    }

    fn of_frames(frames: Frames) -> Result<Self> {
        let (mut frames, mut counted) = (frames.heads(), Self::default());
        while let Some(item) = frames.lend() {
            match item? {
                Lent::Frame(frame) => counted.add(frame),
                Lent::Damage(_) => {
                    counted.has_holes = true;
                    counted.damaged += 1;
                }
            }
        }
        Ok(counted)
    }

    fn add(&mut self, frame: &FrameInfo) {
        // A preamble says in its payload what was before it.
        let is_plain = frame.system() != Some(System::Preamble);
        let before = self.seqs.map_or(is_plain.then(|| frame.seq_before()), |(before, _)| before);
        self.seqs = Some((before, is_plain.then_some(frame.seq)));
        self.end = Some(frame.position.offset() + frame.frame_bytes);
        self.damaged += u64::from(!frame.body_good);
        if !frame.is_system() && frame.body_good {
            self.first_seq = self.first_seq.or(Some(frame.seq));
            self.last_seq = Some(frame.seq);
            self.entries += 1;
        }
    }

    /// With what stands right behind it.
    fn with(self, behind: Self) -> Option<Self> {
        let ((_, last), (before, _)) = (self.seqs?, behind.seqs?);
        let is_one = !self.has_holes && !behind.has_holes && last.is_some() && last == before;
        is_one.then(|| Self {
            first_seq: self.first_seq.or(behind.first_seq),
            last_seq: behind.last_seq.or(self.last_seq),
            entries: self.entries + behind.entries,
            end: behind.end,
            damaged: self.damaged + behind.damaged,
            has_holes: false,
            seqs: None,
        })
    }
}

fn walk(directory: &Arc<dyn Directory>, store: StoreId, stretch: Stretch) -> Frames {
    Frames::over(Arc::clone(directory), store, VecDeque::from([stretch]))
}

/// `None`: it is not worth it, or anything is in doubt.
fn in_halves(
    directory: &Arc<dyn Directory>,
    store: StoreId,
    stretch: &Stretch,
    worth: u64,
) -> Option<Counted> {
    let header = stretch.header.as_ref().ok().filter(|_| stretch.cover.is_none())?;
    let until = match stretch.ends {
        Ends::At(end) => end.min(header.bytes),
        _ => header.bytes,
    };
    let bytes = until.checked_sub(stretch.from).filter(|bytes| *bytes >= worth)?;
    let about = (stretch.from + bytes / 2).next_multiple_of(FRAME_ALIGN).max(FIRST_FRAME);
    let middle = good_from(&**directory, header, about, until).ok().flatten()?;
    let first = Stretch { ends: Ends::At(middle), ..stretch.clone() };
    let second = Stretch { from: middle, rest_of: None, ..stretch.clone() };
    let count = |half| Counted::of_frames(walk(directory, store, half)).ok();
    let (first, second) = scope(|scope| {
        let other = Builder::new().name("esker-count".into()).spawn_scoped(scope, || count(second)).ok()?;
        let first = count(first);
        let second = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        first.zip(second)
    })?;
    Some(first).filter(|first| first.end == Some(middle))?.with(second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Access;
    use crate::format::segment::file_name;
    use crate::journal::reader::Reader;
    use crate::journal::record::Record;
    use crate::log::segment::open_header;
    use crate::options::Options;
    use tempfile::TempDir;

    /// A segment of entries of many lengths, in batches and with system frames between them, up to where its frames end.
    fn segment(place: &TempDir) -> (Arc<dyn Directory>, StoreId, Stretch) {
        let options = Options::new().segment_bytes(256 << 10).background(false);
        let journal = options.open(place.path()).unwrap();
        for n in 0..60_u8 {
            let kind = journal.kind(&format!("kind-{}", n / 7)).unwrap();
            let (key, payload) = ([n % 5 + 1], [n; 300]);
            let mut batch = journal.batch();
            for length in 0..usize::from(n % 9 + 1) {
                batch.push(Record::new(kind, &key, &payload[..length * 30 + usize::from(n)]));
            }
            batch.commit().unwrap();
        }
        drop(journal);
        let reader = Reader::open(place.path()).unwrap();
        let (directory, store) = (Arc::clone(reader.directory()), reader.store_id());
        let (_, header) = open_header(&*directory, store, 1, Access::Read).unwrap();
        let (from, ends, header) = (FIRST_FRAME, Ends::Anywhere, Ok(header));
        let all = Stretch { number: 1, header, rest_of: None, from, ends, cover: None, in_log: true };
        let end = Counted::of_frames(walk(&directory, store, all.clone())).unwrap().end.unwrap();
        (directory, store, Stretch { ends: Ends::At(end), ..all })
    }

    fn same_both_ways(directory: &Arc<dyn Directory>, store: StoreId, stretch: &Stretch) -> bool {
        let whole = Counted::of_frames(walk(directory, store, stretch.clone())).unwrap();
        let halves = in_halves(directory, store, stretch, 1);
        let shown = |counted: &Counted| {
            (counted.first_seq, counted.last_seq, counted.entries, counted.end, counted.damaged)
        };
        if let Some(halves) = &halves {
            assert_eq!(shown(halves), shown(&whole));
        }
        halves.is_some()
    }

    #[test]
    #[cfg_attr(miri, ignore = "on a disk")]
    fn a_segment_in_two_halves_is_what_it_is_as_one() {
        let place = tempfile::tempdir().unwrap();
        let (directory, store, stretch) = segment(&place);
        assert!(same_both_ways(&directory, store, &stretch));
        // Wherever it ends, and with that wherever its middle is.
        let (mut frames, mut ends) = (walk(&directory, store, stretch.clone()).heads(), Vec::new());
        while let Some(Ok(Lent::Frame(frame))) = frames.lend() {
            ends.push(frame.position.offset() + frame.frame_bytes);
        }
        let halved = |end: &&u64| {
            same_both_ways(&directory, store, &Stretch { ends: Ends::At(**end), ..stretch.clone() })
        };
        let halved = ends.iter().filter(halved).count();
        assert!(ends.len() > 100 && halved > ends.len() - 10, "{halved} of {}", ends.len());
    }

    #[test]
    #[cfg_attr(miri, ignore = "on a disk")]
    fn where_anything_is_wrong_a_segment_is_counted_as_one() {
        let place = tempfile::tempdir().unwrap();
        let (directory, store, stretch) = segment(&place);
        let Ends::At(end) = stretch.ends else { unreachable!("so it was made") };
        let file = directory.open(&file_name(1), Access::Write).unwrap();
        let (mut halved, mut as_one) = (0, 0);
        for at in (FIRST_FRAME..end).step_by(97) {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[!byte[0]], at).unwrap();
            match same_both_ways(&directory, store, &stretch) {
                true => halved += 1,
                false => as_one += 1,
            }
            file.write_at(&byte, at).unwrap();
        }
        // What a payload holds is the matter of one frame.
        assert!(halved > 10 && as_one > 10, "{halved} and {as_one}");
    }
}
