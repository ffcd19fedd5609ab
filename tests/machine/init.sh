#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the machine: it makes what the program needs, and the program does the rest. The module of the disk is
# loaded when the run begins: until then nothing of the disk is in memory.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do
    /bin/busybox insmod "$module" || echo "$module cannot be loaded"
done
# What comes in is a line for the program, and not to be shown again.
/bin/busybox stty -echo
# The port has no name before the machine and its host have talked about it.
until port=$(/bin/busybox ls /sys/class/virtio-ports) && [ -e "/dev/$port" ]; do :; done
export RUST_BACKTRACE=1 ESKER_MACHINE_DISK=/disk.ko
ESKER_BLOCKS_PLACE=$(/bin/busybox cat /file_system):/dev/vda:/mounted:/dev/$port
export ESKER_BLOCKS_PLACE
/program --exact role_of_the_machine --nocapture --test-threads=1
echo "=> wrong the program ended: $?"
/bin/busybox poweroff -f
