//! What was looked at, and what came of it.

use std::collections::BTreeMap;
use std::io::Write;

use super::workshop::{STORE, write};
use crate::files::tree::Files;

/// Behind so many there is no need of more.
pub(crate) const VIOLATIONS: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) counts: BTreeMap<&'static str, usize>,
    classes: BTreeMap<String, usize>,
    pub(crate) violations: Vec<String>,
    /// A violation is what is looked for, and no news.
    is_quiet: bool,
}

impl Tally {
    pub(crate) fn quiet(is_quiet: bool) -> Self {
        Self { is_quiet, ..Self::default() }
    }

    pub(crate) fn count(&mut self, what: &'static str, more: usize) {
        *self.counts.entry(what).or_default() += more;
    }

    pub(crate) fn class(&mut self, class: impl Into<String>) {
        *self.classes.entry(class.into()).or_default() += 1;
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.violations.len() >= VIOLATIONS
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        for (what, count) in other.counts {
            self.count(what, count);
        }
        for (class, count) in other.classes {
            *self.classes.entry(class).or_default() += count;
        }
        self.violations.append(&mut other.violations);
    }

    /// A violation, and the files that it was found in.
    pub(crate) fn violation(&mut self, story: String, files: Option<&Files>) {
        if self.is_quiet {
            return self.violations.push(story);
        }
        eprintln!("violation: {story}");
        if let Ok(directory) = std::env::var("ESKER_FILES_EVIDENCE") {
            let number = self.violations.len();
            let name: String =
                story.chars().take(60).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let at = std::path::Path::new(&directory).join(format!("{name}-{number}"));
            _ = write(&at.join(STORE), files);
            _ = std::fs::create_dir_all(&at);
            _ = std::fs::write(at.join("story.txt"), &story);
        }
        self.violations.push(story);
    }

    pub(crate) fn tell(&self, part: &str, seed: u64, seconds: u64) {
        let counts: String = self.counts.iter().map(|(what, count)| format!("\"{what}\":{count},")).collect();
        let violations = self.violations.len();
        let told = format!(
            "{{\"rung\":\"R5\",\"part\":\"{part}\",\"seed\":{seed},{counts}\"violations\":{violations},\
             \"seconds\":{seconds}}}\n{part}: {:?}\n",
            self.classes
        );
        std::io::stdout().write_all(told.as_bytes()).unwrap();
    }
}
