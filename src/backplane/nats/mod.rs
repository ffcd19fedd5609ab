//! A backplane on NATS JetStream (feature `nats`): topics and cells that many processes share.
//!
//! ```no_run
//! use std::sync::Arc;
//! use esker::Store;
//! use esker::backplane::{Nats, NatsConfig};
//! # fn main() -> esker::Result<()> {
//! let plane = Nats::connect(NatsConfig::new().server("nats://broker:4222").replicas(3))?;
//! let store = Store::open("./local.esker")?.with_backplane(Arc::new(plane));
//! # store.close() }
//! ```
//!
//! All streams and topics are in one stream of the server, with a subject for each topic; an [`Offset`] is a number of that
//! stream. Cells are a bucket of its key-value store. Both are made if they are not there; if they are they are looked at, and
//! refused if they would lose records: by age, by limits that drop the oldest, or by a retention for queues. They are never
//! changed. The era is the moment at which they were made.
//!
//! # What it keeps, and what it does not
//!
//! * **An acknowledgement is not a sync.** The server acknowledges what it has handed to its operating system (and, with
//!   replicas, what a majority has), and syncs every two minutes unless it is told otherwise (`sync_interval`). What has
//!   to survive the power of one server belongs into more replicas, or into a local store first ([`NatsBridge`]).
//! * **Commits are not atomic** ([`atomic`](Backplane::atomic) is false): step by step, the cursor last.
//! * A stamp is remembered for the duplicate window of the stream, two minutes or more. An append whose answer did not come is
//!   looked for in its topic before it is published again, for as long as this handle lives. A change of a cell
//!   is known for as long as it is the newest one, or within the window.
//! * Records are dropped by compactions alone, which delete them message by message (a stream with `deny_delete` has no
//!   [`Compactor`]). **Do not purge a topic by hand** (`nats stream purge --subject`): where one subject is purged, servers set
//!   each consumer that reads it among others past what stands before, of all topics, and tell nobody. A feed of a whole stream notices
//!   that where it comes to the end of what it catches up with, or falls silent; in the middle only the numbers of
//!   [stamps](super::Stamp) prove that records were left out.
//! * What another program publishes below a topic's subject is no record of anybody. A message of a topic with a stamp or a version that cannot
//!   be read is `Corrupt` to feeds of that topic and of the whole stream, and to no others.
//! * A call is answered within its timeout, or a few of them, however long a topic is: one that has to look for what
//!   became of an append may be `Disconnected` several times, and gets on each time. A compaction takes as long as there is to drop.
//! * A feed of one process learns of a floor that another one has set when it subscribes again; until then it may deliver what
//!   was dropped, and what it does not get it finds missing by the numbers of [stamps](super::Stamp).
//! * A feed ends with `Disconnected` when the connection is lost, its consumer falls silent, or it falls too far behind. What
//!   follows a topic subscribes again; folds do.
//! * A broadcast is a publication that is not stored.
//!
//! # Threads
//!
//! The connection has a thread and a runtime of its own. Calls block the thread that makes them, and may be made
//! from any thread but one that the [client](Nats::with_client) of the caller needs to go on.

mod bridge;
mod config;
mod connecting;
mod consumer;
mod feed;
mod floor;
mod link;
mod message;
mod names;
mod server;
mod tail;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use parking_lot::Mutex;

use crate::backplane::check::{check_broadcast, check_filter, check_key, check_name, check_steps};
use crate::backplane::feed::Feed;
use crate::backplane::listen::{self, Listener};
use crate::backplane::name::{Era, Filter, Offset};
pub use crate::backplane::nats::bridge::{Bridged, NatsBridge};
pub use crate::backplane::nats::config::NatsConfig;
use crate::backplane::nats::config::{Role, check};
use crate::backplane::nats::connecting::{no_connection, no_streams, too_slow, too_small};
use crate::backplane::nats::feed::{CatchUp, NatsFeed};
use crate::backplane::nats::floor::Floors;
use crate::backplane::nats::link::Link;
use crate::backplane::nats::message::Raw;
use crate::backplane::nats::server::{Consume, Server, era_of, unreachable};
use crate::backplane::nats::tail::{Queue, Tail};
use crate::backplane::nats::write::{Fates, Writing, payload_bytes_max};
use crate::backplane::record::CellState;
use crate::backplane::step::{Append, Done, Step, StepDone};
use crate::backplane::{Backplane, Compactor, PAYLOAD_BYTES_PORTABLE};
use crate::error::{Error, ErrorKind, Result};
use crate::feed::hub::Hub;

/// A backplane on NATS JetStream. See the [module](self).
#[derive(Debug)]
pub struct Nats {
    // Ends first: what it drives is below.
    link: Link,
    server: Server,
    watch_every: Duration,
    can_delete: bool,
    payload_bytes_max: usize,
    eras: Mutex<Eras>,
    fates: Fates,
    floors: Arc<Floors>,
    hub: Arc<Hub>,
    /// Of each channel that somebody listened to.
    channels: tokio::sync::Mutex<HashMap<String, tokio::task::AbortHandle>>,
    tails: Mutex<HashMap<String, Slot>>,
}

/// The tail of a stream. It is locked while one is begun: by those who want this one.
type Slot = Arc<tokio::sync::Mutex<Weak<Tail>>>;

/// The era, as it was seen last.
#[derive(Debug)]
struct Eras {
    known: Era,
    /// It was another one before.
    has_changed: bool,
}

impl Nats {
    /// Connects, and makes the stream and the bucket if they are not there.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` for a configuration that cannot be, or a stream or bucket that is not as it has to be (all that is
    /// wrong is told, nothing is changed). `Disconnected` if no server answers or lets us in, or it has no JetStream. Each says where it was
    /// tried, how long was waited, and what to do.
    pub fn connect(config: NatsConfig) -> Result<Self> {
        config.names_checked()?;
        let link = Link::start()?;
        let servers = config.servers();
        let doing = config.connecting();
        let options = async_nats::ConnectOptions::new()
            .name("esker")
            .connection_timeout(config.timeout)
            .reconnect_delay_callback(pause_before);
        let client = link.call(&doing, async {
            tokio::time::timeout(config.patience(), options.connect(&servers))
                .await
                .map_err(|_| too_slow(&config))?
                .map_err(|cause| no_connection(&config, cause))
        })?;
        Self::over(link, client, &config, &doing)
    }

    /// Over a connection of the caller's, which may be of any cluster and with any credentials. The servers of the
    /// configuration are not looked at. The client must be driven by another thread than those that call this backplane.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn with_client(client: async_nats::Client, config: NatsConfig) -> Result<Self> {
        config.names_checked()?;
        let server = client.server_info();
        let doing = format!("use the client connected to NATS at {}:{}", server.host, server.port);
        Self::over(Link::start()?, client, &config, &doing)
    }

    fn over(link: Link, client: async_nats::Client, config: &NatsConfig, doing: &str) -> Result<Self> {
        let names = config.names_checked()?;
        // In the runtime: the client begins a task of its own.
        let server =
            link.call(doing, async { Ok(Server::new(client.clone(), names.clone(), config.timeout)) })?;
        let takes = server.client.server_info().max_payload;
        if payload_bytes_max(takes) < PAYLOAD_BYTES_PORTABLE {
            return Err(too_small(doing, takes));
        }
        let found = link.call("look at the streams", async {
            let cells = get_or_create(&server, config, Role::Cells).await?;
            Ok((get_or_create(&server, config, Role::Events).await?, cells))
        });
        let (events, cells) = found.map_err(|error| no_streams(doing, error))?;
        let of_stream = usize::try_from(events.config.max_message_size).unwrap_or(0);
        let takes = if of_stream > 0 { takes.min(of_stream) } else { takes };
        Ok(Self {
            link,
            watch_every: config.watch_every,
            can_delete: !events.config.deny_delete,
            payload_bytes_max: payload_bytes_max(takes),
            eras: Mutex::new(Eras { known: era_of(&events, &cells), has_changed: false }),
            server,
            fates: Fates::default(),
            floors: Arc::default(),
            hub: Arc::default(),
            channels: tokio::sync::Mutex::default(),
            tails: Mutex::default(),
        })
    }

    /// A payload may have so many bytes: what the server and the stream take, without what headers need.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// Takes in what era it is. Of an earlier one nothing is known any more.
    fn is_era(&self, era: Era) {
        let mut eras = self.eras.lock();
        if eras.known != era {
            *eras = Eras { known: era, has_changed: true };
            self.fates.forget();
        }
    }

    fn era_known(&self) -> Era {
        self.eras.lock().known
    }

    fn writing(&self) -> Writing<'_> {
        Writing { server: &self.server, fates: &self.fates, era: self.era_known().raw() }
    }

    /// Appends what was copied from elsewhere, and says from where.
    fn append_from(&self, append: Append<'_>, origin: &str) -> Result<StepDone> {
        check_steps(&[Step::Append(append)], self.payload_bytes_max)?;
        self.link.call("copy a fact", async { self.writing().append(&append, Some(origin)).await })
    }

    /// The tail of a stream, begun where the stream ends if there is none.
    async fn tail(&self, stream: &str, era: Era, last: u64) -> Result<Arc<Tail>> {
        let slot = self.slot(stream);
        let mut known = slot.lock().await;
        if let Some(tail) = known.upgrade().filter(|tail| !tail.has_ended() && tail.era() == era) {
            return Ok(tail);
        }
        let subject = self.server.names.filter(Filter::stream(stream));
        let consume = Consume { from: last + 1, headers_only: false };
        let consumer = self.server.consume(&subject, consume).await?;
        let tail = Arc::new(Tail::start(&self.server, consumer, era, subject, last, self.watch_every));
        *known = Arc::downgrade(&tail);
        Ok(tail)
    }

    fn slot(&self, stream: &str) -> Slot {
        let mut tails = self.tails.lock();
        tails.retain(|name, slot| {
            let is_in_use =
                || Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|tail| tail.strong_count() > 0);
            name == stream || is_in_use()
        });
        Arc::clone(tails.entry(stream.to_owned()).or_default())
    }

    /// Refuses an offset that is of no record yet. Answers the era, and where the stream ends.
    async fn check_offset(&self, filter: Filter<'_>, from: Offset) -> Result<(Era, u64)> {
        let events = self.server.info(&self.server.names.stream).await?;
        let cells = self.server.info(&self.server.names.cells()).await?;
        let (era, last) = (era_of(&events, &cells), events.state.last_sequence);
        let (known, has_changed) = {
            let eras = self.eras.lock();
            (eras.known, eras.has_changed)
        };
        let doing = || format!("read {filter} behind an offset");
        if era != known && from > Offset::BEGINNING {
            return Err(Error::new(ErrorKind::EraChanged, doing()).sides(known, era));
        }
        if from.raw() > last {
            // Whoever asks may not know yet that it is another one.
            let kind = if has_changed { ErrorKind::EraChanged } else { ErrorKind::InvalidInput };
            return Err(Error::new(kind, doing()).sides(format!("one up to {last}"), from));
        }
        Ok((era, last))
    }

    async fn begin_feed(&self, filter: Filter<'_>, from: Offset) -> Result<NatsFeed> {
        let (era, last) = self.check_offset(filter, from).await?;
        let tail = self.tail(filter.stream, era, last).await?;
        let queue = Arc::new(Queue::default());
        let until = tail.attach(filter.key, &queue);
        // From here on it is detached when it is dropped.
        let feed = NatsFeed::new(filter, from, Arc::clone(&self.floors), tail, queue);
        let behind = CatchUp::start(&self.server, &self.server.names.filter(filter), from, until).await?;
        // Behind the look at what is there: a floor stands before anything goes.
        if let Some(key) = filter.key {
            floor::floor_of(&self.server, &self.floors, era, filter.stream, key).await?;
            self.floors.check_not_lost(era, filter, from)?;
        }
        Ok(feed.catching_up(behind))
    }

    async fn lowest(&self, filter: Filter<'_>) -> Result<Offset> {
        let (subject, stream) = (self.server.names.filter(filter), &self.server.names.stream);
        let (mut from, era) = (1, self.server.era().await?);
        if let Some(key) = filter.key {
            from = floor::floor_of(&self.server, &self.floors, era, filter.stream, key).await?.first;
        }
        loop {
            let Some(message) = self.server.next(stream, &subject, from).await? else { break };
            let record = Raw::of(&message).record(&self.server.names)?;
            if message.sequence >= self.floors.of(era, filter.stream, record.key()).first {
                return Ok(record.offset());
            }
            from = message.sequence + 1;
        }
        Ok(Offset::BEGINNING)
    }

    /// Hears what others tell on a channel, from the first who listens on.
    async fn hear(&self, channel: &str) -> Result<()> {
        // All along: of two who came at a time each message would come twice.
        let mut channels = self.channels.lock().await;
        // Whoever listens is known to the hub before it comes here.
        channels.retain(|name, hears| {
            let is_heard = self.hub.listeners(name) > 0;
            if !is_heard {
                hears.abort();
            }
            is_heard
        });
        if channels.contains_key(channel) {
            return Ok(());
        }
        let doing = format!("listen to {channel:?}");
        let subscribed = self.server.within(&doing, async {
            let subscriber = self.server.client.subscribe(self.server.names.channel(channel)).await;
            let subscriber = subscriber.map_err(|cause| unreachable(&*doing, cause))?;
            self.server.client.flush().await.map_err(|cause| unreachable(&*doing, cause))?;
            Ok::<_, Error>(subscriber)
        });
        let mut subscriber = subscribed.await??;
        let (hub, name) = (Arc::clone(&self.hub), channel.to_owned());
        let hears = tokio::spawn(async move {
            while let Some(message) = consumer::next_of(&mut subscriber).await {
                hub.send(&name, &message.payload);
            }
        });
        channels.insert(channel.to_owned(), hears.abort_handle());
        Ok(())
    }
}

/// Short at first: a server that is restarted is back soon.
fn pause_before(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.min(7)).unwrap_or(7);
    Duration::from_millis(10).saturating_mul(1 << doublings)
}

async fn get_or_create(server: &Server, config: &NatsConfig, role: Role) -> Result<Info> {
    let names = &server.names;
    let wanted = if role == Role::Events { config.events(names) } else { config.cells(names) };
    let name = wanted.name.clone();
    let found = match server.info_if_there(&name).await? {
        Some(info) => info,
        None => {
            let made = server.create(wanted).await;
            // Somebody else may have been first, with another idea of it.
            match server.info_if_there(&name).await? {
                Some(info) => info,
                None => {
                    return Err(made
                        .err()
                        .unwrap_or_else(|| unreachable("make a stream", "it is not there")));
                }
            }
        }
    };
    check(&found.config, role, names)?;
    Ok(found)
}

impl Backplane for Nats {
    fn atomic(&self) -> bool {
        false
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        check_steps(steps, self.payload_bytes_max)?;
        self.link.call("commit", async {
            let writing = self.writing();
            let mut done = Vec::with_capacity(steps.len());
            for step in steps {
                done.push(writing.step(step).await?);
            }
            Ok(Done::new(done))
        })
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        check_filter(filter)?;
        let feed = self.link.call("subscribe", self.begin_feed(filter, from))?;
        Ok(Box::new(feed))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        let (stream, subject) = (&self.server.names.stream, self.server.names.filter(filter));
        let newest = self.link.call("look up the head", self.server.last(stream, &subject))?;
        Ok(newest.map_or(Offset::BEGINNING, |message| Offset::from_raw(message.sequence)))
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        self.link.call("look up the oldest record", self.lowest(filter))
    }

    /// It is not asked: that were a call for each attempt, and what is erased is erased from journals alone. What was dropped
    /// by a floor is dropped because nobody needs it.
    fn still_has(&self, _topic: Filter<'_>, _offset: Offset) -> Result<bool> {
        Ok(true)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        check_key("cell", cell)?;
        let (stream, subject) = (self.server.names.cells(), self.server.names.cell(cell));
        let newest = self.link.call("load a cell", self.server.last(&stream, &subject))?;
        Ok(newest.map_or_else(CellState::default, |message| Raw::of(&message).cell()))
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        check_broadcast(channel, bytes)?;
        let doing = format!("broadcast on {channel:?}");
        let (client, subject) = (&self.server.client, self.server.names.channel(channel));
        self.link.call("broadcast", async {
            let told = self.server.within(&doing, async {
                client
                    .publish(subject, bytes.to_vec().into())
                    .await
                    .map_err(|cause| unreachable(&*doing, cause))?;
                client.flush().await.map_err(|cause| unreachable(&*doing, cause))
            });
            told.await?
        })?;
        Ok(self.hub.listeners(channel))
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        check_name("channel", channel)?;
        self.link.check_open("listen")?;
        // They end with the hub, which is this one's alone.
        let listener = listen::listen(&self.hub, channel, &Arc::default())?;
        self.link.call("listen", self.hear(channel))?;
        Ok(listener)
    }

    fn era(&self) -> Result<Era> {
        let era = self.link.call("look up the era", self.server.era())?;
        self.is_era(era);
        Ok(era)
    }

    fn close(&self) -> Result<()> {
        self.hub.close();
        self.link.close_with(|| {
            // No call has it any more.
            let tails = self.tails.lock();
            let tails = tails.values().filter_map(|slot| slot.try_lock().ok()?.upgrade());
            tails.for_each(|tail| tail.end(ErrorKind::Closed));
        });
        Ok(())
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        self.can_delete.then_some(self)
    }
}

impl Compactor for Nats {
    fn compact(&self, stream: &str, key: &[u8], before: Offset) -> Result<()> {
        check_filter(Filter::topic(stream, key))?;
        self.link.check_open("compact")?;
        self.link.call("compact", async {
            let era = self.era_known();
            let floor = floor::compact(&self.server, era, stream, key, before).await?;
            self.floors.raise(era, stream, key, floor);
            let tail = self.slot(stream).lock().await.upgrade();
            tail.into_iter().for_each(|tail| tail.wake(key));
            Ok(())
        })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.close();
    }
}
