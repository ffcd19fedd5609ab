//! Sectors that cannot be read: what stands elsewhere can be had, and nobody takes one for the end of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::blocks::device::Device;
use crate::blocks::disk::Event;
use crate::blocks::fault::{Fault, Trouble};
use crate::blocks::known::Known;

use super::child::{Child, Ended};
use super::layout::{PAGE, Sector, sectors};
use super::tally::Tally;

/// An entry, and where its batch stands.
#[derive(Clone, Debug)]
struct Entry {
    seq: u64,
    file: String,
    batch: std::ops::Range<usize>,
    time: u64,
}

/// A store that nothing is wrong with, on a disk that is not mounted.
pub(crate) struct Sound {
    pub(crate) sectors: Vec<Sector>,
    entries: Vec<Entry>,
    files: BTreeMap<String, Vec<u8>>,
    known: Known,
}

fn files(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
    let file = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

impl Sound {
    /// Two lives; the last ends with a close, or is cut off.
    pub(crate) fn make(device: &Device, seed: u64, is_closed: bool) -> Self {
        let place = device.place();
        place.mount().unwrap();
        for (life, is_closed) in [(0, true), (1, is_closed)] {
            let told = format!("{} 18 {}", seed * 2 + life, u8::from(is_closed));
            let child = Child::run("lives", &place, &told);
            assert_eq!(child.ended == Ended::Well, is_closed, "{:?}", child.ended);
        }
        place.unmount().unwrap();
        let mut known = Known::default();
        for event in &device.disk().log {
            if let Event::Mark(line) = event {
                known.learn(line);
            }
        }
        {
            let mut disk = device.disk();
            disk.settle();
            disk.is_recorded = false;
        }
        place.mount().unwrap();
        let verified = Child::run("verifies", &place, "");
        assert_eq!(verified.first("verdict"), Some("valid"), "{:?}", verified.said);
        // What nobody reads: a crash has left it.
        let is_left = |finding: &&str| {
            ["removed by the next opening", "left by a crash"].iter().any(|what| finding.contains(what))
        };
        let left: Vec<&str> =
            verified.all("finding").filter(is_left).filter_map(|finding| finding.split(' ').nth(1)).collect();
        let mut sectors: Vec<Sector> = sectors(device).unwrap().into_iter().collect();
        sectors.retain(|sector| !left.contains(&&*sector.file));
        let listed = Child::run("lists", &place, "");
        assert_eq!(listed.ended, Ended::Well);
        let (entries, files) = (entries(&listed), files(&place.store()));
        place.unmount().unwrap();
        device.disk().over.clear();
        Self { sectors, entries, files, known }
    }

    /// What stands in the page of a sector, or in a batch with what does.
    fn touched(&self, sector: &Sector) -> BTreeSet<u64> {
        let page = sector.page()..sector.page() + PAGE;
        let is_touched = |entry: &&Entry| {
            entry.file == sector.file && entry.batch.start < page.end && page.start < entry.batch.end
        };
        self.entries.iter().filter(is_touched).map(|entry| entry.seq).collect()
    }

    /// What may go with it where whole batches are saved.
    fn lost_with(&self, sector: &Sector) -> BTreeSet<u64> {
        let mut lost = self.touched(sector);
        let index = sector.file.replace(".seg", ".idx");
        if sector.page() == 0 && sector.file.ends_with(".seg") && !self.files.contains_key(&index) {
            // Nobody else says which segment it is.
            lost.extend(self.entries.iter().filter(|it| it.file == sector.file).map(|it| it.seq));
        }
        // The batch behind may be the rest of one that is lost, if it is of the same instant.
        let times: BTreeSet<u64> =
            self.entries.iter().filter(|it| lost.contains(&it.seq)).map(|it| it.time).collect();
        let behind =
            self.entries.iter().find(|it| it.file == sector.file && it.batch.start >= sector.page() + PAGE);
        if let Some(behind) = behind.filter(|behind| times.contains(&behind.time)) {
            let is_of_it = |it: &&Entry| it.file == behind.file && it.batch == behind.batch;
            lost.extend(self.entries.iter().filter(is_of_it).map(|it| it.seq));
        }
        lost
    }

    fn seqs(&self) -> BTreeSet<u64> {
        self.entries.iter().map(|entry| entry.seq).collect()
    }
}

fn entries(listed: &Child) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut open = 0;
    for line in listed.all("entry") {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [seq, segment, offset, bytes, more, time] = numbers[..] else { panic!("no entry: {line}") };
        let file = match segment.checked_sub(1 << 31) {
            Some(part) => format!("{part:010}.snap"),
            None => format!("{segment:010}.seg"),
        };
        let start = usize::try_from(offset).unwrap();
        let batch = start..start + usize::try_from(bytes).unwrap();
        entries.push(Entry { seq, file, batch, time });
        let here = &mut entries[open..];
        if more == 0 {
            let whole = here[0].batch.start..here[here.len() - 1].batch.end;
            let is_in_one = here.iter().all(|entry| entry.file == here[0].file);
            here.iter_mut().filter(|_| is_in_one).for_each(|entry| entry.batch = whole.clone());
            open = entries.len();
        }
    }
    entries
}

pub(crate) fn try_each(device: &Device, sound: &Sound, sectors: &[Sector], tally: &mut Tally) {
    for sector in sectors {
        if tally.is_enough() {
            return;
        }
        tally.states += 1;
        let trial = Trial { device, sound, sector };
        let tried = trial.run(tally);
        _ = device.place().unmount();
        device.disk().fault = None;
        if let Err(what) = tried {
            tally.violation(format!("{}: {sector:?}: {what}", device.file_system.name()));
        }
    }
}

/// What `verify` says is lost, and all that it says.
struct Verified {
    lost: Vec<(u64, u64)>,
    said: Vec<String>,
}

struct Trial<'a> {
    device: &'a Device,
    sound: &'a Sound,
    sector: &'a Sector,
}

impl Trial<'_> {
    fn run(&self, tally: &mut Tally) -> Result<(), String> {
        self.begin();
        let place = self.device.place();
        let by_a_reader = self.read("reads")?;
        let Verified { lost, said } = self.verify(tally)?;
        self.repair(&lost).map_err(|what| format!("{what}; verify says {said:?}"))?;
        let hits = self.device.disk().fault.take().map_or(0, |fault| fault.hits);
        if files(&place.store()) != self.sound.files {
            return Err("who only reads has changed a file".to_owned());
        }
        place.unmount().map_err(|error| error.to_string())?;
        // What was read meanwhile is not in the cache.
        self.begin();
        let by_the_writer = self.read("reads as the writer")?;
        if hits == 0 {
            return Err("nobody has met it".to_owned());
        }
        tally.count(format!("reader: {by_a_reader}"));
        tally.count(format!("writer: {by_the_writer}"));
        place.unmount().map_err(|error| error.to_string())?;
        self.device.disk().fault = None;
        self.judge()
    }

    /// The disk as it was, but for the sector.
    fn begin(&self) {
        let mut disk = self.device.disk();
        disk.over.clear();
        let sector = self.sector.on_disk;
        disk.fault = Some(Fault { sector, trouble: Trouble::Unreadable, spared: 0, is_once: false, hits: 0 });
        drop(disk);
        self.device.place().mount().unwrap();
    }

    /// Every entry by calls of its own, and then all; whoever dies has another go on behind what it died of.
    fn read(&self, role: &str) -> Result<&'static str, String> {
        let (all, touched) = (self.sound.seqs(), self.sound.touched(self.sector));
        let mut rest: Vec<u64> = all.iter().copied().collect();
        let (mut failures, mut deaths) = (0, 0);
        loop {
            let told: Vec<String> = rest.iter().map(u64::to_string).collect();
            let child = Child::run(role, &self.device.place(), &told.join(" "));
            if let Some(what) = child.first("false").or_else(|| child.first("silent")) {
                return Err(format!("{role}: nobody wrote this, or nobody was told: {what}"));
            }
            if let Some(error) = child.first("unopened") {
                self.check_error(error)?;
                return Ok("not opened");
            }
            for failed in child.all("failed") {
                failures += 1;
                let (seq, error) = failed.split_once(' ').unwrap_or_default();
                self.check_error(error)?;
                let seq = seq.parse().unwrap();
                // Without its header a file is not opened by those who map it.
                if !(touched.contains(&seq) || self.sector.page() == 0 && self.is_of_the_file(seq)) {
                    return Err(format!("{role}: it stands elsewhere: {failed}"));
                }
            }
            if let Ended::Otherwise(how) = &child.ended {
                return Err(format!("{role}: {how}"));
            }
            let died_at = child.all("next").last().and_then(|seq| seq.parse::<u64>().ok());
            let has_walked = child.said.iter().any(|line| line == "walk");
            match (&child.ended, died_at) {
                (Ended::Bus, Some(seq)) if !has_walked => {
                    deaths += 1;
                    self.check_death(seq, &touched)?;
                    rest.retain(|other| *other > seq);
                }
                (Ended::Bus, None) => return Ok("SIGBUS when it is opened"),
                (Ended::Bus, _) => return Ok("SIGBUS"),
                _ => return Self::check_walk(&child, all.len(), failures, deaths),
            }
        }
    }

    fn check_walk(child: &Child, all: usize, failures: usize, deaths: usize) -> Result<&'static str, String> {
        let walked =
            child.first("walked").ok_or_else(|| format!("it ended behind {:?}", child.said.last()))?;
        let is_whole = walked.parse() == Ok(all);
        if !is_whole && !walked.contains(" then ") {
            return Err(format!("{walked} of {all} entries, and no error"));
        }
        Ok(match (failures, deaths) {
            (0, 0) if is_whole => "all entries",
            (_, 0) => "an error",
            _ => "SIGBUS",
        })
    }

    /// It names the file, and of a segment the place.
    fn check_error(&self, error: &str) -> Result<(), String> {
        let words: Vec<&str> = error.splitn(4, ' ').collect();
        let [kind, file, offset, _] = words[..] else { return Err(format!("no error: {error}")) };
        let is_there = file == self.sector.file && (offset != "-" || !file.ends_with(".seg"));
        if matches!(kind, "io" | "corrupt") && is_there { Ok(()) } else { Err(format!("it says {error}")) }
    }

    /// A mapped page that cannot be read is a signal: where it stands, and where something is looked up in it.
    fn check_death(&self, seq: u64, touched: &BTreeSet<u64>) -> Result<(), String> {
        if touched.contains(&seq) || !self.is_of_the_log() || self.is_of_the_file(seq) {
            return Ok(());
        }
        Err(format!("SIGBUS for {seq}, which stands elsewhere"))
    }

    fn is_of_the_log(&self) -> bool {
        [".seg", ".snap"].iter().any(|end| self.sector.file.ends_with(end))
    }

    fn is_of_the_file(&self, seq: u64) -> bool {
        self.sound.entries.iter().any(|entry| entry.seq == seq && entry.file == self.sector.file)
    }

    /// It says exactly what cannot be read, and calls nothing damaged that is not.
    fn verify(&self, tally: &mut Tally) -> Result<Verified, String> {
        let child = Child::run("verifies", &self.device.place(), "");
        if child.ended != Ended::Well {
            return Err(format!("verify ended by {:?}", child.ended));
        }
        if let Some(error) = child.first("unverified") {
            self.check_error(error)?;
            tally.count("verify: an error");
            return Ok(Verified { lost: Vec::new(), said: child.said });
        }
        let verdict = child.first("verdict").unwrap_or_default();
        let mut lost = Vec::new();
        let mut is_named = false;
        for finding in child.all("finding") {
            let words: Vec<&str> = finding.splitn(6, ' ').collect();
            let [severity, file, offset, first, last, _] = words[..] else { panic!("{finding}") };
            let number = |text: &str| text.parse::<u64>().unwrap();
            let offset = usize::try_from(number(offset)).unwrap();
            let is_page = offset == self.sector.page() || !self.is_of_the_log();
            match severity {
                // A frame may begin before it.
                "Unread" if file == self.sector.file && offset < self.sector.page() + PAGE => {
                    is_named |= is_page
                }
                "Note" => {}
                _ => return Err(format!("verify says {finding}")),
            }
            if number(first) <= number(last) {
                lost.push((number(first), number(last)));
            }
        }
        if verdict != "incomplete" || !is_named {
            return Err(format!("verify says {verdict}: {:?}", child.said));
        }
        tally.count("verify: incomplete");
        Ok(Verified { lost, said: child.said })
    }

    /// What can be had is had, and the rest is named.
    fn repair(&self, lost: &[(u64, u64)]) -> Result<(), String> {
        let target = tempfile::tempdir().unwrap();
        let told = target.path().join("repaired.esker");
        let child = Child::run("repairs", &self.device.place(), &told.display().to_string());
        if child.ended != Ended::Well {
            return Err(format!("repair ended by {:?}", child.ended));
        }
        if let Some(error) = child.first("unrepaired") {
            return self.check_error(error);
        }
        if let Some(what) = child.first("false") {
            return Err(format!("repair made up {what}"));
        }
        let read: BTreeSet<u64> = child.all("read").map(|seq| seq.parse().unwrap()).collect();
        let said: Vec<(u64, u64)> = child
            .all("lost")
            .map(|range| range.split_once(' ').unwrap())
            .map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()))
            .collect();
        let missing: BTreeSet<u64> = self.sound.seqs().difference(&read).copied().collect();
        let touched = self.sound.lost_with(self.sector);
        if !missing.is_subset(&touched) {
            return Err(format!("repair did not save {missing:?}, and {touched:?} cannot be read"));
        }
        for (whose, ranges) in [("repair", &said[..]), ("verify", lost)] {
            let is_named = |seq: &u64| ranges.iter().any(|(first, last)| (first..=last).contains(&seq));
            // How many there were at the end of the log nobody says, where it cannot be read: there the place is named.
            let is_at_the_end = |seq: &u64| read.last().is_none_or(|last| last < seq);
            if let Some(seq) = missing.iter().find(|seq| !is_named(seq) && !is_at_the_end(seq)) {
                return Err(format!("{whose} does not say that {seq} is lost: {ranges:?}"));
            }
            if let Some(seq) = read.iter().find(|seq| is_named(seq)) {
                return Err(format!("{whose} says that {seq} is lost, and it is there: {ranges:?}"));
            }
        }
        Ok(())
    }

    /// The disk gives the sector back: all is there that was, whatever was tried meanwhile.
    fn judge(&self) -> Result<(), String> {
        let place = self.device.place();
        place.mount().map_err(|error| error.to_string())?;
        let there = files(&place.store());
        // A close takes a spare back, in which there is nothing.
        let is_kept =
            |name: &&String| *name == "MANIFEST" || self.sound.entries.iter().any(|it| it.file == **name);
        if let Some(gone) = self.sound.files.keys().filter(is_kept).find(|name| !there.contains_key(*name)) {
            return Err(format!("{gone} was deleted"));
        }
        let judged = Child::run("judges", &place, &self.sound.known.to_string());
        let verdict = judged.said.first().cloned().unwrap_or_default();
        if judged.ended == Ended::Well && verdict.starts_with("right ") {
            return Ok(());
        }
        Err(format!("when it could be read again: {verdict} {:?}", judged.ended))
    }
}
