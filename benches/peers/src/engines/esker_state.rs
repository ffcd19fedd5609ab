//! esker, through its door for live state.
//!
//! Configuration: everything as it comes, so `Durability::Sync` and a window of 20 ms. A row is a struct with one
//! field, the payload, and is encoded and decoded as its type. The consumer is a subscription that is told every
//! change, however far behind: a window has more of them here than the 4,096 that may be unread by default.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use esker::{Kind, Source, StateItem, Store, Subscription};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::Outcome;
use crate::state::{Consumer, LiveState, Payload, payload_of};
use crate::workload::{Event, Key, PAYLOAD_BYTES};

#[derive(Serialize, Deserialize)]
pub struct Row {
    payload: Bytes,
}

/// Bytes that serde is told are bytes: an array would be a list of numbers.
struct Bytes(Payload);

const ROW: Kind<Row> = Kind::new("row");

pub struct EskerState {
    store: Store,
    source: Source,
}

impl LiveState for EskerState {
    const CRATE: &'static str = "esker";

    type Consumer = Subscription<Row>;

    fn open(dir: &Path) -> Outcome<(Self, Subscription<Row>)> {
        let store = Store::open(dir)?;
        let source = store.source("bench")?;
        let consumer = store.subscription(ROW).bootstrap(false).capacity(u64::MAX).start()?;
        Ok((Self { store, source }, consumer))
    }

    fn accept<'a>(&self, upserts: impl Iterator<Item = Event<'a>>) -> Outcome {
        for event in upserts {
            let _ticket = self.source.assert(ROW, event.key, &Row { payload: Bytes(payload_of(&event)) })?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome {
        Ok(self.store.flush()?)
    }

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome {
        let row = self.store.get(ROW, key)?.ok_or("no such row")?;
        see(&row.value()?.payload.0);
        Ok(())
    }

    fn scan(&self, mut see: impl FnMut(&[u8], &[u8])) -> Outcome {
        for row in self.store.scan(ROW)? {
            let row = row?;
            see(row.key(), &row.value()?.payload.0);
        }
        Ok(())
    }

    fn close(self) -> Outcome {
        drop(self.source);
        Ok(self.store.close()?)
    }
}

impl Consumer for Subscription<Row> {
    fn next(&mut self, patience: Duration, mut see: impl FnMut(&[u8], &[u8])) -> Outcome<bool> {
        match self.next_timeout(patience)? {
            Some(StateItem::Change(change)) => {
                see(change.key(), &change.value()?.ok_or("nobody deletes here")?.payload.0);
                Ok(true)
            }
            Some(other) => Err(format!("a consumer of everything was told {other:?}").into()),
            None => Ok(false),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{PAYLOAD_BYTES} bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                bytes.try_into().map(Bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}
