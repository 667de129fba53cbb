"""What the simulated libvirt keeps of a domain."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Domain:
    """`inactive`: None for a transient domain. `detached`: devices that libvirt itself took from their drivers.
    `memory`: [node, KiB] of its guest's. `pages`: [node, KiB of a page, how many] huge ones that its QEMU has.
    """

    name: str
    uuid: str
    inactive: str | None
    live: str | None = None
    state: str = "shut off"
    number: int = -1
    unit: str = ""
    autostart: bool = False
    detached: list[str] = field(default_factory=list[str])
    memory: list[list[int]] = field(default_factory=list[list[int]])
    pages: list[list[int]] = field(default_factory=list[list[int]])

    @property
    def pid(self) -> int:
        """Of its QEMU."""
        return 4000 + self.number

    @property
    def text(self) -> str:
        """The XML in force."""
        return self.live or self.inactive or ""
