//! A ladder of damage: `verify` names the right file, the right place and the Seqs that are lost, and nothing hangs.

use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Run, Sample, place, run};
use crate::{LOOKS, harbour, words};

/// A copy of a store with facts in several segments, or of the harbour, where a part is.
struct Copy {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Copy {
    fn of(store: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.esker");
        std::fs::create_dir(&path).unwrap();
        for entry in std::fs::read_dir(store).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        Self { _directory: directory, path }
    }

    fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn flip(&self, file: &str, offset: u64) {
        let file = File::options().read(true).write(true).open(self.path.join(file)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], offset).unwrap();
    }

    fn cut(&self, file: &str, bytes: u64) {
        File::options().write(true).open(self.path.join(file)).unwrap().set_len(bytes).unwrap();
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.path.join(file)).unwrap();
    }

    fn verify(&self) -> Run {
        run(&["verify", self.text(), "--json"])
    }
}

/// What a verification says in the first place.
fn first(found: &Run) -> Value {
    found.of_type("finding").into_iter().find(|finding| finding["severity"] != "note").expect("a finding")
}

/// Nothing ends otherwise than by an exit code that says what it is.
fn nothing_panics(store: &Copy, what: &str) {
    for command in LOOKS {
        let done = run(&words(command, store.text()));
        assert!(matches!(done.code, Some(0..=4)), "{what}: {command}: {:?} {}", done.code, done.stderr);
        assert!(!done.stderr.contains("panicked at"), "{what}: {command}: {}", done.stderr);
    }
}

#[test]
fn damage_in_a_segment_is_named_with_its_place_and_what_is_lost() {
    let sample = Sample::new();
    let (segment, offset) = place(&sample.text(), 7);
    let file = format!("{segment:010}.seg");
    let (third, _) = place(&sample.text(), 100);
    let other = format!("{third:010}.seg");
    assert!(third > segment);
    // What is done, to which file, and the place and the Seqs that have to be named.
    type Rung<'a> = (&'a str, &'a dyn Fn(&Copy), &'a str, Option<u64>, Option<(u64, u64)>);
    let ladder: [Rung<'_>; 6] = [
        ("a frame's payload", &|copy| copy.flip(&file, offset + 80), &file, Some(offset), Some((7, 7))),
        ("a frame's header", &|copy| copy.flip(&file, offset + 8), &file, Some(offset), Some((7, 7))),
        ("a segment's header", &|copy| copy.flip(&other, 20), &other, None, None),
        ("a segment that is cut", &|copy| copy.cut(&other, 4096), &other, None, None),
        ("a segment that is empty", &|copy| copy.cut(&other, 0), &other, None, None),
        ("a segment that is gone", &|copy| copy.remove(&other), &other, None, None),
    ];
    for (what, spoil, file, offset, lost) in ladder {
        let copy = Copy::of(&sample.path());
        spoil(&copy);
        let found = copy.verify();
        assert_eq!(found.code, Some(1), "{what}: {}{}", found.stdout, found.stderr);
        let finding = first(&found);
        assert_eq!(
            (&finding["file"], &finding["severity"]),
            (&file.into(), &"damage".into()),
            "{what}: {finding}"
        );
        assert_eq!(finding["code"], "damaged-segment", "{what}");
        if let Some(offset) = offset {
            assert_eq!(finding["offset"], offset, "{what}: {finding}");
        }
        if let Some((first, last)) = lost {
            assert_eq!(
                (&finding["lost"]["start"], &finding["lost"]["end"]),
                (&first.into(), &last.into()),
                "{what}"
            );
        }
        let summary = &found.of_type("summary")[0];
        assert_eq!(summary["verdict"], "invalid", "{what}");
        assert!(summary["next"].as_str().unwrap().contains("repair"), "{what}: {summary}");
        nothing_panics(&copy, what);
    }
}

#[test]
fn damage_in_a_derived_file_loses_nothing() {
    let sample = Sample::new();
    let index = std::fs::metadata(sample.path().join("0000000001.idx")).unwrap().len();
    for (file, offset, code) in [
        ("0000000001.idx", index - 9, "derived-index"),
        ("0000000001.idx", 20, "derived-index"),
        ("entities", 4096 + 100, "derived-entities"),
        ("LOCK", 140, "lock-page"),
    ] {
        let copy = Copy::of(&sample.path());
        if !copy.path.join(file).exists() {
            panic!("the sample has no {file}");
        }
        copy.flip(file, offset);
        let found = copy.verify();
        assert_eq!(found.code, Some(1), "{file}: {}", found.stdout);
        let finding = first(&found);
        assert_eq!(
            (&finding["file"], &finding["severity"], &finding["code"]),
            (&file.into(), &"derived".into(), &code.into()),
            "{finding}"
        );
        assert_eq!(finding["lost"], Value::Null, "{finding}");
        nothing_panics(&copy, file);
        // What was removed is made anew, and nothing is lost.
        copy.remove(file);
        esker::Journal::open(&copy.path).unwrap().close().unwrap();
        assert_eq!(copy.verify().of_type("summary")[0]["verdict"], "valid", "{file}");
    }
}

#[test]
fn damage_in_the_manifest_is_named_and_every_command_says_what_to_do() {
    let sample = Sample::new();
    let bytes = std::fs::metadata(sample.path().join("MANIFEST")).unwrap().len();
    for offset in [8, bytes / 2, bytes - 1] {
        let copy = Copy::of(&sample.path());
        copy.flip("MANIFEST", offset);
        let found = copy.verify();
        assert_eq!(found.code, Some(1), "{offset}: {}{}", found.stdout, found.stderr);
        let finding = first(&found);
        assert_eq!(
            (&finding["file"], &finding["code"]),
            (&"MANIFEST".into(), &"damaged-manifest".into()),
            "{offset}"
        );
        nothing_panics(&copy, "the manifest");
    }
}

#[test]
fn damage_in_a_part_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("harbour.esker");
    harbour::make(&store).unwrap();
    let part = "0000000001.snap";
    type Spoil<'a> = &'a dyn Fn(&Copy);
    let ladder: [(&str, Spoil<'_>); 4] = [
        ("a part's header", &|copy| copy.flip(part, 20)),
        ("a part's frame", &|copy| copy.flip(part, 128 + 70)),
        ("a part that is cut", &|copy| copy.cut(part, 130)),
        ("a part that is gone", &|copy| copy.remove(part)),
    ];
    for (what, spoil) in ladder {
        let copy = Copy::of(&store);
        spoil(&copy);
        let found = copy.verify();
        assert_eq!(found.code, Some(1), "{what}: {}{}", found.stdout, found.stderr);
        let finding = first(&found);
        assert_eq!(
            (&finding["file"], &finding["code"]),
            (&part.into(), &"damaged-part".into()),
            "{what}: {finding}"
        );
        nothing_panics(&copy, what);
    }
}

#[test]
fn what_is_no_file_in_the_place_of_one_hangs_nothing() {
    let sample = Sample::new();
    type Put<'a> = &'a dyn Fn(&Path);
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let elsewhere = sample.path().join("0000000002.seg");
    let ladder: [(&str, Put<'_>); 3] = [
        ("a pipe", &fifo),
        ("a directory", &|path| std::fs::create_dir(path).unwrap()),
        ("a link", &|path| symlink(&elsewhere, path).unwrap()),
    ];
    for (what, put) in ladder {
        for file in ["0000000002.seg", "0000000002.idx", "MANIFEST", "LOCK"] {
            let copy = Copy::of(&sample.path());
            copy.remove(file);
            put(&copy.path.join(file));
            let found = run(&["verify", copy.text()]);
            assert!(
                matches!(found.code, Some(1 | 3 | 4)),
                "{what} as {file}: {:?} {}",
                found.code,
                found.stdout
            );
            assert!((found.stdout + &found.stderr).contains(file), "{what} as {file}");
            nothing_panics(&copy, &format!("{what} as {file}"));
        }
    }
}
