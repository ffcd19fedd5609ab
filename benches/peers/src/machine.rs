//! The machine: what it is, whether it is quiet, and how much of it others used meanwhile.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Processor time since boot, in clock ticks, summed over the cores.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    total: u64,
    busy: u64,
    /// Taken by the host for other guests.
    stolen: u64,
    /// Used by this process and by its children that have ended.
    own: u64,
}

impl Ticks {
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or("")
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|f| f.parse().ok())
            .collect();
        let field = |i: usize| fields.get(i).copied().unwrap_or(0);
        let total = fields.iter().sum();
        let idle = field(3) + field(4);
        Self { total, busy: total - idle - field(7), stolen: field(7), own: own_ticks() }
    }

    /// Processor time that others used since `before`, the kernel's own threads and the host among
    /// them, and all there was.
    pub fn others_since(self, before: Self) -> Share {
        let used = (self.busy - before.busy) + (self.stolen - before.stolen);
        let own = self.own - before.own;
        Share { part: used.saturating_sub(own), whole: self.total.saturating_sub(before.total) }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    pub fn add(&mut self, other: Self) {
        self.part += other.part;
        self.whole += other.whole;
    }

    pub fn percent(self) -> f64 {
        self.part as f64 / self.whole.max(1) as f64 * 100.0
    }
}

fn own_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name, in parentheses, may hold spaces: count from its end.
    let after_name = stat.rsplit(')').next().unwrap_or("");
    after_name.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Waits until others used less than a twentieth of the machine for a quarter of a second, or until
/// patience ends. Says whether it became quiet.
pub fn wait_until_quiet(patience: Duration) -> bool {
    let start = Instant::now();
    loop {
        let before = Ticks::now();
        sleep(Duration::from_millis(250));
        if Ticks::now().others_since(before).percent() < 5.0 {
            return true;
        }
        if start.elapsed() >= patience {
            return false;
        }
    }
}

/// One line: processor, cores, memory, file system, kernel.
pub fn description(dir: &Path) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes: u64 = memory
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {cores} cores, {:.0} GiB, {}, Linux {}",
        model.unwrap_or("unknown processor"),
        kibibytes as f64 / (1 << 20) as f64,
        file_system(dir),
        kernel.trim()
    )
}

/// Type and device of the mount that holds `dir`: the longest mount point that is a prefix of it.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let holder = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
        .filter(|(_, point, _)| dir.starts_with(point))
        .max_by_key(|(_, point, _)| point.len());
    holder.map_or_else(|| "unknown file system".into(), |(device, _, kind)| format!("{kind} on {device}"))
}
