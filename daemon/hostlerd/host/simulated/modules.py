"""Modules: what uses what, how often each is in use, and what modprobe -r makes of that.

kernel/module/main.c: a module that uses another's symbols has a reference to it and is in its `holders`
(ref_module, module_refcount); delete_module refuses with EWOULDBLOCK while there is any reference. tools/modprobe.c
(rmmod_all): of several names each is tried in turn, and what a removed one alone had used goes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hostlerd.host.simulated import nodes
from hostlerd.host.simulated.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A module that is no PCI driver's. `uses`: the one it needs, with which it is loaded (softdep). `nodes`: those it
    makes in /dev, with major and minor.
    """

    name: str
    uses: str
    nodes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


NVIDIA = (
    Extra(name="nvidia_modeset", uses="nvidia", nodes={"/dev/nvidia-modeset": (195, 254)}),
    Extra(name="nvidia_drm", uses="nvidia_modeset"),
    Extra(
        name="nvidia_uvm",
        uses="nvidia",
        nodes={"/dev/nvidia-uvm": (510, 0), "/dev/nvidia-uvm-tools": (510, 1)},
    ),
)
EXTRA = {extra.name: extra for extra in NVIDIA}
NVIDIA_CONTROL = "/dev/nvidiactl"
_OWN_NODES = {"nvidia": {NVIDIA_CONTROL: (195, 255)}}

Count = Callable[[Iterable[str]], int]
"""How many of these paths processes have open."""


@dataclass(slots=True)
class Modules:
    """`clients`: references that no process explains, by module; of a kernel client."""

    tree: Tree
    opened: Count = lambda _: 0
    clients: Callable[[str], int] = lambda _: 0

    def load(self, name: str) -> None:
        """With what comes along by softdep; nothing for one that is there."""
        folder = f"/sys/module/{name}"
        if not self.tree.exists(f"{folder}/initstate"):
            self.tree.put(f"{folder}/initstate", "live\n")
            self.tree.put(f"{folder}/refcnt", "0\n")
            self.tree.folder(f"{folder}/holders")
        for path, (major, minor) in self._nodes(name).items():
            nodes.make_module_node(self.tree, path, major, minor)
        extra = EXTRA.get(name)
        if extra is not None:
            self.tree.link(f"/sys/module/{extra.uses}/holders/{name}", folder)

    def unload(self, name: str) -> None:
        for path in self._nodes(name):
            nodes.discard_module_node(self.tree, path)
        extra = EXTRA.get(name)
        if extra is not None:
            self.tree.discard(f"/sys/module/{extra.uses}/holders/{name}")
        self.tree.discard(f"/sys/module/{name}")

    def loaded(self, name: str) -> bool:
        return self.tree.exists(f"/sys/module/{name}/initstate")

    def users(self, name: str) -> list[str]:
        folder = f"/sys/module/{name}/holders"
        return self.tree.listdir(folder) if self.tree.is_folder(folder) else []

    def references(self, name: str) -> int:
        """Beside those that the caller knows of devices that are open."""
        return len(self.users(name)) + self.opened(self._nodes(name)) + self.clients(name)

    def _nodes(self, name: str) -> Mapping[str, tuple[int, int]]:
        extra = EXTRA.get(name)
        return extra.nodes if extra is not None else _OWN_NODES.get(name, {})
