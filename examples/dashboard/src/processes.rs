//! What the kernel says of the processes of this machine.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A process, as a row of live state. Its key is its number, in decimal.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Process {
    pub name: String,
    /// A letter: `R` runs, `S` sleeps, `D` waits for a device, `Z` has ended, and nobody has asked how.
    pub state: String,
    /// Resident, in KiB.
    pub memory: u64,
    /// Of one processor, in percent, since the look before.
    pub cpu: f64,
    pub threads: u32,
}

/// Looks again and again, and remembers how much each process had worked.
pub struct Processes {
    looked: Instant,
    worked: HashMap<String, f64>,
}

impl Processes {
    pub fn new() -> Self {
        Self { looked: Instant::now(), worked: HashMap::new() }
    }

    /// The processes that there are now, by number.
    pub fn look(&mut self) -> io::Result<Vec<(String, Process)>> {
        let passed = self.looked.elapsed().as_secs_f64();
        self.looked = Instant::now();
        let mut worked = HashMap::new();
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().into_string() else { continue };
            if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            // One that ended while it was looked at is not there.
            let Some((mut process, seconds)) = read(&pid) else { continue };
            if let Some(before) = self.worked.get(&pid) {
                // To a tenth: who does next to nothing does not change each time.
                process.cpu = ((seconds - before).max(0.0) / passed * 1000.0).round() / 10.0;
            }
            worked.insert(pid.clone(), seconds);
            processes.push((pid, process));
        }
        self.worked = worked;
        Ok(processes)
    }
}

/// A process, and for how many seconds it has worked.
fn read(pid: &str) -> Option<(Process, f64)> {
    /// Linux tells times in this unit, whatever its own clock does.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name is in parentheses, and may have some itself.
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let seconds = (number(11)? + number(12)?) / TICKS_PER_SECOND;
    let process = Process {
        name: name.to_owned(),
        state: (*fields.first()?).to_owned(),
        memory: memory(pid).unwrap_or(0),
        cpu: 0.0,
        threads: fields.get(17)?.parse().ok()?,
    };
    Some((process, seconds))
}

/// The kernel's own threads have none.
fn memory(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
