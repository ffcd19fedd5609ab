//! What was looked at, and what was found.

use std::collections::BTreeMap;
use std::io::Write;

use crate::blocks::device::FileSystem;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: usize,
    /// How many of them left what was judged.
    pub(crate) states: usize,
    /// So many of them came when the machine had nothing more to do.
    pub(crate) idle: usize,
    /// So many took writes that no flush covered, and of so many a write in part.
    pub(crate) dropped: usize,
    pub(crate) torn: usize,
    /// How many stores were judged in the machine, too.
    pub(crate) inside: usize,
    /// Writes, flushes and marks that came to a disk.
    pub(crate) events: usize,
    pub(crate) classes: BTreeMap<String, usize>,
    pub(crate) violations: Vec<String>,
}

impl Tally {
    pub(crate) fn tell(&self, file_system: FileSystem, seed: u64, seconds: u64) {
        let Self { cuts, states, idle, dropped, torn, inside, events, .. } = self;
        let (name, violations) = (file_system.name(), self.violations.len());
        let told = format!(
            "{{\"rung\":\"R8\",\"file_system\":\"{name}\",\"seed\":{seed},\"cuts\":{cuts},\"idle\":{idle},\
             \"dropped\":{dropped},\"torn\":{torn},\"inside\":{inside},\"events\":{events},\"states\":{states},\
             \"violations\":{violations},\"seconds\":{seconds}}}\n{name}: {:?}\n",
            self.classes
        );
        std::io::stdout().write_all(told.as_bytes()).unwrap();
    }
}
