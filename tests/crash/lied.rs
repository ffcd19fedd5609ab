//! A disk whose syncs report success and do nothing.
//!
//! No rule can keep what such a disk loses. What must hold all the same: *what can be read, by a writer
//! or by a reader, is a prefix of what was appended, in whole batches, and nothing that was never written; where frames that survived say that what is gone was durable, it is `Corrupt`;
//! a second recovery finds the same, and a further life works.*

use esker::{Check, Durability, Error, ErrorKind, Reader, Record, Severity, Simulator, Verdict, verify_in};

use crate::choices::{Dice, each_outcome};
use crate::life::{Life, Manner, script};
use crate::plain::Plain;
use crate::{Files, is_valid, without_lock};

/// What became of the states that were looked at.
#[derive(Debug, Default)]
struct Seen {
    states: usize,
    /// Less is there than was acknowledged, and nothing says so.
    shorter: usize,
    /// The log has as much as was acknowledged or not, and some of it cannot be read.
    damaged: usize,
    /// All entries can be read, and yet something is amiss.
    told: usize,
    /// It was not opened.
    refused: usize,
}

impl Seen {
    /// Opens what a power cut left of a life, and judges it.
    fn look(&mut self, life: &Life, manner: Manner, operations: usize, image: Files) -> Result<(), String> {
        self.states += 1;
        let disk = Simulator::with(image.clone());
        let journal = match manner.open(&disk) {
            Ok(journal) => journal,
            Err(error) if is_named(&error, &image) => {
                Self::look_as_a_reader(life, &image, None)
                    .map_err(|told| format!("{told}, and to open it says {error}"))?;
                let told = self.refused(&disk, &image);
                return told.map_err(|told| format!("{told}, and to open it says {error}"));
            }
            Err(error) => return Err(format!("open: {error}")),
        };
        let (count, damaged) = life.judge_lied(&journal, operations)?;
        drop(journal);
        Self::look_as_a_reader(life, &image, Some(count))?;
        let is_told = Self::is_told(&disk, &image);
        if damaged > 0 {
            self.damaged += 1;
            return is_told;
        }
        // Frames that are no entries may be lost, too.
        self.told += usize::from(is_told.is_ok());
        self.shorter += usize::from(count < life.bounds(operations).0);
        let journal = manner.open(&disk).map_err(|error| format!("open again: {error}"))?;
        if life.judge_lied(&journal, operations)? != (count, 0) {
            return Err(format!("a second recovery found {:?}", journal.recovery()));
        }
        drop(journal);
        let mut plain = life.plain.clone();
        plain.truncate(count);
        Life::goes_on(&disk, manner, plain).map_err(|error| format!("a further life: {error}"))?;
        if is_told.is_ok() {
            return Ok(());
        }
        is_valid(&disk).map_err(|error| format!("a further life: {error}"))
    }

    /// Whoever only reads is served what there is, or told.
    fn look_as_a_reader(life: &Life, image: &Files, end: Option<usize>) -> Result<(), String> {
        match Reader::open_on(&Simulator::with(image.clone())) {
            Ok(reader) => life.judge_lied_reader(&reader, end),
            Err(error) if is_named(&error, image) => Ok(()),
            Err(error) => Err(format!("a reader: {error}")),
        }
    }

    /// Whoever is refused has changed nothing.
    fn refused(&mut self, disk: &Simulator, image: &Files) -> Result<(), String> {
        self.refused += 1;
        if without_lock(disk.files()) != without_lock(image.clone()) {
            return Err("an opening that was refused changed a file".to_owned());
        }
        Self::is_told(disk, image)
    }

    /// Whoever verifies is told the same.
    fn is_told(disk: &Simulator, image: &Files) -> Result<(), String> {
        match verify_in(disk, Check::Full) {
            Ok(found) if found.verdict == Verdict::Valid => Err(format!("nothing is found: {found:#?}")),
            Err(error) if !is_named(&error, image) => Err(format!("verify: {error}")),
            _ => Ok(()),
        }
    }
}

/// An error that says what such a disk has done: something is damaged, or no manifest says that this was ever a store.
fn is_named(error: &Error, image: &Files) -> bool {
    error.is_corruption() || error.kind() == ErrorKind::NotAStore && !image.contains_key("MANIFEST")
}

/// A life on a disk that lies about syncs of files, of the directory, or both; and the power fails behind each of its operations.
fn one_life(seed: u64, (files, directory): (bool, bool), seen: &mut Seen) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let segment_bytes = [4096, 8192][usize::try_from(seed % 2).unwrap()];
    let manner =
        Manner { segment_bytes, durability: Durability::Sync, copy_on_write: seed.is_multiple_of(5) };
    let disk = Simulator::new();
    disk.lie_about_syncs(files, directory);
    let mut life = Life::begin(disk, manner, Plain::default())?;
    let lines = 2 + dice.below(8);
    let lines = script(&mut dice, lines, manner, &life.disk);
    life.act(&lines)?;
    for operations in life.born..=life.disk.events() {
        let mut images = Vec::new();
        let crash = |choose: &mut dyn FnMut(usize) -> usize| life.disk.crash_image(operations, choose);
        each_outcome(8, 6, &mut dice, crash, |image| images.push(image));
        for image in images {
            seen.look(&life, manner, operations, image)
                .map_err(|error| format!("behind {operations} operations: {error}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_disk_that_lies_about_its_syncs_leaves_a_prefix_or_what_is_named_corrupt() {
    for lies in [(true, false), (false, true), (true, true)] {
        let mut seen = Seen::default();
        for seed in 1..=40 {
            one_life(seed, lies, &mut seen).unwrap_or_else(|error| panic!("seed {seed}, {lies:?}: {error}"));
        }
        assert!(seen.shorter > 0, "it took nothing that was acknowledged: {lies:?}, {seen:?}");
        // Where names are lost, files are whole or not there.
        let is_found = seen.refused > 0 && (seen.damaged > 0 || !lies.0);
        assert!(
            is_found,
            "what it took is not found where something says that it was there: {lies:?}, {seen:?}"
        );
        let Seen { states, shorter, damaged, told, refused } = seen;
        println!(
            "{{\"rung\":\"R2\",\"states\":{states},\"violations\":0,\"shorter\":{shorter},\"damaged\":{damaged},\"told\":{told},\"refused\":{refused}}}"
        );
    }
}

/// Such a disk, found by the test above: whoever opened the store was refused, and whoever verified it was told that it is valid.
#[test]
fn a_segment_without_a_header_behind_the_end_is_refused_and_found() {
    let manner = Manner { segment_bytes: 4096, durability: Durability::Sync, copy_on_write: false };
    let disk = Simulator::new();
    let journal = manner.open(&disk).unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"k", b"said")).unwrap();
    let mut files = disk.kill(disk.events()).files();
    assert!(files.insert("0000000002.seg".to_owned(), Vec::new()).is_none(), "it is the next one");
    let disk = Simulator::with(files);
    let error = manner.open(&disk).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    for check in [Check::Quick, Check::Full] {
        let found = verify_in(&disk, check).unwrap();
        let named = found.findings.iter().filter(|finding| finding.severity == Severity::Damage);
        let named: Vec<_> = named.map(|finding| (&*finding.file, finding.offset)).collect();
        assert_eq!(named, [("0000000002.seg", Some(0))], "{check:?}");
    }
}

#[test]
fn a_disk_that_lies_goes_on_lying_behind_a_kill_and_a_crash() {
    let manner = Manner { segment_bytes: 4096, durability: Durability::Sync, copy_on_write: false };
    let appended = |disk: &Simulator| {
        let journal = manner.open(disk).unwrap();
        let kind = journal.kind("note").unwrap();
        journal.append(Record::new(kind, b"k", b"said")).unwrap();
        journal.close().unwrap();
    };
    let nothing = |disk: &Simulator| disk.crash(disk.events(), &mut |_| 0);
    let disk = Simulator::new();
    disk.lie_about_syncs(true, true);
    appended(&disk);
    let killed = disk.kill(disk.events());
    appended(&killed);
    let crashed = nothing(&killed);
    assert!(crashed.files().is_empty(), "{:?}", crashed.files().keys());
    appended(&crashed);
    assert!(nothing(&crashed).files().is_empty());
}
