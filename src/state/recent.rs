//! Entities that were touched a moment ago, at rest.
//!
//! The log says how they are too, and a window asks the log once for each entity that it touches. Those that are touched
//! in window after window need not be looked up each time, nor given memory. One that is new to the log is not here behind
//! its first flush, for most come once: it is looked up when it comes again, and is here from then on. Rows are written by the state layer alone, and
//! what it writes outside of its lock is in the closed window, which is asked first: so what is here is what the log says.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::format::index::EntityHash;
use crate::state::pending::{Base, Pending};
use crate::state::schema::Bound;
use crate::state::window::AsItIs;

/// So many at most: with short rows some 15 MB, and never more than 40.
const ENTITIES_MAX: usize = 16_384;

/// The memory of so many that are nobody's any more is kept for others: what one thread gives back another takes, which is
/// dear by way of the allocator. Each takes what one at rest does.
const ROOMS_MAX: usize = 8_192;

/// Some entities by their hash.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    entities: HashMap<EntityHash, Box<Pending>, BuildHasherDefault<AsItIs>>,
    #[allow(clippy::vec_box, reason = "it is kept as it is handed out")]
    rooms: Vec<Box<Pending>>,
}

impl Recent {
    pub(crate) fn get(&self, hash: EntityHash) -> Option<&Base> {
        self.entities.get(&hash).map(|entity| &entity.base)
    }

    /// Takes an entity out, for a window that touches it.
    pub(crate) fn take(&mut self, bound: &Arc<Bound>, hash: EntityHash) -> Option<Box<Pending>> {
        let mut entity = self.entities.remove(&hash)?;
        if !Arc::ptr_eq(&entity.bound, bound) {
            entity.bound = Arc::clone(bound);
        }
        Some(entity)
    }

    pub(crate) fn put(&mut self, entity: Box<Pending>) {
        let Some(entity) = entity.slim() else { return };
        if self.entities.len() >= ENTITIES_MAX {
            // Whoever touches so many does not come back soon.
            self.entities.clear();
        }
        self.entities.insert(entity.hash, entity);
    }

    /// Keeps the memory of an entity that is not to be at rest here.
    pub(crate) fn retire(&mut self, entity: Box<Pending>) {
        if self.rooms.len() < ROOMS_MAX {
            self.rooms.extend(entity.emptied());
        }
    }

    /// Memory for an entity, if there is some.
    pub(crate) fn room(&mut self) -> Option<Box<Pending>> {
        self.rooms.pop()
    }

    /// What was not appended for good may be otherwise in the log.
    pub(crate) fn forget(&mut self) {
        self.entities.clear();
        self.rooms = Vec::new();
    }
}
