//! Broadcasts: messages to whoever listens now, kept nowhere.
//!
//! Each channel that somebody listens to has a ring of bounded length, which all its listeners read at
//! their own pace. Who falls out of it is told how many messages that were.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// A channel keeps so many messages for those who listen slowly,
const RING_MESSAGES: usize = 1024;
/// and so many bytes of them; the newest message whatever its size.
const RING_BYTES: usize = 4 << 20;

/// All channels of one place.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    channels: BTreeMap<Arc<str>, Channel>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Channel {
    ring: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// How many messages have left the ring.
    left: u64,
    listeners: BTreeMap<u64, Ear>,
    next_listener: u64,
}

#[derive(Debug)]
struct Ear {
    /// Which message is next, counted from the channel's first.
    next: u64,
    waker: Option<Waker>,
    /// Set: whoever gave it out is closed.
    ended: Arc<AtomicBool>,
}

impl Ear {
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// What a listener comes to.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(Arc<[u8]>),
    /// So many left the ring before they were heard.
    Missed(u64),
    Nothing,
    Closed,
}

/// One listener to a channel.
#[derive(Debug)]
pub(crate) struct Listening {
    hub: Arc<Hub>,
    channel: Arc<str>,
    number: u64,
}

impl Hub {
    /// Sends a message to all who listen to a channel. Answers how many those are; `None`: closed.
    pub(crate) fn send(&self, channel: &str, bytes: &[u8]) -> Option<usize> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let Some(channel) = state.channels.get_mut(channel) else { return Some(0) };
        channel.push(bytes.into());
        let count = channel.listeners.values().filter(|ear| !ear.has_ended()).count();
        let wakers: Vec<_> = channel.listeners.values_mut().filter_map(|ear| ear.waker.take()).collect();
        drop(state);
        // Somebody else's code, under no lock.
        wakers.into_iter().for_each(Waker::wake);
        Some(count)
    }

    /// How many listen to a channel.
    #[cfg(feature = "nats")]
    pub(crate) fn listeners(&self, channel: &str) -> usize {
        self.state.lock().channels.get(channel).map_or(0, |channel| channel.listeners.len())
    }

    /// Listens to what is sent from now on, until `ended` is set and [told](Self::tell_ended); `None`: closed.
    pub(crate) fn listen(self: &Arc<Self>, name: &str, ended: &Arc<AtomicBool>) -> Option<Listening> {
        let mut state = self.state.lock();
        if state.closed || ended.load(Ordering::Acquire) {
            return None;
        }
        let name: Arc<str> = name.into();
        let channel = state.channels.entry(Arc::clone(&name)).or_default();
        let number = channel.next_listener;
        channel.next_listener += 1;
        let next = channel.left + channel.ring.len() as u64;
        channel.listeners.insert(number, Ear { next, waker: None, ended: Arc::clone(ended) });
        Some(Listening { hub: Arc::clone(self), channel: name, number })
    }

    /// Nobody hears anything more.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let wakers = state.wakers_of(|_| true);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes those whose end has come: they look, and hear of it.
    pub(crate) fn tell_ended(&self) {
        let wakers = self.state.lock().wakers_of(Ear::has_ended);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn wakers_of(&mut self, which: impl Fn(&Ear) -> bool) -> Vec<Waker> {
        let ears = self.channels.values_mut().flat_map(|channel| channel.listeners.values_mut());
        ears.filter(|ear| which(ear)).filter_map(|ear| ear.waker.take()).collect()
    }
}

impl Channel {
    fn push(&mut self, message: Arc<[u8]>) {
        self.bytes += message.len();
        self.ring.push_back(message);
        while self.ring.len() > RING_MESSAGES || self.bytes > RING_BYTES && self.ring.len() > 1 {
            let gone = self.ring.pop_front();
            self.bytes -= gone.map_or(0, |message| message.len());
            self.left += 1;
        }
    }
}

impl Listening {
    /// The next message. Where there is none now, the waker is woken when there may be one.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Heard {
        let mut state = self.hub.state.lock();
        if state.closed {
            return Heard::Closed;
        }
        let Some(channel) = state.channels.get_mut(&self.channel) else { return Heard::Closed };
        let Some(ear) = channel.listeners.get_mut(&self.number) else { return Heard::Closed };
        if ear.has_ended() {
            return Heard::Closed;
        }
        if ear.next < channel.left {
            let missed = channel.left - ear.next;
            ear.next = channel.left;
            return Heard::Missed(missed);
        }
        let at = usize::try_from(ear.next - channel.left).unwrap_or(usize::MAX);
        match channel.ring.get(at) {
            Some(message) => {
                ear.next += 1;
                Heard::Message(Arc::clone(message))
            }
            None => {
                // What was there is dropped outside the lock: it is somebody else's code.
                let before = ear.waker.replace(waker.clone());
                drop(state);
                drop(before);
                Heard::Nothing
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        let Some(channel) = state.channels.get_mut(&self.channel) else { return };
        let gone = channel.listeners.remove(&self.number);
        if channel.listeners.is_empty() {
            state.channels.remove(&self.channel);
        }
        drop(state);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Arc<AtomicBool> {
        Arc::default()
    }

    fn heard(listening: &mut Listening) -> Heard {
        listening.poll(Waker::noop())
    }

    #[test]
    fn who_falls_out_of_the_ring_is_told_how_many_and_goes_on_with_the_oldest_that_is_left() {
        let hub = Arc::new(Hub::default());
        assert_eq!(hub.send("a", b"nobody listens"), Some(0));
        let (mut slow, mut fast) = (hub.listen("a", &open()).unwrap(), hub.listen("a", &open()).unwrap());
        for n in 0..RING_MESSAGES as u64 + 10 {
            assert_eq!(hub.send("a", &n.to_le_bytes()), Some(2));
            assert!(matches!(heard(&mut fast), Heard::Message(m) if *m == n.to_le_bytes()));
        }
        assert!(matches!(heard(&mut slow), Heard::Missed(10)));
        assert!(matches!(heard(&mut slow), Heard::Message(m) if *m == 10u64.to_le_bytes()));
        assert!(matches!(heard(&mut fast), Heard::Nothing));
        drop((slow, fast));
        assert!(hub.state.lock().channels.is_empty(), "a channel without listeners is forgotten");
    }

    #[test]
    fn a_ring_holds_a_bounded_number_of_bytes_and_the_newest_message_whatever_its_size() {
        let hub = Arc::new(Hub::default());
        let mut listening = hub.listen("a", &open()).unwrap();
        (0..3).for_each(|_| _ = hub.send("a", &vec![1; RING_BYTES]));
        assert!(matches!(heard(&mut listening), Heard::Missed(2)));
        assert!(matches!(heard(&mut listening), Heard::Message(m) if m.len() == RING_BYTES));
    }

    #[test]
    fn a_close_ends_listeners_and_nothing_is_sent_behind_it() {
        let hub = Arc::new(Hub::default());
        let mut listening = hub.listen("a", &open()).unwrap();
        hub.close();
        assert!(matches!(heard(&mut listening), Heard::Closed));
        assert!(hub.send("a", b"").is_none() && hub.listen("a", &open()).is_none());
    }

    #[test]
    fn who_ends_alone_is_woken_and_not_counted_and_the_others_hear_on() {
        let (hub, mine) = (Arc::new(Hub::default()), open());
        let (mut ends, mut stays) = (hub.listen("a", &mine).unwrap(), hub.listen("a", &open()).unwrap());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(matches!(ends.poll(&waker), Heard::Nothing));
        mine.store(true, Ordering::Release);
        hub.tell_ended();
        assert!(woken.0.load(Ordering::Acquire) && matches!(heard(&mut ends), Heard::Closed));
        assert_eq!(hub.send("a", b"m"), Some(1));
        assert!(matches!(heard(&mut stays), Heard::Message(_)) && hub.listen("a", &mine).is_none());
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }
}
