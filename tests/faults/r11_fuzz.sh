#!/usr/bin/env bash
# R11: the fuzzers, each for FUZZ_SECONDS: what once failed comes first. cargo-fuzz needs a nightly toolchain.
. "$(dirname -- "$0")/rung.sh"
seconds=${FUZZ_SECONDS:-$(at_level 60 86400)}
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz --target-dir "$CARGO_TARGET_DIR/tools"

# libFuzzer says at its end how many it has tried.
fuzz() {
    local status=0
    mkdir -p "fuzz/corpus/$1"
    cargo +nightly fuzz run "$1" "fuzz/corpus/$1" "fuzz/seeds/$1" "fuzz/regressions/$1" -- \
        -max_total_time="$seconds" -timeout=25 -len_control=0 -max_len=4096 -print_final_stats=1 \
        -rss_limit_mb=2048 -malloc_limit_mb=512 2>&1 | grep -v -E '^#[0-9]+' | tee "$output.fuzz" || status=$?
    sed -n 's/^stat::number_of_executed_units: \([0-9]*\)/{"states":\1}/p' "$output.fuzz"
    rm -f "$output.fuzz"
    return "$status"
}

targets=${*:-$(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' fuzz/Cargo.toml | grep -v '^esker')}
for target in $targets; do
    echo "== $target"
    try fuzz "$target"
done
unset STATES

# Each of them has to notice something within the time that CI gives it. Most bugs of others do for that.
plant '^fuzz '
planted_for() { PLANTED_TESTS="fuzz $1 60" plant_these "tests/faults/planted/$2.patch"; }
planted_for frame no-salt
planted_for journal_ops durable-bound-dropped
planted_for feed_ops a-stale-batch-moves-a-cursor-back
planted_for jsonl_import a-gap-of-an-import-is-forgotten
planted_for state_ops a-deletion-uses-no-version
planted_for compaction_ops compaction-passes-a-cursor
planted_for snapshot_load a-damaged-part-is-behind-everything
summary
