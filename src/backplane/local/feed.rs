//! A feed over the journal: a reader of the kind, or of one entity, that holds nothing back.
//!
//! What compaction drops under it was hidden by a floor, of which it is told by the floor itself; or the kind was told to
//! keep less: then it is `Lost`.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Waker;

use parking_lot::Mutex;

use crate::backplane::feed::{Feed, has_ended};
use crate::backplane::local::{floors, region_of, stream_of, told};
use crate::backplane::name::{Filter, Offset, closed};
use crate::backplane::record::StreamRecord;
use crate::error::Result;
use crate::format::system::KindInfo;
use crate::id::{KindId, Seq};
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::entry::OwnedEntry;
use crate::journal::region::Region;
use crate::journal::subscriber::{Item, SubscribeOptions, Subscriber};
use crate::journal::view::View;
use crate::journal::waiting::{Reading, Stopper};

/// The feeds that a backplane has given out, to be ended with it.
#[derive(Debug, Default)]
pub(super) struct OpenFeeds {
    state: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    ended: bool,
    /// Those whose feed is gone are let go of when the list has doubled.
    feeds: Vec<(Weak<()>, Stopper)>,
    look_at: usize,
}

impl OpenFeeds {
    fn add(&self, feed: &Arc<()>, stopper: Stopper) {
        let mut state = self.state.lock();
        if state.ended {
            stopper.stop();
        }
        if state.feeds.len() >= state.look_at {
            state.feeds.retain(|(feed, _)| feed.strong_count() > 0);
            state.look_at = state.feeds.len() * 2 + 16;
        }
        state.feeds.push((Arc::downgrade(feed), stopper));
    }

    pub(super) fn end(&self) {
        let feeds = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.feeds)
        };
        // Under no lock: it wakes somebody.
        feeds.iter().for_each(|(_, stopper)| stopper.stop());
    }
}

pub(super) struct LocalFeed {
    core: Arc<Core>,
    reader: Subscriber,
    stopper: Stopper,
    /// The kind of the stream, once it has one: whoever waits for a stream does not make it, or what it is made as would be
    /// decided by who knows least about it.
    kind: Option<KindId>,
    /// The kind of the floors of the stream, once it has any.
    floors: Option<KindId>,
    /// How many floors had been put when it looked at them last.
    floors_seen: u64,
    stream: String,
    key: Option<Vec<u8>>,
    position: Offset,
    /// It waits to be woken, unless it has been.
    lies: bool,
    /// How often something had been put in place when it looked at the log.
    changes: u64,
    /// It ended with an error.
    ended: bool,
    _open: Arc<()>,
}

impl LocalFeed {
    pub(super) fn begin(
        journal: &Journal,
        open: &OpenFeeds,
        filter: Filter<'_>,
        from: Offset,
    ) -> Result<Self> {
        let core = Arc::clone(journal.core());
        // Before the look: what is put meanwhile is looked at again.
        let floors_seen = core.floors_put.load(Ordering::Acquire);
        let reader = journal.subscribe_with(Region::all(), SubscribeOptions::new())?;
        let (token, stopper) = (Arc::new(()), reader.stopper());
        let mut feed = Self {
            core,
            reader,
            stopper: stopper.clone(),
            kind: None,
            floors: None,
            floors_seen,
            stream: filter.stream.to_owned(),
            key: filter.key.map(<[u8]>::to_vec),
            position: from,
            lies: false,
            changes: 0,
            ended: false,
            _open: Arc::clone(&token),
        };
        feed.find_kind()?;
        open.add(&token, stopper);
        Ok(feed)
    }

    /// The kind of the stream, if it has one. Then the reader stands in it, else at the end of the log, where it is woken
    /// by whatever comes.
    fn find_kind(&mut self) -> Result<Option<KindId>> {
        if self.kind.is_some() {
            return Ok(self.kind);
        }
        let core = Arc::clone(&self.core);
        // Nothing is dropped between the look and the place from which it is told what is.
        let _steady = core.compacting.steady.read();
        // The log first: of a kind that comes to be behind this look there is nothing in it.
        let view = told(&core);
        let Some(info) = core.registry.read().named(&self.stream).cloned() else {
            let newest = view.last_seq()?.map_or(0, Seq::get);
            self.reader.begin_behind(Region::all(), view, newest, newest);
            return Ok(None);
        };
        let kind = stream_of(&info)?;
        self.stand_in(&view, &info, self.position)?;
        self.kind = Some(kind);
        Ok(self.kind)
    }

    /// Stands at a place in the log as it is in a view, while nothing is put in place.
    fn stand_in(&mut self, view: &View, info: &KindInfo, from: Offset) -> Result<()> {
        self.changes = self.core.compacting.changes.load(Ordering::Acquire);
        self.reader.begin_behind(region_of(info.id, self.filter()), view.clone(), from.raw(), from.raw());
        let floors = self.find_floors();
        let floor = floors::check_not_hidden(view, (info.id, floors), self.filter(), from)?;
        floors::check_not_dropped(view, info, self.filter(), from, floor)
    }

    /// What was erased since it looked is shown to it no more, though its view still has it.
    fn look_anew_behind_compaction(&mut self, kind: KindId) -> Result<()> {
        if self.core.compacting.changes.load(Ordering::Acquire) == self.changes {
            return Ok(());
        }
        let core = Arc::clone(&self.core);
        let _steady = core.compacting.steady.read();
        let info = core.known_kind(kind, "read on in")?;
        // What it has passed over since its last record it does not need.
        let looked = self.position.max(Offset::from_raw(self.reader.looked()));
        self.stand_in(&told(&core), &info, looked)
    }

    fn filter(&self) -> Filter<'_> {
        Filter { stream: &self.stream, key: self.key.as_deref() }
    }

    fn step(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        if std::mem::take(&mut self.lies) {
            self.reader.place().get_up();
        }
        loop {
            if let Some(record) = self.advance()? {
                return Ok(Some(record));
            }
            // The bell before the bed: who wakes us finds it.
            self.reader.place().give_bell(Some(Arc::new(waker.clone())));
            if self.stopper.is_stopped() || !self.reader.place().lie_down()? {
                continue;
            }
            // A floor wakes nobody: whoever has something behind it to read is not asleep.
            self.lies = true;
            return Ok(None);
        }
    }

    /// The next record that is shown, if there is one.
    fn advance(&mut self) -> Result<Option<StreamRecord>> {
        loop {
            if self.stopper.is_stopped() {
                return Err(closed("read on"));
            }
            let Some(kind) = self.find_kind()? else {
                // What came meanwhile is of other streams, or the first of this one.
                if self.reader.advance()? {
                    continue;
                }
                return Ok(None);
            };
            self.look_anew_behind_compaction(kind)?;
            if self.have_floors_moved() {
                self.check_not_hidden(kind)?;
            }
            if !self.reader.advance()? {
                return Ok(None);
            }
            let entry: OwnedEntry = match self.reader.item() {
                Item::Entry(entry) => entry.to_owned(),
                Item::Missed(_) => {
                    self.check_not_dropped(kind)?;
                    continue;
                }
            };
            if self.is_hidden(&entry)? {
                continue;
            }
            let record = StreamRecord::of_entry(entry);
            self.position = record.offset();
            return Ok(Some(record));
        }
    }

    fn have_floors_moved(&mut self) -> bool {
        let put = self.core.floors_put.load(Ordering::Acquire);
        std::mem::replace(&mut self.floors_seen, put) != put
    }

    fn find_floors(&mut self) -> Option<KindId> {
        if self.floors.is_none() {
            self.floors = floors::kind_of(&self.core, &self.stream);
        }
        self.floors
    }

    /// For one topic: what is hidden behind the place of the feed is lost to it.
    fn check_not_hidden(&mut self, kind: KindId) -> Result<()> {
        if self.find_floors().is_none() || self.key.is_none() {
            return Ok(());
        }
        let view = told(&self.core);
        floors::check_not_hidden(&view, (kind, self.floors), self.filter(), self.position).map(drop)
    }

    fn check_not_dropped(&mut self, kind: KindId) -> Result<()> {
        let (view, floors) = (told(&self.core), self.find_floors());
        let floor = floors::check_not_hidden(&view, (kind, floors), self.filter(), self.position)?;
        let info = self.core.known_kind(kind, "read on in")?;
        floors::check_not_dropped(&view, &info, self.filter(), self.position, floor)
    }

    /// For a whole stream: below the floor of its topic a record is passed over. Behind the place of a feed of one topic nothing
    /// is hidden, as far as was looked.
    fn is_hidden(&self, entry: &OwnedEntry) -> Result<bool> {
        let (None, Some(floors)) = (&self.key, self.floors) else { return Ok(false) };
        let floor = floors::floor_of(&told(&self.core), floors, entry.key())?;
        Ok(entry.seq().get() < floor.first)
    }
}

impl Feed for LocalFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        if self.ended {
            return Err(has_ended());
        }
        let found = self.step(waker);
        self.ended = found.is_err();
        found
    }

    fn position(&self) -> Offset {
        self.position
    }
}

impl Drop for LocalFeed {
    fn drop(&mut self) {
        self.reader.place().give_bell(None);
        self.reader.place().get_up();
    }
}

impl fmt::Debug for LocalFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalFeed({}, behind {})", self.filter(), self.position)
    }
}
