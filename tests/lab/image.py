"""From the recipe to a cached disk, kernel and initial ramdisk.

A cached image is never written to again: a boot works on a sparse copy. It appears by one rename, so a build that dies
leaves nothing that looks finished. AppArmor and everything else stays as the distribution has it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lab import hostpackages, kernelmodules, recipe
from lab.builds import ImageFailed, run

LOCK_LIMIT = 3600.0
KEPT = 3
"""Images of one suite in the cache, the one in use included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    suite: str
    kernel: str
    ramdisk: str
    disk: str


def cache() -> str:
    """The folder of everything the lab keeps, outside the tree."""
    base = os.environ.get("HOSTLER_CACHE") or os.path.expanduser("~/.cache/hostler")
    return os.path.join(base, "lab")


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process of this machine at a time is in here for `name`.

    Raises:
        TimeoutError: another held it for an hour.
    """
    os.makedirs(cache(), exist_ok=True)
    with open(os.path.join(cache(), f"{name}.lock"), "w", encoding="ascii") as file:
        deadline = time.monotonic() + LOCK_LIMIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another run holds {file.name} for {LOCK_LIMIT:.0f} s") from None
                time.sleep(0.5)
        yield


def image(suite: str) -> Image:
    """The image of `suite` for the recipe as it is now, built if it is not in the cache.

    Raises:
        hostpackages.PackageMissing: tools are missing on this machine.
        ImageFailed: a tool failed.
    """
    hostpackages.ensure()
    folder = os.path.join(cache(), f"{suite}-{recipe.fingerprint(suite)}")
    with locked(f"image-{suite}"):
        if not os.path.isdir(folder):
            remove_old(suite)
            _build(suite, folder)
        os.utime(folder)
    return Image(
        suite=suite,
        kernel=os.path.join(folder, "vmlinuz"),
        ramdisk=os.path.join(folder, "initrd"),
        disk=os.path.join(folder, "disk.img"),
    )


def remove_old(suite: str) -> None:
    """What a build that died left, and all images but those used last: branches with other recipes take turns."""
    found = [os.path.join(cache(), name) for name in os.listdir(cache())]
    images = [path for path in found if re.fullmatch(rf"{suite}-[0-9a-f]{{12}}", os.path.basename(path))]
    images.sort(key=os.path.getmtime, reverse=True)
    dead = [path for path in found if os.path.basename(path).startswith(f"{suite}-building-")]
    for path in (*dead, *images[KEPT - 1 :]):
        shutil.rmtree(path)


def _build(suite: str, folder: str) -> None:
    if os.geteuid() != 0:
        raise ImageFailed("Making the lab's image needs root (owners and modes of the guest's files).")
    work = tempfile.mkdtemp(prefix=f"{suite}-building-", dir=cache())
    try:
        root, ready = os.path.join(work, "root"), os.path.join(work, "ready")
        os.makedirs(root)
        os.makedirs(ready)
        _bootstrap(suite, root)
        kernelmodules.build(suite, root)
        _configure(root)
        _pack(root, ready)
        os.rename(ready, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _bootstrap(suite: str, root: str) -> None:
    archive = f"{root}.tar"
    packages = ",".join([*recipe.PACKAGES, *recipe.COMPILER, recipe.KERNEL_SOURCE[suite]])
    # Before any package is unpacked, because the kernel's makes the ramdisk.
    ramdisk = os.path.join(os.path.dirname(root), "ramdisk")
    _write(ramdisk, recipe.RAMDISK)
    copy = f'--setup-hook=cp -a {ramdisk}/. "$1"'
    run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", copy, suite, archive])
    run(["tar", "--extract", "--preserve-permissions", "--numeric-owner", "-f", archive, "-C", root])
    os.unlink(archive)


def _configure(root: str) -> None:
    for name in recipe.FOLDERS:
        os.makedirs(os.path.join(root, name), exist_ok=True)
    _write(root, recipe.FILES)
    _write(root, recipe.PROGRAMS, mode=0o755)
    for name, target in recipe.LINKS.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(target, path)


def _write(root: str, files: Mapping[str, str], *, mode: int = 0o644) -> None:
    for name, text in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)


def _pack(root: str, ready: str) -> None:
    boot = os.path.join(root, "boot")
    for name in os.listdir(boot):
        for prefix, target in (("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")):
            if name.startswith(prefix):
                shutil.copyfile(os.path.join(boot, name), os.path.join(ready, target))
    run(["mke2fs", "-q", "-t", "ext4", "-d", root, os.path.join(ready, "disk.img"), recipe.DISK])
