#!/usr/bin/env bash
# R4: every system call of six workloads fails with each error, or is the last before a SIGKILL.
. "$(dirname -- "$0")/rung.sh"
need strace
[ "$level" = ci ] || export ESKER_SYSTEM_CALLS=full
try cargo test --release --test system_calls -- --nocapture
STATES=tests try cargo test --release --test inject --test sync_failures --test failed_writes --test refused
plant '^--test (inject|sync_failures|failed_writes|refused|system_calls)'
summary
