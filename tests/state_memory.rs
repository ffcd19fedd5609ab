//! What a window touches of long rows' metadata stays in the log until somebody says otherwise. Alone in its process, whose memory
//! is looked at.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "others use more of it")]
mod memory;

use esker::{Durability, Kind, Options, Patch, Store, Window};
use memory::anonymous;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Vessel {
    name: String,
    heading: u64,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");
const VESSELS: u64 = 2000;
static METADATA: [u8; 60_000] = [7; 60_000];
/// Far less than the metadata of all.
const MUCH: u64 = 32 << 20;
const _: () = assert!(MUCH < VESSELS * 60_000 / 3);

#[test]
fn metadata_of_rows_that_a_window_touches_is_not_copied() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Os).window(Window::Manual);
    let open = || Store::over(options.clone().open(directory.path().join("vessels.esker")).unwrap());
    let store = open();
    let radar = store.source("radar").unwrap();
    for n in 0..VESSELS {
        radar
            .assert_with(VESSEL, n.to_le_bytes(), &Vessel { name: "v".into(), heading: n }, &METADATA)
            .unwrap();
        if n % 50 == 0 {
            store.flush().unwrap();
        }
    }
    drop(radar);
    store.close().unwrap();

    let store = open();
    let radar = store.source("radar").unwrap();
    let before = anonymous();
    for n in 0..VESSELS {
        radar.patch(VESSEL, n.to_le_bytes(), &Patch::new().set("heading", &(n + 1)).unwrap()).unwrap();
    }
    assert_eq!(store.state_stats().unwrap().pending, VESSELS, "all of it in one window");
    let grown = anonymous().saturating_sub(before);
    assert!(grown < MUCH, "{grown} bytes more for {VESSELS} patches");
    store.flush().unwrap();
    let row = store.get(VESSEL, 7_u64.to_le_bytes()).unwrap().unwrap();
    assert_eq!((row.value().unwrap().heading, row.metadata().len()), (8, 0), "a change has its own, or none");
}
