//! The console blocks of the guide are run: what it shows is what the tool prints.
//!
//! After a change that is meant, `TRYCMD=overwrite cargo test -p esker-tools --test guide` writes the new output into it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "../examples/harbour.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod harbour;
#[path = "../examples/quay.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod quay;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the guide turns a byte over, and into what.
const SPOILT: (&str, u64, &[u8]) = ("0000000005.seg", 1000, b"X");

/// Makes what the guide makes before its first command, and with `cp` and `dd`.
fn make(directory: &Path) {
    let (whole, damaged) = (directory.join("harbour.esker"), directory.join("damaged.esker"));
    harbour::make(&whole).unwrap();
    quay::make(&directory.join("quay.esker")).unwrap();
    fs::create_dir(&damaged).unwrap();
    for entry in fs::read_dir(&whole).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), damaged.join(entry.file_name())).unwrap();
    }
    let (file, offset, bytes) = SPOILT;
    let file = File::options().write(true).open(damaged.join(file)).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn the_guide_shows_what_the_tool_prints() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("GUIDE.md");
    let text = fs::read_to_string(&guide).unwrap();
    let spoils = format!("of=damaged.esker/{} bs=1 seek={}", SPOILT.0, SPOILT.1);
    assert!(text.contains(&spoils), "the guide turns over another byte than this test");
    let blocks = text.matches("```console\n").count();
    assert!(blocks >= 15, "only {blocks} blocks");
    let directory = tempfile::tempdir().unwrap();
    make(directory.path());
    // The one test of this program, so that nobody else stands where it goes. Its commands name stores as a reader does.
    std::env::set_current_dir(directory.path()).unwrap();
    trycmd::TestCases::new()
        .register_bin("esker", Path::new(env!("CARGO_BIN_EXE_esker")))
        .env("NO_COLOR", "1")
        .case(guide)
        .run();
    // A guide of which nothing is run would pass.
    assert!(directory.path().join("whole.esker/MANIFEST").is_file(), "the guide's repair was not run");
}
