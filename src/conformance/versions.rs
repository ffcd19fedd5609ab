//! Builds of several ages that read one topic.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backplane::{Append, Backplane, Offset, Step};
use crate::conformance::consumers::{options, stop, wait, wait_until_at};
use crate::conformance::folds::{Digest, NO_IMAGES, encoded, store_on};
use crate::conformance::part_b::is_halted;
use crate::conformance::trial::{Author, Trial, careful};
use crate::conformance::{Broken, Held};
use crate::error::Result;
use crate::fold::consumer::delivery::Delivery;
use crate::fold::consumer::handle::Consumer;
use crate::fold::consumer::info::ConsumerState;
use crate::fold::topic::{FoldOptions, HaltReason};
use crate::fold::{At, Fold};
use crate::store::Store;
use crate::store::topic::Topic;

const NAME: &str = "conformance-versions";

#[derive(Serialize, Deserialize)]
enum Earlier {
    Number(u64),
}

#[derive(Serialize, Deserialize)]
enum Tolerant {
    Number(u64),
    #[serde(other)]
    Other,
}

/// Of a build between the two: it has not yet a second number.
#[derive(Serialize, Deserialize)]
enum Middle {
    Pair { first: u64 },
}

/// As all of them, with a field more and a variant more.
#[derive(Serialize, Deserialize)]
enum Later {
    Number(u64),
    Pair {
        first: u64,
        #[serde(default)]
        second: u64,
    },
    Nothing,
}

macro_rules! fold_of_versions {
    ($fold:ident, $event:ty, $name:literal, $taken:expr) => {
        struct $fold;
        impl Fold for $fold {
            type State = Digest;
            type Event = $event;
            const NAME: &'static str = $name;
            const VERSION: u32 = 1;
            fn fold(digest: &mut Digest, event: $event, _: &At) {
                let taken: fn($event) -> Vec<u64> = $taken;
                taken(event).into_iter().for_each(|number| digest.take(number));
            }
        }
    };
}
fold_of_versions!(EarlierFold, Earlier, "conformance versions", |Earlier::Number(number)| vec![number]);
fold_of_versions!(LaterFold, Later, "conformance versions", |event| event.numbers());
fold_of_versions!(TolerantFold, Tolerant, "conformance tolerant", |event| match event {
    Tolerant::Number(number) => vec![number],
    Tolerant::Other => vec![],
});

impl Later {
    fn numbers(&self) -> Vec<u64> {
        match self {
            Self::Number(number) => vec![*number],
            Self::Pair { first, second } => vec![*first, *second],
            Self::Nothing => vec![],
        }
    }
}

/// What a topic got from builds of several ages.
struct Written {
    key: Vec<u8>,
    /// What every build knows.
    numbers: Vec<u64>,
    /// The first that an earlier build does not know.
    unknown: Offset,
    /// What a later build makes of that.
    more: Vec<u64>,
    is_variant: bool,
    offsets: Vec<Offset>,
}

impl Written {
    fn write(trial: &mut Trial<'_>, plane: &dyn Backplane) -> Result<Self, Broken> {
        let (key, mut author) = (trial.key(), trial.author());
        let numbers: Vec<u64> = (0..trial.random.between(1, 5)).map(|_| trial.random.next()).collect();
        let mut offsets = Vec::new();
        for number in &numbers {
            offsets.push(send(plane, &mut author, &key, &Later::Number(*number), 1)?);
        }
        // A variant that is new, as it is now or as it was at first, or a version that is.
        let (unknown, more, is_variant) = match trial.random.below(3) {
            0 => (send(plane, &mut author, &key, &Later::Pair { first: 7, second: 8 }, 1)?, vec![7, 8], true),
            1 => (send(plane, &mut author, &key, &Middle::Pair { first: 7 }, 1)?, vec![7, 0], true),
            _ => (send(plane, &mut author, &key, &Later::Number(9), 2)?, vec![9], false),
        };
        offsets.extend([unknown, send(plane, &mut author, &key, &Later::Nothing, 2)?]);
        Ok(Self { key, numbers, unknown, more, is_variant, offsets })
    }

    fn last(&self) -> Offset {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// All that a later build reads.
    fn all(&self) -> Vec<u64> {
        self.numbers.iter().chain(&self.more).copied().collect()
    }
}

fn send<T: Serialize>(
    plane: &dyn Backplane,
    author: &mut Author,
    key: &[u8],
    event: &T,
    schema: u16,
) -> Result<Offset, Broken> {
    let (payload, stamp) = (encoded(event)?, author.next(key));
    let append = Append::new(NAME, key, &payload, stamp).schema(schema);
    let done = careful(|| plane.commit(&[Step::Append(append)]))?;
    Ok(done.offset(0).unwrap_or_default())
}

/// 20: an earlier build stops at a variant, or a version, that it does not know, and does so again behind a restart; a later
/// one goes on from there, and folds and does everything once. Who asks for it leaves out what it does not know; a field that
/// was not there yet has the value that its type says.
pub(super) fn statement_20_versions_and_variants(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let written = Written::write(trial, &*plane)?;
    let (key, unknown) = (&written.key, written.unknown);
    let is_stopped = |trial: &Trial<'_>, fold| {
        is_halted(trial, &fold, unknown, &[HaltReason::ForwardIncompatible], Some(&written.numbers))
    };
    let effects = Effects::default();
    for _ in 0..2 {
        let store = store_on(Arc::clone(&plane))?;
        let topic = store.topic(Topic::<Earlier>::new(NAME), key)?;
        is_stopped(trial, topic.fold_with::<EarlierFold>(NO_IMAGES)?)?;
        effects.stop_before(trial, &store, &written)?;
        drop(store);
        plane = trial.kill(plane);
    }
    {
        // An earlier build with an image behind what it knows.
        let store = store_on(Arc::clone(&plane))?;
        let topic = store.topic(Topic::<Earlier>::new(NAME), key)?;
        is_stopped(trial, topic.fold_with::<EarlierFold>(FoldOptions::new().images_every(1))?)?;
    }
    let store = store_on(Arc::clone(&plane))?;
    let later = store.topic(Topic::<Later>::new(NAME).version(2), key)?.fold_with::<LaterFold>(NO_IMAGES)?;
    let folded = later.read_after(written.last(), trial.patience)?;
    demand!(folded.value == Digest::of(&written.all()), "the later build came to {folded:?}");
    effects.go_on(trial, &store, &written)?;
    let tolerant = store.topic(Topic::<Tolerant>::new(NAME).version(2), key)?;
    let folded = tolerant.fold_with::<TolerantFold>(NO_IMAGES)?.read_after(written.last(), trial.patience)?;
    let known = if written.is_variant { written.numbers.clone() } else { written.all() };
    demand!(folded.value == Digest::of(&known), "who leaves out what it does not know came to {folded:?}");
    Ok(plane.close()?)
}

/// What handlers of both builds did, in order.
#[derive(Clone, Default)]
struct Effects(Arc<Mutex<Vec<Effect>>>);

/// Where, and what was made of it.
type Effect = (Offset, Vec<u64>);

impl Effects {
    fn consume<T: DeserializeOwned + 'static>(
        &self,
        store: &Store,
        written: &Written,
        version: u16,
        taken: fn(&T) -> Vec<u64>,
    ) -> Result<Consumer> {
        let effects = self.clone();
        let topic = store.topic(Topic::<T>::new(NAME).version(version), &written.key)?;
        topic.on_event("conformance versions", options(), move |delivery: &Delivery<'_, T>| {
            effects.0.lock().push((delivery.offset(), taken(&delivery.event)));
            Ok(())
        })
    }

    /// An earlier build does what it knows, and stands before what it does not.
    fn stop_before(&self, trial: &Trial<'_>, store: &Store, written: &Written) -> Held {
        let consumer = self.consume::<Earlier>(store, written, 1, |Earlier::Number(number)| vec![*number])?;
        wait(trial, "a consumer that is blocked", || {
            Ok(consumer.status().state == ConsumerState::Blocked { offset: written.unknown })
        })?;
        stop(trial, &consumer)?;
        self.are(written, written.numbers.len())
    }

    /// A later build goes on there.
    fn go_on(&self, trial: &Trial<'_>, store: &Store, written: &Written) -> Held {
        let consumer = self.consume::<Later>(store, written, 2, Later::numbers)?;
        wait_until_at(trial, &consumer, written.last())?;
        stop(trial, &consumer)?;
        self.are(written, written.offsets.len())
    }

    /// Demands that the first events were done, each once.
    fn are(&self, written: &Written, count: usize) -> Held {
        let each = written.numbers.iter().map(|number| vec![*number]).chain([written.more.clone(), vec![]]);
        let wanted: Vec<_> = written.offsets.iter().copied().zip(each).take(count).collect();
        let found = self.0.lock();
        demand!(*found == wanted, "consumers of both builds did {found:?} for {wanted:?}");
        Ok(())
    }
}
