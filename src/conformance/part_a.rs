//! Part A: the contract of a backplane, statement by statement.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::scope;
use std::time::{Duration, Instant};

use crate::backplane::{Append, Backplane, Broadcast, Offset, Put, Revision, Stamp, Step, StepDone};
use crate::conformance::edges::{
    Asleep, has_schemas, refuses_what_it_has_to, statement_26_a_channel_carries_what_is_told_on_it,
    statement_27_what_every_backplane_takes_is_taken, wakes_the_last,
};
use crate::conformance::trial::{Author, Sent, Trial, append, careful, commit, offset_of};
use crate::conformance::{Broken, Held, Statement};
use crate::error::{Error, ErrorKind, Result};

/// So many do the same at a time.
const RACERS: usize = 24;

/// All of part A.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        number: 1,
        says: "offsets strictly rise, the head tracks them, and concurrent appends are distinct",
        needs_compactor: false,
        run: statement_1_offsets_rise_and_heads_track,
    },
    Statement {
        number: 2,
        says: "a feed delivers exactly what lies behind its place, in order, then what comes",
        needs_compactor: false,
        run: statement_2_a_feed_delivers_exactly_what_lies_behind,
    },
    Statement {
        number: 3,
        says: "an append owns its bytes",
        needs_compactor: false,
        run: statement_3_an_append_owns_its_bytes,
    },
    Statement {
        number: 4,
        says: "of those who swap a cell at one revision one wins, and a revision never comes again",
        needs_compactor: false,
        run: statement_4_a_swap_has_one_winner,
    },
    Statement {
        number: 5,
        says: "a close ends everything within 100 ms, and a second one does nothing",
        needs_compactor: false,
        run: statement_5_a_close_ends_everything,
    },
    Statement {
        number: 6,
        says: "what was acknowledged is there after a crash",
        needs_compactor: false,
        run: statement_6_what_was_acknowledged_survives_a_crash,
    },
    Statement {
        number: 7,
        says: "a step is done once, however often it is repeated, and what is refused is not done",
        needs_compactor: false,
        run: statement_7_a_step_is_done_once,
    },
    Statement {
        number: 8,
        says: "an append that expects a head is done only behind that",
        needs_compactor: false,
        run: statement_8_an_append_is_done_only_behind_what_it_expects,
    },
    Statement {
        number: 9,
        says: "a floor hides what stands before it, never goes back, and leaves the newest record",
        needs_compactor: true,
        run: statement_9_a_floor_rises_and_leaves_the_newest,
    },
    Statement {
        number: 10,
        says: "a floor is durable before anything goes",
        needs_compactor: true,
        run: statement_10_a_floor_is_durable,
    },
    Statement {
        number: 11,
        says: "whoever would need what stands below a floor is told that it is lost, at once",
        needs_compactor: true,
        run: statement_11_below_the_floor_is_lost,
    },
    Statement {
        number: 26,
        says: "who listens to a channel hears what is told on it, in order, and nothing else",
        needs_compactor: false,
        run: statement_26_a_channel_carries_what_is_told_on_it,
    },
];

/// What the limits say, beside part A: of a backplane of ordinary size. (A [`Local`](crate::backplane::Local) one whose
/// segments are small takes less.)
pub const LIMITS: Statement = Statement {
    number: 27,
    says: "what every backplane takes is taken",
    needs_compactor: false,
    run: statement_27_what_every_backplane_takes_is_taken,
};

/// 1: offsets strictly increase along a stream, the heads follow them and never go back, also over a reopening; of 24
/// who append at a time each has an offset of its own.
pub fn statement_1_offsets_rise_and_heads_track(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let era = careful(|| plane.era())?;
    let many = trial.random.between(1, 4);
    let (keys, mut author) = (trial.keys(many), trial.author());
    for key in &keys {
        let head = careful(|| plane.head(trial.topic(key)))?;
        demand!(head == Offset::BEGINNING, "a topic of which there is nothing has its head at {head}");
    }
    let mut last = careful(|| plane.head(trial.all()))?;
    let count = trial.random.between(4, 24);
    for sent in trial.append_some(&*plane, &mut author, &keys, count)? {
        demand!(sent.offset > last, "offset {} came behind {last}", sent.offset);
        last = sent.offset;
    }
    for _ in 0..trial.random.between(1, 8) {
        let key = trial.random.one_of(&keys).cloned().unwrap_or_default();
        let sent = trial.append(&*plane, &mut author, &key)?;
        demand!(sent.offset > last, "offset {} came behind {last}", sent.offset);
        last = sent.offset;
        let heads = [careful(|| plane.head(trial.topic(&key)))?, careful(|| plane.head(trial.all()))?];
        demand!(heads == [last; 2], "behind an append at {last} the heads are {heads:?}");
    }
    let (offsets, greatest) = race_appends(trial, &plane, &keys)?;
    demand!(offsets.len() == RACERS, "{RACERS} appends at a time got {} offsets", offsets.len());
    demand!(offsets.first().is_some_and(|first| *first > last), "one of {offsets:?} is not behind {last}");
    let head = careful(|| plane.head(trial.all()))?;
    demand!(head == greatest, "behind {greatest} the head is {head}");
    let plane = trial.reopen(plane)?;
    let head = careful(|| plane.head(trial.all()))?;
    demand!(head == greatest, "behind {greatest} and a reopening the head is {head}");
    let key = keys.first().cloned().unwrap_or_default();
    let sent = trial.append(&*plane, &mut author, &key)?;
    demand!(sent.offset > greatest, "offset {} came behind {greatest} and a reopening", sent.offset);
    let now = careful(|| plane.era())?;
    demand!(now == era, "the era was {era}, and is {now} behind a reopening");
    Ok(plane.close()?)
}

fn race_appends(
    trial: &mut Trial<'_>,
    plane: &Arc<dyn Backplane>,
    keys: &[Vec<u8>],
) -> Result<(BTreeSet<Offset>, Offset), Broken> {
    let racers: Vec<(Author, Vec<u8>, Vec<u8>)> = (0..RACERS)
        .map(|_| {
            let key = trial.random.one_of(keys).cloned().unwrap_or_default();
            (trial.author(), key, trial.payload())
        })
        .collect();
    let stream = &trial.stream;
    let results: Vec<Result<Sent, Broken>> = scope(|threads| {
        let run = |(mut author, key, payload): (Author, Vec<u8>, Vec<u8>)| {
            threads.spawn(move || append(&**plane, stream, author.next(&key), &key, payload))
        };
        let handles: Vec<_> = racers.into_iter().map(run).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| panicked())).collect()
    });
    let sent: Vec<Sent> = results.into_iter().collect::<Result<_, _>>()?;
    let offsets: BTreeSet<Offset> = sent.iter().map(|sent| sent.offset).collect();
    let greatest = offsets.last().copied().unwrap_or_default();
    for key in keys {
        let own = sent.iter().filter(|sent| sent.key == *key).map(|sent| sent.offset).max();
        let head = careful(|| plane.head(trial.topic(key)))?;
        demand!(own.is_none_or(|own| own == head), "behind {own:?} the head of its topic is {head}");
    }
    Ok((offsets, greatest))
}

fn panicked<T>() -> Result<T, Broken> {
    Err(Broken("a call panicked".to_owned()))
}

/// 2: a subscription delivers every record behind its offset, in order, those that come later too; of a topic, only its own.
pub fn statement_2_a_feed_delivers_exactly_what_lies_behind(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let begin = careful(|| plane.head(trial.all()))?;
    let many = trial.random.between(2, 4);
    let (keys, mut author) = (trial.keys(many), trial.author());
    let count = trial.random.between(6, 24);
    let mut sent = trial.append_some(&*plane, &mut author, &keys, count)?;
    let from = match trial.random.below(sent.len() + 1) {
        0 => begin,
        at => sent.get(at - 1).map_or(begin, |sent| sent.offset),
    };
    let mut feeds = vec![trial.read(&plane, None, from)];
    feeds.extend(keys.iter().map(|key| trial.read(&plane, Some(key), from)));
    // Some are there before what comes, some only then.
    for feed in &mut feeds {
        if trial.random.one_in(2) {
            feed.subscribe()?;
        }
    }
    let live = trial.random.between(2, 12);
    let own = keys.clone();
    sent.extend(trial.append_some(&*plane, &mut author, &own, live)?);
    // Behind the last of each nothing else may have come.
    for key in &keys {
        sent.push(trial.append(&*plane, &mut author, key)?);
    }
    let behind: Vec<&Sent> = sent.iter().filter(|sent| sent.offset > from).collect();
    for (at, feed) in feeds.iter_mut().enumerate() {
        let key = at.checked_sub(1).and_then(|at| keys.get(at));
        feed.expect(behind.iter().filter(|sent| key.is_none_or(|key| sent.key == *key)).copied())?;
    }
    // What comes while somebody waits wakes them: by the last waker that was given.
    let Some(key) = keys.first() else { return Ok(()) };
    wakes_the_last(trial, &*plane, &mut author, key)?;
    let mut waits = feeds.swap_remove(1);
    waits.next()??;
    let late = scope(|threads| {
        let waiting = threads.spawn(move || {
            let mut waits = waits;
            waits.next()
        });
        let sent = trial.append(&*plane, &mut author, key);
        (sent, waiting.join().unwrap_or_else(|_| panicked()))
    });
    let (sent, found) = (late.0?, late.1??);
    demand!(found.offset() == sent.offset, "who waited for {sent:?} got {found:?}");
    Ok(plane.close()?)
}

/// 3: what is delivered are the bytes of the append, and their version, whatever became of the buffer since, and whatever was
/// appended behind it.
pub fn statement_3_an_append_owns_its_bytes(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let begin = careful(|| plane.head(trial.all()))?;
    let (key, mut author) = (trial.key(), trial.author());
    let (mut sent, mut schemas) = (Vec::new(), Vec::new());
    let mut buffer = Vec::new();
    for _ in 0..trial.random.between(3, 12) {
        buffer.clear();
        buffer.extend(trial.payload());
        let stamp = author.next(&key);
        let schema = u16::try_from(trial.random.below(1 << 16)).unwrap_or(u16::MAX);
        let append = Append::new(&trial.stream, &key, &buffer, stamp).schema(schema);
        let done = commit(&*plane, &[Step::Append(append)])?;
        schemas.push(schema);
        sent.push(Sent { offset: offset_of(&done, 0)?, key: key.clone(), payload: buffer.clone(), stamp });
        buffer.iter_mut().for_each(|byte| *byte ^= 0xff);
    }
    trial.read(&plane, None, begin).expect(&sent)?;
    trial.read(&plane, Some(&key), Offset::BEGINNING).expect(&sent)?;
    has_schemas(&mut trial.read(&plane, Some(&key), Offset::BEGINNING), &schemas)?;
    let (cell, mut value) = (trial.key(), trial.payload());
    let put = Put::new(&cell, Revision::NEVER, Some(&value), author.next(&cell));
    commit(&*plane, &[Step::Put(put)])?;
    let kept = value.clone();
    value.iter_mut().for_each(|byte| *byte ^= 0xff);
    let found = careful(|| plane.load(&cell))?.bytes;
    demand!(found.as_ref() == Some(&kept), "a cell holds {found:?} for {kept:?}");
    let plane = trial.reopen(plane)?;
    trial.read(&plane, Some(&key), Offset::BEGINNING).expect(&sent)?;
    has_schemas(&mut trial.read(&plane, Some(&key), Offset::BEGINNING), &schemas)?;
    Ok(plane.close()?)
}

fn conflicts<T>(result: Result<T>, what: &str) -> Held {
    match result {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(Broken(format!("{what} is answered with {error} for a conflict"))),
        Ok(_) => Err(Broken(format!("{what} is done"))),
    }
}

/// 4: a cell changes only from the revision that is expected, one of 24 wins, and emptying it does not reset it.
pub fn statement_4_a_swap_has_one_winner(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (cell, mut author) = (trial.key(), trial.author());
    let never = careful(|| plane.load(&cell))?;
    demand!(never.revision == Revision::NEVER && never.bytes.is_none(), "a cell that is new is {never:?}");
    let mut known = Revision::NEVER;
    for round in 0..trial.random.between(2, 6) {
        let value = (round == 0 || !trial.random.one_in(3)).then(|| trial.payload());
        let put = Put::new(&cell, known, value.as_deref(), author.next(&cell));
        let done = commit(&*plane, &[Step::Put(put)])?.revision(0);
        demand!(done.is_some_and(|done| done > known), "a change of revision {known} comes to {done:?}");
        let stale = Put::new(&cell, known, Some(b"stale"), author.next(&cell));
        conflicts(commit(&*plane, &[Step::Put(stale)]), "a swap at a revision of before")?;
        known = done.unwrap_or_default();
        let found = careful(|| plane.load(&cell))?;
        demand!(
            found.bytes == value && found.revision == known,
            "a cell is {found:?} behind {value:?} at {known}"
        );
    }
    let fresh = Put::new(&cell, Revision::NEVER, Some(b"new"), author.next(&cell));
    conflicts(commit(&*plane, &[Step::Put(fresh)]), "making a cell that is there")?;
    let racers: Vec<(Stamp, Vec<u8>)> =
        (0..RACERS).map(|at| (trial.author().next(&cell), vec![u8::try_from(at).unwrap_or(0); 3])).collect();
    let results: Vec<Result<Revision>> = scope(|threads| {
        let race = |(stamp, value): &(Stamp, Vec<u8>)| {
            let put = Put::new(&cell, known, Some(value), *stamp);
            commit(&*plane, &[Step::Put(put)]).map(|done| done.revision(0).unwrap_or_default())
        };
        let handles: Vec<_> = racers.iter().map(|racer| threads.spawn(move || race(racer))).collect();
        handles
            .into_iter()
            .map(|handle| {
                handle.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Reaction, "swap a cell")))
            })
            .collect()
    });
    let mut winners = Vec::new();
    for (result, (_, value)) in results.into_iter().zip(&racers) {
        match result {
            Ok(revision) => winners.push((revision, value.clone())),
            lost => conflicts(lost, "a swap that others raced for")?,
        }
    }
    let [(revision, value)] = winners.as_slice() else {
        return Err(Broken(format!("{} of {RACERS} who swapped at one revision won", winners.len())));
    };
    let plane = trial.reopen(plane)?;
    let found = careful(|| plane.load(&cell))?;
    let is_his = found.bytes.as_ref() == Some(value) && found.revision == *revision;
    demand!(is_his, "a cell is {found:?}, and {value:?} won at {revision}");
    Ok(plane.close()?)
}

/// 5: a close ends calls and feeds and listeners, those that wait too, within [`Settings::close_within`](super::Settings); a second
/// one does nothing, and what was acknowledged stays.
pub fn statement_5_a_close_ends_everything(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (key, mut author) = (trial.key(), trial.author());
    let sent = trial.append(&*plane, &mut author, &key)?;
    let mut fastest = close_under_those_who_wait(trial, &plane, &sent)?;
    let stamp = author.next(&key);
    let late = [
        commit(&*plane, &[Step::Append(Append::new(&trial.stream, &key, b"late", stamp))]).err(),
        careful(|| plane.head(trial.all())).err(),
        careful(|| plane.lowest_retained(trial.topic(&key))).err(),
        careful(|| plane.subscribe(trial.all(), Offset::BEGINNING)).err(),
        careful(|| plane.load(&key)).err(),
        careful(|| plane.era()).err(),
        careful(|| plane.listen(&trial.stream)).err(),
        careful(|| plane.broadcast(&trial.stream, b"late")).err(),
    ];
    for (at, error) in late.iter().enumerate() {
        let kind = error.as_ref().map(Error::kind);
        demand!(kind == Some(ErrorKind::Closed), "call {at} behind a close is answered with {kind:?}");
    }
    plane.close()?;
    drop(plane);
    let plane = trial.open();
    trial.read(&plane, Some(&key), Offset::BEGINNING).expect([&sent])?;
    let head = careful(|| plane.head(trial.topic(&key)))?;
    demand!(head == sent.offset, "an append behind the close was done: the head is {head}");
    plane.close()?;
    drop(plane);
    for _ in 1..CLOSES {
        if fastest <= trial.close_within {
            break;
        }
        let plane = trial.open();
        fastest = fastest.min(close_under_those_who_wait(trial, &plane, &sent)?);
    }
    let within = trial.close_within;
    demand!(fastest <= within, "the fastest of {CLOSES} closes took {fastest:?}, and it may take {within:?}");
    Ok(())
}

/// A close that takes too long, as it may where the machine does something else, is tried so often.
const CLOSES: usize = 5;

/// Closes it under a feed and a listener that wait in threads, and others that wait to be woken. Answers how long it took until all of
/// them knew.
fn close_under_those_who_wait(
    trial: &Trial<'_>,
    plane: &Arc<dyn Backplane>,
    sent: &Sent,
) -> Result<Duration, Broken> {
    let mut feed = careful(|| plane.subscribe(trial.all(), sent.offset))?;
    let mut listener = careful(|| plane.listen(&trial.stream))?;
    let told = careful(|| plane.broadcast(&trial.stream, b"now"))?;
    demand!(told == 1, "one listens, and a broadcast was told to {told}");
    let heard = listener.next_timeout(trial.patience)?;
    let message = Some(Broadcast::Message(b"now"[..].into()));
    demand!(heard == message, "a listener heard {heard:?} for {message:?}");
    let asleep = Asleep::fall(trial, &**plane, sent.offset)?;
    let (patience, all) = (trial.patience, trial.all());
    let (begun, ended): (Instant, [Option<ErrorKind>; 2]) = scope(|threads| {
        let (ready, is_ready) = channel();
        let also_ready = ready.clone();
        let reads = threads.spawn(move || {
            let _ = ready.send(());
            loop {
                match feed.next_timeout(patience) {
                    Err(error) if error.kind() == ErrorKind::Disconnected => {
                        match careful(|| plane.subscribe(all, sent.offset)) {
                            Ok(again) => feed = again,
                            Err(error) => return Some(error.kind()),
                        }
                    }
                    Err(error) => return Some(error.kind()),
                    // What is delivered again.
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                }
            }
        });
        let listens = threads.spawn(move || {
            let _ = also_ready.send(());
            listener.next_timeout(patience).err().map(|error| error.kind())
        });
        (0..2).for_each(|_| _ = is_ready.recv());
        let begun = Instant::now();
        let closed = plane.close();
        let ends = [reads, listens].map(|thread| thread.join().unwrap_or_default());
        closed.map(|()| (begun, ends))
    })?;
    demand!(
        ended.iter().all(|end| *end == Some(ErrorKind::Closed)),
        "behind a close, the feed and the listener that waited ended with {ended:?}"
    );
    asleep.have_been_woken_to_the_end(trial.patience)?;
    Ok(begun.elapsed())
}

/// 6: behind a crash every acknowledged append and change is there, in order, and nothing else.
pub fn statement_6_what_was_acknowledged_survives_a_crash(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let begin = careful(|| plane.head(trial.all()))?;
    let (keys, mut author) = (trial.keys(3), trial.author());
    let cell = trial.key();
    let (mut sent, mut revision) = (Vec::new(), Revision::NEVER);
    for _ in 0..trial.random.between(1, 3) {
        let count = trial.random.between(1, 12);
        sent.extend(trial.append_some(&*plane, &mut author, &keys, count)?);
        let value = sent.len().to_string();
        let put = Put::new(&cell, revision, Some(value.as_bytes()), author.next(&cell));
        revision = commit(&*plane, &[Step::Put(put)])?.revision(0).unwrap_or_default();
        plane = trial.kill(plane);
        trial.read(&plane, None, begin).expect(&sent)?;
        let found = careful(|| plane.load(&cell))?;
        let is_his = found.bytes.as_deref() == Some(value.as_bytes()) && found.revision == revision;
        demand!(is_his, "behind a crash a cell is {found:?} for {value:?} at {revision}");
        let head = careful(|| plane.head(trial.all()))?;
        let last = sent.last().map(|sent| sent.offset).unwrap_or_default();
        demand!(head == last, "behind a crash the head is {head} for {last}");
    }
    Ok(plane.close()?)
}

/// 7: a stamp that comes again is answered as the first time, alone or in another commit, from one or many, also behind a
/// reopening or a crash; of other content it is refused, under another key it is another.
pub fn statement_7_a_step_is_done_once(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let begin = careful(|| plane.head(trial.all()))?;
    let (keys, mut author) = (trial.keys(2), trial.author());
    let count = trial.random.between(2, 10);
    let mut sent = trial.append_some(&*plane, &mut author, &keys, count)?;
    let cell = trial.key();
    let put = Put::new(&cell, Revision::NEVER, Some(b"v"), author.next(&cell));
    let revision = commit(&*plane, &[Step::Put(put)])?.revision(0);

    // Many repeat what is there, among it something new.
    let (key, stamp) =
        (keys.first().cloned().unwrap_or_default(), author.next(keys.first().map_or(b"", |key| key)));
    let fresh = Append::new(&trial.stream, &key, b"fresh", stamp);
    let old = sent.get(trial.random.below(sent.len())).cloned();
    let Some(old) = old else { return Ok(()) };
    let steps = [Step::Append(append_of(trial, &old)), Step::Append(fresh), Step::Put(put)];
    let answers: Vec<Result<_>> = scope(|threads| {
        let handles: Vec<_> = (0..4).map(|_| threads.spawn(|| commit(&*plane, &steps))).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    demand!(answers.len() == 4, "a call panicked");
    let offset = answers.first().and_then(|done| done.offset(1)).unwrap_or_default();
    for done in &answers {
        let found = (done.offset(0), done.offset(1), done.revision(2));
        let first = (Some(old.offset), Some(offset), revision);
        demand!(found == first, "what came again is answered with {found:?} for {first:?}");
        let old_done = done.steps.first();
        let is_said = matches!(old_done, Some(StepDone::Appended { repeated: true, .. }));
        demand!(is_said, "what came again is said to be {old_done:?}");
    }
    sent.push(Sent { offset, key: key.clone(), payload: b"fresh".to_vec(), stamp });

    let other = Append { payload: b"something else", ..append_of(trial, &old) };
    match commit(&*plane, &[Step::Append(other)]) {
        Err(error) if error.kind() == ErrorKind::KeyReused => {}
        other => {
            return Err(Broken(format!(
                "a stamp that comes again with other content is answered with {other:?}"
            )));
        }
    }
    refuses_what_it_has_to(trial, &*plane)?;
    // The same writer and number under another key.
    let elsewhere = trial.key();
    sent.push(append(&*plane, &trial.stream, old.stamp, &elsewhere, b"elsewhere".to_vec())?);

    let mut plane = plane;
    for crashes in [false, true] {
        plane = if crashes { trial.kill(plane) } else { trial.reopen(plane)? };
        for sent in &sent {
            let again = commit(&*plane, &[Step::Append(append_of(trial, sent))])?;
            let first = StepDone::Appended { offset: sent.offset, repeated: true };
            demand!(again.steps == [first], "{sent:?} came again, and is {again:?} (a crash: {crashes})");
        }
        let again = commit(&*plane, &[Step::Put(put)])?;
        let first = StepDone::Put { revision: revision.unwrap_or_default(), repeated: true };
        demand!(again.steps == [first], "a change came again, and is {again:?} for {first:?}");
    }
    // All of them once, and nothing that was refused.
    let last = trial.key();
    sent.push(trial.append(&*plane, &mut author, &last)?);
    trial.read(&plane, None, begin).expect(&sent)?;
    Ok(plane.close()?)
}

fn append_of<'a>(trial: &'a Trial<'_>, sent: &'a Sent) -> Append<'a> {
    Append::new(&trial.stream, &sent.key, &sent.payload, sent.stamp)
}

/// 8: an append that names the newest record is done behind that one only, and one of 24 wins; a commit that fails has done
/// nothing where commits are atomic, else a first part of it, which its repetition completes.
pub fn statement_8_an_append_is_done_only_behind_what_it_expects(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (key, other, mut author) = (trial.key(), trial.key(), trial.author());
    let mut head = Offset::BEGINNING;
    for _ in 0..trial.random.between(2, 6) {
        // Other topics do not count.
        trial.append(&*plane, &mut author, &other)?;
        let (payload, late) = (trial.payload(), trial.author().next(&key));
        let next = Append::new(&trial.stream, &key, &payload, author.next(&key)).expect(head);
        let done = offset_of(&commit(&*plane, &[Step::Append(next)])?, 0)?;
        let again = commit(&*plane, &[Step::Append(next)])?.offset(0);
        demand!(again == Some(done), "its own success is in the way of a repetition: {again:?} for {done}");
        let stale = Append { stamp: late, ..next };
        conflicts(commit(&*plane, &[Step::Append(stale)]), "an append behind a head of before")?;
        head = done;
    }
    let racers: Vec<Stamp> = (0..RACERS).map(|_| trial.author().next(&key)).collect();
    let stream = &trial.stream;
    let results: Vec<Result<_>> = scope(|threads| {
        let race = |stamp: Stamp| {
            commit(&*plane, &[Step::Append(Append::new(stream, &key, b"mine", stamp).expect(head))])
        };
        let handles: Vec<_> = racers.iter().map(|stamp| threads.spawn(move || race(*stamp))).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    demand!(results.len() == RACERS, "a call panicked");
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    demand!(won.len() == 1, "{} of {RACERS} who appended behind one head won", won.len());
    lost.into_iter().try_for_each(|lost| conflicts(lost, "an append that others raced for"))?;

    // Two steps, of which the second is refused at first.
    let before = careful(|| plane.head(trial.topic(&other)))?;
    let cell = trial.key();
    let first = Append::new(&trial.stream, &other, b"first", author.next(&other));
    let too_early = Put::new(&cell, Revision::from_raw(u64::MAX), Some(b"v"), author.next(&cell));
    conflicts(commit(&*plane, &[Step::Append(first), Step::Put(too_early)]), "a swap at a revision to come")?;
    let behind = careful(|| plane.head(trial.topic(&other)))?;
    let is_done = behind > before;
    demand!(
        is_done != plane.atomic(),
        "atomic: {}, and of a commit that failed the first step: {is_done}",
        plane.atomic()
    );
    let swap = Put { expect: Revision::NEVER, ..too_early };
    let done = commit(&*plane, &[Step::Append(first), Step::Put(swap)])?;
    demand!(
        !is_done || done.offset(0) == Some(behind),
        "its repetition appended again: {done:?} for {behind}"
    );
    Ok(plane.close()?)
}

/// 9: a floor is no lower than before, hides what stands before it in its topic alone, and never the newest record.
pub fn statement_9_a_floor_rises_and_leaves_the_newest(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (keys, mut author) = (trial.keys(2), trial.author());
    let begin = careful(|| plane.head(trial.all()))?;
    let count = trial.random.between(8, 20);
    let mut sent = trial.append_some(&*plane, &mut author, &keys, count)?;
    for key in &keys {
        sent.push(trial.append(&*plane, &mut author, key)?);
    }
    let Some(key) = keys.first() else { return Ok(()) };
    let own: Vec<Offset> = sent.iter().filter(|sent| sent.key == *key).map(|sent| sent.offset).collect();
    let head = own.last().copied().unwrap_or_default();
    let mut floor = own.first().copied().unwrap_or_default();
    let beyond = careful(|| plane.head(trial.all()))?;
    let mut calls = vec![Offset::BEGINNING, Offset::from_raw(1), floor];
    for _ in 0..trial.random.between(1, 4) {
        let at = sent.get(trial.random.below(sent.len())).map_or(head, |sent| sent.offset);
        calls.extend([at, at]);
    }
    if trial.random.one_in(2) {
        calls.push(beyond.max(Offset::from_raw(beyond.raw() + 1000)));
    }
    for before in calls {
        compact(trial, &*plane, key, before)?;
        floor = floor.max(own.iter().copied().find(|offset| *offset >= before).unwrap_or(head));
        let lowest = careful(|| plane.lowest_retained(trial.topic(key)))?;
        demand!(lowest == floor, "compacted before {before}, the lowest of {own:?} is {lowest} for {floor}");
        let now = careful(|| plane.head(trial.topic(key)))?;
        demand!(now == head, "compacted before {before}, the head is {now} for {head}");
    }
    let is_left = |sent: &&Sent| sent.key != *key || sent.offset >= floor;
    let end = trial.append(&*plane, &mut author, key)?;
    let left: Vec<&Sent> = sent.iter().filter(is_left).chain([&end]).collect();
    trial.read(&plane, None, begin).expect(left.iter().copied())?;
    for topic in &keys {
        let of_it = left.iter().filter(|sent| sent.key == *topic).copied();
        let from = if topic == key { floor } else { Offset::BEGINNING };
        trial.read(&plane, Some(topic), from).expect(of_it.filter(|sent| sent.offset > from))?;
    }
    Ok(plane.close()?)
}

fn compact(trial: &Trial<'_>, plane: &dyn Backplane, key: &[u8], before: Offset) -> Held {
    let compactor = plane.compactor().ok_or_else(|| Broken("the compactor is gone".to_owned()))?;
    Ok(careful(|| compactor.compact(&trial.stream, key, before))?)
}

fn is_lost(trial: &Trial<'_>, plane: &Arc<dyn Backplane>, key: &[u8], from: Offset, floor: Offset) -> Held {
    match trial.read(plane, Some(key), from).next()? {
        Err(error) if error.kind() == ErrorKind::Lost => {
            let told = error.floor();
            demand!(told == Some(floor.raw()), "lost behind {from}, with floor {told:?} for {floor}");
            Ok(())
        }
        Err(error) => {
            Err(Broken(format!("below floor {floor}, a place behind {from} is answered with {error}")))
        }
        Ok(record) => Err(Broken(format!("below floor {floor}, a place behind {from} delivers {record:?}"))),
    }
}

/// 10: behind a compaction that was acknowledged, and a crash, its floor is there: nobody takes the rest for the whole.
pub fn statement_10_a_floor_is_durable(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let (key, mut author) = (trial.key(), trial.author());
    let mut sent = Vec::new();
    for _ in 0..trial.random.between(1, 3) {
        for _ in 0..trial.random.between(3, 8) {
            sent.push(trial.append(&*plane, &mut author, &key)?);
        }
        let at = trial.random.between(sent.len() - 2, sent.len() - 1);
        let floor = sent.get(at).map(|sent| sent.offset).unwrap_or_default();
        compact(trial, &*plane, &key, floor)?;
        plane = if trial.random.one_in(4) { trial.reopen(plane)? } else { trial.kill(plane) };
        is_lost(trial, &plane, &key, Offset::BEGINNING, floor)?;
        let lowest = careful(|| plane.lowest_retained(trial.topic(&key)))?;
        demand!(lowest == floor, "behind a crash the lowest is {lowest} for {floor}");
        trial.read(&plane, Some(&key), floor).expect(sent.iter().filter(|sent| sent.offset > floor))?;
        // Another one is not lower than what it was before the crash.
        compact(trial, &*plane, &key, sent.first().map(|sent| sent.offset).unwrap_or_default())?;
        is_lost(trial, &plane, &key, Offset::BEGINNING, floor)?;
    }
    Ok(plane.close()?)
}

/// 11: a subscription that would begin below the floor, and a feed that stands there, are `Lost` with the floor; whoever stands
/// at it or behind it goes on.
pub fn statement_11_below_the_floor_is_lost(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (key, mut author) = (trial.key(), trial.author());
    let mut sent = Vec::new();
    for _ in 0..trial.random.between(5, 14) {
        sent.push(trial.append(&*plane, &mut author, &key)?);
    }
    let at = trial.random.between(2, sent.len() - 1);
    let floor = sent.get(at).map(|sent| sent.offset).unwrap_or_default();
    // One that stands before what is dropped, and one that does not.
    let (mut stands_below, mut stands_behind) =
        (trial.read(&plane, Some(&key), Offset::BEGINNING), trial.read(&plane, Some(&key), floor));
    stands_below.expect(sent.iter().take(1))?;
    stands_behind.subscribe()?;
    compact(trial, &*plane, &key, floor)?;
    let told = stands_below.next()?;
    let kind = told.as_ref().err().map(Error::kind);
    demand!(kind == Some(ErrorKind::Lost), "a feed below the floor {floor} is told {told:?}");
    is_lost(trial, &plane, &key, Offset::BEGINNING, floor)?;
    for below in sent.iter().take(at - 1) {
        is_lost(trial, &plane, &key, below.offset, floor)?;
    }
    sent.push(trial.append(&*plane, &mut author, &key)?);
    let behind: Vec<&Sent> = sent.iter().filter(|sent| sent.offset > floor).collect();
    stands_behind.expect(behind.iter().copied())?;
    trial.read(&plane, Some(&key), floor).expect(behind.iter().copied())?;
    // One less is a place before it, as `subscribe_oldest` relies on.
    let left = sent.iter().filter(|sent| sent.offset >= floor);
    trial.read(&plane, Some(&key), Offset::from_raw(floor.raw() - 1)).expect(left)?;
    Ok(plane.close()?)
}
