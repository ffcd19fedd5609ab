//! One opening of a file after the other fails, as there are too many open files just then: whoever looks at a store is told
//! that, or finds what he would have found, and nobody takes it for damage, for an end or for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::compact::policy::CompactOptions;
use crate::disk::memory::MemoryDirectory;
use crate::disk::refusing::Refusing;
use crate::disk::{Access, Directory, read_whole};
use crate::error::Result;
use crate::format::system::Keep;
use crate::id::Seq;
use crate::journal::Journal;
use crate::journal::finding::Check;
use crate::journal::finding::Finding;
use crate::journal::opening;
use crate::journal::reader::Reader;
use crate::journal::record::Record;
use crate::journal::verify::examine;
use crate::options::Options;

/// An error says that something may be missing.
const UNKNOWN: &str = "nobody can tell";

type Files = BTreeMap<String, Vec<u8>>;

fn files_of(directory: &dyn Directory) -> Files {
    let read = |name: &str| read_whole(&*directory.open(name, Access::Read).unwrap(), 1 << 20).unwrap();
    directory.list().unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

/// A store of several lives, with a part, and indexes of most segments.
fn whole() -> Files {
    let mut files = Files::new();
    for life in 0..3_u8 {
        let directory = Arc::new(MemoryDirectory::with(std::mem::take(&mut files), None));
        let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options()).unwrap());
        let kind = journal.kind("note").unwrap();
        journal.keep(kind, Keep::Latest).unwrap();
        for n in 0..if life == 2 { 140_u8 } else { 60 } {
            journal.append(Record::new(kind, &[b'a' + n % 7], &[life; 60])).unwrap();
        }
        if life == 1 {
            journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        }
        if life < 2 {
            journal.close().unwrap();
        }
        files = files_of(&*directory);
    }
    files
}

/// What has become of such a store.
fn damaged() -> Vec<(String, Files)> {
    let whole = whole();
    let segments: Vec<String> = whole.keys().filter(|name| name.ends_with(".seg")).cloned().collect();
    assert!(segments.len() > 3 && whole.keys().any(|name| name.ends_with(".snap")), "{:?}", whole.keys());
    let mut cases = vec![("whole".to_owned(), whole.clone())];
    let plain: Files = whole
        .iter()
        .filter(|(name, _)| !name.ends_with(".idx") && *name != "entities")
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect();
    cases.push(("without indexes".to_owned(), plain.clone()));
    for (what, files) in [("indexed", &whole), ("plain", &plain)] {
        for at in [1, segments.len() - 2, segments.len() - 1] {
            let name = &segments[at];
            let mut gone = files.clone();
            gone.remove(name);
            cases.push((format!("{what}, {name} gone"), gone));
            for byte in [40, 60, 700] {
                let mut flipped = files.clone();
                flipped.get_mut(name).unwrap()[byte] ^= 1;
                cases.push((format!("{what}, byte {byte} of {name}"), flipped));
            }
        }
    }
    let mut manifest = whole;
    manifest.get_mut("MANIFEST").unwrap()[20] ^= 1;
    cases.push(("the manifest".to_owned(), manifest));
    cases
}

/// Fails each opening in turn. What `look` finds otherwise is what it has to find, or it fails as the opening did.
fn each_opening_fails(what: &str, files: &Files, look: impl Fn(Arc<Refusing>) -> Result<Vec<String>>) -> u64 {
    let of = |passing: Option<usize>| {
        let memory = MemoryDirectory::with(files.clone(), None);
        let not_now = passing.map(|at| (at, String::new(), Errno::MFILE));
        let not_now = Arc::new(Mutex::new(not_now));
        Arc::new(Refusing { not_now, ..Refusing::of(memory, String::new(), Vec::new()) })
    };
    let directory = of(None);
    let known = look(Arc::clone(&directory));
    // Whoever is refused is refused by damage, and nothing can be missing.
    let Ok(known) = known else { return 0 };
    let opens = directory.opens.load(std::sync::atomic::Ordering::Relaxed);
    for at in 0..usize::try_from(opens).unwrap() {
        match look(of(Some(at))) {
            Err(error) if error.is_passing() => {}
            found => {
                let found = found.map_err(|error| error.to_string());
                let found =
                    found.unwrap_or_else(|error| panic!("{what}: opening {at} of {opens} failed: {error}"));
                if found.iter().any(|line| line.contains("os error 24")) {
                    continue;
                }
                assert_eq!(found.len(), known.len(), "{what}: opening {at} of {opens} failed: {found:?}");
                // Without an index of a damaged store it may be that nobody can tell.
                let is_known = |(found, known): &(&String, &String)| {
                    found == known || !what.starts_with("whole") && found.ends_with(UNKNOWN)
                };
                let other = found.iter().zip(&known).find(|pair| !is_known(pair));
                assert_eq!(other, None, "{what}: opening {at} of {opens} failed");
            }
        }
    }
    opens
}

/// What a reader is shown, entry by entry, and what it is told is missing.
fn read(directory: Arc<Refusing>) -> Result<Vec<String>> {
    let reader = Reader::open_in(directory)?;
    let view = reader.view()?;
    let mut told = Vec::new();
    let mut next = 1;
    while next <= view.last_seq()?.map_or(0, Seq::get) {
        match view.get(Seq::new(next).unwrap_or(Seq::FIRST)) {
            Ok(entry) => told.push(format!("{next}: {:?}", entry.map(|entry| entry.payload().to_vec()))),
            Err(error) if error.is_passing() => return Err(error),
            // Which index says so is no matter.
            Err(error) => told.push(format!("{next}: {:?}", error.kind())),
        }
        next += 1;
    }
    for key in [b"a", b"d", b"z"] {
        let kind = reader.kind_named("note").map(|kind| kind.id);
        match kind.map(|kind| view.latest(kind, key)) {
            Some(Err(error)) if error.is_passing() => return Err(error),
            Some(Err(_)) => told.push(format!("{key:?}: {UNKNOWN}")),
            newest => told.push(format!(
                "{key:?}: {:?}",
                newest.and_then(Result::ok).flatten().map(|entry| entry.seq())
            )),
        }
    }
    Ok(told)
}

fn verified(directory: Arc<Refusing>) -> Result<Vec<String>> {
    let found = examine(&*directory, Check::Full)?;
    Ok(found.findings.iter().map(|finding: &Finding| format!("{finding:?}")).collect())
}

#[test]
fn a_reader_that_has_no_descriptor_for_once_says_so_or_misses_nothing() {
    let mut opens = 0;
    for (what, files) in damaged() {
        opens += each_opening_fails(&what, &files, read);
    }
    assert!(opens > 300, "{opens} openings");
}

#[test]
fn a_verification_that_has_no_descriptor_for_once_says_so_or_misses_nothing() {
    for (what, files) in damaged() {
        each_opening_fails(&what, &files, verified);
    }
}
