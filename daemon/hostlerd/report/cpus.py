"""`hostler cpus`: counts and sets are over on-line CPUs, an off-line one is listed with nulls."""

from __future__ import annotations

from typing import Any

from hostlerd.model.cpus import Cpu, Topology


def cpus_json(topology: Topology) -> dict[str, Any]:
    listed = [
        *(_online(cpu) for cpu in topology.cpus),
        *(_offline(cpu) for cpu in topology.offline),
    ]
    return {
        "online": sorted(topology.online),
        "sockets": len({cpu.socket for cpu in topology.cpus}),
        "cores": len(topology.cores),
        "cpus": sorted(listed, key=lambda cpu: cpu["id"]),
        "l3": [{"id": cache.id, "cpus": sorted(cache.cpus), "kib": cache.kib} for cache in topology.l3],
        "nodes": [
            {
                "id": node.id,
                "cpus": sorted(node.cpus),
                "memory_kib": node.memory_kib,
                "distances": list(node.distances),
            }
            for node in topology.nodes
        ],
        "isolated": sorted(topology.isolated),
        "nohz_full": sorted(topology.nohz_full),
    }


def _online(cpu: Cpu) -> dict[str, Any]:
    mhz = cpu.max_mhz
    return {
        "id": cpu.id,
        "core": cpu.core,
        "siblings": sorted(cpu.siblings),
        "socket": cpu.socket,
        "node": cpu.node,
        "l3": cpu.l3,
        "class": cpu.core_class.value,
        "max_mhz": int(mhz) if mhz is not None and mhz == int(mhz) else mhz,
        "online": True,
    }


def _offline(cpu: int) -> dict[str, Any]:
    nulls = dict.fromkeys(("core", "siblings", "socket", "node", "l3", "class", "max_mhz"))
    return {"id": cpu, **nulls, "online": False}
