//! The packages of this machine as live state: what was installed, upgraded and removed since the last look.
//!
//! ```sh
//! cargo run --release --example packages [DIRECTORY [LISTING]]
//! ```
//!
//! The source `dpkg` asserts every package that `dpkg-query -W` lists, in an epoch: what it asserted before and
//! does not list any more it takes back. The store finds out what of that is news. Run it again behind a change,
//! or with the listing of another machine, and it says exactly what was created, updated and deleted. LISTING is a
//! file with lines of name, architecture, version and status, between tabs, instead of the machine's own.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use esker::{Behind, ChangeKind, Kind, Result, StateItem, Store};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Package {
    version: String,
    status: String,
}

const PACKAGE: Kind<Package> = Kind::new("package");
const FORMAT: &str = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Abbrev}\\n";

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let given = arguments.next();
    let path = given.unwrap_or_else(|| std::env::temp_dir().join("packages.esker"));
    let listing = match arguments.next() {
        Some(file) => {
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
        }
        None => list(),
    };
    look(&path, &listing)?;
    // Seen from the outside, the changes were exact: what is there is what is listed.
    let store = Store::open(&path)?;
    let there = store.scan(PACKAGE)?.count();
    assert_eq!(there, packages(&listing).len());
    println!("{there} packages in {}; look at it with: esker info {}", path.display(), path.display());
    store.close()
}

fn list() -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", FORMAT]).output();
    let output = output.unwrap_or_else(|error| panic!("dpkg-query: {error}; give a listing instead"));
    assert!(output.status.success(), "dpkg-query: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// By name and architecture.
fn packages(listing: &str) -> BTreeMap<String, Package> {
    let packages = listing.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let (name, architecture, version) = (fields.next()?, fields.next()?, fields.next()?);
        let status = fields.next().unwrap_or_default().trim().to_owned();
        Some((format!("{name}:{architecture}"), Package { version: version.to_owned(), status }))
    });
    packages.collect()
}

/// One epoch of what is listed, and what of it is news: how many were created, updated and deleted.
pub(crate) fn look(path: &Path, listing: &str) -> Result<[u64; 3]> {
    let store = Store::open(path)?;
    let dpkg = store.source("dpkg")?;
    // What is acted on is news alone, with what was before. Nothing is read until the epoch has ended, so much may be unread.
    let news = store.subscription(PACKAGE).bootstrap(false).previous(true);
    let mut news = news.behind(Behind::LiveOnly).capacity(1 << 20).start()?;

    let epoch = dpkg.epoch(PACKAGE)?;
    let listed = packages(listing);
    for (key, package) in &listed {
        dpkg.assert(PACKAGE, key, package)?;
    }
    let outcome = epoch.commit()?;

    let (mut created, mut updated, mut deleted) = (0, 0, 0);
    while let Some(item) = news.try_next()? {
        let StateItem::Change(change) = item else { continue };
        let key = String::from_utf8_lossy(change.key());
        match change.kind() {
            ChangeKind::Created => {
                created += 1;
                let version = listed.get(&*key).map(|package| package.version.as_str());
                tell(created, &format!("+ {key} {}", version.unwrap_or("?")));
            }
            ChangeKind::Updated => {
                updated += 1;
                let before = change.previous().map(|row| row.value()).transpose()?;
                let before = before.map_or_else(
                    || "?".to_owned(),
                    |package| format!("{} {}", package.version, package.status),
                );
                let fields: Vec<&str> = change.changed_fields().collect();
                tell(updated, &format!("~ {key} {before} -> {:?}, changed {fields:?}", change.value()?));
            }
            ChangeKind::Deleted => {
                deleted += 1;
                tell(deleted, &format!("- {key}"));
            }
            _ => {}
        }
    }
    println!("{} listed: {created} created, {updated} updated, {deleted} deleted", listed.len());
    assert_eq!((outcome.touched, outcome.retracted), (listed.len() as u64, deleted));
    store.close()?;
    Ok([created, updated, deleted])
}

/// The first of a long list.
fn tell(count: u64, line: &str) {
    const SHOWN: u64 = 10;
    match count {
        0..=SHOWN => println!("{line}"),
        11 => println!("  …"),
        _ => {}
    }
}
