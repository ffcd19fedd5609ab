//! What was tried and what came of it.

use std::collections::BTreeMap;
use std::io::Write;

use crate::blocks::device::FileSystem;

/// Behind so many there is no need of more.
pub(crate) const VIOLATIONS: usize = 12;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Sectors that failed, one at a time.
    pub(crate) states: usize,
    classes: BTreeMap<String, usize>,
    pub(crate) violations: Vec<String>,
}

impl Tally {
    pub(crate) fn count(&mut self, class: impl Into<String>) {
        *self.classes.entry(class.into()).or_default() += 1;
    }

    pub(crate) fn violation(&mut self, what: String) {
        eprintln!("violation: {what}");
        self.violations.push(what);
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.violations.len() >= VIOLATIONS
    }

    pub(crate) fn tell(&self, file_system: FileSystem, trouble: &str, seconds: u64) {
        let (name, states, violations) = (file_system.name(), self.states, self.violations.len());
        let told = format!(
            "{{\"rung\":\"R7\",\"file_system\":\"{name}\",\"sector\":\"{trouble}\",\"states\":{states},\
             \"violations\":{violations},\"seconds\":{seconds}}}\n{name}, {trouble}: {:?}\n",
            self.classes
        );
        std::io::stdout().write_all(told.as_bytes()).unwrap();
    }
}
