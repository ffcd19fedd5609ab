//! Disks that are full or fail, and processes that end in the middle of something.

use esker::{ErrorKind, EventOperation};

use super::oracle::Row;
use super::{KEYS, World, ensure, met};

impl World {
    /// The process was killed while something was done that began there, behind a part of what the disk was told of it.
    pub(super) fn kill_within(&mut self, begun: usize, part: u8, what: &'static str) -> Result<(), String> {
        let events = self.disk.events() - begun;
        let at = begun + usize::from(part) * (events + 1) / 256;
        if (begun + 1..self.disk.events()).contains(&at) {
            met(what);
        }
        // Whoever follows has its token from before.
        self.follower = None;
        let killed = self.disk.kill(at);
        self.die(killed)
    }

    /// Power is cut, or the process killed: what was not synced may be gone.
    pub(super) fn cut_power(&mut self, seed: u64) -> Result<(), String> {
        self.follower = None;
        let mut state = seed | 1;
        let crashed = self.disk.crash(self.disk.events(), &mut |n| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 11).unwrap_or(0) % n.max(1)
        });
        self.die(crashed)
    }

    /// A source goes on while there is no space; what is taken in stays pending until there is.
    pub(super) fn fill_the_disk(&mut self, source: usize, key: usize, says: u8) -> Result<(), String> {
        // Nobody is to be claimed or ended meanwhile.
        let session = self.source(source)?;
        self.flush()?;
        self.speaks(source);
        self.disk.limit_space(Some(0));
        for n in 0..says {
            let row = Row::new(n % 2, Some("x".repeat(250)));
            match session.assert(self.kind, KEYS[key], &row) {
                Ok(_) => {
                    self.said(false, |world| world.say(KEYS[key], source, row, EventOperation::Assert))?
                }
                Err(error) => {
                    let is_full = error.kind() == ErrorKind::NoSpace;
                    ensure(is_full, &format!("what is said on a full disk: {error}"))?;
                    met("what was said on a full disk was refused");
                }
            }
            let pending = self.store.state_stats().unwrap().pending;
            match self.store.flush() {
                Ok(()) => self.has_flushed()?,
                Err(error) => {
                    ensure(error.kind() == ErrorKind::NoSpace, &format!("a flush on a full disk: {error}"))?;
                    met("a flush failed for want of space");
                    ensure(self.store.state_stats().unwrap().pending == pending, "what is pending stays")?;
                    self.has_failed = true;
                }
            }
            self.check()?;
        }
        self.disk.limit_space(None);
        self.is_told(source, KEYS[key], ErrorKind::NoSpace)
    }

    /// What failed when nobody waited is told to whoever comes next, once.
    fn is_told(&mut self, source: usize, key: &'static str, failed: ErrorKind) -> Result<(), String> {
        match self.source(source)?.retract(self.kind, key) {
            Ok(_) => self.said(false, |world| world.unsay(key, source)),
            Err(error) => ensure(error.kind() == failed, &error.to_string()),
        }
    }

    /// A sync fails, while a source speaks. Then everything is refused, until the store is opened anew.
    pub(super) fn fail_a_sync(
        &mut self,
        source: usize,
        after: usize,
        forgets: bool,
        crash: Option<u64>,
    ) -> Result<(), String> {
        self.leave();
        // Nobody is to be claimed or ended meanwhile.
        let session = self.source(source)?;
        self.flush()?;
        self.speaks(source);
        if forgets {
            self.disk.forget_sync_after(after);
        } else {
            self.disk.fail_sync_after(after);
        }
        let row = Row::new(u8::from(forgets), Some("it may be lost".to_owned()));
        match session.assert(self.kind, KEYS[after], &row) {
            Ok(_) => self.say(KEYS[after], source, row, EventOperation::Assert),
            // Of a segment that could not be made for the name of the kind.
            Err(error) => ensure(error.kind() == ErrorKind::Io, &error.to_string())?,
        }
        let failed = self.store.flush().and_then(|()| self.store.journal().sync().map(drop));
        if !self.store.journal().stats().poisoned {
            self.disk.fail_sync_after(usize::MAX);
            self.count_flushes();
            if failed.is_ok() {
                return self.has_flushed();
            }
            // Of a segment that could not be made: nothing was appended.
            self.check()?;
            return self.is_told(source, KEYS[after], ErrorKind::Io);
        }
        met("a sync failed");
        // It may have been appended before.
        self.oracle.flushed();
        let refused = [
            session.retract(self.kind, KEYS[after]).map(drop),
            self.store.flush(),
            self.store.scan(self.kind).map(drop),
            self.store.subscribe(self.kind).map(drop),
            self.store.close(),
        ];
        for refused in refused {
            let is_told = refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::Poisoned);
            ensure(is_told, &format!("{refused:?} of a store whose sync has failed"))?;
        }
        match crash {
            Some(seed) => self.cut_power(seed),
            None => {
                let killed = self.disk.kill(self.disk.events());
                self.die(killed)
            }
        }
    }
}
