//! What the index of a segment says of it in all, without reading the whole index.

use zerocopy::FromBytes;

use crate::disk::{Access, Directory, File};
use crate::format::compacted::Cover;
use crate::format::frame::{FRAME_BYTES, Frame};
use crate::format::header::HEADER_BYTES;
use crate::format::index::{KindCount, Layout, file_name};
use crate::format::segment::SegmentHeader;
use crate::id::{KINDS_MAX, PART, Position, StoreId};
use crate::index::sealed::SealedIndex;
use crate::log::segment::is_good_seal;

/// What an index counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexSum {
    /// Entries that can be read.
    pub(crate) entries: u64,
    /// The first and the last of them.
    pub(crate) seqs: Option<(u64, u64)>,
    /// The bytes that it covers.
    pub(crate) end: u64,
}

impl IndexSum {
    /// The sums in the index of a segment or a part, if there is one that is about it.
    ///
    /// Where nothing was lost these are in the header, which has a checksum of its own. The rest of an index is
    /// looked at only to count what is there between what is not, and where it is that of a part.
    pub(crate) fn of(
        directory: &dyn Directory,
        store: StoreId,
        header: &SegmentHeader,
        cover: Option<&Cover>,
    ) -> Option<Self> {
        let by_header = || {
            Self::of_header(&*directory.open(&file_name(header.number), Access::Read).ok()?, store, header)
        };
        let is_part = header.number & PART != 0;
        if let Some(sum) = Some(()).filter(|()| !is_part).and_then(|()| by_header()) {
            return Some(sum);
        }
        let index = SealedIndex::open(directory, store, header.number, header.salt).ok()?;
        let entries = cover.and_then(|cover| cover.part).map(|part| part.entries);
        let is_of_it =
            !is_part || index.layout.end == header.bytes && entries == Some(u64::from(index.count()));
        is_of_it.then(|| Self::counted(&index))
    }

    /// True if it goes on to the seal of its segment.
    pub(crate) fn ends_with_a_seal(&self, file: &dyn File, segment: &SegmentHeader) -> bool {
        let Some(at) = self.end.checked_sub(FRAME_BYTES as u64) else { return false };
        let mut bytes = [0; FRAME_BYTES];
        let position = Position::new(segment.number, at);
        file.read_at(&mut bytes, at).is_ok()
            && Frame::parse(&bytes).is_some_and(|frame| is_good_seal(&frame, segment.salt, position))
    }

    fn of_header(file: &dyn File, store: StoreId, segment: &SegmentHeader) -> Option<Self> {
        let mut head = [0; HEADER_BYTES];
        file.read_at(&mut head, 0).ok()?;
        let length = usize::try_from(file.len().ok()?).ok()?;
        let (layout, _) = Layout::of_header(&head, length, store, segment.number, segment.salt).ok()?;
        let place = layout.kinds_place();
        if place.len() > usize::from(KINDS_MAX) * size_of::<KindCount>() {
            return None;
        }
        let mut kinds = vec![0; place.len()];
        file.read_at(&mut kinds, place.start as u64).ok()?;
        let kinds = <[KindCount]>::ref_from_bytes(&kinds).ok()?;
        let (entries, first_seq) = (layout.frames as u64, layout.first_seq);
        // What was lost has no kind.
        let is_all_there = kinds.iter().map(|kind| u64::from(kind.frames.get())).sum::<u64>() == entries;
        let seqs = entries.checked_sub(1).map(|more| (first_seq, first_seq + more));
        is_all_there.then_some(Self { entries, seqs, end: layout.end })
    }

    fn counted(index: &SealedIndex) -> Self {
        let readable = (0..index.count()).filter(|ordinal| index.offset(*ordinal).is_some_and(|at| at != 0));
        let mut sum = Self { entries: 0, seqs: None, end: index.layout.end };
        for ordinal in readable {
            let dense = index.layout.first_seq + u64::from(ordinal);
            let seq = index.seq_in_part(ordinal).filter(|_| index.layout.is_of_part).unwrap_or(dense);
            sum.seqs = Some((sum.seqs.map_or(seq, |(first, _)| first), seq));
            sum.entries += 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::reader::Reader;
    use crate::journal::record::Record;
    use crate::log::segment::open_header;
    use crate::options::Options;

    #[test]
    #[cfg_attr(miri, ignore = "on a disk")]
    fn the_header_of_an_index_says_what_counting_does_and_only_of_a_file_of_its_length() {
        let place = tempfile::tempdir().unwrap();
        let options = Options::new().segment_bytes(4096).background(false);
        let journal = options.open(place.path()).unwrap();
        let kinds = ["one", "two"].map(|name| journal.kind(name).unwrap());
        for n in 0..100_u8 {
            journal.append(Record::new(kinds[usize::from(n % 2)], &[n % 9], &[n; 40])).unwrap();
        }
        journal.close().unwrap();
        let reader = Reader::open(place.path()).unwrap();
        let (directory, store) = (reader.directory(), reader.store_id());
        let mut last = 0;
        for number in 1..=2 {
            let (_, header) = open_header(&**directory, store, number, Access::Read).unwrap();
            let file = directory.open(&file_name(number), Access::Write).unwrap();
            let sum = IndexSum::of_header(&*file, store, &header).unwrap();
            let index = SealedIndex::open(&**directory, store, number, header.salt).unwrap();
            assert_eq!(sum, IndexSum::counted(&index));
            assert_eq!(sum.seqs, Some((last + 1, last + sum.entries)));
            last += sum.entries;
            let length = file.len().unwrap();
            file.truncate(length - 4).unwrap();
            assert_eq!(IndexSum::of(&**directory, store, &header, None), None);
        }
        assert!(last > 20, "{last}");
    }
}
