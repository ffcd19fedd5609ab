//! What is promised names the test that shows it, and that test is there.

use std::path::{Path, PathBuf};

/// The pages that name tests.
const PAGES: [&str; 3] = ["src/promises.md", "README.md", "SECURITY.md"];

#[test]
fn every_test_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in PAGES {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let named = names(&text);
        assert!(!named.is_empty(), "{page} names no test");
        let missing: Vec<&&str> = named.iter().filter(|name| !is_there(root, name)).collect();
        assert!(missing.is_empty(), "{page} names what is not there: {missing:#?}");
    }
}

#[test]
fn each_row_of_the_promises_names_something_that_shows_it() {
    let text = include_str!("../src/promises.md");
    let rows: Vec<&str> = text
        .split_once("# What is promised\n")
        .map(|(_, promises)| promises.lines().filter(|line| line.starts_with("| ")).skip(2).collect())
        .unwrap();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows {
        assert!(!names(row).is_empty(), "nothing shows this: {row}");
    }
}

#[test]
fn what_is_not_there_is_noticed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["tests/nothing.rs", "tests/crash.rs::it_never_fails", "tests/state.rs::it_never_fails"] {
        assert!(!is_there(root, name), "{name}");
    }
    // Alone, and not as the beginning of another's name.
    assert!(!is_there(root, "tests/crash.rs::every_crash_leaves_a_prefix"));
    assert!(is_there(root, "tests/state.rs::a_batch_that_is_refused_leaves_no_trace"));
    // A function of a file of tests that is none.
    assert!(!is_there(root, "tests/crash.rs::nothing_is_damaged"));
}

/// What stands between backquotes and is below a directory of tests.
fn names(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.starts_with("tests/") || name.starts_with("tools/tests/")).collect()
}

/// A file or a directory; behind `::` a test of the file, or of the modules in the directory of its name.
fn is_there(root: &Path, name: &str) -> bool {
    let Some((file, function)) = name.split_once("::") else { return root.join(name).exists() };
    let file = root.join(file);
    let declared = format!("fn {function}(");
    let mut files: Vec<PathBuf> = vec![file.clone()];
    if let Ok(modules) = std::fs::read_dir(file.with_extension("")) {
        files.extend(modules.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    files.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| is_a_test(&text, &declared)))
}

/// The line that declares it comes behind one that says that it is a test.
fn is_a_test(text: &str, declared: &str) -> bool {
    let Some((before, _)) = text.split_once(declared) else { return false };
    let attributes = before.lines().rev().skip_while(|line| line.trim().is_empty());
    let mut attributes = attributes.take_while(|line| line.trim_start().starts_with("#["));
    attributes.any(|line| line.trim() == "#[test]")
}
