"""What the lab needs of the machine it runs on: installed where that is allowed, else named.

The only place that changes this machine.
"""

import os
import shutil
import subprocess

from lab import hardware

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "make": "make",
    "setpriv": "util-linux",
}
FILES = {"/usr/share/seabios/bios-256k.bin": "seabios", hardware.OVMF_CODE: "ovmf"}
LIMIT = 900.0


class PackageMissing(Exception):
    """The lab cannot run here; the message is the command that helps."""


def missing() -> list[str]:
    """Debian packages the lab needs and this machine lacks."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    names = {package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}
    names |= {package for file, package in FILES.items() if not os.path.exists(file)}
    return sorted(names)


def ensure() -> None:
    """Everything the lab calls is there afterwards.

    Raises:
        PackageMissing: something is missing and this user may not install it, or installing failed.
    """
    names = missing()
    if not names:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *names]
    if os.geteuid() != 0:
        raise PackageMissing(f"The lab needs packages of this machine. Run: sudo {' '.join(install)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], install):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        if done.returncode:
            raise PackageMissing(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
