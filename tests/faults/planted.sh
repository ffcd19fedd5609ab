#!/usr/bin/env bash
# Plants one bug after the other into a copy of the tree and demands that a test notices.
#
# A crash model that never fails may be right, or blind. Each patch beside this script puts a
# classic mistake into the sources; its first line says what it is, its second which tests are
# to fail with it. Usage: [JOBS=N] tests/faults/planted.sh [PATCH...]
#
# JOBS workers, by default one a core and at most 4, take the patches from one queue. Each has a
# copy of the tree and a target directory of its own, $CARGO_TARGET_DIR/planted/N, which is kept for the next run.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
[ $# -gt 0 ] || set -- "$here"/planted/*.patch
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
jobs=${JOBS:-$((cores < 4 ? cores : 4))}
if ! [[ $jobs =~ ^[1-9][0-9]{0,2}$ ]]; then
    echo "JOBS is \"$jobs\": it is the number of workers, from 1 to 999" >&2
    exit 2
fi

# Copies, the temporary files of the tests, and what was found. Workers are groups of processes, so that none of
# theirs outlives them; what is killed here has nothing to lose.
work=$(mktemp -d)
workers=()
clean_up() {
    for worker in ${workers[@]+"${workers[@]}"}; do kill -KILL -- "-$worker" 2>/dev/null || true; done
    wait 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$work/tmp" "$work/taken" "$work/caught"
export TMPDIR="$work/tmp"
target=${CARGO_TARGET_DIR:-$root/target}/planted
export ESKER_CRASH_STATES=${ESKER_CRASH_STATES:-60000} ESKER_MIRROR_CASES=${ESKER_MIRROR_CASES:-4000}
# There is a build for each patch: only what it changes is compiled again, and nobody looks at it with a debugger.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_TEST_DEBUG=false CARGO_PROFILE_DEV_DEBUG=false

# say COPY LINE [LOG]: in one piece, whoever else has something to say.
say() {
    { [ $# -lt 3 ] || cat "$3"; echo "$2"; } >"$1/said"
    flock "$work/saying" cat "$1/said" >&2
}

# plant COPY PLACE PATCH: what became of it is told, and marked if it was caught.
plant() {
    local copy=$1 name tests
    name=$(basename "$3" .patch)
    tests=$(sed -n '2s/^caught by: //p' "$3")
    rm -rf "$copy/src"
    cp -R "$copy/unplanted" "$copy/src"
    if ! (cd "$copy" && git apply -p1 "$3") 2>"$copy/log"; then
        say "$copy" "$name: does not apply" "$copy/log"
        return
    fi
    # A planted bug must compile: a build that fails would count as a catch.
    # shellcheck disable=SC2086 # the arguments of cargo are several words
    if ! (cd "$copy" && cargo test --quiet --no-run $tests) >"$copy/log" 2>&1; then
        say "$copy" "$name: does not compile" "$copy/log"
        return
    fi
    # shellcheck disable=SC2086
    if (cd "$copy" && cargo test --quiet $tests) >"$copy/log" 2>&1; then
        say "$copy" "$name: SURVIVED $tests"
    else
        say "$copy" "$name: caught: $(grep -m1 -A1 'panicked at' "$copy/log" | tail -1 | cut -c1-160)"
        : >"$work/caught/$2"
    fi
}

# work_through NUMBER PATCH...: takes those that no other has taken; of two that make a directory one fails.
work_through() {
    local copy=$work/$1 place=0 patch
    export CARGO_TARGET_DIR="$target/$1"
    shift
    # A copy of what is there now, committed or not; built where the tree itself is not.
    mkdir "$copy"
    (cd "$root" && tar -cf - --exclude='*/target' Cargo.toml Cargo.lock README.md src tests tools benches examples) |
        tar -xf - -C "$copy"
    cp -R "$copy/src" "$copy/unplanted"
    # A patch that is amiss is told of, and the others are still tried: one run tells everything.
    for patch in "$@"; do
        place=$((place + 1))
        if mkdir "$work/taken/$place" 2>/dev/null; then plant "$copy" "$place" "$patch"; fi
    done
}

set -m
for number in $(seq "$((jobs < $# ? jobs : $#))"); do
    work_through "$number" "$@" </dev/null &
    workers+=("$!")
done
set +m
for worker in "${workers[@]}"; do
    wait "$worker" || {
        echo "a worker failed with status $?: what it had taken counts as not caught" >&2
        kill -KILL -- "-$worker" 2>/dev/null || true
    }
done
workers=()

caught=$(find "$work/caught" -type f | wc -l)
echo "{\"rung\":\"R2\",\"planted\":$#,\"planted_caught\":$((caught))}"
[ "$#" -eq "$caught" ]
