//! The console blocks of the guide and of the README are run: what they show is what the tool prints.
//!
//! After a change that is meant, `TRYCMD=overwrite cargo test -p esker-tools --test guide` writes the new output into them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "../examples/harbour.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod harbour;
#[path = "../examples/quay.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod quay;

#[path = "../../examples/retention.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod retention;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the guide turns a byte over, and into what.
const SPOILT: (&str, u64, &[u8]) = ("0000000005.seg", 1000, b"X");

/// After so many rounds of the example the README's store holds back what nobody reads any more.
const ROUNDS: u32 = 10;

/// Makes what the guide and the README make before their first commands, and with `cp` and `dd`.
fn make(directory: &Path) {
    let (whole, damaged) = (directory.join("harbour.esker"), directory.join("damaged.esker"));
    harbour::make(&whole).unwrap();
    quay::make(&directory.join("quay.esker")).unwrap();
    retention::run(&directory.join("weather.esker"), ROUNDS).unwrap();
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
fn the_guide_and_the_readme_show_what_the_tool_prints() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (guide, readme) = (tools.join("GUIDE.md"), tools.parent().unwrap().join("README.md"));
    let text = fs::read_to_string(&guide).unwrap();
    let spoils = format!("of=damaged.esker/{} bs=1 seek={}", SPOILT.0, SPOILT.1);
    assert!(text.contains(&spoils), "the guide turns over another byte than this test");
    let blocks = text.matches("```console\n").count();
    assert!(blocks >= 15, "only {blocks} blocks");
    let text = fs::read_to_string(&readme).unwrap();
    let makes = format!("--example retention\nweather.esker {ROUNDS}`");
    assert!(text.contains(&makes), "the README makes another store than this test");
    let directory = tempfile::tempdir().unwrap();
    make(directory.path());
    // The one test of this program, so that nobody else stands where it goes. Its commands name stores as a reader does.
    std::env::set_current_dir(directory.path()).unwrap();
    trycmd::TestCases::new()
        .register_bin("esker", Path::new(env!("CARGO_BIN_EXE_esker")))
        .env("NO_COLOR", "1")
        .case(guide)
        .case(readme)
        .run();
    // Texts of which nothing is run would pass.
    assert!(directory.path().join("whole.esker/MANIFEST").is_file(), "the guide's repair was not run");
    let compacted = fs::read_dir(directory.path().join("weather.esker")).unwrap();
    let is_part = |name: &str| name.ends_with(".snap");
    let parts = compacted.filter(|entry| is_part(entry.as_ref().unwrap().file_name().to_str().unwrap()));
    assert_eq!(parts.count(), 1, "the README's compaction was not run");
}
