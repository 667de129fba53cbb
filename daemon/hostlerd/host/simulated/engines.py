"""Docker and Podman as far as holders go: containers with names, which stop, and open their devices again on start.

A started container's process opens the nodes that it had and that are there now; a missing one fails the start, as an
engine refuses `--device` of a node that is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import trio

from hostler.errors import HostFailed
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.model.holders import Container

SCOPES = {"docker": "docker-{id}.scope", "podman": "libpod-{id}.scope"}


@dataclass(slots=True, kw_only=True)
class Known:
    """One container, running or not: what its process is and has open."""

    name: str
    engine: str
    pid: int
    command: str
    uid: int
    paths: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class SimulatedEngines:
    """Implements `hostlerd.host.Engines`. `known`: by id. `away`: no engine answers."""

    kernel: Kernel
    known: dict[str, Known] = field(default_factory=dict[str, Known])
    away: bool = False

    async def names(self, containers: Iterable[Container]) -> Mapping[Container, str]:
        await trio.lowlevel.checkpoint()
        if self.away:
            return {}
        return {c: self.known[c.id].name for c in containers if c.id in self.known}

    async def stop(self, container: Container, *, seconds: float) -> None:  # noqa: ARG002 - it ends when it is asked to
        known = await self._known(container)
        self.kernel.begin()
        for pid in self.kernel.processes.within(scope(known.engine, container.id)):
            self.kernel.let_go(pid)
        self.kernel.done(f"stop {container.engine} container", known.name)

    async def start(self, container: Container) -> None:
        known = await self._known(container)
        self.kernel.begin()
        missing = [path for path in known.paths if not self.kernel.tree.exists(path)]
        if missing:
            raise HostFailed(
                f"{known.engine} does not start {known.name}: no such device {missing[0]}",
                data={"object": container.id},
            )
        if not self.kernel.processes.within(scope(known.engine, container.id)):
            known.pid += 1000
            self._run(container.id, known)
        self.kernel.done(f"start {container.engine} container", known.name)

    # --- driven from outside

    def make(self, known: Known) -> str:
        """A container that runs from now on; its id."""
        id_ = hashlib.sha256(f"{known.engine}/{known.name}".encode()).hexdigest()
        self.known[id_] = known
        self._run(id_, known)
        return id_

    def dump(self) -> dict[str, Any]:
        return {"away": self.away, "known": {id_: asdict(known) for id_, known in self.known.items()}}

    def load(self, dumped: dict[str, Any]) -> None:
        self.away = dumped["away"]
        self.known = {id_: Known(**known) for id_, known in dumped["known"].items()}

    async def _known(self, container: Container) -> Known:
        """Raises HostFailed, in the engine's words."""
        await trio.lowlevel.checkpoint()
        known = None if self.away else self.known.get(container.id)
        if known is None:
            raise HostFailed(f"No such container: {container.id}", data={"object": container.id})
        for obj in (known.name, container.id):
            words = self.kernel.faults.get("engine-refuses", obj)
            if words is not None:
                raise HostFailed(words or "the engine refuses", data={"object": container.id})
        return known

    def _run(self, id_: str, known: Known) -> None:
        self.kernel.run_process(
            pid=known.pid,
            command=known.command,
            uid=known.uid,
            cgroup=f"/system.slice/{scope(known.engine, id_)}",
            paths=known.paths,
        )


def scope(engine: str, id_: str) -> str:
    return SCOPES.get(engine, engine + "-{id}.scope").format(id=id_)
