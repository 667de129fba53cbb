"""What every observer does with kernel text: a file that is missing or makes no sense is None."""

from __future__ import annotations

from hostlerd.host import Files
from hostlerd.model.cpuset import CpuSet, parse_cpu_list, parse_cpu_mask

BLANK = " \t\r\n\0"
"""Some attributes of kernels before 6.1 end in a NUL."""


def text(files: Files, path: str) -> str | None:
    try:
        return files.read(path).strip(BLANK)
    except OSError:
        return None


def names(files: Files, path: str) -> list[str]:
    """What is in a folder, in no order; empty if there is none."""
    try:
        return files.listdir(path)
    except OSError:
        return []


def link_name(files: Files, path: str) -> str | None:
    """The last part of a link's target, which is how sysfs points at drivers and groups."""
    try:
        return files.readlink(path).rstrip("/").rpartition("/")[2]
    except OSError:
        return None


def number(files: Files, path: str, base: int = 10) -> int | None:
    """A number; with base 0 the text says which (0x1af4)."""
    return to_number(text(files, path), base)


def to_number(word: str | None, base: int = 10) -> int | None:
    try:
        return int(word, base) if word else None
    except ValueError:
        return None


def cpu_list(files: Files, path: str) -> CpuSet | None:
    """The set in a list file; "(null)", which some kernels print for none, is None too."""
    word = text(files, path)
    try:
        return None if word is None else parse_cpu_list(word)
    except ValueError:
        return None


def cpu_set(files: Files, path: str, *, list_name: str) -> CpuSet | None:
    """The set in the mask file `path`, or else in the list file beside it, called `list_name`."""
    word = text(files, path)
    try:
        if word:
            return parse_cpu_mask(word)
    except ValueError:
        pass
    return cpu_list(files, f"{path.rpartition('/')[0]}/{list_name}")
