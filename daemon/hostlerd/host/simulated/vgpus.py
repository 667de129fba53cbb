"""NVIDIA's vGPUs on virtual functions: a folder `nvidia` in each VF that the driver has, and what may be written there.

The driver is not public. Known from NVIDIA's own tools (vgpu-device-manager, kubevirt-gpu-device-plugin): the number of
a type is written to current_vgpu_type, 0 takes the vGPU away, and creatable_vgpu_types has `NUMBER : NAME` a line for
what a VF could be given now. A VF that has a vGPU could be given none; by default all of a card are of one size. With
what number a write is refused is not documented: EIO here. `vfio-dev` is there while there is a vGPU.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

from hostlerd.host.simulated import nodes
from hostlerd.host.simulated.drivers import Nodes
from hostlerd.host.simulated.functions import FunctionSpec
from hostlerd.host.simulated.pci import Pci, fail
from hostlerd.host.simulated.tree import Tree

DRIVER = "nvidia"


@dataclass(slots=True)
class Vgpus:
    """`types`: of a VF, what its card offers."""

    tree: Tree
    pci: Pci
    current: dict[str, int] = field(default_factory=dict[str, int])

    def bound(self, address: str) -> None:
        """The driver took a VF."""
        device = self.pci.devices[address]
        if device.driver == DRIVER and self._offers(device.spec):
            self.current[address] = 0
            self._show()

    def let_go(self, address: str) -> None:
        if self.current.pop(address, None) is not None:
            self.tree.discard(f"{self.pci.devices[address].folder}/nvidia")
            self._show()

    def write(self, address: str, text: str) -> None:
        device = self.pci.devices[address]
        path = f"{device.folder}/nvidia/current_vgpu_type"
        if not text.strip().isdecimal():
            raise fail(errno.EINVAL, path)
        number, now = int(text), self.current[address]
        if number == now:
            return
        if number and (now or number not in [kind[0] for kind in self._creatable(address)]):
            raise fail(errno.EIO, path)
        if device.spec.group in self.pci.owners:
            raise fail(errno.EBUSY, path)
        self.current[address] = number
        if number:
            nodes.make(self.tree, Nodes.VFIO, device.spec, device.folder)
        else:
            nodes.take_away(self.tree, Nodes.VFIO, device.spec, device.folder, last_of_group=True)
        self._show()

    def _offers(self, spec: FunctionSpec) -> tuple[tuple[int, str, int], ...]:
        return self.pci.devices[spec.physfn].spec.vgpu_types if spec.physfn in self.pci.devices else ()

    def _creatable(self, address: str) -> list[tuple[int, str, int]]:
        spec = self.pci.devices[address].spec
        if self.current[address] or spec.physfn is None:
            return []
        offers = self._offers(spec)
        takes = {number: size for number, _, size in offers}
        given = [
            takes[number]
            for vf, number in self.current.items()
            if number and self.pci.devices[vf].spec.physfn == spec.physfn
        ]
        left = self.pci.devices[spec.physfn].spec.vgpu_memory - sum(given)
        return [row for row in offers if row[2] <= left and all(size == row[2] for size in given)]

    def _show(self) -> None:
        for address, number in self.current.items():
            folder = f"{self.pci.devices[address].folder}/nvidia"
            self.tree.put(f"{folder}/current_vgpu_type", f"{number}\n")
            rows = [f"{id_:<5} : {name}\n" for id_, name, _ in self._creatable(address)]
            self.tree.put(
                f"{folder}/creatable_vgpu_types", "".join(["ID    : vGPU Name\n", *rows]) if rows else ""
            )

    # --- to and from JSON

    def dump(self) -> dict[str, Any]:
        return dict(self.current)

    def load(self, dumped: dict[str, Any]) -> None:
        self.current = dict(dumped)
