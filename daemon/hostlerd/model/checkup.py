"""What doctor looks at beside what the daemon observes anyway.

Rules: None is "it could not be read", never "no". Nothing here is a judgement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hostlerd.model.command_line import CommandLine
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.holders import BootFramebuffer
from hostlerd.model.observed import Observed

Vendor = Literal["intel", "amd", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """`release`: as uname has it, empty if not known. `config`: CONFIG_ options of this kernel, None if not found.

    `marks`: files that tell the boot loader, of those that exist. `loader_info`: what the loader calls itself in EFI.
    """

    release: str = ""
    command_line: CommandLine | None = None
    config: Mapping[str, str] | None = None
    marks: frozenset[str] = frozenset()
    loader_info: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """`virtual`: whether it has VMX or SVM switched on. `kvm`: whether /dev/kvm is there."""

    vendor: Vendor | None = None
    virtual: bool | None = None
    kvm: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Iommu:
    """`groups`: how many. `units`: of the kernel's (dmar0, ivhd0). `tables`: of the firmware's, by name (DMAR, IVRS).

    `remaps`: interrupts are remapped. `unsafe`: VFIO was told to do without.
    """

    groups: int | None = None
    units: frozenset[str] | None = None
    tables: frozenset[str] | None = None
    remaps: bool | None = None
    unsafe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """`folder`: whether there is one for the running kernel. `vfio_pci`: loaded, built in or loadable.

    `options`: lines of modprobe.d and of udev's rules that are about VFIO or keep a display driver away, with their
    files.
    """

    folder: bool | None = None
    vfio_pci: Literal["loaded", "loadable", "absent"] | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFile:
    """A script that libvirt runs. `does`: which of our things it does too, in words; None where it cannot be read."""

    path: str
    does: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """`programs`: names of processes, of those that matter. `hooks`: libvirt's, but ours. `driverctl`: addresses."""

    programs: frozenset[str] | None = None
    hooks: tuple[HookFile, ...] | None = None
    driverctl: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """`hook`: our script in libvirt's folder. `answers`: the daemon does. `libvirt`: as virConnectGetLibVersion has it.

    `policy`: what is wrong with the policy's files. `socket`: the daemon's is there.
    """

    hook: Literal["there", "absent", "not executable"] | None = None
    runtime: bool | None = None
    socket: bool | None = None
    answers: bool = False
    libvirt: int | None = None
    daemons: frozenset[str] = frozenset()
    sockets: frozenset[str] = frozenset()
    policy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Huge pages of one size."""

    kib: int
    total: int
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """`governors`: of cpufreq, to CPUs. `driver`: of cpufreq. `smt`: what smt/control says. `huge`: THP's choice."""

    governors: Mapping[str, CpuSet] = field(default_factory=dict)
    driver: str = ""
    smt: str | None = None
    huge: str | None = None
    memory_kib: int = 0
    pages: tuple[Pages, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """`live`: this very host, not a recording. `unread`: files that are there and may not be read.

    `controllers`: of cgroup v2 at the top, None where there is no such file. `mounted`: there are control groups.
    `described`: processors are. `isolation_told`: also which of them are isolated. `domains`: whether the definitions
    in `observed.snapshot` are all there are. `names`: of functions, for people. `screens`: boot framebuffers by the
    function they are on.
    """

    observed: Observed
    live: bool = False
    described: bool = True
    isolation_told: bool = True
    domains: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    controllers: frozenset[str] | None = None
    mounted: bool = False
    screens: Mapping[str, BootFramebuffer] = field(default_factory=dict)
    boot: Boot = field(default_factory=Boot)
    processor: Processor = field(default_factory=Processor)
    iommu: Iommu = field(default_factory=Iommu)
    modules: Modules = field(default_factory=Modules)
    rivals: Rivals = field(default_factory=Rivals)
    installation: Installation = field(default_factory=Installation)
    tuning: Tuning = field(default_factory=Tuning)
    unread: tuple[str, ...] = ()
