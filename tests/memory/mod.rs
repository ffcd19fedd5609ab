//! What a process takes of memory, and a process of its own to measure it in.

use std::path::Path;
use std::process::{Command, Stdio};

/// The anonymous memory of this process that is resident, in bytes.
#[allow(dead_code, reason = "some measure others")]
pub(crate) fn anonymous() -> u64 {
    anonymous_of("self").unwrap()
}

/// The same of a process by its number; `None`: it has ended.
pub(crate) fn anonymous_of(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

/// A test of this program again, in a process of its own, which is told its role and the path by a variable; answers what it
/// says.
#[allow(dead_code, reason = "some measure themselves")]
pub(crate) fn child(test: &str, variable: &str, role: &str, path: &Path) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, format!("{role} {}", path.display()))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap();
    assert!(child.status.success(), "{role}: {said}");
    said
}
