//! Files and directories in memory. Each operation stands in a log, in the order in which the kernel brought it.
//!
//! What comes is what the kernel makes of a program: pages of a mapping as it writes them back, calls as they are made (or as
//! pages, where it holds them back), syncs behind all that they wait for. So behind a sync of a file everything of that file
//! that stands before it in the log is durable, and nothing else is.

use std::collections::{BTreeMap, HashMap};

use rustix::io::Errno;

/// The root, which has the store's directory in it.
pub(crate) const ROOT: u64 = 1;
/// A file in the root that takes marks. It is no part of what is recorded.
pub(crate) const MARKS: u64 = 2;
pub(crate) const FIRST: u64 = 3;

/// The files of one directory.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug)]
pub(crate) enum Event {
    /// A file, or a directory, that has no name yet.
    Made {
        node: u64,
        is_directory: bool,
    },
    Named {
        directory: u64,
        name: String,
        node: u64,
    },
    /// One name goes and another comes, in the place of what had it.
    Moved {
        directory: u64,
        from: String,
        to: String,
        node: u64,
    },
    Unnamed {
        directory: u64,
        name: String,
        node: u64,
    },
    Written {
        node: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    Resized {
        node: u64,
        bytes: usize,
    },
    Synced {
        node: u64,
    },
    /// A sync failed, and what it should have made durable never will be.
    Forgotten {
        node: u64,
    },
    /// Something that happened outside: who says it has waited for the answer to all that it rests on.
    Mark(String),
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    Read,
    Write,
    Sync,
}

/// One of these requests fails, or it and all behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) asked: Asked,
    pub(crate) error: Errno,
    /// So many come before it.
    pub(crate) spared: usize,
    pub(crate) is_once: bool,
    /// How many have failed.
    pub(crate) hits: usize,
}

impl Fault {
    fn meets(&mut self, asked: Asked) -> Result<(), Errno> {
        if self.asked != asked || self.is_once && self.hits > 0 {
            return Ok(());
        }
        if self.spared > 0 {
            self.spared -= 1;
            return Ok(());
        }
        self.hits += 1;
        Err(self.error)
    }
}

#[derive(Debug)]
pub(crate) enum Node {
    File {
        bytes: Vec<u8>,
        /// As of its last sync.
        durable: Vec<u8>,
        links: u32,
    },
    Directory(BTreeMap<String, u64>),
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    pub(crate) log: Vec<Event>,
    pub(crate) fault: Option<Fault>,
    /// How often each of them was asked for.
    pub(crate) count: BTreeMap<Asked, usize>,
    /// How many writes to segments were pages that the kernel wrote back.
    pub(crate) written_back: usize,
}

impl Tree {
    /// With nothing in it, or with one directory of files.
    pub(crate) fn new(store: Option<(&str, &Files)>) -> Self {
        let mut tree = Self {
            nodes: HashMap::from([(ROOT, Node::Directory(BTreeMap::new()))]),
            next: FIRST,
            log: Vec::new(),
            fault: None,
            count: BTreeMap::new(),
            written_back: 0,
        };
        if let Some((name, files)) = store {
            let directory = tree.add(Node::Directory(BTreeMap::new()));
            tree.names(ROOT).unwrap().insert(name.to_owned(), directory);
            for (name, bytes) in files {
                let node = Node::File { bytes: bytes.clone(), durable: bytes.clone(), links: 1 };
                let file = tree.add(node);
                tree.names(directory).unwrap().insert(name.clone(), file);
            }
        }
        tree
    }

    fn add(&mut self, node: Node) -> u64 {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        number
    }

    pub(crate) fn node(&self, node: u64) -> Result<&Node, Errno> {
        self.nodes.get(&node).ok_or(Errno::NOENT)
    }

    pub(crate) fn names(&mut self, directory: u64) -> Result<&mut BTreeMap<String, u64>, Errno> {
        match self.nodes.get_mut(&directory) {
            Some(Node::Directory(names)) => Ok(names),
            Some(Node::File { .. }) => Err(Errno::NOTDIR),
            None => Err(Errno::NOENT),
        }
    }

    fn bytes(&mut self, file: u64) -> Result<&mut Vec<u8>, Errno> {
        match self.nodes.get_mut(&file) {
            Some(Node::File { bytes, .. }) => Ok(bytes),
            Some(Node::Directory(_)) => Err(Errno::ISDIR),
            None => Err(Errno::NOENT),
        }
    }

    fn link_count(&mut self, node: u64, change: i32) {
        if let Some(Node::File { links, .. }) = self.nodes.get_mut(&node) {
            *links = links.saturating_add_signed(change);
        }
    }

    fn ask(&mut self, asked: Asked) -> Result<(), Errno> {
        *self.count.entry(asked).or_default() += 1;
        self.fault.as_mut().map_or(Ok(()), |fault| fault.meets(asked))
    }

    pub(crate) fn look_up(&mut self, directory: u64, name: &str) -> Result<u64, Errno> {
        if directory == ROOT && name == "marks" {
            return Ok(MARKS);
        }
        self.names(directory)?.get(name).copied().ok_or(Errno::NOENT)
    }

    pub(crate) fn make(&mut self, directory: u64, name: &str, is_directory: bool) -> Result<u64, Errno> {
        // The root has directories in it, and they have files: nobody here needs more.
        if is_directory != (directory == ROOT) {
            return Err(Errno::PERM);
        }
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let made = if is_directory {
            Node::Directory(BTreeMap::new())
        } else {
            Node::File { bytes: Vec::new(), durable: Vec::new(), links: 0 }
        };
        let node = self.add(made);
        self.log.push(Event::Made { node, is_directory });
        self.name(directory, name, node)?;
        Ok(node)
    }

    pub(crate) fn link(&mut self, directory: u64, name: &str, node: u64) -> Result<(), Errno> {
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.name(directory, name, node)
    }

    fn name(&mut self, directory: u64, name: &str, node: u64) -> Result<(), Errno> {
        self.names(directory)?.insert(name.to_owned(), node);
        self.link_count(node, 1);
        self.log.push(Event::Named { directory, name: name.to_owned(), node });
        Ok(())
    }

    pub(crate) fn rename(&mut self, directory: u64, from: &str, to: &str) -> Result<(), Errno> {
        let names = self.names(directory)?;
        let node = names.remove(from).ok_or(Errno::NOENT)?;
        if let Some(replaced) = names.insert(to.to_owned(), node) {
            self.link_count(replaced, -1);
        }
        self.log.push(Event::Moved { directory, from: from.to_owned(), to: to.to_owned(), node });
        Ok(())
    }

    pub(crate) fn remove(&mut self, directory: u64, name: &str) -> Result<(), Errno> {
        let node = self.names(directory)?.remove(name).ok_or(Errno::NOENT)?;
        self.link_count(node, -1);
        self.log.push(Event::Unnamed { directory, name: name.to_owned(), node });
        Ok(())
    }

    pub(crate) fn read(&mut self, file: u64, at: usize, length: usize) -> Result<Vec<u8>, Errno> {
        self.ask(Asked::Read)?;
        let bytes = self.bytes(file)?;
        let at = at.min(bytes.len());
        Ok(bytes[at..bytes.len().min(at + length)].to_vec())
    }

    /// The kernel writes it back from its cache, or a program has just called.
    pub(crate) fn write(
        &mut self,
        file: u64,
        at: usize,
        new: &[u8],
        is_written_back: bool,
    ) -> Result<(), Errno> {
        self.written_back += usize::from(is_written_back && self.is_segment(file));
        self.ask(Asked::Write)?;
        self.put(file, at, new)
    }

    fn is_segment(&self, file: u64) -> bool {
        self.nodes.values().any(|node| match node {
            Node::Directory(names) => {
                names.iter().any(|(name, node)| *node == file && name.ends_with(".seg"))
            }
            Node::File { .. } => false,
        })
    }

    fn put(&mut self, file: u64, at: usize, new: &[u8]) -> Result<(), Errno> {
        overwrite(self.bytes(file)?, at, new);
        self.log.push(Event::Written { node: file, at, bytes: new.to_vec() });
        Ok(())
    }

    pub(crate) fn resize(&mut self, file: u64, length: usize) -> Result<(), Errno> {
        self.bytes(file)?.resize(length, 0);
        self.log.push(Event::Resized { node: file, bytes: length });
        Ok(())
    }

    /// Space for a range, which makes the file longer where it has to.
    pub(crate) fn allocate(&mut self, file: u64, end: usize) -> Result<(), Errno> {
        self.ask(Asked::Write)?;
        if end > self.bytes(file)?.len() { self.resize(file, end) } else { Ok(()) }
    }

    pub(crate) fn punch(&mut self, file: u64, from: usize, to: usize) -> Result<(), Errno> {
        let to = to.min(self.bytes(file)?.len());
        self.put(file, from.min(to), &vec![0; to.saturating_sub(from)])
    }

    /// Of a file or a directory. What a sync of a file that fails should have written is not on the disk, and nobody tries
    /// again: the kernel has its pages for clean, and goes on showing them.
    pub(crate) fn sync(&mut self, node: u64) -> Result<(), Errno> {
        let asked = self.ask(Asked::Sync);
        if let Some(Node::File { bytes, durable, .. }) = self.nodes.get_mut(&node) {
            if asked.is_ok() {
                durable.clone_from(bytes);
            } else {
                let length = bytes.len();
                bytes.clone_from(durable);
                bytes.resize(length, 0);
                self.log.push(Event::Forgotten { node });
            }
        }
        asked?;
        self.log.push(Event::Synced { node });
        Ok(())
    }

    pub(crate) fn mark(&mut self, line: &str) {
        self.log.push(Event::Mark(line.trim_end().to_owned()));
    }
}

/// Writes into bytes, which get longer where they have to.
pub(crate) fn overwrite(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}
