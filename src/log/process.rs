//! Processes, as far as one can tell of another whether it is still there.

use serde::{Deserialize, Serialize};

use crate::log::lock::{boot_id, host_name};

/// A process. What it says of itself is written where others find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// For people: a container has another one each time that it starts.
    host: String,
    /// The kernel's boot id: an id of a process means nothing under another one.
    boot: String,
    id: u32,
    /// When it began, in ticks since the boot, which tells it from a later one of the same id; 0: that is not known.
    began: u64,
    /// In which namespace the id is one; 0: that is not known.
    #[serde(default)]
    namespace: u64,
}

impl Process {
    /// The one that asks.
    #[must_use]
    pub fn this() -> Self {
        let id = std::process::id();
        let began = look_up(id).map_or(0, |found| found.began);
        Self { host: host_name(), boot: boot_id(), id, began, namespace: namespace() }
    }

    /// One of this machine that is not there any more: for tests of what becomes of what it leaves.
    #[cfg(any(test, feature = "conformance"))]
    #[doc(hidden)]
    #[must_use]
    pub fn that_has_ended() -> Self {
        // No process has this id.
        Self { id: 0, ..Self::this() }
    }

    /// One that nobody can look for from here: a container of another start, on a machine that is not known.
    #[cfg(test)]
    pub(crate) fn of_nobody_knows_where() -> Self {
        let [host, boot] = ["another", "elsewhere"].map(str::to_owned);
        Self { host, boot, namespace: 0, ..Self::this() }
    }

    /// True if it is the one that asks, whatever its machine is called by now.
    pub(crate) fn is_this(&self) -> bool {
        let this = Self::this();
        (&*self.boot, self.id, self.began) == (&*this.boot, this.id, this.began)
            && (self.namespace == this.namespace || self.namespace == 0)
    }

    /// True if it is certain that it is not there any more. Of one of another boot nothing is, as it may be one of another machine:
    /// copies of a machine have its name, and its id too. Neither is of one whose id is one in another namespace.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        if self.boot != boot_id() {
            return false;
        }
        // Where boots have no id, two machines are told apart by their names alone.
        let is_here = !self.boot.is_empty() || self.host == host_name();
        is_here && self.namespace != 0 && self.namespace == namespace() && !self.may_be_here()
    }

    fn may_be_here(&self) -> bool {
        let id = i32::try_from(self.id).ok().and_then(rustix::process::Pid::from_raw);
        let Some(id) = id else { return false };
        if cfg!(miri) {
            return true;
        }
        if matches!(rustix::process::test_kill_process(id), Err(rustix::io::Errno::SRCH)) {
            return false;
        }
        // One that nobody has waited for yet has an id, and does nothing any more.
        look_up(self.id).is_none_or(|found| !found.is_over && (self.began == 0 || self.began == found.began))
    }
}

fn namespace() -> u64 {
    if cfg!(miri) || !cfg!(target_os = "linux") {
        // Elsewhere there is but one, as far as is known.
        return 1;
    }
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |found| found.st_ino)
}

/// What the kernel says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    is_over: bool,
    began: u64,
}

fn look_up(id: u32) -> Option<Found> {
    if cfg!(miri) {
        return None;
    }
    read(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// The state and the time at which it began, of a line of the kernel: the name of the program, which may be anything, is in
/// brackets before them.
fn read(line: &str) -> Option<Found> {
    const BEGAN_BEHIND_THE_STATE: usize = 18;
    let (_, behind) = line.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Found {
        is_over: matches!(state, "Z" | "X" | "x"),
        began: fields.nth(BEGAN_BEHIND_THE_STATE)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_over_when_it_is_certain_that_it_is() {
        let this = Process::this();
        assert!(!this.has_ended());
        assert!(Process::that_has_ended().has_ended());
        let of_another_boot = Process { boot: "another".to_owned(), ..Process::that_has_ended() };
        assert!(
            !of_another_boot.has_ended(),
            "it may be one of another machine, which nobody can see from here"
        );
        let renamed = Process { host: "another".to_owned(), ..Process::that_has_ended() };
        assert!(renamed.has_ended(), "a name says nothing");
        for namespace in [0, this.namespace + 1] {
            let of_another = Process { namespace, ..Process::that_has_ended() };
            assert!(!of_another.has_ended(), "its id is one of other processes");
        }
        // On Linux, where it is known when they began, another of the same id is another.
        let later = Process { began: this.began + 1, ..this.clone() };
        assert_eq!(later.has_ended(), this.began > 0);
        let renamed = Process { host: "another".to_owned(), ..this.clone() };
        assert!(this.is_this() && renamed.is_this() && !Process::that_has_ended().is_this());
        assert!(!Process { boot: "another".to_owned(), ..this }.is_this());
    }

    #[test]
    fn what_the_kernel_says_is_read_behind_whatever_name_the_program_has() {
        let numbers = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let found = |state: &str| read(&format!("77 (a ) Z (b) {state} {numbers}"));
        assert_eq!(found("S"), Some(Found { is_over: false, began: 4711 }));
        assert_eq!(found("Z"), Some(Found { is_over: true, began: 4711 }));
        assert_eq!(read("77 (cut) S 1 2"), None);
    }
}
