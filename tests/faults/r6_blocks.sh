#!/usr/bin/env bash
# R6: power cuts of a disk that was recorded, with the file systems of the kernel on it. It mounts: it takes root, FUSE and loop devices.
. "$(dirname -- "$0")/rung.sh"

find_file_systems
export ESKER_BLOCKS=$file_systems

ESKER_BLOCKS_SECONDS=$(at_level 60 7200) try cargo test --release --test power_cuts -- --nocapture
# Of what other tests are to catch, what no file system of the kernel hides: a lost sync of a directory they all make good, and a lost
# sync of a tail, if it is then read past the cache, too. One of them is enough, and the first.
export ESKER_BLOCKS=${file_systems%%,*} ESKER_BLOCKS_SECONDS=300 PLANTED_TESTS="--test power_cuts" JOBS=1
plant_these tests/faults/planted/{ack-before-sync,append-into-torn-segment,a-tail-in-the-cache-is-served,compaction-unlinks-before-the-manifest}.patch
summary
