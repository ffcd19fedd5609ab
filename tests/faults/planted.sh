#!/bin/sh
# Plants one bug after the other into a copy of the tree and demands that a test notices.
#
# A crash model that never fails may be right, or blind. Each patch beside this script puts a
# classic mistake into the sources; its first line says what it is, its second which tests are
# to fail with it. Usage: tests/faults/planted.sh [PATCH...]
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT INT TERM

# A copy of what is there now, committed or not; built where the tree itself is not.
(cd "$root" && tar -cf - --exclude='*/target' Cargo.toml Cargo.lock README.md src tests tools benches examples 2>/dev/null) |
    tar -xf - -C "$copy"
cp -R "$copy/src" "$copy/unplanted"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/planted
ESKER_CRASH_STATES=${ESKER_CRASH_STATES:-60000}
ESKER_MIRROR_CASES=${ESKER_MIRROR_CASES:-4000}
export CARGO_TARGET_DIR ESKER_CRASH_STATES ESKER_MIRROR_CASES
# There is a build for each patch: only what it changes is compiled again, and nobody looks at it with a debugger.
export CARGO_INCREMENTAL=1
export CARGO_PROFILE_TEST_DEBUG=false CARGO_PROFILE_DEV_DEBUG=false

planted=0
caught=0
# A patch that is amiss is told of, and the others are still tried: one run tells everything.
[ $# -gt 0 ] || set -- "$here"/planted/*.patch
for patch in "$@"; do
    planted=$((planted + 1))
    name=$(basename "$patch" .patch)
    tests=$(sed -n '2s/^caught by: //p' "$patch")
    rm -rf "$copy/src"
    cp -R "$copy/unplanted" "$copy/src"
    if ! (cd "$copy" && git apply -p1 "$patch"); then
        echo "$name: does not apply" >&2
        continue
    fi
    # A planted bug must compile: a build that fails would count as a catch.
    # shellcheck disable=SC2086 # the arguments of cargo are several words
    if ! (cd "$copy" && cargo test --quiet --no-run $tests) >"$copy/log" 2>&1; then
        cat "$copy/log" >&2
        echo "$name: does not compile" >&2
        continue
    fi
    # shellcheck disable=SC2086
    if (cd "$copy" && cargo test --quiet $tests) >"$copy/log" 2>&1; then
        echo "$name: SURVIVED $tests" >&2
    else
        caught=$((caught + 1))
        echo "$name: caught: $(grep -m1 -A1 'panicked at' "$copy/log" | tail -1 | cut -c1-160)" >&2
    fi
done
echo "{\"rung\":\"R2\",\"planted\":$planted,\"planted_caught\":$caught}"
[ "$planted" -eq "$caught" ]
