"""The boot framebuffer: the screen that the firmware set up, driven by a platform driver from a card's memory.

drivers/firmware/sysfb.c makes the platform device, efifb.c and its kin drive it (their region in /proc/iomem is inside
the card's); a DRM driver that takes the card removes it for good (drivers/video/aperture.c, sysfb_disable). Seen in the
lab on Linux 6.1 and 6.12.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import Any

from hostlerd.host.simulated import nodes
from hostlerd.host.simulated.tree import Tree

PLATFORM = "/sys/bus/platform"
CHILD_OF_THE_CARD = (6, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenSpec:
    """`region`: what /proc/iomem calls it. `device`: the platform device's name."""

    card: str
    device: str = "efi-framebuffer.0"
    driver: str = "efi-framebuffer"
    region: str = "efifb"


@dataclass(slots=True)
class Screen:
    """`folder`: of the platform device, empty where there is none. `memory`: of the card, and what efifb has of it."""

    tree: Tree
    spec: ScreenSpec | None = None
    folder: str = ""
    memory: tuple[str, str] = ("", "")
    bound: bool = False
    messages: list[str] = field(default_factory=list[str])

    def boot(
        self, spec: ScreenSpec, card_folder: str, memory: tuple[str, str], release: tuple[int, int]
    ) -> None:
        self.spec, self.memory = spec, memory
        above = card_folder if release >= CHILD_OF_THE_CARD else "/sys/devices/platform"
        self.folder = f"{above}/{spec.device}"
        for name in ("bind", "unbind"):
            self.tree.put(f"{PLATFORM}/drivers/{spec.driver}/{name}", None)
        self.tree.put(f"{self.folder}/uevent", "")
        self.tree.link(f"{PLATFORM}/devices/{spec.device}", self.folder)
        self.bind(spec.driver, spec.device)

    def bind(self, driver: str, device: str) -> None:
        """bind_store: ENODEV where there is no such device or the driver is another's."""
        spec = self._spec(driver, device, "bind")
        if self.bound:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), device)
        self.bound = True
        self.tree.link(f"{self.folder}/driver", f"{PLATFORM}/drivers/{spec.driver}")
        self.tree.link(f"{PLATFORM}/drivers/{spec.driver}/{device}", self.folder)
        nodes.make_framebuffer(self.tree, self.folder, "EFI VGA")
        self._show_memory()

    def unbind(self, driver: str, device: str) -> None:
        spec = self._spec(driver, device, "unbind")
        if not self.bound:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), device)
        self.bound = False
        self.tree.discard(f"{PLATFORM}/drivers/{spec.driver}/{device}")
        self.tree.discard(f"{self.folder}/driver")
        nodes.take_away_framebuffer(self.tree, self.folder)
        self._show_memory()

    def remove(self, card: str) -> None:
        """sysfb_disable: a driver of the card itself takes the screen."""
        if self.spec is None or self.spec.card != card or not self.folder:
            return
        if self.bound:
            self.unbind(self.spec.driver, self.spec.device)
        self.tree.discard(f"{PLATFORM}/devices/{self.spec.device}")
        self.tree.discard(self.folder)
        self.folder = ""

    def keeps(self, card: str) -> bool:
        """Whether it has a part of the card's memory, which nobody else can reserve then."""
        return self.bound and self.spec is not None and self.spec.card == card

    def opened_by_vfio(self, card: str) -> None:
        """vfio_pci_core_mmap, pci_request_selected_regions: the card works, without its memory."""
        if self.keeps(card):
            self.messages.append(f"vfio-pci {card}: BAR 0: can't reserve [mem {self.memory[0]} pref]")

    def _spec(self, driver: str, device: str, verb: str) -> ScreenSpec:
        spec = self.spec
        if spec is None or not self.folder or (spec.driver, spec.device) != (driver, device):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), f"{PLATFORM}/drivers/{driver}/{verb}")
        return spec

    def _show_memory(self) -> None:
        if self.spec is None:
            return
        outer, inner = self.memory
        own = f"    {inner} : {self.spec.region}\n" if self.bound else ""
        self.tree.put(
            "/proc/iomem",
            "00001000-0009fbff : System RAM\n"
            "c0000000-febfffff : PCI Bus 0000:00\n"
            f"  {outer} : {self.spec.card}\n{own}",
        )

    def dump(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "memory": list(self.memory),
            "bound": self.bound,
            "messages": self.messages,
        }

    def load(self, dumped: dict[str, Any], spec: ScreenSpec | None) -> None:
        self.spec = spec
        self.folder, self.bound, self.messages = dumped["folder"], dumped["bound"], list(dumped["messages"])
        self.memory = (dumped["memory"][0], dumped["memory"][1])
