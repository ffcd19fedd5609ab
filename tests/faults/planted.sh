#!/usr/bin/env bash
# Plants one bug after the other into a copy of the tree and demands that a test notices.
#
# A crash model that never fails may be right, or blind. Each patch beside this script puts a
# classic mistake into the sources; its first line says what it is, its second which tests are
# to fail with it. Usage: [JOBS=N] tests/faults/planted.sh [PATCH...]
#
# JOBS workers, by default one a core and at most 4, take the patches from one queue, those of the same tests together, so
# that few of them build the same test. Each has a copy of the tree and a target directory of its own,
# $CARGO_TARGET_DIR/planted/N, which are kept for the next run. The last line names the patches that were not caught.
#
# PLANTED_SECONDS=N: behind so many seconds no further patch is taken, and the last line says how many were tried. Where they
# begin goes on with the number of commits, so that in time all of them come: but for those that Miri or a fuzzer is to notice,
# each of which takes a build of everything. These are for R3 and R11.
#
# Those take a nightly toolchain, its component miri, and cargo-fuzz; without them they do not compile, and are not caught.
#
# PLANTED_TESTS=ARGUMENTS: these tests are to notice, whatever the second line of a patch says.
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

# The temporary files of the tests, and what was found. Workers are groups of processes, and so is each test, so that none of
# theirs outlives them; what is killed here has nothing to lose.
work=$(mktemp -d)
workers=()
kill_group() { kill -KILL -- "-$1" 2>/dev/null || true; }
clean_up() {
    for worker in ${workers[@]+"${workers[@]}"}; do kill_group "$worker"; done
    for test in "$work"/tests/*; do [ ! -f "$test" ] || kill_group "$(cat "$test")"; done
    wait 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$work/tmp" "$work/tests" "$work/taken" "$work/caught"
export TMPDIR="$work/tmp"
target=${CARGO_TARGET_DIR:-$root/target}/planted
export ESKER_CRASH_STATES=${ESKER_CRASH_STATES:-60000} ESKER_MIRROR_CASES=${ESKER_MIRROR_CASES:-4000}
# There is a build for each patch: only what it changes is compiled again, and nobody looks at it with a debugger.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_TEST_DEBUG=false CARGO_PROFILE_DEV_DEBUG=false
# That it fails is enough: nobody wants the smallest case.
export PROPTEST_MAX_SHRINK_ITERS=0

enough=${PLANTED_SECONDS:-}
first=0
if [ -n "$enough" ]; then
    [[ $enough =~ ^[1-9][0-9]{0,6}$ ]] || { echo "PLANTED_SECONDS is \"$enough\": it is a number of seconds" >&2 && exit 2; }
    for patch in "$@"; do
        shift
        sed -n '2s/^caught by: //p' "$patch" | grep -q -E '^(miri|fuzz) ' || set -- "$@" "$patch"
    done
    # Some are tried for each commit, and the next begin further on.
    first=$(git -C "$root" rev-list --count HEAD 2>/dev/null || echo 0)
fi

# What runs tests: a line that begins with `miri` or `fuzz` names those of Miri, or a fuzzer and how many seconds it has.
# shellcheck disable=SC2086 # the arguments of cargo are several words
run_tests() {
    case $1 in
    "miri "*) MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-compare-exchange-weak-failure-rate=0.0" cargo +nightly miri test ${1#miri } ;;
    "fuzz "*)
        set -- ${1#fuzz }
        mkdir -p "fuzz/corpus/$1"
        cargo +nightly fuzz run "$1" "fuzz/corpus/$1" "fuzz/seeds/$1" "fuzz/regressions/$1" -- \
            -max_total_time="$2" -timeout=25 -len_control=0 -max_len=4096 -rss_limit_mb=2048
        ;;
    *) cargo test $1 ;;
    esac
}

# The same, but for running them.
# shellcheck disable=SC2086 # the arguments of cargo are several words
build_tests() {
    case $1 in
    "miri "*) cargo +nightly miri test --quiet --no-run ${1#miri } ;;
    "fuzz "*)
        set -- ${1#fuzz }
        mkdir -p "fuzz/seeds/$1" "fuzz/regressions/$1"
        cargo +nightly fuzz build "$1"
        ;;
    *) cargo test --quiet --no-run $1 ;;
    esac
}

caught_by() { if [ -n "${PLANTED_TESTS:-}" ]; then echo "$PLANTED_TESTS"; else sed -n '2s/^caught by: //p' "$1"; fi; }

# say COPY LINE [LOG]: in one piece, whoever else has something to say.
say() {
    { [ $# -lt 3 ] || cat "$3"; echo "$2"; } >"$1/said"
    flock "$work/saying" cat "$1/said" >&2
}

# fails COPY TESTS: true once one of them has failed, and no test behind it is waited for. Its name is in `failed`.
fails() {
    local pid status=0
    set -m
    (cd "$1" && run_tests "$2") >"$1/log" 2>&1 </dev/null &
    pid=$!
    set +m
    echo "$pid" >"$work/tests/${1##*/}"
    while kill -0 "$pid" 2>/dev/null && ! grep -q '^test .*FAILED$' "$1/log"; do sleep 0.1; done
    failed=$(sed -n '/^test .*FAILED$/{s/^test \(.*\) \.\.\. FAILED$/\1/p;q}' "$1/log")
    [ -z "$failed" ] || kill_group "$pid"
    wait "$pid" 2>/dev/null || status=$?
    rm -f "$work/tests/${1##*/}"
    # What ends it without the name of a test is an abort or a signal, and is told so; anything else has not run.
    [ "$status" -eq 0 ] || [ -n "$failed" ] || failed=$(grep -o -E -m1 'panicked at.*|error: Undefined Behavior.*|ERROR: libFuzzer: .*|process abort.*|\(signal: [0-9]+.*' "$1/log" | cut -c1-160) || true
    [ "$status" -ne 0 ] && [ -n "$failed" ]
}

# plant COPY PLACE PATCH: what became of it is told, and marked if it was caught.
plant() {
    local copy=$1 name tests begun=$SECONDS built failed=
    name=$(basename "$3" .patch)
    tests=$(caught_by "$3")
    rm -rf "$copy/src"
    cp -R "$copy/unplanted" "$copy/src"
    if ! (cd "$copy" && git apply -p1 "$3") 2>"$copy/log"; then
        say "$copy" "$name: does not apply" "$copy/log"
        return
    fi
    # A planted bug must compile: a build that fails would count as a catch.
    if ! (cd "$copy" && build_tests "$tests") >"$copy/log" 2>&1; then
        say "$copy" "$name: does not compile" "$copy/log"
        return
    fi
    built=$((SECONDS - begun))
    if fails "$copy" "$tests"; then
        : >"$work/caught/$2"
        say "$copy" "$name: caught in $built + $((SECONDS - begun - built)) s: $failed"
    else
        say "$copy" "$name: SURVIVED $tests"
    fi
}

# work_through NUMBER PATCH...: takes the patches of a test that no other has taken; of two that make a directory one fails.
work_through() {
    local copy=$target/tree-$1 begin tried place
    export CARGO_TARGET_DIR="$target/$1"
    begin=$((first + ($1 - 1) * ($# - 1) / jobs))
    shift
    # A copy of what is there now, committed or not, at a place that a later run finds built; built where the tree itself is not.
    rm -rf "$copy"
    mkdir -p "$copy"
    (cd "$root" && tar -cf - --exclude='*/target' --exclude='fuzz/corpus' --exclude='fuzz/artifacts' Cargo.toml Cargo.lock README.md src tests tools benches examples fuzz) |
        tar -xf - -C "$copy"
    cp -R "$copy/src" "$copy/unplanted"
    # A patch that is amiss is told of, and the others are still tried: one run tells everything.
    for tried in $(seq 0 $(($# - 1))); do
        [ -z "$enough" ] || [ "$SECONDS" -lt "$enough" ] || break
        place=$(((begin + tried) % $# + 1))
        if mkdir "$work/taken/$place" 2>/dev/null; then plant "$copy" "$place" "${!place}"; fi
    done
}

# Those of one test stand together, and each worker begins with tests of its own.
patches=()
while IFS= read -r patch; do patches+=("$patch"); done < <(
    for patch in "$@"; do printf '%s\t%s\n' "$(caught_by "$patch")" "$patch"; done | sort | cut -f 2
)
set -- "${patches[@]}"

jobs=$((jobs < $# ? jobs : $#))
set -m
for number in $(seq "$jobs"); do
    work_through "$number" "$@" </dev/null &
    workers+=("$!")
done
set +m
is_whole=yes
for worker in "${workers[@]}"; do
    wait "$worker" || {
        echo "a worker failed with status $?: what it had taken counts as not caught" >&2
        kill_group "$worker"
        is_whole=
    }
done
workers=()

place=0
tried=0
caught=0
survived=
for patch in "$@"; do
    place=$((place + 1))
    # Without a limit a patch that nobody took is one that a worker left behind when it failed.
    [ -z "$enough" ] || [ -d "$work/taken/$place" ] || continue
    tried=$((tried + 1))
    if [ -f "$work/caught/$place" ]; then
        caught=$((caught + 1))
    else
        survived+="${survived:+,}\"$(basename "$patch" .patch)\""
    fi
done
echo "{\"planted\":$tried,\"planted_caught\":$caught,\"not_tried\":$(($# - tried)),\"survived\":[$survived]}"
[ -n "$is_whole" ] && [ "$tried" -gt 0 ] && [ "$tried" -eq "$caught" ]
