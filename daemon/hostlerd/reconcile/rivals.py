"""Somebody else who rebinds what is ours: a driver's update, driverctl, a person.

Rules: a device that was seen in its place and is not there any more was taken. It is put back, at once, then after
growing pauses; the fourth time within a minute is a conflict, which a person has to end. Knows times and addresses
alone: what is to be done is the plan's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hostlerd.model.devices import Function
from hostlerd.model.plan import CheckFree, Override, Plan, Probe, Step, Unbind

PAUSES = (0.0, 1.0, 3.0)
"""Seconds before it is put back the first, second and third time."""
WITHIN = 60.0


@dataclass(slots=True)
class Rivals:
    """`taken`: when each device was found missing; `due`: when it may be put back."""

    _placed: set[str] = field(default_factory=set[str])
    _taken: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    _due: dict[str, float] = field(default_factory=dict[str, float])

    def watch(self, plan: Plan, now: float) -> Mapping[str, int]:
        """Look for devices that were taken since the last pass. Returns the conflicts: address to times taken."""
        conflicts: dict[str, int] = {}
        for address in {s.object for s in plan.steps if isinstance(s, Probe) and s.to_vfio} & self._placed:
            self._placed.discard(address)
            times = [t for t in self._taken.get(address, ()) if now - t < WITHIN] + [now]
            self._taken[address] = times
            if len(times) > len(PAUSES):
                conflicts[address] = len(times)
                del self._taken[address]
            else:
                self._due[address] = now + PAUSES[len(times) - 1]
        return conflicts

    def hold_back(self, steps: Iterable[Step], now: float) -> tuple[Step, ...]:
        """The steps without those of devices whose pause is not over."""
        self._due = {address: due for address, due in self._due.items() if due > now}
        return tuple(step for step in steps if not self._waits(step))

    def _waits(self, step: Step) -> bool:
        if isinstance(step, CheckFree):
            return all(function.address in self._due for function in step.functions)
        return isinstance(step, Override | Unbind | Probe) and step.object in self._due

    def placed(self, step: Step) -> None:
        """A step was performed; who takes the device right after it did it before the pass is over."""
        if isinstance(step, Probe) and step.to_vfio:
            self._placed.add(step.object)

    def seen(self, plan: Plan, functions: Mapping[str, Function], recorded: Iterable[str]) -> None:
        """After a pass: what is in its place now."""
        self._placed = {
            address
            for address in recorded
            if address in functions
            and functions[address].on_vfio
            and plan.owners.get(address) is not None
            and plan.owners[address].kind in ("domain", "idle")
        }

    def next_due(self, now: float) -> float:
        """Seconds until the next device may be put back; infinite where none waits."""
        return max(0.0, min(self._due.values(), default=math.inf) - now)
