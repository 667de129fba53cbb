"""Anything happens to a host's devices in any order: no domain loses what it has, and in the end all is as before.

Holders, units and containers, faults, a rival, a card that comes and goes, another policy, kill -9 at any line of the
journal. The dice are seeded: what a seed found once it finds again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import make_mortal
from tests.unit.daemon.stable import Killed, Stable, simulated, stable

from hostler.errors import HostFailed, HostlerError
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.pci import Blocked
from hostlerd.model.settings import DevicePolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain

CARD, AUDIO, SCREEN, NVIDIA, USB = (
    "0000:01:00.0", "0000:01:00.1", "0000:0b:00.0", "0000:04:00.0", "0000:0b:00.3",
)  # fmt: skip
NIC, SATA = "0000:05:00.0", "0000:06:00.0"
DOMAINS = {
    "win11": [CARD], "other": [AUDIO], "both": [CARD, NVIDIA], "nv": [NVIDIA], "desk": [SCREEN], "usb": [USB],
    "router": [NIC],
}  # fmt: skip
UNITS = {"ollama.service": CARD, "nvidia-persistenced.service": NVIDIA, "display-manager.service": SCREEN}
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"when_idle": "vfio"},
    {"when_idle": "none"},
    {"holders": "stop"},
    {"holders": "terminate"},
    {"holders": "stop", "when_idle": "vfio"},
    {"units": ("ollama.service", "display-manager.service", "absent.service"), "holders": "terminate"},
    {"companions": "none", "holders": "stop", "holder_limit": 2.0},
    {"reset": ("bus",), "bar": "max", "holders": "terminate", "recover": "rescan"},
    {"recover": "reset", "power": "keep", "bar": "max"},
    {"leave": "unbind", "holders": "terminate"},
    {"driver": "amdgpu"},
)
FAULTS = (
    ("probe-fails", (CARD, AUDIO, NVIDIA, USB), ("", "vfio-pci")),
    ("hang-unbind", (CARD, NVIDIA, AUDIO), ("",)),
    ("start-fails", tuple(DOMAINS), ("",)),
    ("unit-stays", tuple(UNITS), ("",)),
    ("unit-fails", tuple(UNITS), ("",)),
    ("module-held", ("nvidia", "amdgpu", "nvidia_uvm"), ("1", "2")),
    ("process-stays", ("901", "902"), ("",)),
    ("slow-write", (CARD, "/sys/bus/pci/drivers_probe"), ("3", "9")),
    ("no-room", (CARD,), ("300",)),
    ("dead", (CARD, AUDIO, NVIDIA), ("", "reset", "rescan")),
    ("d3cold", (CARD, NVIDIA), ("",)),
    ("write-fails", (f"/sys/bus/pci/devices/{CARD}/driver_override", "/sys/bus/pci/drivers/amdgpu/unbind",
                     "/sys/bus/pci/drivers_probe", "/sys/bus/pci/drivers/vfio-pci/unbind",
                     f"/sys/bus/pci/devices/{CARD}/power/control"), ("EIO", "EBUSY")),
    ("vanish-after-writes", (NVIDIA,), ("1", "3", "7", "12")),
)  # fmt: skip
WHICH = ("start",) * 7 + ("stop",) * 4 + ("hold", "contain", "let-go", "fault", "lift", "policy") * 2 + (
    "rival", "unplug", "plug", "kill", "die", "wait", "retry", "power-off", "what-if", "restart-libvirtd",
)  # fmt: skip


LEDGER = (
    *("devices", "attributes", "stopped", "unloaded", "bars", "removed", "recoveries"),
    *("claims", "troubles", "outstanding"),
)


class Mistakes(logging.Handler):
    """What the daemon's catch-all caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def state(host: SimulatedHost) -> dict[str, Any]:
    """What must be as it was; a driver may give what it makes another number."""
    kept = re.compile(
        r"/(driver_override|power/control|d3cold_allowed|reset_method|resource|sriov_numvfs|bind)$"
    )
    tree = host.kernel.tree
    files = {
        path: text
        for path, text in tree.flat("/sys/devices/pci0000:00", "/sys/class/vtconsole").items()
        if kept.search(path) and not re.search("/(drm|sound|net|nvme|block|usb[0-9]+)/", path)
    }
    shown = host.show()
    return {
        **files,
        "devices": shown["devices"],
        "slices": shown["slices"],
        "units": sorted(u for u in host.units.paths if u.endswith(".service")),
        "modules": sorted(
            m for m in ("nvidia", "nvidia_drm", "nvidia_uvm") if tree.exists(f"/sys/module/{m}/initstate")
        ),
    }


@dataclass
class Chaos:
    seed: int
    path: Path
    host: SimulatedHost = field(default_factory=simulated)
    settings: Settings = field(default_factory=Settings)
    said: list[str] = field(default_factory=list[str])
    foreign: set[str] = field(default_factory=set[str])
    """Functions that somebody else's write, or a hand, had hang."""

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # a test's dice
        self.pids = itertools.count(900)

    async def live(self, steps: int) -> None:
        host, mistakes = self.host, Mistakes()
        logging.getLogger("hostlerd").addHandler(mistakes)
        await self.plug()
        host.kernel.write(f"/sys/bus/pci/devices/{CARD}/power/control", "auto")
        for unit in UNITS:
            host.units.start(unit, f"/system.slice/{unit}")
        for name, devices in DOMAINS.items():
            await host.hypervisor.define(
                domain(name, hostdevs=devices, cores=1, threads=1, managed=self.dice.random() < 0.5)
            )
        before = state(host)
        left = steps
        try:
            while left > 0:
                life = min(left, self.dice.randint(3, 12))
                await self.one_life(life)
                left -= life
            async with stable(host, self.path, self.settings) as one:
                await self.quiet(one)
                now = state(host)
                differ = {
                    k: (before.get(k), now.get(k)) for k in {*before, *now} if before.get(k) != now.get(k)
                }
                if "devices" in differ:
                    a, b = differ["devices"]
                    differ["devices"] = {k: (a.get(k), b.get(k)) for k in {*a, *b} if a.get(k) != b.get(k)}
                assert not differ, (differ, one.journal.ledger, one.plan.steps, one.plan.refusals)
                ledger = one.journal.ledger
                for kind in LEDGER:
                    assert not getattr(ledger, kind), ledger
                assert one.plan.converged, one.plan
            assert not mistakes.found, mistakes.found
            self.check_hung()
        finally:
            logging.getLogger("hostlerd").removeHandler(mistakes)

    async def plug(self) -> None:
        """Two cards may sleep in D3cold, which is a fault that the kernel shows in their power control."""
        self.host.kernel.lift("dead", NVIDIA)  # no driver takes a dead card, and none tries again
        await self.host.simulate("plug", {"card": "second"})
        self.host.kernel.write(f"/sys/bus/pci/devices/{NVIDIA}/power/control", "auto")

    async def quiet(self, one: Stable) -> None:
        """No domain, no holder, no fault, no policy."""
        host = self.host
        for name, obj, _ in host.kernel.faults.dump():
            host.kernel.lift(name, obj)
        with contextlib.suppress(HostFailed):
            await host.simulate("start-libvirtd", {})
        for name in DOMAINS:
            with contextlib.suppress(HostFailed):
                await host.hypervisor.destroy(name)
        for pid in list(host.kernel.processes.open):
            host.kernel.let_go(pid)
        if NVIDIA not in host.kernel.pci.devices:
            if "0000:04:00.1" in host.kernel.pci.devices:
                host.kernel.unplug("0000:04:00.1")
            await self.plug()
            await one.settle()
        one.reconciler.apply(Settings())
        await trio.sleep(100)
        for _ in range(4):
            for obj in list(one.journal.ledger.troubles):
                await one.reconciler.retry(obj)
            await trio.sleep(100)
        await one.settle()

    async def one_life(self, steps: int) -> None:
        dead = trio.Event()

        async def daemon(task_status: trio.TaskStatus[Stable]) -> None:
            try:
                async with stable(self.host, self.path, self.settings) as one:
                    make_mortal(one, 10**9)
                    task_status.started(one)
                    await dead.wait()
            except* Killed:
                self.said.append("died")

        async with trio.open_nursery() as nursery:
            one = await nursery.start(daemon)
            for _ in range(steps):
                action = self.dice.choice(WHICH)
                with contextlib.suppress(HostlerError, OSError, Blocked):
                    if action == "kill":
                        self.said.append("kill")
                        break
                    if self.dice.random() < 0.15:
                        other = self.dice.choice(WHICH[:11])
                        async with trio.open_nursery() as two:
                            two.start_soon(self.safely, one, other)
                            await trio.sleep(self.dice.random() * 0.01)
                            await self.safely(one, action)
                    else:
                        await self.safely(one, action)
                if self.dice.random() < 0.5:
                    await one.settle()
                if self.dice.random() < 0.3:
                    await trio.sleep(self.dice.choice((0.5, 4, 40, 70)))
                    await one.settle()
                    self.check(one)
            dead.set()

    async def safely(self, one: Stable, action: str) -> None:
        with contextlib.suppress(HostlerError, OSError, Blocked):
            with trio.fail_after(400):
                await self.act(one, action)

    def check(self, one: Stable) -> None:
        shown = self.host.show()
        owned: dict[str, str] = {}
        for name, details in shown["domains"].items():
            if details["state"] != "running":
                continue
            for address in DOMAINS[name]:
                assert address not in owned, (address, owned[address], name)
                owned[address] = name
                if address in shown["devices"] and address in self.host.kernel.pci.devices:
                    device = shown["devices"][address]
                    assert device["on_vfio"] or self.host.kernel.pci.devices[address].stuck, (name, address)
        self.check_hung()

    def check_hung(self) -> None:
        """What hangs by our own doing is never read; what somebody else has hang is found out by reading it once."""
        hung = [path for path in self.host.show()["hung"] if not any(a in path for a in self.foreign)]
        assert not hung, hung

    async def act(self, one: Stable, action: str) -> None:
        try:
            await self.happen(one, action)
        except Blocked as blocked:
            self.foreign.add(blocked.ticket.address)
            raise

    async def happen(self, one: Stable, action: str) -> None:
        dice, host = self.dice, self.host
        name = dice.choice(list(DOMAINS))
        device = dice.choice((CARD, CARD, AUDIO, NVIDIA, SCREEN))
        self.said.append(f"{action} {name} {device}")
        match action:
            case "start":
                await host.hypervisor.start(name)
            case "stop":
                await host.hypervisor.destroy(name)
            case "power-off":
                await host.simulate("power-off", {"name": name})
            case "hold":
                unit, address = dice.choice(list(UNITS.items()))
                place = dice.choice(
                    (f"/system.slice/{unit}", "/user.slice/user-1000.slice/session-2.scope", "/user.slice")
                )
                if place.endswith(unit) and unit not in host.units.paths:
                    return
                if address in host.kernel.pci.devices:
                    host.kernel.hold(
                        address, pid=next(self.pids), command=dice.choice(("blender", "pipewire")), uid=0,
                        cgroup=place,
                    )  # fmt: skip
            case "contain":
                if device in host.kernel.pci.devices:
                    pid = next(self.pids)
                    await host.simulate(
                        "contain",
                        {"name": f"c{pid}", "address": device, "pid": str(pid), "command": "python3"},
                    )
            case "let-go":
                if host.kernel.processes.open:
                    host.kernel.let_go(dice.choice(list(host.kernel.processes.open)))
            case "fault":
                fault, objects, values = dice.choice(FAULTS)
                obj, value = dice.choice(objects), dice.choice(values)
                if fault in ("dead", "d3cold") and (
                    obj not in host.kernel.pci.devices
                    or (fault == "d3cold" and host.kernel.pci.devices[obj].driver is None)
                ):
                    return
                self.said[-1] = f"fault {fault} {obj} {value}"
                if fault == "vanish-after-writes":
                    self.foreign.add(obj)
                host.kernel.cause(fault, obj, value)
            case "lift":
                for fault, obj, _ in host.kernel.faults.dump():
                    host.kernel.lift(fault, obj)
            case "policy":
                policies = [
                    DevicePolicy(
                        name=f"p{a}",
                        match=Match(address=a),
                        **dice.choice(KINDS),
                        group=(SATA,) if a == NIC and dice.random() < 0.5 else (),
                    )
                    for a in (CARD, AUDIO, NVIDIA, SCREEN, NIC)
                    if dice.random() < 0.5
                ]
                policies = [p if p.match.address == CARD else replace(p, driver=None) for p in policies]  # fmt: skip
                self.settings = Settings(devices=tuple(policies))
                self.said[-1] = f"policy {self.settings.devices}"
                one.reconciler.apply(self.settings)
            case "rival":
                if host.show()["devices"].get(device, {}).get("driver") == "vfio-pci":
                    home = {CARD: "amdgpu", AUDIO: "snd_hda_intel", SCREEN: "amdgpu", NVIDIA: "nvidia"}[
                        device
                    ]
                    host.kernel.write(f"/sys/bus/pci/devices/{device}/driver_override", home + "\n")
                    if host.kernel.pci.devices[device].spec.group not in host.kernel.pci.owners:
                        host.kernel.write("/sys/bus/pci/drivers/vfio-pci/unbind", device)
                        host.kernel.write("/sys/bus/pci/drivers_probe", device)
            case "unplug":
                if NVIDIA in host.kernel.pci.devices:
                    host.kernel.unplug(NVIDIA)
            case "plug":
                if NVIDIA not in host.kernel.pci.devices and "0000:04:00.1" not in host.kernel.pci.devices:
                    await self.plug()
            case "die":
                one.journal.lines_left = dice.randint(1, 30)
            case "retry":
                for obj in list(one.journal.ledger.troubles):
                    await one.reconciler.retry(obj)
            case "restart-libvirtd":
                await host.simulate("restart-libvirtd", {"seconds": "2"})
            case "what-if":
                text = domain(name, hostdevs=DOMAINS[name])
                plan = await one.reconciler.what_if(parse_domain(text))
                assert not plan.questions, plan.questions
            case _:
                await trio.sleep(dice.choice((1, 10, 60)))


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(seed=seed, path=Path(folder) / "journal")
        try:
            trio.run(chaos.live, 25, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note("\n".join(chaos.said))
            raise
