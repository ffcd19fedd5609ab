#!/usr/bin/env bash
# R3: interleavings and memory: loom on commit and on who sleeps, Miri on the format, the mapping, the log and a whole journal in memory; at
# the level of a release ThreadSanitizer on feeds, subscriptions and folds, and AddressSanitizer on the tests of the log.
. "$(dirname -- "$0")/rung.sh"
target=$CARGO_TARGET_DIR
host=$(rustc -vV | sed -n 's/^host: //p')
export STATES=tests

under_loom() { CARGO_TARGET_DIR="$target/loom" cargo test --manifest-path tests/loom/Cargo.toml; }
# Nightly's standard library is built with the sanitizer too: it cannot see races through one that is not.
under() {
    local sanitizer=$1
    shift
    CARGO_TARGET_DIR="$target/$sanitizer" RUSTFLAGS="-Zsanitizer=$sanitizer" \
        cargo +nightly test -Zbuild-std --target "$host" "$@"
}
under_miri() { CARGO_TARGET_DIR="$target/miri" MIRIFLAGS="-Zmiri-disable-isolation ${flags:-}" cargo +nightly miri test "$@"; }

try under_loom
# What recovery makes of thousands of images of a log takes it an hour, and is R1's: the same code runs here over a whole journal, below.
try under_miri --lib -- format:: disk::map log:: --skip log::recovery_tests --skip log::chain_tests
skip "Miri on the images that recovery is shown" "they take it an hour"
# A weak exchange that fails at random makes every lock spin, and each append looks into 256 of
# them: without that a whole journal takes a minute, with it a quarter of an hour is not enough.
flags=-Zmiri-compare-exchange-weak-failure-rate=0.0 try under_miri --test in_memory
if [ "$level" = release ]; then
    try under thread --test feed --test wait_set --test stream --test projection
    try under thread --test state -- s24 updates_from
    try under address --test crash --test damage --test reader --test feed --test compaction
else
    skip "ThreadSanitizer and AddressSanitizer" "they are for releases: each builds the standard library and everything above it"
fi
skip "shuttle" "not built: loom looks at all interleavings of the two state machines that wait and wake"
unset STATES
plant '^(--lib log::commit|--manifest-path tests/loom|miri )'
summary
