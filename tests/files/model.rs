//! What a power cut may leave of a record: no more than POSIX promises.
//!
//! Of a file that is what its last sync covered; behind it each page in any version that it has had since, at worst sector by
//! sector, and either length. Of a directory it is the names of its last sync; behind it each change has happened or has not,
//! whatever became of the others. That a file was synced says nothing of its name.
//!
//! Two things that POSIX allows it never leaves: of what a refused sync should have written, anything; and old bytes behind a
//! length that was cut and grew again between two syncs.

use std::collections::{BTreeMap, HashMap};

use super::tree::{Event, Files, ROOT, overwrite};
use crate::blocks::random::Random;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    /// The order in which they came, where, and what.
    writes: Vec<(usize, usize, Vec<u8>)>,
    /// The newest length, if it is not that of what is durable, and when it came.
    length: Option<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum Change {
    Named { name: String, node: u64 },
    Moved { from: String, to: String, node: u64 },
    Unnamed { name: String, node: u64 },
}

#[derive(Clone, Debug, Default)]
struct Directory {
    durable: BTreeMap<String, u64>,
    changes: Vec<(usize, Change)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    files: HashMap<u64, File>,
    directories: HashMap<u64, Directory>,
    /// How many events it has seen.
    order: usize,
    /// What is on its way to the disk.
    pub(crate) flying: usize,
    pub(crate) lie: Option<Lie>,
}

/// Syncs that are answered, and do nothing: what a store is left with that forgets them, and whoever judges has to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    OfFiles,
    OfDirectories,
}

/// What becomes of everything that no sync covers.
#[derive(Debug)]
pub(crate) enum Fate<'a> {
    /// The first so many events have reached the disk, and none behind them.
    Prefix(usize),
    Any {
        random: &'a mut Random,
        /// In thousandths: how likely something is kept.
        names: u64,
        pages: u64,
        /// Sectors of a page are of several of its versions.
        is_torn: bool,
    },
}

impl Fate<'_> {
    fn keeps_name(&mut self, order: usize) -> bool {
        match self {
            Self::Prefix(end) => order < *end,
            Self::Any { random, names, .. } => random.below(1000) < *names,
        }
    }

    fn keeps_length(&mut self, order: usize) -> bool {
        match self {
            Self::Prefix(end) => order < *end,
            Self::Any { random, pages, .. } => random.below(1000) < *pages,
        }
    }

    /// How many of these writes of a page it has.
    fn version(&mut self, orders: &[usize]) -> usize {
        match self {
            Self::Prefix(end) => orders.iter().take_while(|order| **order < *end).count(),
            Self::Any { random, pages, .. } => {
                let all = orders.len();
                if random.below(1000) >= *pages {
                    0
                } else if random.below(3) == 0 {
                    1 + usize::try_from(random.below(all as u64)).unwrap()
                } else {
                    all
                }
            }
        }
    }

    /// What of a page is of one version.
    fn unit(&mut self) -> usize {
        let is_torn = match self {
            Self::Prefix(_) => false,
            Self::Any { random, is_torn, .. } => *is_torn && random.below(2) == 0,
        };
        if is_torn { SECTOR } else { PAGE }
    }
}

impl Model {
    /// A disk with nothing on it, or with one directory of files.
    pub(crate) fn new(store: Option<(&str, &Files)>) -> Self {
        let mut root = Directory::default();
        let (mut files, mut directories) = (HashMap::new(), HashMap::new());
        // As a tree numbers them that is made of the same files.
        let mut numbers = super::tree::FIRST..;
        if let Some((name, content)) = store {
            let directory = numbers.next().unwrap();
            root.durable.insert(name.to_owned(), directory);
            let mut names = BTreeMap::new();
            for ((name, bytes), node) in content.iter().zip(numbers) {
                names.insert(name.clone(), node);
                files.insert(node, File { durable: bytes.clone(), ..File::default() });
            }
            directories.insert(directory, Directory { durable: names, changes: Vec::new() });
        }
        directories.insert(ROOT, root);
        Self { files, directories, order: 0, flying: 0, lie: None }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        let order = self.order;
        self.order += 1;
        match event {
            Event::Made { node, is_directory: true } => {
                self.directories.insert(*node, Directory::default());
            }
            Event::Made { node, is_directory: false } => {
                self.files.insert(*node, File::default());
            }
            Event::Named { directory, name, node } => {
                self.change(*directory, Change::Named { name: name.clone(), node: *node });
            }
            Event::Moved { directory, from, to, node } => {
                let change = Change::Moved { from: from.clone(), to: to.clone(), node: *node };
                self.change(*directory, change);
            }
            Event::Unnamed { directory, name, node } => {
                self.change(*directory, Change::Unnamed { name: name.clone(), node: *node });
            }
            Event::Written { node, at, bytes } => {
                let file = self.files.entry(*node).or_default();
                let length = file.length.map_or(file.durable.len(), |(_, length)| length);
                if at + bytes.len() > length {
                    file.length = Some((order, at + bytes.len()));
                }
                file.writes.push((order, *at, bytes.clone()));
                self.flying += 1;
            }
            Event::Resized { node, bytes } => {
                self.files.entry(*node).or_default().length = Some((order, *bytes));
                self.flying += 1;
            }
            Event::Synced { node } => self.sync(*node),
            Event::Forgotten { node } => {
                let file = self.files.entry(*node).or_default();
                file.writes.clear();
            }
            Event::Mark(_) => {}
        }
    }

    fn change(&mut self, directory: u64, change: Change) {
        self.directories.entry(directory).or_default().changes.push((self.order - 1, change));
        self.flying += 1;
    }

    fn sync(&mut self, node: u64) {
        let everything = &mut Fate::Prefix(usize::MAX);
        if let Some(file) = self.files.get_mut(&node).filter(|_| self.lie != Some(Lie::OfFiles)) {
            file.durable = file.left(everything);
            // What was written behind the end of a file that became shorter since is not there.
            if let Some((_, length)) = file.length.take() {
                file.durable.resize(length, 0);
            }
            file.writes.clear();
        }
        let directory = self.directories.get_mut(&node).filter(|_| self.lie != Some(Lie::OfDirectories));
        if let Some(directory) = directory {
            directory.durable = directory.left(everything);
            directory.changes.clear();
        }
        let writes = self.files.values().map(|file| file.writes.len() + usize::from(file.length.is_some()));
        let changes = self.directories.values().map(|directory| directory.changes.len());
        self.flying = writes.sum::<usize>() + changes.sum::<usize>();
    }

    /// The files of that directory of the root, if it is there.
    pub(crate) fn left(&self, directory: &str, fate: &mut Fate<'_>) -> Option<Files> {
        let directory = *self.directories[&ROOT].left(fate).get(directory)?;
        let names = self.directories[&directory].left(fate);
        Some(names.into_iter().map(|(name, node)| (name, self.files[&node].left(fate))).collect())
    }

    /// How many events it has seen: as the end of a prefix, all of them.
    pub(crate) const fn order(&self) -> usize {
        self.order
    }
}

impl Directory {
    fn left(&self, fate: &mut Fate<'_>) -> BTreeMap<String, u64> {
        let mut names = self.durable.clone();
        for (order, change) in &self.changes {
            if !fate.keeps_name(*order) {
                continue;
            }
            match change {
                Change::Named { name, node } => {
                    names.insert(name.clone(), *node);
                }
                Change::Moved { from, to, node } => {
                    unname(&mut names, from, *node);
                    names.insert(to.clone(), *node);
                }
                Change::Unnamed { name, node } => unname(&mut names, name, *node),
            }
        }
        names
    }
}

/// It is that file's name that goes, and no other's.
fn unname(names: &mut BTreeMap<String, u64>, name: &str, node: u64) {
    if names.get(name) == Some(&node) {
        names.remove(name);
    }
}

impl File {
    fn left(&self, fate: &mut Fate<'_>) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if let Some((order, length)) = self.length
            && fate.keeps_length(order)
        {
            bytes.resize(length, 0);
        }
        let mut pages: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, (_, at, new)) in self.writes.iter().enumerate() {
            for page in at / PAGE..(at + new.len()).div_ceil(PAGE) {
                pages.entry(page).or_default().push(number);
            }
        }
        for (page, numbers) in pages {
            let orders: Vec<usize> = numbers.iter().map(|number| self.writes[*number].0).collect();
            let unit = fate.unit();
            for part in (page * PAGE..(page + 1) * PAGE).step_by(unit) {
                for number in &numbers[..fate.version(&orders)] {
                    let (_, at, new) = &self.writes[*number];
                    let (from, to) = (part.max(*at), (part + unit).min(at + new.len()));
                    if from < to {
                        overwrite(&mut bytes, from, &new[from - at..to - at]);
                    }
                }
            }
        }
        bytes
    }
}
