"""The kernel's command line, as the kernel itself takes it apart.

lib/cmdline.c, next_arg: words are split at blanks, double quotes keep them together. kernel/params.c, parameq: in
names a dash is an underscore. What comes after a lone `--` is init's
(Documentation/admin-guide/kernel-parameters.rst).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hostlerd.model.cpuset import CpuSet, parse_cpu_list

_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
BY_THE_LOADER = ("BOOT_IMAGE", "initrd")
"""What GRUB and systemd-boot put in front themselves; nobody writes it into a configuration."""
ISOLCPUS = frozenset({"domain", "managed_irq", "nohz"})
"""Flags of isolcpus=."""
_FLAG = re.compile(r"[A-Za-z_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    text: str

    @property
    def words(self) -> tuple[str, ...]:
        """Those for the kernel, as they stand there."""
        found = _WORD.findall(self.text)
        return tuple(found[: found.index("--")] if "--" in found else found)

    @property
    def settings(self) -> tuple[str, ...]:
        """The words but for those that the boot loader adds."""
        return tuple(word for word in self.words if name_of(word) not in BY_THE_LOADER)

    def values(self, name: str) -> tuple[str, ...]:
        """Of every occurrence, in order; a word without a value has an empty one."""
        same = (word for word in self.words if _same(name_of(word), name))
        return tuple(word.replace('"', "").partition("=")[2] for word in same)

    def value(self, name: str) -> str | None:
        """The last one, which is as a rule the one that counts; None where the word is not there."""
        values = self.values(name)
        return values[-1] if values else None

    def has(self, name: str, part: str) -> bool:
        """Is `part` one of the comma-separated parts of a value of it?"""
        return any(part in value.split(",") for value in self.values(name))

    def written(self, name: str) -> tuple[str, ...]:
        """The words of that name as they stand there."""
        return tuple(word for word in self.words if _same(name_of(word), name))


def name_of(word: str) -> str:
    return word.replace('"', "").partition("=")[0]


def _same(a: str, b: str) -> bool:
    return a.replace("-", "_") == b.replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolcpus:
    """`isolcpus=[flag-list,]CPUs`; without flags that it knows the kernel takes it for domain
    (kernel/sched/isolation.c, housekeeping_isolcpus_setup). `cpus` is None where it makes no sense of the word, and
    overlooks it.
    """

    flags: frozenset[str]
    cpus: CpuSet | None


def parse_isolcpus(value: str) -> Isolcpus:
    parts, flags = value.split(","), set[str]()
    while parts and parts[0][:1].isalpha():
        flags.add(parts.pop(0))
    known = frozenset(flags & ISOLCPUS) or frozenset({"domain"})
    legal = all(_FLAG.fullmatch(flag) for flag in flags)
    return Isolcpus(flags=known, cpus=parse_cpus(",".join(parts)) if legal else None)


def parse_cpus(value: str, *, possible: CpuSet = frozenset()) -> CpuSet | None:
    """A CPU list of the command line: also `all`, and `N` for the last CPU. None where it makes no sense."""
    last = str(max(possible, default=0))
    if value == "all":
        return possible
    try:
        return parse_cpu_list(re.sub(r"\bN\b", last, value)) or None
    except ValueError:
        return None
