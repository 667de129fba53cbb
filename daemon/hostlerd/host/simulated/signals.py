"""Signals to the processes of a simulated host: they end when asked to, unless a fault says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from hostler.errors import TimedOut
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list


@dataclass(slots=True)
class SimulatedSignals:
    """Implements `hostlerd.host.Processes`."""

    kernel: Kernel

    async def move_thread(self, pid: int, start: int, cpus: CpuSet) -> None:
        await trio.lowlevel.checkpoint()
        self.kernel.begin()
        elsewhere = parse_cpu_list(self.kernel.faults.get("partitioned") or "")
        self.kernel.quiet.move(pid, start, cpus - elsewhere)  # cpuset_cpus_allowed
        self.kernel.done("sched_setaffinity", f"{pid} {format_cpu_list(cpus)}")

    async def tell_balancer(self, socket: str, cpus: str | None) -> None:
        await trio.lowlevel.checkpoint()
        self.kernel.begin()
        if self.kernel.faults.get("deaf", socket) is not None:
            raise TimedOut("irqbalance does not answer", data={"object": socket})
        self.kernel.done(socket, f"settings cpus {cpus or 'NULL'}")

    async def terminate(self, pid: int, start: int | None, *, limit: float) -> bool:
        await trio.lowlevel.checkpoint()
        self.kernel.begin()
        stat = f"/proc/{pid}/stat"
        if not self.kernel.tree.exists(stat):
            return True
        if start is not None and int(self.kernel.tree.read(stat).rpartition(")")[2].split()[19]) != start:
            return True
        if self.kernel.faults.get("process-stays", str(pid)) is not None:
            await trio.sleep(2 * limit)
            return False
        if self.kernel.faults.get("ignores-sigterm", str(pid)) is not None:
            await trio.sleep(limit)
        self.kernel.let_go(pid)
        self.kernel.done("terminate", str(pid))
        return True
