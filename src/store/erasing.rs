//! Erasing an entity of a store, with all that was made of it.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::backplane::{Filter, IMAGES_STREAM, Local};
use crate::error::Result;
use crate::fold::consumer::erasing;
use crate::fold::{image, keeping};
use crate::id::KindId;
use crate::journal::erasing::{Erasure, each_left};
use crate::journal::region::Region;
use crate::store::Store;
use crate::store::facts::Facts;

impl Store {
    /// Erases an entity: every fact of it up to now, and what was made of it as a [topic](Self::topic): the images of folds over it,
    /// its floor, the marks of folds that diverged, and what [consumers](crate::Consumer) wrote of it; see [`Journal::erase`](crate::Journal::erase).
    ///
    /// # What goes of consumers
    ///
    /// * Copies of its events that were given up (in the stream `esker.dead`) or set aside (`esker.parked`), also those of a consumer
    ///   that was retired. The dead letters of other entities that stand beside them are written again, in their order: they get
    ///   new places, times and stamps, and whoever follows `esker.dead` as a stream is told them again.
    /// * What the cell of a consumer of all topics said of it: that it is parked, and why an event of it failed.
    /// * The consumers of this topic alone, as their cells have its key: they are [retired](crate::TopicHandle::retire_consumer), and one that
    ///   runs halts. Started again under its name, one begins as a new one does. They stay as long as the events of the topic do:
    ///   behind an erasure that was held back, until it is erased again.
    /// * Of a cell of which what it says now is damaged, with which its consumer could not go on: all that can be read.
    ///
    /// # What stays
    ///
    /// * A fold that runs holds its value until the next record of the topic comes, or until its last handle is gone, and saves
    ///   it if it is [told](crate::TopicFold::save_image) to: drop those first.
    /// * What a handler that has an event of it in hand answers meanwhile, and the event with it, may come to be written: close
    ///   such a consumer first, or erase the entity again behind it.
    /// * What consumers copy of its events while an erasure is held back, which are told till then: erase it again when nothing
    ///   holds it back any more.
    /// * An image or a copy that cannot be read, of a fold that never registered or by a later build.
    /// * What a handler of [dead letters](crate::ConsumerOptions::dead_letter) has taken, and what is on a
    ///   [backplane](Self::with_backplane) that is not the store's own journal.
    ///
    /// Where `erased` is false every later compaction goes on with what was found now; the floor, which has the key, stays
    /// until the topic is erased again, and so do its consumers, and what the consumers of all topics copy of it meanwhile. That
    /// erases also what has come since: whoever may come back meanwhile gets another key.
    /// An erasure that was interrupted, also by the end of the process, is done again in the same way.
    ///
    /// # Errors
    ///
    /// `KindMismatch`, and as [`Journal::erase`](crate::Journal::erase). `Conflict` if a consumer that runs writes of it again and again: nothing but its
    /// events and images is gone then. `Corrupt` if a file is damaged so that it is not known what stands behind the damage: what is
    /// there may have copies.
    pub fn erase<'t, T: Deserialize<'t>>(&self, kind: Facts<T>, key: impl AsRef<[u8]>) -> Result<Erasure> {
        let (id, topic) = (self.bind(kind)?, Filter::topic(kind.name(), key.as_ref()));
        let images = self.images_of(topic)?;
        let journal = self.journal();
        journal.erase_with(id, key.as_ref(), &images, &|is_gone| erasing::written_of(journal, topic, is_gone))
    }

    /// What the journal has of images and marks of a topic.
    fn images_of(&self, topic: Filter<'_>) -> Result<Vec<(KindId, Vec<u8>)>> {
        let Some(images) = self.journal.kind_named(IMAGES_STREAM) else { return Ok(Vec::new()) };
        let prefix = image::topic_prefix(topic);
        // Those of registered folds are known by name, whatever of them can be read.
        let mut keys: BTreeSet<_> =
            keeping::keys_derived_from(&Local::over(&self.journal)?, topic)?.collect();
        let view = self.journal.view();
        // What cannot be read is of another topic, as far as anybody can know.
        each_left(
            |behind| view.region_behind(&Region::Kind(images.id), behind),
            0,
            |entry| {
                if entry.key().starts_with(&prefix) && !keys.contains(entry.key()) {
                    keys.insert(entry.key().to_vec());
                }
                Ok(())
            },
        )?;
        Ok(keys.into_iter().map(|key| (images.id, key)).collect())
    }
}
