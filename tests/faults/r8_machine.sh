#!/usr/bin/env bash
# R8: power cuts of a machine that qemu emulates, with Debian's kernel in it. What they leave is mounted here: it takes root, FUSE
# and loop devices. The kernel and busybox are unpacked beside what is built, and not installed.
. "$(dirname -- "$0")/rung.sh"

# unpack PACKAGE: below $machine, where it is not there yet; says where.
unpack() {
    local to="$machine/$1"
    [ -d "$to" ] || {
        rm -rf "$to.part"
        mkdir -p "$to.part"
        (cd "$to.part" && apt-get download -qq "$1" && dpkg-deb -x ./*.deb . && rm ./*.deb) >&2 || return 1
        mv "$to.part" "$to"
    }
    echo "$to"
}

# nothing WHY: the rung cannot be run here.
nothing() {
    skip "everything" "$1"
    summary
    exit
}

find_file_systems
[ "$(dpkg --print-architecture)" = amd64 ] || nothing "the machine is an amd64, and it is emulated on one"
need qemu-system-x86 cpio kmod binutils xz-utils
command -v qemu-system-x86_64 >/dev/null || nothing "there is no qemu"

machine=$CARGO_TARGET_DIR/machine
kernel_of() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | tail -n 1; }
kernel=$(kernel_of)
[ -n "$kernel" ] || { apt-get update -qq >&2 && kernel=$(kernel_of); }
[ -n "$kernel" ] || nothing "no package of a kernel is known"
unpacked=$(unpack "$kernel") || nothing "$kernel cannot be had"
tools=$(unpack busybox-static) || nothing "busybox-static cannot be had"
# Where the modules stand in /usr, and where those who ask for them look.
[ -e "$unpacked/lib" ] || ln -s usr/lib "$unpacked/lib"
version=${kernel#linux-image-}

# modules FILE_SYSTEM: what it takes, each behind those it needs, and that of the disk, which comes last, aside.
modules() {
    local name module number=10 to="$machine/inputs/modules/$1"
    mkdir -p "$to"
    for name in virtio_pci virtio_console "$1" virtio_blk; do
        # What is built in has no file.
        while IFS= read -r module; do
            find "$to" -name "??-${module##*/}*" | grep -q . && continue
            number=$((number + 1))
            cp "$module" "$to/$number-${module##*/}"
        done < <(modprobe -d "$unpacked" -S "$version" --show-depends "$name" | sed -n 's/^insmod \([^ ]*\).*/\1/p')
    done
    { find "$to" -name '*.xz' -print0 || true; } | xargs -0 -r xz -d
    mv "$to"/??-virtio_blk.ko "$machine/inputs/disk.ko"
}

# What ESKER_MACHINE names.
rm -rf "$machine/inputs"
mkdir -p "$machine/inputs"
cp "$unpacked/boot/vmlinuz-$version" "$machine/inputs/kernel"
find "$tools" -path '*/bin/busybox' -exec cp {} "$machine/inputs/busybox" \;
depmod -b "$unpacked" "$version"
for name in ${file_systems//,/ }; do modules "$name"; done
export ESKER_MACHINE=$machine/inputs ESKER_MACHINE_FILE_SYSTEMS=$file_systems ESKER_MACHINE_EVIDENCE=${ESKER_MACHINE_EVIDENCE:-$machine/evidence}

# Who is killed leaves what it has put up: it is taken down where it stood. A machine ends with who started it.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'take_down "$TMPDIR"; rm -f "$output"' EXIT

ESKER_MACHINE_CUTS=${CUTS:-$(at_level 60 1000)} try cargo test --release --test machine_cuts -- --nocapture --test-threads=1
# Of the others none was found by so few cuts. One file system is enough, and what is found of a planted bug nobody keeps.
export ESKER_MACHINE_FILE_SYSTEMS=${file_systems%%,*} ESKER_MACHINE_CUTS=150 PLANTED_TESTS="--test machine_cuts" JOBS=1
unset ESKER_MACHINE_EVIDENCE
plant_these tests/faults/planted/ack-before-sync.patch
summary
