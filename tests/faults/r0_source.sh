#!/usr/bin/env bash
# R0: what can be seen without running it: format, lints, where the `unsafe` is and that each block has a proof, that imports
# point down, the golden dumps and stores of each format; licences, sources and twice-used crates of what it depends on.
. "$(dirname -- "$0")/rung.sh"
STATES=1 try cargo fmt --all --check
STATES=1 try cargo clippy --workspace --all-targets --all-features -- -D warnings
STATES=tests try cargo test --test layers --test golden --test golden_stores
# What no longer applies would be tried by nobody.
all_apply() { local patch; for patch in tests/faults/planted/*.patch; do git apply --check "$patch" || return; done; }
STATES=1 try all_apply
if command -v cargo-deny >/dev/null; then
    STATES=1 try cargo deny --all-features check bans licenses sources
    # The database of advisories is a repository of its own, which not every machine reaches.
    if cargo deny --all-features fetch db >/dev/null 2>&1; then
        STATES=1 try cargo deny --all-features check advisories
    else
        skip advisories "their database cannot be reached from here"
    fi
else
    skip "cargo deny" "not installed: cargo install --locked cargo-deny"
fi
plant '^--test golden'
summary
