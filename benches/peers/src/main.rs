//! `peers`: the same work for esker, for its peers, and for the floor that the hardware sets.
//!
//! ```text
//! cargo run --release                                   # everything; an hour or more
//! cargo run --release -- --quick                        # 100,000 events, one run
//! cargo run --release -- --engines floor,keyed-floor,esker --works append-no-sync,append-latency
//! cargo run --release -- --feed                         # only readers that are told of what is appended
//! cargo run --release -- --state                        # only live state: rows, and who is told of their changes
//! cargo run --release -- --json > measured.jsonl        # {"work","engine","metric","value","unit"}
//! cargo run --release -- --list                         # the works, the engines and their versions
//! cargo run --release -- --ten-million                  # also the append to 10 M entities
//! cargo run --release -- --dir PATH                     # where stores are made: choose the disk
//! ```
//!
//! **What is compared.** `floor` is a mapped log without features and cheats; `keyed-floor` is the fair
//! floor, with keys, a hash table, a clock and two CRCs; `raw-fdatasync` is the disk alone. A peer runs in
//! its best recommended configuration, written at the top of its adapter in `engines/`. `-e` means keyed
//! by entity and generation, `+gc` behind the hand-made group commit of `group_commit.rs`. A work that an
//! engine cannot do is `-`; an engine that would take hours gets fewer events, and its row says so.
//!
//! In the works of the feed, readers are told of what is appended. `crossbeam-channel`, `tokio-broadcast`
//! and `disruptor` are queues: they copy the payload in, hand it on and keep nothing, so that they are
//! asked less than a store and have a column of their own. `batpak` is its lossy subscription there, and
//! `batpak-cursor` its cursor; `esker-spin` is esker with readers that look for 20 us before they sleep.
//!
//! In the works of live state, the newest row of each key is kept, durably in groups of 20 ms, and one consumer is told
//! of each change of a row that became durable. `sqlite` and `redb` write every upsert into the transaction of its
//! group and log it there; `+window` gathers a group in a map and writes what it came to, as esker does by itself:
//! so their consumers, as esker's, are told one change a key and group. What is in such a map is bytes: it has no versions,
//! sources or types, and nobody can read what is pending: who reads beside a writer is shown a group before. `dashmap+channel` keeps nothing, and tells
//! its consumer of every upsert. The consumer's rows are held against the store's behind each run. The `fdatasync` that a change
//! behind an idle write is held against is one of a file beside the store, between two such writes.
//!
//! **How.** Every step of a run is a process of its own: for each work, the first run of all engines,
//! then the second, so that drift of the machine falls on all. A process starts when the machine is quiet
//! or patience ends; what others used of the machine meanwhile stands in the table (the kernel's own
//! threads and the host count as others). Each work warms up first. The figure is the median of the runs,
//! the spread is greatest less smallest. Only ratios within one run of this program mean anything.
//!
//! **What to distrust.** Payloads are 128 bytes and keys 12, also as rows, which have no other field; one machine; a virtual disk. `seglog` keeps
//! unsynced appends in the process. The stores keyed by generation are handed the generation. Cold means
//! that the store's pages were dropped, not the file system's own.

mod clock;
mod conductor;
mod engine;
mod engines;
mod feed;
mod group_commit;
mod machine;
mod mapped;
mod options;
mod report;
mod shrink;
mod state;
mod workload;
mod works;

use std::process::ExitCode;

use engine::Outcome;
use options::{CHILD, ChildOptions, Options};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == CHILD).is_some() {
        return conductor::run_child(&ChildOptions::parse(arguments)?);
    }
    let options = Options::parse(arguments)?;
    if options.list {
        report::list();
        return Ok(());
    }
    std::fs::create_dir_all(&options.dir)?;
    let machine = machine::description(&options.dir);
    let versions = report::versions(&options.engines);
    eprintln!("{machine}\n{versions}");
    let cells = conductor::measure_all(&options)?;
    if options.json {
        report::json(&cells);
    } else {
        println!("{machine}.\n{versions}.\n{} events of 128 B, {} runs.", options.events, options.runs);
        report::tables(&cells, &options.works, &options.engines, options.events);
    }
    Ok(())
}
