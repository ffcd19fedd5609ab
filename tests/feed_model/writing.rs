//! What is appended, and where a batch moves cursors.

use std::collections::BTreeMap;

use esker::{Batch, Durability, ErrorKind, IdempotencyKey, Record, Seq};

use super::operation::{Going, KEYS, Saying, Waits};
use super::plain::{Change, Checked, Cursor, Said, ensure, met};
use super::world::{World, seq};

/// A batch that waits to be committed.
pub(super) struct Prepared {
    pub(super) batch: Batch<'static>,
    pub(super) said: Said,
    pub(super) name: usize,
    pub(super) seq: u64,
    /// The cursor was put back or retired since.
    pub(super) is_stale: bool,
}

/// A batch whose key is remembered.
pub(super) struct Keyed {
    pub(super) key: IdempotencyKey,
    pub(super) said: Said,
    pub(super) seq: u64,
}

impl World {
    fn said(&mut self, saying: Saying) -> Said {
        self.numbers += 1;
        Said::new(saying, self.numbers)
    }

    pub(super) fn append(&mut self, saying: Saying, waits: Waits) -> Checked {
        let said = self.said(saying);
        let record = Record::new(self.kinds[said.kind], KEYS[said.key].as_bytes(), &said.payload);
        let answer = match waits {
            Waits::AsConfigured => self.journal.append(record).map(|receipt| receipt.seq),
            Waits::Not => self.journal.append_nowait(record).map(|ticket| ticket.seq()),
            Waits::UntilDurable => self.journal.append_nowait(record).and_then(|ticket| {
                ticket.wait_durable()?;
                Ok(ticket.seq())
            }),
        };
        let seq = self.settle(answer, Change { said: vec![said], ..Change::default() })?;
        self.appended(seq, waits)
    }

    fn appended(&mut self, last: Seq, waits: Waits) -> Checked {
        ensure!(last.get() == self.plain.newest(), "appended as {last}, not {}", self.plain.newest());
        let is_durable = match waits {
            Waits::Not => false,
            Waits::AsConfigured => self.manner.durability == Durability::Sync,
            Waits::UntilDurable => true,
        };
        if is_durable {
            self.plain.all_is_durable();
        }
        Ok(())
    }

    /// Adds a move of a cursor to a batch, if somebody has it in hand; answers where it will be.
    fn go(&self, batch: &mut Batch<'_>, going: Going) -> Checked<Option<(usize, u64)>> {
        let Some(name) = self.in_hand(going.watcher) else { return Ok(None) };
        let watching = &self.watchers[&name];
        if going.beyond || watching.looked <= going.back as u64 {
            let beyond = batch.move_cursor(&watching.watcher, seq(watching.looked + 1));
            let refused = beyond.err().map(|error| error.kind());
            ensure!(refused == Some(ErrorKind::InvalidInput), "moved beyond what was seen: {refused:?}");
            return Ok(None);
        }
        let to = watching.looked - going.back as u64;
        batch.move_cursor(&watching.watcher, seq(to))?;
        Ok(Some((name, to)))
    }

    /// The cursors that these moves change: none goes back.
    pub(super) fn moved(
        &self,
        moves: impl IntoIterator<Item = (usize, u64)>,
    ) -> Vec<(usize, Option<Cursor>)> {
        let last: BTreeMap<usize, u64> = moves.into_iter().collect();
        let step = |(name, seq): (usize, u64)| {
            let known = self.plain.now().cursors.get(&name)?;
            (known.seq < seq).then(|| (name, Some(Cursor { seq, revision: None, ..known.clone() })))
        };
        last.into_iter().filter_map(step).collect()
    }

    pub(super) fn batch(&mut self, sayings: &[Saying], goings: &[Going], waits: Waits) -> Checked {
        let said: Vec<Said> = sayings.iter().map(|saying| self.said(*saying)).collect();
        let mut batch = self.journal.batch();
        for said in &said {
            batch.push(Record::new(self.kinds[said.kind], KEYS[said.key].as_bytes(), &said.payload));
        }
        let mut moves = Vec::new();
        for going in goings {
            moves.extend(self.go(&mut batch, *going)?);
        }
        let answer = match waits {
            Waits::AsConfigured => batch.commit(),
            Waits::Not => batch.commit_nowait().map(|(receipt, _)| receipt),
            Waits::UntilDurable => batch.commit_nowait().and_then(|(receipt, ticket)| {
                ticket.wait_durable()?;
                Ok(receipt)
            }),
        };
        drop(batch);
        let cursors = self.moved(moves);
        if cursors.len() > 1 {
            met("a batch moved two cursors");
        }
        let receipt = self.settle(answer, Change { said, cursors })?;
        ensure!(receipt.receipts.len() == sayings.len() && !receipt.repeated, "{receipt:?}");
        self.appended(receipt.receipts[sayings.len() - 1].seq, waits)
    }

    pub(super) fn keyed(&mut self, saying: Saying) -> Checked {
        let said = self.said(saying);
        let key = IdempotencyKey(u128::from(self.numbers).to_le_bytes());
        let mut batch = self.journal.batch().idempotency_key(key);
        batch.push(Record::new(self.kinds[said.kind], KEYS[said.key].as_bytes(), &said.payload));
        let answer = batch.commit();
        drop(batch);
        let receipt = self.settle(answer, Change { said: vec![said.clone()], ..Change::default() })?;
        self.appended(receipt.receipts[0].seq, Waits::AsConfigured)?;
        self.keyed = Some(Keyed { key, said, seq: self.plain.newest() });
        Ok(())
    }

    /// Nothing is appended again, and the cursor moves all the same.
    pub(super) fn repeat(&mut self, going: Going) -> Checked {
        let Some(Keyed { key, said, seq }) = &self.keyed else { return Ok(()) };
        let (first, said) = (*seq, said.clone());
        let mut batch = self.journal.batch().idempotency_key(*key);
        batch.push(Record::new(self.kinds[said.kind], KEYS[said.key].as_bytes(), &said.payload));
        let moves = self.go(&mut batch, going)?;
        let answer = batch.commit();
        drop(batch);
        let cursors = self.moved(moves);
        if !cursors.is_empty() {
            met("a batch was repeated, and moved its cursor");
        }
        let receipt = self.settle(answer, Change { said: Vec::new(), cursors })?;
        ensure!(receipt.repeated && receipt.receipts[0].seq.get() == first, "{receipt:?}, not {first}");
        if self.manner.durability == Durability::Sync {
            self.plain.all_is_durable();
        }
        Ok(())
    }

    pub(super) fn prepare(&mut self, going: Going) -> Checked {
        if self.prepared.is_some() {
            return Ok(());
        }
        let mut said = self.said(Saying { kind: 1, key: 4, length: 0 });
        said.payload = b"prepared".to_vec();
        let mut batch = self.journal.batch();
        batch.push(Record::new(self.kinds[said.kind], KEYS[said.key].as_bytes(), b"prepared"));
        let Some((name, seq)) = self.go(&mut batch, going)? else { return Ok(()) };
        self.prepared = Some(Prepared { batch, said, name, seq, is_stale: false });
        Ok(())
    }

    /// A batch that comes late moves a cursor only forward, and none that was put back meanwhile.
    pub(super) fn commit_prepared(&mut self) -> Checked {
        let Some(mut prepared) = self.prepared.take() else { return Ok(()) };
        let answer = prepared.batch.commit();
        if prepared.is_stale {
            let refused = answer.err().map(|error| error.kind());
            ensure!(refused == Some(ErrorKind::UnknownCursor), "a stale batch answers {refused:?}");
            met("a batch came behind a reset or a retirement");
            return Ok(());
        }
        let (said, cursors) = (vec![prepared.said.clone()], self.moved([(prepared.name, prepared.seq)]));
        if cursors.is_empty() {
            met("a batch came late, and its cursor was further");
        }
        if answer.is_err() && !self.journal.stats().poisoned {
            // It is as it was, and can be committed again.
            self.prepared = Some(prepared);
        }
        let receipt = self.settle(answer, Change { said, cursors })?;
        self.appended(receipt.receipts[0].seq, Waits::AsConfigured)
    }
}
