//! The example that ingests a git repository, on repositories made for it; the one about retention,
//! which asserts what it says; and the one about packages, on listings made for it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use esker::Journal;

#[path = "../examples/git_history.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod git_history;

#[path = "../examples/retention.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod retention;

#[path = "../examples/packages.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod packages;

/// A repository in a directory of its own, with its clock in our hands.
struct Repository {
    directory: tempfile::TempDir,
    commits: u64,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { directory: tempfile::tempdir().unwrap(), commits: 0 };
        repository.git(&["init", "--quiet", "--initial-branch=main", "repo"], repository.directory.path());
        repository
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("repo")
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("history.esker")
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.git(arguments, &self.path())
    }

    /// Runs git as nobody in particular: no configuration of this machine applies.
    fn git(&self, arguments: &[&str], at: &Path) -> String {
        let date = format!("{} +0000", 1_700_000_000 + self.commits);
        let output = Command::new("git")
            .arg("-C")
            .arg(at)
            .args(["-c", "commit.gpgSign=false", "-c", "merge.renames=true"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.org")
            .env("GIT_COMMITTER_NAME", "Grace")
            .env("GIT_COMMITTER_EMAIL", "grace@example.org")
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .stdin(Stdio::null())
            .output()
            .expect("these tests need git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, path: impl AsRef<OsStr>, content: &str) {
        let path = self.path().join(path.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn commit(&mut self, subject: &str) {
        self.commits += 1;
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", subject]);
    }

    /// Runs the example; answers what it printed.
    fn ingest(&self, path: Option<&[u8]>) -> Result<String, String> {
        let mut arguments: Vec<OsString> = vec![self.path().into(), self.store().into()];
        arguments.extend(path.map(|path| OsStr::from_bytes(path).to_owned()));
        let mut out = Vec::new();
        match git_history::run(&arguments, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// How many entries of a kind the store has, and of how many different entities.
    fn count(&self, kind: &str) -> (usize, usize) {
        let journal = Journal::open(self.store()).unwrap();
        let Some(kind) = journal.kinds().into_iter().find(|known| known.name == kind) else { return (0, 0) };
        let view = journal.view();
        let mut keys: Vec<_> = view.kind(kind.id).map(|entry| entry.unwrap().key().to_vec()).collect();
        let entries = keys.len();
        keys.sort();
        keys.dedup();
        (entries, keys.len())
    }

    /// A history with a rename, a copy, a deletion, a merge of a side branch that resolves a
    /// conflict, an empty commit and file names that are no text.
    fn with_everything() -> Self {
        let mut repo = Self::new();
        let long: String = (0..200).map(|line| format!("line {line}\n")).collect();
        repo.write("a", "one\n");
        repo.write("b", &long);
        repo.commit("first: commit");
        repo.run(&["mv", "b", "dir b"]);
        repo.commit("rename");
        repo.run(&["checkout", "--quiet", "-b", "side"]);
        repo.write("a", "side\n");
        repo.write("s", "s\n");
        repo.commit("side");
        repo.run(&["checkout", "--quiet", "main"]);
        repo.write("a", "main\n");
        repo.write(OsStr::from_bytes(b"od\xffd\n\"name"), "odd\n");
        repo.commit("commit");
        repo.commit("");
        repo.run(&["merge", "--quiet", "--strategy=ours", "--no-commit", "side"]);
        repo.write("a", "both\n");
        repo.write("s", "s\n");
        repo.commit("merge");
        repo.write("copy", &fs::read_to_string(repo.path().join("dir b")).unwrap());
        repo.write("dir b", &format!("{long}and more\n"));
        repo.commit("copy");
        fs::remove_file(repo.path().join("a")).unwrap();
        repo.commit("delete");
        repo
    }
}

#[test]
fn every_kind_of_change_is_ingested_and_told() {
    let repo = Repository::with_everything();
    let told = repo.ingest(Some(b"a")).unwrap();
    assert!(told.contains("ingested 8 commits with 11 changes in 8 batches"), "{told}");
    let statuses: Vec<_> =
        told.lines().filter_map(|line| line.strip_prefix("      ")?.split_whitespace().nth(1)).collect();
    assert_eq!(statuses, ["D", "MM", "M", "M", "A"], "{told}");
    assert!(told.contains("2023-11-14 Ada: first: commit"), "{told}");

    let told = repo.ingest(Some(b"dir b")).unwrap();
    assert!(told.contains("R  ") && told.contains("rename (from b)"), "{told}");
    let told = repo.ingest(Some(b"copy")).unwrap();
    assert!(told.contains("C  ") && told.contains("copy (from dir b)"), "{told}");
    let told = repo.ingest(Some(b"od\xffd\n\"name")).unwrap();
    assert!(told.contains(r#""od\xffd\n\"name" was changed 1 times"#), "{told}");
    let told = repo.ingest(Some(b"no such path")).unwrap();
    assert!(told.contains("was changed 0 times"), "{told}");
}

#[test]
fn a_second_run_appends_nothing_and_a_later_one_only_what_is_new() {
    let mut repo = Repository::with_everything();
    repo.ingest(None).unwrap();
    assert_eq!((repo.count("path"), repo.count("commit")), ((11, 6), (8, 8)));
    let told = repo.ingest(None).unwrap();
    assert!(told.contains("ingested 0 commits with 0 changes"), "{told}");
    assert_eq!((repo.count("path"), repo.count("commit")), ((11, 6), (8, 8)));

    repo.write("s", "more\n");
    repo.commit("later");
    let told = repo.ingest(None).unwrap();
    assert!(told.contains("ingested 1 commits with 1 changes in 1 batches"), "{told}");
    assert_eq!((repo.count("path"), repo.count("commit"), repo.count("progress")), ((12, 6), (9, 9), (9, 1)));
}

#[test]
fn a_run_that_was_interrupted_anywhere_is_continued_without_gap_or_duplicate() {
    let repo = Repository::with_everything();
    // Without the tree of a commit git breaks off there, behind the commits before it.
    let trees = repo.run(&["log", "--format=%T", "--topo-order", "--reverse"]);
    let mut interrupted = 0;
    for tree in trees.lines() {
        let (folder, file) = tree.split_at(2);
        let object = repo.path().join(".git/objects").join(folder).join(file);
        let aside = repo.directory.path().join("tree aside");
        fs::copy(&object, &aside).unwrap();
        fs::remove_file(&object).unwrap();
        interrupted += usize::from(repo.ingest(None).is_err());
        fs::copy(&aside, &object).unwrap();
    }
    assert!(interrupted > 3, "{interrupted}");
    repo.ingest(None).unwrap();
    assert_eq!((repo.count("path"), repo.count("commit"), repo.count("progress")), ((11, 6), (8, 8), (8, 1)));
}

#[test]
fn a_commit_too_large_for_a_batch_is_ingested_in_several() {
    let mut repo = Repository::new();
    for n in 0..2001 {
        repo.write(format!("files/{n}"), "x\n");
    }
    repo.commit("many");
    let told = repo.ingest(None).unwrap();
    assert!(told.contains("ingested 1 commits with 2001 changes in 3 batches"), "{told}");
    assert_eq!((repo.count("path"), repo.count("commit")), ((2001, 2001), (1, 1)));
}

#[test]
fn paths_too_long_for_a_key_are_told_apart_and_kept_whole() {
    let mut repo = Repository::new();
    let long = format!("{}/{}", "d".repeat(200), "e".repeat(200));
    repo.write(format!("{long}1"), "one\n");
    repo.write(format!("{long}2"), "two\n");
    repo.commit("long");
    repo.write(format!("{long}2"), "three\n");
    repo.commit("again");
    let told = repo.ingest(Some(format!("{long}1").as_bytes())).unwrap();
    assert!(told.contains(&format!("{long}1 was changed 1 times")), "{told}");
    let told = repo.ingest(None).unwrap();
    assert!(told.contains(&format!("{long}2 was changed 2 times")), "{told}");
    assert_eq!(repo.count("path"), (3, 2));
}

#[test]
fn what_cannot_be_ingested_is_refused_with_the_reason() {
    let empty = Repository::new();
    assert!(empty.ingest(None).unwrap_err().contains("no HEAD"));
    let repo = Repository::with_everything();
    repo.ingest(None).unwrap();
    // The history is rewritten under the store.
    let mut repo = repo;
    repo.run(&["checkout", "--quiet", "--orphan", "other"]);
    repo.commit("another beginning");
    let error = repo.ingest(None).unwrap_err();
    assert!(error.contains("another repository") && error.contains("rewritten"), "{error}");
    assert_eq!(repo.count("commit"), (8, 8));
}

#[test]
fn a_log_that_is_written_for_ever_stays_small_once_nobody_holds_it_back() {
    let directory = tempfile::tempdir().unwrap();
    retention::run(&directory.path().join("weather.esker"), retention::ROUNDS).unwrap();
}

#[test]
fn packages_are_reported_as_they_come_change_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let look = |listing: &str| packages::look(&directory.path().join("packages.esker"), listing).unwrap();
    let before = "bash\tamd64\t5.1\tii \nsed\tall\t4.8\tii \nlibc\tamd64\t2\tii \nlibc\ti386\t2\tii \n";
    assert_eq!(look(before), [4, 0, 0]);
    assert_eq!(look(before), [0, 0, 0], "nothing is news");
    let upgraded = before.replace("5.1", "5.2").replace("sed", "vim").replace("i386\t2\tii", "i386\t2\trc");
    assert_eq!(look(&upgraded), [1, 2, 1]);
    assert_eq!(look(""), [0, 0, 4]);
    assert_eq!(look(before), [4, 0, 0], "created again");
}
