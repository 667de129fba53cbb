"""Killed at any line of the journal while slices are made or taken away: they end there, or as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import simulated, stable
from tests.unit.daemon.test_slices import PF, VF1, VF2, VGPU1, A, B, drive, gone, spec, state, vgpu

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost

pytestmark = pytest.mark.trio

KINDS: dict[str, dict[str, Any]] = {
    "virtual functions": {"hostdevs": [VF1, VF2]},
    "mediated devices": {"mdevs": [A, B], "slices": [spec(A), spec(B, "i915-GVTg_V5_4")]},
    "vgpu": {"hostdevs": [VGPU1], "slices": [vgpu(VGPU1)]},
}


def given(host: SimulatedHost, kind: str) -> bool:
    shown = host.show()
    match kind:
        case "virtual functions":
            return shown["vfs"][PF] == "2" and all(shown["devices"][vf]["on_vfio"] for vf in (VF1, VF2))
        case "mediated devices":
            return bool(shown["mdevs"] == {A: "mbochs-small", B: "i915-GVTg_V5_4"})
        case _:
            return bool(shown["vgpus"][VGPU1] == 1149)


@pytest.mark.parametrize("action", ["start", "destroy"])
@pytest.mark.parametrize("kind", KINDS)
async def test_killed_at_any_line(
    memory_path: Path, kind: str, action: str, autojump_clock: trio.testing.MockClock
):

    async def once(line: int) -> bool:
        host = simulated("slices")
        before = state(host)
        path = memory_path / f"journal-{line}"
        xml = domain("win11", cores=1, threads=1, managed=False, **KINDS[kind])
        await host.hypervisor.define(xml)
        if action == "destroy":
            async with stable(host, path, drive()) as one:
                await host.hypervisor.start("win11")
                await one.settle()
        died = await life(host, path, line, does(host, action), drive())
        async with stable(host, path, drive()) as one:
            await trio.sleep(40)
            await one.settle()
            if await host.hypervisor.running():
                assert given(host, kind)
                await host.hypervisor.destroy("win11")
                await one.settle()
            assert state(host) == before
            gone(one)
            await host.hypervisor.start("win11")
            assert given(host, kind)
        return died

    await at_every_line(once, more_than=5, below=100)
