"""A libvirtd of our own, with QEMU's emulation, in a mount namespace apart from the machine's own libvirt.

Everything is looked at from outside the product: virsh, /proc. Needs
root: in a user's namespace libvirtd cannot set the groups of its QEMU.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

NEEDS = {
    "libvirtd": "libvirt-daemon",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "unshare": "util-linux",
}
LIBVIRTD = {
    "unix_sock_dir": "{root}/socket",
    "auth_unix_rw": "none",
    "auth_unix_ro": "none",
    "log_outputs": "3:file:{root}/log/libvirtd.log",
}
QEMU = """
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
security_driver = "none"
security_default_confined = 0
namespaces = []
cgroup_controllers = []
"""
MOUNTS = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
    "run": "/run",
}
USERS = {
    "passwd": "libvirt-qemu:x:64055:64055::/:/bin/false\n",
    "group": "libvirt-qemu:x:64055:\nkvm:x:64056:\n",
}
"""The driver looks for its default user, which only libvirt-daemon-system makes, before it reads that it is root."""
HOOK = """#!/bin/sh
# Blocks in the named operation as long as the file is there, and says so.
while [ -e {root}/hold-$2 ]; do touch {root}/held; sleep 0.05; done
rm -f {root}/held
"""
USB_DEVICE = {"busnum": "1", "devnum": "5", "idVendor": "0951", "idProduct": "1666"}
"""The files of a USB device that libvirt finds at 1-2.3 and no QEMU can open."""
DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <vcpu>2</vcpu>
  <iothreads>1</iothreads>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <cpu><topology sockets='1' cores='2' threads='1'/></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='{usb}'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def missing() -> str:
    """What to do about what is missing; empty where all is there."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    packages = [package for program, package in NEEDS.items() if shutil.which(program, path=path) is None]
    if not any(Path("/usr/lib").glob("**/libvirt/connection-driver/libvirt_driver_qemu.so")):
        packages.append("libvirt-daemon-driver-qemu")
    if packages:
        return f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    namespace = subprocess.run([*unshare(), "true"], capture_output=True, text=True, check=False)
    return namespace.stderr and f"allow mount namespaces ({namespace.stderr.strip()})"


def unshare() -> list[str]:
    """The command that runs another one in a mount namespace of its own, as root there."""
    return ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount"]


class PrivateLibvirtd:
    def __init__(self) -> None:
        # Not pytest's: a socket's path may have 107 characters.
        self.root = Path(tempfile.mkdtemp(prefix="libvirtd-"))
        for name in ("socket", *MOUNTS, "etc/hooks", "lib/qemu", "log/qemu", "run/libvirt"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        settings = [f'{key} = "{value.format(root=self.root)}"\n' for key, value in LIBVIRTD.items()]
        (self.root / "etc" / "libvirtd.conf").write_text("".join(settings))
        (self.root / "etc" / "qemu.conf").write_text(QEMU)
        for name, lines in USERS.items():
            (self.root / name).write_text((Path("/etc") / name).read_text() + lines)
        hook = self.root / "etc" / "hooks" / "qemu"
        hook.write_text(HOOK.format(root=self.root))
        hook.chmod(0o755)
        device = self.root / "bus" / "usb" / "devices" / "1-2.3"
        device.mkdir(parents=True)
        for file, text in USB_DEVICE.items():
            (device / file).write_text(text + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        return str(self.root / "socket" / "libvirt-sock")

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    def start(self) -> None:
        script = ["mount --make-rprivate /"]
        script += [f"mkdir -p {at} && mount --bind {self.root}/{name} {at}" for name, at in MOUNTS.items()]
        script += [f"mount --bind {self.root}/{name} /etc/{name}" for name in USERS]
        script += [f"mount --bind {self.root}/bus /sys/bus"]
        script += [f"exec libvirtd --config {self.root}/etc/libvirtd.conf"]
        with (self.root / "log" / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [*unshare(), "sh", "-ec", "; ".join(script)],
                env={**os.environ, "PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def wait_up(self) -> None:
        end = time.monotonic() + 20
        while subprocess.run(self._virsh("uri"), capture_output=True, check=False).returncode:
            assert self._process is not None
            assert self._process.poll() is None, (self.root / "log" / "stderr").read_text()
            assert time.monotonic() < end, "libvirtd does not answer"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait(20)

    def virsh(self, *words: str) -> str:
        return subprocess.run(
            self._virsh(*words), check=True, capture_output=True, text=True, timeout=30
        ).stdout.strip()

    def _virsh(self, *words: str) -> list[str]:
        return ["virsh", "-c", self.uri, *words]

    def define(self, name: str, uuid: str, *, usb: str = "none") -> None:
        path = self.root / f"{name}.xml"
        path.write_text(DOMAIN.format(name=name, uuid=uuid, usb=usb))
        self.virsh("define", str(path))

    def allowed(self, name: str) -> dict[str, str]:
        """Cpus_allowed_list of each thread of a domain's QEMU, by the thread's name; of the first, "emulator"."""
        pid = (self.root / "run" / "libvirt" / "qemu" / f"{name}.pid").read_text().strip()
        found = {}
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            name = "emulator" if fields["Pid"] == fields["Tgid"] else fields["Name"]
            found[name] = fields["Cpus_allowed_list"]
        return found

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for path in (self.root / "run" / "libvirt" / "qemu").glob("*.pid"):
            with contextlib.suppress(
                ProcessLookupError
            ):  # the driver's own, of the libvirtd that was just killed
                os.kill(int(path.read_text()), signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)
