"""The nodes that a look at the processes is for, by number and by path, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from hostlerd.host import DeviceNumber, Files
from hostlerd.model.devices import Function
from hostlerd.observe import nodes
from hostlerd.observe.nodes import Node

_NEVER = 1 << 20
"""A minor that no device has (MINORBITS)."""


class Wanted:
    """`numbers`: a device to its path here and its functions. `vfio`: functions that, or whose slices, are on VFIO."""

    def __init__(self, files: Files, functions: Iterable[Function]) -> None:
        self.numbers: dict[DeviceNumber, tuple[str, set[str]]] = {}
        self.paths: dict[str, set[str]] = {}
        self.vfio: set[str] = set()
        self._alongside: dict[str, set[str]] = {}
        self._nvidia: set[str] = set()
        of: dict[str, set[str]] = {"vfio": self.vfio, "amdgpu": set(), "nvidia": self._nvidia}
        for function in functions:
            if function.on_vfio:
                self.vfio.add(function.address)
            if function.driver in ("amdgpu", "nvidia"):
                of[function.driver].add(function.address)
            for node in nodes.nodes(files, function):
                self._add(node, function.address)
                if node.path.startswith("/dev/vfio/"):  # a mediated device's is its parent's
                    self.vfio.add(function.address)
        self._majors = nodes.nvidia_majors(files) if self._nvidia else {}
        for node in nodes.nvidia_nodes(files) if self._nvidia else ():
            for address in self._nvidia:
                self._add(node, address)
        for node, whose in nodes.alongside(files).items() if self else ():
            if of[whose]:
                self._alongside[node.path] = of[whose]
                if node.number is not None:
                    self.numbers.setdefault(node.number, (node.path, set()))

    def __bool__(self) -> bool:
        return bool(self.paths)

    def _add(self, node: Node, address: str) -> None:
        self.paths.setdefault(node.path, set()).add(address)
        if node.number is not None:
            self.numbers.setdefault(node.number, (node.path, set()))[1].add(address)

    def match(self, path: str, number: DeviceNumber | None) -> tuple[str, AbstractSet[str]] | None:
        """The node's name here, and the functions it is one of; none of them for a node that is only alongside."""
        if number is not None:
            found = self.numbers.get(number)
            if found is None and number[0] == "c" and number[2] >= self._majors.get(number[1], _NEVER):
                return path, self._nvidia
            return found
        if path in self._alongside:
            return path, frozenset()
        if path in self.paths:
            return path, self.paths[path]
        if path.startswith("/dev/bus/usb/"):
            found_in = self.paths.get(path[: path.rindex("/") + 1])
            return (path, found_in) if found_in else None
        return None

    def alongside(self, node: str) -> AbstractSet[str]:
        """The functions with which a node that is no device's in particular is told."""
        return self._alongside.get(node, frozenset())
