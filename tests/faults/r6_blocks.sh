#!/usr/bin/env bash
# R6: power cuts of a disk that was recorded, with the file systems of the kernel on it. It mounts: it takes root, FUSE and loop devices.
. "$(dirname -- "$0")/rung.sh"
need e2fsprogs xfsprogs btrfs-progs util-linux

file_systems=
for name in ext4 xfs btrfs; do
    if grep -q -w "$name" /proc/filesystems || modprobe "$name" 2>/dev/null; then
        file_systems+="${file_systems:+,}$name"
    else
        skip "$name" "this kernel does not have it"
    fi
done
export ESKER_BLOCKS=$file_systems
if [ "$(id -u)" -ne 0 ] || [ ! -c /dev/fuse ] || [ ! -c /dev/loop-control ] || [ -z "$file_systems" ]; then
    skip "everything" "it takes root, /dev/fuse, loop devices, and a file system to put on them"
    summary
    exit
fi

ESKER_BLOCKS_SECONDS=$(at_level 60 7200) try cargo test --release --test power_cuts -- --nocapture
# Of what other tests are to catch, what no file system of the kernel hides: a lost sync of a directory they all make good, and a lost
# sync of a tail, if it is then read past the cache, too. One of them is enough, and the first.
export ESKER_BLOCKS=${file_systems%%,*} ESKER_BLOCKS_SECONDS=300 PLANTED_TESTS="--test power_cuts" JOBS=1
plant_these tests/faults/planted/{ack-before-sync,append-into-torn-segment,a-tail-in-the-cache-is-served,compaction-unlinks-before-the-manifest}.patch
summary
