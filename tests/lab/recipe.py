"""What the guest's disk is made of.

Values only: `image` hashes all of them, so that a change here makes a new disk. Nothing of the product is in it (see
`stage`), because the product changes by the minute and a disk takes minutes to make.
"""

import hashlib
import json

from lab.guest import hooks

# The suites, with the version of their Python.
SUITES = {"bookworm": "3.11", "trixie": "3.13"}

PACKAGES = (
    "systemd systemd-sysv udev dbus polkitd linux-image-amd64 kmod initramfs-tools zstd "
    "libvirt-daemon-system libvirt-clients qemu-system-x86 seabios apparmor "
    "pciutils usbutils iproute2 procps util-linux numactl irqbalance strace mdevctl driverctl "
    "python3 python3-venv python3-libvirt python3-pyudev python3-systemd python3-msgpack python3-trio "
    "python3-dbus-next"
).split()

# Nothing of this is wanted in a guest that lives for minutes; every unit costs seconds under emulation.
# libvirt-guests would suspend the domains of a boot at its end.
MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer "
    "dpkg-db-backup.timer systemd-networkd-wait-online.service networking.service libvirt-guests.service"
).split()

# The scenarios come from the shared folder and print on the second serial port; then the guest is gone.
LAB_UNIT = """\
[Unit]
After=multi-user.target libvirtd.service dbus.service
[Service]
Type=oneshot
WorkingDirectory=/host
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/bin/sh -c 'python3 -m guest >/dev/ttyS1 2>&1; systemctl poweroff'
[Install]
WantedBy=multi-user.target
"""

FILES = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\nshare /host 9p trans=virtio,version=9p2000.L,msize=262144 0 0\n",
    "etc/hostname": "lab\n",
    "etc/systemd/system/lab.service": LAB_UNIT,
}
PROGRAMS = {hooks.HOOK: hooks.SCRIPT}
LINKS = {
    "etc/systemd/system/multi-user.target.wants/lab.service": "../lab.service",
    **{f"etc/systemd/system/{unit}": "/dev/null" for unit in MASKED},
}
FOLDERS = ("host",)
DISK = "6G"


def fingerprint(suite: str) -> str:
    """Twelve hex digits that change with anything of the recipe."""
    parts = [suite, sorted(PACKAGES), FILES, PROGRAMS, LINKS, FOLDERS, DISK]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
