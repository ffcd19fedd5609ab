#!/usr/bin/env bash
# R10: damage: bits, bytes, sectors, pages and lengths of a small store, its parts, its cursors and images, and what the tool says of it.
. "$(dirname -- "$0")/rung.sh"
[ "$level" = ci ] || export ESKER_DAMAGE=full
STATES=tests try cargo test --release --test damage --test damage_parts --test derived --test reader --test golden_stores
STATES=tests try cargo test --release -p esker-tools --test honest --test mended
plant '^(--test (damage|damage_parts|derived|golden_stores)|--lib (format|what_a_later_build))'
summary
