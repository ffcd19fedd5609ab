//! Where a log ends whose last file cannot be read: a reader shows what is left of it, or says that something may be missing.

use esker::{KindId, Reader, Region, Seq, Simulator, Start, View};

use super::behind::{both_long, follow, told};
use super::{Files, Oracle, fill, log_of, options, segments};

/// What two lives wrote, the first of which was killed: its last segment has no seal, and the one behind it says where it ends.
/// With the names of these two.
fn killed_once(closed: bool) -> (Files, String, String) {
    let first = Simulator::new();
    let journal = options().open_in(&first).unwrap();
    fill(&journal, 0, 60);
    let second = Simulator::with(first.files());
    let journal = options().open_in(&second).unwrap();
    fill(&journal, 60, 68);
    if closed {
        journal.close().unwrap();
    }
    let files = second.files();
    let view_of = options().open_in(&Simulator::with(files.clone())).unwrap().view();
    let holder = |seq| format!("{:010}.seg", view_of.get(seq).unwrap().unwrap().position().segment());
    let newest = view_of.last_seq().unwrap().unwrap();
    let (before, last) = (holder(Seq::FIRST), holder(newest));
    let names = segments(&files);
    let at = names.iter().position(|name| *name == last).unwrap();
    assert!(before < names[at - 1], "{names:?}");
    (files, names[at - 1].clone(), last)
}

fn seqs(view: &View) -> Vec<u64> {
    view.range(..).flatten().map(|entry| entry.seq().get()).collect()
}

/// Everything is shown as it was, or told to be missing: from where on, and to whom it may concern.
fn is_shown_or_told(what: &str, files: &Files, oracle: &Oracle) -> bool {
    let reader = Reader::open_on(&Simulator::with(files.clone())).unwrap();
    let view = reader.view().unwrap();
    let shown = seqs(&view);
    for entry in view.range(..).flatten() {
        let seen = &oracle.log[&entry.seq().get()];
        assert_eq!((entry.key(), entry.payload()), (&*seen.key, &*seen.payload), "{what}: {}", entry.seq());
    }
    let errors = view.range(..).filter(Result::is_err).count();
    let told = told(&reader, Region::all(), Start::Oldest);
    if shown.len() as u64 >= oracle.certain {
        assert!(errors == 0 && told.iter().all(Result::is_ok), "{what}: nothing is missing, and {told:?}");
        return true;
    }
    assert_eq!(errors, 1, "{what}: {} of {} entries, and not a word", shown.len(), oracle.log.len());
    let lost: Vec<_> = told.iter().filter_map(|told| told.as_ref().err()).collect();
    let is_told = |seq: &u64| lost.iter().any(|lost| lost.seqs().is_none_or(|lost| lost.contains(seq)));
    assert!(!lost.is_empty() && oracle.log.keys().all(|seq| shown.contains(seq) || is_told(seq)), "{what}");
    assert!(!reader.recovery().clean, "{what}");
    for (seq, seen) in &oracle.log {
        let newest =
            oracle.log.iter().rev().find(|(_, other)| (other.kind, &other.key) == (seen.kind, &seen.key));
        match view.latest(KindId::new(seen.kind).unwrap(), &seen.key) {
            Ok(entry) => {
                assert_eq!(entry.map(|entry| entry.seq().get()), newest.map(|(seq, _)| *seq), "{what}: {seq}")
            }
            Err(error) => assert!(error.is_corruption(), "{what}: {error}"),
        }
    }
    false
}

#[test]
fn a_last_segment_without_its_header_is_no_end() {
    for closed in [false, true] {
        let (files, _, last) = killed_once(closed);
        let len = log_of(&files).len() as u64;
        let oracle = Oracle::of(&files, len - u64::from(!closed));
        let index = last.replace(".seg", ".idx");
        assert_eq!(files.contains_key(&index), closed);
        for keeps in [true, false] {
            let mut files = files.clone();
            files.retain(|name, _| keeps || !name.ends_with(".idx") && name != "entities");
            for at in 0..128 {
                let mut damaged = files.clone();
                damaged.get_mut(&last).unwrap()[at] ^= 1 << (at % 8);
                let what = format!("closed {closed}, indexes {keeps}, byte {at}");
                if Reader::open_on(&Simulator::with(damaged.clone()))
                    .is_ok_and(|reader| reader.recovery().damage.is_empty())
                {
                    // A byte that means nothing.
                    assert!(is_shown_or_told(&what, &damaged, &oracle), "{what}");
                } else if let Err(error) = Reader::open_on(&Simulator::with(damaged.clone())) {
                    assert_eq!(error.kind(), esker::ErrorKind::FormatTooNew, "{what}: {error}");
                } else {
                    is_shown_or_told(&what, &damaged, &oracle);
                }
            }
            let change = |change: fn(&mut Vec<u8>)| {
                let mut damaged = files.clone();
                change(damaged.get_mut(&last).unwrap());
                damaged
            };
            for (what, damaged) in [
                ("zeros for a header", change(|bytes| bytes[..128].fill(0))),
                ("garbage for a header", change(|bytes| bytes[..128].fill(0xa5))),
                ("zeros", change(|bytes| bytes.fill(0))),
                ("nothing", change(Vec::clear)),
            ] {
                let what = format!("closed {closed}, indexes {keeps}, {what}");
                let is_whole = is_shown_or_told(&what, &damaged, &oracle);
                assert_eq!(is_whole, what.contains("header") && closed && keeps, "{what}");
            }
            let mut damaged = files.clone();
            damaged.remove(&last).unwrap();
            if damaged.contains_key(&index) {
                assert!(!is_shown_or_told("only its index is there", &damaged, &oracle));
            }
        }
    }
}

#[test]
fn a_spare_without_its_header_takes_nothing() {
    let (mut files, _, last) = killed_once(true);
    let oracle = Oracle::of(&files, log_of(&files).len() as u64);
    let number: u32 = last[..10].parse().unwrap();
    let mut spare = vec![0; 4096];
    spare[..128].copy_from_slice(&files[&last][..128]);
    files.insert(format!("{:010}.seg", number + 1), spare);
    assert!(is_shown_or_told("a spare", &files, &oracle));
}

/// A crash has left frames behind a torn end, which were never of the log, and their Seqs were given again, up to so many steps.
/// With the segment that is torn, and the last Seq that stands in it.
fn torn(steps: u64) -> (Files, String, u64) {
    let (files, before, torn, _) = torn_with_dead(steps, 6);
    (files, before, torn)
}

/// The same, and the segments behind it that are dead, from the first that was whole: the next life unlinked them. So many
/// steps were behind the end.
fn torn_with_dead(steps: u64, lost: u64) -> (Files, String, u64, Files) {
    let unsynced = || options().durability(esker::Durability::Os);
    let first = Simulator::new();
    let journal = unsynced().open_in(&first).unwrap();
    fill(&journal, 0, 12);
    let torn = journal.view().last_seq().unwrap().unwrap().get();
    fill(&journal, 12, 12 + lost);
    let at = journal.view().get(Seq::new(torn + 1).unwrap()).unwrap().unwrap().position();
    let before = format!("{:010}.seg", at.segment());
    let mut files = first.files();
    files.get_mut(&before).unwrap()[usize::try_from(at.offset()).unwrap() + 20] ^= 1;
    let is_dead = |name: &String| name.ends_with(".seg") && *name > before;
    let dead =
        files.iter().filter(|(name, _)| is_dead(name)).map(|(name, bytes)| (name.clone(), bytes.clone()));
    let dead: Files = dead.collect();
    let second = Simulator::with(files);
    let journal = options().open_in(&second).unwrap();
    assert_eq!(journal.view().last_seq().unwrap().unwrap().get(), torn);
    assert!(journal.recovery().valid_after_hole > 0);
    fill(&journal, 40, 40 + steps);
    (second.files(), before, torn, dead)
}

/// The writer has ended the log there, and has said nothing yet: what becomes of what is dead behind it takes nothing.
#[test]
fn what_rots_behind_the_end_that_a_writer_has_found_is_told_to_nobody() {
    let unsynced = || options().durability(esker::Durability::Os);
    let first = Simulator::new();
    let journal = unsynced().open_in(&first).unwrap();
    fill(&journal, 0, 112);
    let mut files = first.files();
    let (before, offset) = second_position(&files, 16);
    files.get_mut(&before).unwrap()[offset + 20] ^= 1;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    std::fs::create_dir(&path).unwrap();
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".seg") || *name == "MANIFEST") {
        std::fs::write(path.join(name), bytes).unwrap();
    }
    let writer = options().open(&path).unwrap();
    assert_eq!(writer.view().last_seq().unwrap(), Seq::new(15));
    let dead = segments(&files).into_iter().find(|name| *name > before).unwrap();
    let mut bytes = files[&dead].clone();
    bytes[40] ^= 1;
    std::fs::write(path.join(&dead), bytes).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.recovery().damage.is_empty(), "{:?}", reader.recovery());
    assert_eq!(seqs(&reader.view().unwrap()), (1..=15).collect::<Vec<u64>>());
    fill(&writer, 200, 203);
    let shown = seqs(&reader.view().unwrap());
    assert_eq!(shown, seqs(&writer.view()));
    assert!(shown.len() > 15);
}

/// Each entry is as it was, or an error says that it is damaged.
fn is_as_it_was(what: &str, damaged: Files, oracle: &Oracle) {
    let reader = Reader::open_on(&Simulator::with(damaged)).unwrap();
    let view = reader.view().unwrap();
    for seq in (1..=oracle.log.len() as u64).filter_map(Seq::new) {
        match view.get(seq) {
            Ok(Some(entry)) => assert_eq!(entry.payload(), oracle.log[&seq.get()].payload, "{what}: {seq}"),
            Ok(None) => panic!("{what}: {seq} is not there, and nothing says why"),
            Err(error) => assert!(error.is_corruption(), "{what}: {error}"),
        }
    }
}

#[test]
fn what_is_dead_behind_a_torn_end_stays_so_when_nobody_says_any_more_where_it_ends() {
    let (files, before, torn) = torn(10);
    let last = segments(&files).pop().unwrap();
    assert!(last > before);
    let oracle = Oracle::of(&files, log_of(&files).len() as u64 - 1);
    for at in [20, 40, 50, 60] {
        let mut damaged = files.clone();
        damaged.get_mut(&last).unwrap()[at] ^= 1;
        damaged.retain(|name, _| !name.ends_with(".idx") && name != "entities");
        is_shown_or_told(&format!("byte {at}"), &damaged, &oracle);
        // Also where something else of it is damaged.
        let (segment, offset) = second_position(&files, torn - 2);
        damaged.get_mut(&segment).unwrap()[offset + 20] ^= 1;
        is_as_it_was(&format!("byte {at}"), damaged, &oracle);
    }
}

#[test]
fn whole_segments_that_are_dead_stay_so_when_nobody_says_any_more_what_goes_on_behind_them() {
    let (mut files, before, _, dead) = torn_with_dead(140, 100);
    assert!(dead.len() >= 2, "{:?}", dead.keys());
    assert!(dead.keys().all(|name| !files.contains_key(name)), "they were unlinked");
    let oracle = Oracle::of(&files, log_of(&files).len() as u64 - 1);
    let names = segments(&files);
    let next = names[names.iter().position(|name| *name == before).unwrap() + 1].clone();
    assert!(dead.keys().all(|name| *name < next), "{names:?}");
    // A crash behind the unlinking has taken that back.
    files.extend(dead);
    for at in [20, 40, 50, 60] {
        for keeps_indexes in [true, false] {
            let mut damaged = files.clone();
            damaged.get_mut(&next).unwrap()[at] ^= 1;
            damaged.retain(|name, _| keeps_indexes || !name.ends_with(".idx") && name != "entities");
            let what = format!("byte {at}, indexes {keeps_indexes}");
            is_as_it_was(&what, damaged.clone(), &oracle);
            // Without the salt, which indexes have too, all of it is lost.
            if keeps_indexes || at != 50 {
                let reader = Reader::open_on(&Simulator::with(damaged)).unwrap();
                let (told, lost) = follow(&reader, Region::all(), Start::Oldest);
                let is_told = |seq: &&u64| told.contains(seq) || lost.iter().any(|lost| lost.contains(seq));
                assert_eq!(oracle.log.keys().find(|seq| !is_told(seq)), None, "{what}: {lost:?}");
                // Its frames say what the header said.
                assert!(keeps_indexes || told.len() == oracle.log.len(), "{what}: {lost:?}");
            }
        }
    }
}

#[test]
fn what_is_dead_behind_a_torn_end_stays_so_when_the_file_is_missing_that_says_where_it_ends() {
    let (files, before, torn) = torn(90);
    let names = segments(&files);
    let at = names.iter().position(|name| *name == before).unwrap();
    assert!(names.len() > at + 3, "{names:?}");
    let oracle = Oracle::of(&files, log_of(&files).len() as u64 - 1);
    for keeps in [[true, true], [true, false], [false, true], [false, false]] {
        let mut damaged = files.clone();
        damaged.retain(|name, _| (keeps[0] || !name.ends_with(".idx")) && (keeps[1] || name != "entities"));
        damaged.remove(&names[at + 1]).unwrap();
        damaged.remove(&names[at + 1].replace(".seg", ".idx"));
        let what = format!("indexes and directory: {keeps:?}");
        let reader = Reader::open_on(&Simulator::with(damaged.clone())).unwrap();
        let view = reader.view().unwrap();
        assert!(
            view.get(Seq::new(torn).unwrap()).unwrap().is_some(),
            "{what}: what stands before it is there"
        );
        is_as_it_was(&what, damaged.clone(), &oracle);
        // And where its header is lost, of a segment that is opened when somebody comes to it.
        damaged.insert(names[at + 1].clone(), vec![0x5a; files[&names[at + 1]].len()]);
        let reader = Reader::open_on(&Simulator::with(damaged.clone())).unwrap();
        let view = reader.view().unwrap();
        assert!(
            view.get(Seq::new(torn).unwrap()).unwrap().is_some(),
            "{what}, headless: what stands before it is there"
        );
        is_as_it_was(&format!("{what}, headless"), damaged, &oracle);
    }
}

fn second_position(files: &Files, seq: u64) -> (String, usize) {
    let journal = options().open_in(&Simulator::with(files.clone())).unwrap();
    let at = journal.view().get(Seq::new(seq).unwrap()).unwrap().unwrap().position();
    (format!("{:010}.seg", at.segment()), usize::try_from(at.offset()).unwrap())
}

#[test]
fn a_page_of_the_directory_and_an_old_segment_that_are_damaged_refuse_nobody() {
    let [_, (_, files)] = both_long();
    let disk = Simulator::with(files);
    let journal = options().open_in(&disk).unwrap();
    // Frames that are read one by one, of entities that only the directory can know.
    fill(&journal, 240, 250);
    let mut files = disk.files();
    let oracle = Oracle::of(&files, log_of(&files).len() as u64 - 1);
    assert!(files.contains_key("entities"), "{:?}", files.keys());
    let directory = files.get_mut("entities").unwrap();
    directory[4096..].iter_mut().step_by(512).for_each(|byte| *byte ^= 1);
    files.remove("0000000002.idx").unwrap();
    files.get_mut("0000000002.seg").unwrap().fill(0x5a);
    let reader = Reader::open_on(&Simulator::with(files)).unwrap();
    let view = reader.view().unwrap();
    for (seq, seen) in oracle.log.iter().rev().take(8) {
        assert_eq!(view.get(Seq::new(*seq).unwrap()).unwrap().unwrap().payload(), seen.payload);
    }
}

#[test]
fn whoever_comes_from_the_back_is_told_first_that_the_end_is_missing() {
    let [(_, files), _] = both_long();
    let last = segments(&files).pop().unwrap();
    let reader = super::behind::reader_without(files, &last);
    let view = reader.view().unwrap();
    let kinds = reader.kinds();
    let [note, ..] = &kinds[..] else { panic!("{kinds:?}") };
    let prefix = Region::prefix(note.id, b"entity");
    let from_the_back = [
        ("everything", view.range(..).next_back().unwrap().is_err()),
        ("a kind", view.kind(note.id).next_back().unwrap().is_err()),
        ("a prefix", view.region(&prefix).next_back().unwrap().is_err()),
        ("an entity", view.entity(note.id, b"shared").next_back().unwrap().is_err()),
    ];
    assert!(from_the_back.iter().all(|(_, is_told)| *is_told), "{from_the_back:?}");
    // Whoever asks for no more than there is goes on before it.
    let newest = view.last_seq().unwrap().unwrap();
    assert_eq!(view.range(..=newest).next_back().unwrap().unwrap().seq(), newest);
    let mut whole = view.range(..).take(5);
    assert!(whole.all(|entry| entry.is_ok()));
}
