"""The kernel's trigger on a control group's cpu.pressure, pulled from outside (`starve`)."""

from __future__ import annotations

import trio

from hostlerd.host.simulated.kernel import Kernel


class SimulatedPressure:
    """Implements `hostlerd.host.Pressure`. An event while nobody listens is lost, as with a file that is closed."""

    def __init__(self, kernel: Kernel) -> None:
        self._pulled = trio.Event()
        kernel.pressure_kicks.append(self._pull)

    async def wait_starved(self, group: str) -> None:  # noqa: ARG002 - there is one
        await self._pulled.wait()

    def _pull(self) -> None:
        self._pulled.set()
        self._pulled = trio.Event()
