"""What the guest's disk is made of.

Values only: `image` hashes all of them, so that a change here makes a new disk. Nothing of the product is in it (see
`stage`), because the product changes by the minute and a disk takes minutes to make.
"""

import hashlib
import json
import os

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

# For building the modules below MODULES. The compiler stays in the guest: taking it out again would save nothing a boot
# notices.
COMPILER = ("linux-headers-amd64", "gcc", "make")
# Beside our own modules, these two samples of the kernel are built: mediated devices, a display and a serial port.
KERNEL_SOURCE = {"bookworm": "linux-source-6.1", "trixie": "linux-source-6.12"}
SAMPLES = ("mbochs", "mtty")
MODULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "modules")
"""A folder a module, named as it, with a Kbuild."""

# A small ramdisk is unpacked sooner: it finds the disk, the rest comes from there.
RAMDISK = {
    "etc/initramfs-tools/conf.d/lab": "MODULES=list\n",
    "usr/share/initramfs-tools/modules.d/lab": "virtio_pci\nvirtio_blk\next4\n",
}

# Nothing of this is wanted in a guest that lives for minutes; every unit costs seconds under emulation.
# libvirt-guests would suspend the domains of a boot at its end.
MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer "
    "dpkg-db-backup.timer systemd-networkd-wait-online.service networking.service libvirt-guests.service"
).split()

# labgpu is loaded by scenarios, not because the card is there. amdgpu would try every AMD card there is, in vain, and
# loading it is a tenth of a boot. The rest is of no use here.
BLACKLISTED = ("labgpu", "amdgpu", "pcspkr", "lpc_ich", "iTCO_wdt", "joydev", "parport_pc")

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

# What a display manager is to hostler: a unit known by this alias that has the display open. Not enabled.
DISPLAY_MANAGER = """\
[Unit]
Description=Stand-in for a display manager
[Service]
ExecStart=/bin/sh -c 'for n in /dev/dri/card* /dev/fb0 /dev/tty0; do [ ! -e "$n" ] || set -- "$@" "$n"; done; \
  exec 3<"$${1:-/dev/null}" 4<"$${2:-/dev/null}" 5<"$${3:-/dev/null}"; exec sleep infinity'
[Install]
Alias=display-manager.service
"""

FILES = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\nshare /host 9p trans=virtio,version=9p2000.L,msize=262144 0 0\n",
    "etc/hostname": "lab\n",
    "etc/modprobe.d/lab.conf": "".join(f"blacklist {name}\n" for name in BLACKLISTED),
    "etc/systemd/system/lab.service": LAB_UNIT,
    "usr/lib/systemd/system/lab-display.service": DISPLAY_MANAGER,
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
    built = [COMPILER, KERNEL_SOURCE[suite], SAMPLES, module_sources()]
    parts = [suite, sorted(PACKAGES), RAMDISK, FILES, PROGRAMS, LINKS, FOLDERS, DISK, built]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def module_sources() -> dict[str, str]:
    """The text of every file of our own kernel modules, by its path below MODULES."""
    found = {}
    for folder, _, names in os.walk(MODULES):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as file:
                found[os.path.relpath(path, MODULES)] = file.read()
    return found
