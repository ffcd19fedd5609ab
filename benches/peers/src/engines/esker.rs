//! esker, through its byte door, as an application would use it.
//!
//! Configuration: `Durability::Sync` for durable appends, `Durability::Os` where nothing is to be
//! synced; everything else as it comes.

use esker::{CompactOptions, Journal, Keep, KindId, Options, Record, Seq, View};

use crate::engine::{Durability, Engine, Outcome, Setup};
use crate::shrink::Shrinks;
use crate::workload::{Event, Key};
use crate::works::Work;

pub struct Esker {
    journal: Journal,
    kind: KindId,
    view: Option<View>,
}

impl Esker {
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn kind(&self) -> KindId {
        self.kind
    }

    fn view(&self) -> Outcome<&View> {
        self.view.as_ref().ok_or_else(|| "not reading".into())
    }
}

impl Engine for Esker {
    const CRATE: &'static str = "esker";
    const HISTORIES_WHEN_PLAIN: bool = true;

    fn offers(_work: Work) -> bool {
        true
    }

    fn open(setup: &Setup) -> Outcome<Self> {
        let durability = match setup.durability {
            Durability::Each => esker::Durability::Sync,
            Durability::None => esker::Durability::Os,
        };
        let journal = Options::new().durability(durability).open(&setup.dir)?;
        let kind = journal.kind("bench")?;
        Ok(Self { journal, kind, view: None })
    }

    fn append(&mut self, event: &Event<'_>) -> Outcome {
        self.append_shared(event)
    }

    fn append_shared(&self, event: &Event<'_>) -> Outcome {
        self.journal.append(Record::new(self.kind, &event.key, event.payload))?;
        Ok(())
    }

    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome {
        let mut batch = self.journal.batch();
        for event in events {
            batch.push(Record::new(self.kind, &event.key, event.payload));
        }
        batch.commit()?;
        Ok(())
    }

    fn sync(&mut self) -> Outcome {
        self.journal.sync()?;
        Ok(())
    }

    fn start_reading(&mut self) -> Outcome {
        self.view = Some(self.journal.view());
        Ok(())
    }

    fn scan(&mut self, mut see: impl FnMut(&[u8])) -> Outcome {
        for entry in self.view()?.range(..) {
            see(entry?.payload());
        }
        Ok(())
    }

    fn history(&mut self, _entity: u32, key: &Key, mut see: impl FnMut(&[u8])) -> Outcome {
        for entry in self.view()?.entity(self.kind, key) {
            see(entry?.payload());
        }
        Ok(())
    }

    /// Places count from 0, `Seq` from 1.
    fn get(&mut self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let seq = Seq::new(place + 1).ok_or("no such place")?;
        let entry = self.view()?.get(seq)?;
        see(entry.ok_or("no such event")?.payload());
        Ok(())
    }

    fn close(mut self) -> Outcome {
        self.view = None;
        self.journal.close()?;
        Ok(())
    }
}

/// As it comes: what stands in the segment that is being written stays.
impl Shrinks for Esker {
    const BESIDE_OTHERS: bool = true;

    fn shrink(&mut self, events: u64, newest: u64) -> Outcome {
        self.shrink_beside(events, newest)
    }

    fn shrink_beside(&self, _events: u64, _newest: u64) -> Outcome {
        self.journal.keep(self.kind, Keep::Latest)?;
        self.journal.compact(&CompactOptions::new())?;
        Ok(())
    }

    fn get_shared(&self, place: u64, mut see: impl FnMut(&[u8])) -> Outcome {
        let seq = Seq::new(place + 1).ok_or("no such place")?;
        see(self.journal.get(seq)?.ok_or("no such event")?.payload());
        Ok(())
    }
}
