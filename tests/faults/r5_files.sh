#!/usr/bin/env bash
# R5: power cuts and refusals as a file system sees them: one in memory, over FUSE, that records each write of a file, each sync and
# each name. It mounts: it takes root and FUSE.
. "$(dirname -- "$0")/rung.sh"

need strace util-linux
if [ "$(id -u)" -ne 0 ] || [ ! -c /dev/fuse ]; then
    skip "everything" "it takes root and /dev/fuse"
    summary
    exit
fi
# What is ended by force leaves its file systems mounted: they are taken down where they were put up.
TMPDIR=$(mktemp -d)
export TMPDIR
clean_up() {
    { findmnt -rn -o TARGET | grep "^$TMPDIR/" || true; } | xargs -r umount -l
    rm -rf "$TMPDIR" "$output"
}
trap clean_up EXIT
export ESKER_FILES=yes

[ "$level" = release ] || skip "most refusals" "LEVEL=ci takes one of 41, of every kind"
# On a machine that others use too, a release may take hours: it has no limit. Each way to write has its own time for refusals.
[ "$level" = release ] || export ESKER_FILES_SECONDS=60
ESKER_FILES_STATES=200000 ESKER_FILES_STEP=$(at_level 41 1) \
    try cargo test --release --test file_cuts -- --nocapture --test-threads=1
# Of what other tests are to catch, what is lost where the disk does no more than POSIX promises: R6 hides the second.
export ESKER_FILES_STATES=20000 ESKER_FILES_SECONDS=600 PLANTED_TESTS="--test file_cuts power_cut" JOBS=1
plant_these tests/faults/planted/{ack-before-sync,no-directory-sync-segment}.patch
summary
