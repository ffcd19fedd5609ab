//! What is at the edges of the contract: wakers and versions, what is refused, channels, and limits.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::backplane::{
    Append, Backplane, Broadcast, Feed, Filter, KEY_BYTES_MAX, Listener, Offset, PAYLOAD_BYTES_PORTABLE, Put,
    Revision, STEPS_MAX, STREAM_NAME_BYTES_MAX, Stamp, Step,
};
use crate::conformance::reading::Reading;
use crate::conformance::trial::{Author, Sent, Trial, append, careful, commit, offset_of};
use crate::conformance::{Broken, Held};
use crate::error::ErrorKind;

/// Who polls with another waker is woken by that one.
pub(super) fn wakes_the_last(
    trial: &mut Trial<'_>,
    plane: &dyn Backplane,
    author: &mut Author,
    key: &[u8],
) -> Held {
    let head = careful(|| plane.head(trial.topic(key)))?;
    let mut feed = careful(|| plane.subscribe(trial.topic(key), head))?;
    for _ in 0..WAKERS {
        let alarm = Arc::new(Alarm::default());
        match feed.poll(&Waker::from(Arc::clone(&alarm))) {
            Ok(None) => {}
            Ok(Some(record)) => demand!(record.offset() <= head, "{record:?} came before it was appended"),
            Err(error) if error.kind() == ErrorKind::Disconnected => {
                feed = careful(|| plane.subscribe(trial.topic(key), head))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let last = Arc::new(Alarm::default());
    let waits = matches!(feed.poll(&Waker::from(Arc::clone(&last))), Ok(None));
    trial.append(plane, author, key)?;
    demand!(
        !waits || last.rings_within(trial.patience),
        "the last waker of a feed is not woken by an append"
    );
    Ok(())
}

/// A feed is given so many wakers before the one that counts.
const WAKERS: usize = 3;

/// A waker that somebody waits for.
#[derive(Debug, Default)]
struct Alarm {
    rung: Mutex<bool>,
    rings: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.rung.lock() = true;
        self.rings.notify_all();
    }
}

impl Alarm {
    fn rings_within(&self, patience: Duration) -> bool {
        let mut rung = self.rung.lock();
        let _ = self.rings.wait_while_for(&mut rung, |rung| !*rung, patience);
        *rung
    }
}

/// A feed and a listener that wait for certain: they were asked, and there is nothing.
pub(super) struct Asleep {
    feed: Box<dyn Feed>,
    listener: Box<dyn Listener>,
    alarms: Vec<Arc<Alarm>>,
}

impl Asleep {
    pub(super) fn fall(trial: &Trial<'_>, plane: &dyn Backplane, behind: Offset) -> Result<Self, Broken> {
        let mut feed = careful(|| plane.subscribe(trial.all(), behind))?;
        let mut listener = careful(|| plane.listen(&trial.stream))?;
        let (reads, listens) = (Arc::new(Alarm::default()), Arc::new(Alarm::default()));
        let mut alarms = vec![Arc::clone(&listens)];
        // One that was disconnected waits for nothing.
        if matches!(feed.poll(&Waker::from(Arc::clone(&reads))), Ok(None)) {
            alarms.push(reads);
        }
        let heard = listener.poll(&Waker::from(listens))?;
        demand!(heard.is_none(), "nothing was told, and a listener heard {heard:?}");
        Ok(Self { feed, listener, alarms })
    }

    pub(super) fn have_been_woken_to_the_end(mut self, patience: Duration) -> Held {
        for alarm in &self.alarms {
            demand!(alarm.rings_within(patience), "who waits is not woken by a close");
        }
        let heard = self.listener.try_next();
        let is_end = heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed);
        demand!(is_end, "behind a close a listener hears {heard:?}");
        // Where there is nothing yet, as far as it knows, it may say so.
        let found = self.feed.try_next();
        demand!(!matches!(found, Ok(Some(_))), "behind a close a feed delivers {found:?}");
        Ok(())
    }
}

pub(super) fn has_schemas(reading: &mut Reading, schemas: &[u16]) -> Held {
    for schema in schemas {
        let record = reading.next()??;
        let found = record.schema();
        demand!(found == *schema, "{record:?} was appended with schema {schema}, and comes with {found}");
    }
    Ok(())
}

/// What no backplane takes is refused as `InvalidInput`, and nothing of it is done.
pub(super) fn refuses_what_it_has_to(trial: &mut Trial<'_>, plane: &dyn Backplane) -> Held {
    let (key, stamp) = (trial.key(), trial.author().next(b""));
    let (stream, too_long) = (trial.stream.clone(), vec![b'k'; KEY_BYTES_MAX + 1]);
    let good = Append::new(&stream, &key, b"x", stamp);
    let unnumbered = Append { stamp: Stamp { n: 0, ..stamp }, ..good };
    let reserved = Append { stream: "esker.reserved", ..good };
    let many = vec![Step::Append(good); STEPS_MAX + 1];
    let refused: [(&str, &[Step<'_>]); 7] = [
        ("no step", &[]),
        ("too many steps", &many),
        ("a stamp with the number 0", &[Step::Append(unnumbered)]),
        ("two steps of one key and stamp", &[Step::Append(good), Step::Append(good)]),
        ("a name of the library's own", &[Step::Append(reserved)]),
        ("an empty key", &[Step::Append(Append { key: b"", ..good })]),
        ("a key that is too long", &[Step::Append(Append { key: &too_long, ..good })]),
    ];
    for (what, steps) in refused {
        let answer = commit(plane, steps);
        let is_refused = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidInput);
        demand!(is_refused, "{what} is answered with {answer:?}");
    }
    let head = careful(|| plane.head(trial.topic(&key)))?;
    demand!(head == Offset::BEGINNING, "what was refused is done: the head is {head}");
    let end = careful(|| plane.head(trial.all()))?;
    let beyond = Offset::from_raw(end.raw().saturating_add(1 << 40));
    match careful(|| plane.subscribe(trial.all(), beyond)) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::EraChanged) => Ok(()),
        other => Err(Broken(format!(
            "behind {beyond}, where the log ends at {end}, a subscription is answered with {:?}",
            other.map(|feed| feed.position())
        ))),
    }
}

/// 26: each of those who listen to a channel hears every message that is told from then on, once and in order, or how many it
/// missed; none of another channel, and none of before.
pub(super) fn statement_26_a_channel_carries_what_is_told_on_it(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (own, other) = (trial.stream.clone(), format!("{}-other", trial.stream));
    let tell = |channel: &str, message: u32| careful(|| plane.broadcast(channel, &message.to_le_bytes()));
    let told = tell(&own, 0)?;
    demand!(told == 0, "nobody listens, and a broadcast was told to {told}");
    let mut listeners = vec![careful(|| plane.listen(&own))?, careful(|| plane.listen(&own))?];
    let mut elsewhere = careful(|| plane.listen(&other))?;
    let most = if trial.random.one_in(4) { 3000 } else { 20 };
    let count = u32::try_from(trial.random.between(1, most)).unwrap_or(1);
    for message in 1..=count {
        let told = tell(&own, message)?;
        demand!(told == 2, "two listen, and a broadcast was told to {told}");
    }
    let told = tell(&other, count + 1)?;
    demand!(told == 1, "one listens, and a broadcast was told to {told}");
    for listener in &mut listeners {
        let mut next = 1;
        while next <= count {
            match listener.next_timeout(trial.patience)? {
                Some(Broadcast::Missed(missed)) => next += u32::try_from(missed).unwrap_or(u32::MAX),
                Some(Broadcast::Message(bytes)) if *bytes == next.to_le_bytes() => next += 1,
                heard => {
                    return Err(Broken(format!("message {next} of {count} is next, and {heard:?} came")));
                }
            }
        }
        demand!(next == count + 1, "a listener missed {next} of {count} messages");
    }
    let heard = elsewhere.next_timeout(trial.patience)?;
    let message = Some(Broadcast::Message((count + 1).to_le_bytes().into()));
    demand!(heard == message, "a listener to another channel heard {heard:?} for {message:?}");
    drop(listeners.pop());
    let told = tell(&own, count + 2)?;
    demand!(told == 1, "one of two has gone, and a broadcast was told to {told}");
    Ok(plane.close()?)
}

/// 27: payloads, keys, names, commits and broadcasts are taken up to their limits, and come as they were.
pub(super) fn statement_27_what_every_backplane_takes_is_taken(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let mut author = trial.author();
    let begin = careful(|| plane.head(trial.all()))?;
    let mut key = trial.key();
    key.resize(KEY_BYTES_MAX, 0xff);
    let payload = trial.random.bytes(PAYLOAD_BYTES_PORTABLE);
    let mut sent = vec![append(&*plane, &trial.stream, author.next(&key), &key, payload.clone())?];
    let put = Put::new(&key, Revision::NEVER, Some(&payload), author.next(b"cell"));
    commit(&*plane, &[Step::Put(put)])?;
    let found = careful(|| plane.load(&key))?.bytes;
    demand!(found.as_ref() == Some(&payload), "a cell of {} bytes is not what it was", payload.len());
    let stamps: Vec<Stamp> = (0..STEPS_MAX).map(|_| author.next(&key)).collect();
    let small = |stamp: &Stamp| Step::Append(Append::new(&trial.stream, &key, b"small", *stamp));
    let done = commit(&*plane, &stamps.iter().map(small).collect::<Vec<_>>())?;
    for (at, stamp) in stamps.iter().enumerate() {
        let offset = offset_of(&done, at)?;
        sent.push(Sent { offset, key: key.clone(), payload: b"small".to_vec(), stamp: *stamp });
    }
    trial.read(&plane, None, begin).expect(&sent)?;
    trial.read(&plane, Some(&key), Offset::BEGINNING).expect(&sent)?;
    let name: String =
        trial.stream.chars().chain(std::iter::repeat('x')).take(STREAM_NAME_BYTES_MAX).collect();
    let longest = append(&*plane, &name, author.next(b"longest"), &key, b"x".to_vec())?;
    let head = careful(|| plane.head(Filter::topic(&name, &key)))?;
    demand!(head == longest.offset, "of a stream with a long name the head is {head} for {longest:?}");
    let mut listener = careful(|| plane.listen(&name))?;
    careful(|| plane.broadcast(&name, &payload))?;
    let heard = listener.next_timeout(trial.patience)?;
    let is_whole = matches!(&heard, Some(Broadcast::Message(bytes)) if **bytes == *payload);
    demand!(is_whole, "a message of {} bytes does not come as it was", payload.len());
    Ok(plane.close()?)
}
