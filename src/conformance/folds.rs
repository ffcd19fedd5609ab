//! A fold whose value tells any list of numbers from any other, and topics to fold.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backplane::{Backplane, Offset, Stamp};
use crate::codec;
use crate::conformance::random::Random;
use crate::conformance::trial::{Author, Trial, append};
use crate::conformance::{Broken, Held};
use crate::error::Result;
use crate::fold::handle::TopicFold;
use crate::fold::topic::FoldOptions;
use crate::fold::{At, Fold};
use crate::options::Options;
use crate::store::Store;
use crate::store::topic::{Topic, TopicHandle};

pub(super) const EVENTS: Topic<u64> = Topic::new("conformance-folds");

/// What a list of numbers comes to: any other list, or order, comes to something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digest {
    pub(super) count: u64,
    pub(super) chain: u64,
}

impl Digest {
    pub(super) fn take(&mut self, number: u64) {
        self.count += 1;
        self.chain = Random::new(self.chain ^ Random::new(number).next()).next();
    }

    pub(super) fn of(numbers: &[u64]) -> Self {
        let mut digest = Self::default();
        numbers.iter().for_each(|number| digest.take(*number));
        digest
    }
}

pub(super) struct Digests;
impl Fold for Digests {
    type State = Digest;
    type Event = u64;
    const NAME: &'static str = "conformance digest";
    const VERSION: u32 = 1;
    fn fold(digest: &mut Digest, number: u64, _: &At) {
        digest.take(number);
    }
}

/// A fold of the same name that comes to what the other one never can.
pub(super) struct Forged;
impl Fold for Forged {
    type State = Digest;
    type Event = u64;
    const NAME: &'static str = Digests::NAME;
    const VERSION: u32 = Digests::VERSION;
    fn fold(digest: &mut Digest, _: u64, _: &At) {
        digest.count += 1 << 40;
    }
}

pub(super) const NO_IMAGES: FoldOptions = FoldOptions::new().images_every(0);

/// A store on a backplane, with nothing of its own.
pub(super) fn store_on(plane: Arc<dyn Backplane>) -> Result<Store> {
    let journal = Options::new().segment_bytes(16 << 10).background(false).in_memory()?;
    Ok(Store::over(journal).with_backplane(plane))
}

/// What was appended to one topic.
pub(super) struct Sent {
    pub(super) key: Vec<u8>,
    pub(super) numbers: Vec<u64>,
    pub(super) offsets: Vec<Offset>,
    pub(super) stamps: Vec<Stamp>,
}

impl Sent {
    pub(super) fn new(trial: &mut Trial<'_>) -> Self {
        Self { key: trial.key(), numbers: Vec::new(), offsets: Vec::new(), stamps: Vec::new() }
    }

    pub(super) fn send(&mut self, trial: &mut Trial<'_>, plane: &dyn Backplane, author: &mut Author) -> Held {
        let number = trial.random.next();
        let (key, stamp) = (self.key.clone(), author.next(&self.key));
        let sent = append(plane, EVENTS.name(), stamp, &key, encoded(&number)?)?;
        self.numbers.push(number);
        self.offsets.push(sent.offset);
        self.stamps.push(stamp);
        Ok(())
    }

    pub(super) fn send_some(
        &mut self,
        trial: &mut Trial<'_>,
        plane: &dyn Backplane,
        author: &mut Author,
        count: usize,
    ) -> Held {
        (0..count).try_for_each(|_| self.send(trial, plane, author))
    }

    pub(super) fn last(&self) -> Offset {
        self.offsets.last().copied().unwrap_or_default()
    }

    pub(super) fn topic<'s>(&self, store: &'s Store) -> Result<TopicHandle<'s, u64>> {
        store.topic(EVENTS, &self.key)
    }

    /// Demands the value of everything that was sent.
    pub(super) fn expect_all<F: Fold<State = Digest>>(&self, trial: &Trial<'_>, fold: &TopicFold<F>) -> Held {
        self.expect_all_behind("all that was sent", trial, fold)
    }

    /// The same, and tells behind what it was demanded.
    pub(super) fn expect_all_behind<F: Fold<State = Digest>>(
        &self,
        what: &str,
        trial: &Trial<'_>,
        fold: &TopicFold<F>,
    ) -> Held {
        let wanted = Digest::of(&self.numbers);
        match fold.read_after(self.last(), trial.patience) {
            Ok(folded) if folded.value == wanted => Ok(()),
            other => Err(Broken(format!(
                "behind {what} a fold came to {other:?} for {wanted:?}: {:?}",
                fold.stats()
            ))),
        }
    }
}

pub(super) fn encoded<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode(EVENTS.name(), value, &mut bytes)?;
    Ok(bytes)
}
