//! The bare floor: what the hardware gives a mapped log that has next to nothing.
//!
//! It cheats on purpose: entities are integers that index an array, a frame has a 24-byte header and no
//! key, there is no clock and one CRC. Its reads check that CRC. See `keyed_floor` for the fair one.
//!
//! ```text
//! length u32 | crc u32 | entity u32 | generation u32 | place u64 | payload, padded to 8
//! ```

use parking_lot::Mutex;

use crate::engine::{Durability, Engine, Outcome, Setup};
use crate::mapped::{Durable, MappedLog, NONE, PlaceIndex, Position, Readiness, pending_in};
use crate::workload::{Event, Key};
use crate::works::Work;

const HEADER_BYTES: usize = 24;

pub struct Floor {
    state: Mutex<State>,
    durable: Durable,
    each: bool,
    dir: std::path::PathBuf,
    found: Vec<Position>,
}

struct State {
    log: MappedLog,
    index: PlaceIndex,
    entities: Vec<Newest>,
}

#[derive(Clone, Copy)]
struct Newest {
    generation: u32,
    place: u32,
}

impl State {
    #[inline]
    fn append(&mut self, event: &Event<'_>) -> Outcome<Position> {
        let position = self.log.reserve(frame_bytes(event.payload.len()))?;
        let place = self.index.len();
        let newest = entity(&mut self.entities, event.entity);
        newest.generation += 1;
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&(event.payload.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&crc(place as u64, event.payload).to_le_bytes());
        header[8..12].copy_from_slice(&event.entity.to_le_bytes());
        header[12..16].copy_from_slice(&newest.generation.to_le_bytes());
        header[16..24].copy_from_slice(&(place as u64).to_le_bytes());
        let previous = std::mem::replace(&mut newest.place, place as u32);
        self.log.store(position, &[&header, event.payload]);
        self.index.push(position, previous);
        Ok(position)
    }
}

fn frame_bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(8)
}

#[inline]
fn crc(place: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(place as u32);
    hasher.update(payload);
    hasher.finalize()
}

#[inline]
fn entity(entities: &mut Vec<Newest>, entity: u32) -> &mut Newest {
    let at = entity as usize;
    if at >= entities.len() {
        entities.resize(at + 1, Newest { generation: 0, place: NONE });
    }
    &mut entities[at]
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Header and payload at a position, if their CRC says so.
#[inline]
fn frame(log: &MappedLog, position: Position, room: usize) -> Option<(&[u8], &[u8])> {
    if room < HEADER_BYTES {
        return None;
    }
    let header = log.bytes(position, 0, HEADER_BYTES);
    let length = u32_at(header, 0) as usize;
    if length == 0 || frame_bytes(length) > room {
        return None;
    }
    let payload = log.bytes(position, HEADER_BYTES, length);
    (crc(u64::from(u32_at(header, 16)), payload) == u32_at(header, 4)).then_some((header, payload))
}

fn good_frame(log: &MappedLog, position: Position) -> Outcome<&[u8]> {
    Ok(frame(log, position, usize::MAX).ok_or("a frame is damaged")?.1)
}

fn recover(log: &MappedLog) -> (PlaceIndex, Vec<Newest>) {
    let (mut index, mut entities) = (PlaceIndex::default(), Vec::new());
    log.walk(|log, position, room| {
        let (header, payload) = frame(log, position, room)?;
        let newest = entity(&mut entities, u32_at(header, 8));
        newest.generation = u32_at(header, 12);
        let previous = std::mem::replace(&mut newest.place, index.len() as u32);
        index.push(position, previous);
        Some(frame_bytes(payload.len()))
    });
    (index, entities)
}

impl Engine for Floor {
    const CRATE: &'static str = "memmap2";
    const HISTORIES_WHEN_PLAIN: bool = true;

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let each = setup.durability == Durability::Each;
        let log = MappedLog::open(&setup.dir, if each { Readiness::Syncs } else { Readiness::Stores })?;
        let (index, entities) = match PlaceIndex::take(&setup.dir)? {
            Some((index, tail)) => {
                let newest = |pair: &[u8]| Newest { generation: u32_at(pair, 0), place: u32_at(pair, 4) };
                (index, tail.chunks_exact(8).map(newest).collect())
            }
            None => recover(&log),
        };
        let state = Mutex::new(State { log, index, entities });
        Ok(Self { state, durable: Durable::default(), each, dir: setup.dir.clone(), found: Vec::new() })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        let state = self.state.get_mut();
        let position = state.append(event)?;
        if self.each {
            self.durable.reach(position, |mark| pending_in(&state.log, mark))?;
        }
        Ok(())
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        let position = self.state.lock().append(event)?;
        if self.each {
            self.durable.reach(position, |mark| pending_in(&self.state.lock().log, mark))?;
        }
        Ok(())
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let state = self.state.get_mut();
        for event in events {
            state.append(event)?;
        }
        if self.each { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Outcome {
        let log = &self.state.get_mut().log;
        let last = Position(log.end().0.saturating_sub(1));
        Ok(self.durable.reach(last, |mark| pending_in(log, mark))?)
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        self.state.get_mut().log.walk(|log, position, room| {
            let (_, payload) = frame(log, position, room)?;
            see(payload);
            Some(frame_bytes(payload.len()))
        });
        Ok(())
    }

    fn history(&mut self, entity: u32, _key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        let state = self.state.get_mut();
        let newest = state.entities.get(entity as usize).map_or(NONE, |newest| newest.place);
        state.index.history(newest, &mut self.found);
        for &position in &self.found {
            see(good_frame(&state.log, position)?);
        }
        Ok(())
    }

    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let state = self.state.get_mut();
        see(good_frame(&state.log, state.index.position(place as usize))?);
        Ok(())
    }

    fn close(mut self) -> Outcome {
        self.sync()?;
        let state = self.state.into_inner();
        let pair = |newest: &Newest| [newest.generation.to_le_bytes(), newest.place.to_le_bytes()].concat();
        state.index.save(&self.dir, &state.entities.iter().flat_map(pair).collect::<Vec<_>>())?;
        Ok(state.log.close()?)
    }
}
