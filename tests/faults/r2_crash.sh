#!/usr/bin/env bash
# R2: the crash model, in the process: a crash behind each operation of a disk that knows no more than POSIX promises, and what may be
# left of it. The log, cursors, compaction, live state, mirrors and backplanes are the workloads.
. "$(dirname -- "$0")/rung.sh"
# The states of CI are a million together.
export ESKER_CRASH_STATES="${ESKER_CRASH_STATES:-$(at_level 700000 100000000)}"
export ESKER_FEED_STATES="${ESKER_FEED_STATES:-$(at_level 150000 5000000)}"
export ESKER_COMPACT_STATES="${ESKER_COMPACT_STATES:-$(at_level 150000 3000000)}" ESKER_COMPACT_STEPS=100000
export ESKER_STATE_CASES="${ESKER_STATE_CASES:-$(at_level 30000 300000)}"
export ESKER_MIRROR_CASES="${ESKER_MIRROR_CASES:-$(at_level 20000 200000)}"
export ESKER_BACKPLANE_CASES="${ESKER_BACKPLANE_CASES:-$(at_level 50000 500000)}"
try cargo test --release --test crash --test feed_crash --test compaction_model -- --nocapture
STATES=$((ESKER_STATE_CASES + ESKER_MIRROR_CASES + ESKER_BACKPLANE_CASES)) \
    try cargo test --release --test state_model --test mirror_model --test backplane_model
# Those that the crash models have to catch run with fewer states: it is enough that they fail.
unset ESKER_CRASH_STATES ESKER_FEED_STATES ESKER_COMPACT_STATES ESKER_COMPACT_STEPS ESKER_STATE_CASES ESKER_MIRROR_CASES \
    ESKER_BACKPLANE_CASES
plant '^--test (crash|feed_crash|compaction_model|state_model|mirror_model|conformance --test backplane_model)'
summary
