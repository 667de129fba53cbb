"""Partitions of CPUs: control groups whose CPUs nobody else has (Documentation/admin-guide/cgroup-v2.rst, cpuset).

`root` balances load among its CPUs, `isolated` does not. A write that the kernel cannot grant succeeds; the file then
says why, as in ``isolated invalid (Cpu list in cpuset.cpus not exclusive)``, and may come to say so later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostlerd.model.cpuset import CpuSet

KIND = "cpuset.cpus.partition"
EXCLUSIVE = "cpuset.cpus.exclusive"
MEMBER = "member"

_INVALID = " invalid"


def asked(text: str) -> str:
    """What was written last, whether or not it could be had. Of any other text, the text itself."""
    return text.partition(_INVALID)[0]


def is_invalid(text: str) -> bool:
    return _INVALID in text


def reason(text: str) -> str:
    """The kernel's words for why it is invalid; empty where it is not."""
    return text.partition(_INVALID)[2].strip().removeprefix("(").removesuffix(")")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One that is wanted. `path`: its control group; `above`: those that hand the CPUs down to it, the highest first.

    `names`: of the domains in it.
    """

    path: str
    kind: Literal["root", "isolated"]
    cpus: CpuSet
    names: tuple[str, ...]
    above: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return f"{self.path}/{KIND}"

    @property
    def unit(self) -> str:
        return self.path.rpartition("/")[2]
