"""Observations with pools of huge pages, for the tests of this folder: one node of 8 GiB, or two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.daemon.decide.cards import WIN11, WORK, claim, domain, observed

from hostlerd.model.cpus import Cpu, Node, Topology
from hostlerd.model.domains import Cell, Definition
from hostlerd.model.hugepages import Hugepages, PageSize, Pool
from hostlerd.model.ledger import Claim, HugepagesRecord
from hostlerd.model.observed import Observed

MIB, GIB = 2048, 1 << 20
"""KiB of a page."""


def path(node: int = 0, size: int = MIB) -> str:
    return f"/sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages"


def pool(node: int = 0, total: int = 0, free: int | None = None, surplus: int = 0, size: int = MIB) -> Pool:
    free = total if free is None else free
    return Pool(path=path(node, size), node=node, page_kib=size, total=total, free=free, surplus=surplus)


def nodes(count: int = 1) -> Topology:
    """Two CPUs each."""
    every = [(cpu, cpu // 2) for cpu in range(2 * count)]
    return Topology(
        cpus=tuple(
            Cpu(id=cpu, core=cpu, siblings=frozenset({cpu}), socket=0, node=node, l3=None)
            for cpu, node in every
        ),
        nodes=tuple(
            Node(
                id=n,
                cpus=frozenset(cpu for cpu, node in every if node == n),
                memory_kib=8 * GIB,
                distances=tuple(10 if n == other else 20 for other in range(count)),
            )
            for n in range(count)
        ),
    )


def guest(mib: int = 100, uuid: str = WIN11, **more: Any) -> Definition:
    given: dict[str, Any] = {"memory_kib": mib * 1024, "hugepages": True, "page_sizes": (PageSize(),), **more}
    return domain(uuid, **given)


def state(
    *pools: Pool,
    claims: tuple[Claim, ...] = (),
    records: tuple[HugepagesRecord, ...] = (),
    reserved: int = 0,
    taken: dict[str, int] | None = None,
) -> Observed:
    pages = Hugepages(pools=pools, reserved={MIB: reserved}, taken=taken or {})
    found = observed({}, *claims, hugepages=pages)
    count = 1 + max((pool.node for pool in pools), default=0)
    return replace(
        found,
        topology=nodes(count),
        ledger=replace(found.ledger, hugepages={record.key: record for record in records}),
    )


def record(added: int = 0, uuid: str = WIN11, node: int = 0, **more: Any) -> HugepagesRecord:
    return HugepagesRecord(
        uuid=uuid, name="win11", path=path(node), node=node, page_kib=MIB, added=added, **more
    )


__all__ = [
    "GIB",
    "MIB",
    "WIN11",
    "WORK",
    "Cell",
    "claim",
    "guest",
    "nodes",
    "path",
    "pool",
    "record",
    "state",
]
