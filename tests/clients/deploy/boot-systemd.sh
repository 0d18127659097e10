#!/bin/sh
# systemd as the first process of namespaces of its own, with no unit but those that are given: boot-systemd.sh FOLDER
#
# FOLDER/units has targets that systemd and units name, and is searched after /etc/systemd/system, which is empty, as is /usr/local/bin.
# The rest of /etc is a copy.
# Run by: unshare --mount --pid --uts --ipc --net --cgroup --fork boot-systemd.sh FOLDER
set -eu
folder=$1
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd
mkdir "$folder/etc"
mount -t tmpfs -o mode=755 tmpfs "$folder/etc"
cp -a /etc/. "$folder/etc"
mount --move "$folder/etc" /etc
for empty in /etc/systemd/system /usr/local/bin; do mount -t tmpfs -o mode=755 tmpfs "$empty"; done
ip link set lo up
export container=test SYSTEMD_UNIT_PATH="/etc/systemd/system:$folder/units" SYSTEMD_GENERATOR_PATH="$folder/none"
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no >"$folder/systemd.log" 2>&1
