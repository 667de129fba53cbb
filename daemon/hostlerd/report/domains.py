"""`hostler domains`: what a domain's definition says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hostlerd.model.cpuset import CpuSet
from hostlerd.model.devices import Function
from hostlerd.model.domains import Definition, Gpu, Hostdev, Running
from hostlerd.model.edits import PINS, Edits, in_force
from hostlerd.model.guest_memory import Placed
from hostlerd.model.slices import Slices
from hostlerd.report.slices import slices_of_domain

Json = dict[str, Any]
NO_SLICES = Slices()
NO_FUNCTIONS: Mapping[str, Function] = {}


def domain_json(
    definition: Definition,
    *,
    state: str | None = None,
    file: str | None = None,
    slices: Slices = NO_SLICES,
    functions: Mapping[str, Function] = NO_FUNCTIONS,
) -> Json:
    """With the `file` it was read from, or the `state` libvirt says it is in.

    `slices`, `functions`: the host's, for what the domain's slices are; without them its metadata has to do.
    """
    cut = slices_of_domain(definition, slices, functions)
    whole = [a for a in definition.pci_addresses if a not in {one["address"] for one in cut}]
    gpu = Gpu.SLICE if definition.gpu is Gpu.PASSTHROUGH and cut and not whole else definition.gpu
    place: Json = {"state": state} if file is None else {"file": file}
    topology = definition.topology
    return {
        **place,
        "name": definition.name,
        "uuid": definition.uuid or None,
        "type": definition.type,
        "vcpus": {"current": definition.vcpus, "maximum": definition.max_vcpus},
        "topology": None
        if topology is None
        else {
            "sockets": topology.sockets,
            "dies": topology.dies,
            "cores": topology.cores,
            "threads": topology.threads,
        },
        "vcpu_pins": _pins(definition.vcpu_pins),
        "emulator_pins": None if definition.emulator_pins is None else sorted(definition.emulator_pins),
        "iothreads": definition.iothreads,
        "iothread_pins": _pins(definition.iothread_pins),
        "hostdevs": [_hostdev(device) for device in definition.hostdevs],
        "numa_cells": [
            {"cpus": sorted(cell.cpus), "memory_kib": cell.memory_kib} for cell in definition.cells
        ],
        "hugepages": definition.hugepages,
        "gpu": gpu.value,
        "slices": cut,
        "notes": list(_notes(definition)),
    }


def running_json(
    running: Running,
    source: Definition,
    *,
    slices: Slices = NO_SLICES,
    functions: Mapping[str, Function] = NO_FUNCTIONS,
) -> Json:
    """A domain that runs: as it is, but with the pins that `source`, its own definition, asks for.

    The pins in force, ours among them, are in `live_pins`.
    """
    live = running.live
    asked = domain_json(source)
    return {
        **domain_json(live, state=running.state, slices=slices, functions=functions),
        **{key: asked[key] for key in ("vcpu_pins", "emulator_pins", "iothread_pins")},
        "live_pins": {
            "vcpus": _pins(live.vcpu_pins),
            "emulator": None if live.emulator_pins is None else sorted(live.emulator_pins),
            "iothreads": _pins(live.iothread_pins),
        },
    }


def edit_json(edits: Edits, uuid: str | None) -> Json | None:
    """The newest edit of hostler's of how a domain's definition gives it its GPU; `by`: "user" or "fallback", which
    policy made."""
    edit = in_force(edits, uuid or "")
    if edit is None:
        return None
    return {
        "kind": edit.kind,
        "by": edit.by,
        "before": edit.before,
        "after": edit.after,
        "waits_for": list(edit.lacks),
        "since": edit.since,
    }


def pins_edit_json(edits: Edits, uuid: str | None) -> Json | None:
    """What hostler wrote into a domain's definition of where it begins; `by`: "user", or "policy" (write_config)."""
    edit = in_force(edits, uuid or "", PINS)
    if edit is None:
        return None
    pins = edit.pins
    return {
        "by": edit.by,
        "text": str(pins),
        "vcpus": {str(vcpu): cpus for vcpu, cpus in pins.vcpus},
        "emulator": pins.emulator or None,
        "memory": pins.memory or None,
        "cells": {str(cell): nodes for cell, nodes in pins.cells},
        "mode": pins.mode if pins.memory or pins.cells else None,
        "since": edit.since,
    }


def memory_json(known: Mapping[str, Placed], uuid: str | None) -> list[Json] | None:
    """KiB by node of a domain that runs; None where it is not known, or the host has one node."""
    placed = known.get(uuid or "")
    return (
        [{"node": node, "kib": kib} for node, kib in placed.kib]
        if placed is not None and placed.kib
        else None
    )


def _notes(definition: Definition) -> Iterator[str]:
    """What works, and could be better."""
    managed = [h.address for h in definition.hostdevs if h.kind == "pci" and h.managed and h.address]
    if managed:
        yield (
            f"managed='yes': libvirt rebinds {', '.join(managed)}, too, since 10.0 to the VFIO driver that it thinks "
            "best; managed='no' leaves that to hostler alone"
        )
    yield from definition.problems


def _pins(pins: Mapping[int, CpuSet]) -> dict[str, list[int]]:
    return {str(thread): sorted(cpus) for thread, cpus in pins.items()}


def _hostdev(device: Hostdev) -> Json:
    if device.kind == "pci" and device.address is not None:
        return {"kind": "pci", "address": device.address, "managed": device.managed}
    if device.kind == "mdev":
        return {"kind": "mdev", "uuid": device.uuid}
    return {"kind": device.kind, "source": device.source}
