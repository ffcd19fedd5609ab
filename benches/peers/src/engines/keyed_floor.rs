//! The keyed floor: the fair one, with what a store of named entities cannot do without.
//!
//! A 56-byte header, the key in the frame, a hash table from the 128-bit SipHash-2-4 of the key to
//! generation and place, one coarse clock read an append, two CRC-32s (the body's, computed before the
//! lock, and the header's, seeded with segment, life and position), and a mutex around the append, also
//! when only one thread appends. Its reads check the body's CRC, and a history compares the key. No
//! batches that are atomic, no expectations, no rotation that seals, no recovery beyond a prefix.
//!
//! ```text
//! length u32 | head crc u32 | body crc u32 | life u32 | place u64 | generation u64 | time u64 |
//! durable mark u64 | kind u16 | key length u16 | metadata length u16 | flags u16 | key, payload, padding
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::engine::{Durability, Engine, Outcome, Setup};
use crate::mapped::{Durable, MappedLog, NONE, PlaceIndex, Position, Readiness, pending_in};
use crate::workload::{Event, KEY_BYTES, Key};
use crate::works::Work;

const HEADER_BYTES: usize = 56;
const KIND: u16 = 7;
const LIFE: u32 = 0x11fe_11fe;
const SEGMENT_SALT: u32 = 0x5a17_5a17;
const HASH_KEYS: (u64, u64) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
const SAVED_ENTITY_BYTES: usize = 24;

pub struct KeyedFloor {
    state: Mutex<State>,
    durable: Durable,
    each: bool,
    dir: std::path::PathBuf,
    found: Vec<Position>,
}

struct State {
    log: MappedLog,
    index: PlaceIndex,
    entities: Entities,
}

#[derive(Clone, Copy)]
struct Newest {
    generation: u32,
    place: u32,
}

type Entities = HashMap<u128, Newest, BuildHasherDefault<AlreadyHashed>>;

/// The keys are hashes: half of one will do.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only 128-bit hashes are hashed");
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

/// What an append computes before it takes the lock.
struct Prepared<'a> {
    event: &'a Event<'a>,
    entity: u128,
    body_crc: u32,
    time: u64,
}

#[inline]
fn prepare<'a>(event: &'a Event<'a>, time: u64) -> Prepared<'a> {
    Prepared { event, entity: entity_hash(&event.key), body_crc: body_crc(&event.key, event.payload), time }
}

#[inline]
fn entity_hash(key: &Key) -> u128 {
    let mut hasher = SipHasher24::new_with_keys(HASH_KEYS.0, HASH_KEYS.1);
    hasher.write_u16(KIND);
    hasher.write(key);
    hasher.finish128().as_u128()
}

#[inline]
fn body_crc(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

#[inline]
fn head_crc(header: &[u8], position: Position) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(SEGMENT_SALT ^ LIFE ^ position.0 as u32);
    hasher.update(&header[8..]);
    hasher.finalize()
}

#[inline]
fn coarse_time() -> u64 {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl State {
    #[inline]
    fn append(&mut self, prepared: &Prepared<'_>) -> Outcome<Position> {
        let event = prepared.event;
        let position = self.log.reserve(frame_bytes(event.payload.len()))?;
        let place = self.index.len();
        let newest = self.entities.entry(prepared.entity).or_insert(Newest { generation: 0, place: NONE });
        newest.generation += 1;
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&(event.payload.len() as u32).to_le_bytes());
        header[8..12].copy_from_slice(&prepared.body_crc.to_le_bytes());
        header[12..16].copy_from_slice(&LIFE.to_le_bytes());
        header[16..24].copy_from_slice(&(place as u64).to_le_bytes());
        header[24..32].copy_from_slice(&u64::from(newest.generation).to_le_bytes());
        header[32..40].copy_from_slice(&prepared.time.to_le_bytes());
        header[48..50].copy_from_slice(&KIND.to_le_bytes());
        header[50..52].copy_from_slice(&(KEY_BYTES as u16).to_le_bytes());
        let head_crc = head_crc(&header, position);
        header[4..8].copy_from_slice(&head_crc.to_le_bytes());
        let previous = std::mem::replace(&mut newest.place, place as u32);
        self.log.store(position, &[&header, &event.key, event.payload]);
        self.index.push(position, previous);
        Ok(position)
    }
}

fn frame_bytes(payload: usize) -> usize {
    (HEADER_BYTES + KEY_BYTES + payload).next_multiple_of(8)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Header, key and payload at a position, if the body's CRC says so.
#[inline]
fn frame(log: &MappedLog, position: Position, room: usize) -> Option<(&[u8], &[u8], &[u8])> {
    if room < HEADER_BYTES {
        return None;
    }
    let header = log.bytes(position, 0, HEADER_BYTES);
    let length = u32_at(header, 0) as usize;
    if length == 0 || frame_bytes(length) > room {
        return None;
    }
    let body = log.bytes(position, HEADER_BYTES, KEY_BYTES + length);
    (crc32fast::hash(body) == u32_at(header, 8)).then(|| {
        let (key, payload) = body.split_at(KEY_BYTES);
        (header, key, payload)
    })
}

fn good_frame(log: &MappedLog, position: Position) -> Outcome<(&[u8], &[u8])> {
    let (_, key, payload) = frame(log, position, usize::MAX).ok_or("a frame is damaged")?;
    Ok((key, payload))
}

fn recover(log: &MappedLog) -> Outcome<(PlaceIndex, Entities)> {
    let (mut index, mut entities) = (PlaceIndex::default(), Entities::default());
    log.walk(|log, position, room| {
        let (header, key, payload) = frame(log, position, room)?;
        if head_crc(header, position) != u32_at(header, 4) {
            return None;
        }
        let hash = entity_hash(key.try_into().ok()?);
        let newest = entities.entry(hash).or_insert(Newest { generation: 0, place: NONE });
        newest.generation = u32_at(header, 24);
        let previous = std::mem::replace(&mut newest.place, index.len() as u32);
        index.push(position, previous);
        Some(frame_bytes(payload.len()))
    });
    Ok((index, entities))
}

fn saved(entity: u128, newest: Newest) -> [u8; SAVED_ENTITY_BYTES] {
    let mut bytes = [0; SAVED_ENTITY_BYTES];
    bytes[..16].copy_from_slice(&entity.to_le_bytes());
    bytes[16..20].copy_from_slice(&newest.generation.to_le_bytes());
    bytes[20..].copy_from_slice(&newest.place.to_le_bytes());
    bytes
}

fn restored(bytes: &[u8]) -> (u128, Newest) {
    let entity = u128::from_le_bytes(bytes[..16].try_into().expect("sixteen bytes"));
    (entity, Newest { generation: u32_at(bytes, 16), place: u32_at(bytes, 20) })
}

impl Engine for KeyedFloor {
    const CRATE: &'static str = "memmap2";
    const HISTORIES_WHEN_PLAIN: bool = true;

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let each = setup.durability == Durability::Each;
        let log = MappedLog::open(&setup.dir, if each { Readiness::Syncs } else { Readiness::Stores })?;
        let (index, entities) = match PlaceIndex::take(&setup.dir)? {
            Some((index, tail)) => (index, tail.chunks_exact(SAVED_ENTITY_BYTES).map(restored).collect()),
            None => recover(&log)?,
        };
        let state = Mutex::new(State { log, index, entities });
        Ok(Self { state, durable: Durable::default(), each, dir: setup.dir.clone(), found: Vec::new() })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        self.append_shared(event)
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        let prepared = prepare(event, coarse_time());
        let position = self.state.lock().append(&prepared)?;
        if self.each {
            self.durable.reach(position, |mark| pending_in(&self.state.lock().log, mark))?;
        }
        Ok(())
    }

    /// One lock and one clock read for the batch.
    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let time = coarse_time();
        let mut state = self.state.lock();
        for event in events {
            state.append(&prepare(event, time))?;
        }
        drop(state);
        if self.each { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Outcome {
        let log = &self.state.get_mut().log;
        let last = Position(log.end().0.saturating_sub(1));
        Ok(self.durable.reach(last, |mark| pending_in(log, mark))?)
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        self.state.get_mut().log.walk(|log, position, room| {
            let (_, _, payload) = frame(log, position, room)?;
            see(payload);
            Some(frame_bytes(payload.len()))
        });
        Ok(())
    }

    fn history(&mut self, _entity: u32, key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        let state = self.state.get_mut();
        let newest = state.entities.get(&entity_hash(key)).map_or(NONE, |newest| newest.place);
        state.index.history(newest, &mut self.found);
        for &position in &self.found {
            let (found, payload) = good_frame(&state.log, position)?;
            if found == key {
                see(payload);
            }
        }
        Ok(())
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let state = self.state.get_mut();
        see(good_frame(&state.log, state.index.position(place as usize))?.1);
        Ok(())
    }

    fn close(mut self) -> Outcome {
        self.sync()?;
        let state = self.state.into_inner();
        let tail: Vec<u8> =
            state.entities.iter().flat_map(|(&entity, &newest)| saved(entity, newest)).collect();
        state.index.save(&self.dir, &tail)?;
        Ok(state.log.close()?)
    }
}
