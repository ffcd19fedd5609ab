//! batpak: a hash-chained event journal with receipts.
//!
//! Configuration: `SyncData`, entity-local index topology. For durable appends a sync after every event,
//! group commit of up to 64 (which needs idempotency keys), and the gate that waits for the durable
//! watermark, because without it a receipt may come before its sync. Else as few syncs as can be told.
//! Throughput is measured with `submit` and 1,024 tickets in flight, latency with `append`. A batch is
//! always synced, so there is no unsynced batch. There is no read by sequence other than a page of one
//! entry after the sequence before it. Its compaction is not measured: a retention reads every payload as
//! JSON, and fails on those that are bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batpak::id::IdempotencyKey;
use batpak::prelude::*;
use batpak::store::{
    AppendTicket, BatchAppendItem, CausationRef, DurabilityGate, IndexTopology, WatermarkKind,
};
use serde::{Serialize, Serializer};

use crate::engine::{Durability, Engine, Outcome, Setup};
use crate::workload::{Event as Given, Key, PAYLOAD_BYTES};
use crate::works::Work;

const IN_FLIGHT: usize = 1_024;
const SCOPE: &str = "bench";
const DURABLE: DurabilityGate = DurabilityGate::new(WatermarkKind::Durable, Duration::from_secs(60));

pub struct Batpak {
    store: Arc<Store<Open>>,
    durability: Durability,
    pipelined: bool,
    in_flight: VecDeque<AppendTicket>,
    next_key: AtomicU64,
    first_sequence: u64,
}

/// A payload as bytes, not as a list of numbers.
struct Payload<'a>(&'a [u8]);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

fn kind() -> EventKind {
    EventKind::custom(0xF, 1)
}

pub fn all() -> Region {
    Region::all().with_fact(KindFilter::Exact(kind()))
}

fn coordinate(key: &Key) -> Outcome<Coordinate> {
    Ok(Coordinate::new(std::str::from_utf8(key)?, SCOPE)?)
}

pub fn show(store: &Store<Open>, id: EventId, see: &mut impl FnMut(&[u8])) -> Outcome {
    let stored = store.read_raw(id)?;
    let bytes = &stored.event.payload;
    // The payload follows the two bytes that MessagePack puts before it.
    see(bytes.get(bytes.len().saturating_sub(PAYLOAD_BYTES)..).unwrap_or_default());
    Ok(())
}

impl Batpak {
    pub fn store(&self) -> &Arc<Store<Open>> {
        &self.store
    }
}

impl Engine for Batpak {
    const CRATE: &'static str = "batpak";
    const HISTORIES_WHEN_PLAIN: bool = true;

    fn offers(work: Work) -> bool {
        !matches!(work, Work::BatchNoSync | Work::AppendTenMillionEntities)
    }

    fn most_events(work: Work) -> u64 {
        match work {
            Work::AppendMillionEntities => 20_000,
            Work::AppendLatency | Work::AppendFourThreads => 50_000,
            Work::EntityHistory | Work::AppendNoSync => 200_000,
            _ => 100_000,
        }
    }

    fn most_reads() -> u64 {
        30
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let config = StoreConfig::new(&setup.dir)
            .with_sync_mode(SyncMode::SyncData)
            .with_index_topology(IndexTopology::entity_local())
            .with_batch_max_size(1_000);
        let config = match setup.durability {
            Durability::Each => config.with_sync_every_n_events(1).with_group_commit_max_batch(64),
            Durability::None => config.with_sync_every_n_events(u32::MAX),
        };
        Ok(Self {
            store: Arc::new(Store::open(config)?),
            durability: setup.durability,
            pipelined: setup.pipelined,
            in_flight: VecDeque::new(),
            next_key: AtomicU64::new(1),
            first_sequence: 0,
        })
    }

    fn append(&mut self, event: &Given<'_>) -> Outcome {
        if !self.pipelined {
            return self.append_shared(event);
        }
        if self.in_flight.len() == IN_FLIGHT {
            if let Some(oldest) = self.in_flight.pop_front() {
                let _receipt = oldest.wait()?;
            }
        }
        let ticket = self.store.submit(&coordinate(&event.key)?, kind(), &Payload(event.payload))?;
        self.in_flight.push_back(ticket);
        Ok(())
    }

    fn append_shared(&self, event: &Given<'_>) -> Outcome {
        let (coordinate, payload) = (coordinate(&event.key)?, Payload(event.payload));
        let _receipt = match self.durability {
            Durability::None => self.store.append(&coordinate, kind(), &payload)?,
            Durability::Each => {
                let number = u128::from(self.next_key.fetch_add(1, Ordering::Relaxed));
                let options =
                    AppendOptions::new().with_idempotency(IdempotencyKey::from(number)).with_gate(DURABLE);
                self.store.append_with_options(&coordinate, kind(), &payload, options)?
            }
        };
        Ok(())
    }

    fn append_batch(&mut self, events: &[Given<'_>]) -> Outcome {
        let items = events.iter().map(|event| {
            let number = u128::from(self.next_key.fetch_add(1, Ordering::Relaxed));
            let options = match self.durability {
                Durability::Each => AppendOptions::new().with_idempotency(IdempotencyKey::from(number)),
                Durability::None => AppendOptions::new(),
            };
            let payload = Payload(event.payload);
            Ok(BatchAppendItem::new(coordinate(&event.key)?, kind(), &payload, options, CausationRef::None)?)
        });
        self.store.append_batch(items.collect::<Outcome<Vec<_>>>()?)?;
        Ok(())
    }

    fn settle(&mut self) -> Outcome {
        for ticket in self.in_flight.drain(..) {
            let _receipt = ticket.wait()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Outcome {
        Ok(self.store.sync()?)
    }

    fn start_reading(&mut self) -> Outcome {
        self.first_sequence =
            self.store.query_entries_after(&all(), None, 1).first().map_or(0, |e| e.global_sequence());
        Ok(())
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        self.store
            .query(&all())
            .iter()
            .try_for_each(|entry| show(&self.store, entry.event_id().into(), &mut see))
    }

    fn history(&mut self, _entity: u32, key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        let entries = self.store.by_entity(std::str::from_utf8(key)?);
        entries.iter().try_for_each(|entry| show(&self.store, entry.event_id().into(), &mut see))
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let before = (self.first_sequence + place).checked_sub(1);
        let entries = self.store.query_entries_after(&all(), before, 1);
        let entry = entries.first().ok_or("no such event")?;
        show(&self.store, entry.event_id().into(), &mut see)
    }

    fn close(mut self) -> Outcome {
        self.settle()?;
        Arc::into_inner(self.store).ok_or("somebody still reads the store")?.close()?;
        Ok(())
    }
}
