//! A journal against a model: appends, batches, expectations, keys, clean closes, power cuts in
//! the middle of an operation, failing syncs, a full disk, and garbage in every derived file.
#![no_main]

use arbitrary::Arbitrary;
use esker::{Error, ErrorKind, Journal, Simulator};
use esker_fuzz::{Draft, Model, options};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    segments: u8,
    operations: Vec<Operation>,
}

#[derive(Debug, Arbitrary)]
enum Operation {
    Append {
        draft: Draft,
        wait: bool,
    },
    Batch {
        drafts: Vec<Draft>,
        key: Option<u8>,
        wait: bool,
    },
    Sync,
    Check,
    /// A clean end; derived files are damaged before the next life.
    Reopen {
        garbage: Vec<(u8, u16, u8)>,
    },
    /// The power goes `back` operations of the disk ago, within the last call.
    Crash {
        back: u8,
        choices: Vec<u8>,
    },
    FailSync(u8),
    Space(Option<u16>),
}

const OPERATIONS_MAX: usize = 60;
const ENTRIES_MAX: usize = 300;

struct World {
    segments: u8,
    disk: Simulator,
    journal: Journal,
    model: Model,
    /// The disk's operations, and what was durable, before the last call.
    before: (usize, usize),
}

fuzz_target!(|input: Input| {
    let disk = Simulator::new();
    let journal = options(input.segments).open_in(&disk).expect("an empty disk opens");
    let before = (disk.events(), 0);
    let mut world = World { segments: input.segments, disk, journal, model: Model::default(), before };
    for operation in input.operations.iter().take(OPERATIONS_MAX) {
        if world.model.written.len() > ENTRIES_MAX {
            break;
        }
        world.step(operation);
    }
    world.check();
});

impl World {
    fn step(&mut self, operation: &Operation) {
        let before = (self.disk.events(), self.model.durable);
        let answer = match operation {
            Operation::Append { draft, wait } => {
                self.model.append(&self.journal, std::slice::from_ref(draft), None, *wait)
            }
            Operation::Batch { drafts, key, wait } => {
                let drafts = &drafts[..drafts.len().min(20)];
                self.model.append(&self.journal, drafts, *key, *wait)
            }
            Operation::Sync => self.journal.sync().map(|_| self.model.durable = self.model.written.len()),
            Operation::Check => {
                self.check();
                Ok(())
            }
            Operation::Reopen { garbage } => return self.reopen(garbage),
            Operation::Crash { back, choices } => return self.crash(usize::from(*back), choices),
            Operation::FailSync(after) => {
                self.disk.fail_sync_after(usize::from(*after));
                Ok(())
            }
            Operation::Space(bytes) => {
                self.disk.limit_space(bytes.map(usize::from));
                Ok(())
            }
        };
        self.before = before;
        if let Err(error) = answer {
            self.judge(&error);
        }
    }

    /// Refused, or of unknown outcome: those are the two that a sick disk leads to.
    fn judge(&mut self, error: &Error) {
        match error.kind() {
            ErrorKind::NoSpace | ErrorKind::Io if !self.journal.stats().poisoned => self.check(),
            ErrorKind::Poisoned | ErrorKind::Io | ErrorKind::NoSpace => {
                self.before = (self.disk.events(), self.model.durable);
                self.crash(0, &[]);
            }
            _ => panic!("{error}"),
        }
    }

    fn check(&self) {
        if !self.journal.stats().poisoned {
            self.model.check(&self.journal.view(), &|kind| self.model.name_of(kind));
        }
    }

    fn reopen(&mut self, garbage: &[(u8, u16, u8)]) {
        let closed = self.journal.close();
        if closed.is_err() {
            self.before = (self.disk.events(), self.model.durable);
            return self.crash(0, &[]);
        }
        self.model.durable = self.model.written.len();
        let mut files = self.disk.files();
        let derived: Vec<String> =
            files.keys().filter(|name| name.ends_with(".idx") || *name == "entities").cloned().collect();
        for (file, at, byte) in garbage {
            if let Some(name) = derived.get(usize::from(*file) % derived.len().max(1))
                && let Some(bytes) = files.get_mut(name)
                && !bytes.is_empty()
            {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= byte;
            }
        }
        self.begin(Simulator::with(files));
    }

    fn crash(&mut self, back: usize, choices: &[u8]) {
        let now = self.disk.events();
        let at = now - back.min(now - self.before.0);
        if at < now {
            self.model.durable = self.before.1;
        }
        // What nobody chose keeps its oldest state, which is the hardest one.
        let mut choices = choices.iter().copied();
        let after = self.disk.crash(at, &mut |n| usize::from(choices.next().unwrap_or(0)) % n);
        self.begin(after);
    }

    /// The next life: what is there must be enough, and a prefix in whole batches.
    fn begin(&mut self, disk: Simulator) {
        let journal = options(self.segments).open_in(&disk).unwrap_or_else(|e| panic!("no damage, but {e}"));
        self.disk = disk;
        self.journal = journal;
        let count = self.journal.view().range(..).count();
        assert!(count >= self.model.durable, "{count} left of {} that were acknowledged", self.model.durable);
        self.model.cut(count);
        // What was found is what the next life starts from: recovery has synced it.
        self.model.durable = count;
        self.model.learn_kinds(&self.journal);
        self.before = (self.disk.events(), count);
        self.check();
    }
}
