//! What is at a path that is no store: whoever does not know what a store looks like has given the directory above it, a file of it,
//! or a name with a typing error.

use std::path::{Path, PathBuf};

use crate::near::Near;
use crate::output::count_of;
use crate::store::MANIFEST;
use crate::typed::{on, path_of};

/// So many names are told.
const TOLD: usize = 3;
/// So many names of a directory are looked at.
const LOOKED_AT: usize = 10_000;

/// What was found, and what to type.
pub(crate) fn of(path: &Path) -> Option<String> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if is_store(above) {
        let what = if path.exists() { "is a file of a store" } else { "would be a file of a store" };
        return Some(format!("{} {what}: {}", path_of(path), on("info", above)));
    }
    if !path.exists() {
        let stores = stores_in(above);
        let near = nearest(path, &stores);
        return match near.first() {
            Some(near) => Some(format!("a store of a name like that is there: {}", on("info", near))),
            None => Some(there(above, &stores)).filter(|_| !stores.is_empty()),
        };
    }
    let is_no_store = format!("a store is a directory with a {MANIFEST} in it");
    if !path.is_dir() {
        return Some(format!("{} is a file; {is_no_store}", path_of(path)));
    }
    let stores = stores_in(path);
    if !stores.is_empty() {
        return Some(there(path, &stores));
    }
    let mut names: Vec<String> =
        names(path).filter_map(|name| Some(path_of(Path::new(name.file_name()?)))).collect();
    names.sort();
    names.truncate(TOLD);
    Some(match names.is_empty() {
        true => format!("{} is an empty directory; {is_no_store}", path_of(path)),
        false => format!("{} is a directory with {} in it; {is_no_store}", path_of(path), names.join(", ")),
    })
}

/// The stores of a directory, and the command that shows the first of them.
fn there(directory: &Path, stores: &[PathBuf]) -> String {
    let all: Vec<String> = stores.iter().take(TOLD).map(|store| on("info", store)).collect();
    let more = stores.len().saturating_sub(TOLD);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    format!(
        "in {} there is {}: {}{more}",
        path_of(directory),
        count_of(stores.len() as u64, "store"),
        all.join(", or ")
    )
}

/// Those that are called like what was meant, the nearest first.
fn nearest(path: &Path, stores: &[PathBuf]) -> Vec<PathBuf> {
    let name =
        |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut near = Near::to(&name(path));
    stores.iter().for_each(|store| near.look(&name(store)));
    near.found().filter_map(|found| stores.iter().find(|store| name(store) == found)).cloned().collect()
}

fn stores_in(directory: &Path) -> Vec<PathBuf> {
    let mut stores: Vec<PathBuf> = names(directory).filter(|path| is_store(path)).collect();
    stores.sort();
    stores
}

fn is_store(directory: &Path) -> bool {
    directory.join(MANIFEST).is_file()
}

/// What is in a directory, as far as that can be read.
fn names(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().take(LOOKED_AT).map(|entry| {
        let path = entry.path();
        // As somebody types it.
        path.strip_prefix("./").map(Path::to_owned).unwrap_or(path)
    })
}
