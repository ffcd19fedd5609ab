#!/usr/bin/env bash
# Mutants of R1: cargo-mutants changes one place at a time of what judges bytes, recovers, commits, keeps cursors, compacts and holds live
# state, and a test has to notice. LEVEL=ci tries the files of those that differ from the commit in MUTANTS_SINCE (the one before this one),
# LEVEL=release all of them. MUTANTS_FILES names files instead, MUTANTS_TESTS other tests than those below.
#
# A mutant is a violation if no test notices it and equivalent.txt does not have it, with the reason why nobody can.
. "$(dirname -- "$0")/rung.sh"
command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants --target-dir "$CARGO_TARGET_DIR/tools"

modules=(src/format src/log src/journal/cursors.rs src/cursor src/compact src/state)
# Quick, and each looks at one of the modules: a mutant costs a build and a run of them.
tests=${MUTANTS_TESTS:---lib --test golden --test golden_stores --test opening --test damage --test damage_parts --test compaction --test derived --test state}

if [ -n "${MUTANTS_FILES:-}" ]; then
    files=$MUTANTS_FILES
elif [ "$level" = ci ]; then
    files=$(git diff --name-only --diff-filter=d "${MUTANTS_SINCE:-HEAD~1}" -- "${modules[@]}" | grep '\.rs$' | grep -v '_tests\.rs$' || true)
else
    files=$(git ls-files -- "${modules[@]}" | grep '\.rs$' | grep -v '_tests\.rs$')
fi

# missed FILE: those of a list of cargo-mutants that are not said to be equivalent: by file, change and line of text, as lines move.
missed() {
    local name file line change text
    while IFS= read -r name; do
        IFS=: read -r file line _ change <<<"$name"
        text=$(sed -n "${line}s/^ *//p" "$file")
        grep -q -F -x -- "$file | ${change# } | $text" <(sed 's/ *##.*//' tests/faults/equivalent.txt) || echo "$name"
    done <"$1"
}

if [ -z "$files" ]; then
    skip "mutants" "none of their files differs from ${MUTANTS_SINCE:-HEAD~1}"
else
    out=$(mktemp -d)
    arguments=()
    for file in $files; do arguments+=(--file "$file"); done
    for test in $tests; do arguments+=("--cargo-test-arg=$test"); done
    # Nobody debugs them. What the tests do without mutants it tries first, and ends where that fails.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 CARGO_PROFILE_TEST_OPT_LEVEL=0 \
        cargo mutants "${arguments[@]}" --package esker --jobs 1 --minimum-test-timeout 60 --no-shuffle --colors never --output "$out" || [ $? -le 3 ] \
        || violations=$((violations + 1))
    [ -s "$out/mutants.out/outcomes.json" ] || violations=$((violations + 1))
    states=$(cat "$out"/mutants.out/{caught,missed,timeout}.txt | wc -l)
    survived=$(missed "$out/mutants.out/missed.txt")
    [ -z "$survived" ] || printf 'SURVIVED %s\n' "$survived"
    violations=$((violations + $(grep -c . <<<"$survived" || true)))
    printf 'caught %d, ended by time %d, missed %d, unviable %d\n' \
        $(for kind in caught timeout missed unviable; do wc -l <"$out/mutants.out/$kind.txt"; done)
    rm -rf "$out"
fi
skip "other tests" "only those that are named in the script are run on a mutant"
summary
