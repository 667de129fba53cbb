"""libvirt and the journal as they are after a plan's pins, for tests of decisions that follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hostlerd.decide import decide
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition, Running
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Pin, Plan
from hostlerd.model.settings import Settings


def run(definition: Definition, live: Definition | None = None, **more: Any) -> Running:
    return Running(live=live or definition, definition=definition, **more)


def pins(plan: Plan) -> dict[str, str | None]:
    return {s.object: s.after for s in plan.steps if isinstance(s, Pin)}


def whys(plan: Plan) -> dict[str, str]:
    return {s.object: s.why for s in plan.steps if isinstance(s, Pin)}


def repinned(live: Definition, thread: str, index: int, cpus: CpuSet) -> Definition:
    match thread:
        case "vcpu":
            return replace(live, vcpu_pins={**live.vcpu_pins, index: cpus})
        case "emulator":
            return replace(live, emulator_pins=cpus)
        case _:
            return replace(live, iothread_pins={**live.iothread_pins, index: cpus})


def performed(state: Observed, plan: Plan) -> Observed:
    """libvirt after the plan's pins, with the records journalled."""
    running, records = {d.uuid: d for d in state.snapshot.running}, dict(state.ledger.pins)
    records |= {record.uuid: record for record in plan.confirmed}
    for step in plan.steps:
        if not isinstance(step, Pin):
            continue
        live = repinned(running[step.uuid].live, step.thread, step.index, step.cpus)
        running[step.uuid] = replace(running[step.uuid], live=live)
        if step.record is not None:
            records[step.uuid] = step.record
    return replace(
        state,
        snapshot=replace(state.snapshot, running=tuple(running.values())),
        ledger=replace(state.ledger, pins=records),
    )


def settled(state: Observed, settings: Settings) -> Observed:
    """After as many passes as it takes. Raises AssertionError where that is no end."""
    for _ in range(6):
        plan = decide(state, settings)
        if not pins(plan) and not plan.confirmed:
            return state
        state = performed(state, plan)
    raise AssertionError("it does not converge")


def by_hand(state: Observed, name: str, thread: str, index: int, cpus: set[int]) -> Observed:
    """`virsh vcpupin NAME N LIST --live` and kin."""
    return changed(state, name, lambda live: repinned(live, thread, index, frozenset(cpus)))


def changed(state: Observed, name: str, edit: Any) -> Observed:
    running = tuple(replace(d, live=edit(d.live)) if d.name == name else d for d in state.snapshot.running)
    return replace(state, snapshot=replace(state.snapshot, running=running))


def with_running(state: Observed, *running: Running) -> Observed:
    return replace(state, snapshot=replace(state.snapshot, running=running))


def live(state: Observed, name: str) -> Definition:
    return next(d.live for d in state.snapshot.running if d.name == name)


def on(state: Observed, name: str) -> dict[int, CpuSet]:
    pins: Mapping[int, CpuSet] = live(state, name).vcpu_pins
    return {i: pins[i] for i in live(state, name).present if i in pins}
