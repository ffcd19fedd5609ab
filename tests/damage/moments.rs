//! Earlier moments of a store of which something cannot be read: what came later takes nothing from them.

use esker::{ErrorKind, KindId, Reader, Seq, Simulator, StoreView};

use super::behind::{Harbour, VESSEL, both_long, reader_without};
use super::{Files, Oracle, log_of, options, segments};

/// Two rows that are said anew again and again, as files; and where each entry stands.
fn said_often() -> (Files, Vec<u32>) {
    let harbour = Harbour::new();
    for n in 0..400 {
        harbour.say(["ada", "bob"][n % 2], u32::try_from(n).unwrap());
    }
    let view = harbour.store.journal().view();
    let stands_in = view.range(..).map(|entry| entry.unwrap().position().segment()).collect();
    harbour.store.close().unwrap();
    (harbour.disk.files(), stands_in)
}

/// The Seqs of a segment.
fn of(stands_in: &[u32], segment: u32) -> Vec<u64> {
    (1..).zip(stands_in).filter(|(_, in_it)| **in_it == segment).map(|(seq, _)| seq).collect()
}

/// What the rows are at a moment.
fn rows_at(reader: &Reader, seq: u64) -> esker::Result<Vec<u32>> {
    let then = StoreView::of(reader)?.at(Seq::new(seq).unwrap())?;
    then.rows(VESSEL)?.map(|row| Ok(row?.value()?.knots)).collect()
}

#[test]
fn a_moment_in_the_segment_before_one_that_cannot_be_read_is_whole() {
    let (files, stands_in) = said_often();
    let whole = Reader::open_on(&Simulator::with(files.clone())).unwrap();
    let last = *stands_in.last().unwrap();
    assert!(last > 4);
    for segment in [last, last - 2] {
        let name = format!("{segment:010}.seg");
        let mut damaged = files.clone();
        damaged.remove("entities");
        damaged.remove(&name.replace(".seg", ".idx"));
        damaged.get_mut(&name).unwrap().fill(0x5a);
        let without = reader_without(files.clone(), &name);
        let unreadable = Reader::open_on(&Simulator::with(damaged)).unwrap();
        for (what, reader) in [("missing", without), ("unreadable", unreadable)] {
            for seq in of(&stands_in, segment - 1).into_iter().skip(3) {
                let rows =
                    rows_at(&reader, seq).unwrap_or_else(|error| panic!("{what} {segment}, {seq}: {error}"));
                assert_eq!(rows, rows_at(&whole, seq).unwrap(), "{what} {segment}, {seq}");
            }
        }
    }
}

#[test]
fn a_moment_in_a_file_that_is_missing_is_damage_and_not_compacted() {
    let (files, stands_in) = said_often();
    let names = segments(&files);
    let segment: u32 = names[2][..10].parse().unwrap();
    let reader = reader_without(files.clone(), &names[2]);
    let lost = of(&stands_in, segment);
    for seq in [lost[0], lost[lost.len() / 2], *lost.last().unwrap()] {
        let error = rows_at(&reader, seq).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{seq} of {lost:?}: {error}");
    }
}

#[test]
fn one_frame_that_is_damaged_refuses_no_entity_of_which_something_newer_stands_behind_it() {
    let (_, files) = both_long().into_iter().next().unwrap();
    let oracle = Oracle::of(&files, log_of(&files).len() as u64);
    let (stands_in, offset_of) = {
        let journal = options().open_in(&Simulator::with(files.clone())).unwrap();
        let view = journal.view();
        let at: Vec<_> = view.range(..).map(|entry| entry.unwrap().position()).collect();
        (at.iter().map(|at| at.segment()).collect::<Vec<_>>(), at)
    };
    let segment = stands_in[80];
    let here = of(&stands_in, segment);
    let damaged_at = here[2];
    let mut damaged = files.clone();
    damaged.remove("entities");
    damaged.remove(&format!("{segment:010}.idx")).unwrap();
    let offset = usize::try_from(offset_of[usize::try_from(damaged_at - 1).unwrap()].offset()).unwrap();
    damaged.get_mut(&format!("{segment:010}.seg")).unwrap()[offset + 20] ^= 1;
    assert!(damaged.contains_key(&format!("{:010}.idx", segment + 1)), "what is behind it is indexed");
    let reader = Reader::open_on(&Simulator::with(damaged)).unwrap();
    let view = reader.view().unwrap();
    let lost = view.get(Seq::new(damaged_at).unwrap()).unwrap_err().seqs().unwrap();
    let mut shown = 0;
    for (seq, seen) in oracle.log.range(here[0]..=*here.last().unwrap()) {
        let same =
            |other: &&u64| (oracle.log[*other].kind, &oracle.log[*other].key) == (seen.kind, &seen.key);
        if oracle.log.keys().rev().find(same) != Some(seq) {
            continue;
        }
        let latest = view.latest(KindId::new(seen.kind).unwrap(), &seen.key);
        if seq > lost.end() {
            assert_eq!(latest.unwrap().unwrap().seq().get(), *seq, "behind {lost:?}");
            shown += 1;
        } else {
            assert!(latest.is_err_and(|error| error.is_corruption()), "{seq}, {lost:?}");
        }
    }
    assert!(shown > 0, "nothing has its newest there");
}

#[test]
fn a_file_that_is_missing_refuses_no_entity_of_which_the_directory_says_that_it_is_elsewhere() {
    let (_, files) = both_long().into_iter().next().unwrap();
    let oracle = Oracle::of(&files, log_of(&files).len() as u64);
    let journal = options().open_in(&Simulator::with(files.clone())).unwrap();
    let segment_of =
        |seq: u64| journal.view().get(Seq::new(seq).unwrap()).unwrap().unwrap().position().segment();
    let missing = 3;
    let mut damaged = files.clone();
    damaged.remove("0000000003.seg").unwrap();
    damaged.remove("0000000003.idx").unwrap();
    let mut in_doubt = damaged.clone();
    in_doubt.get_mut("entities").unwrap()[4096..].iter_mut().step_by(512).for_each(|byte| *byte ^= 1);
    for (what, files) in [("a good directory", damaged), ("a directory in doubt", in_doubt)] {
        let reader = Reader::open_on(&Simulator::with(files)).unwrap();
        let view = reader.view().unwrap();
        let mut shown = 0;
        for (seq, seen) in &oracle.log {
            let same =
                |other: &&u64| (oracle.log[*other].kind, &oracle.log[*other].key) == (seen.kind, &seen.key);
            if oracle.log.keys().rev().find(same) != Some(seq) {
                continue;
            }
            let latest = view.latest(KindId::new(seen.kind).unwrap(), &seen.key);
            match latest {
                Ok(latest) => {
                    assert_eq!(latest.unwrap().seq().get(), *seq, "{what}");
                    shown += u32::from(segment_of(*seq) < missing);
                }
                Err(error) => {
                    assert!(error.is_corruption(), "{what}, {seq}: {error}");
                    assert!(
                        what != "a good directory" || segment_of(*seq) == missing,
                        "{what}, {seq}: {error}"
                    );
                }
            }
        }
        let kind = KindId::new(oracle.log[&1].kind).unwrap();
        let nobody = view.latest(kind, b"nobody").map(|entry| entry.is_none());
        assert!(
            nobody.as_ref().is_ok_and(|is_none| *is_none) || what != "a good directory",
            "{what}: {nobody:?}"
        );
        assert!(shown > 0 || what != "a good directory", "nothing has its newest before it");
    }
}
