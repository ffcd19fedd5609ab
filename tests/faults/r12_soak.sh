#!/usr/bin/env bash
# R12: a load without end: appends, readers, compaction, and a cursor that holds everything back, on a bounded disk.
. "$(dirname -- "$0")/rung.sh"
seconds=${ESKER_SOAK_SECONDS:-$(at_level 120 259200)}
ESKER_SOAK_SECONDS=$seconds try cargo test --release --test compaction_soak -- --nocapture
skip "clock jumps and failing disks in the soak" "R2 has them, where time and disks are simulated"
plant '^--test compaction(_soak)?( |$)'
summary
