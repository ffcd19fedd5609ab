//! Part B: what runs on a backplane, statement by statement: folds over topics, and consumers of them.
//!
//! Each is tried on a backplane as it is, and on the doubles that keep the contract; on those that break it
//! [`NO_OTHER_DIGEST`] and [`NOTHING_PASSED_OVER`] have to hold: a fold may halt, lag or begin anew, and its value is never another
//! than that of the first records of its topic, in their order; a consumer has done these, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backplane::{Backplane, Offset};
use crate::conformance::doubles::Fault;
use crate::conformance::folds::{Digest, Digests, EVENTS, Forged, NO_IMAGES, Sent, encoded, store_on};
use crate::conformance::tamper::Tampered;
use crate::conformance::trial::{Trial, append, careful};
use crate::conformance::{Broken, Held, Statement};
use crate::conformance::{consumers, versions, whatever};
use crate::error::ErrorKind;
use crate::fold::handle::TopicFold;
use crate::fold::topic::{FoldOptions, FoldStatus, Folded, HaltReason, Verify};
use crate::fold::{At, Fold};

/// Those of part B.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        number: 12,
        says: "interleaved keys never halt a fold, and one record that is missing always does",
        needs_compactor: false,
        run: statement_12_a_missing_record_is_always_found,
    },
    Statement {
        number: 13,
        says: "compaction drops nothing that a consumer has not done, running or not",
        needs_compactor: true,
        run: consumers::statement_13_compaction_waits_for_every_consumer,
    },
    Statement {
        number: 14,
        says: "a crash between an image and the compaction behind it loses nothing",
        needs_compactor: true,
        run: statement_14_a_crash_between_image_and_compaction,
    },
    Statement {
        number: 15,
        says: "a cold start takes the image and folds only what is behind it",
        needs_compactor: false,
        run: statement_15_a_cold_start_folds_only_the_tail,
    },
    Statement {
        number: 16,
        says: "a record of another type halts a fold, also behind a restart",
        needs_compactor: false,
        run: statement_16_another_schema_halts,
    },
    Statement {
        number: 17,
        says: "an image that is damaged or cannot be read is never taken for none",
        needs_compactor: true,
        run: statement_17_a_bad_image_is_never_nothing,
    },
    Statement {
        number: 18,
        says: "a gap is bridged by an image, and what was appended again is folded once",
        needs_compactor: false,
        run: statement_18_a_gap_is_bridged_and_a_repetition_left_out,
    },
    Statement {
        number: 19,
        says: "when the era changes a fold begins anew, and halts where it cannot",
        needs_compactor: true,
        run: statement_19_another_era,
    },
    Statement {
        number: 20,
        says: "what a later build wrote stops an earlier one, the later one goes on there, and all is done once",
        needs_compactor: false,
        run: versions::statement_20_versions_and_variants,
    },
    Statement {
        number: 21,
        says: "a fold that is no pure function halts for good, and its topic keeps everything",
        needs_compactor: true,
        run: statement_21_verification,
    },
    Statement {
        number: 22,
        says: "a consumer does all events, in order, and goes on where it was",
        needs_compactor: false,
        run: consumers::statement_22_order_backoff_commit_and_resume,
    },
    Statement {
        number: 23,
        says: "what fails as often as it may is a dead letter, once, and ends in the handler suspend",
        needs_compactor: false,
        run: consumers::statement_23_dead_letters_and_suspension,
    },
    Statement {
        number: 24,
        says: "of two processes of one name each moves on behind the other, and the place never goes back",
        needs_compactor: false,
        run: consumers::statement_24_two_processes_of_one_name,
    },
    Statement {
        number: 25,
        says: "a consumer comes to what a reader reads, through a hundred disconnects, and who never looks delays nobody",
        needs_compactor: false,
        run: consumers::statement_25_a_consumer_comes_to_what_a_reader_reads,
    },
];

/// What holds also on a backplane that breaks its contract.
pub const NO_OTHER_DIGEST: Statement = Statement {
    number: 28,
    says: "no fold has another value than that of the first records of its topic",
    needs_compactor: false,
    run: whatever::no_other_digest,
};

/// And so does this.
pub const NOTHING_PASSED_OVER: Statement = Statement {
    number: 29,
    says: "what a consumer has done is the first events of its topic, in their order",
    needs_compactor: false,
    run: consumers::nothing_is_passed_over,
};

/// And this, where what comes is told at all.
pub const NOTHING_STANDS_STILL: Statement = Statement {
    number: 30,
    says: "a fold and a consumer come to what was sent, or tell what is amiss",
    needs_compactor: false,
    run: whatever::nothing_stands_still_without_a_word,
};

/// What shows that a statement can fail: a double that breaks what it is about, and a part of what it then tells. What it
/// tells of anything else, as that nothing could be appended, shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Red {
    /// The statement.
    pub number: u8,
    /// What the double does.
    pub fault: Fault,
    /// Stands in what is [`Broken`].
    pub tells: &'static str,
}

const fn red(number: u8, fault: Fault, tells: &'static str) -> Red {
    Red { number, fault, tells }
}

/// At least one for each statement of part B, and for those that hold whatever happens.
pub const REDS: &[Red] = &[
    red(12, Fault::Unstamped, "a fold without it answers None"),
    red(13, Fault::CellsInMemory, "behind a crash it is compacted before"),
    red(14, Fault::ImagesInMemory, "behind a crash and a compaction a fold came to Err"),
    red(15, Fault::ImagesUnkept, "a cold start came to"),
    red(16, Fault::Aliased, "a fold that has to halt for [Schema] answers Ok"),
    red(17, Fault::UnreadIsNone, "a bad image went unnoticed"),
    red(18, Fault::Unstamped, "behind a gap a fold came to Ok"),
    red(18, Fault::RepeatsAsNew, "what was appended again was folded again"),
    red(19, Fault::SameEra, "over a change of the era it is read as"),
    red(20, Fault::Unversioned, "a fold that has to halt for [ForwardIncompatible] answers Ok"),
    red(21, Fault::ImagesInMemory, "an impure fold answers Ok"),
    red(22, Fault::CellsInMemory, "was committed, and was called again"),
    red(23, Fault::LettersUnkept, "dead letters are []"),
    red(24, Fault::BlindPut, "one that was overtaken was called for"),
    red(25, Fault::Aliased, "a reader to"),
    red(25, Fault::Backpressure, "waits for one who never looks"),
    red(25, Fault::FeedBackpressure, "waits for one who never looks"),
    red(28, Fault::Aliased, "a fold came to"),
    red(29, Fault::Aliased, "a consumer has done ["),
    red(30, Fault::Recreate, "events came, and a"),
];

/// Demands that a fold has halted for a reason, with the value of the first records or with none.
pub(super) fn is_halted<F: Fold<State = Digest>>(
    trial: &Trial<'_>,
    fold: &TopicFold<F>,
    behind: Offset,
    why: &[HaltReason],
    first: Option<&[u64]>,
) -> Held {
    match fold.read_after(behind, trial.patience) {
        Err(error) if error.kind() == ErrorKind::Halted => {}
        other => return Err(Broken(format!("a fold that has to halt for {why:?} answers {other:?}"))),
    }
    match (fold.read_within(trial.patience), first) {
        (Ok(Folded { value, status: FoldStatus::Halted(halt), .. }), Some(first)) => {
            demand!(why.contains(&halt.why), "it halted for {halt} and not for {why:?}");
            let wanted = Digest::of(first);
            demand!(value == wanted, "halted for {halt} it shows {value:?} for {wanted:?}");
            Ok(())
        }
        (Err(error), None) if error.kind() == ErrorKind::Halted => {
            // There is no value to find the reason beside.
            let told = error.to_string();
            demand!(
                why.iter().any(|why| told.contains(told_for(*why))),
                "it halted, as {told:?}, and not for {why:?}"
            );
            Ok(())
        }
        (other, _) => Err(Broken(format!("a fold that halted for {why:?} is read as {other:?}"))),
    }
}

/// What a fold tells that halted before it had a value.
const fn told_for(why: HaltReason) -> &'static str {
    match why {
        HaltReason::EraChanged => "the era of the backplane has changed",
        _ => "records were dropped, and no image bridges that",
    }
}

pub(super) fn compact(plane: &dyn Backplane, sent: &Sent, before: Offset) -> Held {
    let compactor = plane.compactor().ok_or_else(|| Broken("the compactor is gone".to_owned()))?;
    Ok(careful(|| compactor.compact(EVENTS.name(), &sent.key, before))?)
}

/// 12: records of other keys in between are no gaps; one record that is taken out, at the beginning or in the middle, halts a
/// fold right before it.
pub fn statement_12_a_missing_record_is_always_found(trial: &mut Trial<'_>) -> Held {
    let (tampered, plane) = trial.open_tampered()?;
    let mut authors = [trial.author(), trial.author()];
    let mut topics = [Sent::new(trial), Sent::new(trial), Sent::new(trial)];
    for _ in 0..trial.random.between(6, 24) {
        let (at, author) = (trial.random.below(topics.len()), trial.random.below(authors.len()));
        if let (Some(topic), Some(author)) = (topics.get_mut(at), authors.get_mut(author)) {
            topic.send(trial, &*plane, author)?;
        }
    }
    let [topic, others @ ..] = &mut topics;
    // At least one is there that others of its writer stand behind.
    topic.send_some(trial, &*plane, &mut authors[0], 2)?;
    let store = store_on(Arc::clone(&plane))?;
    for sent in others.iter().chain([&*topic]) {
        let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
        sent.expect_all(trial, &fold)?;
        demand!(fold.stats().gaps == 0, "without a gap it found some: {:?}", fold.stats());
    }
    let is_followed = |at: &usize| {
        let writer = topic.stamps.get(*at).map(|stamp| stamp.writer);
        topic.stamps.iter().skip(at + 1).any(|stamp| Some(stamp.writer) == writer)
    };
    let found: Vec<usize> = (0..topic.stamps.len()).filter(is_followed).collect();
    let missing = found.get(trial.random.below(found.len())).copied().unwrap_or_default();
    let gone = topic.offsets.get(missing).copied().unwrap_or_default();
    tampered.change(|rules| _ = rules.without.insert(gone));
    let store = store_on(Arc::clone(&plane))?;
    let fold = topic.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
    let is_error = fold.read_after(topic.last(), trial.patience).err().map(|error| error.kind());
    demand!(
        is_error == Some(ErrorKind::Halted),
        "record {missing} is missing, and a fold without it answers {is_error:?}"
    );
    let folded = fold.read_within(trial.patience)?;
    // Others of other writers may stand between it and the proof; where the log is one's own there are none.
    let FoldStatus::Halted(halt) = &folded.status else {
        return Err(Broken(format!("without record {missing} a fold is {:?}", folded.status)));
    };
    demand!(halt.why == HaltReason::Gap, "without record {missing} a fold halted for {halt}");
    let left: Vec<u64> = topic
        .numbers
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != missing)
        .map(|(_, number)| *number)
        .collect();
    let count = usize::try_from(folded.value.count).unwrap_or(usize::MAX);
    let is_known = left.get(..count).is_some_and(|first| Digest::of(first) == folded.value);
    demand!(is_known, "without record {missing} a fold came to {folded:?}");
    Ok(plane.close()?)
}

/// 14: an image was saved, and the process ends before the topic is compacted, or right behind that.
pub fn statement_14_a_crash_between_image_and_compaction(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    for _ in 0..trial.random.between(1, 3) {
        let count = trial.random.between(2, 9);
        sent.send_some(trial, &*plane, &mut author, count)?;
        let store = store_on(Arc::clone(&plane))?;
        let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
        sent.expect_all(trial, &fold)?;
        let image = careful(|| fold.save_image_within(trial.patience))?;
        drop((fold, store));
        let compacts_first = trial.random.one_in(2);
        if compacts_first {
            compact(&*plane, &sent, image)?;
        }
        plane = trial.kill(plane);
        let tail = trial.random.below(4);
        sent.send_some(trial, &*plane, &mut author, tail)?;
        if !compacts_first {
            compact(&*plane, &sent, image)?;
        }
        let store = store_on(Arc::clone(&plane))?;
        let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
        sent.expect_all_behind("a crash and a compaction", trial, &fold)?;
        let stats = fold.stats();
        demand!(stats.folded == tail as u64 && stats.images_used > 0, "{tail} behind the image: {stats:?}");
    }
    Ok(plane.close()?)
}

/// 15: shown with an image that the fold cannot have come to.
pub fn statement_15_a_cold_start_folds_only_the_tail(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let (before, behind) = (trial.random.between(1, 9), trial.random.below(9));
    sent.send_some(trial, &*plane, &mut author, before)?;
    {
        // In another store: one of them refuses a second type of the same name.
        let store = store_on(Arc::clone(&plane))?;
        let forged = sent.topic(&store)?.fold_with::<Forged>(NO_IMAGES)?;
        forged.read_after(sent.last(), trial.patience)?;
        careful(|| forged.save_image_within(trial.patience))?;
    }
    let store = store_on(Arc::clone(&plane))?;
    sent.send_some(trial, &*plane, &mut author, behind)?;
    let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
    let folded = fold.read_after(sent.last(), trial.patience)?;
    let mut wanted = Digest { count: (before as u64) << 40, chain: 0 };
    sent.numbers.iter().skip(before).for_each(|number| wanted.take(*number));
    demand!(folded.value == wanted, "a cold start came to {folded:?} for {wanted:?}");
    let stats = fold.stats();
    demand!(stats.folded == behind as u64 && stats.images_used == 1, "{behind} behind the image: {stats:?}");
    Ok(plane.close()?)
}

/// 16: a value of another type stands among the events.
pub fn statement_16_another_schema_halts(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.below(6);
    sent.send_some(trial, &*plane, &mut author, count)?;
    if trial.random.one_in(2) {
        let store = store_on(Arc::clone(&plane))?;
        let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
        fold.read_after(sent.last(), trial.patience)?;
        careful(|| fold.save_image_within(trial.patience))?;
    }
    let key = sent.key.clone();
    let stamp = author.next(&key);
    let other = append(&*plane, EVENTS.name(), stamp, &key, encoded(&"another type")?)?;
    let first = sent.numbers.clone();
    sent.send(trial, &*plane, &mut author)?;
    for _ in 0..3 {
        let store = store_on(Arc::clone(&plane))?;
        let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
        is_halted(trial, &fold, other.offset, &[HaltReason::Schema], Some(&first))?;
        drop((fold, store));
        plane = if trial.random.one_in(2) { trial.reopen(plane)? } else { trial.kill(plane) };
    }
    Ok(plane.close()?)
}

/// 17: over a whole history it is folded from the beginning, and counted; over one that is not whole a fold halts. What cannot
/// be read now is read later.
pub fn statement_17_a_bad_image_is_never_nothing(trial: &mut Trial<'_>) -> Held {
    let (tampered, plane) = trial.open_tampered()?;
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.between(3, 9);
    sent.send_some(trial, &*plane, &mut author, count)?;
    let store = store_on(Arc::clone(&plane))?;
    let cold = || sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES);
    let image = {
        let fold = cold()?;
        fold.read_after(sent.last(), trial.patience)?;
        careful(|| fold.save_image_within(trial.patience))?
    };
    let is_read_error = trial.random.one_in(2);
    let damage = |tampered: &Tampered| {
        tampered.change(|rules| match is_read_error {
            true => rules.failing_images = Some((u32::MAX, ErrorKind::Corrupt)),
            false => rules.flips_images = true,
        });
    };
    damage(&tampered);
    let fold = cold()?;
    sent.expect_all(trial, &fold)?;
    let stats = fold.stats();
    demand!(stats.refolded > 0 && stats.images_bad > 0, "a bad image went unnoticed: {stats:?}");
    drop(fold);
    compact(&*plane, &sent, image)?;
    is_halted(trial, &cold()?, sent.last(), &[HaltReason::Unbridgeable], None)?;
    tampered.change(|rules| (rules.flips_images, rules.failing_images) = (false, None));
    let fold = cold()?;
    sent.expect_all(trial, &fold)?;
    drop(fold);
    tampered.change(|rules| rules.failing_images = Some((2, ErrorKind::Io)));
    let fold = cold()?;
    sent.expect_all(trial, &fold)?;
    demand!(fold.stats().images_used == 1, "behind two failures it was not read again: {:?}", fold.stats());
    drop(fold);
    Ok(plane.close()?)
}

/// 18: what a feed leaves out is bridged by an image that somebody else saved behind it; what comes further on under a stamp
/// that was folded is left out.
pub fn statement_18_a_gap_is_bridged_and_a_repetition_left_out(trial: &mut Trial<'_>) -> Held {
    let (tampered, plane) = trial.open_tampered()?;
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.between(1, 6);
    sent.send_some(trial, &*plane, &mut author, count)?;
    let (store, clean) = (store_on(Arc::clone(&plane))?, store_on(tampered.untampered())?);
    let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
    sent.expect_all(trial, &fold)?;
    let stands = sent.last();
    tampered.change(|rules| rules.hold_behind = Some(stands));
    let count = trial.random.between(2, 6);
    sent.send_some(trial, &*plane, &mut author, count)?;
    {
        let other = sent.topic(&clean)?.fold_with::<Digests>(NO_IMAGES)?;
        sent.expect_all(trial, &other)?;
        careful(|| other.save_image_within(trial.patience))?;
    }
    let count_behind = trial.random.below(3);
    sent.send_some(trial, &*plane, &mut author, count_behind)?;
    let at = sent.offsets.len() - count_behind - count + trial.random.below(count - 1);
    let gone = sent.offsets.get(at).copied().unwrap_or_default();
    tampered.change(|rules| {
        rules.without.insert(gone);
        rules.hold_behind = None;
    });
    sent.expect_all_behind("a gap", trial, &fold)?;
    let stats = fold.stats();
    demand!(stats.gaps > 0 && stats.images_used > 0, "the gap at {gone} went unnoticed: {stats:?}");
    // An event that was folded, once more further on.
    let (mut stranger, repeated) = (trial.author(), sent.stamps.first().copied());
    let key = sent.key.clone();
    tampered.change(|rules| rules.hold_behind = Some(sent.last()));
    let stamp = stranger.next(&key);
    let again = append(&*plane, EVENTS.name(), stamp, &key, encoded(&sent.numbers.first())?)?;
    tampered.change(|rules| {
        rules.stamps.extend(repeated.map(|stamp| (again.offset, stamp)));
        rules.hold_behind = None;
    });
    let folded = fold.read_after(again.offset, trial.patience)?;
    let wanted = Digest::of(&sent.numbers);
    demand!(folded.value == wanted, "what was appended again was folded again: {folded:?} for {wanted:?}");
    Ok(plane.close()?)
}

/// 19: in either direction, live and while nobody was there.
pub fn statement_19_another_era(trial: &mut Trial<'_>) -> Held {
    let (tampered, plane) = trial.open_tampered()?;
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.between(3, 9);
    sent.send_some(trial, &*plane, &mut author, count)?;
    let store = store_on(Arc::clone(&plane))?;
    let cold = |sent: &Sent| sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES);
    let fold = cold(&sent)?;
    sent.expect_all(trial, &fold)?;
    let image = careful(|| fold.save_image_within(trial.patience))?;
    // Live, over a whole history: what offsets were handed out before does not count any more.
    tampered.change(|rules| rules.era_shift = 1);
    // One that is not there yet, so that it is waited for.
    let behind = Offset::from_raw(sent.last().raw() + 1_000_000);
    match fold.read_after(behind, trial.patience) {
        Err(error) if error.kind() == ErrorKind::EraChanged => {}
        other => return Err(Broken(format!("over a change of the era it is read as {other:?}"))),
    }
    let again = cold(&sent)?;
    // Not `read`: that tells what fails again and again while there is no value, as it may here for a while.
    let read = again.read_after(Offset::BEGINNING, trial.patience)?;
    demand!(read.value == Digest::of(&sent.numbers), "in another era it came to {read:?}");
    demand!(again.stats().era_resets == 1, "it was reset {} times", again.stats().era_resets);
    drop((fold, again));
    // While nobody was there: the image is of another era, and the records before it are gone.
    compact(&*plane, &sent, image)?;
    is_halted(trial, &cold(&sent)?, sent.last(), &[HaltReason::EraChanged], None)?;
    // Whoever says so takes what is gone for lost, for all and for ever, and that is counted.
    careful(|| sent.topic(&store)?.begin_anew::<Digests>())?;
    let left = sent.offsets.iter().zip(&sent.numbers).filter(|(offset, _)| **offset >= image);
    let mut left: Vec<u64> = left.map(|(_, number)| *number).collect();
    let known = sent.numbers.len();
    sent.send_some(trial, &*plane, &mut author, count)?;
    left.extend(sent.numbers.iter().skip(known));
    for _ in 0..2 {
        let fold = cold(&sent)?;
        let folded = fold.read_after(sent.last(), trial.patience)?;
        demand!(folded.value == Digest::of(&left), "begun anew with {left:?} it came to {folded:?}");
        let begun = fold.stats().begun_anew;
        demand!(begun == 1, "it was begun anew once, and counted {begun} times");
        careful(|| fold.save_image())?;
    }
    match careful(|| sent.topic(&store)?.begin_anew::<Digests>()) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {}
        other => return Err(Broken(format!("a fold that goes on is begun anew: {other:?}"))),
    }
    tampered.change(|rules| rules.era_shift = 0);
    // The image of this one may have gone for newer ones.
    let fold = cold(&sent)?;
    match fold.read_after(sent.last(), trial.patience) {
        Err(error) if error.kind() == ErrorKind::Halted => {
            is_halted(trial, &fold, sent.last(), &[HaltReason::EraChanged], None)?;
        }
        _ => sent.expect_all(trial, &fold)?,
    }
    drop(fold);
    Ok(plane.close()?)
}

static CALLS: AtomicU64 = AtomicU64::new(0);

/// No pure function.
struct Impure;
impl Fold for Impure {
    type State = Digest;
    type Event = u64;
    const NAME: &'static str = "conformance impure";
    const VERSION: u32 = 1;
    fn fold(digest: &mut Digest, number: u64, _: &At) {
        digest.take(number ^ CALLS.fetch_add(1, Ordering::Relaxed));
    }
}

/// 21: a fold that counts its calls is found by folding twice, also behind a restart, also by who does not fold twice; a pure
/// one comes to the same with and without.
pub fn statement_21_verification(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.between(2, 9);
    sent.send_some(trial, &*plane, &mut author, count)?;
    {
        let store = store_on(Arc::clone(&plane))?;
        for verify in [Verify::Nothing, Verify::Images, Verify::Each] {
            let options = FoldOptions::new().images_every(2).verify(verify);
            let fold = sent.topic(&store)?.fold_with::<Digests>(options)?;
            sent.expect_all(trial, &fold)?;
        }
        let verify = if trial.random.one_in(2) { Verify::Each } else { Verify::Images };
        let options = FoldOptions::new().images_every(1).verify(verify);
        let fold = sent.topic(&store)?.fold_with::<Impure>(options)?;
        has_diverged(trial, &fold, sent.last())?;
    }
    for _ in 0..2 {
        plane = trial.kill(plane);
        let store = store_on(Arc::clone(&plane))?;
        let topic = sent.topic(&store)?;
        has_diverged(trial, &topic.fold_with::<Impure>(NO_IMAGES)?, sent.last())?;
        let refused = careful(|| topic.compact(sent.last())).map_err(|error| error.kind());
        demand!(refused == Err(ErrorKind::Halted), "behind a divergence a compaction answers {refused:?}");
        sent.expect_all(trial, &topic.fold_with::<Digests>(NO_IMAGES)?)?;
    }
    Ok(plane.close()?)
}

fn has_diverged(trial: &Trial<'_>, fold: &TopicFold<Impure>, behind: Offset) -> Held {
    let error = match fold.read_after(behind, trial.patience) {
        Err(error) if error.kind() == ErrorKind::Halted => error,
        other => return Err(Broken(format!("an impure fold answers {other:?}"))),
    };
    let told = error.to_string();
    demand!(told.contains("came to two values"), "an impure fold halted for another reason: {told}");
    Ok(())
}
