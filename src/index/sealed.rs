//! The index of a segment that is not written any more: its `.idx` file, in place.

use std::sync::Arc;

use zerocopy::little_endian::U32;

use crate::disk::map::Map;
use crate::disk::{Access, Directory};
use crate::error::{Error, Result};
use crate::format::index::{EntityHash, EntityRecord, IndexParts, KindCount, Layout, file_name};
use crate::format::segment::FIRST_FRAME;
use crate::format::system::{Preamble, System};
use crate::id::{FRAME_ALIGN, IdempotencyKey, StoreId};
use crate::log::segment::Segment;

/// A whole index file that checked out.
#[derive(Clone, Debug)]
pub(crate) struct SealedIndex {
    map: Arc<Map>,
    pub(crate) layout: Layout,
}

impl SealedIndex {
    /// Opens and checks the index of a segment. Any error means: rebuild it.
    pub(crate) fn open(directory: &dyn Directory, store: StoreId, number: u32, salt: u64) -> Result<Self> {
        let name = file_name(number);
        let doing = |e| Error::io("open an index", e).at(directory.path().join(&name));
        let file = directory.open(&name, Access::Read).map_err(doing)?;
        let bytes = usize::try_from(file.len().map_err(doing)?).unwrap_or(usize::MAX);
        if bytes == 0 {
            return Err(Error::corrupt("open an index")
                .at(directory.path().join(&name))
                .sides("a header", "0 bytes"));
        }
        let map = file.map(bytes).map_err(doing)?;
        map.raise(bytes);
        map.will_need(0..bytes);
        let layout = Layout::read(map.slice(0..bytes).unwrap_or_default(), store, number, salt)
            .map_err(|e| e.at(directory.path().join(&name)))?;
        Ok(Self { map: Arc::new(map), layout })
    }

    /// An index that was made just now, in memory: that of a part whose file was lost, or is not written yet.
    pub(crate) fn of_parts(parts: &IndexParts, store: StoreId) -> Result<Self> {
        let bytes = parts.encode(store);
        let layout = Layout::read(&bytes, store, parts.number, parts.salt)?;
        let map = Map::of_bytes(&bytes);
        map.raise(bytes.len());
        Ok(Self { map: Arc::new(map), layout })
    }

    /// The Seq of a frame of a part.
    #[inline]
    pub(crate) fn seq_in_part(&self, ordinal: u32) -> Option<u64> {
        self.layout.seqs(self.bytes()).get(ordinal as usize).map(|seq| seq.get())
    }

    /// The first frame of a part with this Seq or a later one.
    pub(crate) fn ordinal_in_part(&self, seq: u64) -> u32 {
        let at = self.layout.seqs(self.bytes()).partition_point(|own| own.get() < seq);
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Where the answer to a keyed batch stands in a part.
    pub(crate) fn answer(&self, key: &IdempotencyKey, digest: u64) -> Option<u64> {
        self.layout.answer(self.bytes(), key, digest)
    }

    /// Where the answers in a part stand.
    pub(crate) fn answers(&self) -> impl Iterator<Item = u64> + '_ {
        self.layout.answers(self.bytes())
    }

    /// False where the segment's own preamble names another first Seq: it is the log that counts.
    pub(crate) fn agrees_with(&self, segment: &Segment) -> bool {
        let preamble = segment
            .frame(FIRST_FRAME)
            .filter(|frame| frame.header.is_system() && frame.header.operation == System::Preamble as u8)
            .filter(|frame| frame.is_good(segment.header.salt, segment.position(FIRST_FRAME)))
            .and_then(|frame| Preamble::read(frame.payload()));
        preamble.is_none_or(|preamble| preamble.next_seq == self.layout.first_seq)
    }

    fn bytes(&self) -> &[u8] {
        self.map.slice(0..self.map.bytes()).unwrap_or_default()
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.layout.frames).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(crate) fn offset(&self, ordinal: u32) -> Option<u64> {
        self.layout
            .offsets(self.bytes())
            .get(ordinal as usize)
            .map(|units| u64::from(units.get()) * FRAME_ALIGN)
    }

    /// The places of the user frames, in units of eight bytes, by ordinal.
    pub(crate) fn offsets(&self) -> &[U32] {
        self.layout.offsets(self.bytes())
    }

    /// Tells the processor that the place of a user frame will be looked up soon.
    #[inline]
    pub(crate) fn prefetch(&self, ordinal: u32) {
        self.map.prefetch(self.layout.offset_at(ordinal), 1);
    }

    pub(crate) fn find(&self, hash: EntityHash) -> Option<&EntityRecord> {
        self.layout.find(self.bytes(), hash)
    }

    /// The frames of one entity, as ordinals.
    pub(crate) fn members(&self, record: &EntityRecord) -> &[U32] {
        self.layout.members_of(self.bytes(), record)
    }

    /// The generation and the ordinal of an entity's newest frame here.
    pub(crate) fn newest(&self, record: &EntityRecord) -> (u64, u32) {
        let last = self.members(record).last().map_or(0, |last| last.get());
        (record.last_generation(), last)
    }

    pub(crate) fn entities(&self) -> &[EntityRecord] {
        self.layout.entities(self.bytes())
    }

    /// Some of its frames are lost: nobody knows of which kind and entity they were.
    pub(crate) fn has_lost(&self) -> bool {
        self.layout.has_lost(self.bytes())
    }

    pub(crate) fn kinds(&self) -> &[KindCount] {
        self.layout.kinds(self.bytes())
    }

    /// The offsets of preamble and kind frames.
    pub(crate) fn system(&self) -> impl Iterator<Item = u64> + '_ {
        self.layout.system(self.bytes()).iter().map(|units| u64::from(units.get()) * FRAME_ALIGN)
    }

    pub(crate) fn keyed(&self) -> Vec<crate::format::index::Keyed> {
        self.layout.keyed(self.bytes())
    }
}
