#!/usr/bin/env bash
# R1: every test of the workspace.
. "$(dirname -- "$0")/rung.sh"
STATES=tests try cargo test --workspace
skip "cargo-mutants" "mutants.sh has it"
plant '.'
summary
