"""Killed at any line of the journal while slices are made or taken away: they end there, or as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import simulated, stable
from tests.unit.daemon.test_reconcile import life, memory_path
from tests.unit.daemon.test_slices import PF, VF1, VF2, VGPU1, A, B, drive, gone, spec, state, vgpu

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost

pytestmark = pytest.mark.trio
__all__ = ["memory_path"]

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
    deaths = 0
    for lines in range(1, 100):
        host = simulated("slices")
        before = state(host)
        path = memory_path / f"journal-{lines}"
        xml = domain("win11", cores=1, threads=1, managed=False, **KINDS[kind])
        await host.hypervisor.define(xml)
        if action == "destroy":
            async with stable(host, path, drive()) as one:
                await host.hypervisor.start("win11")
                await one.settle()
        died = await life(host, path, lines, action, drive())
        deaths += died
        async with stable(host, path, drive()) as one:
            await trio.sleep(40)
            await one.settle()
            if await host.hypervisor.running():
                assert given(host, kind), f"line {lines}"
                await host.hypervisor.destroy("win11")
                await one.settle()
            assert state(host) == before, f"line {lines}"
            gone(one)
            await host.hypervisor.start("win11")
            assert given(host, kind), f"line {lines}"
        if not died:
            break
    else:
        raise AssertionError("a start and a stop have fewer lines than that")
    assert deaths > 5
