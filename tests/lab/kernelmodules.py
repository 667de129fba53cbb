"""Kernel modules of the lab: our own and samples of the kernel, built inside the guest's root for its very kernel.

They go to /lib/modules/VERSION/extra and are known to modprobe. What is loaded, and when, is the scenarios' business.
"""

import os
import shutil

from lab import recipe
from lab.builds import run

WORK = "usr/src/lab"


def build(suite: str, root: str) -> None:
    """Build and install every module, then take the kernel's source out again.

    Raises:
        ImageFailed: a tool failed.
    """
    (version,) = os.listdir(os.path.join(root, "lib/modules"))
    work = os.path.join(root, WORK)
    shutil.copytree(recipe.MODULES, work)
    _samples(recipe.KERNEL_SOURCE[suite], root)
    extra = os.path.join(root, "lib/modules", version, "extra")
    os.makedirs(extra)
    for name in sorted(os.listdir(work)):
        source = f"/{WORK}/{name}"
        run(["chroot", root, "make", "-s", "-C", f"/lib/modules/{version}/build", f"M={source}", "modules"])
        for file in os.listdir(os.path.join(work, name)):
            if file.endswith(".ko"):
                run(["chroot", root, "strip", "--strip-debug", f"{source}/{file}"])
                shutil.copy(os.path.join(work, name, file), extra)
    run(["chroot", root, "depmod", version])
    shutil.rmtree(work)
    run(["chroot", root, "dpkg", "--purge", recipe.KERNEL_SOURCE[suite]])


def _samples(package: str, root: str) -> None:
    """Their own makefile builds them as part of a kernel that has them configured; ours does without."""
    folder = os.path.join(root, WORK, "samples")
    archive = os.path.join(root, "usr/src", f"{package}.tar.xz")
    wanted = [f"{package}/samples/vfio-mdev/{name}.c" for name in recipe.SAMPLES]
    os.makedirs(folder)
    run(["tar", "--extract", "--strip-components=3", "-f", archive, "-C", folder, *wanted])
    with open(os.path.join(folder, "Kbuild"), "w", encoding="ascii") as file:
        file.write(f"obj-m := {' '.join(f'{name}.o' for name in recipe.SAMPLES)}\n")
