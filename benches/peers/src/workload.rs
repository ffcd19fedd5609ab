//! The events that every engine is given: the same keys, payloads and order for all.
//!
//! Event `i` belongs to an entity chosen by a fixed stride, so each entity gets every n-th event, in an
//! order that is not the order of the keys. Payloads are slices of a random pool wider than the window of
//! the fast compressors, so that no engine wins by compressing what an application would not repeat.

pub const PAYLOAD_BYTES: usize = 128;
pub const KEY_BYTES: usize = 12;
pub const BATCH_EVENTS: usize = 1_000;

const POOL_PAYLOADS: u64 = 2_048;

pub type Key = [u8; KEY_BYTES];

#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub entity: u32,
    /// Place in the entity's history, from 1. Handed to the stores that are keyed by it, which spares
    /// them the look-up that an application would need.
    pub generation: u32,
    pub key: Key,
    pub payload: &'a [u8],
}

pub struct Workload {
    pool: Vec<u8>,
    entities: u64,
    stride: u64,
}

impl Workload {
    pub fn new(entities: u32) -> Self {
        let mut random = Random::new(0x5eed);
        let words = POOL_PAYLOADS as usize * PAYLOAD_BYTES / 8;
        let pool = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        let entities = u64::from(entities.max(1));
        Self { pool, entities, stride: stride_through(entities) }
    }

    pub fn entities(&self) -> u32 {
        self.entities as u32
    }

    pub fn event(&self, i: u64) -> Event<'_> {
        self.event_of((i % self.entities) * self.stride % self.entities, i)
    }

    /// Events `from..to`, without a division each.
    pub fn events(&self, from: u64, to: u64) -> impl Iterator<Item = Event<'_>> {
        let mut entity = (from % self.entities) * self.stride % self.entities;
        let mut generation = (from / self.entities) as u32 + 1;
        let mut turn = from % self.entities;
        (from..to).map(move |i| {
            let event = Event {
                entity: entity as u32,
                generation,
                key: key_of(entity as u32),
                payload: self.payload(i),
            };
            entity += self.stride;
            if entity >= self.entities {
                entity -= self.entities;
            }
            turn += 1;
            if turn == self.entities {
                turn = 0;
                generation += 1;
            }
            event
        })
    }

    /// Which entity's turn it is at each place of a round.
    pub fn entity_of(&self, i: u64) -> u32 {
        ((i % self.entities) * self.stride % self.entities) as u32
    }

    pub fn payload(&self, i: u64) -> &[u8] {
        let start = (i % POOL_PAYLOADS) as usize * PAYLOAD_BYTES;
        &self.pool[start..start + PAYLOAD_BYTES]
    }

    fn event_of(&self, entity: u64, i: u64) -> Event<'_> {
        let entity = entity as u32;
        Event {
            entity,
            generation: (i / self.entities) as u32 + 1,
            key: key_of(entity),
            payload: self.payload(i),
        }
    }
}

/// Twelve bytes of text that sort like the number: `ent-` and eight letters, one a nibble.
pub fn key_of(entity: u32) -> Key {
    let mut spread = u64::from(entity);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = spread + u64::from_le_bytes([b'a'; 8]);
    let mut key = *b"ent-aaaaaaaa";
    key[4..].copy_from_slice(&letters.to_be_bytes());
    key
}

/// The entity of a key, back from its letters.
#[inline]
pub fn entity_of_key(key: &[u8]) -> u32 {
    key[4..].iter().fold(0, |entity, letter| entity << 4 | u32::from(letter - b'a'))
}

/// A step near the golden section of the number of entities that visits every one of them.
fn stride_through(entities: u64) -> u64 {
    let mut stride = (entities as f64 * 0.618_033_988_75) as u64;
    while stride < entities && common_divisor(stride, entities) != 1 {
        stride += 1;
    }
    stride.max(1)
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Remembers how many payloads were seen, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub count: u64,
    order: u64,
}

impl Digest {
    #[inline]
    pub fn see(&mut self, payload: &[u8]) {
        assert_eq!(payload.len(), PAYLOAD_BYTES, "a payload came back with another length");
        self.count += 1;
        self.order = self.order.rotate_left(5) ^ first_word(payload);
    }
}

#[inline]
pub fn first_word(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().expect("a payload has at least eight bytes"))
}

/// SplitMix64: the same numbers in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
