//! The backplane on NATS JetStream: the contract on a real server, and what a network and an operator do to it.
//!
//! Each test has a server of its own, from the binary `nats-server`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::sync::{Arc, Mutex};

use esker::backplane::Backplane;
use esker::conformance::Bench;

#[path = "nats/bridge.rs"]
mod bridge;
#[path = "nats/client.rs"]
mod client;
#[path = "nats/faults.rs"]
mod faults;
#[path = "nats/operator.rs"]
mod operator;
#[path = "nats/proxy.rs"]
mod proxy;
#[path = "nats/purge.rs"]
mod purge;
#[path = "nats/server.rs"]
mod server;
#[path = "conformance/table.rs"]
mod table;

use server::Server;
use table::MakeBench;

/// A crash kills the server too.
struct Cluster(Mutex<Server>);

impl Bench for Cluster {
    fn open(&self) -> Arc<dyn Backplane> {
        Arc::new(self.0.lock().unwrap().connect())
    }

    fn kill(&self, plane: Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        let mut server = self.0.lock().unwrap();
        server.kill();
        drop(plane);
        server.revive();
        drop(server);
        self.open()
    }

    /// Over a connection of its own.
    fn open_beside(&self, _: &Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        self.open()
    }
}

const NATS: &[(&str, MakeBench)] = &[("nats", |_| Box::new(Cluster(Mutex::new(Server::start()))))];

fn schedules(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_statement_holds_on_nats_and_kept_doubles_around_it_and_is_broken_by_those_that_it_names() {
    let (text, problems) = table::part_a(NATS, schedules("ESKER_NATS_SCHEDULES", 1));
    println!("{text}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn what_every_backplane_takes_is_taken_by_nats_too() {
    let (text, problems) = table::limits(NATS, 1);
    println!("{text}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn folds_hold_on_nats_and_each_statement_of_them_is_broken_by_the_doubles_that_it_names() {
    let (text, problems) = table::part_b(NATS, schedules("ESKER_NATS_FOLD_SCHEDULES", 1));
    println!("{text}");
    assert!(problems.is_empty(), "{problems:#?}");
}
