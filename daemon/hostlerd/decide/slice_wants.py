"""The slices that a pass is to make, and for whom."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedVfs:
    address: str
    count: int
    why: str
    claim: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedMdev:
    uuid: str
    parent: str
    type: str
    why: str
    claim: str
    attrs: tuple[tuple[str, str], ...] = ()
    persistent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedVgpu:
    address: str
    number: int
    name: str
    why: str
    claim: str
    persistent: bool = False


@dataclass(slots=True, kw_only=True)
class SliceWants:
    """What is to be made: VFs by PF, mediated devices by UUID, vGPUs by VF. What is there and held needs no wish."""

    vfs: dict[str, WantedVfs] = field(default_factory=dict[str, WantedVfs])
    mdevs: dict[str, WantedMdev] = field(default_factory=dict[str, WantedMdev])
    vgpus: dict[str, WantedVgpu] = field(default_factory=dict[str, WantedVgpu])

    def add(self, more: SliceWants) -> None:
        self.vfs |= more.vfs
        self.mdevs |= more.mdevs
        self.vgpus |= more.vgpus
