//! A value on its way through a history.

use serde::Deserialize;

use crate::codec;
use crate::error::Result;
use crate::fold::{At, Fold, Projection};
use crate::id::{Generation, KindId, Position};
use crate::journal::entry::Entry;
use crate::journal::view::View;

/// The kind whose facts are folded, as its handle names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) version: u16,
}

/// What a fold has come to, and behind which fact.
///
/// After an error it is as it was before the fact that could not be taken in. After a panic of the
/// fold it must not be used again: whoever calls it lets go of it first.
#[derive(Clone)]
pub(crate) struct Folding<F: Fold> {
    state: Option<F::State>,
    generation: Option<Generation>,
    /// Facts before that are missing.
    is_partial: bool,
    /// Everything up to this Seq was looked at.
    pub(crate) seq: u64,
    /// Where the views ended that it was folded from.
    pub(crate) mark: Position,
    /// How often the log had been compacted then.
    compactions: u32,
}

impl<F: Fold> Folding<F> {
    pub(crate) fn new() -> Self {
        Self {
            state: None,
            generation: None,
            is_partial: false,
            seq: 0,
            mark: Position::ZERO,
            compactions: 0,
        }
    }

    /// The value, if it is behind a newer fact than the last that was told of.
    pub(crate) fn news(&self, told: &mut Option<Generation>) -> Option<Projection<F::State>> {
        (self.generation > *told).then(|| {
            *told = self.generation;
            self.projection()
        })
    }

    pub(crate) fn projection(&self) -> Projection<F::State> {
        Projection { generation: self.generation, value: self.state.clone(), is_partial: self.is_partial }
    }

    /// Takes in the next fact about the entity.
    pub(crate) fn take(&mut self, kind: Named, entry: &Entry<'_>) -> Result<()> {
        let at = At::of(entry);
        if F::relevant(&at) {
            let event = decode::<F>(kind, entry)?;
            F::fold(self.state.get_or_insert_default(), event, &at);
        }
        // What compaction has dropped is an error; this was lost.
        self.is_partial |= !self.is_next(entry) || self.generation.is_none() && !begins(&at);
        self.generation = Some(at.generation);
        self.seq = at.seq.get();
        Ok(())
    }

    /// Takes in what a view shows of the entity behind what was looked at, up to a Seq.
    pub(crate) fn go_on_in(
        &mut self,
        view: &View,
        kind: Named,
        (id, key): (KindId, &[u8]),
        last: u64,
    ) -> Result<()> {
        // Also if it fails half way: what was taken in until then may be from this view.
        self.mark = self.mark.max(view.mark);
        let compactions = std::mem::replace(&mut self.compactions, view.compactions());
        if compactions != self.compactions && self.is_gone(view, (id, key))? {
            *self = Self { mark: self.mark, compactions: self.compactions, ..Self::new() };
        }
        if self.generation.is_some() {
            for entry in view.entity_behind(id, key, self.seq) {
                let entry = entry?;
                if entry.seq().get() > last {
                    return Ok(());
                }
                if !self.is_next(&entry) {
                    // Compaction has been between: what there is now is folded, if that is a history.
                    *self = Self { mark: self.mark, compactions: self.compactions, ..Self::new() };
                    return self.go_on_in(view, kind, (id, key), last);
                }
                self.take(kind, &entry)?;
            }
            return Ok(());
        }
        // A history that is not whole is an error, and no value.
        for entry in view.entity(id, key) {
            let entry = entry?;
            if entry.seq().get() > last {
                return Ok(());
            }
            self.take(kind, &entry)?;
        }
        Ok(())
    }

    /// True if nothing is left of what was folded: it was erased, or dropped with the whole entity.
    fn is_gone(&self, view: &View, (id, key): (KindId, &[u8])) -> Result<bool> {
        Ok(self.generation.is_some() && view.latest(id, key)?.is_none())
    }

    /// True if a fact comes right behind what was taken in.
    pub(crate) fn is_next(&self, entry: &Entry<'_>) -> bool {
        match self.generation {
            None => entry.is_first(),
            // Where it begins anew, what was before was erased, or is lost: its number may be the next all the same.
            Some(last) => !entry.is_first() && last.get().checked_add(1) == Some(entry.generation().get()),
        }
    }
}

/// True if a history may begin with a fact: it is the first of all, or nothing was known of the entity, and its Seq is the generation.
fn begins(at: &At) -> bool {
    at.generation.get() == 1 || at.generation.get() == at.seq.get()
}

fn decode<F: Fold>(kind: Named, entry: &Entry<'_>) -> Result<F::Event>
where
    F::Event: for<'de> Deserialize<'de>,
{
    codec::decode(kind.name, kind.version, entry)
}
