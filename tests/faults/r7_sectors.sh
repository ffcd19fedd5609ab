#!/usr/bin/env bash
# R7: one sector of a disk fails, with the file systems of the kernel on it. It mounts: it takes root, FUSE and loop devices.
. "$(dirname -- "$0")/rung.sh"

find_file_systems
export ESKER_SECTORS=$file_systems

[ "$level" = release ] || skip "most sectors" "LEVEL=ci takes one of seven, at every place of a page"
ESKER_SECTORS_STEP=$(at_level 7 1) try cargo test --release --test bad_sectors -- --nocapture --test-threads=1
# The first file system is enough, and what another test is to catch of them is left to it.
export ESKER_SECTORS=${file_systems%%,*} ESKER_SECTORS_STEP=7 PLANTED_TESTS="--test bad_sectors" JOBS=1
# What notices is killed with its file systems mounted: they are taken down where they were put up.
TMPDIR=$(mktemp -d)
export TMPDIR
plant_these tests/faults/planted/{retry-of-a-failed-sync,a-sector-that-cannot-be-read-ends-the-log,a-frame-whose-end-cannot-be-read-is-damaged}.patch
take_down "$TMPDIR"
summary
