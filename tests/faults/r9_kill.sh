#!/usr/bin/env bash
# R9: SIGKILL at random, with readers, watchers, consumers, mirrors and compaction; and of a mirror at each system call.
. "$(dirname -- "$0")/rung.sh"
need strace
kills=$(at_level 300 10000)
ESKER_KILLS=$kills STATES=$kills try cargo test --release --test kill
STATES=tests try cargo test --release --test backplane_kill --test consumers_kill --test react --test compaction_faults
STATES=100 try cargo run --release --example reactor "$(mktemp -d)/reactor.esker" 100
STATES=tests try cargo test --manifest-path examples/mirror/Cargo.toml
plant '^--test (kill|react|consumers|compaction_faults)'
summary
