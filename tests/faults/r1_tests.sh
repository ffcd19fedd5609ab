#!/usr/bin/env bash
# R1: every test of the workspace. At the level of a release also mutants of format, recovery, commit, cursors, compaction and
# state: `tests/faults/mutants.sh`, which takes hours.
. "$(dirname -- "$0")/rung.sh"
STATES=tests try cargo test --workspace
[ "$level" = ci ] || STATES=1 try bash tests/faults/mutants.sh
plant '.'
summary
