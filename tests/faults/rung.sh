# shellcheck shell=bash
# What the scripts of the rungs share. Each begins with `. rung.sh`, says what it is, and ends with `summary`.
#
# LEVEL=ci (the default) takes minutes; LEVEL=release takes as long as the figures of a release need.
# PLANTED=no leaves the planted bugs of the rung out, for who runs them all at once.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export CARGO_TERM_COLOR=never CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
level=${LEVEL:-ci}
case $level in ci | release) ;; *) echo "LEVEL is \"$level\": it is ci or release" >&2 && exit 2 ;; esac

rung=$(basename -- "$0" .sh)
rung=${rung%%_*}
states=0
violations=0
planted=0
caught=0
skipped=()
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# at_level CI RELEASE: the one that counts.
at_level() { if [ "$level" = ci ]; then echo "$1"; else echo "$2"; fi; }

# need PACKAGE...: Debian packages, installed where one is missing.
need() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        skip "${missing[*]}" "not installed, and installing needs root"
        return
    fi
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# skip WHAT WHY: said at once and in the summary. Nothing is left out in silence.
skip() {
    echo "skipped: $1: $2"
    skipped+=("$1: $2")
}

# try COMMAND...: goes on behind a failure. What it prints as "states" is counted, and so is each test that fails; with
# STATES=N it counts for so many, or with STATES=tests for as many as passed.
try() {
    local status=0 failed printed
    "$@" 2>&1 | tee "$output" || status=$?
    case ${STATES:-printed} in
    printed) printed=$((0 + $(sed -n 's/.*"[a-z_]*states":\([0-9]*\).*/\1/p' "$output" | paste -sd+ | sed 's/^$/0/')))
        states=$((states + printed))
        # What looked at nothing has shown nothing.
        [ "$printed" -gt 0 ] || violations=$((violations + 1))
        ;;
    tests) printed=$(grep -c -E '^test .* ok$' "$output" || true)
        states=$((states + printed))
        [ "$printed" -gt 0 ] || violations=$((violations + 1))
        ;;
    *) states=$((states + STATES)) ;;
    esac
    if [ "$status" -ne 0 ]; then
        failed=$(grep -c -E '^test .*FAILED$' "$output" || true)
        violations=$((violations + (failed > 0 ? failed : 1)))
    fi
    # A test that could not run says so.
    while IFS= read -r why; do skipped+=("$why"); done < <(sed -n 's/^not run: //p' "$output" | sort -u)
}

# plant PATTERN: the planted bugs that tests of these names are to catch.
plant() {
    local line patches=()
    while IFS= read -r line; do patches+=("$line"); done < <(
        for patch in tests/faults/planted/*.patch; do
            sed -n '2s/^caught by: //p' "$patch" | grep -q -E -- "$1" && echo "$patch"
        done
    )
    # Without a name it would plant all.
    [ "${#patches[@]}" -gt 0 ] || { violations=$((violations + 1)) && echo "no patch is for: $1" && return; }
    plant_these "${patches[@]}"
}

# plant_these PATCH...: and what becomes of them is counted.
plant_these() {
    local line patches=("$@")
    if [ "${PLANTED:-yes}" = no ]; then
        skip "planted bugs" "PLANTED=no"
        return
    fi
    line=$(bash tests/faults/planted.sh "${patches[@]}" | tail -n 1) || true
    echo "$line" >&2
    planted=$((planted + ${#patches[@]}))
    caught=$((caught + $(sed -n 's/.*"planted_caught":\([0-9]*\).*/\1/p' <<<"$line" | sed 's/^$/0/')))
}

# The one line of the rung. It fails where a violation was found, or a planted bug was not.
summary() {
    local why list=
    while IFS= read -r why; do
        [ -z "$why" ] || list+="${list:+,}\"$(sed 's/[\\"]/\\&/g' <<<"$why")\""
    done < <(printf '%s\n' ${skipped[@]+"${skipped[@]}"} | awk '!seen[$0]++')
    printf '{"rung":"%s","level":"%s","states":%d,"violations":%d,"planted":%d,"planted_caught":%d,"seconds":%d,"skipped":[%s]}\n' \
        "${rung^^}" "$level" "$states" "$violations" "$planted" "$caught" "$SECONDS" "$list"
    [ "$violations" -eq 0 ] && [ "$planted" -eq "$caught" ]
}

# take_down DIRECTORY: what somebody who was killed has left mounted there, and the directory.
take_down() {
    { findmnt -rn -o TARGET | grep "^$1/.*/mounted\$" || true; } | xargs -r umount -l
    { losetup -n -l -O NAME,BACK-FILE | grep "$1/" || true; } | cut -d ' ' -f 1 | xargs -r losetup -d
    { findmnt -rn -o TARGET | grep "^$1/" || true; } | xargs -r umount -l
    rm -rf "$1"
}

# Which file systems of the kernel can be mounted here, in file_systems, as a list with commas. Where none can be, that is all
# there is to say of the rung.
find_file_systems() {
    need e2fsprogs xfsprogs btrfs-progs util-linux
    file_systems=
    for name in ext4 xfs btrfs; do
        if grep -q -w "$name" /proc/filesystems || modprobe "$name" 2>/dev/null; then
            file_systems+="${file_systems:+,}$name"
        else
            skip "$name" "this kernel does not have it"
        fi
    done
    if [ "$(id -u)" -ne 0 ] || [ ! -c /dev/fuse ] || [ ! -c /dev/loop-control ] || [ -z "$file_systems" ]; then
        skip "everything" "it takes root, /dev/fuse, loop devices, and a file system to put on them"
        summary
        exit
    fi
}
