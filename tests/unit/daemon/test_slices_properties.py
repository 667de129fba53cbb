"""Whatever comes and goes in whatever order: a slice has one owner, no parent gives more than it has, ours all goes."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.daemon.stable import Stable, simulated, stable
from tests.unit.daemon.test_slices import (
    CARD,
    IGPU,
    PF,
    VF1,
    VF2,
    VGPU1,
    VGPU2,
    A,
    B,
    C,
    drive,
    spec,
    state,
    vgpu,
)

from hostler.errors import HostFailed
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost

FOREIGN = "99999999-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
DOMAINS: dict[str, dict[str, Any]] = {
    "small": {"mdevs": [A], "slices": [spec(A, "i915-GVTg_V5_8")]},
    "large": {"mdevs": [B], "slices": [spec(B, "i915-GVTg_V5_4")]},
    "both": {"mdevs": [A, C], "slices": [spec(A, "i915-GVTg_V5_8"), spec(C, "i915-GVTg_V5_8")]},
    "foreign": {"mdevs": [FOREIGN]},
    "one": {"hostdevs": [VF1]},
    "two": {"hostdevs": [VF2], "mdevs": [C], "slices": [spec(C)]},
    "pair": {"hostdevs": [VF1, VF2]},
    "igpu": {"hostdevs": [IGPU]},
    "whole": {"hostdevs": [PF]},
    "half": {"hostdevs": [VGPU1], "slices": [vgpu(VGPU1)]},
    "other half": {"hostdevs": [VGPU2], "slices": [vgpu(VGPU2)]},
    "all": {"hostdevs": [VGPU2], "slices": [vgpu(VGPU2, "1151")]},
}
CAPACITY = {"0000:00:02.0": 2, "mbochs": 256}
TAKES = {"i915-GVTg_V5_4": 2, "i915-GVTg_V5_8": 1, "mbochs-large": 64, "mbochs-medium": 16, "mbochs-small": 4}


def check(host: SimulatedHost, one: Stable) -> None:
    shown = host.show()
    owners: dict[str, str] = {}
    for name in (name for name, d in shown["domains"].items() if d["state"] == "running"):
        for thing in (*DOMAINS[name].get("hostdevs", ()), *DOMAINS[name].get("mdevs", ())):
            assert thing not in owners, f"{thing}: {owners[thing]} and {name}"
            owners[thing] = name
            assert one.plan.owners[thing].who == name
    assert set(owners) >= set(shown["mdevs"]) - {FOREIGN}, "one that is nobody's"
    for parent, has in CAPACITY.items():
        here = [m.type for m in host.kernel.mdevs.devices.values() if m.parent == parent]
        assert sum(TAKES[kind] for kind in here) <= has
    for pf, vfs in ((PF, (VF1, VF2)), (CARD, (VGPU1, VGPU2))):
        assert (shown["vfs"][pf] != "0") == bool(owners.keys() & set(vfs))
    assert {vf for vf, number in shown["vgpus"].items() if number} == owners.keys() & {VGPU1, VGPU2}
    assert FOREIGN in shown["mdevs"]
    assert not one.journal.ledger.troubles


async def live(actions: list[tuple[str, str]], path: Path) -> None:
    host = simulated("slices")
    host.kernel.write("/sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-large/create", FOREIGN)
    before = state(host)
    for name, more in DOMAINS.items():
        await host.hypervisor.define(domain(name, cores=1, threads=1, managed=False, **more))
    async with stable(host, path, drive()) as one:
        for action, name in actions:
            with contextlib.suppress(HostFailed):
                match action:
                    case "start":
                        await host.hypervisor.start(name)
                    case "fail":
                        host.kernel.faults.cause("start-fails", name)
                        await host.hypervisor.start(name)
                    case _:
                        await host.hypervisor.destroy(name)
            host.kernel.faults.active.clear()
            await one.settle()
            check(host, one)
        for name in DOMAINS:
            with contextlib.suppress(HostFailed):
                await host.hypervisor.destroy(name)
        await one.settle()
        check(host, one)
        assert state(host) == before
        ledger = one.journal.ledger
        assert (ledger.vfs, ledger.mdevs, ledger.vgpus) == ({}, {}, {})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "start", "stop", "fail"]), st.sampled_from(sorted(DOMAINS))),
        max_size=10,
    )
)
def test_slices_come_and_go(actions: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(live, actions, Path(folder) / "journal", clock=trio.testing.MockClock(autojump_threshold=0))
